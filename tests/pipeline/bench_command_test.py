"""`sluice bench`: its tables are made of real runs, and its page of their reports and trace."""

import csv
import io
import json
import os
import re
import signal
import subprocess
import time
import unittest

from job_support import (BAD_INPUT, DONE, MAX_SECONDS, SOURCE, STOPPED, USAGE, JobTest,
                         is_running, percent)

MODEL = SOURCE / "tests/data/families/llama3-like"


class BenchTest(JobTest):
    def bench(self, *arguments, status=DONE):
        ended = self.run_job("bench", *arguments)
        self.assertEqual(ended.status, status, ended)
        self.assert_no_crash(ended)
        return ended

    def test_generate_has_a_row_for_each_batch_and_phase(self):
        ended = self.bench("generate", "--model", MODEL, "--weights", "dummy", "--shapes", "24/8,5/1",
                           "--batches", "1,3", "--repetitions", "2", "--format", "json")
        rows = json.loads(ended.stdout)
        self.assertEqual([(row["batch"], row["test"], row["repetitions"]) for row in rows],
                         [(1, "pp24", 2), (1, "tg8", 2), (3, "pp24", 2), (3, "tg8", 2),
                          (1, "pp5", 2), (3, "pp5", 2)])
        for row in rows:
            self.assertGreater(row["tokens_per_second"], 0)
        self.assertEqual(ended.stderr.count("run "), 8)

    def test_scaling_runs_ranks_and_writes_a_page(self):
        page = self.scratch / "page.html"
        ended = self.bench("scaling", "--model", MODEL, "--weights", "dummy", "--shapes", "16/6",
                           "--stages", "1,2", "--prompts", "8", "--gpu-batch-size", "2",
                           *percent(0, 100, 100, 0, 100, 0), "--repetitions", "1",
                           "--format", "csv", "--page", page)
        rows = list(csv.DictReader(io.StringIO(ended.stdout)))
        self.assertEqual([(row["scaling"], row["stages"], row["prompts"]) for row in rows],
                         [("strong", "1", "8"), ("strong", "2", "8"), ("weak", "1", "4"),
                          ("weak", "2", "8")])
        self.assertEqual(rows[1]["tokens_per_second"], rows[3]["tokens_per_second"])  # one run
        self.assertAlmostEqual(float(rows[1]["speed_up"]),
                               float(rows[1]["tokens_per_second"]) / float(rows[0]["tokens_per_second"]))
        text = page.read_text(encoding="utf-8")
        data = json.loads(re.search(r'type="application/json">(.*?)</script>', text, re.S)[1])
        self.assertEqual([(stage["stages"], stage["stage"]) for stage in data["stages"]],
                         [(1, 0), (2, 0), (2, 1)])
        self.assertEqual({one["stage"] for one in data["work"]}, {0, 1})
        for one in data["work"]:
            self.assertLessEqual(one["begin"], one["end"])

    def test_a_run_that_fails_says_why(self):
        ended = self.bench("generate", "--model", self.scratch, "--batches", "1", status=BAD_INPUT)
        self.assertIn("a run on 1 rank failed: ", ended.stderr)

    def test_a_signal_ends_the_runs_and_leaves_nothing(self):
        folder = self.scratch / "temporary"
        folder.mkdir()
        job = self.start("bench", "scaling", "--model", MODEL, "--weights", "dummy", "--stages", "2",
                         "--shapes", "16/400", "--prompts", "4000", environment={"TMPDIR": str(folder)})
        deadline = time.monotonic() + MAX_SECONDS
        children = []
        while not children and time.monotonic() < deadline and job.process.poll() is None:
            children = subprocess.run(["pgrep", "-P", str(job.process.pid)], capture_output=True,
                                      text=True, check=False).stdout.split()
        self.assertEqual(len(children), 1)
        os.kill(job.process.pid, signal.SIGTERM)
        ended = job.end()
        self.assertEqual(ended.status, STOPPED, ended)
        self.assertFalse(is_running(int(children[0])))
        self.assertEqual(list(folder.glob("sluice-bench-*")), [])

    def test_wrong_use(self):
        for arguments, sentence in (
                ((), "bench what?"),
                (("speed", "--model", MODEL), "'speed' is not one of generate, scaling, serve"),
                (("generate",), "no model"),
                (("generate", "--model", MODEL, "--batches", "0"), "--batches: '0'"),
                (("generate", "--model", MODEL, "--shapes", "12"), "--shapes: '12'"),
                (("generate", "--model", MODEL, "--stages", "2"), "--stages: is for"),
                (("scaling", "--model", MODEL, "--format", "xml"), "--format: 'xml'"),
                (("scaling", "--model", MODEL, "--weight-slots", "x"), "--weight-slots")):
            with self.subTest(arguments):
                self.assertIn(sentence, self.bench(*arguments, status=USAGE).stderr)


if __name__ == "__main__":
    unittest.main()
