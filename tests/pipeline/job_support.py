"""Real jobs for tests: starts sluice or mpirun in a scratch folder, and reads what they leave.

A test file is run as: python3 x_test.py SLUICE SOURCE_FOLDER [unittest's own arguments]
"""

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import unittest

SLUICE = os.path.abspath(sys.argv.pop(1))
SOURCE = pathlib.Path(sys.argv.pop(1)).resolve()
DEMO_MODEL = SOURCE / "models/demo"
REFERENCE = SOURCE / "tests/data/opt-reference"

# Of jobs that name none. Laws about bits and float32 are the CPU's, whatever GPU is there;
# device_job_test.py has what must hold on any device.
DEVICE = os.environ.get("SLUICE_TEST_DEVICE", "cpu")

DONE, FAILURE, USAGE, BAD_INPUT, NO_SPACE, PEER_LOST, ROWS_FAILED = range(7)
STOPPED = 75
MAX_SECONDS = int(os.environ.get("SLUICE_TEST_JOB_SECONDS", 120))  # a job that takes longer hangs

ENVIRONMENT = {
    name: value for name, value in os.environ.items()
    # A test may itself run inside a job, and must see no model cache but its own.
    if not name.startswith(("OMPI_", "PMIX_", "PMI_", "SLURM_", "FLUX_", "PALS_", "JSM_", "MV2_",
                            "MVP_", "HF_")) and name != "TMPDIR"
} | {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "XDG_CACHE_HOME": "/nonexistent",
}

# What a program says that did not end as it should.
CRASH_WORDS = ("terminate called", "Traceback", "core dumped", "Segmentation fault",
               "Assertion", "std::", "nlohmann", "bad_alloc")


@dataclasses.dataclass
class Ended:
    status: int
    stdout: str
    stderr: str
    seconds: float

    def said(self):
        """The lines that sluice wrote as itself, on whichever stream mpirun put them."""
        return [line for line in (self.stdout + self.stderr).splitlines()
                if line.startswith("sluice:")]


