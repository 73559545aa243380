"""Jobs under a real Slurm of four nodes on this host, which the test starts for itself and ends: what
srun, sbatch and mpirun inside them start is one job, a lone process, or refused. Skips where Slurm
or munge is not installed, or where this user may not start them.
"""

import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import time
import unittest

from job_support import DEMO_MODEL, DONE, ENVIRONMENT, SLUICE, USAGE

QUESTION = "Question: What is the capital of France?\nAnswer:"
NODES = ("n1", "n2", "n3", "n4")
MAX_SECONDS = 60
CONFIG = """ClusterName=sluice
SlurmctldHost={host}
SlurmctldPort={controller}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
TmpFS={folder}/%n.tmp
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
MpiDefault=none
NodeName=n[1-4] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{first}-{last}] CPUs=2 RealMemory=4000
PartitionName=main Nodes=n[1-4] Default=YES MaxTime=INFINITE State=UP
"""


def free_ports(count):
    """So many ports in a row that nobody listens on."""
    for first in range(20000 + os.getpid() % 10000, 60000, count):
        sockets = []
        try:
            for port in range(first, first + count):
                sockets.append(socket.create_server(("", port)))
            return first
        except OSError:
            continue
        finally:
            for one in sockets:
                one.close()
    raise unittest.SkipTest("no ports are free")


class Slurm:
    """A controller, a daemon for each node, and munge, in a folder of their own."""

    def __init__(self):
        for program in ("slurmctld", "slurmd", "srun", "munged", "mpirun"):
            if shutil.which(program) is None and not pathlib.Path("/usr/sbin", program).exists():
                raise unittest.SkipTest(f"{program} is not installed")
        if os.geteuid() != 0:
            raise unittest.SkipTest("only root may start a Slurm of its own")
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="sluice-slurm-", dir="/run"))
        self.daemons = []
        first = free_ports(len(NODES) + 1)
        for name in ("state", *NODES, *(f"{node}.tmp" for node in NODES)):
            (self.folder / name).mkdir()
        (self.folder / "key").write_bytes(os.urandom(128))
        (self.folder / "key").chmod(0o400)
        (self.folder / "slurm.conf").write_text(CONFIG.format(
            host=socket.gethostname(), folder=self.folder, controller=first, first=first + 1,
            last=first + len(NODES)), encoding="utf-8")
        self.environment = ENVIRONMENT | {"SLURM_CONF": str(self.folder / "slurm.conf"),
                                          "PATH": os.environ["PATH"] + ":/usr/sbin"}

    def start(self):
        self.daemon("munged", "--foreground", "--force", "--num-threads=1",
                    *(f"--{what}={self.folder}/{file}" for what, file in (
                        ("key-file", "key"), ("log-file", "munged.log"), ("pid-file", "munged.pid"),
                        ("seed-file", "munged.seed"), ("socket", "munge.socket"))))
        self.wait_for(lambda: (self.folder / "munge.socket").exists(), "munge")
        self.daemon("slurmctld", "-D")
        for node in NODES:
            self.daemon("slurmd", "-D", "-N", node)
        self.wait_for(lambda: self.run("sinfo", "-h", "-t", "idle", "-o", "%D").stdout.strip() == "4",
                      "four idle nodes")

    def daemon(self, *command):
        self.daemons.append(subprocess.Popen(
            command, env=self.environment, cwd=self.folder, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))

    def wait_for(self, is_there, what):
        deadline = time.monotonic() + MAX_SECONDS
        while not is_there():
            if time.monotonic() > deadline:
                raise unittest.SkipTest(f"this Slurm does not come to {what}")
            time.sleep(0.05)

    def run(self, *command):
        return subprocess.run([*map(str, command)], env=self.environment, cwd=self.folder, text=True,
                              capture_output=True, check=False, timeout=MAX_SECONDS,
                              stdin=subprocess.DEVNULL)

    def stop(self):
        for daemon in reversed(self.daemons):
            daemon.terminate()
        for daemon in reversed(self.daemons):
            try:
                daemon.wait(MAX_SECONDS)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


class SlurmTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.slurm = Slurm()
        cls.addClassCleanup(cls.slurm.stop)
        cls.slurm.start()

    def ask(self, *launcher):
        return self.slurm.run(*launcher, SLUICE, "generate", "--quiet", "--device", "cpu", "--model",
                              DEMO_MODEL, "--max-new-tokens", 3, "--prompt", QUESTION)

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
