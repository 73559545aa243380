"""Jobs that are killed at work: who is named, how soon all is over, and that --resume gives the
answers of a job that nobody disturbed.
"""

import json
import os
import signal
import time
import unittest

from job_support import (DEMO_MODEL, DONE, MAX_SECONDS, ROWS_FAILED, STOPPED, USAGE, JobTest,
                         is_running, percent)

RANKS = 3
ROWS = 160
TOKENS = 40
MAX_SECONDS_TO_END = 5.0

# All three tiers, so that there are run folders to be left behind, and removed.
PLACEMENT = percent(34, 33, 50, 25, 50, 50)


class KillAndResumeTest(JobTest):
    expected = None  # of undisturbed(): it is the same in every test

    def setUp(self):
        super().setUp()
        rows = [{"custom_id": f"sum-{i}", "max_tokens": TOKENS, "ignore_eos": True,
                 "prompt": f"Question: What is {i} plus {i * 7 % 13}?\nAnswer:"}
                for i in range(ROWS)]
        self.input = self.write_rows("rows.jsonl", rows)
        self.output = self.scratch / "output.jsonl"

    def arguments(self, *more, output=None):
        return ["generate", "--model", DEMO_MODEL, "--input", self.input, "--output",
                output or self.output, "--quiet", "--gpu-batch-size", 4, *PLACEMENT, *more]

    def undisturbed(self):
        if KillAndResumeTest.expected is None:
            KillAndResumeTest.expected = self.run_undisturbed()
        return KillAndResumeTest.expected

    def run_undisturbed(self):
        output = self.scratch / "undisturbed.jsonl"
        ended = self.run_job(*self.arguments(output=output))  # one process: the same answers
        self.assertEqual(ended.status, DONE, ended)
        records = self.records(output)
        self.assertEqual(len(records), ROWS)
        return records

    def whole_lines(self):
        return self.output.read_bytes().count(b"\n")

    def start_and_wait(self, ranks, *more, lines=1):
        job = self.start(*self.arguments(*more), ranks=ranks)
        job.wait_for_lines(self.output, lines)
        if ranks:
            self.assertEqual(sorted(job.ranks), list(range(ranks)))
        return job

    def end_soon(self, job, struck):
        ended = job.end()
        self.assertLess(time.monotonic() - struck, MAX_SECONDS_TO_END, ended)
        # mpirun may be gone a moment before the last of its children.
        while any(map(is_running, job.ranks.values())):
            self.assertLess(time.monotonic() - struck, MAX_SECONDS_TO_END, "ranks are left")
            time.sleep(0.01)
        self.assertLess(self.whole_lines(), ROWS, "the job was over before it was struck")
        return ended

    def check_resumed(self, expected, ranks):
        # A mark in one answer shows whether it was kept: made again it would be the same.
        first, rest = self.output.read_bytes().split(b"\n", 1)
        marked = json.loads(first) | {"text": "kept"}
        self.output.write_bytes(json.dumps(marked).encode() + b"\n" + rest)
        ended = self.run_job(*self.arguments("--resume"), ranks=ranks)
        self.assertEqual(ended.status, DONE, ended)
        self.assertEqual(self.records(self.output),
                         expected | {marked["custom_id"]: marked})
        self.assertEqual([path.name for path in self.scratch.iterdir() if path.is_dir()], [],
                         "a run folder is left")

    def test_every_rank_in_turn(self):
        expected = self.undisturbed()
        for victim in range(RANKS):
            with self.subTest(victim=victim):
                self.remove_output(self.output)
                job = self.start_and_wait(RANKS)
                struck = time.monotonic()
                os.kill(job.ranks[victim], signal.SIGKILL)
                ended = self.end_soon(job, struck)
                self.assertEqual(ended.status, 128 + signal.SIGKILL, ended)
                self.assertEqual(len(ended.said()), 1, ended)
                self.assertRegex(ended.said()[0], rf"^sluice: rank {victim} \(host \S+, pid "
                                                  rf"{job.ranks[victim]}\) died; its last step")
                if victim == 0:  # without --resume nothing of the output is touched
                    before = self.output.read_bytes()
                    refused = self.run_job(*self.arguments(), ranks=RANKS)
                    self.assert_refused(refused, USAGE, "output.jsonl exists", "--resume")
                    self.assertEqual(self.output.read_bytes(), before)
                if victim == 1:  # a line that was under way
                    with self.output.open("ab") as file:
                        file.write(b'{"custom_id":"sum-0","text":" 4')
                self.check_resumed(expected, RANKS)

    def test_killed_again_and_again_with_other_numbers_of_ranks(self):
        expected = self.undisturbed()
        more = []
        for ranks, victim in ((2, 1), (4, 2)):
            before = self.whole_lines() if more else 0
            job = self.start_and_wait(ranks, *more, lines=before + 5)
            struck = time.monotonic()
            os.kill(job.ranks[victim], signal.SIGKILL)
            self.end_soon(job, struck)
            more = ["--resume"]
        self.check_resumed(expected, 0)

    def test_a_stopped_job_goes_on(self):
        expected = self.undisturbed()
        for number in (signal.SIGTERM, signal.SIGINT):
            with self.subTest(number=number):
                self.remove_output(self.output)
                job = self.start_and_wait(2)
                struck = time.monotonic()
                job.process.send_signal(number)
                ended = self.end_soon(job, struck)
                self.assertNotEqual(ended.status, DONE, ended)
                self.assertEqual(len(ended.said()), 1, ended)
                self.assertRegex(ended.said()[0], r"^sluice: stopped by SIG\w+( to rank 1)?; .*--resume")
                self.check_resumed(expected, 2)

    def test_a_stopped_process_goes_on(self):
        expected = self.undisturbed()
        for number in (signal.SIGTERM, signal.SIGKILL):
            with self.subTest(number=number):
                self.remove_output(self.output)
                job = self.start_and_wait(0)
                struck = time.monotonic()
                job.process.send_signal(number)
                ended = self.end_soon(job, struck)
                self.assertEqual(ended.status, STOPPED if number == signal.SIGTERM else -number)
                self.check_resumed(expected, 0)

    def test_resuming_a_finished_job_changes_nothing(self):
        rows = [{"custom_id": "good", "prompt": "Question:"}, {"custom_id": "bad"}]
        self.input = self.write_rows("rows.jsonl", rows)
        self.assertEqual(self.run_job(*self.arguments()).status, ROWS_FAILED)
        before = self.output.read_bytes()
        self.assertEqual(before.count(b"\n"), 2)
        self.assertEqual(self.run_job(*self.arguments("--resume"), ranks=2).status, ROWS_FAILED)
        self.assertEqual(self.output.read_bytes(), before)

    def test_two_jobs_do_not_write_one_output(self):
        job = self.start_and_wait(2)
        second = self.run_job(*self.arguments("--resume"))
        self.assert_refused(second, USAGE, "another run is writing to the output")
        self.assertEqual(job.end(MAX_SECONDS).status, DONE)
        self.assertEqual(len(self.records(self.output)), ROWS)


if __name__ == "__main__":
    unittest.main()
