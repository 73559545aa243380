"""What it costs that answers must fit a schema: the same job with and without one, in turn, and the difference as a
share of a step. A schema allows no end before the last token, so both have the same steps. Processor time is given
as well, of whole runs: it says something on a machine that does other things, too.

    scripts/bench grammar [--pairs 5] [--shape 125m] [--batch 32]
"""
import argparse
import json
import pathlib
import random
import resource
import statistics
import subprocess
import tempfile

from bench_shapes import SHAPES, VOCABULARY, write_config

RECORD = {"type": "object", "required": ["name", "age", "tags"], "additionalProperties": False, "properties": {
    "name": {"type": "string", "maxLength": 40}, "age": {"type": "integer", "minimum": 0, "maximum": 120},
    "tags": {"type": "array", "items": {"enum": ["red", "green", "blue"]}, "maxItems": 5}}}
SCHEMAS = {"records": {"type": "array", "items": RECORD, "minItems": 1000},
           "any JSON": {"type": "array", "minItems": 1000}}


def write_tokenizer(folder):
    """Bytes and made-up words: as many tokens as the shape has, about as long as those of English."""
    rng = random.Random(1)
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in printable]
    symbols = [chr(byte) for byte in printable] + [chr(0x100 + i) for i in range(len(rest))]
    tokens = ["<s>", "<pad>", "</s>", "<unk>", *symbols]
    known = set(tokens)
    while len(tokens) < VOCABULARY:
        word = rng.choice(["", "\u0120"]) + "".join(
            rng.choice("etaoinshrdlucmfwypvbgk") for _ in range(rng.randint(2, 9)))
        if rng.random() < 0.1:
            word = "".join(rng.choice('"{}[]:,.0123456789-_ '.replace(" ", "\u0120"))
                           for _ in range(rng.randint(2, 4)))
        if word not in known:
            known.add(word)
            tokens.append(word)
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")


def run(arguments, folder, rows):
    """Seconds of a decode step, and of processors for the whole run."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    report = folder / "report.json"
    subprocess.run([arguments.sluice, "generate", "--model", folder / "model", "--weights", "dummy",
                    "--device", arguments.device, "--input", folder / rows, "--output",
                    folder / "answers.jsonl", "--overwrite", "--quiet", "--gpu-batch-size",
                    str(arguments.batch), "--report", report, "--probe", "never"], check=True)
    answers = [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]
    tokens = {len(answer["token_ids"]) for answer in answers}
    if tokens != {arguments.gen_len}:
        raise SystemExit(f"an answer ended early: {tokens}")
    seconds = json.loads(report.read_text())["run"]["decode_seconds"]
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds / (arguments.gen_len - 1), busy


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sluice", required=True)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--shape", default="125m", choices=sorted(SHAPES))
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--prompt-len", type=int, default=32)
    parser.add_argument("--gen-len", type=int, default=64)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sluice-bench-", dir=".") as scratch:
        folder = pathlib.Path(scratch)
        write_config(folder / "model", SHAPES[arguments.shape])
        write_tokenizer(folder / "model")
        for name, schema in {"free": None, **SCHEMAS}.items():
            more = {"ignore_eos": True} if schema is None else {
                "response_format": {"type": "json_schema", "json_schema": {"schema": schema}}}
            rows = [{"custom_id": f"row {i}", "max_tokens": arguments.gen_len, "temperature": 1.0, "seed": i,
                     "prompt": [4 + (i * 977 + k * 131) % (VOCABULARY - 4)
                                for k in range(arguments.prompt_len)], **more}
                    for i in range(arguments.batch)]
            (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
        run(arguments, folder, "free")  # to warm up the machine
        costs = {name: [] for name in SCHEMAS}
        for _ in range(arguments.pairs):
            free, free_busy = run(arguments, folder, "free")
            for name in SCHEMAS:
                seconds, busy = run(arguments, folder, name)
                costs[name].append(seconds / free - 1)
                print(f"{name}: a step {seconds * 1e3:.2f} ms, free {free * 1e3:.2f} ms, "
                      f"{100 * costs[name][-1]:+.2f} %; processors {busy:.2f} s, free {free_busy:.2f} s, "
                      f"{100 * (busy / free_busy - 1):+.2f} %", flush=True)
        for name, shares in costs.items():
            print(f"{name}: median {100 * statistics.median(shares):+.2f} % of a step, from "
                  f"{100 * min(shares):+.2f} to {100 * max(shares):+.2f}")


if __name__ == "__main__":
    main()
