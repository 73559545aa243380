"""Requests without answers, /v1/embeddings and /v1/score, and adapters by name: what comes is what the
same rows of `sluice generate` have.
"""

import base64
import math
import struct
import unittest

import adapters_test
from job_support import DEMO_MODEL, USAGE
from serve_support import Server, ServeTest

EMBEDDINGS, SCORE, COMPLETIONS = "/v1/embeddings", "/v1/score", "/v1/completions"
TEXTS = ["Question: What is 7 plus 8?", "The capital of", "Once there was a town by the sea.", "x"]
IDS = [2, 45, 100, 200, 17]
PROMPT = "Question: What is 7 plus 8?\nAnswer:"
CHOICES = [" 15", " 16", " a town"]

# Bodies that are refused, what is at fault, and a word of the sentence.
BAD_EMBEDDINGS = [
    ({}, "input", "no input"),
    ({"input": ""}, "input", "empty"),
    ({"input": []}, "input", "empty"),
    ({"input": 7}, "input", "text"),
    ({"input": ["a", 7]}, "input", "text"),
    ({"input": [5000]}, "input", "token ids"),
    ({"input": ["a"] * 3000}, "input", "3000"),
    ({"input": "a " * 2000}, "input", "tokens"),
    ({"input": "a", "encoding_format": "hex"}, "encoding_format", "base64"),
    ({"input": "a", "dimensions": 7}, "dimensions", "numbers"),
    ({"input": "a", "normalize": 1}, "normalize", "true or false"),
    ({"input": "a", "embed": "max"}, "embed", "last"),
    ({"input": "a", "max_tokens": 5}, "max_tokens", "embedding"),
    ({"input": "a", "lora": "x"}, "lora", "lora"),
]
BAD_SCORES = [
    ({}, "text_1", "text"),
    ({"text_1": "a"}, "text_2", "text"),
    ({"text_1": [], "text_2": "a"}, "text_1", "list"),
    ({"text_1": ["a", "b"], "text_2": ["a", "b", "c"]}, "text_1", "as many"),
    ({"text_1": "a", "text_2": ["b", 7]}, "text_2", "texts"),
    ({"text_1": "a", "text_2": "b " * 2000}, "text_2", "tokens"),
    ({"choices": ["a"]}, "prompt", "prompt"),
    ({"prompt": "a", "choices": []}, "choices", "list"),
    ({"prompt": ["a"], "choices": [" b"]}, "prompt", "row of its own"),
    ({"prompt": "a", "choices": [" b"], "max_tokens": 3}, "max_tokens", "scored"),
]


def unit(values):
    length = math.sqrt(sum(value * value for value in values))
    return [value / length for value in values]


