"""A real server for tests, and a client that speaks HTTP by Python's own library."""

import http.client
import json
import os
import re
import signal
import socket
import time

from job_support import DEMO_MODEL, DONE, MAX_SECONDS, SOURCE, JobTest

CHAT_TEMPLATE = SOURCE / "models/demo-chat.jinja"


class Answer:
    def __init__(self, response):
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.body = response.read()

    def json(self):
        return json.loads(self.body)

    def error(self):
        return self.json()["error"]


class Server:
    """Listens on a free port. Its calls open a connection each, unless they are given one."""

    def __init__(self, test, *arguments, ranks=0, model=DEMO_MODEL, environment=None, ready=True):
        self.find(test.start("serve", "--model", model, "--port", 0, *arguments, ranks=ranks,
                             environment=environment), 0)
        if ready:
            self.wait_until(lambda: self.get("/health").status == 200)
            self.job.find_ranks()

    @classmethod
    def of_job(cls, job, address=0):
        """Of a job that prints several addresses, the one of this number; when it is ready."""
        server = cls.__new__(cls)
        server.find(job, address)
        server.wait_until(lambda: server.get("/health").status == 200)
        return server

    def find(self, job, address):
        self.job, self.key = job, None
        found = []

        def has_come():
            found[:] = re.findall(r"listening on http://(\S+):(\d+)", "".join(job.texts()))
            return len(found) > address
        self.wait_until(has_come)
        self.host, self.port = found[address][0].strip("[]"), int(found[address][1])

    def wait_until(self, holds):
        """Of something that can be seen from outside."""
        deadline = time.monotonic() + MAX_SECONDS
        while not holds():
            if self.job.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"it never came: {self.job.end()}")
            time.sleep(0.01)

    def connect(self):
        return http.client.HTTPConnection(self.host, self.port, timeout=MAX_SECONDS)

    def raw(self):
        """A socket, to send what no library would."""
        return socket.create_connection((self.host, self.port), timeout=MAX_SECONDS)

    def headers(self, more=None):
        key = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        return key | (more or {})

    def get(self, path, headers=None, method="GET", connection=None):
        return self.ask(method, path, None, headers, connection)

    def post(self, path, body, headers=None, connection=None):
        text = body if isinstance(body, (bytes, str)) else json.dumps(body)
        headers = {"Content-Type": "application/json"} | (headers or {})
        return self.ask("POST", path, text, headers, connection)

    def ask(self, method, path, body, headers, connection):
        own = connection or self.connect()
        own.request(method, path, body, self.headers(headers))
        answer = Answer(own.getresponse())
        if connection is None:
            own.close()
        return answer

    def open_stream(self, path, body, connection=None):
        """The response, once its first part is here."""
        connection = connection or self.connect()
        connection.request("POST", path, json.dumps(body | {"stream": True}),
                           self.headers({"Content-Type": "application/json"}))
        response = connection.getresponse()
        response.connection = connection  # closing it closes the socket
        return response

    def stream(self, path, body):
        """All events of a stream that ends as it should."""
        response = self.open_stream(path, body)
        assert response.status == 200, response.read()
        assert response.getheader("content-type") == "text/event-stream"
        events = events_of(response.read())
        response.connection.close()
        return events

    def metrics(self):
        """Name, without labels, to value; of histograms their counts."""
        found = {}
        for line in self.get("/metrics").body.decode().splitlines():
            match = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line)
            if match and "le=" not in (match.group(2) or ""):
                found[match.group(1)] = found.get(match.group(1), 0) + float(match.group(3))
        return found

    def load(self):
        metrics = self.metrics()
        return (metrics["sluice_num_requests_running"], metrics["sluice_num_requests_waiting"])

    def wait_for_load(self, running, waiting):
        self.wait_until(lambda: self.load() == (running, waiting))

    def head_pid(self):
        return self.job.ranks.get(0, self.job.process.pid)

    def stop(self, test):
        os.kill(self.head_pid(), signal.SIGTERM)
        ended = self.job.end()
        test.assertEqual(ended.status, DONE, ended)
        test.assert_no_crash(ended)
        return ended


def events_of(text):
    """What the events of a stream say, each as JSON; the last must be [DONE]."""
    datas = [line[len("data: "):] for line in text.decode().split("\n") if line.startswith("data: ")]
    assert datas and datas[-1] == "[DONE]", text
    return [json.loads(data) for data in datas[:-1]]


class ServeTest(JobTest):
    def chat_model(self):
        """The demo model, with its template in its folder."""
        model = self.scratch / "chat-model"
        model.mkdir()
        for path in DEMO_MODEL.iterdir():
            (model / path.name).symlink_to(path)
        (model / "chat_template.jinja").symlink_to(CHAT_TEMPLATE)
        return model

    def slow(self):
        """Flags by which a step takes some 50 ms: weights come by a slow link."""
        limits = self.write("slow.yaml",
                            "stage_defaults:\n  link: {host_to_device_gbps: 0.1}\n")
        return ["--config", limits, "--percent", "0", "100", "100", "0", "100", "0"]
