"""HELM on the server: the requests of its VLLMClient, and the client itself where crfm-helm is installed (its
dependencies for clients are enough: pip install --no-deps crfm-helm, and what it then asks for).
"""

import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "pipeline"))

from job_support import DEMO_MODEL  # noqa: E402
from serve_support import Server, ServeTest  # noqa: E402

try:
    from helm.clients.openai_client import OpenAILegacyCompletionsClient
    from helm.clients.vllm_client import VLLMClient
    from helm.common.cache import BlackHoleCacheConfig
    from helm.common.request import Request
except ImportError:
    VLLMClient = None

NAME = "sluice/demo"
PROMPTS = [f"Question: What is {i} plus {i * 7 % 10}?\nAnswer:" for i in range(10)]


def raw_request(prompt, **fields):
    """OpenAILegacyCompletionsClient._to_raw_completion_request, with VLLMClient's change: all fields are spelt out."""
    raw = {"model": NAME, "prompt": prompt, "temperature": 0.0, "n": 1, "max_tokens": 8, "best_of": 1, "logprobs": 1,
           "stop": None, "top_p": 1, "presence_penalty": 0, "frequency_penalty": 0, "echo": False} | fields
    raw["best_of"] = 1 if raw["temperature"] == 0 else max(raw["best_of"], raw["n"])
    raw["logprobs"] = max(raw["logprobs"], raw["n"])
    return raw


def helm_client(url):
    """As VLLMClient's constructor makes it. That of 0.5.16 itself fails: it hands a tokenizer on, which OpenAI's
    client does not know.
    """
    client = VLLMClient.__new__(VLLMClient)
    OpenAILegacyCompletionsClient.__init__(client, cache_config=BlackHoleCacheConfig(), api_key="EMPTY", org_id=None,
                                           base_url=url, openai_model_name=NAME)
    return client


class HelmTest(ServeTest):
    def setUp(self):
        super().setUp()
        self.server = Server(self, "--served-model-name", NAME)

    def row_of(self, **fields):
        """The record of `sluice generate` to the same."""
        output = self.scratch / "output.jsonl"
        self.generate(DEMO_MODEL, "--input", self.write_rows("row.jsonl", [{"custom_id": "a", **fields}]),
                      "--output", output, "--overwrite")
        return self.records(output)["a"]

    def ask(self, prompt, **fields):
        answer = self.server.post("/v1/completions", raw_request(prompt, **fields),
                                  {"Authorization": "Bearer EMPTY"})
        self.assertEqual(answer.status, 200, answer.body)
        return answer.json()["choices"]

    def test_generations(self):
        for prompt in PROMPTS[:4]:
            choice, = self.ask(prompt, stop=["\n"])
            row = self.row_of(prompt=prompt, temperature=0, max_tokens=8, stop=["\n"], logprobs=1)
            self.assertEqual((choice["text"], choice["finish_reason"]), (row["text"], row["finish_reason"]))
            self.assertEqual(choice["logprobs"]["token_logprobs"], row["logprobs"]["token_logprobs"])
        choices = self.ask(PROMPTS[0], temperature=1.0, n=3)
        self.assertEqual([choice["index"] for choice in choices], [0, 1, 2])
        self.assertEqual(len(self.ask(PROMPTS[0], temperature=0.7, best_of=4, logprobs=4)), 1)

    def test_likelihoods_of_prompts(self):
        """HELM's language modelling and its choices: the prompt is echoed, and nothing is generated."""
        prefix, choice = PROMPTS[3], " 4"
        whole, = self.ask(prefix + choice, echo=True, max_tokens=0)
        logprobs = whole["logprobs"]
        self.assertEqual(whole["text"], prefix + choice)
        self.assertIsNone(logprobs["token_logprobs"][0])
        scored = self.row_of(prompt=prefix, choices=[choice])["scores"][0]
        count = len(scored["token_ids"])
        self.assertAlmostEqual(sum(logprobs["token_logprobs"][-count:]), scored["logprob"], delta=1e-4)

    @unittest.skipIf(VLLMClient is None, "crfm-helm is not here")
    def test_the_client_itself(self):
        client = helm_client(f"http://127.0.0.1:{self.server.port}/v1")
        common = {"model": NAME, "model_deployment": NAME}
        for prompt in PROMPTS:
            asked = Request(prompt=prompt, temperature=0, max_tokens=8, stop_sequences=["\n"], **common)
            self.assertEqual(client._to_raw_completion_request(asked), raw_request(prompt, stop=["\n"]))
            result = client.make_request(asked)
            self.assertTrue(result.success, result.error)
            choice, = self.ask(prompt, stop=["\n"])
            self.assertEqual(result.completions[0].text, choice["text"])
            self.assertGreater(result.completions[0].logprob, -5)
        several = client.make_request(Request(prompt=PROMPTS[0], temperature=1, num_completions=3, max_tokens=4, **common))
        self.assertEqual(len(several.completions), 3)
        asked = Request(prompt=PROMPTS[3] + " 4", echo_prompt=True, max_tokens=0, temperature=0, **common)
        result = client.make_request(asked)
        self.assertTrue(result.success, result.error)
        whole, = self.ask(asked.prompt, echo=True, max_tokens=0)
        self.assertEqual([token.text for token in result.completions[0].tokens], whole["logprobs"]["tokens"])
        self.assertAlmostEqual(result.completions[0].logprob, sum(whole["logprobs"]["token_logprobs"][1:]), places=4)
        refused = client.make_request(Request(prompt=PROMPTS[0] * 200, temperature=0, max_tokens=8, **common))
        self.assertFalse(refused.success)
        self.assertIn("tokens", refused.error)


if __name__ == "__main__":
    unittest.main()
