"""A Slurm for tests, of its own: munge, a controller, and a daemon for each of five nodes on this host.

Four nodes (n1 to n4) have one GPU each, and one (g1) has four; null devices stand for the GPUs.
A test file is run as tests/pipeline/job_support.py says, and starts one cluster for all its tests.
"""

import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "pipeline"))

from job_support import ENVIRONMENT, MAX_SECONDS, SLUICE, SOURCE, JobTest, is_running

NODES = ("n1", "n2", "n3", "n4", "g1")
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
SelectTypeParameters=CR_CPU_Memory
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
MpiDefault=none
GresTypes=gpu
SlurmdTimeout=15
MinJobAge=86400
MessageTimeout=10
KillWait=5
NodeName=n[1-4] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{first}-{fourth}] CPUs=2 RealMemory=4000 Gres=gpu:1
NodeName=g1 NodeHostname={host} NodeAddr=127.0.0.1 Port={last} CPUs=4 RealMemory=4000 Gres=gpu:4 Weight=9
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=10
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=9 PreemptMode=OFF
"""
GPUS = """NodeName=n[1-4] Name=gpu File={folder}/gpu0
NodeName=g1 Name=gpu File={folder}/gpu[0-3]
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


def environment_of(pid):
    try:
        with open(f"/proc/{pid}/environ", "rb") as environ:
            return dict(entry.partition("=")[::2] for entry in
                        environ.read().decode(errors="replace").split("\0"))
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return {}


def has_open(pid, path):
    try:
        return str(path) in [os.readlink(f"/proc/{pid}/fd/{name}")
                             for name in os.listdir(f"/proc/{pid}/fd")]
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False


def pids():
    return [int(folder.name) for folder in os.scandir("/proc") if folder.name.isdigit()]


