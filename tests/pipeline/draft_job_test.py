"""Jobs with tokens guessed ahead (--draft, --draft-model): the records are those of jobs without, on any number of
ranks, also where a job is killed and goes on otherwise; the report says how many guesses were right.
"""

import json
import os
import signal
import unittest

from job_support import DEMO_MODEL, DONE, REFERENCE, USAGE, JobTest, percent

NGRAM = ["--draft", "ngram"]
ALWAYS = ["--draft-adapts", 0]


class DraftJobTest(JobTest):
    def setUp(self):
        super().setUp()
        demo = [json.loads(line) for line in (DEMO_MODEL / "evaluation.jsonl").read_text().splitlines()]
        rows = [{key: row[key] for key in row if key != "expected"} for row in demo[:200:8]]
        for index, row in enumerate(rows):
            if index % 3 == 1:
                row |= {"temperature": 0.8, "seed": index, "top_p": 0.95}
            if index % 4 == 2:
                row |= {"ignore_eos": True, "stop": None, "max_tokens": 40, "frequency_penalty": 0.2}
            if index % 5 == 3:
                row |= {"logprobs": 2}
            if index % 6 == 3:
                row |= {"regex": "[ A-Za-z,]{1,30}", "stop": None}
        prompt = rows[0]["prompt"]
        rows += [{"custom_id": "beams", "prompt": prompt, "num_beams": 3, "n": 2, "max_tokens": 12},
                 {"custom_id": "several", "prompt": prompt, "n": 3, "temperature": 1, "seed": 7, "max_tokens": 12},
                 {"custom_id": "choices", "prompt": prompt, "choices": [" GFL", " HAV, GFL"]}]
        self.rows = len(rows)
        self.input = self.write_rows("rows.jsonl", rows)
        self.output = self.scratch / "output.jsonl"
        self.report = self.scratch / "report.json"

    def arguments(self, *more):
        return ["--input", self.input, "--output", self.output, "--gpu-batch-size", 3, "--report", self.report,
                "--probe", "never", *more]

    def answers(self, *more, ranks=0):
        self.remove_output(self.output)
        self.generate(DEMO_MODEL, *self.arguments(*more), ranks=ranks)
        return self.records(self.output), self.read_json(self.report)

    def test_records_are_those_without_guesses(self):
        expected, report = self.answers()
        self.assertEqual(len(expected), self.rows)
        self.assertEqual(report["run"]["drafted_tokens"], 0)
        model = ["--draft-model", DEMO_MODEL, "--draft-compress-weight", "4bit", "--packed-dir",
                 self.scratch / "packed", "--draft-tokens", 5]
        yaml = self.write("draft.yaml", "draft: {from: ngram, tokens: 3, adapts: false}\n")
        for ranks, more in ((0, [*NGRAM, *ALWAYS, *percent(0, 100, 0, 100, 100, 0)]),
                            (2, [*NGRAM, *percent(30, 40, 30, 40, 50, 20)]),
                            (0, [*model, *ALWAYS]),
                            (3, [*model, *ALWAYS, *percent(0, 100, 50, 50, 100, 0)]),
                            (2, ["--config", yaml])):
            with self.subTest(ranks=ranks, more=more):
                records, report = self.answers(*more, ranks=ranks)
                self.assertEqual(records, expected)
                run = report["run"]
                self.assertGreater(run["drafted_tokens"], 0)
                self.assertGreater(run["accepted_tokens"], 0)
                self.assertLessEqual(run["accepted_tokens"], run["drafted_tokens"])
                for stage in report["stages"]:
                    for tier in stage["tiers"].values() if isinstance(stage["tiers"], dict) else stage["tiers"]:
                        self.assertEqual(tier["planned"], tier["high_water"])

    def test_a_killed_job_goes_on_without_guesses_and_with(self):
        rows = [{"custom_id": f"sum-{i}", "max_tokens": 60, "ignore_eos": True,
                 "prompt": f"Question: What is {i} plus {i}?\nAnswer:"} for i in range(60)]
        self.input = self.write_rows("rows.jsonl", rows)
        expected, _ = self.answers()
        self.remove_output(self.output)
        more = [*NGRAM, *ALWAYS, "--journal-seconds", 0.01]
        for lines, options in ((3, []), (20, ["--resume"])):
            job = self.start("generate", "--model", DEMO_MODEL, "--quiet", *self.arguments(*more, *options))
            job.wait_for_lines(self.output, lines)
            os.kill(job.process.pid, signal.SIGKILL)
            job.end()
        for options in ([], NGRAM):
            ended = self.run_job("generate", "--model", DEMO_MODEL, "--quiet",
                                 *self.arguments("--resume", *options))
            self.assertEqual(ended.status, DONE, ended)
            self.assertEqual(self.records(self.output), expected)

    def test_what_cannot_be_is_refused(self):
        job = ["generate", "--model", DEMO_MODEL, "--prompt-len", 8, "--quiet"]
        other = REFERENCE / "opt-pre"
        self.assert_refused(self.run_job(*job, "--draft-model", other), USAGE, "--draft-model", "opt-pre",
                            "vocabulary")
        self.assert_refused(self.run_job(*job, "--draft-model", other, *NGRAM), USAGE, "--draft .*--draft-model")
        self.assert_refused(self.run_job(*job, "--draft-compress-weight", "4bit"), USAGE, "--draft-model")
        self.assert_refused(self.run_job(*job, "--draft-tokens", 65, *NGRAM), USAGE, "64")


if __name__ == "__main__":
    unittest.main()
