"""Steps of a long benchmark, each with a time limit; what was measured before one fails is kept."""
import contextlib
import ctypes
import json
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import time


class StepFailed(Exception):
    pass


LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1


def end_with_parent():
    """For preexec_fn: a child in a session of its own would keep the GPU when this program is
    killed."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Steps:
    """Writes OUT/NAME.jsonl, a line per figure as it comes, and OUT/NAME.log, all that was run."""

    def __init__(self, out, name, minutes):
        self.out = pathlib.Path(out)
        self.out.mkdir(parents=True, exist_ok=True)
        self.log = open(self.out / f"{name}.log", "a")
        self.figures = open(self.out / f"{name}.jsonl", "a")
        self.end = time.monotonic() + 60 * minutes
        self.begin = time.monotonic()
        self.common = {}  # members of every figure

    def left(self) -> float:
        return self.end - time.monotonic()

    def note(self, text):
        line = f"[{time.monotonic() - self.begin:6.1f} s] {text}"
        print(line, flush=True)
        print(line, file=self.log, flush=True)

    def run(self, command, seconds, environment=None) -> str:
        """Its standard output, of which nothing is lost where it fails half-way: see StepFailed."""
        command = [str(word) for word in command]
        seconds = min(seconds, self.left())
        print(f"$ {shlex.join(command)}", file=self.log, flush=True)
        if seconds <= 0:
            raise StepFailed("no time left")
        said = self.log.tell()
        try:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log, text=True,
                                       stdin=subprocess.DEVNULL, start_new_session=True,
                                       preexec_fn=end_with_parent,
                                       env=os.environ | (environment or {}))
        except OSError as error:
            raise StepFailed(str(error)) from error
        why = ""
        try:
            stdout, _ = process.communicate(timeout=seconds)
            if process.returncode != 0:
                why = f"{os.path.basename(command[0])} ended with status {process.returncode}"
        except subprocess.TimeoutExpired:
            why = f"{os.path.basename(command[0])} was still running after {seconds:.0f} s"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # what it left behind, too
        if why:
            stdout, _ = process.communicate()
        print(stdout, file=self.log, flush=True)
        if why:
            failed = StepFailed(f"{why}: {self.last_words(said)}")
            failed.stdout = stdout
            raise failed
        return stdout

    def last_words(self, since) -> str:
        """The last line that a program wrote to the log."""
        with open(self.log.name, errors="replace") as log:
            log.seek(since)
            lines = log.read().split("\n\n", 1)[0].strip().splitlines()
        return lines[-1][:300] if lines else "it said nothing"

    def lines(self, command, seconds, environment=None):
        """(JSON objects of its output, why it failed or None)."""
        why = None
        try:
            stdout = self.run(command, seconds, environment)
        except StepFailed as error:
            stdout, why = getattr(error, "stdout", ""), str(error)
        objects = []
        for line in stdout.splitlines():
            if line.startswith("{"):
                with contextlib.suppress(json.JSONDecodeError):  # the last one may be torn
                    objects.append(json.loads(line))
        return objects, why

    def figure(self, figure):
        """A row on standard output, the whole in the file."""
        print(json.dumps(figure | self.common), file=self.figures, flush=True)
        text = f"{figure['name']:>44} {figure['value'] or 0:12.4f} {figure.get('unit', ''):<9}"
        for key in ("ratio", "goal", "of_bound", "goal_of_bound"):
            if figure.get(key) is not None:
                text += f"  {key} {figure[key]:.3g}"
        print(text, flush=True)

    def failed(self, name, why):
        self.note(f"{name}: not measured: {why}")
        line = {"name": name, "value": None, "failed": str(why)} | self.common
        print(json.dumps(line), file=self.figures, flush=True)


def clean_exit_on_terminate():
    """So that `finally` clauses run, which stop what was started."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
