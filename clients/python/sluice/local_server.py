"""A server of this machine, which lives as long as its owner."""

from __future__ import annotations

import collections
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from typing import Any, Deque, List, Mapping, Optional, Sequence, Union

from sluice.connection import Connection
from sluice.errors import ServerError

GUARD = pathlib.Path(__file__).with_name("guard.py")
KEPT_LINES = 200


def find_program(program: Union[str, os.PathLike, None] = None) -> str:
    """The sluice program: `program`, else what the variable SLUICE says, else `sluice` of PATH."""
    wanted = os.fspath(program or os.environ.get("SLUICE") or "sluice")
    found = shutil.which(wanted)
    if found is None:
        raise ServerError(f"{wanted}: no such program; give program=, set SLUICE, or put sluice into PATH")
    return os.path.abspath(found)


def flags_of(policy: Optional[Mapping[str, Any]]) -> List[str]:
    """Flags of `sluice serve`: {"percent": (20, 80, 0, 100, 100, 0), "compress_weight": True, "lora": {"a": "dir"}}.

    True stands for the flag alone; False and None leave it out; a list is several words behind the flag; an
    object gives the flag once for each member, as NAME=VALUE.
    """
    words: List[str] = []
    for name, value in (policy or {}).items():
        flag = "--" + name.replace("_", "-")
        if value is None or value is False:
            continue
        if isinstance(value, Mapping):
            for key, one in value.items():
                words += [flag, f"{key}={os.fspath(one)}"]
        elif value is True:
            words.append(flag)
        elif isinstance(value, Sequence) and not isinstance(value, str):
            words += [flag, *map(str, value)]
        else:
            words += [flag, str(value)]
    return words


class LocalServer:
    """`sluice serve` on a free port of the loopback. Ready when the constructor returns.

    ranks: stages, each a process, started by `sluice launch`. policy: see flags_of(). verbose: what the
    server says goes to standard error. Throws ServerError with the server's own words where it does not start.
    The server ends with close(), with this object, and with this process, however that ends.
    """

    def __init__(self, model: Union[str, os.PathLike], ranks: int = 1,
                 policy: Optional[Mapping[str, Any]] = None,
                 program: Union[str, os.PathLike, None] = None, verbose: bool = False):
        command = [find_program(program)]
        if ranks > 1:
            command += ["launch", "-n", str(ranks), "--max-restarts", "0"]
        self._files = tempfile.TemporaryDirectory(prefix="sluice-files-")
        policy = {"files_dir": self._files.name,
                  **{name.replace("-", "_"): value for name, value in (policy or {}).items()}}
        command += ["serve", "--model", os.fspath(model), "--port", "0", *flags_of(policy)]
        self._lines: Deque[str] = collections.deque(maxlen=KEPT_LINES)
        self._verbose = verbose
        self._has_address = threading.Event()
        self.url = ""
        self._process = subprocess.Popen(
            [sys.executable, str(GUARD), *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, start_new_session=True)  # a terminal's Ctrl-C is the program's
        self._end = weakref.finalize(self, _end, self._process, self._files)
        self._reader = threading.Thread(target=_read, args=(weakref.ref(self), self._process.stdout),
                                        daemon=True)
        self._reader.start()
        try:
            self._wait()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Ends the server. Answers under way are completed first, for 30 s at most."""
        self._end()

    def last_words(self, seconds: float = 0) -> str:
        """How the server ended, and what it said last; empty: it runs, and does not end within `seconds`."""
        try:
            status = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return ""
        self._reader.join(5)
        own = [line for line in self._lines if line.startswith("sluice: ")]
        causes = [line for line in own if not line.startswith("sluice: launch: ")]
        words = causes or own or list(self._lines) or ["it said nothing"]
        return f"the server has ended with status {status}: {words[-1].replace('sluice: ', '', 1)}"

    def _wait(self) -> None:
        """Until it has loaded its model."""
        while not self._has_address.wait(0.05):
            self._check()
        connection = Connection(self.url, timeout=60)
        while not connection.is_ready():
            self._check()
            time.sleep(0.02)

    def _check(self) -> None:
        words = self.last_words()
        if words:
            raise ServerError(words, self._process.returncode)

    def _take(self, line: str) -> None:
        self._lines.append(line)
        if self._verbose:
            print(line, file=sys.stderr)
        match = re.match(r"sluice: listening on (http://\S+)", line)
        if match and not self.url:
            self.url = match.group(1)
            self._has_address.set()


def _read(owner: weakref.ref, lines) -> None:
    """Everything the server says, so that it never waits for a reader."""
    for line in lines:
        server = owner()
        if server is not None:
            server._take(line.decode(errors="replace").rstrip("\r\n"))
        del server
    lines.close()


def _end(process: subprocess.Popen, files: tempfile.TemporaryDirectory) -> None:
    if process.stdin is not None:
        process.stdin.close()  # the guard's sign
    if process.poll() is None:
        process.terminate()  # ... which a fork of this process may hold back
    process.wait()
    files.cleanup()
