"""Sends many small jobs by a sample script to a Slurm of its own, beside busy loops, and counts what
becomes of them. scripts/slurm-soak runs it.
"""

import argparse
import collections
import json
import pathlib
import subprocess
import sys
import tempfile
import time
import unittest

from cluster import Cluster, Job
from job_support import DEMO_MODEL, SLUICE, SOURCE

AT_A_TIME = 20
ROWS = 8


def write_rows(path):
    path.write_text("".join(json.dumps({
        "custom_id": f"sum-{i}", "max_tokens": 4, "ignore_eos": True,
        "prompt": f"Question: What is {i} plus {i * 7 % 13}?\nAnswer:"}) + "\n"
        for i in range(ROWS)), encoding="utf-8")


def records(path):
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return sorted(lines)


class Soak:
    def __init__(self, cluster, folder, options):
        self.cluster, self.folder, self.options = cluster, folder, options
        self.counts = collections.Counter()
        write_rows(folder / "rows.jsonl")
        (folder / "cluster-configs").symlink_to(SOURCE / "cluster-configs")
        (folder / "build").mkdir()
        (folder / "build/sluice").symlink_to(SLUICE)
        subprocess.run([SLUICE, "generate", "--quiet", "--model", DEMO_MODEL, "--input",
                        folder / "rows.jsonl", "--output", folder / "expected.jsonl"], check=True,
                       stdin=subprocess.DEVNULL)
        self.expected = records(folder / "expected.jsonl")

    def send(self, number):
        sent = self.cluster.run(
            "sbatch", "--parsable", "--output", self.folder / "%j.log",
            f"cluster-configs/{self.options.script}", DEMO_MODEL, "rows.jsonl", f"{number}.jsonl",
            "--quiet", folder=self.folder, environment={"SLUICE_START": self.options.start})
        job = Job(self.cluster, int(sent.stdout), self.folder / f"{sent.stdout.strip()}.log")
        return job, self.folder / f"{number}.jsonl"

    def count(self, job, output):
        """Whether it has ended."""
        try:
            state = job.fields().get("JobState", "")
        except subprocess.TimeoutExpired:
            return False  # a busy controller
        if state in ("", "PENDING", "RUNNING", "COMPLETING", "CONFIGURING"):
            return False
        log = job.log()
        tries = log.count("starting again")
        right = state == "COMPLETED" and records(output) == self.expected
        self.counts["done" if right else "failed"] += 1
        self.counts["started again"] += tries > 0
        self.counts["starts that died"] += tries
        if tries or not right:
            print(f"job {job.number}: {state}\n{log}", flush=True)
        return True

    def run(self):
        waiting, sent = [], 0
        while sent < self.options.jobs or waiting:
            while sent < self.options.jobs and len(waiting) < AT_A_TIME:
                waiting.append(self.send(sent))
                sent += 1
            while waiting and self.count(*waiting[0]):
                waiting.pop(0)
                if sum(self.counts[key] for key in ("done", "failed")) % 50 == 0:
                    print(dict(self.counts), flush=True)
            time.sleep(0.5)


def main():
    parser = argparse.ArgumentParser(prog="scripts/slurm-soak", description=__doc__)
    parser.add_argument("--jobs", type=int, default=500)
    parser.add_argument("--busy", type=int, default=3, help="busy loops beside them")
    parser.add_argument("--script", default="slurm-4x1gpu.sh", help="of cluster-configs/")
    parser.add_argument("--start", default="srun", choices=("srun", "mpirun"))
    options = parser.parse_args()
    try:
        cluster = Cluster()
        cluster.start()
    except unittest.SkipTest as reason:
        sys.exit(f"slurm-soak: {reason}")
    loops = []
    started = time.monotonic()
    try:
        loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"])
                 for _ in range(options.busy)]
        with tempfile.TemporaryDirectory(prefix="sluice-soak-") as folder:
            soak = Soak(cluster, pathlib.Path(folder), options)
            soak.run()
    finally:
        for loop in loops:
            loop.kill()
        cluster.stop()
    print(f"{soak.counts['done']} of {options.jobs} jobs done, {soak.counts['failed']} failed; "
          f"{soak.counts['started again']} jobs started again, {soak.counts['starts that died']} "
          f"starts died; {time.monotonic() - started:.0f} s")
    return 0 if soak.counts["done"] == options.jobs else 1


if __name__ == "__main__":
    sys.exit(main())
