"""Conversations through the program: rows with messages, OpenAI's batch rows for chats, `tokenize
--messages`. The demo model gets a template that writes what it was trained on.
"""

import json
import unittest

from job_support import BAD_INPUT, DEMO_MODEL, DONE, ROWS_FAILED, USAGE, JobTest, percent

QUESTIONS = ["What is 7 plus 8?", "What is the capital of Peru?", "What is 20 minus 6?"]
TEMPLATE = """\
{{- bos_token }}
{%- for message in messages %}
    {%- if message.role == 'user' %}
        {{- 'Question: ' + message.content + '\\n' }}
    {%- elif message.role == 'assistant' %}
        {{- 'Answer:' + message.content + '\\n' }}
    {%- else %}
        {{- raise_exception('No role ' + message.role) }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- 'Answer:' }}
{%- endif %}
"""


def user(text):
    return {"role": "user", "content": text}


def prompt(question):
    return f"Question: {question}\nAnswer:"


class ChatTest(JobTest):
    def setUp(self):
        super().setUp()
        self.output = self.scratch / "output.jsonl"
        self.model = self.scratch / "model"
        self.model.mkdir()
        for path in DEMO_MODEL.iterdir():
            (self.model / path.name).symlink_to(path)
        (self.model / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")

    def answer(self, rows, *arguments, model=None, **options):
        self.generate(model or self.model, "--input", self.write_rows("rows.jsonl", rows),
                      "--output", self.output, "--overwrite", *arguments, **options)
        return self.records(self.output)

    def test_messages_are_answered_as_the_prompt_that_they_stand_for(self):
        rows = []
        for i, question in enumerate(QUESTIONS):
            rows.append({"custom_id": f"prompt-{i}", "prompt": prompt(question)})
            rows.append({"custom_id": f"chat-{i}", "messages": [user(question)]})
            rows.append({"custom_id": f"openai-{i}", "method": "POST",
                         "url": "/v1/chat/completions",
                         "body": {"model": "demo", "messages": [user(question)],
                                  "max_completion_tokens": 8, "stop": "\n"}})
        for row in rows:
            if "body" not in row:
                row |= {"max_tokens": 8, "stop": "\n"}
        for ranks, arguments in ((0, []), (2, percent(34, 33, 50, 50, 100, 0))):
            with self.subTest(ranks=ranks):
                records = self.answer(rows, *arguments, ranks=ranks)
                for i in range(len(QUESTIONS)):
                    asked, chat = records[f"prompt-{i}"], records[f"chat-{i}"]
                    for key in ("text", "token_ids", "usage", "finish_reason"):
                        self.assertEqual(chat[key], asked[key], key)
                    response = records[f"openai-{i}"]["response"]
                    self.assertEqual(response["status_code"], 200)
                    body = response["body"]
                    self.assertEqual(body["object"], "chat.completion")
                    choice = body["choices"][0]
                    self.assertEqual(choice["message"]["role"], "assistant")
                    self.assertEqual(choice["message"]["content"], asked["text"])
                    self.assertEqual(choice["finish_reason"], asked["finish_reason"])
                    self.assertIsNone(choice["logprobs"])
                    self.assertEqual(body["usage"]["prompt_tokens"], asked["usage"]["prompt_tokens"])
                self.assertEqual(records["chat-0"]["text"], " 15")

    def test_a_row_that_the_template_refuses_harms_no_other(self):
        rows = [{"custom_id": "a", "messages": [user(QUESTIONS[0])], "stop": "\n"},
                {"custom_id": "b", "messages": [{"role": "poet", "content": "x"}]},
                {"custom_id": "c", "messages": [user(3)]},
                {"custom_id": "d", "url": "/v1/chat/completions",
                 "body": {"messages": [{"role": "poet", "content": "x"}]}}]
        records = self.answer(rows, status=ROWS_FAILED)
        self.assertEqual(records["a"]["text"], " 15")
        self.assertIn("refuses the messages: No role poet", records["b"]["error"]["message"])
        self.assertIn("chat_template.jinja, line 4", records["c"]["error"]["message"])
        self.assertEqual(records["d"]["response"]["status_code"], 400)
        self.assertIn("No role poet", records["d"]["response"]["body"]["error"]["message"])
        # What failed is tried again, and what is done is not.
        (self.model / "chat_template.jinja").write_text(TEMPLATE.replace("'user'", "'poet'"),
                                                        encoding="utf-8")
        self.generate(self.model, "--input", self.scratch / "rows.jsonl", "--output", self.output,
                      "--resume", "--max-new-tokens", 2, status=ROWS_FAILED)
        lines = [json.loads(line) for line in self.output.read_text().splitlines()]
        self.assertEqual(sum(line["custom_id"] == "a" for line in lines), 1)
        self.assertTrue(any(line["custom_id"] == "b" and "text" in line for line in lines))

    def test_a_folder_without_a_template(self):
        rows = [{"custom_id": "prompt", "prompt": prompt(QUESTIONS[0]), "stop": "\n"},
                {"custom_id": "chat", "messages": [user("Hi")]}]
        records = self.answer(rows, model=DEMO_MODEL, status=ROWS_FAILED)
        self.assertEqual(records["prompt"]["text"], " 15")
        self.assertIn(f"{DEMO_MODEL} has no chat template", records["chat"]["error"]["message"])
        ended = self.run_job("tokenize", "--model", DEMO_MODEL, "--messages", text="")
        self.assert_refused(ended, BAD_INPUT, f"{DEMO_MODEL} has no chat template", "jinja")

    def test_tokenize(self):
        rows = [{"messages": [user("Hi"), {"role": "assistant", "content": " Ho"}, user("He")]},
                {"messages": [user("Hi")], "tools": None, "add_generation_prompt": False}]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        ended = self.run_job("tokenize", "--model", self.model, "--messages", text=text)
        self.assertEqual((ended.status, ended.stderr), (DONE, ""))
        made = [json.loads(line) for line in ended.stdout.splitlines()]
        self.assertEqual([one["text"] for one in made],
                         ["</s>Question: Hi\nAnswer: Ho\nQuestion: He\nAnswer:",
                          "</s>Question: Hi\n"])
        # The same ids as of the text with the BOS token that encoding adds.
        lines = "".join(json.dumps({"text": one["text"].removeprefix("</s>")}) + "\n" for one in made)
        plain = self.run_job("tokenize", "--model", self.model, "--jsonl", text=lines)
        self.assertEqual([one["ids"] for one in made],
                         [json.loads(line)["ids"] for line in plain.stdout.splitlines()])
        ended = self.run_job("tokenize", "--model", self.model, "--messages", "--decode", text="")
        self.assert_refused(ended, USAGE, "--messages and --decode")

    def test_templates_that_never_end(self):
        endless = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
        (self.model / "chat_template.jinja").write_text(endless, encoding="utf-8")
        text = json.dumps({"messages": [user("Hi")]}) + "\n"
        ended = self.run_job("tokenize", "--model", self.model, "--messages", text=text)
        self.assertEqual(ended.status, ROWS_FAILED)
        self.assertIn("line 1: ", ended.stderr)
        self.assertIn("steps", ended.stderr)


if __name__ == "__main__":
    unittest.main()
