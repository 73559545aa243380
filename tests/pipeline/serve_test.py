"""The server answers what `sluice generate` answers: every endpoint, whole and streamed, alone and with
many others, over one rank and over two.
"""

import concurrent.futures
import unittest

from job_support import BAD_INPUT, DEMO_MODEL, DONE
from serve_support import CHAT_TEMPLATE, Server, ServeTest

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
PROMPT = "Question: What is {} plus {}?\nAnswer:"
GREEDY = {"temperature": 0}
SAMPLED = {"temperature": 1.5, "seed": 7}


def text(**fields):
    return COMPLETIONS, {"prompt": PROMPT.format(7, 8), "max_tokens": 8} | fields


def chat(**fields):
    messages = [{"role": "user", "content": "What is 7 plus 8?"}]
    return CHAT, {"messages": messages, "max_tokens": 8} | fields


# What a request may ask, each with both endpoints where they have it.
REQUESTS = {
    "greedy": text(**GREEDY),
    "default length": (COMPLETIONS, {"prompt": "The capital of", "ignore_eos": True} | GREEDY),
    "ids": text(prompt=[2, 45, 100, 200, 17], **GREEDY),
    "stop": text(prompt="Question: What is 7 plus 8?\n", max_tokens=40, stop=["\n", "15"], **GREEDY),
    "sampled": text(**SAMPLED),
    "three answers": text(n=3, **SAMPLED),
    "best of four": text(n=2, best_of=4, **SAMPLED),
    "logprobs": text(logprobs=3, **GREEDY),
    "logprobs of three": text(logprobs=1, n=3, **SAMPLED),
    "echo": text(echo=True, logprobs=2, **GREEDY),
    "scores alone": text(echo=True, logprobs=1, max_tokens=0, **GREEDY),
    "characters cut": text(prompt="äöü", max_tokens=9, logprobs=2, ignore_eos=True, **SAMPLED),
    "beams": text(num_beams=3, **GREEDY),
    "penalties": text(frequency_penalty=1.5, presence_penalty=-0.5, repetition_penalty=1.2,
                      logit_bias={"20": -5}, bad_words=["15"], min_tokens=3, **SAMPLED),
    "schema": text(response_format={"type": "json_schema", "json_schema": {"schema": {
        "type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"],
        "additionalProperties": False}}}, max_tokens=30, **GREEDY),
    "chat": chat(**GREEDY),
    "chat of three": chat(n=3, **SAMPLED),
    "chat logprobs": chat(logprobs=True, top_logprobs=2, stop=["\n"], **GREEDY),
    "chat, newer name": chat(max_completion_tokens=3, **GREEDY),
}
NOT_STREAMED = ("best of four", "beams")


def joined(events, is_chat):
    """The choices that a stream's events come to."""
    choices = {}
    for event in events:
        for part in event["choices"]:
            delta = part["delta"] if is_chat else {"content": part["text"]}
            choice = choices.setdefault(part["index"], {"text": "", "logprobs": None, "why": None})
            assert choice["why"] is None, "an event behind the last"
            choice["text"] += delta.get("content", "")
            choice["why"] = part["finish_reason"]
            for key, values in (part["logprobs"] or {}).items():
                if choice["logprobs"] is None:
                    choice["logprobs"] = {}
                if values is None:
                    choice["logprobs"][key] = None
                else:
                    choice["logprobs"].setdefault(key, []).extend(values)
    return [choices[index] for index in sorted(choices)]


def shortened(choices, is_chat):
    return [{"text": choice["message"]["content"] if is_chat else choice["text"],
             "logprobs": choice["logprobs"], "why": choice["finish_reason"]} for choice in choices]


