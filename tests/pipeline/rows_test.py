"""Rows as people write them: read as they are needed, from files and pipes, and what is wrong with
one harms no other.
"""

import json
import os
import signal
import subprocess
import unittest

from job_support import (BAD_INPUT, DEMO_MODEL, DEVICE, DONE, ENVIRONMENT, REFERENCE, ROWS_FAILED,
                         SLUICE, STOPPED, USAGE, JobTest)

TINY = REFERENCE / "opt-pre"  # 512 ids, 128 positions
PERU = "Question: What is the capital of Peru?\nAnswer:"
TEXT = "x" * 250
FRANCE = "Question: What is the capital of France?\nAnswer:"


class PipeTest(JobTest):
    """The input is a pipe that somebody still writes to."""

    def setUp(self):
        super().setUp()
        self.pipe = self.scratch / "rows.pipe"
        os.mkfifo(self.pipe)
        self.output = self.scratch / "output.jsonl"

    def start_job(self, ranks, *more):
        job = self.start("generate", "--model", TINY, "--quiet", "--input", self.pipe, "--output",
                         self.output, *more, ranks=ranks)
        return job, os.open(self.pipe, os.O_WRONLY)  # waits for the reader

    def row(self, name, tokens=4):
        row = {"custom_id": name, "prompt": [2, 9, len(name)], "max_tokens": tokens,
               "ignore_eos": True}
        return (json.dumps(row) + "\n").encode()

    def test_an_answer_is_there_before_the_next_row_is_written(self):
        for ranks in (0, 2):
            with self.subTest(ranks=ranks):
                self.output.unlink(missing_ok=True)
                job, pipe = self.start_job(ranks)
                for i in range(4):
                    os.write(pipe, self.row(f"row {i}"))
                    job.wait_for_lines(self.output, i + 1)
                os.write(pipe, self.row("last but one") + b"nonsense\n" + self.row("last"))
                os.close(pipe)
                ended = job.end()
                self.assertEqual(ended.status, ROWS_FAILED, ended)
                records = self.records(self.output)
                self.assertEqual(len(records), 7)
                self.assertEqual(len(records["last"]["token_ids"]), 4)

    def test_a_stopped_job_does_not_wait_for_the_pipe(self):
        job, pipe = self.start_job(0)
        os.write(pipe, self.row("first"))
        job.wait_for_lines(self.output, 1)
        job.process.send_signal(signal.SIGTERM)
        self.assertEqual(job.end().status, STOPPED)
        os.close(pipe)

    def test_standard_input_and_output(self):
        rows = self.row("a") + self.row("b")
        ended = self.run_job("generate", "--model", TINY, "--quiet", "--input", "-", "--output",
                             "-", text=rows.decode())
        self.assertEqual(ended.status, DONE, ended)
        self.assertEqual({json.loads(line)["custom_id"] for line in ended.stdout.splitlines()},
                         {"a", "b"})
        self.assertFalse((self.scratch / "-").exists())
        ended = self.run_job("generate", "--model", TINY, "--input", self.pipe, "--output", "-",
                             "--resume")
        self.assert_refused(ended, USAGE, "standard output")


