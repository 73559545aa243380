"""`sluice launch`: starts the ranks, starts them again where one is lost, gives up where that cannot
help, passes signals on once, and leaves nothing behind.
"""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import time
import unittest

from job_support import (BAD_INPUT, DEMO_MODEL, DEVICE, DONE, MAX_SECONDS, NO_SPACE, PEER_LOST,
                         ROWS_FAILED, SLUICE, STOPPED, USAGE, JobTest, is_running, parents)

ROWS = 120
INTERRUPTED = 128 + signal.SIGINT


def descendants(pid):
    """pid -> command line of all that it started, and they."""
    children = {}
    for child, parent in parents().items():
        children.setdefault(parent, []).append(child)
    found = {}
    waiting = [pid]
    while waiting:
        for child in children.get(waiting.pop(), []):
            try:
                with open(f"/proc/{child}/cmdline", "rb") as line:
                    found[child] = line.read().split(b"\0")
            except (FileNotFoundError, ProcessLookupError):
                continue
            waiting.append(child)
    return found


def files_of(pids):
    """Files in shared memory and temporary folders that these processes have mapped, and the session
    folders of mpirun among them.
    """
    files = set()
    for pid in pids:
        try:
            with open(f"/proc/{pid}/maps", encoding="utf-8") as maps:
                files |= {line.split(None, 5)[5].strip() for line in maps
                          if re.search(r" /(dev/shm|tmp)/", line) and "(deleted)" not in line}
        except (FileNotFoundError, ProcessLookupError):
            continue
        files |= {str(path) for path in pathlib.Path("/tmp").glob(f"ompi.*/pid.{pid}")}
    return {path for path in files if not path.endswith(SLUICE)}


