"""Jobs of the sample scripts that Slurm asks to stop, at their time limit or for a job that goes before:
they end in order, are queued again, and go on.
"""

import unittest

from sample_jobs import FOUR_NODES, ONE_NODE, SampleJobTest


class LimitsTest(SampleJobTest):
    def check_second_run(self, job):
        self.check_done(job, starts=None, runs=2)
        self.assertRegex(job.log(), r"sluice: stopped by SIG(TERM|USR1)")
        self.assertIn("slurm-job: the job was stopped and is queued again", job.log())

    def test_time_limit(self):
        # The scripts ask to be told two minutes before the limit; this limit is one minute.
        job, _ = self.send_waiting(FOUR_NODES, flags=["--time=1", "--signal=B:USR1@50"])
        self.check_second_run(job)

    def test_the_signal_of_a_time_limit_reaches_every_kind_of_job(self):
        for script, start in ((ONE_NODE, "srun"), (FOUR_NODES, "mpirun")):
            with self.subTest(script=script, start=start):
                job, _ = self.send_waiting(script, environment={"SLUICE_START": start})
                self.cluster.run("scancel", "--batch", "--signal=USR1", job.number)
                self.check_second_run(job)

    def test_preemption(self):
        job, _ = self.send_waiting(ONE_NODE)
        urgent = self.cluster.run("srun", "-p", "urgent", "-w", "g1", "--exclusive", "true")
        self.assertEqual(urgent.returncode, 0, urgent)
        self.check_second_run(job)


if __name__ == "__main__":
    unittest.main()
