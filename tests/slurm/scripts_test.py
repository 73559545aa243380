"""The sample scripts of cluster-configs/, handed to sbatch as they are: ranks, starts and nodes that die,
jobs that are cancelled or queued again, wrong use.
"""

import os
import signal
import unittest

from cluster import Job
from job_support import DONE
from sample_jobs import FLAGS, FOUR_NODES, ONE_NODE, ROWS, SampleJobTest

# Dies as Open MPI's start does now and then: rank 2 of the first starts, before anything else.
DYING_START = """#!/bin/bash
if [ "$PMIX_RANK" = 2 ]; then
  echo start >>starts
  [ "$(wc -l <starts)" -gt {deaths} ] || kill -SEGV $$
fi
exec build/sluice "$@"
"""

# Of a job array: the first start of task 0 loses rank 2, that of task 1 waits until it is struck.
STRUCK_ARRAY = """#!/bin/bash
if mkdir "seen-$SLURM_ARRAY_TASK_ID-$PMIX_RANK" 2>/dev/null; then
  case $SLURM_ARRAY_TASK_ID-$PMIX_RANK in
    0-2) kill -SEGV $$ ;;
    1-*) exec sleep infinity ;;
  esac
fi
exec build/sluice "$@"
"""


class ScriptsTest(SampleJobTest):
    def test_undisturbed(self):
        for script, nodes in ((FOUR_NODES, 4), (ONE_NODE, 1)):
            for start in ("srun", "mpirun"):
                with self.subTest(script=script, start=start):
                    job, pipe = self.send_waiting(script, environment={"SLUICE_START": start})
                    self.check_ranks(job, nodes)
                    pipe.let_go()
                    self.check_done(job)

    def test_a_killed_rank(self):
        for script, start, victim in ((FOUR_NODES, "srun", 2), (FOUR_NODES, "mpirun", 0),
                                      (ONE_NODE, "srun", 3)):
            with self.subTest(script=script, start=start):
                job, _ = self.send_waiting(script, environment={"SLUICE_START": start})
                os.kill(self.check_ranks(job, 1 if script == ONE_NODE else 4)[victim],
                        signal.SIGKILL)
                self.check_done(job, starts=2)

    def test_a_start_that_dies_is_tried_again(self):
        program = self.write("dying", DYING_START.format(deaths=2))
        program.chmod(0o755)
        job = self.send(FOUR_NODES, environment={"SLUICE": str(program)})
        self.check_done(job, starts=3)
        self.assertIn("(2 of at most 5)", job.log())

    def test_starts_that_always_die_come_to_an_end(self):
        program = self.write("dying", DYING_START.format(deaths=99))
        program.chmod(0o755)
        job = self.send(FOUR_NODES, environment={"SLUICE": str(program), "SLUICE_RESTARTS": "1"})
        self.assertEqual(job.end()["JobState"], "FAILED", job.log())
        self.assertEqual(job.log().count("starting again"), 1)
        self.assertRegex(job.log(), r"2 times in a row; giving up")

    def test_a_start_that_says_nothing_is_tried_again(self):
        """srun returns 0 where it could not launch any task."""
        program = self.write("absent", '#!/bin/bash\n[ -e once ] && exec build/sluice "$@"\n'
                                       'sleep 1; touch once\n')
        program.chmod(0o755)
        job = self.send(ONE_NODE, environment={"SLUICE": str(program)})
        self.check_done(job, starts=2)

    def test_a_report_of_the_users_own(self):
        self.check_done(self.send(ONE_NODE, "--report", "own.json"))
        self.assertEqual(self.read_json(self.scratch / "own.json")["run"]["requests"], ROWS)
        self.assertFalse((self.scratch / "output.jsonl.report.json").exists())

    def test_wrong_use_is_not_tried_again(self):
        job = self.send(ONE_NODE, "--no-such-flag")
        ended = job.end()
        self.assertEqual((ended["JobState"], ended["ExitCode"]), ("FAILED", "2:0"), job.log())
        self.assertNotIn("starting again", job.log())

    def test_requeue(self):
        job, _ = self.send_waiting(FOUR_NODES)
        self.cluster.run("scontrol", "requeue", job.number)
        self.check_done(job, starts=None, runs=2)

    def test_an_array_of_which_one_task_loses_a_rank_and_one_is_queued_again(self):
        program = self.write("struck", STRUCK_ARRAY)
        program.chmod(0o755)
        array = self.submit(ONE_NODE, "models/demo", self.rows.name, "part.{shard}.jsonl", *FLAGS,
                            flags=["--array=0-1"], environment={"SLUICE": str(program)})
        tasks = [Job(self.cluster, f"{array.number}_{task}", array.log_path) for task in (0, 1)]
        waiting = [self.scratch / f"seen-1-{rank}" for rank in range(4)]
        tasks[1].wait_until(lambda fields: all(folder.exists() for folder in waiting), "its ranks")
        self.cluster.run("scontrol", "requeue", tasks[1].number)
        for task, restarts in zip(tasks, ("0", "1")):
            ended = task.end()
            self.assertEqual((ended["JobState"], ended["Restarts"]), ("COMPLETED", restarts), task.log())
        merged = self.scratch / "merged.jsonl"
        ended = self.run_job("merge", *sorted(self.scratch.glob("part.?.jsonl")), "--input", self.rows,
                             "--output", merged)
        self.assertEqual(ended.status, DONE, ended)
        self.assertEqual(self.records(merged), SampleJobTest.expected)
        self.assertEqual(list(self.records(merged)), [f"sum-{i}" for i in range(ROWS)])

    def test_scancel_and_the_same_line_again(self):
        for script in (FOUR_NODES, ONE_NODE):
            with self.subTest(script=script):
                job, _ = self.send_waiting(script)
                self.cluster.run("scancel", job.number)
                self.assertEqual(job.end()["JobState"], "CANCELLED")
                self.cluster.wait_until_idle()  # and not queued again
                self.assertEqual(job.fields()["JobState"], "CANCELLED")
                self.assertEqual(self.cluster.processes(SLURM_JOB_ID=str(job.number)), {})
                self.assertLess(self.answers(), ROWS)
                self.check_done(self.send(script))

    def test_a_lost_node(self):
        job, _ = self.send_waiting(FOUR_NODES)
        self.cluster.lose_node("n3")
        try:
            job.wait_until(lambda fields: fields["Restarts"] == "1", "its second run")
        finally:
            self.cluster.start_node("n3")
        self.check_done(job, starts=None, runs=2)


if __name__ == "__main__":
    unittest.main()