class ServeAnswersTest(ServeTest):
    def generated(self, model):
        """What `sluice generate` answers to the same, by name."""
        rows = [{"custom_id": name, "method": "POST", "url": path, "body": body}
                for name, (path, body) in REQUESTS.items()]
        for row in rows:  # where a server has another default
            row["body"] = {"max_tokens": 16} | row["body"]
        output = self.scratch / "output.jsonl"
        self.generate(model, "--input", self.write_rows("rows.jsonl", rows), "--output", output)
        return {name: record["response"]["body"] for name, record in self.records(output).items()}

    def test_every_request_is_answered_as_its_row(self):
        model = self.chat_model()
        expected = self.generated(model)
        for ranks in (0, 2):
            server = Server(self, ranks=ranks, model=model)
            for name, (path, body) in REQUESTS.items():
                with self.subTest(ranks=ranks, request=name):
                    answer = server.post(path, body)
                    self.assertEqual(answer.status, 200, answer.body)
                    answer = answer.json()
                    self.assertEqual(answer["choices"], expected[name]["choices"])
                    self.assertEqual(answer["usage"], expected[name]["usage"])
                    self.assertEqual(answer["object"], expected[name]["object"])
                    self.assertEqual(answer["model"], str(model))
                    self.assertEqual(answer["timings"]["predicted_n"],
                                     answer["usage"]["completion_tokens"])
                    if name in NOT_STREAMED:
                        self.assertEqual(server.post(path, body | {"stream": True}).status, 400)
                        continue
                    self.check_stream(server, path, body, answer)
            server.wait_for_load(0, 0)
            ended = server.stop(self)
            self.assertIn("answers under way get 30 s", ended.stderr)

    def check_stream(self, server, path, body, answer):
        is_chat = path == CHAT
        events = server.stream(path, body)
        self.assertEqual(joined(events, is_chat), shortened(answer["choices"], is_chat))
        self.assertEqual({event["id"] for event in events}, {events[0]["id"]})
        self.assertNotIn("usage", events[-1])
        self.assertEqual([event for event in events if "timings" in event], events[-1:])
        if is_chat:
            self.assertEqual(events[0]["choices"][0]["delta"]["role"], "assistant")
        *events, last = server.stream(path, body | {"stream_options": {"include_usage": True}})
        self.assertEqual(last["choices"], [])
        self.assertEqual(last["usage"], answer["usage"])
        self.assertFalse([event for event in events if "usage" in event])

    def test_token_ids_stand_beside_the_texts(self):
        server = Server(self, model=self.chat_model())
        for path, body in (text(n=2, return_token_ids=True, **SAMPLED), chat(return_token_ids=True, **GREEDY)):
            with self.subTest(path=path):
                answer = server.post(path, body).json()
                made = [choice["token_ids"] for choice in answer["choices"]]
                self.assertEqual(sum(map(len, made)), answer["usage"]["completion_tokens"])
                streamed = [[] for _ in made]
                for event in server.stream(path, body):
                    for choice in event["choices"]:
                        streamed[choice["index"]] += choice["token_ids"]
                self.assertEqual(streamed, made)
        texts = server.post("/detokenize", {"tokens": made[0]}).json()["prompt"]
        self.assertTrue(texts.startswith(answer["choices"][0]["message"]["content"]))

    def test_lists_of_prompts_are_answered_in_their_order(self):
        server = Server(self)
        prompts = [PROMPT.format(i, 3) for i in range(20)]
        alone = [server.post(*text(prompt=prompt, n=2, **SAMPLED)).json() for prompt in prompts]
        together = server.post(*text(prompt=prompts, n=2, **SAMPLED)).json()
        self.assertEqual([choice["index"] for choice in together["choices"]], list(range(40)))
        self.assertEqual([choice["text"] for choice in together["choices"]],
                         [choice["text"] for one in alone for choice in one["choices"]])
        self.assertEqual(together["usage"]["prompt_tokens"],
                         sum(one["usage"]["prompt_tokens"] for one in alone))
        streamed = joined(server.stream(*text(prompt=prompts, n=2, **SAMPLED)), False)
        self.assertEqual([choice["text"] for choice in streamed],
                         [choice["text"] for choice in together["choices"]])
        ids = [server.post("/tokenize", {"prompt": prompt}).json()["tokens"] for prompt in prompts]
        by_ids = server.post(*text(prompt=ids, n=2, **SAMPLED)).json()
        self.assertEqual([choice["text"] for choice in by_ids["choices"]],
                         [choice["text"] for choice in together["choices"]])

    def test_64_streams_at_once_are_all_right(self):
        server = Server(self, "--gpu-batch-size", 4, "--num-gpu-batches", 2, ranks=2)
        bodies = [text(prompt=PROMPT.format(i, 64 - i), max_tokens=12 + i % 5, **GREEDY)
                  for i in range(64)]
        expected = [server.post(*body).json()["choices"][0]["text"] for body in bodies]
        with concurrent.futures.ThreadPoolExecutor(64) as pool:
            streams = list(pool.map(lambda body: server.stream(*body), bodies))
        self.assertEqual([joined(events, False)[0]["text"] for events in streams], expected)
        server.wait_for_load(0, 0)

    def test_a_template_may_be_a_file_of_its_own(self):
        with_file = Server(self, "--chat-template", CHAT_TEMPLATE)
        with_folder = Server(self, model=self.chat_model())
        self.assertEqual(with_file.post(*chat(**GREEDY)).json()["choices"],
                         with_folder.post(*chat(**GREEDY)).json()["choices"])
        wrong = self.write("wrong.jinja", "{% for %}")
        for path, word in ((wrong, "wrong.jinja"), (self.scratch / "none", "none")):
            ended = self.run_job("serve", "--model", DEMO_MODEL, "--port", 0, "--chat-template", path)
            self.assertEqual(ended.status, BAD_INPUT, ended)
            self.assertIn(word, ended.stderr)

    def test_contents_may_be_lists_of_texts(self):
        server = Server(self, model=self.chat_model())
        path, body = chat(**GREEDY)
        parts = [{"type": "text", "text": "What is 7"}, {"type": "text", "text": "plus 8?"}]
        listed = [{"role": "user", "content": parts}]
        joined_up = [{"role": "user", "content": "What is 7\nplus 8?"}]
        self.assertEqual(server.post(path, body | {"messages": listed}).json()["choices"],
                         server.post(path, body | {"messages": joined_up}).json()["choices"])

    def test_the_tokenizer_answers(self):
        server = Server(self, "--served-model-name", "demo", "--max-model-len", 100)
        ids = server.post("/tokenize", {"prompt": "test", "add_special_tokens": False}).json()
        self.assertEqual(ids["count"], len(ids["tokens"]))
        self.assertEqual(ids["max_model_len"], 100)
        more = server.post("/tokenize", {"model": "demo", "prompt": "test",
                                         "return_token_strs": True}).json()
        self.assertEqual(more["tokens"], [2] + ids["tokens"])
        self.assertEqual("".join(more["token_strs"]), "</s>test")
        self.assertEqual(server.post("/detokenize", {"tokens": ids["tokens"]}).json(),
                         {"prompt": "test"})
        info = server.get("/tokenizer_info").json()
        self.assertEqual(info["eos_token"], "</s>")
        eos = server.post("/tokenize", {"prompt": "</s>", "add_special_tokens": False}).json()
        self.assertEqual(eos["tokens"], [2])
        self.assertEqual(server.post("/detokenize", {"tokens": [99999]}).status, 400)
        models = server.get("/v1/models").json()["data"]
        self.assertEqual([(model["id"], model["max_model_len"]) for model in models], [("demo", 100)])
        self.assertEqual(server.get("/v1/models/demo").json(), models[0])
        self.assertEqual(server.get("/v1/models/other").status, 404)
        self.assertEqual(server.get("/version").json(), {"version": "0.1.0"})
        too_long = server.post(*text(model="demo", max_tokens=100))
        self.assertEqual((too_long.status, too_long.error()["code"]),
                         (400, "context_length_exceeded"))

    def test_a_seedless_request_differs_and_a_seed_repeats(self):
        server = Server(self)
        hot = {"temperature": 3.0, "max_tokens": 30, "ignore_eos": True}
        texts = {server.post(*text(**hot)).json()["choices"][0]["text"] for _ in range(4)}
        self.assertEqual(len(texts), 4)
        seeded = {server.post(*text(seed=3, **hot)).json()["choices"][0]["text"] for _ in range(4)}
        self.assertEqual(len(seeded), 1)

    def test_a_dry_run_listens_nowhere(self):
        ended = self.run_job("serve", "--model", DEMO_MODEL, "--dry-run", "--port", 1)
        self.assertEqual(ended.status, DONE, ended)
        self.assertNotIn("listening", ended.stdout)


if __name__ == "__main__":
    unittest.main()
