"""Rows with choices, and `sluice score`: the scores are those of the same tokens with echo, the same
records come out of every number of stages and placement, and a killed job's rows are scored once.
"""

import json
import math
import os
import signal
import unittest

from job_support import (BAD_INPUT, DEMO_MODEL, DONE, ROWS_FAILED, USAGE, JobTest, percent)

CITIES = ["Rome", "Oslo", "Delhi", "Lima", "Cairo", "Denver", "Boston", "Prague", "Vienna", "Quito"]


def scored_rows(count):
    """Prompts with and without a blank at the end, and choices of several lengths."""
    for i in range(count):
        yield {"custom_id": f"city-{i}",
               "prompt": f"Question: Which town is larger, {CITIES[i % 10]} or Paris?\nAnswer:"
                         + " " * (i % 3),
               "choices": [" " + CITIES[i % 10], " Paris", f" town {i}", "?"][:2 + i % 3]}


def questions(count):
    for i in range(count):
        if i % 2:
            yield {"custom_id": f"q{i}", "question": f"What is {i} plus 1?", "answer": "ABCD"[i % 4],
                   "choices": [str(i + k) for k in range(4)]}
        else:
            yield {"custom_id": f"q{i}", "ctx": f"{CITIES[i % 10]} is a town in", "label": str(i % 3),
                   "endings": ["Italy and has many old houses.", "Norway.", f"row {i} of the list"]}


class ChoicesTest(JobTest):
    def scores(self, rows, *arguments, **options):
        rows = self.write_rows("rows.jsonl", rows)
        output = self.scratch / "output.jsonl"
        self.generate(DEMO_MODEL, "--input", rows, "--output", output, "--overwrite", *arguments,
                      **options)
        return self.records(output)

    def test_scores_are_those_of_the_same_tokens_with_echo(self):
        scored = self.scores(scored_rows(12))
        texts = "".join(json.dumps({"text": row["prompt"].rstrip()}) + "\n"
                        for row in scored_rows(12))
        ended = self.run_job("tokenize", "--model", DEMO_MODEL, "--jsonl", text=texts)
        prompts = [json.loads(line)["ids"] for line in ended.stdout.splitlines()]
        echoes = []
        for row, prompt in zip(scored_rows(12), prompts):
            for i, score in enumerate(scored[row["custom_id"]]["scores"]):
                self.assertEqual(score["text"], row["choices"][i])
                echoes.append({"custom_id": f"{row['custom_id']} {i}", "echo": True, "logprobs": 0,
                               "max_tokens": 0, "prompt": prompt + score["token_ids"]})
        echoed = self.scores(echoes)
        for row in scored_rows(12):
            record = scored[row["custom_id"]]
            for i, score in enumerate(record["scores"]):
                logprobs = echoed[f"{row['custom_id']} {i}"]["logprobs"]["token_logprobs"]
                self.assertEqual(score["token_logprobs"], logprobs[-len(score["token_ids"]):])
                self.assertAlmostEqual(score["logprob"], sum(score["token_logprobs"]), 4)
                self.assertAlmostEqual(score["logprob_per_byte"],
                                       score["logprob"] / len(score["text"].encode()), 5)
            best = max(range(len(record["scores"])), key=lambda i: record["scores"][i]["logprob"])
            self.assertEqual(record["best"], best)

    def test_records_do_not_depend_on_stages_and_placement(self):
        rows = list(scored_rows(15)) + [
            {"custom_id": f"text {i}", "prompt": f"Question: What is {i} plus 2?\nAnswer:",
             "max_tokens": 5} for i in range(5)]
        expected = self.scores(rows)
        for arguments, ranks in [(["--gpu-batch-size", 3, "--max-batch-tokens", 16], 0),
                                 (percent(30, 40, 50, 20, 50, 50), 2),
                                 ([*percent(0, 0, 0, 0, 0, 0), "--gpu-batch-size", 4], 3)]:
            self.assertEqual(self.scores(rows, *arguments, ranks=ranks), expected, arguments)

    def test_a_killed_jobs_rows_are_scored_once_and_whole(self):
        rows = self.write_rows("rows.jsonl", scored_rows(300))
        expected = self.scores(scored_rows(300))
        output = self.scratch / "killed.jsonl"
        arguments = ["generate", "--model", DEMO_MODEL, "--input", rows, "--output", output,
                     "--quiet", "--gpu-batch-size", 2]
        job = self.start(*arguments, ranks=2)
        job.wait_for_lines(output, 20)
        os.kill(job.ranks[1], signal.SIGKILL)
        self.assertNotEqual(job.end().status, DONE)
        self.assertLess(output.read_bytes().count(b"\n"), 300, "the job was over before")
        ended = self.run_job(*arguments, "--resume", ranks=2)
        self.assertEqual(ended.status, DONE, ended)
        self.assertEqual(self.records(output), expected)
        self.assertFalse(output.with_name("killed.jsonl.journal").exists())

    def test_wrong_rows_harm_no_other(self):
        records = self.scores([{"custom_id": "a", "prompt": "x", "choices": ["y"], "max_tokens": 3},
                               {"custom_id": "b", "prompt": "x", "choices": [" y", 4]},
                               {"custom_id": "c", "prompt": "x", "choices": [" y", " z"]}],
                              status=ROWS_FAILED)
        self.assertEqual(records["a"]["error"]["param"], "max_tokens")
        self.assertEqual(records["b"]["error"]["param"], "choices[1]")
        self.assertEqual(len(records["c"]["scores"]), 2)


