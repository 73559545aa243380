"""The demo model through the program: its evaluation, its reference tokens, all forms of rows and
answers, and the commands around a job.
"""

import json
import subprocess
import sys
import unittest

from job_support import (DEMO_MODEL, DONE, ROWS_FAILED, SOURCE, USAGE, JobTest, percent)

EVALUATE = SOURCE / "scripts/demo-model/evaluate.py"
SPREAD = percent(34, 33, 50, 50, 100, 0)
SUM = "Question: What is 7 plus 8?\nAnswer:"


def lines_of(path):
    return path.read_text(encoding="utf-8").splitlines()


class DemoModelTest(JobTest):
    def setUp(self):
        super().setUp()
        self.output = self.scratch / "output.jsonl"

    def answer(self, rows, *arguments, **options):
        """Answers of rows, by custom_id."""
        self.generate(DEMO_MODEL, "--input", self.write_rows("rows.jsonl", rows), "--output",
                      self.output, *arguments, **options)
        return self.records(self.output)

    # What it answers

    def test_evaluation(self):
        rows = [json.loads(line) for line in lines_of(DEMO_MODEL / "evaluation.jsonl")]
        self.assertGreaterEqual(len(rows), 100)
        for row in rows:
            del row["expected"]
        for ranks, arguments in ((0, []), (2, SPREAD)):
            with self.subTest(ranks=ranks):
                self.assertEqual(len(self.answer(rows, "--overwrite", *arguments, ranks=ranks)),
                                 len(rows))
                scored = subprocess.run(
                    [sys.executable, EVALUATE, "--answers", self.output, "--at-least", "98"],
                    capture_output=True, text=True, check=False)
                self.assertEqual(scored.returncode, 0, scored.stdout + scored.stderr)

    def test_reference_tokens(self):
        cases = self.read_json(SOURCE / "tests/data/demo-reference.json")
        rows = [{"custom_id": str(i), "prompt": case["input_ids"], "ignore_eos": True,
                 "max_tokens": len(case["greedy"])} for i, case in enumerate(cases)]
        # The same prompts as text: the tokenizer gives the same ids.
        rows += [row | {"custom_id": f"text-{row['custom_id']}", "prompt": case["prompt"]}
                 for row, case in zip(rows, cases)]
        for ranks, arguments in ((0, []), (2, SPREAD)):
            with self.subTest(ranks=ranks):
                records = self.answer(rows, "--overwrite", *arguments, ranks=ranks)
                for i, case in enumerate(cases):
                    for name in (str(i), f"text-{i}"):
                        self.assertEqual(records[name]["token_ids"], case["greedy"], name)
                        self.assertEqual(records[name]["usage"]["prompt_tokens"],
                                         len(case["input_ids"]))

    # Forms of rows and answers

    def test_batch_rows(self):
        row = {"custom_id": "a", "method": "POST", "url": "/v1/completions",
               "body": {"model": "demo", "prompt": SUM, "max_tokens": 8, "stop": "\n",
                        "temperature": 0, "logprobs": 2}}
        bad = row | {"custom_id": "b", "url": "/v1/embeddings"}
        records = self.answer([row, bad], ranks=2, status=ROWS_FAILED)
        response = records["a"]["response"]
        self.assertIsNone(records["a"]["error"])
        self.assertEqual(response["status_code"], 200)
        body = response["body"]
        self.assertEqual(body["object"], "text_completion")
        choice = body["choices"][0]
        self.assertEqual((choice["index"], choice["text"], choice["finish_reason"]),
                         (0, " 15", "stop"))
        self.assertEqual(body["usage"]["total_tokens"], body["usage"]["prompt_tokens"] +
                         body["usage"]["completion_tokens"])
        self.assertEqual(len(choice["logprobs"]["tokens"]), body["usage"]["completion_tokens"])
        self.assertEqual(records["b"]["response"]["status_code"], 400)
        self.assertIn("/v1/embeddings", records["b"]["response"]["body"]["error"]["message"])

    def test_plain_text(self):
        text = self.write("prompts.txt", "Capital of France?\n\nCapital of Spain?\r\n")
        self.generate(DEMO_MODEL, "--input", text, "--output", self.output, "--max-new-tokens", 3,
                      "--ignore-eos")
        records = self.records(self.output)
        self.assertEqual(set(records), {"row-1", "row-3"})  # named after their lines
        rows = [{"custom_id": "row-1", "prompt": "Capital of France?"},
                {"custom_id": "row-3", "prompt": "Capital of Spain?"}]
        self.assertEqual(self.answer(rows, "--overwrite", "--max-new-tokens", 3, "--ignore-eos"),
                         records)

    def test_echo_and_logprobs(self):
        row = {"custom_id": "a", "prompt": SUM, "max_tokens": 4, "ignore_eos": True, "logprobs": 3,
               "echo": True}
        silent = {"custom_id": "b", "prompt": SUM, "max_tokens": 0, "logprobs": 0, "echo": True}
        alone = self.answer([row, silent])
        for record, new_tokens in ((alone["a"], 4), (alone["b"], 0)):
            self.assertTrue(record["text"].startswith(SUM))
            table = record["logprobs"]
            count = record["usage"]["prompt_tokens"] + new_tokens
            for key in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
                self.assertEqual(len(table[key]), count, key)
            self.assertIsNone(table["token_logprobs"][0])  # nothing stands before the first token
            self.assertTrue(all(value <= 0 for value in table["token_logprobs"][1:]))
            self.assertEqual(table["text_offset"], sorted(table["text_offset"]))
        top = alone["a"]["logprobs"]["top_logprobs"][-1]
        self.assertIn(len(top), (3, 4))  # the three likeliest, and the token itself
        self.assertEqual(max(top.values()), alone["a"]["logprobs"]["token_logprobs"][-1])  # greedy
        self.output.unlink()
        self.assertEqual(self.answer([row, silent], *SPREAD, ranks=3), alone)  # bit for bit

    def test_sampling_depends_on_the_row_alone(self):
        rows = [{"custom_id": f"s{i}", "prompt": SUM, "max_tokens": 12, "temperature": 1.5,
                 "ignore_eos": True, **({"seed": i} if i % 2 else {})} for i in range(8)]
        alone = self.answer(rows)
        self.assertGreater(len({tuple(r["token_ids"]) for r in alone.values()}), 1)
        self.output.unlink()
        self.assertEqual(self.answer(rows[::-1], *SPREAD, "--gpu-batch-size", 3, ranks=2), alone)

    def test_a_prompt_of_the_command_line(self):
        ended = self.generate(DEMO_MODEL, "--prompt", SUM, "--stop", "\n", ranks=0)
        self.assertEqual(ended.stdout, " 15\n")
        self.assertEqual(ended.stderr, "")

    def test_answers_on_standard_output(self):
        rows = self.write_rows("rows.jsonl", [{"custom_id": "a", "prompt": SUM, "stop": "\n"}])
        ended = self.run_job("generate", "--model", DEMO_MODEL, "--input", rows, "--quiet")
        if ended.status == USAGE:  # where an output file must be named, that is said
            self.assertIn("--output", ended.stderr)
            return
        self.assertEqual(json.loads(ended.stdout)["text"], " 15")

    # What is told about a run

    def test_report_and_trace(self):
        rows = [{"custom_id": str(i), "prompt": f"{i} plus 1 is", "max_tokens": 3,
                 "ignore_eos": True} for i in range(5)]
        report, trace = self.scratch / "report.json", self.scratch / "trace.json"
        self.answer(rows, *SPREAD, "--report", report, "--trace", trace, ranks=2)
        told = self.read_json(report)
        for key in ("format", "format_version", "version", "date", "command", "model", "world",
                    "config", "run", "stages"):
            self.assertIn(key, told)
        self.assertEqual(told["world"], "mpi")
        self.assertEqual((told["run"]["requests"], told["run"]["failed"]), (5, 0))
        self.assertEqual(told["run"]["completion_tokens"], 15)
        self.assertEqual([stage["rank"] for stage in told["stages"]], [0, 1])
        self.assertEqual([stage["layers"] for stage in told["stages"]], [2, 2])
        for stage in told["stages"]:
            self.assertGreater(stage["run"]["passes"], 0)
            self.assertGreater(stage["run"]["activities"]["compute"]["seconds"], 0)
            for tier in stage["tiers"].values():
                self.assertEqual(tier["planned"], tier["high_water"])
        events = self.read_json(trace)["traceEvents"]
        spans = [event for event in events if event["ph"] == "X"]
        self.assertEqual({span["pid"] for span in spans}, {0, 1})
        self.assertTrue({"compute", "host to device"} <= {span["name"] for span in spans})
        self.assertTrue(all(span["dur"] >= 0 for span in spans))

    def test_tables_and_progress_go_to_standard_error(self):
        ended = self.run_job("generate", "--model", DEMO_MODEL, "--prompt", SUM, "--stop", "\n")
        self.assertEqual((ended.status, ended.stdout), (DONE, " 15\n"))
        for words in ("stage 0 on ", "weights", "generating: 1/1 prompt", "high water"):
            self.assertIn(words, ended.stderr)

    def test_a_dry_run_writes_and_loads_nothing(self):
        rows = self.write_rows("rows.jsonl", [{"prompt": SUM}])
        before = {path.name for path in self.scratch.iterdir()}
        ended = self.generate(DEMO_MODEL, "--input", rows, "--output", self.output, "--report",
                              self.scratch / "report.json", "--trace", self.scratch / "trace.json",
                              "--dry-run", *SPREAD, ranks=2)
        for words in ("stage 0", "stage 1", "layers 2-3", "weight slots", "KV cache", "total"):
            self.assertIn(words, ended.stdout)
        self.assertEqual({path.name for path in self.scratch.iterdir()}, before)

    # The commands around a job

    def test_the_printed_configuration_is_a_configuration(self):
        rows = self.write_rows("rows.jsonl", [{"prompt": SUM}])
        printed = self.generate(DEMO_MODEL, "--input", rows, "--output", self.output, "--stop",
                                "\n", "--gpu-batch-size", 3, *SPREAD, "--print-config").stdout
        self.assertFalse(self.output.exists())
        config = self.write("run.yaml", printed)
        again = self.run_job("generate", "--config", config, "--print-config")
        self.assertEqual((again.status, again.stdout), (DONE, printed))
        ended = self.run_job("generate", "--config", config, ranks=2)
        self.assertEqual(ended.status, DONE, ended)
        self.assertEqual(self.records(self.output)["row-1"]["text"], " 15")

    def test_inspect(self):
        ended = self.run_job("inspect", "--model", DEMO_MODEL)
        self.assertEqual(ended.status, DONE, ended)
        self.assertIn("4 layers", ended.stdout)
        ended = self.run_job("inspect", "--model", DEMO_MODEL, "--json", "--stages", 2)
        facts = json.loads(ended.stdout)
        self.assertEqual((facts["layers"], len(facts["stages"])), (4, 2))
        self.assertEqual(facts["file_bytes"], (DEMO_MODEL / "model.safetensors").stat().st_size)

    def test_tokenize_and_back(self):
        text = "Answer: Zürich, 東京 👍\n\ttwo  spaces \nQuestion: What is 7 plus 8?\n"
        ids = self.run_job("tokenize", "--model", DEMO_MODEL, text=text)
        self.assertEqual(ids.status, DONE, ids)
        self.assertTrue(all(line.startswith("2 ") for line in ids.stdout.splitlines()))  # BOS
        bare = "".join(line.partition(" ")[2] + "\n" for line in ids.stdout.splitlines())
        back = self.run_job("tokenize", "--model", DEMO_MODEL, "--decode", text=bare)
        self.assertEqual((back.status, back.stdout), (DONE, text))

    def test_help_and_version(self):
        for arguments in (["--help"], ["generate", "--help"], ["--version"]):
            ended = self.run_job(*arguments)
            self.assertEqual((ended.status, ended.stderr), (DONE, ""), arguments)
            self.assertIn("sluice", ended.stdout)


if __name__ == "__main__":
    unittest.main()
