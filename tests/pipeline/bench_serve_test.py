"""`sluice bench serve`: load on a real server, one that it starts or one that is there."""

import json
import os
import signal
import time
import unittest

from job_support import BAD_INPUT, DEMO_MODEL, DEVICE, DONE, FAILURE, MAX_SECONDS, STOPPED, USAGE, is_running, parents
from serve_support import Server, ServeTest

LATENCIES = ["TTFT", "TPOT", "ITL", "E2E"]


class BenchServeTest(ServeTest):
    def bench(self, *arguments, status=DONE, environment=None):
        ended = self.run_job("bench", "serve", *arguments, environment=environment)
        self.assertEqual(ended.status, status, ended)
        self.assert_no_crash(ended)
        return ended

    def url(self, server):
        return f"http://{server.host}:{server.port}"

    def test_a_server_that_it_starts(self):
        for ranks in (1, 2):
            with self.subTest(ranks=ranks):
                file = self.scratch / "figures.json"
                ended = self.bench("--model", DEMO_MODEL, "--device", DEVICE, "--ranks", ranks, "--shapes", "24/8",
                                   "--requests", 20, "--max-concurrency", 4, "--prefix-len", 8, "--json", file)
                self.assertRegex(ended.stdout, r"\|\s+20 \|\s+0 \|")
                figures = self.read_json(file)
                self.assertEqual((figures["completed"], figures["failed"]), (20, 0))
                self.assertEqual((figures["prompt_tokens"], figures["output_tokens"]), (20 * 24, 20 * 8))
                self.assertEqual([one["latency"] for one in figures["latencies"]], LATENCIES)
                for one in figures["latencies"]:
                    self.assertGreater(one["mean_ms"], 0)
                    self.assertLessEqual(one["median_ms"], one["p99_ms"])
                self.assertEqual(figures["load"]["max_concurrency"], 4)
                spans = [(one["sent_ms"], one["sent_ms"] + one["event_ms"][-1]) for one in figures["answers"]]
                for begin, _ in spans:  # not more at a time
                    self.assertLessEqual(sum(other <= begin < end for other, end in spans), 4)
                self.assertFalse([pid for pid, parent in parents().items() if parent == os.getpid()
                                  and is_running(pid)])

    def test_a_server_that_is_there(self):
        server = Server(self, model=self.chat_model(), environment={"SLUICE_API_KEY": "secret"})
        server.key = "secret"
        rows = [{"prompt": "Question: What is 7 plus 8?\nAnswer:", "max_tokens": 4, "ignore_eos": True},
                {"messages": [{"role": "user", "content": "What is 7 plus 8?"}], "max_tokens": 4, "ignore_eos": True},
                {"prompt": "Name the colour", "temperature": -1}]
        ended = self.bench("--url", self.url(server), "--dataset", self.write_rows("rows.jsonl", rows), "--requests",
                           30, "--request-rate", 200, "--warm-up", 2, "--format", "json",
                           environment={"SLUICE_API_KEY": "secret"})
        figures = json.loads(ended.stdout)
        self.assertEqual((figures["completed"], figures["failed"], figures["output_tokens"]), (20, 10, 80))
        self.assertEqual(list(figures["failures"].values()), [10])
        self.assertRegex(ended.stderr, "10 requests failed: status 400: temperature is -1")
        server.wait_for_load(0, 0)
        self.assertEqual(server.metrics()["sluice_request_success_total"], 22)
        refused = self.bench("--url", self.url(server) + "/v1", "--requests", 2, "--warm-up", 0, status=FAILURE)
        self.assertIn("/tokenize of the server gives no ids (status 401", refused.stderr)
        table = self.bench("--url", self.url(server), "--requests", 3, "--shapes", "5/1", "--format", "csv",
                           environment={"SLUICE_API_KEY": "secret"}).stdout.splitlines()
        self.assertEqual(table[0].split(",")[:2], ["completed", "failed"])
        self.assertEqual(table[1].split(",")[:2], ["3", "0"])
        self.assertEqual([line.split(",")[0] for line in table[4:]], LATENCIES)

    def test_where_nothing_is_answered(self):
        server = Server(self)
        rows = self.write_rows("rows.jsonl", [{"prompt": "a", "top_p": 7}])
        ended = self.bench("--url", self.url(server), "--dataset", rows, "--requests", 3, "--warm-up", 0,
                           status=FAILURE)
        self.assertIn("none of 3 requests was answered: status 400: top_p", ended.stderr)
        ended = self.bench("--url", self.url(server), "--dataset", rows, status=FAILURE)
        self.assertIn("a request of the warm-up failed", ended.stderr)
        server.stop(self)
        ended = self.bench("--url", self.url(server), status=FAILURE)
        self.assertIn("cannot be reached", ended.stderr)
        ended = self.bench("--model", self.scratch, status=BAD_INPUT)
        self.assertIn("the server has ended: ", ended.stderr)
        ended = self.bench("--model", DEMO_MODEL, "--dataset", self.write("bad.jsonl", "no JSON\n"), status=BAD_INPUT)
        self.assertIn("bad.jsonl:1: a request is a JSON object", ended.stderr)

    def test_a_signal_ends_it_and_its_server(self):
        folder = self.scratch / "temporary"
        folder.mkdir()
        job = self.start("bench", "serve", "--model", DEMO_MODEL, "--device", DEVICE, "--requests", 100000,
                         "--max-concurrency", 2, "--shapes", "8/100", environment={"TMPDIR": str(folder)})
        job.wait_for_text("100000 requests")
        servers = [pid for pid, parent in parents().items() if parent == job.process.pid]
        self.assertEqual(len(servers), 1)
        os.kill(job.process.pid, signal.SIGTERM)
        ended = job.end()
        self.assertEqual(ended.status, STOPPED, ended)
        deadline = time.monotonic() + MAX_SECONDS
        while is_running(servers[0]):
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.01)
        self.assertEqual(list(folder.glob("sluice-bench-*")), [])

    def test_wrong_use(self):
        for arguments, sentence in (
                ((), "no server: give --url"),
                (("--url", "http://a:1", "--model", DEMO_MODEL), "so --model cannot be said of it"),
                (("--url", "http://a:1", "--percent", *"000000"), "so --percent cannot be said of it"),
                (("--url", "https://a:1"), "only http is spoken"),
                (("--model", DEMO_MODEL, "--request-rate", "-1"), "--request-rate: '-1'"),
                (("--model", DEMO_MODEL, "--stages", "2"), "--stages: is not for"),
                (("--model", DEMO_MODEL, "--shapes", "8/2,9/2"), "--shapes: serve takes one"),
                (("--model", DEMO_MODEL, "--shapes", "8/2", "--prefix-len", "8"), "--prefix-len: must be less"),
                (("--model", DEMO_MODEL, "--max-concurrency", "0"), "--max-concurrency")):
            with self.subTest(arguments):
                self.assertIn(sentence, self.bench(*arguments, status=USAGE).stderr)
        for case in ("generate", "scaling"):
            ended = self.run_job("bench", case, "--model", DEMO_MODEL, "--requests", 2, "--max-waiting", 3)
            self.assertEqual(ended.status, USAGE, ended)
            self.assertIn("--requests: is for sluice bench serve", ended.stderr)
            self.assertIn("--max-waiting: is for sluice bench serve", ended.stderr)


if __name__ == "__main__":
    unittest.main()