class EmbeddingsTest(JobTest):
    def embeddings(self, rows, *arguments, **options):
        rows = self.write_rows("rows.jsonl", rows)
        output = self.scratch / "output.jsonl"
        self.generate(DEMO_MODEL, "--input", rows, "--output", output, "--overwrite", *arguments,
                      **options)
        return self.records(output)

    def rows(self, count):
        for i in range(count):
            row = {"custom_id": f"row {i}", "prompt": f"{CITIES[i % 10]} is a town, number {i}."}
            yield row | ({"embed": ["mean", "last"][i % 2]} if i % 3 else {"max_tokens": 4})

    def test_records_do_not_depend_on_stages_and_placement(self):
        expected = self.embeddings(self.rows(20))
        self.assertEqual(len(expected), 20)
        for i, row in enumerate(self.rows(20)):
            record = expected[row["custom_id"]]
            self.assertEqual("embedding" in record, bool(i % 3), record)
        for arguments, ranks in [(["--gpu-batch-size", 3, "--max-batch-tokens", 8], 0),
                                 (percent(30, 40, 50, 20, 50, 50), 2),
                                 ([*percent(0, 0, 0, 0, 0, 0), "--gpu-batch-size", 4], 3)]:
            self.assertEqual(self.embeddings(self.rows(20), *arguments, ranks=ranks), expected,
                             arguments)

    def test_the_rest_of_a_cut_output_is_made_by_resume(self):
        rows = self.write_rows("rows.jsonl", self.rows(20))
        expected = self.embeddings(self.rows(20))
        output = self.scratch / "output.jsonl"
        lines = output.read_bytes().splitlines(keepends=True)
        output.write_bytes(b"".join(lines[:7]) + lines[7][:30])
        self.generate(DEMO_MODEL, "--input", rows, "--output", output, "--resume")
        self.assertEqual(self.records(output), expected)

    def test_a_pipes_rows_may_have_embeddings(self):
        output = self.scratch / "output.jsonl"
        lines = "".join(json.dumps(row) + "\n" for row in self.rows(5))
        self.generate(DEMO_MODEL, "--input", "-", "--output", output, "--overwrite", text=lines)
        self.assertEqual(self.records(output), self.embeddings(self.rows(5)))