class Cluster:
    """Everything of it lies in one folder, so several clusters can be on a host. Root only."""

    def __init__(self):
        for program in ("slurmctld", "slurmd", "srun", "munged", "mpirun"):
            if shutil.which(program) is None and not pathlib.Path("/usr/sbin", program).exists():
                raise unittest.SkipTest(f"{program} is not installed; scripts/setup installs it")
        if os.geteuid() != 0:
            raise unittest.SkipTest("only root may start a Slurm of its own")
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="sluice-slurm-", dir="/run"))
        self.daemons = {}
        first = free_ports(len(NODES) + 1)
        places = {"folder": self.folder, "host": socket.gethostname(), "controller": first,
                  "first": first + 1, "fourth": first + 4, "last": first + 5}
        for name in ("state", *NODES, *(f"{node}.tmp" for node in NODES)):
            (self.folder / name).mkdir()
        (self.folder / "key").write_bytes(os.urandom(128))
        (self.folder / "key").chmod(0o400)
        (self.folder / "slurm.conf").write_text(CONFIG.format(**places), encoding="utf-8")
        (self.folder / "gres.conf").write_text(GPUS.format(**places), encoding="utf-8")
        self.environment = ENVIRONMENT | {"SLURM_CONF": str(self.folder / "slurm.conf"),
                                          "PATH": os.environ["PATH"] + ":/usr/sbin"}

    def start(self):
        try:
            for number in range(4):
                os.mknod(self.folder / f"gpu{number}", 0o666 | 0o020000, os.makedev(1, 3))
        except PermissionError:
            raise unittest.SkipTest("no devices can be made here") from None
        self.daemon("munged", "--foreground", "--force", "--num-threads=1",
                    *(f"--{what}={self.folder}/{file}" for what, file in (
                        ("key-file", "key"), ("log-file", "munged.log"), ("pid-file", "munged.pid"),
                        ("seed-file", "munged.seed"), ("socket", "munge.socket"))))
        self.wait_for(lambda: (self.folder / "munge.socket").exists(), "munge")
        self.daemon("slurmctld", "-D")
        for node in NODES:
            self.start_node(node)
        self.wait_until_idle(unittest.SkipTest)

    def start_node(self, node):
        self.daemon("slurmd", "-D", "-N", node, name=node)

    def wait_until_idle(self, otherwise=AssertionError):
        self.wait_for(lambda: self.run("sinfo", "-h", "-t", "idle", "-p", "main", "-o", "%D")
                      .stdout.split() == [str(len(NODES))], f"{len(NODES)} idle nodes", otherwise)

    def daemon(self, *command, name=None):
        self.daemons[name or command[0]] = subprocess.Popen(
            command, env=self.environment, cwd=self.folder, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def wait_for(self, is_there, what, otherwise=unittest.SkipTest):
        """A Slurm that does not get up cannot be started here: its tests are skipped."""
        deadline = time.monotonic() + MAX_SECONDS
        while not is_there():
            if time.monotonic() > deadline:
                raise otherwise(f"this Slurm does not come to {what}")
            time.sleep(0.05)

    def run(self, *command, folder=None, environment=None):
        return subprocess.run([*map(str, command)], env=self.environment | (environment or {}),
                              cwd=folder or self.folder, text=True, capture_output=True, check=False,
                              timeout=MAX_SECONDS, stdin=subprocess.DEVNULL)

    def processes(self, **variables):
        """pid -> environment of the processes that this cluster's jobs started."""
        found = {pid: environment_of(pid) for pid in pids()}
        wanted = {"SLURM_CONF": self.environment["SLURM_CONF"]} | variables
        return {pid: environment for pid, environment in found.items()
                if wanted.items() <= environment.items() and is_running(pid)}

    def lose_node(self, node):
        """As if its power had gone: its daemon, its jobs' daemons and their processes are no more."""
        self.daemons[node].kill()
        self.daemons[node].wait()
        log = self.folder / f"{node}.log"
        for pid in [*self.processes(SLURMD_NODENAME=node),
                    *(pid for pid in pids() if has_open(pid, log))]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def stop(self):
        for daemon in reversed(self.daemons.values()):
            daemon.terminate()
        for daemon in reversed(self.daemons.values()):
            try:
                daemon.wait(MAX_SECONDS)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


class Job:
    """A job that sbatch took; its output goes to `log`."""

    def __init__(self, cluster, number, log):
        self.cluster = cluster
        self.number = number
        self.log_path = log

    def fields(self):
        """What `scontrol show job` says, by its names."""
        said = self.cluster.run("scontrol", "-o", "show", "job", self.number)
        return dict(re.findall(r"(\w+)=(\S*)", said.stdout))

    def log(self):
        return self.log_path.read_text(encoding="utf-8", errors="replace") \
            if self.log_path.exists() else ""

    def wait_until(self, is_so, what):
        """AssertionError where it does not come. A requeued job, which Slurm would keep for two
        minutes, is let go soon. (Not at once: nodes refuse a job in the second that they ended it.)"""
        deadline = time.monotonic() + MAX_SECONDS
        let_go = None
        while True:
            fields = self.fields()
            if is_so(fields):
                return fields
            if time.monotonic() > deadline:
                raise AssertionError(f"job {self.number} does not come to {what}: {fields}\n"
                                     f"{self.log()}")
            if fields.get("Reason") == "BeginTime" and let_go != fields["Restarts"]:
                let_go = fields["Restarts"]
                self.cluster.run("scontrol", "update", f"JobId={self.number}", "StartTime=now+2")
            time.sleep(0.1)

    def wait_for_state(self, *states):
        return self.wait_until(lambda fields: fields.get("JobState") in states, " or ".join(states))

    def end(self):
        return self.wait_for_state("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL",
                                   "PREEMPTED", "OUT_OF_MEMORY")

    def ranks(self):
        """rank -> pid"""
        return {int(environment["PMIX_RANK"]): pid for pid, environment in
                self.cluster.processes(SLURM_JOB_ID=str(self.number)).items()
                if environment.get("PMIX_RANK", "").isdigit()
                and os.path.basename(os.readlink(f"/proc/{pid}/exe")) == "sluice"}


class ClusterTest(JobTest):
    """Each test's scratch folder looks like a checkout in which sluice was built."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.cluster = Cluster()
        cls.addClassCleanup(cls.cluster.stop)
        cls.cluster.start()

    def setUp(self):
        super().setUp()
        (self.scratch / "build").mkdir()
        (self.scratch / "build/sluice").symlink_to(SLUICE)
        for name in ("cluster-configs", "models", "scripts"):
            (self.scratch / name).symlink_to(SOURCE / name)
        self.addCleanup(self.cluster.wait_until_idle)
        self.addCleanup(self.cluster.run, "scancel", "--me")

    def submit(self, script, *arguments, flags=(), environment=None):
        """Hands cluster-configs/SCRIPT to sbatch from the scratch folder."""
        log = self.scratch / "slurm-%A.log"
        sent = self.cluster.run("sbatch", "--parsable", "--output", log, *flags,
                                f"cluster-configs/{script}", *arguments, folder=self.scratch,
                                environment=environment)
        self.assertEqual((sent.returncode, sent.stderr), (0, ""), sent)
        number = int(sent.stdout)
        return Job(self.cluster, number, self.scratch / f"slurm-{number}.log")
