"""Hosts for tests of whole jobs: each is a network namespace with a name and /dev/shm of its own, on a switch
with links of 1 Gbit/s. mpirun starts ranks on them by a script that takes the place of ssh.

A test file is run as: python3 x_test.py SLUICE SOURCE_FOLDER [unittest's own arguments]
"""

import itertools
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import unittest

import sandbox

sandbox.enter()
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "pipeline"))
from job_support import ENVIRONMENT, SLUICE, JobTest, Running  # noqa: E402

NAMES = ("h1", "h2", "h3", "h4")
NETWORK = "10.77.0"
LINK_BYTES_PER_SECOND = 1e9 / 8
LINK = ("tbf", "rate", "1gbit", "burst", "256kb", "latency", "50ms")
PORTS = itertools.count(1)  # the kernel takes a while to forget the name of one that has gone
AGENT = """#!/bin/sh
# In the place of ssh: HOST COMMAND... Like ssh, it does not notice that a host has lost its power.
host=$1
shift
nsenter --target "$(cat "{folder}/$host")" --net --uts --ipc --mount sh -c "$*"
status=$?
[ $status -eq 137 ] && exec sleep infinity
exit $status
"""


def call(*command):
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, command))}: {done.stderr.strip()}")


class Host:
    def __init__(self, number, folder):
        self.name = NAMES[number - 1]
        self.address = f"{NETWORK}.{number}"
        self.port = f"port{next(PORTS)}"  # of the switch
        script = (f"hostname {self.name} && mount -t tmpfs tmpfs /dev/shm && ip link set lo up && echo ready && "
                  "exec sleep infinity")
        self.first = subprocess.Popen(  # holds the namespaces
            ["unshare", "--net", "--uts", "--ipc", "--mount", "sh", "-c", script],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if self.first.stdout.readline() != "ready\n":
            raise AssertionError(f"no host: {self.first.communicate()[1]}")
        self.network = os.readlink(f"/proc/{self.first.pid}/ns/net")
        (folder / self.name).write_text(str(self.first.pid), encoding="utf-8")
        call("ip", "link", "add", self.port, "type", "veth", "peer", "name", "eth0", "netns", self.first.pid)
        call("ip", "link", "set", self.port, "master", "switch", "up")
        self.add_interface("eth0", self.address)
        call(*self.entered("tc", "qdisc", "replace", "dev", "eth0", "root", *LINK))

    def add_dead_end(self, name, address):
        """An interface like any other, but what is sent there comes to nobody."""
        port = f"port{next(PORTS)}"
        call("ip", "link", "add", port, "type", "veth", "peer", "name", name, "netns", self.first.pid)
        call("ip", "link", "set", port, "up")
        self.add_interface(name, address)

    def add_interface(self, name, address):
        call(*self.entered("ip", "addr", "add", f"{address}/24", "dev", name))
        call(*self.entered("ip", "link", "set", name, "up"))

    def entered(self, *command, folder=None):
        """`command`, to be run on this host."""
        return ["nsenter", "--target", str(self.first.pid), "--net", "--uts", "--ipc", "--mount",
                "sh", "-c", 'cd "$0" && exec "$@"', str(folder or "/"), *map(str, command)]

    def processes(self):
        """The pids of all that runs on it."""
        pids = []
        for entry in os.scandir("/proc"):
            try:
                if entry.name.isdigit() and os.readlink(f"{entry.path}/ns/net") == self.network:
                    pids.append(int(entry.name))
            except OSError:  # it has ended
                continue
        return pids

    def kill(self, *, all_processes):
        """Kills what runs on it; with all processes the host itself goes, with its interfaces."""
        for pid in self.processes():
            if all_processes or pid != self.first.pid:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
        if all_processes:
            self.first.wait()
            self.first.stdout.close()
            self.first.stderr.close()

    def set_link(self, state):
        call("ip", "link", "set", self.port, state)


class HostsTest(JobTest):
    """Each test has hosts of its own."""

    def make_hosts(self, count):
        folder = pathlib.Path(tempfile.mkdtemp(prefix="hosts-", dir=self.scratch))
        self.agent = folder / "agent"
        self.agent.write_text(AGENT.format(folder=folder), encoding="utf-8")
        self.agent.chmod(0o755)
        call("ip", "link", "add", "switch", "type", "bridge")
        self.addCleanup(call, "ip", "link", "delete", "switch")
        call("ip", "link", "set", "switch", "up")
        self.hosts = []
        for number in range(1, count + 1):
            host = Host(number, folder)
            self.addCleanup(host.kill, all_processes=True)
            self.hosts.append(host)
        return self.hosts

    def start_over(self, hosts, *arguments, settings=None, environment=None, program=SLUICE,
                   ranks_of_host=1, others=()):
        """A job with its mpirun on the first host. `others`: a second program and its arguments, for half of
        the ranks."""
        command = ["mpirun", "--bind-to", "none", "--mca", "plm_rsh_agent", str(self.agent),
                   "-H", ",".join(f"{host.name}:{ranks_of_host}" for host in hosts)]
        for name, value in (settings or {}).items():
            command += ["--mca", name, str(value)]
        ranks = len(hosts) * ranks_of_host
        programs = [[program, *arguments], *([others] if others else [])]
        parts = [["-n", str(ranks // len(programs)), *map(str, one)] for one in programs]
        command += parts[0] if len(parts) == 1 else [*parts[0], ":", *parts[1]]
        return self.start_on(hosts, command, environment)

    def start_launch(self, hosts, *arguments):
        """`sluice launch` on the first host, one rank on each."""
        names = ",".join(f"{host.name}:1" for host in hosts)
        return self.start_on(hosts, [SLUICE, "launch", "-n", str(len(hosts)), "--host", names, *map(str, arguments)],
                             {"OMPI_MCA_plm_rsh_agent": str(self.agent)})

    def start_on(self, hosts, command, environment):
        job = Running(hosts[0].entered(*command, folder=self.scratch), self.scratch,
                      ENVIRONMENT | {"TMPDIR": str(self.scratch)} | (environment or {}), None)
        self.addCleanup(job.out.close)
        self.addCleanup(job.err.close)
        self.addCleanup(self.stop_job, hosts, job)
        return job

    def stop_job(self, hosts, job):
        for host in hosts:
            host.kill(all_processes=False)
        job.process.wait()

    def run_over(self, hosts, *arguments, **options):
        return self.start_over(hosts, *arguments, **options).end()
