"""Many requests of every kind, of which clients leave many at any moment: no place, page or memory is lost.
SLUICE_SOAK_REQUESTS says how many [400].
"""

import concurrent.futures
import json
import os
import random
import unittest

from serve_support import Server, ServeTest

REQUESTS = int(os.environ.get("SLUICE_SOAK_REQUESTS", 400))
CLIENTS = 24
MOST_GROWTH = 16 << 20  # of resident memory, in the second half
COMPLETIONS = "/v1/completions"


def resident_bytes(pid):
    with open(f"/proc/{pid}/statm", encoding="utf-8") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class SoakTest(ServeTest):
    def ask(self, server, seed):
        """One request; half of the clients leave, streams after some bytes. Returns whether it stayed."""
        rng = random.Random(seed)
        body = {"prompt": "Question: " * rng.randint(1, 30), "max_tokens": rng.randint(0, 60),
                "n": rng.choice([1, 1, 1, 3]), "seed": seed, "stream": rng.random() < 0.5}
        if rng.random() < 0.2:
            body |= {"logprobs": 3, "echo": True}
        if rng.random() < 0.1:
            body |= {"response_format": {"type": "json_object"}, "max_tokens": 30}
            body.pop("echo", None)
        connection = server.connect()
        connection.request("POST", COMPLETIONS, json.dumps(body), {"Content-Type": "application/json"})
        stays = rng.random() < 0.5
        if stays or body["stream"]:
            response = connection.getresponse()
            self.assertEqual(response.status, 200)
            said = response.read() if stays else response.read(rng.randint(1, 2000))
            self.assertTrue(said or not stays)
        if not stays:
            connection.sock and connection.sock.close()
        connection.close()
        return stays

    def test_nothing_is_lost(self):
        server = Server(self, "--gpu-batch-size", 4, "--num-gpu-batches", 2, ranks=2)
        longest = {"prompt": "One", "max_tokens": 250, "ignore_eos": True, "temperature": 0}
        expected = server.post(COMPLETIONS, longest).json()["choices"][0]["text"]
        with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
            stayed = sum(pool.map(lambda i: self.ask(server, i), range(REQUESTS // 2)))
            server.wait_for_load(0, 0)
            half = resident_bytes(server.head_pid())
            stayed += sum(pool.map(lambda i: self.ask(server, i), range(REQUESTS // 2, REQUESTS)))
            server.wait_for_load(0, 0)
            self.assertLess(resident_bytes(server.head_pid()) - half, MOST_GROWTH)
            # Every place takes the longest sequence that it may have.
            answers = list(pool.map(lambda _: server.post(COMPLETIONS, longest), range(CLIENTS)))
        self.assertEqual({answer.json()["choices"][0]["text"] for answer in answers}, {expected})
        metrics = server.metrics()
        self.assertLessEqual(metrics["sluice_request_left_total"], REQUESTS - stayed)
        self.assertEqual(metrics["sluice_request_refused_total"], 0)
        server.stop(self)


if __name__ == "__main__":
    unittest.main()