class ServeEmbeddingsTest(ServeTest):
    def generated(self, rows, *arguments):
        output = self.scratch / "output.jsonl"
        self.generate(DEMO_MODEL, "--input", self.write_rows("rows.jsonl", rows), "--output", output,
                      "--overwrite", *arguments)
        return self.records(output)

    def embeddings(self, pooling):
        rows = [{"custom_id": str(i), "prompt": prompt, "embed": pooling}
                for i, prompt in enumerate([*TEXTS, IDS])]
        records = self.generated(rows)
        return [records[str(i)]["embedding"] for i in range(len(rows))]

    def assert_near(self, found, expected):
        self.assertEqual(len(found), len(expected))
        for one, other in zip(found, expected):
            self.assertAlmostEqual(one, other, delta=1e-6)

    def test_embeddings_are_those_of_rows(self):
        mean, last = self.embeddings("mean"), self.embeddings("last")
        for ranks in (0, 2):
            server = Server(self, ranks=ranks)
            raw = {"normalize": False}
            answer = server.post(EMBEDDINGS, {"input": TEXTS} | raw).json()
            self.assertEqual([one["embedding"] for one in answer["data"]], mean[:-1])
            self.assertEqual([one["index"] for one in answer["data"]], list(range(len(TEXTS))))
            self.assertEqual({one["object"] for one in answer["data"]}, {"embedding"})
            self.assertEqual((answer["object"], answer["model"]), ("list", str(DEMO_MODEL)))
            tokens = sum(server.post("/tokenize", {"prompt": text}).json()["count"] for text in TEXTS)
            self.assertEqual((answer["usage"]["prompt_tokens"], answer["usage"]["total_tokens"]),
                             (tokens, tokens))
            for given, place in ((TEXTS[1], 1), (IDS, -1), ([IDS], -1)):
                one = server.post(EMBEDDINGS, {"input": given} | raw).json()
                self.assertEqual([item["embedding"] for item in one["data"]], [mean[place]])
            behind = server.post(EMBEDDINGS, {"input": TEXTS, "embed": "last"} | raw).json()
            self.assertEqual([one["embedding"] for one in behind["data"]], last[:-1])
            long = server.post(EMBEDDINGS, {"input": TEXTS, "dimensions": len(mean[0])}).json()
            for one, values in zip(long["data"], mean):
                self.assert_near(one["embedding"], unit(values))
            coded = server.post(EMBEDDINGS, {"input": TEXTS, "encoding_format": "base64"}).json()
            for one, other in zip(coded["data"], long["data"]):
                found = struct.unpack(f"<{len(mean[0])}f", base64.b64decode(one["embedding"]))
                self.assert_near(found, other["embedding"])
            server.wait_for_load(0, 0)
            server.stop(self)

    def test_scores_are_those_of_rows(self):
        mean = [unit(values) for values in self.embeddings("mean")]
        expected = self.generated([{"custom_id": "a", "prompt": PROMPT, "choices": CHOICES}])["a"]
        server = Server(self)
        answer = server.post(SCORE, {"text_1": TEXTS[0], "text_2": TEXTS}).json()
        self.assertEqual((answer["object"], [one["index"] for one in answer["data"]]),
                         ("list", list(range(len(TEXTS)))))
        cosines = [sum(a * b for a, b in zip(mean[0], other)) for other in mean[:-1]]
        self.assert_near([one["score"] for one in answer["data"]], cosines)
        pairs = server.post(SCORE, {"text_1": TEXTS[:2], "text_2": TEXTS[2:]}).json()
        self.assert_near([one["score"] for one in pairs["data"]],
                         [sum(a * b for a, b in zip(mean[i], mean[i + 2])) for i in range(2)])
        chosen = server.post(SCORE, {"prompt": PROMPT, "choices": CHOICES}).json()
        self.assertEqual(chosen["object"], "score")
        for member in ("scores", "best", "best_per_token", "best_per_byte", "usage"):
            self.assertEqual(chosen[member], expected[member])

    def test_what_is_wrong_is_refused_by_field(self):
        server = Server(self)
        connection = server.connect()
        self.addCleanup(connection.close)
        for path, table in ((EMBEDDINGS, BAD_EMBEDDINGS), (SCORE, BAD_SCORES)):
            for body, param, word in table:
                with self.subTest(path=path, body=str(body)[:80]):
                    answer = server.post(path, body, connection=connection)
                    self.assertEqual(answer.status, 400, answer.body)
                    self.assertEqual(answer.error()["param"], param)
                    self.assertIn(word, answer.error()["message"])
        unknown = server.post(EMBEDDINGS, {"input": "a", "model": "gpt-4"})
        self.assertEqual((unknown.status, unknown.error()["code"]), (404, "model_not_found"))
        self.assertEqual(server.post(EMBEDDINGS, {"input": "a", "user": "me"}).status, 200)


class ServeAdaptersTest(ServeTest):
    def test_an_adapter_is_a_model(self):
        law, med = (adapters_test.AdaptersTest.adapter(self, name, seed, size=1.0)
                    for seed, name in enumerate(("law", "med")))
        flags = ["--lora", law, "--lora", med]
        body = {"prompt": TEXTS[1], "max_tokens": 12, "temperature": 0, "ignore_eos": True}
        names = {"demo": {}, "law": {"lora": "law"}, "med": {"lora": "med"}}
        output = self.scratch / "output.jsonl"
        rows = self.write_rows("rows.jsonl", [{"custom_id": name} | body
                                              | lora for name, lora in names.items()])
        self.generate(DEMO_MODEL, "--input", rows, "--output", output, *flags)
        expected = {name: record["text"] for name, record in self.records(output).items()}
        self.assertEqual(len(set(expected.values())), 3)
        server = Server(self, "--served-model-name", "demo", *flags)
        listed = server.get("/v1/models").json()["data"]
        self.assertEqual([(model["id"], model["parent"]) for model in listed],
                         [("demo", None), ("law", "demo"), ("med", "demo")])
        self.assertEqual(server.get("/v1/models/law").json(), listed[1])
        for name, text in expected.items():
            answer = server.post(COMPLETIONS, body | {"model": name}).json()
            self.assertEqual((answer["choices"][0]["text"], answer["model"]), (text, name))
        by_field = server.post(COMPLETIONS, body | {"lora": "law"}).json()
        self.assertEqual(by_field["choices"][0]["text"], expected["law"])
        both = server.post(COMPLETIONS, body | {"model": "law", "lora": "med"})
        self.assertEqual((both.status, both.error()["param"]), (400, "lora"))
        unknown = server.post(COMPLETIONS, body | {"model": "laws"})
        self.assertEqual((unknown.status, unknown.error()["code"]), (404, "model_not_found"))
        vectors = {name: server.post(EMBEDDINGS, {"input": PROMPT, "model": name}).json()["data"]
                   for name in names}
        self.assertNotEqual(vectors["law"], vectors["demo"])
        ended = self.run_job("serve", "--model", DEMO_MODEL, "--port", 0, "--served-model-name", "law",
                             *flags)
        self.assertEqual(ended.status, USAGE, ended)
        self.assertIn("--lora law", ended.stderr)


if __name__ == "__main__":
    unittest.main()