class ScoreCommandTest(JobTest):
    def score(self, *arguments, status=DONE, **options):
        ended = self.run_job("score", "--model", DEMO_MODEL, "--quiet", *arguments, **options)
        self.assertEqual(ended.status, status, ended)
        self.assert_no_crash(ended)
        return ended

    def figures(self, ended):
        """name -> words behind it."""
        lines = [line.split() for line in ended.stdout.replace("\r", "").splitlines()]
        return {words[0]: words[1:] for words in lines}

    def expected(self, records):
        """The accuracies, by the records."""
        right = {"acc": [], "acc_norm": []}
        for record in records.values():
            scores = record["scores"]
            by_length = [score["logprob"] / len(score["text"][1:]) for score in scores]
            plain = [score["logprob"] for score in scores]
            gold = record["fields"]["gold"]
            right["acc"].append(plain.index(max(plain)) == gold)
            right["acc_norm"].append(by_length.index(max(by_length)) == gold)
        figures = {"questions": [str(len(records))]}
        for name, values in right.items():
            mean = sum(values) / len(values)
            error = math.sqrt(sum((one - mean) ** 2 for one in values) / (len(values) - 1)
                              / len(values))
            figures[name] = [f"{mean:.4f}", "±", f"{error:.4f}"]
        return figures

    def test_prints_the_accuracy_of_what_is_in_the_output(self):
        rows = self.write_rows("rows.jsonl", questions(40))
        output = self.scratch / "scores.jsonl"
        ended = self.score("--input", rows, "--output", output)
        records = self.records(output)
        self.assertEqual(len(records), 40)
        self.assertEqual(self.figures(ended), self.expected(records))
        self.assertEqual([score["text"] for score in records["q1"]["scores"]],
                         [" A", " B", " C", " D"])
        # Without an output, and over two stages.
        self.assertEqual(self.figures(self.score("--input", rows)), self.figures(ended))
        self.assertEqual(self.figures(self.score("--input", rows, ranks=2)), self.figures(ended))
        # What a killed run left counts, too.
        lines = output.read_bytes().splitlines(keepends=True)
        output.write_bytes(b"".join(lines[:15]) + lines[15][:50])
        resumed = self.score("--input", rows, "--output", output, "--resume")
        self.assertEqual(self.figures(resumed), self.figures(ended))
        self.assertEqual(self.records(output), records)

    def test_a_prefix_stands_in_front_of_every_context(self):
        prefix = self.write("prefix.txt", "Question: What is 1 plus 1?\nAnswer: 2\n\n")
        rows = self.write_rows("rows.jsonl", questions(6))
        output = self.scratch / "scores.jsonl"
        self.score("--input", rows, "--output", output, "--prefix", prefix, "--no-bos")
        with_prefix = self.records(output)
        again = self.write_rows("again.jsonl", (row | {"prefix": prefix.read_text()}
                                                for row in questions(6)))
        self.score("--input", again, "--output", output, "--overwrite", "--no-bos")
        self.assertEqual(self.records(output), with_prefix)
        self.score("--input", rows, "--output", output, "--overwrite")
        for name, record in self.records(output).items():
            self.assertLess(record["usage"]["prompt_tokens"],
                            with_prefix[name]["usage"]["prompt_tokens"])
        self.assert_refused(self.run_job("score", "--model", DEMO_MODEL, "--input", rows, "--quiet",
                                         "--prefix", self.scratch / "none"), BAD_INPUT, "--prefix")

    def test_rows_of_other_shapes_are_refused_by_the_field_they_lack(self):
        rows = self.write_rows("rows.jsonl", [{"query": "x"}, {"question": "x", "choices": ["a"]},
                                              *questions(3)])
        output = self.scratch / "scores.jsonl"
        ended = self.score("--input", rows, "--output", output, status=ROWS_FAILED)
        records = self.records(output)
        self.assertEqual(records["row-1"]["error"]["param"], "question")
        self.assertEqual(records["row-2"]["error"]["param"], "answer")
        self.assertEqual(self.figures(ended)["questions"], ["3"])
        self.assertEqual(self.figures(ended)["failed"], ["2"])
        self.assertRegex(ended.stderr, "sluice: line [12]: the row has")

    def test_wrong_use_is_refused(self):
        rows = self.write_rows("rows.jsonl", questions(1))
        for arguments, pattern in [([], "--input"),
                                   (["--input", rows, "--output", "-"], "--output"),
                                   (["--input", rows, "--resume"], "--output"),
                                   (["--input", rows, "--temperature", "1"], "--temperature")]:
            self.assert_refused(self.run_job("score", "--model", DEMO_MODEL, *arguments), USAGE,
                                pattern)


if __name__ == "__main__":
    unittest.main()
