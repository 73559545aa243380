"""The commands of docs/cluster.md, run as they stand there by a user of a login node."""

import re
import subprocess
import unittest

from cluster import ClusterTest
from job_support import DEMO_MODEL, DONE, MAX_SECONDS, SOURCE

# What a reader has to put in; a block that has one of them is an example.
PLACES = re.compile(r"\b(REPOSITORY|MODEL|INPUT|OUTPUT|JOB)\b")


class PageTest(ClusterTest):
    def setUp(self):
        super().setUp()
        page = (SOURCE / "docs/cluster.md").read_text(encoding="utf-8")
        self.blocks = re.findall(r"^```sh\n(.*?)^```", page, re.S | re.M)

    def run_block(self, block):
        ended = subprocess.run(["bash", "-euo", "pipefail", "-c", block], cwd=self.scratch, text=True,
                               env=self.cluster.environment, capture_output=True, check=False,
                               timeout=MAX_SECONDS, stdin=subprocess.DEVNULL)
        self.assertEqual(ended.returncode, DONE, ended)
        return ended

    def test_first_answers(self):
        expected = self.scratch / "expected.jsonl"
        self.generate(DEMO_MODEL, "--input", DEMO_MODEL / "prompts.jsonl", "--output", expected)
        nodes = []
        for block in self.blocks:
            if "show-completions" not in block:
                continue
            answers = re.search(r"\S+\.jsonl$", block, re.M)
            with self.subTest(block=block):
                said = self.run_block(block).stdout
                output = self.scratch / answers[0]
                self.assertEqual(self.records(output), self.records(expected))
                for record in self.records(expected).values():
                    self.assertIn(record["text"], said)
                log = max(self.scratch.glob("slurm-*.out"), key=lambda path: path.stat().st_mtime_ns)
                nodes.append(re.search(r"slurm-job: job \d+ on (\S+),", log.read_text())[1])
                output.unlink()
        self.assertEqual(sorted(nodes), ["g1", "n[1-4]"])

    def test_an_array(self):
        expected = self.scratch / "expected.jsonl"
        self.generate(DEMO_MODEL, "--input", DEMO_MODEL / "prompts.jsonl", "--output", expected)
        block, = (block for block in self.blocks if "--array" in block)
        self.run_block(block)
        whole = self.records(self.scratch / "whole.jsonl")
        self.assertEqual(whole, self.records(expected))
        self.assertEqual(list(whole), [f"demo-{i + 1}" for i in range(8)])
        self.assertEqual(len(list(self.scratch.glob("part.[0-1].jsonl"))), 2)

    def test_other_commands(self):
        """Those that look, and change nothing."""
        looked = 0
        for line in "".join(self.blocks).splitlines():
            if line.startswith(("sinfo ", "squeue ")) and not PLACES.search(line):
                self.run_block(line)
                looked += 1
        self.assertGreaterEqual(looked, 2)

    def test_five_commands_are_enough(self):
        first = next(block for block in self.blocks if "git clone" in block)
        sends = [block for block in self.blocks if "sbatch --wait" in block and "--array" not in block]
        self.assertEqual(len(sends), 2)
        for block in sends:
            self.assertLessEqual(len((first + block).splitlines()), 5)


if __name__ == "__main__":
    unittest.main()
