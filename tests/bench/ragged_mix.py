"""A ragged job in a quarter of the KV cache: one build of sluice against another, in turn.

    scripts/bench ragged_mix --before OTHER/BUILD/sluice [--pairs 3] [--shape 125m] [--rows 64] [--shared 0] [--link-gbps G]

Prompts of 20 to 1,500 tokens, answers that may have 512 and end by chance after about 200, and a budget of the
device that leaves the cache a quarter of the pages of all places. `--shared N`: all prompts begin with the same
N tokens. `--link-gbps G`: all weights lie in host memory and come over a link slowed to G, so that a step takes as long
for few sequences as for many. Both builds must give the same answers.
"""
import argparse
import json
import pathlib
import random
import statistics
import subprocess
import tempfile

from bench_shapes import SHAPES, VOCABULARY, write_config

MOST_NEW = 512
LONGEST_PROMPT = 1500


def rows_of(count, shared):
    """Sampled from all tokens, an answer ends at any of the stop ids: one token in 200."""
    chance = random.Random(1)
    stop = list(range(4, VOCABULARY, 200))
    beginning = [chance.randrange(4, VOCABULARY) for _ in range(shared)]
    rows = []
    for i in range(count):
        own = max(LONGEST_PROMPT if i == 0 else chance.randint(20, LONGEST_PROMPT), shared + 1) - shared
        rows.append({"custom_id": f"row {i}", "max_tokens": MOST_NEW, "ignore_eos": True, "temperature": 1.0,
                     "seed": i, "stop_token_ids": stop,
                     "prompt": beginning + [chance.randrange(4, VOCABULARY) for _ in range(own)]})
    return rows


class Job:
    def __init__(self, folder, arguments):
        self.folder, self.arguments = folder, arguments
        write_config(folder / "model", SHAPES[arguments.shape])
        self.placement = []
        if arguments.link_gbps:
            (folder / "link.json").write_text(json.dumps(
                {"stage_defaults": {"link": {"host_to_device_gbps": arguments.link_gbps}}}))
            self.placement = ["--config", folder / "link.json", "--percent", "0", "100", "100", "0", "100", "0"]

    def run(self, program, rows, memory=None):
        """The report, and the answers by name."""
        (self.folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        report, answers = self.folder / "report.json", self.folder / "answers.jsonl"
        command = [program, "generate", "--model", self.folder / "model", "--weights", "dummy", "--device", "cpu",
                   "--input", self.folder / "rows.jsonl", "--output", answers, "--overwrite", "--quiet",
                   "--gpu-batch-size", str(self.arguments.batch), "--report", report, "--probe", "never",
                   *self.placement]
        if memory:
            command += ["--device-memory", str(memory)]
        subprocess.run(command, check=True)
        records = [json.loads(line) for line in answers.read_text().splitlines()]
        return json.loads(report.read_text()), {record["custom_id"]: record for record in records}


def quarter(report):
    """Bytes of the device that leave its cache a quarter."""
    stage = report["stages"][0]
    cache = sum(entry["bytes"] for entry in stage["plan"]
                if entry["tier"] == "device" and entry["purpose"] == "KV cache")
    return stage["tiers"]["device"]["planned"] - cache * 3 // 4


def texts(answers):
    return {name: record["text"] for name, record in answers.items()}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sluice", required=True)
    parser.add_argument("--before", required=True)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--shape", default="125m", choices=sorted(SHAPES))
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--shared", type=int, default=0)
    parser.add_argument("--link-gbps", type=float)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sluice-bench-", dir=".") as scratch:
        job = Job(pathlib.Path(scratch), arguments)
        rows = rows_of(arguments.rows, arguments.shared)
        memory = quarter(job.run(arguments.sluice, rows[:1])[0])
        ratios = []
        for pair in range(arguments.pairs):
            order = ["before", "sluice"] if pair % 2 == 0 else ["sluice", "before"]
            seen = {side: job.run(getattr(arguments, side), rows, memory) for side in order}
            if texts(seen["before"][1]) != texts(seen["sluice"][1]):
                raise SystemExit("the builds give other answers")
            rates = {side: report["run"]["tokens_per_second"] for side, (report, _) in seen.items()}
            ratios.append(rates["sluice"] / rates["before"])
            now = seen["sluice"][0]["run"]
            print(f"before {rates['before']:.1f} tokens/s, now {rates['sluice']:.1f}, ratio {ratios[-1]:.3f}; "
                  f"stepped back {now.get('stepped_back')}, computed again {now.get('recomputed_tokens')}, "
                  f"shared {now.get('shared_prefix_tokens')}", flush=True)
        print(f"median ratio {statistics.median(ratios):.3f}, from {min(ratios):.3f} to {max(ratios):.3f}")


if __name__ == "__main__":
    main()