def is_running(pid):
    """Zombies and pids of nobody are not."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def parents():
    """pid -> pid of its parent, of all processes."""
    found = {}
    for folder in os.scandir("/proc"):
        if not folder.name.isdigit():
            continue
        try:
            with open(f"{folder.path}/stat", encoding="utf-8") as stat:
                found[int(folder.name)] = int(stat.read().rsplit(")", 1)[1].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def ranks_of(mpirun_pid):
    """rank -> pid of the processes that this mpirun started and that have joined the job."""
    ranks = {}
    for pid, parent in parents().items():
        if parent != mpirun_pid:
            continue
        try:
            with open(f"/proc/{pid}/environ", "rb") as environ:
                variables = dict(entry.partition(b"=")[::2] for entry in environ.read().split(b"\0"))
        except (FileNotFoundError, ProcessLookupError):
            continue
        if b"OMPI_COMM_WORLD_RANK" in variables:
            ranks[int(variables[b"OMPI_COMM_WORLD_RANK"])] = pid
    return ranks


class Running:
    """A job under way. Its output goes to files: nothing it prints can block it."""

    def __init__(self, command, folder, environment, text):
        self.ranks = {}
        self.out = tempfile.TemporaryFile("w+", dir=folder, encoding="utf-8", errors="replace")
        self.err = tempfile.TemporaryFile("w+", dir=folder, encoding="utf-8", errors="replace")
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=self.out, stderr=self.err,
            stdin=subprocess.PIPE if text is not None else subprocess.DEVNULL)
        if text is not None:
            self.process.stdin.write(text.encode())
            self.process.stdin.close()

    def wait_for_lines(self, path, count):
        """Until the job has written so many lines to a file; then its ranks' pids are known."""
        self.wait_for(path, f"{count} lines", lambda file: file.count(b"\n") >= count)

    def wait_for(self, path, what, is_there):
        """The same for anything that can be seen in the bytes of a file."""
        deadline = time.monotonic() + MAX_SECONDS
        while not (path.exists() and is_there(path.read_bytes())):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"no {what} in {path}: {self.end()}")
            time.sleep(0.002)
        self.find_ranks()

    def wait_for_text(self, text):
        """Until the job has printed it."""
        deadline = time.monotonic() + MAX_SECONDS
        while not any(text in printed for printed in self.texts()):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"no '{text}': {self.end()}")
            time.sleep(0.02)

    def find_ranks(self):
        """The ranks' pids, of a job that has begun."""
        self.ranks = ranks_of(self.process.pid)

    def end(self, seconds=MAX_SECONDS):
        """Waits for the end. AssertionError if it does not come."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.stop()
            raise AssertionError(f"still running after {seconds} s: {self.texts()}") from None
        stdout, stderr = self.texts()
        return Ended(self.process.returncode, stdout, stderr, time.monotonic() - self.started)

    def texts(self):
        texts = []
        for file in (self.out, self.err):
            file.seek(0)
            texts.append(file.read())
        return texts

    def stop(self):
        """Ends what still runs of it."""
        if self.process.poll() is None:
            pids = set(ranks_of(self.process.pid).values()) | set(self.ranks.values())
            for pid in [self.process.pid, *filter(is_running, pids)]:
                os.kill(pid, signal.SIGKILL)
            self.process.wait()


class JobTest(unittest.TestCase):
    """Each test has a scratch folder, in which its jobs run, and leaves no process behind."""

    def setUp(self):
        scratch = tempfile.TemporaryDirectory(prefix="sluice-job-")
        self.addCleanup(scratch.cleanup)
        self.scratch = pathlib.Path(scratch.name)

    def start(self, *arguments, ranks=0, text=None, environment=None, program=SLUICE):
        """ranks 0: the program alone, without mpirun."""
        command = [str(program), *map(str, arguments)]
        if command[1:2] in (["generate"], ["score"], ["serve"]) and "--device" not in command:
            command += ["--device", DEVICE]
        if ranks:
            command = ["mpirun", "--bind-to", "none", "-n", str(ranks), *command]
        job = Running(command, self.scratch, ENVIRONMENT | (environment or {}), text)
        self.addCleanup(job.out.close)
        self.addCleanup(job.err.close)
        self.addCleanup(job.stop)
        return job

    def run_job(self, *arguments, **options):
        return self.start(*arguments, **options).end()

    def generate(self, model, *arguments, status=DONE, **options):
        """Runs `sluice generate --quiet`; checks its status and that it did not crash."""
        ended = self.run_job("generate", "--model", model, "--quiet", *arguments, **options)
        self.assertEqual(ended.status, status, ended)
        self.assert_no_crash(ended)
        return ended

    def assert_no_crash(self, ended):
        self.assertGreaterEqual(ended.status, 0, ended)
        for word in CRASH_WORDS:
            self.assertNotIn(word, ended.stdout + ended.stderr)

    def assert_refused(self, ended, status, *patterns, seconds=5.0):
        """Ended soon, with one sentence that says all of `patterns`."""
        self.assertEqual(ended.status, status, ended)
        self.assert_no_crash(ended)
        self.assertEqual(len(ended.said()), 1, ended)
        for pattern in patterns:
            self.assertRegex(ended.said()[0], pattern)
        self.assertLess(ended.seconds, seconds, ended)

    def small_disk(self, size):
        """A folder on a disk of so many bytes; skips where we may not mount one."""
        folder = self.scratch / "disk"
        folder.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder],
                                 capture_output=True, text=True, check=False)
        if mounted.returncode != 0:
            self.skipTest(f"cannot mount a small disk: {mounted.stderr.strip()}")
        self.addCleanup(subprocess.run, ["umount", "-l", folder], check=True)
        return folder

    def remove_output(self, path):
        """With the journal that a killed job left beside it."""
        path.unlink(missing_ok=True)
        path.with_name(path.name + ".journal").unlink(missing_ok=True)

    def write(self, name, text):
        path = self.scratch / name
        path.write_text(text, encoding="utf-8")
        return path

    def write_rows(self, name, rows):
        return self.write(name, "".join(json.dumps(row) + "\n" for row in rows))

    def records(self, path):
        """custom_id -> record. Every line is one whole record, and no custom_id comes twice."""
        text = path.read_text(encoding="utf-8")
        self.assertTrue(text == "" or text.endswith("\n"), "the last line is torn")
        records = [json.loads(line) for line in text.splitlines()]
        by_id = {record["custom_id"]: record for record in records}
        self.assertEqual(len(by_id), len(records), "a custom_id was answered twice")
        return by_id

    def read_json(self, path):
        return json.loads(path.read_text(encoding="utf-8"))


def percent(*values):
    return ["--percent", *map(str, values)]
