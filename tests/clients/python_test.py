"""clients/python: a server that it starts and ends, or one that is there; answers are those of `sluice generate`;
and its examples, as a user runs them. Needs Python's own library alone.
"""

import concurrent.futures
import csv
import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import unittest
import warnings

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "pipeline"))

from job_support import (BAD_INPUT, DEMO_MODEL, DEVICE, ENVIRONMENT, MAX_SECONDS, SLUICE,  # noqa: E402
                         SOURCE, USAGE, is_running, parents)
from serve_support import CHAT_TEMPLATE, Server, ServeTest  # noqa: E402

CLIENT = SOURCE / "clients/python"
EXAMPLES = CLIENT / "examples"
sys.path.insert(0, str(CLIENT))

import sluice  # noqa: E402
from sluice.batches import parts_of  # noqa: E402
from sluice.local_server import flags_of  # noqa: E402
from sluice.prompts import are_ids, id_prompts  # noqa: E402

PROMPT = "Question: What is {} plus {}?\nAnswer:"
PROMPTS = [PROMPT.format(i % 10, i // 10) for i in range(40)]
POLICY = {"device": DEVICE, "chat_template": CHAT_TEMPLATE}


def url_of(server):
    return f"http://{server.host}:{server.port}"


class Array:
    """As numpy's and torch's have it."""

    def __init__(self, values):
        self.values = values

    def tolist(self):
        return self.values


class PythonClientTest(ServeTest):
    def setUp(self):
        super().setUp()
        before = dict(os.environ)
        self.addCleanup(lambda: (os.environ.clear(), os.environ.update(before)))
        os.environ.clear()
        os.environ.update(ENVIRONMENT)

    def model(self, model=DEMO_MODEL, **options):
        made = sluice.Model(model, program=SLUICE, policy={**POLICY, **options.pop("policy", {})}, **options)
        self.addCleanup(made.close)
        return made

    def pids(self, model):
        """The guard of a model's server, and all below it."""
        pids = [model.local_server._process.pid]
        children = parents()
        for pid in pids:
            pids += [child for child, parent in children.items() if parent == pid]
        return pids

    def wait_until_gone(self, pids):
        deadline = time.monotonic() + MAX_SECONDS
        while any(map(is_running, pids)):
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.01)

    def rows_of(self, rows, model=DEMO_MODEL):
        """What `sluice generate` answers to them: text and token ids in their order."""
        output = self.scratch / "output.jsonl"
        self.generate(model, "--input", self.write_rows("rows.jsonl", rows), "--output", output)
        records = self.records(output)
        self.remove_output(output)
        return [records[row["custom_id"]] for row in rows]

    def test_answers_are_those_of_rows(self):
        words = {"greedy": ({}, {"temperature": 0}),
                 "sampled": ({"do_sample": True, "temperature": 1.3, "top_p": 0.9, "top_k": 20, "seed": 3},
                             {"temperature": 1.3, "top_p": 0.9, "top_k": 20, "seed": 3}),
                 "beams": ({"num_beams": 2}, {"num_beams": 2}),
                 "others": ({"min_new_tokens": 3, "repetition_penalty": 1.2, "bad_words_ids": [[34]],
                             "eos_token_id": 29, "no_repeat_ngram_size": 2},
                            {"min_tokens": 3, "repetition_penalty": 1.2, "bad_words": [[34]],
                             "stop_token_ids": [29], "no_repeat_ngram_size": 2, "temperature": 0})}
        expected = {}
        for name, (_, fields) in words.items():
            expected[name] = self.rows_of([{"custom_id": str(i), "prompt": prompt, "max_tokens": 6, **fields}
                                           for i, prompt in enumerate(PROMPTS)])
        for ranks in (1, 2):
            model = self.model(ranks=ranks)
            for name, (asked, _) in words.items():
                with self.subTest(ranks=ranks, words=name):
                    texts = [record["text"] for record in expected[name]]
                    self.assertEqual(model.generate(PROMPTS, max_new_tokens=6, **asked), texts)
                    whole = model.generate(PROMPTS, max_new_tokens=6, details=True, **asked)
                    self.assertEqual([(one.text, one.token_ids, one.finish_reason) for one in whole],
                                     [(record["text"], record["token_ids"], record["finish_reason"])
                                      for record in expected[name]])
            pids = self.pids(model)
            model.close()
            self.wait_until_gone(pids)

    def test_every_form_of_prompts(self):
        model = self.model()
        one = model.generate(PROMPT.format(7, 8), stop="\n")
        self.assertEqual(one, " 15")
        self.assertEqual(model.generate((PROMPT.format(7, 8),), stop=["\n"]), [" 15"])
        ids = model.tokenize(PROMPT.format(7, 8))
        self.assertEqual(model.detokenize(ids[1:]), PROMPT.format(7, 8))
        made = model.generate(input_ids=ids, max_new_tokens=4, ignore_eos=True)
        self.assertEqual(made[:len(ids)], ids)
        self.assertEqual(len(made), len(ids) + 4)
        self.assertTrue(model.detokenize(made[len(ids):]).startswith(" 15\n"))
        padded = Array([[1, 1, *ids], [*ids, 1, 1]])
        mask = Array([[0, 0] + [1] * len(ids), [1] * len(ids) + [0, 0]])
        self.assertEqual(model.generate(padded, attention_mask=mask, max_new_tokens=4, ignore_eos=True), [made, made])
        several = model.generate(PROMPTS[:3], do_sample=True, temperature=2.0, seed=1, num_return_sequences=4)
        self.assertEqual(len(several), 12)
        self.assertGreater(len(set(several)), 3)
        self.assertEqual(several[0], model.generate(PROMPTS[0], do_sample=True, temperature=2.0, seed=1))
        self.assertEqual(model.generate([]), [])
        self.assertIn(model.generate("Are they the same?", choice=[" Yes", " No"]), (" Yes", " No"))
        scored = model.generate(PROMPTS[0], details=True, logprobs=2, max_new_tokens=3)
        self.assertEqual(len(scored.logprobs["token_logprobs"]), 3)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            self.assertEqual(model.generate(PROMPT.format(7, 8), temperature=2.0, stop="\n"), " 15")
        self.assertEqual([str(one.message) for one in said], ["temperature has no effect without do_sample=True"])
        self.assertFalse(are_ids([]))
        self.assertEqual(id_prompts([]).rows, [[]])

    def test_embeddings_and_scores_are_those_of_rows(self):
        model = self.model(ranks=2)
        for pooling in ("mean", "last"):
            rows = self.rows_of([{"custom_id": str(i), "prompt": prompt, "embed": pooling}
                                 for i, prompt in enumerate(PROMPTS)])
            made = model.embed(PROMPTS, pooling=pooling, normalize=False)
            self.assertEqual(made, [row["embedding"] for row in rows])
        one = model.embed(PROMPTS[3])
        self.assertAlmostEqual(sum(value * value for value in one), 1, places=5)
        self.assertEqual(model.embed(model.tokenize(PROMPTS[3])), one)
        choices = [[" 3", f" {i}", " a town"] for i in range(40)]
        rows = self.rows_of([{"custom_id": str(i), "prompt": prompt, "choices": texts}
                             for i, (prompt, texts) in enumerate(zip(PROMPTS, choices))])
        scores = model.score(PROMPTS, choices)
        for score, row in zip(scores, rows):
            self.assertEqual([dataclasses.asdict(choice) for choice in score.choices], row["scores"])
            self.assertEqual((score.best, score.best_per_token, score.best_per_byte),
                             (row["best"], row["best_per_token"], row["best_per_byte"]))
        self.assertEqual(len(scores), 40)
        self.assertEqual(model.score(PROMPTS[7], choices[7]), scores[7])
        with self.assertRaises(ValueError):
            model.score(PROMPTS[:2], choices[:3])
        with self.assertRaises(sluice.RequestError):
            model.score(PROMPTS[0], [])

    def test_batches_have_the_records_of_rows(self):
        model = self.model()
        rows = [{"prompt": prompt, "max_tokens": 6, "temperature": 0} for prompt in PROMPTS[:9]]
        rows += [{"custom_id": "chat", "messages": [{"role": "user", "content": "What is 7 plus 8?"}], "stop": "\n",
                  "temperature": 0},
                 {"custom_id": "wrong", "prompt": "a", "temperature": -1},
                 {"custom_id": "scored", "prompt": PROMPTS[3], "choices": [" 3", " 4"]},
                 {"custom_id": "vector", "prompt": PROMPTS[3], "embed": "last", "normalize": False},
                 {"custom_id": "theirs", "method": "POST", "url": "/v1/completions",
                  "body": {"prompt": PROMPTS[4], "max_tokens": 6, "temperature": 0}}]
        output = self.scratch / "records.jsonl"
        records = model.batch(self.write_rows("batch.jsonl", rows), output, poll_seconds=0.01)
        self.assertEqual([json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()], records)
        self.assertEqual([record["custom_id"] for record in records],
                         [f"row-{i}" for i in range(1, 10)] + ["chat", "wrong", "scored", "vector", "theirs"])
        bodies = [record["response"]["body"] for record in records]
        texts = [body["choices"][0]["text"] for body in [*bodies[:9], bodies[13]]]
        self.assertEqual(texts, model.generate([*PROMPTS[:9], PROMPTS[4]], max_new_tokens=6))
        self.assertEqual(bodies[9]["choices"][0]["message"]["content"], " 15")
        self.assertEqual(records[10]["response"]["status_code"], 400)
        self.assertEqual(bodies[11]["best"], model.score(PROMPTS[3], [" 3", " 4"]).best)
        self.assertEqual(bodies[12]["data"][0]["embedding"], model.embed(PROMPTS[3], pooling="last", normalize=False))
        self.assertEqual(model._connection.get("/v1/files")["data"], [])  # nothing is left there
        with self.assertRaises(ValueError) as wrong:
            model.batch(self.write("bad.jsonl", '{"prompt": "a"}\n[1]\n'))
        self.assertIn("bad.jsonl:2: ", str(wrong.exception))
        with self.assertRaises(sluice.RequestError) as refused:
            sluice.Model(url_of(Server(self))).batch(self.scratch / "batch.jsonl")
        self.assertIn("--files-dir", str(refused.exception))
        kept = self.model(policy={"files-dir": self.scratch / "kept"})
        self.assertEqual(len(kept.batch(self.scratch / "batch.jsonl")), len(rows))
        self.assertTrue((self.scratch / "kept").exists())
        files = model.local_server._files.name
        self.assertTrue(os.path.exists(files))
        model.close()
        self.assertFalse(os.path.exists(files))

    def test_rows_become_files_that_a_server_takes(self):
        self.assertEqual(len(list(parts_of(["x" * 10] * 50_001))), 2)
        parts = list(parts_of(["x" * (20 << 20)] * 3 + ["y"]))
        self.assertEqual([len(part) for part in parts], [(20 << 20) + 1] * 2 + [(20 << 20) + 3])
        self.assertEqual(list(parts_of([])), [])

    def test_more_prompts_than_a_request_has(self):
        model = self.model(policy={"gpu_batch_size": 32})
        prompts = [f"{i} {PROMPTS[i % 40]}" for i in range(600)]
        parts = [text for first in range(0, 600, 200)
                 for text in model.generate(prompts[first:first + 200], max_new_tokens=2)]
        self.assertEqual(model.generate(prompts, max_new_tokens=2), parts)

    def test_streams_and_chats(self):
        server = Server(self, *self.slow(), model=self.chat_model())
        model = sluice.Model(url_of(server) + "/v1")
        whole = model.generate(PROMPTS[:3], max_new_tokens=8)
        pieces = ["", "", ""]
        for number, piece in model.generate(PROMPTS[:3], max_new_tokens=8, stream=True):
            pieces[number] += piece
        self.assertEqual(pieces, whole)
        single = list(model.generate(PROMPTS[0], max_new_tokens=8, stream=True))
        self.assertGreater(len(single), 1)
        self.assertEqual("".join(single), whole[0])
        self.assertEqual(model.chat("What is 7 plus 8?", stop="\n"), " 15")
        messages = [{"role": "user", "content": "What is 7 plus 8?"}]
        self.assertEqual("".join(model.chat(messages, stop="\n", stream=True)), " 15")
        self.assertEqual(model.chat(messages, max_new_tokens=1, details=True).finish_reason, "length")
        self.assertNotEqual(model.chat(messages, system="Name the capital of France.", max_new_tokens=4, logprobs=True,
                                       details=True).logprobs, None)
        left = model.generate(PROMPTS[0], max_new_tokens=200, ignore_eos=True, stream=True)
        next(left)
        server.wait_for_load(1, 0)
        left.close()
        server.wait_for_load(0, 0)

    def test_threads_share_a_model_and_a_full_server_is_asked_again(self):
        server = Server(self, "--max-waiting", 1, "--gpu-batch-size", 2, *self.slow())
        model = sluice.Model(url_of(server))
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda prompt: model.generate(prompt, stop="\n"), PROMPTS[:8]))
        self.assertEqual(answers, model.generate(PROMPTS[:8], stop="\n"))
        self.assertGreater(server.metrics()["sluice_request_refused_total"], 0)

    def test_refusals_have_their_fields(self):
        server = Server(self)
        model = sluice.Model(url_of(server))
        with self.assertRaises(sluice.RequestError) as refused:
            model.generate(PROMPT, do_sample=True, temperature=-1)
        self.assertEqual((refused.exception.status, refused.exception.param), (400, "temperature"))
        with self.assertRaises(sluice.RequestError) as refused:
            list(model.generate(PROMPT, max_new_tokens=10**6, stream=True))
        self.assertEqual(refused.exception.code, "context_length_exceeded")
        with self.assertRaises(sluice.RequestError) as refused:
            model.chat("Hello")
        self.assertIn("template", str(refused.exception))
        for wrong, words in ((TypeError, {}), (TypeError, {"prompts": "a", "input_ids": [2]}),
                             (TypeError, {"prompts": ["a", None]}),
                             (ValueError, {"input_ids": [[2, 3]], "attention_mask": [[1]]}),
                             (ValueError, {"prompts": "a", "stream": True, "num_return_sequences": 2})):
            with self.subTest(words=words), self.assertRaises(wrong):
                model.generate(**words)
        with self.assertRaises(ValueError):
            sluice.Model(url_of(server), ranks=2)
        with self.assertRaises(ValueError):
            sluice.Model("http://")
        server.stop(self)
        with self.assertRaises(sluice.ServerError) as lost:
            model.generate(PROMPT)
        self.assertIn("cannot be reached", str(lost.exception))

    def test_a_key(self):
        server = Server(self, environment={"SLUICE_API_KEY": "secret"})
        with self.assertRaises(sluice.RequestError) as refused:
            sluice.Model(url_of(server)).generate(PROMPT)
        self.assertEqual((refused.exception.status, refused.exception.code), (401, "invalid_api_key"))
        self.assertTrue(sluice.Model(url_of(server), api_key="secret").generate(PROMPTS[0]))
        os.environ["SLUICE_API_KEY"] = "secret"
        self.assertTrue(sluice.Model(url_of(server)).generate(PROMPTS[0]))
        self.assertTrue(self.model().generate(PROMPTS[0]))  # a server of its own asks for it, too

    def test_a_server_that_does_not_start_says_why(self):
        for model, options, status, words in (
                (self.scratch, {}, BAD_INPUT, "config.json"),
                (self.scratch, {"ranks": 2}, BAD_INPUT, "config.json"),
                (DEMO_MODEL, {"policy": {"percent": (1, 2)}}, USAGE, "--percent: needs six numbers"),
                (DEMO_MODEL, {"policy": {"no_such_flag": True}}, USAGE, "--no-such-flag: unknown flag")):
            with self.subTest(words=words, **options), self.assertRaises(sluice.ServerError) as refused:
                self.model(model, **options)
            self.assertEqual(refused.exception.status, status, refused.exception)
            self.assertIn(words, str(refused.exception))
        with self.assertRaises(sluice.ServerError) as missing:
            sluice.Model(DEMO_MODEL, program=self.scratch / "sluice")
        self.assertIn("no such program", str(missing.exception))

    def test_flags_of_a_policy(self):
        self.assertEqual(flags_of({"percent": (20, 80, 0, 100, 100, 0), "compress_weight": True, "overlap": None,
                                   "compress_cache": False, "config": pathlib.Path("a.yaml"), "gpu-batch-size": 4,
                                   "lora": {"a": "x", "b": pathlib.Path("y")}}),
                         ["--percent", "20", "80", "0", "100", "100", "0", "--compress-weight", "--config", "a.yaml",
                          "--gpu-batch-size", "4", "--lora", "a=x", "--lora", "b=y"])

    def test_a_server_that_is_lost_within_a_request_says_so(self):
        model = self.model(ranks=2)
        stream = model.generate(PROMPTS[0], max_new_tokens=200, ignore_eos=True, stream=True)
        next(stream)
        ranks = [pid for pid in self.pids(model) if b"OMPI_COMM_WORLD_RANK=1\0" in
                 pathlib.Path(f"/proc/{pid}/environ").read_bytes()]
        pids = self.pids(model)
        os.kill(ranks[0], signal.SIGKILL)
        with self.assertRaises(sluice.Error):
            list(stream)
            model.generate(PROMPTS[0])  # where the stream was complete before
        self.wait_until_gone(pids)
        with self.assertRaises(sluice.ServerError) as lost:
            model.generate(PROMPTS[0])
        self.assertIn("the server has ended with status", str(lost.exception))

    def test_the_server_ends_with_its_program_however_that_ends(self):
        program = self.write("program.py", f"""
import os, signal, sys
sys.path.insert(0, {str(CLIENT)!r})
import sluice
model = sluice.Model({str(DEMO_MODEL)!r}, program={SLUICE!r}, policy={{"device": {DEVICE!r}}})
print(model.local_server._process.pid, model.generate({PROMPTS[0]!r}, stop="\\n"), flush=True)
{{}}
""").read_text(encoding="utf-8")
        for end, status in (("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL), ("", 0),
                            ("raise SystemExit(3)", 3)):
            with self.subTest(end=end):
                ended = subprocess.run([sys.executable, "-c", program.replace("{}", end)], env=ENVIRONMENT,
                                       stdout=subprocess.PIPE, text=True, timeout=MAX_SECONDS, check=False)
                self.assertEqual(ended.returncode, status)
                guard, answer = ended.stdout.split()
                self.assertEqual(answer, "0")
                self.wait_until_gone([int(guard)])

    def example(self, name, *arguments, text=""):
        environment = ENVIRONMENT | {"PYTHONPATH": str(CLIENT), "SLUICE": SLUICE}
        ended = subprocess.run(
            [sys.executable, EXAMPLES / name, "--model", DEMO_MODEL, "--device", DEVICE, *map(str, arguments)],
            input=text, capture_output=True, text=True, env=environment, timeout=MAX_SECONDS, check=False)
        self.assertEqual((ended.returncode, ended.stderr), (0, ""), ended)
        return ended.stdout

    def test_example_completion(self):
        said = self.example("completion.py", "--percent", 0, 100, 0, 100, 100, 0, "--ranks", 2)
        self.assertIn("Airport codes: JFK, SFO\n---", said)

    def test_example_chatbot(self):
        turns = [{"role": "system", "content": "Answer."}, {"role": "user", "content": "What is 7 plus 8?"},
                 {"role": "assistant", "content": " 15"}, {"role": "user", "content": "Name the capital of France."}]
        second = self.rows_of([{"custom_id": "a", "messages": turns, "temperature": 0, "stop": "\n",
                                "max_tokens": 100}], self.chat_model())[0]["text"]
        said = self.example("chatbot.py", "--chat-template", CHAT_TEMPLATE, "--temperature", 0, "--stop", "\n",
                            "--persona", turns[0]["content"],
                            text="".join(turn["content"] + "\n" for turn in turns[1::2]))
        self.assertEqual(said, f">  15\n> {second}\n> \n")

    def test_example_entity_matching(self):
        """Its accuracy is that of the same questions as rows of a job."""
        with open(EXAMPLES / "products.csv", encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        self.assertEqual({row["same"] for row in rows}, {"yes", "no"})
        ask = "A is {left}. B is {right}. Are A and B the same?"
        shots = "".join(ask.format(**row) + f" {row['same'].title()}\n" for row in rows[:2])
        records = self.rows_of([{"custom_id": str(i), "prompt": shots + ask.format(**row), "temperature": 0,
                                 "choice": [" Yes", " No"]} for i, row in enumerate(rows[2:])])
        right = sum(record["text"].strip().lower() == row["same"] for record, row in zip(records, rows[2:]))
        said = self.example("entity_matching.py")
        self.assertRegex(said, rf"^accuracy {right / 14:.3f} \({right} of 14\), precision \d\.\d+, recall \d\.\d+\n$")

    def test_example_evaluate(self):
        """Its shares are those of the same questions as rows of a job."""
        questions = [json.loads(line) for line in
                     (EXAMPLES / "arithmetic.jsonl").read_text(encoding="utf-8").splitlines()]
        prompts = [f"Question: {one['question']}\nAnswer:" for one in questions]
        choices = [[" " + choice for choice in one["choices"]] for one in questions]
        scores = self.rows_of([{"custom_id": str(i), "prompt": prompt, "choices": texts}
                               for i, (prompt, texts) in enumerate(zip(prompts, choices))])
        answers = self.rows_of([{"custom_id": str(i), "prompt": prompt, "temperature": 0, "max_tokens": 16,
                                 "stop": "\n"} for i, prompt in enumerate(prompts)])
        right = sum(score["best"] == one["answer"] for score, one in zip(scores, questions))
        same = sum(answer["text"] == texts[one["answer"]]
                   for answer, texts, one in zip(answers, choices, questions))
        self.assertTrue(30 <= right < 60 and 30 <= same < 60, (right, same))  # it was taught sums of digits
        said = self.example("evaluate.py")
        self.assertIn(f"questions   60\nacc         {right / 60:.4f} ± ", said)
        self.assertIn(f"exact_match {same / 60:.4f} ± ", said)


if __name__ == "__main__":
    unittest.main()
