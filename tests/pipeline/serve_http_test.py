"""The server as strangers meet it: what it refuses and how, keys, limits, clients that leave, its end."""

import concurrent.futures
import http.client
import json
import os
import re
import signal
import socket
import unittest

from job_support import DEMO_MODEL, DEVICE, DONE, USAGE, is_running, parents, ranks_of
from serve_support import Server, ServeTest, events_of

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
MIB = 1 << 20
LONG = {"prompt": "One", "max_tokens": 200, "ignore_eos": True, "temperature": 0}

# Bodies of completions that are refused, what is at fault, and a word of the sentence.
BAD_COMPLETIONS = [
    ("{", None, "no JSON"),
    ("[1]", None, "no JSON object"),
    ('{"prompt": "a", "prompt": "b"}', "prompt", "twice"),
    ("[" * 2000, None, "nested"),
    ({}, "prompt", "no prompt"),
    ({"prompt": ""}, "prompt", "empty"),
    ({"prompt": []}, "prompt", "empty"),
    ({"prompt": 7}, "prompt", "text"),
    ({"prompt": ["a", 7]}, "prompt", "text"),
    ({"prompt": [5000]}, "prompt", "token ids"),
    ({"prompt": [-1]}, "prompt", "token ids"),
    ({"prompt": ["a"] * 3000}, "prompt", "3000"),
    ({"prompt": ["a"] * 1000, "n": 100}, "n", "100000"),
    ({"prompt": "a", "max_tokens": -1}, "max_tokens", "integer"),
    ({"prompt": "a", "max_tokens": 10**30}, "max_tokens", "integer"),
    ({"prompt": "a", "max_tokens": 1.5}, "max_tokens", "integer"),
    ({"prompt": "a", "max_tokens": 1000}, "max_tokens", "positions"),
    ({"prompt": "a " * 2000}, "prompt", "tokens"),
    ({"prompt": "a", "temperature": -1}, "temperature", "at least 0"),
    ({"prompt": "a", "temperature": "hot"}, "temperature", "number"),
    ({"prompt": "a", "top_p": 0}, "top_p", "above 0"),
    ({"prompt": "a", "n": 0}, "n", "integer"),
    ({"prompt": "a", "n": 10**9}, "n", "integer"),
    ({"prompt": "a", "n": 3, "best_of": 2}, "best_of", "best_of"),
    ({"prompt": "a", "logprobs": 10**6}, "logprobs", "integer"),
    ({"prompt": "a", "stop": ["x"] * 10**5}, "stop", "stop"),
    ({"prompt": "a", "stop": ""}, "stop", "text"),
    ({"prompt": "a", "logit_bias": {"1": 1000}}, "logit_bias", "-100"),
    ({"prompt": "a", "seed": "x"}, "seed", "integer"),
    ({"prompt": "a", "stream": "yes"}, "stream", "true or false"),
    ({"prompt": "a", "stream_options": {"include_usage": True}}, "stream_options", "stream"),
    ({"prompt": "a", "suffix": "b"}, "suffix", "suffix"),
    ({"prompt": "a", "choices": ["b"]}, "choices", "choices"),
    ({"prompt": "a", "embed": "mean"}, "embed", "embed"),
    ({"prompt": "a", "lora": "x"}, "lora", "lora"),
    ({"prompt": "a", "response_format": {"type": "yaml"}}, "response_format", "response_format"),
    ({"prompt": "a", "model": 7}, "model", "text"),
    ({"messages": [{"role": "user", "content": "a"}]}, "prompt", "no prompt"),
]
BAD_CHATS = [
    ({}, "messages", "messages"),
    ({"messages": []}, "messages", "empty"),
    ({"messages": "a"}, "messages", "list"),
    ({"messages": [{"content": "a"}]}, "messages", "role"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages", "texts"),
    ({"messages": [{"role": "user", "content": "a"}], "top_logprobs": 2}, "top_logprobs", "logprobs"),
    ({"messages": [{"role": "user", "content": "a"}], "tool_choice": "required"}, "tool_choice",
     "not supported"),
]


def read_all(stream):
    """What comes on a socket until the other side ends it."""
    stream.settimeout(60)
    parts = []
    while part := stream.recv(1 << 16):
        parts.append(part)
    return b"".join(parts)


class ServeHttpTest(ServeTest):
    def test_bad_bodies_are_refused_by_field(self):
        server = Server(self, model=self.chat_model())
        connection = server.connect()  # it survives all of them
        for path, table in ((COMPLETIONS, BAD_COMPLETIONS), (CHAT, BAD_CHATS)):
            for body, param, word in table:
                with self.subTest(path=path, body=str(body)[:80]):
                    answer = server.post(path, body, connection=connection)
                    self.assertEqual(answer.status, 400, answer.body)
                    error = answer.error()
                    self.assertEqual(error["type"], "invalid_request_error")
                    self.assertEqual(error["param"], param)
                    self.assertIn(word, error["message"])
                    if isinstance(body, dict) and param not in ("stream", "stream_options"):
                        streamed = server.post(path, body | {"stream": True}, connection=connection)
                        self.assertEqual((streamed.status, streamed.error()), (400, error))
        unknown = server.post(COMPLETIONS, {"prompt": "a", "model": "gpt-4"})
        self.assertEqual((unknown.status, unknown.error()["code"]), (404, "model_not_found"))
        base = Server(self)
        answer = base.post(CHAT, {"messages": [{"role": "user", "content": "a"}]})
        self.assertEqual(answer.status, 400)
        self.assertIn("template", answer.error()["message"])
        self.assertEqual(server.post(COMPLETIONS, {"prompt": "a", "flavour": 1}).status, 200)
        self.assertEqual(Server(self, "--strict").post(
            COMPLETIONS, {"prompt": "a", "flavour": 1}).error()["param"], "flavour")

    def test_methods_types_and_paths(self):
        server = Server(self)
        self.assertEqual(server.get("/nothing").status, 404)
        wrong = server.get(COMPLETIONS)
        self.assertEqual((wrong.status, wrong.headers["allow"]), (405, "POST"))
        self.assertEqual(server.post("/health", {}).headers["allow"], "GET, HEAD")
        for kind in ("text/plain", "", "application/jsonx", "application/x-www-form-urlencoded"):
            answer = server.post(COMPLETIONS, {"prompt": "a"}, {"Content-Type": kind})
            self.assertEqual(answer.status, 415, kind)
        for kind in ("application/json; charset=utf-8", "Application/JSON"):
            answer = server.post(COMPLETIONS, {"prompt": "a"}, {"Content-Type": kind})
            self.assertEqual(answer.status, 200, kind)
        head = server.get("/health", method="HEAD")
        self.assertEqual((head.status, head.body), (200, b""))
        self.assertEqual(server.get("/v1/models?x=1").status, 200)
        self.assertNotIn("access-control-allow-origin",
                         server.get("/health", {"Origin": "http://a.example"}).headers)
        self.assertEqual(server.get(COMPLETIONS, {"Origin": "http://a"}, "OPTIONS").status, 405)

    def test_pages_of_a_named_origin_may_ask(self):
        server = Server(self, "--allow-origin", "http://a.example")
        asked = server.get(COMPLETIONS, {"Origin": "http://a.example"}, "OPTIONS")
        self.assertEqual(asked.status, 204)
        self.assertEqual(asked.headers["access-control-allow-origin"], "http://a.example")
        answer = server.post(COMPLETIONS, {"prompt": "a"}, {"Origin": "http://a.example"})
        self.assertEqual(answer.headers["access-control-allow-origin"], "http://a.example")
        other = server.post(COMPLETIONS, {"prompt": "a"}, {"Origin": "http://b.example"})
        self.assertNotIn("access-control-allow-origin", other.headers)

    def test_requests_as_bytes(self):
        """Chunks, 100-continue, several at once, HTTP/1.0, and what is no HTTP."""
        server = Server(self)
        head = "POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        body = json.dumps({"prompt": "One", "max_tokens": 2, "temperature": 0})
        length = f"Content-Length: {len(body)}\r\n"
        chunked = f"{head}Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        chunked += "".join(f"{len(part):x}\r\n{part}\r\n" for part in (body[:9], body[9:]))
        get = "GET /version HTTP/1.1\r\nHost: a\r\n"
        expect = f"{head}{length}Expect: 100-continue\r\nConnection: close\r\n\r\n{body}"
        cases = {
            "chunks": (chunked + "0\r\n\r\n", [200]),
            "100-continue": (expect, [100, 200]),
            "pipelined": (f"{get}\r\n{head}{length}\r\n{body}{get}Connection: close\r\n\r\n",
                          [200, 200, 200]),
            "HTTP/1.0": ("GET /version HTTP/1.0\r\n\r\n", [200]),
            "no HTTP": ("hello\r\n\r\n", [400]),
            "two lengths": (f"{head}{length}Content-Length: 3\r\n\r\n{body}", [400]),
            "length and chunks": (f"{head}{length}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", [400]),
            "a signed length": (f"{head}Content-Length: +5\r\n\r\n{body}", [400]),
            "another coding": (f"{head}Transfer-Encoding: gzip\r\n\r\n{body}", [501]),
            "a long header": (f"{get}X: {'x' * 20000}\r\n\r\n", [431]),
            "a long body": (f"{head}Content-Length: {1 << 40}\r\n\r\n", [413]),
        }
        for name, (sent, statuses) in cases.items():
            with self.subTest(name), server.raw() as stream:
                stream.sendall(sent.encode())
                said = read_all(stream).decode()
                found = [int(status) for status in re.findall(r"HTTP/1\.1 (\d+) ", said)]
                self.assertEqual(found, statuses, said)
                if statuses[-1] >= 400:
                    self.assertIn("Connection: close", said)
                    self.assertIn("message", json.loads(said.split("\r\n\r\n", 1)[1])["error"])
        with server.raw() as stream:  # a stream without chunks, for HTTP/1.0
            body = json.dumps(LONG | {"stream": True, "max_tokens": 5})
            stream.sendall(f"{head.replace('1.1', '1.0')}Content-Length: {len(body)}\r\n\r\n{body}"
                           .encode())
            said = read_all(stream)
            self.assertNotIn(b"chunked", said)
            self.assertTrue(events_of(said.split(b"\r\n\r\n", 1)[1]))

    def test_a_large_body_gets_a_readable_answer(self):
        server = Server(self)
        for headers in ({}, {"Expect": "100-continue"}):
            answer = server.post(COMPLETIONS, b"x" * (96 * MIB), headers)
            self.assertEqual(answer.status, 413)
            self.assertIn("longer than", answer.error()["message"])
            self.assertEqual(answer.headers["connection"], "close")
        self.assertEqual(server.post(COMPLETIONS, {"prompt": "a"}).status, 200)

    def test_the_key_is_asked_for_on_every_route_but_health(self):
        key = self.write("key.txt", "s3cret\n")
        server = Server(self, "--host", "0.0.0.0", "--api-key-file", key)
        server.host = "127.0.0.1"
        for path in ("/v1/models", "/metrics", "/version", "/tokenizer_info", "/nothing"):
            for given in (None, "Bearer", "Bearer ", "Bearer s3cre", "Bearer s3crets", "s3cret"):
                answer = server.get(path, {"Authorization": given} if given else {})
                self.assertEqual((answer.status, answer.error()["code"]), (401, "invalid_api_key"))
        for path in (COMPLETIONS, CHAT, "/tokenize", "/detokenize"):
            self.assertEqual(server.post(path, {"prompt": "a"}).status, 401)
        page = server.get("/")
        self.assertEqual((page.status, page.headers["www-authenticate"]),
                         (401, 'Basic realm="sluice"'))
        self.assertEqual(server.get("/", {"Authorization": "Basic OnMzY3JldA=="}).status, 200)
        self.assertEqual(server.get("/health").status, 200)
        server.key = "s3cret"
        self.assertEqual(server.get("/v1/models").status, 200)
        self.assertEqual(server.post(COMPLETIONS, {"prompt": "a"}).status, 200)
        self.assertNotIn("s3cret", "".join(server.job.texts()))
        by_environment = Server(self, environment={"SLUICE_API_KEY": "other"})
        self.assertEqual(by_environment.get("/v1/models").status, 401)
        by_environment.key = "other"
        self.assertEqual(by_environment.get("/v1/models").status, 200)
        # Where there is no key, any is taken.
        free = Server(self)
        self.assertEqual(free.get("/v1/models", {"Authorization": "Bearer x"}).status, 200)

    def test_what_it_will_not_listen_on(self):
        server = Server(self)
        for ranks in (0, 2):
            ended = self.run_job("serve", "--model", DEMO_MODEL, "--port", server.port, ranks=ranks)
            self.assertEqual(ended.status, USAGE, ended)
            self.assertIn(f"port {server.port}", "".join(ended.said()))
        for host in ("0.0.0.0", "::", "127.example.org"):
            open_to_all = self.run_job("serve", "--model", DEMO_MODEL, "--host", host, "--port", 0)
            self.assert_refused(open_to_all, USAGE, "--api-key-file")
        nowhere = self.run_job("serve", "--model", DEMO_MODEL, "--host", "192.0.2.1", "--insecure",
                               "--port", 0)
        self.assert_refused(nowhere, USAGE, "192.0.2.1")
        wrong = self.run_job("serve", "--model", DEMO_MODEL, "--port", 70000)
        self.assert_refused(wrong, USAGE, "--port")

    def test_clients_that_leave_give_back_their_places(self):
        for ranks in (0, 2):
            server = Server(self, *self.slow(), "--gpu-batch-size", 2, "--num-gpu-batches", 1,
                            "--micro-batches", 1, ranks=ranks)
            leavers = [server.open_stream(COMPLETIONS, LONG) for _ in range(2)]  # all places
            whole = server.connect()
            whole.request("POST", COMPLETIONS, json.dumps(LONG),
                          {"Content-Type": "application/json"})
            server.wait_for_load(2, 1)
            for response in leavers:
                response.connection.sock.close()
                response.close()
            server.wait_for_load(1, 0)
            whole.close()  # which has no stream, so nothing is written to it
            server.wait_for_load(0, 0)
            self.assertEqual(server.post(COMPLETIONS, LONG | {"max_tokens": 2}).status, 200)
            self.assertEqual(server.metrics()["sluice_request_left_total"], 3)
            server.stop(self)

    def test_a_full_queue_is_told_to_come_again(self):
        server = Server(self, *self.slow(), "--gpu-batch-size", 1, "--max-waiting", 2)
        streams = [server.open_stream(COMPLETIONS, LONG)]
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            waiting = [pool.submit(server.post, COMPLETIONS, LONG | {"max_tokens": 2})
                       for _ in range(2)]
            server.wait_for_load(1, 2)
            full = server.post(COMPLETIONS, LONG)
            self.assertEqual((full.status, full.error()["type"]), (429, "rate_limit_error"))
            self.assertEqual(full.headers["retry-after"], "1")
            streams[0].connection.sock.close()
            streams[0].close()
            self.assertEqual([one.result().status for one in waiting], [200, 200])

    def test_a_reader_that_is_too_slow_loses_its_place(self):
        server = Server(self)
        body = LONG | {"n": 128, "logprobs": 20, "max_tokens": 200, "stream": True}
        with socket.socket() as stream:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            stream.connect((server.host, server.port))
            text = json.dumps(body)
            stream.sendall((f"POST {COMPLETIONS} HTTP/1.1\r\nHost: a\r\nContent-Type: "
                            f"application/json\r\nContent-Length: {len(text)}\r\n\r\n{text}").encode())
            server.wait_until(lambda: server.metrics()["sluice_request_left_total"] == 1)
            server.wait_for_load(0, 0)
        self.assertEqual(server.post(COMPLETIONS, {"prompt": "a"}).status, 200)

    def test_sigterm_lets_answers_come_to_their_ends(self):
        for ranks in (0, 2):
            server = Server(self, *self.slow(), ranks=ranks)
            body = LONG | {"max_tokens": 20}
            expected = server.post(COMPLETIONS, body).json()["choices"][0]["text"]
            idle = server.connect()
            server.get("/health", connection=idle)
            response = server.open_stream(COMPLETIONS, body)
            os.kill(server.head_pid(), signal.SIGTERM)
            events = events_of(response.read())
            self.assertEqual("".join(event["choices"][0]["text"] for event in events), expected)
            ended = server.job.end()
            self.assertEqual(ended.status, DONE, ended)
            with self.assertRaises((ConnectionError, http.client.HTTPException)):
                server.get("/health")

    def test_a_killed_rank_ends_the_server_and_its_streams(self):
        server = Server(self, *self.slow(), ranks=2)
        streams = [server.open_stream(COMPLETIONS, LONG) for _ in range(8)]
        os.kill(server.job.ranks[1], signal.SIGKILL)
        for response in streams:
            said = response.read().decode()
            self.assertIn('"error"', said)
            self.assertIn("has lost a part of the model", said)
        ended = server.job.end(30)
        self.assertNotEqual(ended.status, DONE, ended)
        self.assertIn("rank 1", ended.stdout + ended.stderr)
        self.assertFalse(is_running(server.job.ranks[0]))

    def test_launch_starts_a_server_again(self):
        job = self.start("launch", "-n", 2, "serve", "--model", DEMO_MODEL, "--device", DEVICE,
                         "--port", 0)
        server = Server.of_job(job)
        before = server.post(COMPLETIONS, LONG).json()["choices"]
        (mpirun,) = [pid for pid, parent in parents().items() if parent == job.process.pid]
        os.kill(ranks_of(mpirun)[1], signal.SIGKILL)
        again = Server.of_job(job, address=1)
        self.assertEqual(again.post(COMPLETIONS, LONG).json()["choices"], before)
        os.kill(job.process.pid, signal.SIGTERM)
        ended = job.end()
        self.assertEqual(ended.status, DONE, ended)


if __name__ == "__main__":
    unittest.main()
