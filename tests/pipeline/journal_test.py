"""Jobs that are killed in the middle of their answers: --resume goes on behind the tokens that the
journal has, and the output is that of a job that nobody disturbed.
"""

import json
import os
import pathlib
import shutil
import signal
import struct
import time
import unittest

from job_support import (BAD_INPUT, DEMO_MODEL, DONE, REFERENCE, ROWS_FAILED, STOPPED, USAGE, JobTest,
                         is_running, percent)

TOKENS = 100
# Each pass streams the weights over a slow link, so that a job is in its answers for seconds.
SLOW = "stage_defaults:\n  link:\n    host_to_device_gbps: 0.3\n"
QUESTION = "Question: What is {} plus {}?\nAnswer:"


def rows():
    """Every way in which tokens are chosen and answers end."""
    made = []
    for i in range(24):
        row = {"custom_id": f"row {i}", "max_tokens": TOKENS, "ignore_eos": True,
               "prompt": QUESTION.format(i, i * 7 % 13)}
        # Left alone the model ends its answers soon, and says nothing after that.
        row |= ({"repetition_penalty": 8},
                {"temperature": 3, "top_p": 0.95, "repetition_penalty": 4},
                {"temperature": 3, "top_k": 50, "seed": i, "logprobs": 3, "echo": True,
                 "repetition_penalty": 4},
                {"repetition_penalty": 6, "logprobs": 0})[i % 4]
        made.append(row)
    return made


def tokens_of(data):
    """(name, digest) of each row -> tokens of its answer, as launcher/jobs/journal_format.h has it."""
    assert data[:8] == b"SLUICEJ1"
    at, first, names, tokens = 8, True, {}, {}
    while at < len(data):
        size, _ = struct.unpack_from("<IQ", data, at)
        at += 12
        end = at + size
        if end > len(data):
            break  # torn
        while at < end and not first:
            letter = data[at:at + 1]
            if letter in b"sc":
                chosen, = struct.unpack_from("<I", data, at + 1)
                at += 5
                if letter == b"s":
                    names[chosen] = struct.unpack_from("<QQ", data, at)
                    tokens[names[chosen]] = []
                    at += 16
            else:
                token, = struct.unpack_from("<i", data, at + 1)
                at += 5
                if letter in b"lp":
                    at += 4 + 1 + 8 * data[at + 4]
                if letter in b"tl":
                    tokens[names[chosen]].append(token)
        first, at = False, end
    return tokens


