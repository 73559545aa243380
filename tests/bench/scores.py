"""Questions with choices behind one few-shot prefix: what sharing the prefix saves, and how near to the rate of
products the rest comes.

    scripts/bench scores [--questions 1000] [--apart 8] [--pairs 3] [--shape 125m]

Both sides score the same numbers of tokens in turn. Apart, each choice is a row of its own whose first token is
another, so no two begin alike. They are fewer, as they take longer; what is compared is time per question.
"""
import argparse
import json
import pathlib
import re
import statistics
import subprocess
import tempfile

from bench_shapes import SHAPES, VOCABULARY, write_config

FIRST = 4  # OPT's special tokens come before


def token(*numbers):
    value = 17
    for number in numbers:
        value = (value * 1000003 + number * 7919 + 1) % 2147483647
    return FIRST + value % (VOCABULARY - FIRST)


def rows_of(options, together):
    """One row for each question, or one for each choice, of which no two begin alike."""
    prefix = [token(0, i) for i in range(options.prefix)]
    for question in range(options.questions if together else options.apart):
        own = [token(1, question, i) for i in range(options.question_tokens)]
        choices = [[token(2, question, choice, i) for i in range(options.choice_tokens)]
                   for choice in range(options.choices)]
        if together:
            yield {"prompt": prefix + own, "choices": choices}
            continue
        for index, choice in enumerate(choices):
            first = FIRST + question * options.choices + index
            yield {"prompt": [first, *prefix[1:], *own], "choices": [choice]}


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def run(options, folder, together):
    """The report's part about the run."""
    report = folder / "report.json"
    name = "together" if together else "apart"
    subprocess.run([options.sluice, "generate", "--model", folder / "model", "--weights", "dummy",
                    "--device", "cpu", "--input", folder / f"{name}.jsonl", "--output",
                    folder / "scores.jsonl", "--overwrite", "--quiet", "--gpu-batch-size",
                    str(options.batch), "--max-batch-tokens", str(options.batch_tokens), "--report",
                    report, "--probe", "never", *options.flags], check=True)
    return json.loads(report.read_text())["run"]


def product_rate(options, shape):
    """FLOP/s of products with f16 weights of 512 rows, at the shape of the first matrix of the MLP."""
    program = pathlib.Path(options.sluice).parent / "bench_linear_rate"
    text = subprocess.run([program, str(shape["ffn"]), str(shape["hidden"])], check=True,
                          capture_output=True, text=True).stdout
    return float(re.search(r"^f16 .* 512: (\d+) GFLOP", text, re.MULTILINE)[1]) * 1e9


def least_flop(options, shape):
    """Of a question: its own tokens, and those of its choices that another one follows, go through the layers once;
    the head is applied to one row for each token of a choice. The prefix counts once for all."""
    layer = 4 * shape["hidden"] ** 2 + 2 * shape["hidden"] * shape["ffn"]
    tokens = options.question_tokens + options.choices * (options.choice_tokens - 1)
    tokens += options.prefix / options.questions
    scored = options.choices * options.choice_tokens
    return 2 * (tokens * layer * shape["layers"] + scored * shape["hidden"] * VOCABULARY)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sluice", required=True)
    parser.add_argument("--questions", type=int, default=1000)
    parser.add_argument("--apart", type=int, default=8, help="questions whose prefix is not shared")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--shape", default="125m", choices=sorted(SHAPES))
    parser.add_argument("--prefix", type=int, default=1000)
    parser.add_argument("--question-tokens", type=int, default=60)
    parser.add_argument("--choices", type=int, default=4)
    parser.add_argument("--choice-tokens", type=int, default=1)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--batch-tokens", type=int, default=512)
    parser.add_argument("flags", nargs="*", help="further flags of generate, behind --")
    options = parser.parse_args()
    shape = SHAPES[options.shape]
    with tempfile.TemporaryDirectory(prefix="sluice-bench-", dir=".") as scratch:
        folder = pathlib.Path(scratch)
        write_config(folder / "model", shape)
        write_rows(folder / "together.jsonl", rows_of(options, True))
        write_rows(folder / "apart.jsonl", rows_of(options, False))
        speedups, shares = [], []
        for _ in range(options.pairs):
            rate = product_rate(options, shape)
            together = run(options, folder, True)["wall_seconds"] / options.questions
            apart = run(options, folder, False)["wall_seconds"] / options.apart
            speedups.append(apart / together)
            shares.append(least_flop(options, shape) / together / rate)
            print(f"shared {1 / together:.2f} questions/s, apart {1 / apart:.2f}: {speedups[-1]:.1f} x; "
                  f"{shares[-1]:.2f} of {rate / 1e9:.0f} GFLOP/s", flush=True)
    command = "scripts/bench scores " + f"--questions {options.questions} --shape {options.shape}"
    for name, values, limit in [("scores_shared_prefix", speedups, 20), ("scores_of_products", shares, 0.8)]:
        print(json.dumps({"name": name, "value": round(statistics.median(values), 3), "unit": "ratio",
                          "limit": limit, "command": command}))


if __name__ == "__main__":
    main()