class LaunchCommandTest(JobTest):
    expected = None

    def setUp(self):
        super().setUp()
        rows = [{"custom_id": f"sum-{i}", "max_tokens": 40, "ignore_eos": True,
                 "prompt": f"Question: What is {i} plus {i * 7 % 13}?\nAnswer:"}
                for i in range(ROWS)]
        self.input = self.write_rows("rows.jsonl", rows)
        self.output = self.scratch / "output.jsonl"
        if LaunchCommandTest.expected is None:
            undisturbed = self.scratch / "undisturbed.jsonl"
            ended = self.run_job(*self.run_words(output=undisturbed))
            self.assertEqual(ended.status, DONE, ended)
            LaunchCommandTest.expected = self.records(undisturbed)

    def run_words(self, *more, output=None):
        return ["generate", "--device", DEVICE, "--model", DEMO_MODEL, "--input", self.input,
                "--output", output or self.output, "--quiet", "--gpu-batch-size", 4, *more]

    def launch(self, ranks, *more, options=()):
        return self.start("launch", "-n", ranks, *options, *self.run_words(*more))

    def answers(self):
        return self.output.read_bytes().count(b"\n") if self.output.exists() else 0

    def ranks_of(self, job, beyond=0, command=b"generate"):
        """Pids of the ranks, once the run has written more than `beyond` answers."""
        deadline = time.monotonic() + MAX_SECONDS
        while True:
            if job.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"no ranks with {beyond} answers: {job.end()}")
            ranks = [pid for pid, line in descendants(job.process.pid).items()
                     if command in line and b"mpirun" not in line[0]]
            if self.answers() > beyond and ranks:
                return sorted(ranks)
            time.sleep(0.002)

    def check_clean(self, pids, files):
        """These processes, and the files that they had, have gone, or go in a moment."""
        deadline = time.monotonic() + 10
        while any(map(is_running, pids)) or any(map(os.path.exists, files)):
            self.assertLess(time.monotonic(), deadline,
                            ([pid for pid in pids if is_running(pid)],
                             [path for path in files if os.path.exists(path)]))
            time.sleep(0.01)

    def test_a_lost_rank_is_replaced(self):
        job = self.launch(3)
        pids = set()
        files = set()
        for victim in range(2):
            ranks = self.ranks_of(job, beyond=self.answers() + 5)
            pids |= descendants(job.process.pid).keys()
            files |= files_of(pids)
            os.kill(ranks[victim], signal.SIGKILL)
            while is_running(ranks[victim]):
                time.sleep(0.002)
            while f"restart {victim + 1} of" not in job.texts()[1]:
                self.assertIsNone(job.process.poll(), job.texts())
                time.sleep(0.002)
        ended = job.end()
        self.assertEqual(ended.status, DONE, ended)
        self.assertEqual(self.records(self.output), LaunchCommandTest.expected)
        self.assertIn("a rank was ended by signal 9 (status 137); starting again in 1 s", ended.stderr)
        self.assertIn("starting again in 2 s (restart 2 of 10)", ended.stderr)
        self.assertNotEqual(files, set())
        self.check_clean(pids, files)

    def test_a_lone_rank_is_replaced(self):
        job = self.launch(1)
        (rank,) = self.ranks_of(job)
        os.kill(rank, signal.SIGKILL)
        ended = job.end()
        self.assertEqual(ended.status, DONE, ended)
        self.assertEqual(self.records(self.output), LaunchCommandTest.expected)
        self.assertEqual(ended.stderr.count("starting again"), 1)

    def test_scores_are_whole_although_a_rank_was_lost(self):
        questions = self.write_rows("questions.jsonl", [
            {"custom_id": f"q{i}", "question": f"What is {i} plus 1?", "answer": i % 4,
             "choices": [f"{i + k} or {k}" * 8 for k in range(4)]} for i in range(150)])
        words = ["score", "--device", DEVICE, "--model", DEMO_MODEL, "--input", questions, "--quiet"]
        undisturbed = self.run_job(*words, "--output", self.scratch / "undisturbed.jsonl")
        self.assertEqual(undisturbed.status, DONE, undisturbed)
        job = self.start("launch", "-n", 2, *words, "--output", self.output)
        os.kill(self.ranks_of(job, beyond=5, command=b"score")[1], signal.SIGKILL)
        ended = job.end()
        self.assertEqual(ended.status, DONE, ended)
        self.assertEqual(self.records(self.output), self.records(self.scratch / "undisturbed.jsonl"))
        self.assertIn(undisturbed.stdout, ended.stdout.replace("\r", ""))
        self.assertEqual(ended.stderr.count("starting again"), 1, ended)
        # Where nothing is kept there is nothing to go on with.
        job = self.start("launch", "-n", 2, *words)
        while len(ranks := [pid for pid, line in descendants(job.process.pid).items()
                            if b"score" in line and b"mpirun" not in line[0]]) < 2:
            self.assertIsNone(job.process.poll(), job.texts())
            time.sleep(0.002)
        os.kill(ranks[0], signal.SIGKILL)
        ended = job.end()
        self.assertEqual(ended.status, DONE, ended)
        self.assertIn(undisturbed.stdout, ended.stdout.replace("\r", ""))

    def test_after_the_last_restart_it_gives_up(self):
        job = self.launch(2, options=("--max-restarts", 0))
        os.kill(self.ranks_of(job)[1], signal.SIGKILL)
        ended = job.end()
        self.assertEqual(ended.status, PEER_LOST, ended)
        self.assertIn("and 0 restarts are allowed", ended.stderr)

    def test_starts_that_die_are_tried_five_times(self):
        # An mpirun whose ranks crash before they have begun.
        crash = self.write("mpirun", "#!/bin/sh\necho x >> starts\nkill -SEGV $$\n")
        crash.chmod(0o755)
        environment = {"PATH": f"{self.scratch}:{os.environ['PATH']}"}
        started = self.start("launch", "-n", 2, *self.run_words(), environment=environment)
        # Pauses are 1, 2, 4, 8 and 16 s.
        ended = started.end()
        self.assertEqual(ended.status, PEER_LOST, ended)
        self.assertEqual((self.scratch / "starts").read_text(encoding="utf-8"), "x\n" * 6)
        self.assertIn("5 restarts in a row brought nothing new", ended.stderr)
        self.assertEqual(ended.stderr.count("ended by signal 11"), 6)

    def test_what_no_restart_mends_is_not_tried_again(self):
        bad = self.scratch / "no-model"
        for more, status in ((("--model", bad), BAD_INPUT), (("--host-memory", "1KiB"), NO_SPACE)):
            with self.subTest(more):
                words = self.run_words()
                if more[0] == "--model":
                    words[words.index(DEMO_MODEL)] = bad
                    more = ()
                ended = self.run_job("launch", "-n", 2, *words, *more)
                self.assertEqual(ended.status, status, ended)
                self.assertEqual(ended.stderr.count("starting again"), 0, ended)
        for words in (("launch",), ("launch", "-n", 2, *self.run_words("--top-k", "x")),
                      ("launch", "-n", "two", *self.run_words())):
            ended = self.run_job(*words)
            self.assertEqual(ended.status, USAGE, ended)
            self.assertNotIn("mpirun", ended.stderr)
        # What the run itself refuses.
        self.output.write_text('{"custom_id":"sum-1","text":"x","token_ids":[5]}\n', encoding="utf-8")
        ended = self.run_job("launch", "-n", 2, *self.run_words())
        self.assertEqual(ended.status, USAGE, ended)
        self.assertIn("--resume", ended.stdout + ended.stderr)

    def test_failed_rows_are_passed_through(self):
        self.input = self.write_rows("rows.jsonl", [{"custom_id": "bad"}, {"prompt": "Question:"}])
        self.assertEqual(self.launch(2).end().status, ROWS_FAILED)

    def test_a_signal_reaches_the_ranks_once(self):
        for ranks, number, status in ((2, signal.SIGTERM, STOPPED), (2, signal.SIGINT, INTERRUPTED),
                                      (1, signal.SIGUSR1, STOPPED)):
            with self.subTest(ranks=ranks, number=number):
                self.output.unlink(missing_ok=True)
                job = self.launch(ranks)
                self.ranks_of(job)
                pids = descendants(job.process.pid).keys()
                files = files_of(pids)
                job.process.send_signal(number)
                ended = job.end()
                self.assertEqual(ended.status, status, ended)
                stops = [line for line in ended.said() if "stopped by" in line]
                self.assertEqual(len(stops), 1, ended)
                self.check_clean(pids, files)
                self.assertLess(self.answers(), ROWS)
                ended = self.launch(ranks, "--resume").end()
                self.assertEqual(ended.status, DONE, ended)
                self.assertEqual(self.records(self.output), LaunchCommandTest.expected)

    def test_a_signal_in_the_pause_ends_it(self):
        crash = self.write("mpirun", "#!/bin/sh\nkill -SEGV $$\n")
        crash.chmod(0o755)
        environment = {"PATH": f"{self.scratch}:{os.environ['PATH']}"}
        job = self.start("launch", "-n", 2, *self.run_words(), environment=environment)
        while "restart 3 of" not in job.texts()[1]:
            self.assertIsNone(job.process.poll(), job.texts())
            time.sleep(0.002)
        job.process.send_signal(signal.SIGTERM)
        ended = job.end()
        self.assertEqual(ended.status, STOPPED, ended)
        self.assertIn("before the restart", ended.stderr)

    def test_nothing_outlives_a_launch_that_is_killed(self):
        job = self.launch(3)
        self.ranks_of(job)
        pids = descendants(job.process.pid).keys()
        self.assertGreaterEqual(len(pids), 4)
        files = files_of(pids)
        job.process.kill()
        job.process.wait()
        self.check_clean(pids, files)

    def test_no_rank_listens(self):
        if shutil.which("ss") is None:
            self.skipTest("ss is not installed")
        job = self.launch(2)
        self.ranks_of(job)
        pids = descendants(job.process.pid).keys()
        listening = subprocess.run(["ss", "-ltnpH"], capture_output=True, text=True, check=True).stdout
        own = [line for line in listening.splitlines()
               if any(f"pid={pid}," in line for pid in pids)]
        self.assertNotEqual(own, [])  # mpirun does: Open MPI has no switch for that
        self.assertEqual([line for line in own if '"mpirun"' not in line], [])
        self.assertEqual(job.end().status, DONE)

    def test_the_line_it_runs_can_be_run(self):
        words = self.run_words()
        words.remove("--quiet")
        ended = self.run_job("launch", "-n", 2, *words)
        self.assertEqual(ended.status, DONE, ended)
        line = next(line for line in ended.stderr.splitlines() if "launch: mpirun " in line)
        self.output.unlink()
        again = subprocess.run(line.split("launch: ", 1)[1], shell=True, cwd=self.scratch,
                               capture_output=True, text=True, check=False, timeout=MAX_SECONDS)
        self.assertEqual(again.returncode, DONE, again)
        self.assertEqual(self.records(self.output), LaunchCommandTest.expected)

    def test_started_by_another_launcher_it_refuses(self):
        ended = self.run_job("launch", "-n", 2, *self.run_words(),
                             environment={"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0"})
        self.assert_refused(ended, USAGE, "starts the ranks itself")


if __name__ == "__main__":
    unittest.main()
