"""How a job is started decides what it is: a lone process needs no MPI, processes that a launcher of
another MPI started are refused before they write, and the limits of the job's own control group
count.
"""

import contextlib
import os
import pathlib
import subprocess
import unittest

from job_support import (DEMO_MODEL, DONE, ENVIRONMENT, NO_SPACE, SLUICE, USAGE, Ended, JobTest)

QUESTION = "Question: What is the capital of France?\nAnswer:"
MEMORY = pathlib.Path("/sys/fs/cgroup/memory")


def own_memory_group():
    """The folder of this process's memory group (cgroup version 1), or None."""
    for line in pathlib.Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "memory":
            return MEMORY / path.strip("/")
    return None


@contextlib.contextmanager
def memory_group(limit):
    """A nested group with a limit, for a child to join; None where none can be made."""
    own = own_memory_group()
    group = own / f"sluice-test-{os.getpid()}" if own else None
    try:
        if group:
            group.mkdir()
            (group / "memory.limit_in_bytes").write_text(str(limit), encoding="utf-8")
    except OSError:
        group = None
    try:
        yield group
    finally:
        if group:
            group.rmdir()


class LaunchTest(JobTest):
    def ask(self, *more, environment=None, ranks=0):
        return self.run_job("generate", "--quiet", "--model", DEMO_MODEL, "--max-new-tokens", 3,
                            "--prompt", QUESTION, *more, environment=environment, ranks=ranks)

    def test_a_lone_process_needs_no_mpi(self):
        for variables in (
                {"SLURM_STEP_NUM_TASKS": "1", "SLURM_NODELIST": "localhost"},
                {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0", "PMIX_RANK": "0"},
                {"PMI_SIZE": "1", "PMI_RANK": "0"},
                {"OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_RANK": "0"}):
            with self.subTest(variables=variables):
                ended = self.ask(environment=variables)
                self.assertEqual((ended.status, ended.stdout.strip()), (DONE, "Paris"), ended)
        self.assertEqual(self.ask(ranks=1).status, DONE)

    def test_the_launcher_of_another_mpi_is_refused_before_anything_is_written(self):
        output = self.scratch / "answers.jsonl"
        for size, rank, name in (("PMI_SIZE", "PMI_RANK", "MPICH or Intel MPI"),
                                 ("MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK", "MVAPICH"),
                                 ("FLUX_JOB_SIZE", "FLUX_TASK_RANK", "flux run"),
                                 ("JSM_NAMESPACE_SIZE", "JSM_NAMESPACE_RANK", "jsrun"),
                                 ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "srun")):
            for number in ("0", "1"):
                with self.subTest(launcher=name, rank=number):
                    ended = self.ask("--output", output,
                                     environment={size: "2", rank: number})
                    self.assertEqual((ended.status, ended.stdout), (USAGE, ""), ended)
                    self.assertFalse(output.exists())
                    said = " ".join(ended.said())
                    if number == "0":  # one of them says it
                        self.assertIn(name, said)
                        self.assertIn("started 2 processes", said)
                        self.assertIn("srun --mpi=pmix", said)
                    else:
                        self.assertEqual(said, "")

    def test_processes_that_mpi_does_not_join_are_refused(self):
        ended = self.ask(environment={"PMIX_RANK": "1"})  # no server of PMIx is there
        self.assertEqual((ended.status, ended.stdout), (USAGE, ""), ended)

    def test_the_memory_limit_of_the_own_nested_group_counts(self):
        with memory_group(256 << 20) as group:
            if group is None:
                self.skipTest("no group of cgroup version 1 can be made here")

            def run(*more):
                command = [SLUICE, "generate", "--quiet", "--model", str(DEMO_MODEL), "--device", "cpu",
                           "--prompt", QUESTION, *map(str, more)]
                done = subprocess.run(
                    command, cwd=self.scratch, env=ENVIRONMENT, capture_output=True, text=True,
                    check=False, timeout=60, stdin=subprocess.DEVNULL,
                    preexec_fn=lambda: (group / "cgroup.procs").write_text(str(os.getpid())))
                return Ended(done.returncode, done.stdout, done.stderr, 0)

            self.assertEqual(run("--max-new-tokens", 3).status, DONE)
            # Beyond the limit, the kernel would kill it.
            ended = run("--gpu-batch-size", 512, "--num-gpu-batches", 16, "--max-new-tokens", 200)
            self.assertEqual(ended.status, NO_SPACE, ended)
            said = " ".join(ended.said())
            self.assertIn("left by the memory limit of their control group", said)
            self.assertIn(group.name, said)
            self.assertIn("budget.host", said)


if __name__ == "__main__":
    unittest.main()