def late_piece(text):
    """Of a text that may repeat itself: a piece as far behind as one comes for the first time."""
    first = [at for at in range(3 * len(text) // 4) if text.find(text[at:at + 6]) == at]
    return text[first[-1]:][:6]


class JournalTest(JobTest):
    expected = None  # of undisturbed(): it is the same in every test

    def setUp(self):
        super().setUp()
        self.input = self.write_rows("rows.jsonl", rows())
        self.slow = self.write("slow.yaml", SLOW)
        self.output = self.scratch / "output.jsonl"
        self.journal = self.scratch / "output.jsonl.journal"
        self.report = self.scratch / "report.json"

    def arguments(self, *more, model=DEMO_MODEL, rows_file=None, output=None):
        return ["generate", "--model", model, "--input", rows_file or self.input, "--output",
                output or self.output, "--quiet", "--gpu-batch-size", 4, *more]

    def undisturbed(self):
        if JournalTest.expected is None:
            output = self.scratch / "undisturbed.jsonl"
            ended = self.run_job(*self.arguments(output=output))
            self.assertEqual(ended.status, DONE, ended)
            self.assertFalse((self.scratch / "undisturbed.jsonl.journal").exists())
            JournalTest.expected = sorted(output.read_bytes().splitlines())
        return JournalTest.expected

    def kill_in_the_middle(self, *more, ranks=2, victim=0, tokens=100):
        """Kills a rank, or mpirun (-1), when the journal has so many tokens beside the output."""
        had = self.journal.stat().st_ino if self.journal.exists() else None
        job = self.start(*self.arguments("--config", self.slow, *percent(0, 100, 100, 0, 100, 0),
                                         "--journal-seconds", 0.01, *more), ranks=ranks)

        def is_there(data):
            if self.journal.exists() and self.journal.stat().st_ino == had:
                return False  # of the run before
            return sum(map(len, tokens_of(data).values())) >= tokens

        job.wait_for(self.journal, f"{tokens} tokens", is_there)
        os.kill(job.ranks[victim] if ranks and victim >= 0 else job.process.pid, signal.SIGKILL)
        job.end()
        while any(map(is_running, job.ranks.values())):  # mpirun may be gone before them
            time.sleep(0.01)

    def resume(self, *more, ranks=0):
        """Goes on to the end; checks the output and what the report says of the journal."""
        answered = [json.loads(line) for line in
                    self.output.read_bytes().rpartition(b"\n")[0].splitlines()]
        made_before = sum(len(record["token_ids"]) for record in answered)
        ended = self.run_job(*self.arguments("--resume", "--report", self.report, *more),
                             ranks=ranks)
        self.assertEqual(ended.status, DONE, ended)
        self.assertEqual(sorted(self.output.read_bytes().splitlines()), self.undisturbed())
        self.assertEqual([path.name for path in self.scratch.glob("output.jsonl*")],
                         ["output.jsonl"])
        run = self.read_json(self.report)["run"]
        self.assertEqual(run["completion_tokens"] + run["restored_tokens"] + made_before,
                         len(rows()) * TOKENS)
        return run

    def test_a_rank_that_is_killed(self):
        for ranks, victim in ((2, 0), (3, 1), (2, -1), (0, 0)):
            with self.subTest(ranks=ranks, victim=victim):
                self.remove_output(self.output)
                self.kill_in_the_middle(ranks=ranks, victim=victim)
                in_journal = sum(map(len, tokens_of(self.journal.read_bytes()).values()))
                run = self.resume(ranks=ranks)
                # Nothing was answered so early, so all that the journal has is of use.
                self.assertEqual(run["restored_tokens"], in_journal)
                self.assertGreaterEqual(in_journal, 100)
                self.assertGreater(run["recomputed_tokens"], run["restored_tokens"])

    def test_a_kill_loses_the_steps_under_way(self):
        """The job is frozen, where its journal is what a kill would leave, and then stopped in order, after
        which the journal has all tokens that were made: the difference is what the kill would have lost."""
        slower = self.write("slower.yaml", SLOW.replace("0.3", "0.02"))
        for ranks in (0, 2):
            with self.subTest(ranks=ranks):
                self.remove_output(self.output)
                job = self.start(*self.arguments("--config", slower, *percent(0, 100, 100, 0, 100, 0),
                                                 "--journal-seconds", 0.01), ranks=ranks)
                job.wait_for(self.journal, "12 tokens", lambda data:
                             data and sum(map(len, tokens_of(data).values())) >= 12)
                head = job.ranks[0] if ranks else job.process.pid
                os.kill(head, signal.SIGSTOP)
                left = tokens_of(self.journal.read_bytes())
                os.kill(head, signal.SIGTERM)
                os.kill(head, signal.SIGCONT)
                self.assertEqual(job.end().status, STOPPED)
                made = tokens_of(self.journal.read_bytes())
                for row, tokens in left.items():
                    self.assertEqual(made[row][:len(tokens)], tokens)
                lost = sum(map(len, made.values())) - sum(map(len, left.values()))
                # A step under way when it froze, and one begun before it saw that it shall stop.
                self.assertLessEqual(lost, 2 * sum(1 for tokens in made.values() if tokens))
                self.resume(ranks=ranks)

    def test_killed_again_and_again(self):
        self.kill_in_the_middle(tokens=100)
        self.kill_in_the_middle("--resume", tokens=400, ranks=3, victim=2)
        first = {key: tokens for key, tokens in tokens_of(self.journal.read_bytes()).items() if tokens}
        self.kill_in_the_middle("--resume", tokens=900, ranks=0)
        second = tokens_of(self.journal.read_bytes())
        grown = 0
        for key, tokens in first.items():
            self.assertEqual(second.get(key, tokens)[:len(tokens)], tokens)
            grown += len(second.get(key, tokens)) > len(tokens)
        self.assertGreater(grown, 0)
        self.resume(ranks=4)

    def test_answers_that_end_behind_the_border(self):
        """At a stop string, an end of text, a limit: where the tokens before it are restored."""
        records = map(json.loads, self.undisturbed())
        texts = {record["custom_id"]: record["text"] for record in records}
        ended = rows()
        for row in ended:
            row["stop"] = [late_piece(texts[row["custom_id"]].removeprefix(row["prompt"]))]
        self.input = self.write_rows("rows.jsonl", ended)
        output = self.scratch / "undisturbed.jsonl"
        self.assertEqual(self.run_job(*self.arguments(output=output)).status, DONE)
        expected = sorted(output.read_bytes().splitlines())
        self.assertIn("stop", [json.loads(line)["finish_reason"] for line in expected])
        for tokens in (20, 60, 120):
            with self.subTest(tokens=tokens):
                self.remove_output(self.output)
                self.kill_in_the_middle(tokens=tokens)
                self.assertEqual(self.run_job(*self.arguments("--resume")).status, DONE)
                self.assertEqual(sorted(self.output.read_bytes().splitlines()), expected)

    def test_a_journal_of_another_job_is_refused(self):
        self.kill_in_the_middle()
        self.output.write_bytes(b"")
        kept = self.journal.read_bytes()
        others = self.scratch / "others.jsonl"
        shutil.copy(self.input, others)
        model = self.scratch / "model"
        shutil.copytree(DEMO_MODEL, model)
        weights = bytearray((model / "model.safetensors").read_bytes())
        weights[len(weights) // 2:] = bytes(len(weights) - len(weights) // 2)
        (model / "model.safetensors").write_bytes(weights)
        for name, arguments in (("temperature", self.arguments("--temperature", 0.5)),
                                ("seed", self.arguments("--seed", 8)),
                                ("stop", self.arguments("--stop", "x")),
                                ("precision", self.arguments("--cache-dtype", "f16")),
                                ("precision", self.arguments("--attn-sparsity", 0.5)),
                                ("input", self.arguments(rows_file=others)),
                                ("model", self.arguments(model=model))):
            with self.subTest(name=name):
                ended = self.run_job(*arguments, "--resume")
                self.assert_refused(ended, USAGE, f"another {name}: ", "remove the journal")
        # Without --resume nothing is dropped unasked.
        ended = self.run_job(*self.arguments())
        self.assert_refused(ended, USAGE, "output.jsonl.journal", "--resume", "--overwrite")
        self.assertEqual(self.journal.read_bytes(), kept)
        self.journal.write_bytes(b"somebody's notes\n")
        self.assert_refused(self.run_job(*self.arguments("--resume")), BAD_INPUT, "no journal")
        self.journal.write_bytes(kept)
        self.assertEqual(self.run_job(*self.arguments("--overwrite")).status, DONE)
        self.assertEqual(sorted(self.output.read_bytes().splitlines()), self.undisturbed())
        self.assertFalse(self.journal.exists())

    def test_rows_that_have_changed_are_answered_anew(self):
        self.kill_in_the_middle()
        begun = tokens_of(self.journal.read_bytes())
        changed = rows()
        for row in changed:
            row["prompt"] = "Now: " + row["prompt"]
        self.write_rows("rows.jsonl", changed)
        expected = self.scratch / "expected.jsonl"
        self.assertEqual(self.run_job(*self.arguments(output=expected)).status, DONE)
        arguments = [word for word in self.arguments("--resume", "--report", self.report)
                     if word != "--quiet"]
        ended = self.run_job(*arguments)
        self.assertEqual(ended.status, DONE, ended)
        self.assertEqual(self.records(self.output), self.records(expected))
        self.assertEqual(self.read_json(self.report)["run"]["restored_tokens"], 0)
        self.assertIn(f"{len(begun)} unfinished answers of the journal were not used", ended.stderr)

    def test_a_torn_journal_is_said_in_one_line(self):
        self.kill_in_the_middle()
        self.journal.write_bytes(self.journal.read_bytes()[:-3])
        arguments = [word for word in self.arguments("--resume") if word != "--quiet"]
        ended = self.run_job(*arguments)
        self.assertEqual(ended.status, DONE, ended)
        self.assertEqual(len([line for line in ended.said() if "cut off or damaged" in line]), 1)
        self.assertIn("tokens of answers restored", ended.stderr)
        self.assertEqual(sorted(self.output.read_bytes().splitlines()), self.undisturbed())

    def test_where_there_is_no_journal(self):
        tiny = REFERENCE / "opt-pre"
        self.input = self.write("rows.jsonl", '{"prompt": [2, 5], "max_tokens": 3}\nnonsense\n')
        for output in ("-", self.scratch / "pipe"):
            if output != "-":
                os.mkfifo(output)
                reader = os.open(output, os.O_RDONLY | os.O_NONBLOCK)
                self.addCleanup(os.close, reader)
            ended = self.run_job(*self.arguments(model=tiny, output=output))
            self.assertEqual(ended.status, ROWS_FAILED, ended)
        job = self.start(*self.arguments("--journal-seconds", 0, model=tiny))
        self.assertEqual(job.end().status, ROWS_FAILED)
        self.assertEqual(list(pathlib.Path(self.scratch).glob("*.journal*")), [])
        # Rows that failed have their records: the job is done.
        self.output.unlink()
        self.assertEqual(self.run_job(*self.arguments(model=tiny)).status, ROWS_FAILED)
        self.assertFalse(self.journal.exists())


if __name__ == "__main__":
    unittest.main()
