"""Files and batches of the server: answers are those of `sluice generate`, a killed server goes on with its
batches, and chats come first.
"""

import concurrent.futures
import json
import os
import re
import subprocess
import unittest
import uuid

from job_support import DEMO_MODEL, USAGE
from serve_support import Server, ServeTest

FILES, BATCHES = "/v1/files", "/v1/batches"
COMPLETIONS, CHAT, EMBEDDINGS, SCORE = ("/v1/completions", "/v1/chat/completions", "/v1/embeddings",
                                        "/v1/score")
PROMPT = "Question: What is {} plus {}?\nAnswer:"
GREEDY = {"temperature": 0, "ignore_eos": True}


def line(name, body, url=COMPLETIONS):
    return {"custom_id": name, "method": "POST", "url": url, "body": body}


def form(parts):
    """Content-Type and body of a form: name -> (filename or None, bytes)."""
    boundary = uuid.uuid4().hex
    body = b""
    for name, (filename, content) in parts.items():
        named = f'; filename="{filename}"' if filename else ""
        body += (f"--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"{named}\r\n\r\n"
                 ).encode() + content + b"\r\n"
    return f"multipart/form-data; boundary={boundary}", body + f"--{boundary}--\r\n".encode()


class BatchServer(Server):
    def send(self, parts, headers=None):
        kind, body = form(parts)
        return self.ask("POST", FILES, body, {"Content-Type": kind} | (headers or {}), None)

    def upload(self, rows, name="rows.jsonl"):
        text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
        answer = self.send({"purpose": (None, b"batch"), "file": (name, text.encode())})
        assert answer.status == 200, answer.body
        return answer.json()["id"]

    def begin(self, rows, endpoint=COMPLETIONS, **fields):
        answer = self.post(BATCHES, {"input_file_id": self.upload(rows), "endpoint": endpoint,
                                     "completion_window": "24h"} | fields)
        assert answer.status == 200, answer.body
        return answer.json()["id"]

    def batch(self, name):
        return self.get(f"{BATCHES}/{name}").json()

    def wait_for_batch(self, name, status="completed"):
        self.wait_until(lambda: self.batch(name)["status"] in
                        ("completed", "failed", "cancelled", "expired"))
        batch = self.batch(name)
        assert batch["status"] == status, batch
        return batch

    def results(self, file):
        """custom_id -> record."""
        if file is None:
            return {}
        records = [json.loads(text) for text in
                   self.get(f"{FILES}/{file}/content").body.decode().splitlines()]
        by_id = {record["custom_id"] or f"line {record['line']}": record for record in records}
        assert len(by_id) == len(records), "a line was answered twice"
        return by_id


