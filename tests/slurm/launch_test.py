"""What srun, salloc and mpirun inside it start under a real Slurm is one job, a lone process, or
refused.
"""

import unittest

from cluster import ClusterTest
from job_support import DEMO_MODEL, DONE, SLUICE, USAGE

QUESTION = "Question: What is the capital of France?\nAnswer:"


class LaunchTest(ClusterTest):
    def ask(self, *launcher):
        return self.cluster.run(*launcher, SLUICE, "generate", "--quiet", "--device", "cpu",
                                "--model", DEMO_MODEL, "--max-new-tokens", 3, "--prompt", QUESTION)

    def assert_answers(self, ended):
        self.assertEqual((ended.returncode, ended.stdout.strip()), (DONE, "Paris"), ended)

    def test_one_task_is_a_lone_process(self):
        for mpi in ("none", "pmi2", "pmix"):
            with self.subTest(mpi=mpi):
                self.assert_answers(self.ask("srun", f"--mpi={mpi}", "-n1"))

    def test_tasks_with_pmix_are_one_job(self):
        for nodes in (1, 2):
            with self.subTest(nodes=nodes):
                self.assert_answers(self.ask("srun", "--mpi=pmix", f"-N{nodes}", "-n2"))

    def test_tasks_without_pmix_are_refused(self):
        for mpi, said in (("none", "srun started 2 processes"), ("pmi2", "srun --mpi=pmi2")):
            with self.subTest(mpi=mpi):
                ended = self.ask("srun", f"--mpi={mpi}", "-N1", "-n2")
                self.assertEqual((ended.returncode, ended.stdout), (USAGE, ""), ended)
                self.assertIn(said, ended.stderr)
                self.assertIn("srun --mpi=pmix", ended.stderr)
                self.assertEqual(ended.stderr.count("sluice: "), 1, ended)

    def test_in_an_allocation_a_process_is_alone_and_mpirun_starts_a_job(self):
        self.assert_answers(self.ask("salloc", "-Q", "-N1", "-n2"))
        self.assert_answers(self.ask("salloc", "-Q", "-N2", "-n2", "mpirun", "--bind-to", "none",
                                     "-n", "2"))


if __name__ == "__main__":
    unittest.main()
