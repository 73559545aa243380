"""Job arrays: each task answers a shard of one input, and `sluice merge` makes of their outputs what
one run would have written.
"""

import json
import unittest

from job_support import BAD_INPUT, DONE, REFERENCE, ROWS_FAILED, USAGE, JobTest

TINY = REFERENCE / "opt-pre"  # 512 ids, 128 positions
SHARDS = 3


class ShardsTest(JobTest):
    def setUp(self):
        super().setUp()
        lines = []
        for i in range(40):
            row = {"prompt": [2, 9 + i], "max_tokens": 1 + i % 5, "temperature": 1.5,
                   "ignore_eos": True}
            if i % 4:
                row["custom_id"] = f"row {i}"
            lines.append(json.dumps(row))
        lines[7] = ""  # no row
        lines[11] = json.dumps({"custom_id": "bad", "prompt": []})
        lines[13] = json.dumps({"custom_id": "row-9", "prompt": [2, 9], "max_tokens": 2})
        self.input = self.write("rows.jsonl", "\n".join(lines) + "\n")

    def job(self, output, *more, status=DONE, **options):
        return self.generate(TINY, "--input", self.input, "--output", output, "--gpu-batch-size",
                             4, *more, status=status, **options)

    def merge(self, *arguments, status=DONE):
        ended = self.run_job("merge", *arguments)
        self.assertEqual(ended.status, status, ended)
        self.assert_no_crash(ended)
        return ended

    def run_shards(self, name, *more, environment=None):
        for i in range(SHARDS):
            self.job(name, "--shard", f"{i}/{SHARDS}", *more,
                     status=ROWS_FAILED if i == 10 % SHARDS else DONE, environment=environment)
        return [self.scratch / name.replace("{shard}", str(i)) for i in range(SHARDS)]

    def in_order(self, path):
        """The records of one run, in the input's order, as the merge of that run alone has them."""
        ordered = self.scratch / "ordered.jsonl"
        self.merge(path, "--input", self.input, "-o", ordered, "--overwrite", status=ROWS_FAILED)
        return ordered.read_bytes()

    def test_shards_merged_are_one_run(self):
        whole = self.scratch / "whole.jsonl"
        self.job(whole, status=ROWS_FAILED)
        expected = self.in_order(whole)
        self.assertEqual(sorted(expected.splitlines()), sorted(whole.read_bytes().splitlines()))
        ids = [json.loads(line)["custom_id"] for line in expected.splitlines()]
        self.assertEqual(ids[:9], ["row-1", "row 1", "row 2", "row 3", "row-5", "row 5", "row 6",
                                   None, "row 9"])
        for ending in ("", ".gz", ".zst"):
            with self.subTest(ending=ending):
                parts = self.run_shards(f"part.{{shard}}.jsonl{ending}")
                self.assertEqual(len(ids), 39)
                merged = self.scratch / "merged.jsonl"
                self.merge(*parts, "--input", self.input, "--output", merged, "--overwrite",
                           status=ROWS_FAILED)
                self.assertEqual(merged.read_bytes(), expected)

    def test_a_job_array_of_slurm(self):
        whole = self.scratch / "whole.jsonl"
        self.job(whole, status=ROWS_FAILED)
        expected = self.in_order(whole)
        array = {"SLURM_ARRAY_TASK_MIN": "0", "SLURM_ARRAY_TASK_MAX": "2",
                 "SLURM_ARRAY_TASK_COUNT": "3"}
        for i in range(SHARDS):
            ended = self.run_job("generate", "--model", TINY, "--quiet", "--input", self.input,
                                 "--output", "task.{shard}.jsonl", "--shard", "slurm", "--report",
                                 "task.{shard}.json",
                                 environment=array | {"SLURM_ARRAY_TASK_ID": str(i)})
            self.assertIn(ended.status, (DONE, ROWS_FAILED), ended)
            self.assertIn(f"{i}/3", self.read_json(self.scratch / f"task.{i}.json")["config"])
        parts = [self.scratch / f"task.{i}.jsonl" for i in range(SHARDS)]
        merged = self.scratch / "merged.jsonl"
        self.merge(*parts, "--input", self.input, "--output", merged, status=ROWS_FAILED)
        self.assertEqual(merged.read_bytes(), expected)
        # Never unasked.
        other = self.scratch / "other.jsonl"
        self.job(other, status=ROWS_FAILED, environment=array | {"SLURM_ARRAY_TASK_ID": "1"})
        self.assertEqual(len(self.records(other)), 39)
        refused = self.run_job("generate", "--model", TINY, "--input", self.input, "--output", "x",
                               "--shard", "slurm")
        self.assert_refused(refused, USAGE, "SLURM_ARRAY_TASK_ID")

    def test_a_shard_is_lost(self):
        whole = self.scratch / "whole.jsonl"
        self.job(whole, status=ROWS_FAILED)
        expected = self.in_order(whole)
        parts = self.run_shards("part.{shard}.jsonl.zst")
        merged = self.scratch / "merged.jsonl.gz"
        ended = self.merge(parts[0], parts[2], "--input", self.input, "--output", merged,
                           status=ROWS_FAILED)
        self.assertRegex(ended.stderr, r"13 rows of \S+ have no record: row 1, ")
        self.job(merged, "--resume", status=ROWS_FAILED)
        self.assertEqual(self.in_order(merged), expected)

    def test_what_is_wrong_is_said(self):
        arguments = ["generate", "--model", TINY, "--input", self.input, "--output"]
        self.assert_refused(self.run_job(*arguments, "x", "--shard", "3/3"), USAGE, "0/4 to 3/4")
        self.assert_refused(self.run_job(*arguments, "{shard}"), USAGE, "no --shard")
        self.assert_refused(self.run_job("merge", "-o", "x"), USAGE, "no files to merge")
        self.assert_refused(self.run_job("merge", self.input), USAGE, "--output FILE")
        self.assert_refused(self.run_job("merge", self.input, "-o", "x", "--inptu", "y"), USAGE,
                            "did you mean '--input'")
        self.assert_refused(self.run_job("merge", self.scratch / "none", "-o", "x"), BAD_INPUT,
                            "none")
        nonsense = self.write("nonsense", "hello\n")
        self.assert_refused(self.run_job("merge", nonsense, "-o", "x"), BAD_INPUT,
                            "nonsense, line 1")
        self.assertFalse((self.scratch / "x").exists())


if __name__ == "__main__":
    unittest.main()