class ServeBatchesTest(ServeTest):
    def serve(self, *arguments, **options):
        return BatchServer(self, "--files-dir", self.scratch / "kept", *arguments, **options)

    def rows(self, count, **fields):
        return [line(f"row {i}", {"prompt": PROMPT.format(i, i % 7), "max_tokens": 6 + i % 5} | GREEDY
                     | ({"temperature": 1.5, "seed": i, "n": 2} if i % 3 == 0 else {}) | fields)
                for i in range(count)]

    def generated(self, rows, model=DEMO_MODEL):
        """custom_id -> the body's choices and usage, as `sluice generate` answers."""
        output = self.scratch / "output.jsonl"
        self.generate(model, "--input", self.write_rows("rows.jsonl", rows), "--output", output,
                      "--overwrite")
        return {name: (record["response"]["body"]["choices"], record["response"]["body"]["usage"])
                for name, record in self.records(output).items()}

    def assert_answers(self, server, batch, expected):
        found = server.results(batch["output_file_id"])
        self.assertEqual({name: (record["response"]["body"]["choices"],
                                 record["response"]["body"]["usage"])
                          for name, record in found.items()}, expected)
        for record in found.values():
            self.assertEqual((record["response"]["status_code"], record["error"]), (200, None))

    def test_a_full_disk_is_waited_for(self):
        """The batch says why it stands still, others are answered, and it goes on when there is room."""
        disk = self.small_disk("256k")
        rows = self.rows(40, max_tokens=60, logprobs=5)
        expected = self.generated(rows)
        server = BatchServer(self, "--files-dir", disk / "kept")
        name = server.begin(rows)
        server.wait_until(lambda: self.assert_open(server.batch(name))["errors"])
        self.assertRegex(server.batch(name)["errors"]["data"][0]["message"], "make room|full|ENOSPC")
        chat = server.post(COMPLETIONS, {"prompt": PROMPT.format(7, 8), "max_tokens": 3} | GREEDY)
        self.assertEqual(chat.status, 200)
        subprocess.run(["mount", "-o", "remount,size=16m", disk], check=True)
        self.assert_answers(server, server.wait_for_batch(name), expected)

    def assert_open(self, batch):
        self.assertIn(batch["status"], ("validating", "in_progress", "finalizing"))
        return batch

    def test_answers_are_those_of_generate(self):
        rows = self.rows(40)
        expected = self.generated(rows)
        for ranks in (0, 2):
            server = self.serve(ranks=ranks)
            name = server.begin(rows, metadata={"for": "the test"})
            batch = server.wait_for_batch(name)
            self.assertEqual(batch["request_counts"], {"total": 40, "completed": 40, "failed": 0})
            self.assertEqual((batch["object"], batch["endpoint"], batch["metadata"], batch["errors"],
                              batch["error_file_id"]),
                             ("batch", COMPLETIONS, {"for": "the test"}, None, None))
            for time in ("created_at", "in_progress_at", "finalizing_at", "completed_at"):
                self.assertGreater(batch[time], 0)
            self.assert_answers(server, batch, expected)
            self.assertEqual(server.get(BATCHES).json()["data"][0], batch)
            self.assertEqual(server.metrics()["sluice_num_batch_requests"], 0)
            server.wait_for_load(0, 0)
            server.stop(self)

    def test_every_endpoint_has_batches(self):
        model = self.chat_model()
        chats = [line(f"chat {i}", {"messages": [{"role": "user", "content": f"What is {i} plus 8?"}],
                                    "max_tokens": 8} | GREEDY, CHAT) for i in range(6)]
        server = self.serve(model=model)
        chat = server.begin(chats, CHAT)
        embedding = server.begin([line("a", {"input": ["One", "Two"]}, EMBEDDINGS)], EMBEDDINGS)
        score = server.begin([line("a", {"prompt": "One", "choices": [" two", " three"]}, SCORE)],
                             SCORE)
        self.assert_answers(server, server.wait_for_batch(chat), self.generated(chats, model))
        for name, path, body, member in (
                (embedding, EMBEDDINGS, {"input": ["One", "Two"]}, "data"),
                (score, SCORE, {"prompt": "One", "choices": [" two", " three"]}, "scores")):
            record = server.results(server.wait_for_batch(name)["output_file_id"])["a"]
            self.assertEqual(record["response"]["body"][member], server.post(path, body).json()[member])

    def test_files_come_and_go(self):
        server = self.serve()
        name = server.upload(self.rows(2), 'a "name" of\\mine.jsonl'.replace('"', '\\"'))
        file = server.get(f"{FILES}/{name}").json()
        self.assertEqual((file["filename"], file["purpose"], file["object"], file["status"]),
                         ('a "name" of\\mine.jsonl', "batch", "file", "processed"))
        text = server.get(f"{FILES}/{name}/content").body
        self.assertEqual((file["bytes"], text.count(b"\n")), (len(text), 2))
        other = server.upload(self.rows(1))
        listed = server.get(FILES + "?purpose=batch").json()
        self.assertEqual({one["id"] for one in listed["data"]}, {name, other})
        first = server.get(FILES + "?limit=1").json()
        self.assertTrue(first["has_more"])
        rest = server.get(f"{FILES}?after={first['last_id']}").json()
        self.assertEqual((len(rest["data"]), rest["has_more"]), (1, False))
        self.assertEqual(server.get(FILES + "?purpose=other").json()["data"], [])
        gone = server.ask("DELETE", f"{FILES}/{name}", None, None, None)
        self.assertEqual(gone.json(), {"id": name, "object": "file", "deleted": True})
        for path in (f"{FILES}/{name}", f"{FILES}/{name}/content", f"{FILES}/..%2f..%2flock",
                     f"{BATCHES}/batch-none"):
            self.assertEqual(server.get(path).status, 404, path)
        self.assertEqual(os.listdir(self.scratch / "kept/files").count(name), 0)
        ended = self.run_job("serve", "--model", DEMO_MODEL, "--port", 0, "--files-dir",
                             self.scratch / "kept")
        self.assertEqual(ended.status, USAGE, ended)
        self.assertIn("another server", ended.stderr)
        server.stop(self)
        again = self.serve()
        self.assertEqual(again.get(f"{FILES}/{other}").status, 200)

    def test_what_is_wrong_is_refused(self):
        without = BatchServer(self)
        for answer in (without.get(FILES), without.post(BATCHES, {}), without.send({})):
            self.assertEqual(answer.status, 404)
            self.assertIn("--files-dir", answer.error()["message"])
        server = self.serve()
        purpose, file = (None, b"batch"), ("a.jsonl", b"{}\n")
        for parts, param in (({"file": file}, "purpose"), ({"purpose": purpose}, "file"),
                             ({"purpose": (None, b"vision"), "file": file}, "purpose"),
                             ({"purpose": purpose, "file": ("a", b"")}, "file")):
            answer = server.send(parts)
            self.assertEqual((answer.status, answer.error()["param"]), (400, param))
        for kind, body in (("multipart/form-data", b""), ("multipart/form-data; boundary=x", b"--y"),
                           ("multipart/form-data; boundary=x", b"--x\r\n\r\na\r\n--x--"),
                           ("multipart/form-data; boundary=x", b"--x--junk")):
            answer = server.ask("POST", FILES, body, {"Content-Type": kind}, None)
            self.assertEqual(answer.status, 400, answer.body)
        for path, method, status in ((FILES, "PUT", 405), (f"{FILES}/a", "POST", 405),
                                     (f"{BATCHES}/a", "DELETE", 405), (f"{FILES}/a/b", "GET", 404),
                                     (f"{BATCHES}/", "GET", 404), (FILES, "POST", 415)):
            answer = server.ask(method, path, "", {"Content-Type": "application/json"}, None)
            self.assertEqual(answer.status, status, (path, method))
        foreign = server.send({"purpose": purpose, "file": file}, {"Origin": "https://example.org"})
        self.assertEqual(foreign.status, 403)
        own = server.send({"purpose": purpose, "file": file},
                          {"Origin": f"http://{server.host}:{server.port}"})
        self.assertEqual(own.status, 200)
        right = {"input_file_id": own.json()["id"], "endpoint": COMPLETIONS}
        for wrong, param in (({"input_file_id": "file-none"}, "input_file_id"),
                             ({"endpoint": "/v1/models"}, "endpoint"),
                             ({"completion_window": "1h"}, "completion_window"),
                             ({"metadata": {"a": 1}}, "metadata")):
            answer = server.post(BATCHES, right | wrong)
            self.assertEqual((answer.status, answer.error()["param"]), (400, param))

    def test_a_bad_line_harms_no_other(self):
        good = self.rows(3)
        rows = [good[0], "{", '"text"', line("wrong url", {"prompt": "a"}, CHAT),
                {"custom_id": "no body", "method": "POST", "url": COMPLETIONS},
                {"method": "POST", "url": COMPLETIONS, "body": {"prompt": "a"}},
                line("stream", {"prompt": "a", "stream": True}), good[1], "",
                line("bad field", {"prompt": "a", "temperature": "hot"}),
                line("model", {"prompt": "a", "model": "gpt-4"}),
                line("row 0", {"prompt": "again"}), good[2]]
        server = self.serve()
        batch = server.wait_for_batch(server.begin(rows))
        self.assertEqual(batch["request_counts"], {"total": 12, "completed": 3, "failed": 9})
        self.assert_answers(server, batch, self.generated(good))
        found = {name: (record["response"]["status_code"],
                        record["response"]["body"]["error"]["param"])
                 for name, record in server.results(batch["error_file_id"]).items()}
        self.assertEqual(found, {
            "line 2": (400, None), "line 3": (400, None), "wrong url": (400, "url"),
            "no body": (400, "body"), "line 6": (400, "custom_id"), "stream": (400, "stream"),
            "bad field": (400, "temperature"), "model": (404, "model"), "row 0": (400, "custom_id")})
        empty = server.wait_for_batch(server.begin(["", " "]), "failed")
        self.assertIn("no lines", empty["errors"]["data"][0]["message"])
        self.assertEqual(empty["output_file_id"], None)

    def test_a_killed_server_goes_on(self):
        rows = self.rows(24, max_tokens=12)
        expected = self.generated(rows)
        for ranks in (0, 2):
            server = self.serve(*self.slow(), "--gpu-batch-size", 4, ranks=ranks)
            name = server.begin(rows)
            output = self.scratch / f"kept/batches/{name}.output.jsonl"
            server.job.wait_for_lines(output, 3)
            server.job.stop()
            with open(output, "ab") as file:
                file.write(b'{"id":"batch_req_torn')
            kept = output.read_bytes().rsplit(b"\n", 1)[0]
            done = {json.loads(text)["custom_id"]: json.loads(text) for text in kept.splitlines()}
            self.assertLess(len(done), len(rows))
            again = self.serve(ranks=ranks)
            batch = again.wait_for_batch(name)
            self.assert_answers(again, batch, expected)
            self.assertEqual(batch["request_counts"], {"total": 24, "completed": 24, "failed": 0})
            text = again.get(f"{FILES}/{batch['output_file_id']}/content").body
            self.assertTrue(text.startswith(kept + b"\n"))
            computed = sum(usage["prompt_tokens"] for row, (_, usage) in expected.items()
                           if row not in done)
            self.assertEqual(again.metrics()["sluice_prompt_tokens_total"], computed)
            again.stop(self)

    def test_answers_under_way_are_kept(self):
        """Long answers, none of which is complete when the server is killed."""
        rows = [line(f"row {i}", {"prompt": PROMPT.format(i, 3), "max_tokens": 60} | GREEDY
                     | ({"temperature": 1.5, "seed": i, "n": 2} if i % 2 else {})) for i in range(3)]
        expected = self.generated(rows)
        server = self.serve(*self.slow())
        journal = self.scratch / "kept/batches/journal"
        empty = journal.stat().st_size
        name = server.begin(rows)
        server.job.wait_for(journal, "tokens", lambda text: len(text) > empty + 400)
        server.job.stop()
        again = self.serve()
        said = re.search(r"going on with (\d+) unfinished answers of batches, which have (\d+) tokens",
                         "".join(again.job.texts()))
        self.assertGreater(int(said.group(2)), 0)
        self.assert_answers(again, again.wait_for_batch(name), expected)
        again.stop(self)

    def test_sigterm_leaves_a_batch_for_the_next_run(self):
        rows = self.rows(24, max_tokens=12)
        server = self.serve(*self.slow())
        name = server.begin(rows)
        server.job.wait_for_lines(self.scratch / f"kept/batches/{name}.output.jsonl", 2)
        server.stop(self)
        again = self.serve()
        self.assert_answers(again, again.wait_for_batch(name), self.generated(rows))

    def test_a_batch_can_be_cancelled(self):
        server = self.serve(*self.slow())
        rows = self.rows(200)
        name, second = server.begin(rows), server.begin(rows)
        server.job.wait_for_lines(self.scratch / f"kept/batches/{name}.output.jsonl", 2)
        used = server.batch(name)["input_file_id"]
        self.assertEqual(server.ask("DELETE", f"{FILES}/{used}", None, None, None).status, 400)
        queued = server.post(f"{BATCHES}/{second}/cancel", "")
        self.assertEqual((queued.status, queued.json()["status"]), (200, "cancelled"))
        self.assertIn(server.post(f"{BATCHES}/{name}/cancel", "").json()["status"],
                      ("cancelling", "cancelled"))
        batch = server.wait_for_batch(name, "cancelled")
        self.assertLess(batch["request_counts"]["completed"], 200)
        found = server.results(batch["output_file_id"])
        self.assertEqual(len(found), batch["request_counts"]["completed"])
        self.assertGreater(batch["cancelled_at"], 0)
        server.wait_until(lambda: server.metrics()["sluice_num_batch_requests"] == 0)
        self.assertEqual(server.post(f"{BATCHES}/{name}/cancel", "").status, 400)
        self.assertEqual(server.post(COMPLETIONS, {"prompt": "One", "max_tokens": 2}).status, 200)

    def test_chats_come_first_and_the_batch_stays_right(self):
        """Three clients want both places: the batch's rows step back, and go on with the same tokens."""
        rows = self.rows(4, max_tokens=40)
        expected = self.generated(rows)
        live = [{"prompt": PROMPT.format(i, 90), "max_tokens": 4} | GREEDY for i in range(6)]
        server = self.serve(*self.slow(), "--gpu-batch-size", 2)
        alone = [server.post(COMPLETIONS, body).json()["choices"] for body in live]
        name = server.begin(rows)
        server.wait_until(lambda: server.metrics()["sluice_num_batch_requests"] > 0)
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            answers = list(pool.map(lambda body: server.post(COMPLETIONS, body), live))
        self.assertEqual([answer.json()["choices"] for answer in answers], alone)
        self.assertEqual(server.batch(name)["status"], "in_progress")
        self.assert_answers(server, server.wait_for_batch(name), expected)
        server.wait_for_load(0, 0)


if __name__ == "__main__":
    unittest.main()
