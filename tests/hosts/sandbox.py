"""A sandbox of namespaces for tests that make hosts. Everything in it, processes, interfaces and mounts,
is gone when the test's process ends, however it ends: the kernel ends a PID namespace with its first process.
"""

import os
import shutil
import subprocess
import sys

TOOLS = ("ip", "mpirun", "nsenter", "tc", "unshare")
INSIDE = "SLUICE_TEST_SANDBOX"


def skip(reason):
    """Ends the test's process; ctest calls the test skipped."""
    print(f"skipped: {reason}")
    sys.exit(0)


def unshare(*what):
    """A command that runs another one in namespaces of its own; users other than root are root in them."""
    as_root = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return ["unshare", *as_root, *(f"--{name}" for name in what)]


def enter():
    """Runs this program again, inside. Returns there; skips where the machine does not allow it."""
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    if os.environ.get(INSIDE):
        return
    for tool in TOOLS:
        if shutil.which(tool) is None:
            skip(f"{tool} is not installed")
    command = unshare("net", "mount", "pid", "fork", "kill-child", "mount-proc")
    tried = subprocess.run([*command, "true"], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        skip(f"hosts need the right to make namespaces: {tried.stderr.strip()}")
    sys.stdout.flush()
    os.execvpe(command[0], [*command, *sys.orig_argv], os.environ | {INSIDE: "1"})
