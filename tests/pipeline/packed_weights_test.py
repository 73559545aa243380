"""Compressed weights through real jobs: packed once and found again, by other splits too; the same
tokens everywhere; and what is wrong with the packed files ends a job with one sentence.
"""

import json
import unittest

from job_support import (BAD_INPUT, DEMO_MODEL, DONE, FAILURE, NO_SPACE, USAGE, JobTest, percent)

ROWS = [{"custom_id": f"row {i}", "prompt": f"Question: What is {i} plus 8?\nAnswer:", "stop": "\n"}
        for i in range(6)]
COMPRESSED = ["--compress-weight", "4bit"]


class PackedWeightsTest(JobTest):
    def setUp(self):
        super().setUp()
        self.packed = self.scratch / "packed"
        self.output = self.scratch / "output.jsonl"

    def job(self, *arguments, **options):
        rows = self.write_rows("rows.jsonl", ROWS)
        return self.run_job("generate", "--model", DEMO_MODEL, "--input", rows, "--output",
                            self.output, "--overwrite", "--packed-dir", self.packed, *COMPRESSED,
                            *arguments, **options)

    def answers(self, *arguments, **options):
        """custom_id -> token ids, and what was told."""
        ended = self.job(*arguments, **options)
        self.assertEqual(ended.status, DONE, ended)
        self.assert_no_crash(ended)
        records = self.records(self.output)
        return {name: record["token_ids"] for name, record in records.items()}, ended.stderr

    def files(self):
        return {path: path.stat().st_mtime_ns for path in self.packed.rglob("*") if path.is_file()}

    def test_packed_once_and_found_by_every_split(self):
        first, told = self.answers(*percent(34, 33, 100, 0, 100, 0), ranks=2)
        self.assertRegex(told, r"packed weights are being made in \S*/packed/4bit-")
        self.assertRegex(told, r"packing: .* \(100 %\)")
        files = self.files()
        self.assertEqual({path.name for path in files},
                         {f"layer-{i}.packed" for i in range(4)} | {"embedding.tokens.weight.packed"})
        self.assertEqual(len(first), len(ROWS))
        for ranks, weights in ((0, (100, 0)), (3, (0, 0)), (4, (20, 30))):
            with self.subTest(ranks=ranks, weights=weights):
                again, told = self.answers(*percent(*weights, 50, 50, 100, 0), ranks=ranks)
                self.assertEqual(again, first)
                self.assertRegex(told, r"packed weights found in \S*/packed/4bit-")
        self.assertEqual(self.files(), files)  # nothing was written again

    def test_other_settings_have_files_of_their_own(self):
        self.answers()
        four = set(self.files())
        rows = self.write_rows("rows.jsonl", ROWS)
        self.generate(DEMO_MODEL, "--input", rows, "--output", self.output, "--overwrite",
                      "--packed-dir", self.packed, "--compress-weight", "8bit")
        eight = set(self.files()) - four
        self.assertEqual({path.name for path in eight}, {path.name for path in four})
        self.assertEqual(len({path.parent for path in eight | four}), 2)

    def test_a_dry_run_packs_nothing_and_counts_packed_bytes(self):
        rows = self.write_rows("rows.jsonl", ROWS)
        report = self.scratch / "report.json"
        ended = self.generate(DEMO_MODEL, "--input", rows, "--output", self.output, "--packed-dir",
                              self.packed, "--dry-run", *COMPRESSED)
        self.assertFalse(self.packed.exists())
        self.assertRegex(ended.stdout, r"weights +2\.\d\d MiB")  # 6.8 MiB in fp16
        self.job("--report", report)
        plan = self.read_json(report)["stages"][0]["plan"]
        planned = [entry["bytes"] for entry in plan
                   if (entry["tier"], entry["purpose"]) == ("device", "weights")]
        facts = json.loads(self.run_job("inspect", DEMO_MODEL, "--compress-weight", "--json").stdout)
        self.assertEqual(planned, [facts["weight_bytes"]])

    def test_made_up_weights_are_packed_nowhere(self):
        home = self.scratch / "home"
        home.mkdir()
        self.generate(DEMO_MODEL, "--weights", "dummy", "--prompt-len", 8, "--gen-len", 3,
                      *COMPRESSED, *percent(20, 30, 100, 0, 100, 0), "--offload-dir", home,
                      environment={"HOME": str(home), "XDG_CACHE_HOME": str(home)})
        self.assertEqual(list(home.iterdir()), [])

    def test_the_users_cache_is_where_they_are_kept_unless_told(self):
        rows = self.write_rows("rows.jsonl", ROWS[:1])
        for variable, folder in (("XDG_CACHE_HOME", "."), ("HOME", ".cache")):
            with self.subTest(variable):
                home = self.scratch / variable
                home.mkdir()
                environment = {"XDG_CACHE_HOME": "relative/is/ignored", variable: str(home)}
                self.generate(DEMO_MODEL, "--input", rows, "--output", self.output, "--overwrite",
                              *COMPRESSED, environment=environment)
                self.assertEqual(len(list((home / folder / "sluice").iterdir())), 1)
        ended = self.run_job("generate", "--model", DEMO_MODEL, "--prompt", "a", *COMPRESSED,
                             environment={"XDG_CACHE_HOME": "", "HOME": ""})
        self.assert_refused(ended, USAGE, "--packed-dir")

    # What is wrong with the files

    def test_a_flipped_bit_is_an_error_and_never_a_token(self):
        self.answers()
        for name, at, placement in (("layer-1.packed", 300_000, percent(0, 0, 100, 0, 100, 0)),
                                    ("layer-2.packed", 20_000, percent(100, 0, 100, 0, 100, 0)),
                                    ("embedding.tokens.weight.packed", 5000, ["--gpu-batch-size", 2])):
            with self.subTest(name):
                path = next(self.packed.rglob(name))
                good = path.read_bytes()
                path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1:])
                self.output.unlink()
                ended = self.job(*placement)
                self.assert_refused(ended, FAILURE, f"{name}.* offset {at // 4096 * 4096}\\b")
                self.assertEqual(self.output.read_text(encoding="utf-8"), "")
                path.write_bytes(good)

    def test_a_file_cut_short_or_not_ours_is_refused(self):
        self.answers()
        path = next(self.packed.rglob("layer-3.packed"))
        good = path.read_bytes()
        for content in (good[:-5000], b"somebody's notes", good[:100] + b"!" + good[101:]):
            path.write_bytes(content)
            self.assert_refused(self.job(), BAD_INPUT, "layer-3.packed", "offset", "delete it")
            self.assertEqual(path.read_bytes(), content)
        path.unlink()
        _, told = self.answers()
        self.assertIn("are being made in", told)
        self.assertEqual(path.read_bytes(), good)

    def test_what_a_killed_packer_left_is_removed(self):
        self.answers()
        path = next(self.packed.rglob("layer-0.packed"))
        path.unlink()
        left = path.with_name(".layer-0.packed.abcdef")
        left.write_bytes(b"half a layer")
        self.answers()
        self.assertFalse(left.exists())

    def test_a_folder_without_room_is_refused_before_packing(self):
        disk = self.small_disk("1m")
        self.packed = disk / "packed"
        ended = self.job()
        self.assert_refused(ended, NO_SPACE, r"packed weights take \d+ bytes", str(disk),
                            r"has \d+ bytes", "--packed-dir")
        self.assertEqual(self.files(), {})


if __name__ == "__main__":
    unittest.main()
