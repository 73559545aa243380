"""Real MPI jobs whose ranks die, fall silent, fail or leave: what the user sees, and how soon.

Usage: python3 fault_test.py FAULT_PROGRAM [-k PART_OF_TEST_NAME]
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest

PROGRAM = os.path.abspath(sys.argv.pop(1))
MAX_SECONDS = 5.0  # from the fault to the end of the whole job
ENVIRONMENT = dict(
    os.environ,
    OMPI_ALLOW_RUN_AS_ROOT="1",
    OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1",
    OMPI_MCA_rmaps_base_oversubscribe="1",
)


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


class Job:
    """A job under way: mpirun, or the program alone; all lines it prints, and its ranks' pids."""

    def __init__(self, ranks, fault, deadline_ms=60000):
        self.folder = tempfile.TemporaryDirectory(prefix="sluice-fault-")
        command = [PROGRAM, str(deadline_ms), self.folder.name, fault]
        if ranks:
            command = ["mpirun", "--bind-to", "none", "-n", str(ranks), *command]
        self.ranks = ranks or 1
        self.lines = []
        self.pids = {}
        self.ready = threading.Event()
        self.process = subprocess.Popen(
            command, env=ENVIRONMENT, text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\r\n"))
            found = re.match(r"ready rank=(\d+) pid=(\d+)", line)
            if found:
                self.pids[int(found[1])] = int(found[2])
                if len(self.pids) == self.ranks:
                    self.ready.set()
        self.ready.set()

    def wait_until_ready(self):
        self.ready.wait(60)
        assert len(self.pids) == self.ranks, self.lines

    def end(self):
        """Waits for the end; returns the exit status."""
        try:
            status = self.process.wait(60)
            self.reader.join()
            return status
        finally:
            self.stop()

    def stop(self):
        if self.process.poll() is None:
            for pid in self.pids.values():
                os.kill(pid, signal.SIGKILL)
            self.process.kill()
            self.process.wait()
        self.reader.join()
        self.process.stdout.close()

    def close(self):
        self.stop()
        self.folder.cleanup()

    def files(self):
        return sorted(map(int, os.listdir(self.folder.name)))

    def said(self):
        return [line for line in self.lines if line.startswith("sluice:")]


class FaultTest(unittest.TestCase):
    def strike(self, ranks, number, victims, deadline_ms=60000, fault="none"):
        """Sends a signal to some ranks of a job; returns it when it is over, and the status."""
        job = Job(ranks, fault, deadline_ms=deadline_ms)
        self.addCleanup(job.close)
        job.wait_until_ready()
        started = time.monotonic()
        for victim in victims:
            os.kill(job.pids[victim], number)
        status = job.end()
        self.check_gone(job, started)
        return job, status

    def check_gone(self, job, started, allowed=MAX_SECONDS):
        # mpirun may be gone before the ranks, on a busy machine.
        while any(map(is_running, job.pids.values())) and time.monotonic() - started < allowed:
            time.sleep(0.01)
        self.assertLess(time.monotonic() - started, allowed, job.lines)
        board = f"sluice-{job.pids.get(0)}-"  # named after the host's first rank
        self.assertEqual([n for n in os.listdir("/dev/shm") if n.startswith(board)], [])

    def check_said(self, job, pattern):
        self.assertEqual(len(job.said()), 1, job.lines)
        self.assertRegex(job.said()[0], pattern)

    def misbehave(self, ranks, fault, victim, deadline_ms=60000):
        return self.strike(ranks, signal.SIGUSR2, [victim], deadline_ms, fault)

    # Death

    def test_a_killed_rank_is_named_with_its_last_step(self):
        for ranks in (2, 3, 4):
            for victim in range(ranks):
                with self.subTest(ranks=ranks, victim=victim):
                    job, status = self.strike(ranks, signal.SIGKILL, [victim])
                    self.assertEqual(status, 137)
                    pid = job.pids[victim]
                    self.check_said(
                        job, rf"^sluice: rank {victim} \(host \S+, pid {pid}\) died; its last "
                             rf"step was: pass 17, layer {5 + victim}\. .*--resume\.$")
                    # Who speaks has removed its files; mpirun may kill the others before they could.
                    self.assertIn(victim, job.files())
                    self.assertLess(len(job.files()), ranks)

    def test_a_crash_is_a_death(self):
        job, status = self.strike(3, signal.SIGSEGV, [1])
        self.assertEqual(status, 139)
        self.check_said(job, r"^sluice: rank 1 .* died; its last step was: pass 17, layer 6\.")

    def test_two_ranks_killed_at_once_give_one_sentence(self):
        job, status = self.strike(4, signal.SIGKILL, [1, 2])
        self.assertEqual(status, 137)
        self.check_said(job, r"^sluice: rank [12] .* died; its last step was: pass 17, layer")

    def test_a_rank_killed_while_alone_takes_the_job_with_it(self):
        job, status = self.strike(1, signal.SIGKILL, [0])
        self.assertEqual(status, 137)
        self.assertEqual(job.said(), [])  # nobody is left to say it; mpirun does

    def test_a_rank_that_leaves_without_a_word_has_died(self):
        for victim in range(2):
            with self.subTest(victim=victim):
                job, status = self.misbehave(2, "exit", victim)
                self.assertEqual(status, 7)
                self.check_said(job, rf"^sluice: rank {victim} .* died; its last step was: pass 17")

    # Silence

    def test_a_stopped_rank_is_noticed_within_the_deadline(self):
        for ranks, victim in ((2, 0), (2, 1), (4, 0), (4, 2)):
            with self.subTest(ranks=ranks, victim=victim):
                job, status = self.strike(ranks, signal.SIGSTOP, [victim], deadline_ms=2000)
                self.assertEqual(status, 5)
                self.check_said(
                    job, rf"^sluice: rank {victim} \(host \S+, pid \d+\) has been silent for 2 s; "
                         rf"its last step was: pass 17, layer {5 + victim}\. .*--resume\.$")

    def test_a_job_that_is_stopped_as_a_whole_goes_on_when_it_is_continued(self):
        job = Job(2, "none", deadline_ms=1000)
        self.addCleanup(job.close)
        job.wait_until_ready()
        for number, pause in ((signal.SIGSTOP, 2.5), (signal.SIGCONT, 1.5)):
            for pid in job.pids.values():
                os.kill(pid, number)
            time.sleep(pause)  # the length of the pause is what is tested
        self.assertIsNone(job.process.poll(), job.lines)
        self.assertEqual(job.said(), [])

    # Failure told by the rank itself

    def test_a_failure_is_told_once_and_gives_the_status(self):
        for ranks in (1, 2, 4):
            for victim in range(ranks):
                with self.subTest(ranks=ranks, victim=victim):
                    job, status = self.misbehave(ranks, "fail", victim)
                    self.assertEqual(status, 4)
                    self.check_said(
                        job, rf"^sluice: rank {victim}: the host tier is 5 bytes too small$")
                    self.assertNotIn(0, job.files())  # mpirun may kill the others before they could

    def test_of_many_failures_one_is_told(self):
        job = Job(4, "fail_all")
        self.addCleanup(job.close)
        self.assertEqual(job.end(), 4)
        self.check_said(job, r"^sluice: rank \d: the host tier is 5 bytes too small$")

    def test_a_failure_is_told_by_the_rank_itself_where_the_head_does_not_answer(self):
        job = Job(3, "fail")
        self.addCleanup(job.close)
        job.wait_until_ready()
        os.kill(job.pids[0], signal.SIGSTOP)
        started = time.monotonic()
        os.kill(job.pids[2], signal.SIGUSR2)
        self.assertEqual(job.end(), 4)
        self.check_gone(job, started)
        self.check_said(job, r"^sluice: rank 2: the host tier is 5 bytes too small$")

    def test_a_message_that_is_too_long_is_a_failure_of_its_receiver(self):
        job, status = self.misbehave(2, "long", 1)
        self.assertEqual(status, 1)
        self.check_said(job, r"^sluice: rank 1: A message longer than the 100 bytes .* rank 0 on "
                             r"route hidden")

    def test_a_rank_that_ends_alone_does_not_wait_for_ever(self):
        job, status = self.misbehave(2, "desert", 1, deadline_ms=1000)
        self.assertEqual(status, 5)
        self.check_said(job, r"^sluice: rank 1: The job is done here, but other ranks have not")

    # The user's signals

    STOPPED = "sluice: stopped by SIGTERM; run it again with --resume."

    def test_a_job_whose_ranks_are_stopped_says_how_to_go_on(self):
        for ranks in (1, 2, 4):
            with self.subTest(ranks=ranks):
                job, status = self.strike(ranks, signal.SIGTERM, range(ranks))
                self.assertEqual(status, 75)
                # The head says it, whether its own signal came first or another rank's word.
                self.check_said(job, r"^sluice: stopped by SIGTERM( to rank \d)?; run it again")
                self.assertNotIn(0, job.files())

    def test_a_signal_to_any_rank_stops_the_job(self):
        for ranks in (2, 4):
            for victim in range(ranks):
                with self.subTest(ranks=ranks, victim=victim):
                    job, status = self.strike(ranks, signal.SIGUSR1, [victim])
                    self.assertEqual(status, 75)
                    where = f" to rank {victim}" if victim else ""
                    self.assertEqual(job.said(), [f"sluice: stopped by SIGUSR1{where}; run it again "
                                                  "with --resume."])

    def test_a_job_whose_mpirun_is_stopped_is_soon_gone(self):
        job = Job(2, "none")
        self.addCleanup(job.close)
        job.wait_until_ready()
        started = time.monotonic()
        job.process.send_signal(signal.SIGTERM)
        self.assertNotEqual(job.end(), 0)
        self.check_gone(job, started)
        # mpirun kills the ranks 5 ms after it told them: they may have had no time to speak.
        self.assertIn([re.sub(" to rank 1", "", line) for line in job.said()], ([], [self.STOPPED]))

    def test_without_mpirun_it_is_the_same(self):
        for number, name, expected in ((signal.SIGTERM, "SIGTERM", 75), (signal.SIGUSR1, "SIGUSR1", 75),
                                       (signal.SIGINT, "SIGINT", 130)):
            with self.subTest(number=number):
                job = Job(None, "none")
                self.addCleanup(job.close)
                job.wait_until_ready()
                job.process.send_signal(number)
                self.assertEqual(job.end(), expected)
                self.check_said(job, rf"^sluice: stopped by {name}; run it again")
                self.assertEqual(job.files(), [])

    # The normal end

    def test_a_job_that_ends_says_nothing(self):
        for ranks in (None, 1, 2, 4):
            for fault, expected in (("end", 0), ("end_failed", 2)):
                with self.subTest(ranks=ranks, fault=fault):
                    job = Job(ranks, fault)
                    self.addCleanup(job.close)
                    self.assertEqual(job.end(), expected)
                    self.assertEqual(job.said(), [])
                    self.assertEqual(job.files(), list(range(ranks or 1)))

    # Wrong use

    def test_a_job_started_by_another_launcher_is_refused(self):
        ENVIRONMENT["SLURM_STEP_NUM_TASKS"] = "4"
        self.addCleanup(ENVIRONMENT.pop, "SLURM_STEP_NUM_TASKS")
        job = Job(None, "end")
        self.addCleanup(job.close)
        self.assertEqual(job.end(), 2)
        self.assertTrue(any("srun --mpi=pmix" in line for line in job.lines), job.lines)

    def test_a_deadline_shorter_than_two_heartbeats_is_refused(self):
        job = Job(None, "end", deadline_ms=150)
        self.addCleanup(job.close)
        self.assertEqual(job.end(), 2)
        self.assertTrue(any("comm.deadline_seconds is 0.15" in line for line in job.lines))


if __name__ == "__main__":
    unittest.main()
