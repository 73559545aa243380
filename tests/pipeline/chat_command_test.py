"""`sluice chat`: a conversation over pipes, over two ranks, and at a terminal with its keys."""

import os
import pty
import select
import subprocess
import time
import unittest

from job_support import (BAD_INPUT, DEMO_MODEL, DEVICE, DONE, ENVIRONMENT, MAX_SECONDS, SLUICE, STOPPED,
                         USAGE)
from serve_support import ServeTest

GREEDY = ["--temperature", 0, "--stop", "\\n", "--quiet"]
CTRL_C, CTRL_D, BACKSPACE, UP = b"\x03", b"\x04", b"\x7f", b"\x1b[A"


def said(*turns):
    """Messages, in turn the person's and the model's."""
    return [{"role": ("user", "assistant")[i % 2], "content": turn} for i, turn in enumerate(turns)]


class Terminal:
    """The program with a terminal of its own, and what it has written there."""

    def __init__(self, test, *arguments):
        self.master, slave = pty.openpty()
        command = [SLUICE, "chat", "--device", DEVICE, *map(str, arguments)]
        self.process = subprocess.Popen(command, cwd=test.scratch, stdin=slave, stdout=slave,
                                        stderr=subprocess.DEVNULL,
                                        env=ENVIRONMENT | {"TERM": "xterm", "LC_ALL": "C.UTF-8"})
        os.close(slave)
        self.written = b""
        test.addCleanup(os.close, self.master)
        test.addCleanup(self.process.wait)
        test.addCleanup(self.process.kill)

    def type(self, keys):
        self.written = b""
        os.write(self.master, keys)

    def read_until(self, holds):
        deadline = time.monotonic() + MAX_SECONDS
        while not holds(self.written):
            assert time.monotonic() < deadline, self.written
            if not select.select([self.master], [], [], 1)[0]:
                continue
            try:
                self.written += os.read(self.master, 4096)
            except OSError as end:  # the program has closed its side
                raise AssertionError(f"it has ended: {self.written}") from end

    def wait_for_prompt(self):
        self.read_until(lambda written: written.rstrip().endswith(b">"))


class ChatCommandTest(ServeTest):
    def setUp(self):
        super().setUp()
        self.model = self.chat_model()
        self.saved = self.scratch / "chat.json"

    def talk(self, *lines, ranks=0, arguments=(), status=DONE):
        ended = self.run_job("chat", "--model", self.model, "--device", DEVICE, *GREEDY, *arguments,
                             ranks=ranks, text="".join(line + "\n" for line in lines))
        self.assertEqual(ended.status, status, ended)
        self.assert_no_crash(ended)
        return ended

    def test_turns_are_answered_in_their_conversation(self):
        for ranks in (0, 2):
            ended = self.talk("What is 7 plus 8?", "", "What is 20 minus 6?", "/save chat.json",
                              "/reset", "What is 7 plus 8?", "/save again.json", "/quit", "unread",
                              ranks=ranks)
            self.assertEqual(ended.stdout.split("\n")[0].strip(), "15")
            messages = self.read_json(self.saved)["messages"]
            self.assertEqual(messages[:3], said("What is 7 plus 8?", " 15", "What is 20 minus 6?"))
            self.assertEqual(len(messages), 4)
            self.assertEqual(self.read_json(self.scratch / "again.json")["messages"],
                             said("What is 7 plus 8?", " 15"))

    def test_the_system_speaks_first(self):
        persona = self.write("persona.txt", "Count.\n")
        for flags in (["--system", "Count."], ["--persona", persona]):
            self.talk("/save chat.json", "/system Rhyme. Now.", "/save again.json", "/system",
                      "/save third.json", arguments=flags)
            first = [{"role": "system", "content": "Count."}]
            self.assertEqual(self.read_json(self.saved)["messages"], first)
            self.assertEqual(self.read_json(self.scratch / "again.json")["messages"],
                             [{"role": "system", "content": "Rhyme. Now."}])
            self.assertEqual(self.read_json(self.scratch / "third.json")["messages"], [])

    def test_what_cannot_be_answered_is_said_and_forgotten(self):
        ended = self.talk("word " * 400, "/dance", f"/save {self.scratch}/none/x", "/save chat.json",
                          "What is 7 plus 8?")
        for word in ("/reset begins anew", "no command /dance", "cannot be written", " 15"):
            self.assertIn(word, ended.stdout)
        self.assertEqual(self.read_json(self.saved)["messages"], [])

    def test_what_is_wrong_is_refused_at_once(self):
        ended = self.run_job("chat", "--model", DEMO_MODEL, "--device", DEVICE)
        self.assert_refused(ended, BAD_INPUT, "template")
        ended = self.run_job("chat", "--model", self.model, "--device", DEVICE, "--persona", "none")
        self.assert_refused(ended, BAD_INPUT, "--persona")
        ended = self.run_job("chat", "--model", self.model, "--system", "a", "--persona", "b")
        self.assert_refused(ended, USAGE, "--persona")

    def test_a_chat_that_waits_for_its_person_stops_when_asked(self):
        terminal = Terminal(self, "--model", self.model, *GREEDY)
        terminal.wait_for_prompt()
        terminal.process.terminate()
        self.assertEqual(terminal.process.wait(MAX_SECONDS), STOPPED)

    def test_keys_at_a_terminal(self):
        terminal = Terminal(self, "--model", self.model, "--temperature", 0, "--ignore-eos",
                            "--quiet", *self.slow())
        terminal.wait_for_prompt()
        terminal.type("What is 7 plus ä".encode() + BACKSPACE + b"8?\r")
        terminal.read_until(lambda written: b"15" in written)
        terminal.type(CTRL_C)  # the answer would go on for 200 tokens
        terminal.wait_for_prompt()
        terminal.type(b"nonsense" + CTRL_C + b"/save chat.json\r")
        terminal.read_until(lambda written: b"messages are in" in written)
        terminal.wait_for_prompt()
        messages = self.read_json(self.saved)["messages"]
        self.assertEqual(messages[0]["content"], "What is 7 plus 8?")
        self.assertTrue(messages[1]["content"].startswith(" 15"))
        terminal.type(UP + BACKSPACE * 4 + b"txt\r")
        terminal.read_until(lambda written: b"chat.txt" in written and b"messages are in" in written)
        terminal.wait_for_prompt()
        terminal.type(CTRL_D)
        self.assertEqual(terminal.process.wait(MAX_SECONDS), DONE)


if __name__ == "__main__":
    unittest.main()
