"""What guessing ahead gains where weights stream: the demo model's extraction rows with all weights in host memory, over
a slowed link, with and without guesses, in turn. The answers are compared, too: they must be the same.

    scripts/bench draft [--pairs 3] [--batches 1,2,4,8] [--rows 24] [--link-gbps 0.02]

`ngram` looks guesses up in prompt and answer. `model` asks the demo model itself, quantised to 4 bits, whole in device
memory: a quarter of the bytes that the weights have, which stream. Its goal is 2 x. A look-up cannot know the first letter
of a code, so it has no goal on these rows.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import tempfile

DEMO = pathlib.Path(__file__).resolve().parents[2] / "models" / "demo"
GOALS = {"ngram": None, "model": 2}
DRAFTS = {"ngram": ["--draft", "ngram"],
          "model": ["--draft-model", str(DEMO), "--draft-compress-weight", "4bit"]}


def run(options, folder, batch, draft):
    """Seconds of the job, its answers, and the report's counts."""
    answers, report = folder / "answers.jsonl", folder / "report.json"
    subprocess.run([options.sluice, "generate", "--config", folder / "link.json", "--model", DEMO, "--device",
                    options.device, "--input", folder / "rows.jsonl", "--output", answers, "--overwrite", "--quiet",
                    "--percent", "0", "100", "100", "0", "100", "0", "--gpu-batch-size", str(batch),
                    "--packed-dir", folder / "packed", "--report", report, "--probe", "never", *draft], check=True)
    read = json.loads(report.read_text())
    texts = {row["custom_id"]: row["text"] for row in map(json.loads, answers.read_text().splitlines())}
    return read["run"]["wall_seconds"], texts, read


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sluice", required=True)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--batches", default="1,2,4,8")
    parser.add_argument("--rows", type=int, default=24)
    parser.add_argument("--link-gbps", type=float, default=0.02)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", default=",".join(DRAFTS))
    options = parser.parse_args()
    command = f"scripts/bench draft --rows {options.rows} --link-gbps {options.link_gbps}"
    rows = [json.loads(line) for line in (DEMO / "evaluation.jsonl").read_text().splitlines()]
    rows = [{key: row[key] for key in row if key != "expected"} for row in rows
            if row["custom_id"].startswith("airports")][:options.rows]
    with tempfile.TemporaryDirectory(prefix="sluice-bench-", dir=".") as scratch:
        folder = pathlib.Path(scratch)
        (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (folder / "link.json").write_text(json.dumps(
            {"stage_defaults": {"link": {"host_to_device_gbps": options.link_gbps}}}))
        for batch in map(int, options.batches.split(",")):
            for name in options.only.split(","):
                ratios, seconds = [], []
                for _ in range(options.pairs):
                    without, plain, _ = run(options, folder, batch, [])
                    took, texts, read = run(options, folder, batch, DRAFTS[name])
                    if texts != plain:
                        raise SystemExit(f"batch {batch}, {name}: guesses have changed an answer")
                    ratios.append(without / took)
                    seconds.append(took)
                counts = read["run"]
                print(f"batch {batch}, {name}: {statistics.median(ratios):.2f} x (from {min(ratios):.2f} to "
                      f"{max(ratios):.2f}), {counts['accepted_tokens']} of {counts['drafted_tokens']} guesses right",
                      flush=True)
                print(json.dumps({"name": f"draft_{name}_b{batch}", "value": round(statistics.median(seconds), 3),
                                  "unit": "s", "limit": None, "ratio": round(statistics.median(ratios), 3),
                                  "goal": GOALS[name], "command": command}), flush=True)


if __name__ == "__main__":
    main()
