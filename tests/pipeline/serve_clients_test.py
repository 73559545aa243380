"""Clients of others, unchanged: openai (whole, streamed, asynchronous, batches), langchain-openai, and lm-eval with
its local-completions. Needs these packages of PyPI; what is missing is skipped.
"""

import asyncio
import json
import sys
import unittest

try:
    import openai
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)
try:
    import langchain_openai
except ImportError:
    langchain_openai = None
try:
    import lm_eval
    import lm_eval.tasks
except ImportError:
    lm_eval = None

from job_support import DEMO_MODEL
from serve_support import Server, ServeTest

PROMPT = "Question: What is 7 plus 8?\nAnswer:"
MESSAGES = [{"role": "user", "content": "What is 7 plus 8?"}]


class ClientsTest(ServeTest):
    def setUp(self):
        super().setUp()
        self.server = Server(self, "--served-model-name", "demo", "--files-dir", self.scratch / "kept",
                             model=self.chat_model())
        self.url = f"http://127.0.0.1:{self.server.port}/v1"
        self.client = openai.OpenAI(base_url=self.url, api_key="none", max_retries=0)
        self.addCleanup(self.client.close)

    def test_openai_whole_and_streamed(self):
        made = self.client.completions.create(
            model="demo", prompt=[PROMPT, PROMPT], max_tokens=6, temperature=0, n=2, logprobs=2,
            extra_body={"top_k": 5, "ignore_eos": True})
        self.assertEqual([choice.index for choice in made.choices], [0, 1, 2, 3])
        self.assertTrue(made.choices[0].text.startswith(" 15"))
        self.assertEqual(len(made.choices[0].logprobs.tokens), 6)
        self.assertEqual(made.usage.total_tokens,
                         made.usage.prompt_tokens + made.usage.completion_tokens)
        chat = self.client.chat.completions.create(
            model="demo", messages=MESSAGES, max_completion_tokens=6, temperature=0, logprobs=True,
            top_logprobs=2, stop=["\n"])
        message = chat.choices[0].message
        self.assertEqual((message.role, message.content), ("assistant", " 15"))
        self.assertEqual(len(chat.choices[0].logprobs.content[0].top_logprobs), 2)
        stream = self.client.chat.completions.create(
            model="demo", messages=MESSAGES, temperature=0, stop=["\n"], stream=True,
            stream_options={"include_usage": True})
        parts, usage = [], None
        for event in stream:
            usage = event.usage or usage
            parts += [choice.delta.content or "" for choice in event.choices]
        self.assertEqual("".join(parts), " 15")
        self.assertEqual(usage.completion_tokens, chat.usage.completion_tokens)
        self.assertEqual([model.id for model in self.client.models.list()], ["demo"])
        self.assertEqual(self.client.models.retrieve("demo").id, "demo")

    def test_openai_errors_have_their_classes(self):
        ask = self.client.chat.completions.create
        with self.assertRaises(openai.NotFoundError) as unknown:
            ask(model="gpt-4", messages=MESSAGES)
        self.assertEqual(unknown.exception.code, "model_not_found")
        with self.assertRaises(openai.BadRequestError) as bad:
            ask(model="demo", messages=MESSAGES, temperature=-1, stream=True)
        self.assertEqual(bad.exception.param, "temperature")
        with self.assertRaises(openai.BadRequestError) as long:
            ask(model="demo", messages=MESSAGES, max_tokens=5000)
        self.assertEqual(long.exception.code, "context_length_exceeded")

    def test_openai_embeddings(self):
        # The client asks for Base64 where nothing is said, and decodes it.
        made = self.client.embeddings.create(model="demo", input=["One", "Two"])
        floats = self.client.embeddings.create(model="demo", input=["One", "Two"],
                                               encoding_format="float")
        for one, other in zip(made.data, floats.data):
            self.assertEqual(len(one.embedding), len(other.embedding))
            for value, same in zip(one.embedding, other.embedding):
                self.assertAlmostEqual(value, same, delta=1e-6)
        self.assertEqual(made.usage.prompt_tokens, made.usage.total_tokens)

    def test_openai_files_and_batches(self):
        rows = [{"custom_id": f"row {i}", "method": "POST", "url": "/v1/chat/completions",
                 "body": {"messages": [{"role": "user", "content": f"What is {i} plus 8?"}],
                          "max_tokens": 6, "temperature": 0}} for i in range(5)]
        path = self.write_rows("rows.jsonl", rows)
        with open(path, "rb") as file:
            kept = self.client.files.create(file=file, purpose="batch")
        self.assertEqual((kept.filename, kept.bytes), ("rows.jsonl", path.stat().st_size))
        self.assertEqual([one.id for one in self.client.files.list()], [kept.id])
        self.assertEqual(self.client.files.content(kept.id).read(), path.read_bytes())
        batch = self.client.batches.create(input_file_id=kept.id, endpoint="/v1/chat/completions",
                                           completion_window="24h", metadata={"a": "b"})
        self.server.wait_until(lambda: self.client.batches.retrieve(batch.id).status == "completed")
        batch = self.client.batches.retrieve(batch.id)
        self.assertEqual((batch.request_counts.total, batch.request_counts.completed), (5, 5))
        self.assertEqual([one.id for one in self.client.batches.list()], [batch.id])
        records = [json.loads(line) for line in
                   self.client.files.content(batch.output_file_id).text.splitlines()]
        for record in records:
            row = rows[int(record["custom_id"].split()[1])]
            alone = self.client.chat.completions.create(model="demo", **row["body"])
            self.assertEqual(record["response"]["body"]["choices"][0]["message"]["content"],
                             alone.choices[0].message.content)
        with self.assertRaises(openai.BadRequestError):
            self.client.batches.cancel(batch.id)
        self.assertTrue(self.client.files.delete(kept.id).deleted)

    def test_openai_asynchronous_with_32_at_once(self):
        async def ask(client, i):
            stream = await client.completions.create(
                model="demo", prompt=f"Question: What is {i} plus 1?\nAnswer:", max_tokens=4,
                temperature=0, stop="\n", stream=True)
            return "".join([event.choices[0].text async for event in stream])

        async def ask_all():
            async with openai.AsyncOpenAI(base_url=self.url, api_key="none", max_retries=0) as client:
                return await asyncio.gather(*[ask(client, i) for i in range(32)])

        answers = asyncio.run(ask_all())
        alone = [self.client.completions.create(
            model="demo", prompt=f"Question: What is {i} plus 1?\nAnswer:", max_tokens=4,
            temperature=0, stop="\n").choices[0].text for i in range(32)]
        self.assertEqual(answers, alone)
        self.server.wait_for_load(0, 0)

    def test_langchain(self):
        if langchain_openai is None:
            self.skipTest("langchain-openai is not here")
        chat = langchain_openai.ChatOpenAI(model="demo", base_url=self.url, api_key="none",
                                           temperature=0, max_tokens=6, stop=["\n"])
        self.assertEqual(chat.invoke("What is 7 plus 8?").content, " 15")
        self.assertEqual("".join(part.content for part in chat.stream("What is 7 plus 8?")), " 15")
        texts = langchain_openai.OpenAI(model="demo", base_url=self.url, api_key="none",
                                        temperature=0, max_tokens=4, n=1)
        answers = texts.generate([PROMPT] * 25, stop=["\n"])
        self.assertEqual({one[0].text for one in answers.generations}, {" 15"})

    def test_lm_eval_finds_the_accuracy_that_rows_with_choices_have(self):
        if lm_eval is None:
            self.skipTest("lm-eval is not here")
        questions = [{"id": i, "text": f"What is {i} plus {i * 7 % 11}?",
                      "choices": [f" {i + i * 7 % 11 + off}" for off in (0, 1, -1, 10)]}
                     for i in range(1, 25)]
        rows = [{"custom_id": f"q-{one['id']}", "prompt": f"Question: {one['text']}\nAnswer:",
                 "choices": one["choices"], "add_special_tokens": False} for one in questions]
        output = self.scratch / "output.jsonl"
        self.generate(DEMO_MODEL, "--input", self.write_rows("rows.jsonl", rows), "--output", output)
        best = [record["best"] for record in self.records(output).values()]
        task = {"task": "sums", "dataset_path": "json",
                "dataset_kwargs": {"data_files": {"test": str(self.write_rows("sums.jsonl", questions))}},
                "test_split": "test", "output_type": "multiple_choice",
                "doc_to_text": "Question: {{text}}\nAnswer:", "doc_to_choice": "{{choices}}",
                "doc_to_target": 0, "target_delimiter": "",
                "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}]}
        results = lm_eval.simple_evaluate(
            model="local-completions", tasks=[task], bootstrap_iters=0,
            model_args={"model": "demo", "base_url": f"{self.url}/completions", "max_length": 255,
                        "num_concurrent": 4, "batch_size": 4})
        self.assertEqual(results["results"]["sums"]["acc,none"], best.count(0) / len(best))


if __name__ == "__main__":
    unittest.main()
