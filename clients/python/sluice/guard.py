"""A process between a program and the server that it started: the server ends when the program does.

    python guard.py COMMAND...

The program holds the other end of standard input. When that closes, by whatever end of the program, or when
SIGTERM comes, the command gets SIGTERM; what still runs after END_SECONDS is killed. The status is the command's.
"""

import os
import signal
import subprocess
import sys
import threading

END_SECONDS = 45  # a server gives the answers under way 30


def main() -> int:
    child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
    lock = threading.Lock()
    told = []

    def end(*_):
        with lock:
            if told:
                return
            told.append(True)
        child.terminate()
        killer = threading.Timer(END_SECONDS, child.kill)
        killer.daemon = True
        killer.start()

    def watch():
        while os.read(0, 4096):
            pass
        end()

    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=end, daemon=True).start())
    threading.Thread(target=watch, daemon=True).start()
    status = child.wait()
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    os._exit(main())  # its threads wait for ever
