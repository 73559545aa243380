"""Jobs of the sample scripts, whose outputs must be that of an undisturbed run.

A job's input is a pipe that has half of the rows, and does not end: the job answers them, and waits.
There it can be struck at leisure. A later run finds all rows in a file.
"""

import os
import threading

from cluster import ClusterTest
from job_support import DEMO_MODEL, percent

ROWS = 24
HALF = ROWS // 2
TOKENS = 16
# All three tiers, so that a kill meets every kind of file.
FLAGS = ["--quiet", "--gpu-batch-size", 4, *percent(34, 33, 50, 25, 50, 50)]
FOUR_NODES, ONE_NODE = "slurm-4x1gpu.sh", "slurm-1x4gpu.sh"


class WaitingInput:
    """A pipe at `path` for one reader: the first part of a text, and the rest when it is let go."""

    def __init__(self, path, first, rest):
        self.path, self.first, self.rest = path, first, rest
        self.may_end = threading.Event()
        os.mkfifo(path)
        self.writer = threading.Thread(target=self.write, daemon=True)
        self.writer.start()

    def write(self):
        with self.path.open("w", encoding="utf-8") as file:  # when the reader has it open, too
            file.write(self.first)
            file.flush()
            self.may_end.wait()
            try:
                file.write(self.rest)
                file.close()
            except BrokenPipeError:
                pass  # the reader was struck

    def let_go(self):
        self.may_end.set()
        self.writer.join()


class SampleJobTest(ClusterTest):
    expected = None  # of the undisturbed run: it is the same in every test

    def setUp(self):
        super().setUp()
        self.rows = self.write_rows("rows.jsonl", [
            {"custom_id": f"sum-{i}", "max_tokens": TOKENS, "ignore_eos": True,
             "prompt": f"Question: What is {i} plus {i * 7 % 13}?\nAnswer:"} for i in range(ROWS)])
        self.input = self.scratch / "input.jsonl"
        self.output = self.scratch / "output.jsonl"
        if SampleJobTest.expected is None:
            output = self.scratch / "undisturbed.jsonl"
            self.generate(DEMO_MODEL, "--input", self.rows, "--output", output, *FLAGS[1:])
            SampleJobTest.expected = self.records(output)
            self.assertEqual(len(SampleJobTest.expected), ROWS)

    def send(self, script, *more, **options):
        """A job with all its rows."""
        self.input.unlink(missing_ok=True)
        self.input.write_bytes(self.rows.read_bytes())
        return self.submit(script, "models/demo", self.input.name, self.output.name, *FLAGS, *more,
                           **options)

    def send_waiting(self, script, **options):
        """A job that has answered half of its rows, and waits for more; and what it waits for."""
        self.remove_output(self.output)
        self.input.unlink(missing_ok=True)
        lines = self.rows.read_text(encoding="utf-8").splitlines(keepends=True)
        pipe = WaitingInput(self.input, "".join(lines[:HALF]), "".join(lines[HALF:]))
        self.addCleanup(pipe.may_end.set)
        job = self.submit(script, "models/demo", self.input.name, self.output.name, *FLAGS, **options)
        job.wait_until(lambda fields: self.answers() >= HALF, f"{HALF} answers")
        self.assertEqual(self.answers(), HALF)
        # For the next run. This one has the pipe open, and knows of nothing.
        whole = self.write("whole.jsonl", self.rows.read_text(encoding="utf-8"))
        os.replace(whole, self.input)
        return job, pipe

    def answers(self):
        return self.output.read_bytes().count(b"\n") if self.output.exists() else 0

    def check_done(self, job, starts=1, runs=1):
        """Done, with the answers of an undisturbed run, after so many runs of the script, and starts of
        the ranks in the last of them (None: any number)."""
        ended = job.end()
        log = job.log()
        self.assertEqual((ended["JobState"], ended["ExitCode"]), ("COMPLETED", "0:0"), log)
        self.assertEqual(self.records(self.output), SampleJobTest.expected, log)
        self.assertEqual(log.count("slurm-job: job "), runs, log)
        self.assertEqual(int(ended["Restarts"]), runs - 1)
        if starts is not None:
            self.assertEqual(log.count("starting again"), starts - 1, log)
        self.assertEqual(self.cluster.processes(SLURM_JOB_ID=str(job.number)), {})

    def check_ranks(self, job, nodes):
        """rank -> pid: four, on so many nodes."""
        ranks = job.ranks()
        self.assertEqual(sorted(ranks), [0, 1, 2, 3])
        self.assertEqual(job.fields()["NumNodes"], str(nodes))
        return ranks
