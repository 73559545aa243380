"""A job on one host listens on no address that other hosts can reach: neither a process without mpirun, nor
ranks. mpirun itself does, for helpers on other hosts; Open MPI has no setting against it.
"""

import pathlib
import re
import shutil
import subprocess
import sys
import unittest

import sandbox

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "pipeline"))
from job_support import DEMO_MODEL, JobTest  # noqa: E402

LOOPBACK = ("127.", "[::1]", "[::ffff:127.")


def sockets():
    """pid -> the addresses that it listens on, of the processes that this user may look into."""
    listed = subprocess.run(["ss", "-ltnpH"], capture_output=True, text=True, check=True).stdout
    found = {}
    for line in listed.splitlines():
        address = line.split()[3]
        for pid in re.findall(r"pid=(\d+)", line):
            found.setdefault(int(pid), []).append(address)
    return found


class ListeningTest(JobTest):
    def start_job(self, **options):
        """A job that runs until the test ends it."""
        rows = self.write_rows("rows.jsonl", [
            {"custom_id": f"{i}", "prompt": "Question:", "max_tokens": 200, "ignore_eos": True}
            for i in range(20000)])
        output = self.scratch / "output.jsonl"
        job = self.start("generate", "--quiet", "--model", DEMO_MODEL, "--input", rows, "--output", output,
                         **options)
        job.wait_for_lines(output, 1)
        return job

    def test_a_process_without_mpirun_listens_nowhere(self):
        job = self.start_job()
        self.assertNotIn(job.process.pid, sockets())

    def test_ranks_of_one_host_listen_nowhere(self):
        job = self.start_job(ranks=2)
        found = sockets()
        for rank, pid in job.ranks.items():
            self.assertNotIn(pid, found, f"rank {rank} listens on {found.get(pid)}")
        outside = [address for address in found.get(job.process.pid, [])
                   if not address.startswith(LOOPBACK)]
        print(f"mpirun listens on {outside}: for its helpers on other hosts, whether there are any or not")

    def test_what_the_user_sets_for_mpi_stays(self):
        job = self.start_job(ranks=2, environment={"OMPI_MCA_btl": "self,vader,tcp"})
        found = sockets()
        for pid in job.ranks.values():
            self.assertIn(pid, found)


if __name__ == "__main__":
    if shutil.which("ss") is None:
        sandbox.skip("ss is not installed")
    unittest.main()