class RowsTest(JobTest):
    def setUp(self):
        super().setUp()
        self.output = self.scratch / "output.jsonl"

    def job(self, path, *more, status=DONE, model=DEMO_MODEL):
        return self.generate(model, "--input", path, "--output", self.output, *more, status=status)

    def test_a_name_that_is_made_up_takes_none_that_is_given(self):
        path = self.write("rows.jsonl", '{"prompt": "Hello", \n' + json.dumps(
            {"custom_id": "row-1", "prompt": PERU, "max_tokens": 4}) + "\n")
        self.job(path, status=ROWS_FAILED)
        records = self.records(self.output)
        self.assertEqual(records["row-1"]["text"], " Lima\n")
        self.assertEqual(records[None]["line"], 1)
        self.assertIn("no JSON", records[None]["error"]["message"])

    def test_rows_that_failed_are_tried_again(self):
        rows = [{"custom_id": "a", "prompt": FRANCE, "max_tokens": 4},
                {"custom_id": "b", "prompt": PERU, "max_tokens": 9999},
                {"prompt": PERU, "max_tokens": "4"}]
        self.job(self.write_rows("rows.jsonl", rows), status=ROWS_FAILED)
        for row in rows[1:]:
            row["max_tokens"] = 4
        ended = self.run_job("generate", "--model", DEMO_MODEL, "--input",
                             self.write_rows("rows.jsonl", rows), "--output", self.output,
                             "--resume")
        self.assertEqual(ended.status, DONE, ended)
        self.assertIn("2 error records", ended.stderr)
        texts = {}
        for line in self.output.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            texts[record["custom_id"]] = record.get("text")
        self.assertEqual(texts, {"a": " Paris\n", "b": " Lima\n", "row-3": " Lima\n"})

    def test_text_in_another_encoding_is_not_answered(self):
        for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32"):
            path = self.scratch / "prompts.txt"
            path.write_bytes("Question:\nAnswer:\n".encode(encoding))
            self.assert_refused(self.run_job("generate", "--model", DEMO_MODEL, "--input", path,
                                             "--output", self.output), BAD_INPUT, "UTF-8")
        path.write_bytes("Question:\ncaf\u00e9\n".encode("latin-1"))
        self.job(path, "--max-new-tokens", 1, status=ROWS_FAILED)
        records = self.records(self.output)
        self.assertIn("token_ids", records["row-1"])
        self.assertIn("UTF-8", records["row-2"]["error"]["message"])

    def test_a_text_that_begins_with_a_brace(self):
        self.job(self.write("prompts.txt", "{name} said hello\nQuestion:\n"),
                 "--max-new-tokens", 2)
        self.assertEqual(set(self.records(self.output)), {"row-1", "row-2"})

    def test_one_json_document(self):
        rows = json.dumps([{"prompt": FRANCE}, {"prompt": PERU}], indent=1)
        ended = self.run_job("generate", "--model", DEMO_MODEL, "--input",
                             self.write("rows.json", rows), "--output", self.output)
        self.assert_refused(ended, BAD_INPUT, "JSON Lines")

    def test_what_is_wrong_with_a_row_is_said_of_the_row(self):
        rows = ['{"custom_id":"mine","prompt":"a","max_tokens":1,"temperature":NaN}',
                '{"custom_id":"mine-too","prompt":"a","max_tokens":1e400}',
                json.dumps({"custom_id": "penalty", "prompt": "a", "repetition_penalty": 1e-38}),
                json.dumps({"custom_id": "huge", "prompt": "x" * 3_000_000}),
                json.dumps({"custom_id": "own", "prompt": FRANCE, "max_tokens": 4,
                            "expected": " Paris"})]
        ended = self.job(self.write("rows.jsonl", "\n".join(rows) + "\n"), status=ROWS_FAILED)
        records = self.records(self.output)
        for name, param in (("mine", None), ("mine-too", None), ("penalty", "repetition_penalty"),
                            ("huge", "prompt")):
            self.assertEqual(records[name]["error"]["type"], "invalid_request_error")
            self.assertEqual(records[name]["error"]["param"], param)
        self.assertEqual(records["own"]["text"], " Paris\n")
        self.assertEqual(len([line for line in ended.said() if '"expected"' in line]), 1, ended)

    def test_fields_of_a_data_set(self):
        row = {"prompt": FRANCE, "max_tokens": 4}
        batch = {"custom_id": "batch", "method": "POST", "url": "/v1/completions", "label": 7,
                 "body": row | {"label": 8}}
        path = self.write_rows("rows.jsonl", [row | {"custom_id": "plain", "text": [1]},
                                              batch, row | {"max_token": 2}])
        ended = self.job(path)
        self.assertEqual(len(ended.said()), 4, ended)
        self.assertIn("did you mean 'max_tokens'", ended.said()[3])
        plain = self.records(self.output)
        ended = self.job(path, "--overwrite", "--keep-fields")
        self.assertEqual(len(ended.said()), 1, ended)
        kept = self.records(self.output)
        self.assertEqual(kept["plain"], plain["plain"] | {"fields": {"text": [1]}})
        self.assertEqual(kept["batch"]["fields"], {"label": 7, "body": {"label": 8}})
        self.assertEqual(kept["row-3"]["fields"], {"max_token": 2})
        self.job(path, "--keep-fields", "--resume")
        self.assertEqual(self.records(self.output), kept)
        self.job(path, "--overwrite", "--strict", status=ROWS_FAILED)
        strict = self.records(self.output)
        self.assertEqual(strict["plain"]["error"]["param"], "text")
        self.assertIn("'max_tokens'", strict["row-3"]["error"]["message"])
        self.assertEqual(strict["batch"]["response"]["status_code"], 400)
        self.assert_refused(self.run_job("generate", "--model", DEMO_MODEL, "--input", path,
                                         "--output", "-", "--strict", "--keep-fields"),
                            USAGE, "--strict")


class MemoryTest(JobTest):
    """What a job remembers of a row is little."""

    def peak_bytes(self, rows):
        """Of a job that resumes with all but the last rows answered."""
        self.output = self.scratch / f"output-{rows}.jsonl"
        path = self.scratch / f"rows-{rows}.jsonl"
        with path.open("w", encoding="utf-8") as file:
            for i in range(rows):
                file.write(f'{{"custom_id":"row number {i}","max_tokens":1,"prompt":"{TEXT}"}}\n')
        with self.output.open("w", encoding="utf-8") as file:
            for i in range(rows - 5):
                file.write(f'{{"custom_id":"row number {i}","text":"x","token_ids":[5]}}\n')
        job = subprocess.Popen([SLUICE, "generate", "--model", DEMO_MODEL, "--quiet", "--device",
                                DEVICE, "--input", path, "--output", self.output, "--resume"],
                               env=ENVIRONMENT)
        _, status, usage = os.wait4(job.pid, 0)
        job.returncode = os.waitstatus_to_exitcode(status)
        self.assertEqual(job.returncode, DONE)
        self.assertEqual(self.output.read_bytes().count(b"\n"), rows)
        return usage.ru_maxrss * 1024

    def test_a_hundred_thousand_rows(self):
        growth = self.peak_bytes(100_000) - self.peak_bytes(10_000)
        # 12 bytes of each row, in a table that may just have doubled; the rows are 30 MB.
        self.assertLess(growth, 12 << 20)


if __name__ == "__main__":
    unittest.main()
