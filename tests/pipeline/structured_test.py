"""Rows that say what their answer must be: response_format, regex, choice and grammar."""

import json
import re
import signal
import unittest

from job_support import DEMO_MODEL, DONE, ROWS_FAILED, STOPPED, JobTest

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "tags": {"type": "array", "items": {"enum": ["a", "b", "c"]}, "maxItems": 3},
        "born": {"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}]},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
LIST = 'root ::= ("- " [a-z]{1,6} "\\n"){2,3}\n'
PROMPT = "Question: Who are you?\nAnswer:"


def schema_format(schema):
    return {"type": "json_schema", "json_schema": {"name": "it", "schema": schema}}


def rows():
    asked = [{"choice": ["red", "green", "deep blue"]}, {"regex": "[A-Z]{2}-\\d{1,4}"},
             {"grammar": LIST}, {"response_format": schema_format(PERSON)},
             {"response_format": schema_format({"type": "number", "minimum": 0, "maximum": 1})}]
    return [{"custom_id": f"row {i}", "prompt": PROMPT, "max_tokens": 120, "temperature": 1.0,
             "seed": i, **asked[i % len(asked)]} for i in range(30)]


class StructuredTest(JobTest):
    def setUp(self):
        super().setUp()
        self.output = self.scratch / "output.jsonl"
        self.input = self.write_rows("rows.jsonl", rows())

    def run_rows(self, *arguments, **options):
        self.generate(DEMO_MODEL, "--input", self.input, "--output", self.output, *arguments,
                      **options)
        return self.records(self.output)

    def check(self, row, text):
        if "choice" in row:
            self.assertIn(text, row["choice"])
        elif "regex" in row:
            self.assertRegex(text, re.compile(f"^(?:{row['regex']})$"))
        elif "grammar" in row:
            self.assertRegex(text, re.compile("^(?:- [a-z]{1,6}\n){2,3}$"))
        else:
            value = json.loads(text)
            if isinstance(value, dict):
                self.assertLessEqual(value.keys(), PERSON["properties"].keys())
                self.assertTrue(1 <= len(value["name"]) <= 12 and 0 <= value["age"] <= 120, value)
                self.assertLessEqual(set(value.get("tags", [])), {"a", "b", "c"})
            else:
                self.assertTrue(0 <= value <= 1, value)

    def test_answers_that_end_fit_and_are_the_same_on_any_ranks(self):
        alone = self.run_rows()
        ended = 0
        for row in rows():
            record = alone[row["custom_id"]]
            if record["finish_reason"] == "stop":
                self.check(row, record["text"])
                ended += 1
        self.assertGreater(ended, 25)
        for ranks, more in ((2, ("--gpu-batch-size", "3")), (3, ("--percent", "0", "100", "0", "100",
                                                                "0", "100"))):
            again = self.run_rows("--overwrite", *more, ranks=ranks)
            self.assertEqual({name: record["token_ids"] for name, record in again.items()},
                             {name: record["token_ids"] for name, record in alone.items()})

    def test_a_stopped_job_goes_on_within_its_answers(self):
        whole = self.run_rows()
        job = self.start("generate", "--model", DEMO_MODEL, "--quiet", "--input", self.input,
                         "--output", self.output, "--overwrite", "--gpu-batch-size", "4")
        job.wait_for_lines(self.output, 3)
        job.process.terminate()
        # The signal may come when the last answer is written and nobody listens any more.
        self.assertIn(job.end().status, (STOPPED, DONE, -signal.SIGTERM))
        resumed = self.run_rows("--resume")
        self.assertEqual({name: record["text"] for name, record in resumed.items()},
                         {name: record["text"] for name, record in whole.items()})

    def test_what_is_not_supported_is_an_error_of_its_row(self):
        bad = [{"custom_id": "schema", "prompt": PROMPT,
                "response_format": schema_format({"type": "array", "uniqueItems": True})},
               {"custom_id": "regex", "prompt": PROMPT, "regex": "(a)\\1"},
               {"custom_id": "stop", "prompt": PROMPT, "choice": ["a"], "stop": "a"},
               {"custom_id": "good", "prompt": PROMPT, "choice": ["a"]}]
        self.input = self.write_rows("bad.jsonl", bad)
        records = self.run_rows(status=ROWS_FAILED)
        self.assertEqual(records["good"]["text"], "a")
        for name, word in (("schema", "uniqueItems"), ("regex", "back reference"),
                           ("stop", "stop string")):
            self.assertIn(word, records[name]["error"]["message"])


if __name__ == "__main__":
    unittest.main()
