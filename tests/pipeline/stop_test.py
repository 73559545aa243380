"""Jobs that are asked to stop: by SIGTERM, SIGUSR1, Ctrl-C or their time limit, in every phase and on
any rank. They end soon with status 75 and one line, and --resume gives the answers of a job that
nobody disturbed.
"""

import json
import os
import re
import signal
import time
import unittest

from job_support import (DEMO_MODEL, DONE, MAX_SECONDS, STOPPED, USAGE, JobTest, is_running, percent)

ROWS = 40
MAX_SECONDS_TO_END = 10.0
STREAMED = percent(0, 100, 100, 0, 100, 0)
INTERRUPTED = 128 + signal.SIGINT


class StopTest(JobTest):
    expected = None  # of a job that nobody disturbs: it is the same in every test

    def setUp(self):
        super().setUp()
        rows = [{"custom_id": f"sum-{i}", "max_tokens": 5 + i, "ignore_eos": True,
                 "prompt": f"Question: What is {i} plus {i * 7 % 13}?\nAnswer:"}
                for i in range(ROWS)]
        self.input = self.write_rows("rows.jsonl", rows)
        self.output = self.scratch / "output.jsonl"
        if StopTest.expected is None:
            undisturbed = self.scratch / "undisturbed.jsonl"
            ended = self.run_job(*self.arguments("--quiet", output=undisturbed))
            self.assertEqual(ended.status, DONE, ended)
            StopTest.expected = self.records(undisturbed)

    def arguments(self, *more, output=None):
        return ["generate", "--model", DEMO_MODEL, "--input", self.input, "--output",
                output or self.output, "--gpu-batch-size", 2, *more]

    def slow(self, **limits):
        """Flags for a machine that is slow where `limits` say so, in GB/s."""
        sections = {"link": "host_to_device_gbps", "disk": "read_gbps"}
        text = "".join(f"  {name}: {{{key}: {limits[name]}}}\n" for name, key in sections.items()
                       if name in limits)
        return ["--config", self.write("slow.yaml", "stage_defaults:\n" + text), *STREAMED]

    def start_and_wait(self, ranks, pattern, *more):
        """Until standard error says `pattern`: of several ranks the head's does."""
        job = self.start(*more, ranks=ranks)
        deadline = time.monotonic() + MAX_SECONDS
        while not re.search(pattern, job.texts()[1]):
            if job.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"nothing says {pattern}: {job.end()}")
            time.sleep(0.002)
        job.find_ranks()
        return job

    def start_decoding(self, ranks, *more):
        job = self.start(*self.arguments("--quiet", *more), ranks=ranks)
        job.wait_for_lines(self.output, 1)
        return job

    def interrupt_twice(self, job):
        job.process.send_signal(signal.SIGINT)
        while "stopped by" not in job.texts()[1]:
            time.sleep(0.002)
        job.process.send_signal(signal.SIGINT)

    def end_soon(self, job, cause, status=STOPPED):
        struck = time.monotonic()
        ended = job.end()
        while any(map(is_running, job.ranks.values())):
            self.assertLess(time.monotonic() - struck, MAX_SECONDS_TO_END, "ranks are left")
            time.sleep(0.01)
        self.assertLess(time.monotonic() - struck, MAX_SECONDS_TO_END, ended)
        self.assertEqual(ended.status, status, ended)
        self.assertEqual(len(ended.said()), 1, ended)
        self.assertRegex(ended.said()[0], rf"^sluice: stopped by {cause}; .")
        self.assert_no_crash(ended)
        return ended

    def check_resumed(self, ranks):
        self.assertLess(len(self.records(self.output)) if self.output.exists() else 0, ROWS,
                        "the job was over before it was stopped")
        ended = self.run_job(*self.arguments("--quiet", "--resume"), ranks=ranks)
        self.assertEqual(ended.status, DONE, ended)
        self.assertEqual(self.records(self.output), StopTest.expected)

    # By phase

    def test_while_it_loads_on_another_rank(self):
        # Seven megabytes at half a megabyte a second.
        job = self.start_and_wait(2, "high water|device", *self.arguments(*self.slow(disk=0.0005)))
        os.kill(job.ranks[1], signal.SIGTERM)
        self.end_soon(job, "SIGTERM to rank 1")
        self.check_resumed(2)

    def test_while_it_loads_alone(self):
        job = self.start_and_wait(0, "high water|device", *self.arguments(*self.slow(disk=0.0005)))
        job.process.send_signal(signal.SIGUSR1)
        self.end_soon(job, "SIGUSR1")
        self.check_resumed(0)

    def test_in_the_first_pass(self):
        # A pass takes seconds: it is awaited.
        job = self.start_and_wait(2, r"loading: .* \(100 %\)", *self.arguments(*self.slow(link=0.002)))
        job.process.send_signal(signal.SIGUSR1)  # mpirun passes it on
        self.end_soon(job, "SIGUSR1( to rank 1)?")
        self.check_resumed(2)

    def test_in_a_pass_that_takes_too_long(self):
        for ranks in (0, 2):
            with self.subTest(ranks=ranks):
                self.output.unlink(missing_ok=True)
                job = self.start_and_wait(ranks, r"loading: .* \(100 %\)",
                                          *self.arguments(*self.slow(link=0.0002)))
                os.kill(job.ranks[1] if ranks else job.process.pid, signal.SIGTERM)
                self.end_soon(job, "SIGTERM( to rank 1)?")
                self.check_resumed(ranks)

    def test_while_it_decodes(self):
        for ranks, victims in ((3, (0, 1, 2)), (3, (2,)), (2, (0,))):
            with self.subTest(ranks=ranks, victims=victims):
                self.output.unlink(missing_ok=True)
                job = self.start_decoding(ranks, *self.slow(link=0.1))
                for number in (signal.SIGCONT, signal.SIGTERM):  # in Slurm's order
                    for victim in victims:
                        os.kill(job.ranks[victim], number)
                self.end_soon(job, r"SIGTERM( to rank \d)?")
                self.check_resumed(ranks)

    def test_a_lone_process_while_it_decodes(self):
        for number, name, status in ((signal.SIGTERM, "SIGTERM", STOPPED),
                                     (signal.SIGUSR1, "SIGUSR1", STOPPED),
                                     (signal.SIGINT, "SIGINT", INTERRUPTED)):
            with self.subTest(name):
                self.output.unlink(missing_ok=True)
                job = self.start_decoding(0, *self.slow(link=0.1))
                job.process.send_signal(number)
                ended = self.end_soon(job, name, status)
                self.assertIn("--resume", ended.said()[0])
                self.check_resumed(0)

    def test_a_second_interrupt_does_not_wait(self):
        job = self.start_and_wait(0, r"loading: .* \(100 %\)", *self.arguments(*self.slow(link=0.0002)))
        struck = time.monotonic()
        self.interrupt_twice(job)
        self.end_soon(job, "SIGINT", INTERRUPTED)
        self.assertLess(time.monotonic() - struck, 5)  # a pass takes half a minute
        self.check_resumed(0)

    def test_the_time_limit(self):
        for ranks in (0, 2):
            with self.subTest(ranks=ranks):
                self.output.unlink(missing_ok=True)
                job = self.start(*self.arguments("--quiet", "--stop-after", "3s",
                                                 *self.slow(link=0.01)), ranks=ranks)
                self.end_soon(job, r"its time limit \(--stop-after\)")
                self.check_resumed(ranks)

    def test_being_continued_means_nothing(self):
        job = self.start_decoding(2)
        for pid in job.ranks.values():
            os.kill(pid, signal.SIGCONT)
        self.assertEqual(job.end().status, DONE)
        self.assertEqual(self.records(self.output), StopTest.expected)

    # What is told

    def test_the_report_tells_of_it(self):
        report = self.scratch / "report.json"
        job = self.start(*self.arguments("--report", report, "--probe", "never", *self.slow(link=0.1)),
                         environment={"SLURM_RESTART_COUNT": "2"})
        job.wait_for_lines(self.output, 1)
        job.process.send_signal(signal.SIGTERM)
        ended = self.end_soon(job, "SIGTERM")
        self.assertIn("stopped before the end", ended.stderr)
        self.assertIn("Slurm has started this job again 2 times", ended.stderr)
        told = json.loads(report.read_text(encoding="utf-8"))
        self.assertEqual((told["run"]["stopped"], told["slurm_restarts"]), (True, 2))

    def test_what_has_no_output_file_says_so(self):
        slow = self.slow(link=0.0002)
        for more, said in ((("--prompt", "Question:"), "nothing of the answer is kept"),
                           (("--prompt-len", 8, "--gen-len", 4), "nothing is kept of made-up prompts"),
                           (("--input", self.input, "--output", "-"), "no output file to go on with")):
            with self.subTest(more):
                job = self.start_and_wait(0, r"loading: .* \(100 %\)", "generate", "--model",
                                          DEMO_MODEL, *slow, *more)
                self.interrupt_twice(job)
                ended = job.end()
                self.assertEqual(ended.status, INTERRUPTED, ended)
                self.assertEqual(len(ended.said()), 1, ended)
                self.assertIn(said, ended.said()[0])

    def test_a_wrong_limit_is_refused(self):
        for wrong in ("90", "1:30", "-5m", "1.5h"):
            ended = self.run_job(*self.arguments(f"--stop-after={wrong}"))
            self.assert_refused(ended, USAGE, "--stop-after", "is not a duration")


if __name__ == "__main__":
    unittest.main()
