"""A model that generates: on a server that is there, or on one that is started for it."""

from __future__ import annotations

import concurrent.futures
import json
import os
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Union

from sluice.batches import read_lines, run_batches
from sluice.completion import Completion, completion_of
from sluice.connection import Connection
from sluice.local_server import LocalServer
from sluice.prompts import Prompts, are_ids, id_prompts, text_prompts
from sluice.sampling import request_fields
from sluice.scores import Scores, scores_of

# A list of prompts goes in requests of so many, and so many of them at a time: enough to keep a pipeline full.
PROMPTS_OF_REQUEST = 256
REQUESTS_AT_ONCE = 4
SCORES_AT_ONCE = 32  # each in a request of its own
MOST_ANSWERS = 8192  # that a server gives to a request
END_SECONDS = 5  # in which ranks that lost one come to their end

Messages = List[Dict[str, Any]]
COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
EMBEDDINGS, SCORE = "/v1/embeddings", "/v1/score"


class Model:
    """A model behind a server.

    model: "http://HOST:PORT" of a server, or else a folder, GGUF file or hub id, for which `sluice serve` is
    started on this machine (`local_server`): over `ranks` stages, with `policy` as its flags
    (local_server.flags_of), by `program`. It ends with close(), at the end of a `with`, and with this process.
    api_key: of a server that asks for one. timeout: seconds without a byte after which a request fails [never].
    Threads may share a Model. Throws ServerError where no server starts.
    """

    def __init__(self, model: Union[str, os.PathLike], *, ranks: int = 1,
                 policy: Optional[Mapping[str, Any]] = None,
                 program: Union[str, os.PathLike, None] = None, api_key: Optional[str] = None,
                 timeout: Optional[float] = None, verbose: bool = False):
        name = os.fspath(model)
        api_key = api_key or os.environ.get("SLUICE_API_KEY") or None
        self.local_server: Optional[LocalServer] = None
        if name.startswith(("http://", "https://")):
            if policy or ranks != 1:
                raise ValueError("ranks and policy are for a server that is started here; this one runs already")
            self._connection = Connection(name, api_key, timeout)
        else:
            server = LocalServer(name, ranks, policy, program, verbose)
            self.local_server = server
            self._connection = Connection(server.url, api_key, timeout,
                                          explain=lambda: server.last_words(END_SECONDS))

    def __enter__(self) -> "Model":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the server that was started for this model; does nothing to another one."""
        if self.local_server is not None:
            self.local_server.close()

    @property
    def url(self) -> str:
        """The server's address; OpenAI's clients take it with /v1 behind it as their base_url."""
        return self._connection.url

    def generate(self, prompts: Any = None, *, input_ids: Any = None, attention_mask: Any = None,
                 max_new_tokens: int = 32, do_sample: bool = False, temperature: Optional[float] = None,
                 top_p: Optional[float] = None, top_k: Optional[int] = None,
                 stop: Union[str, Sequence[str], None] = None, seed: Optional[int] = None,
                 num_return_sequences: int = 1, stream: bool = False, details: bool = False,
                 column: str = "prompt", output: str = "text", **words: Any) -> Any:
        """Answers to prompts, in transformers' words. In this form:

        prompts                            what comes back
        a text                             its answer, a text without the prompt
        texts                              a list of texts
        pandas' Series of texts            a Series with the same index
        pandas' DataFrame                  a copy, with the answers to its `column` in the column `output`
        input_ids: ids, or lists of them   prompt and answer as ids, as transformers gives them, without padding

        With num_return_sequences n > 1 there are n answers for each prompt, one after the other in one list.
        details: Completion objects in the place of texts or ids. stream: an iterator over pieces of text as they
        are made, for several prompts over (number of the prompt, piece); closing it stops the answers.
        do_sample=False is greedy. Further words: min_new_tokens, num_beams, length_penalty, early_stopping,
        repetition_penalty, no_repeat_ngram_size, bad_words_ids, eos_token_id, skip_special_tokens, and every
        field of a row (docs/configuration.md): response_format, regex, choice, logprobs, logit_bias, ...
        Throws RequestError, ServerError.
        """
        if (prompts is None) == (input_ids is None):
            raise TypeError("give either prompts or input_ids")
        if num_return_sequences > 1 and hasattr(prompts, "iloc"):
            raise ValueError("a table has room for one answer to each prompt; leave num_return_sequences out")
        wants_ids = input_ids is not None or are_ids(prompts)
        if wants_ids:
            given = id_prompts(prompts if input_ids is None else input_ids, attention_mask)
        else:
            given = text_prompts(prompts, column, output)
        fields = request_fields(do_sample, {
            "max_new_tokens": max_new_tokens, "temperature": temperature, "top_p": top_p, "top_k": top_k,
            "stop": stop, "seed": seed, "num_return_sequences": num_return_sequences, **words})
        if stream:
            return self._stream(given, fields)
        answers = self._complete(given.rows, fields, wants_ids or details)
        if details:
            return given.given_back(answers)
        if not wants_ids:
            return given.given_back([answer.text for answer in answers])
        return given.given_back([given.rows[place // num_return_sequences] + (answer.token_ids or [])
                                 for place, answer in enumerate(answers)])

    def chat(self, messages: Union[str, Messages], *, system: Optional[str] = None, do_sample: bool = False,
             max_new_tokens: Optional[int] = None, stream: bool = False, details: bool = False,
             **words: Any) -> Any:
        """The assistant's next message: a text, a Completion with `details`, or with `stream` an iterator of pieces.

        messages: [{"role": "user", "content": ...}, ...], or a text as the user's only one; system: a message in
        front of them. Without max_new_tokens the answer may be as long as the model has positions. Further words
        are those of generate(). The server's model needs a chat template. Throws RequestError, ServerError.
        """
        turns = [{"role": "user", "content": messages}] if isinstance(messages, str) else list(messages)
        if system is not None:
            turns.insert(0, {"role": "system", "content": system})
        body = {"messages": turns,
                **request_fields(do_sample, {"max_new_tokens": max_new_tokens, **words})}
        if stream:
            return self._pieces(CHAT, body, lambda choice: choice["delta"].get("content") or "")
        answers = [completion_of(choice) for choice in self._connection.post(CHAT, body)["choices"]]
        chosen = answers if details else [answer.text for answer in answers]
        return chosen[0] if len(chosen) == 1 else chosen

    def embed(self, prompts: Any, *, pooling: str = "mean", normalize: bool = True, **words: Any) -> Any:
        """The embedding of a text, a list of floats; of texts, ids or a Series a list of them.

        The model's final hidden state: the mean over all tokens, or that of the last with pooling="last"; of
        length 1 with normalize. Throws RequestError, ServerError.
        """
        given = id_prompts(prompts) if are_ids(prompts) else text_prompts(prompts, "prompt", "embedding")

        def ask(part: List[Any]) -> List[List[float]]:
            body = {"input": part, "embed": pooling, "normalize": normalize, **words}
            return [one["embedding"] for one in self._connection.post(EMBEDDINGS, body)["data"]]

        return given.given_back(self._in_parts(ask, given.rows, PROMPTS_OF_REQUEST))

    def score(self, prompt: Union[str, Sequence[str]], choices: Sequence[Any], **words: Any
              ) -> Union[Scores, List[Scores]]:
        """How likely each choice is behind the prompt, cut into tokens as lm-evaluation-harness does it.

        Of a list of prompts `choices` has a list for each, and a list comes back; the beginning that requests share
        is computed once. Throws RequestError, ServerError.
        """
        is_one = isinstance(prompt, str)
        prompts = [prompt] if is_one else list(prompt)
        lists = [choices] if is_one else list(choices)
        if len(prompts) != len(lists):
            raise ValueError(f"{len(prompts)} prompts have {len(lists)} lists of choices")

        def ask(part: List[Any]) -> List[Scores]:
            body = {**words, "prompt": part[0][0], "choices": list(part[0][1])}
            return [scores_of(self._connection.post(SCORE, body))]

        scores = self._in_parts(ask, list(zip(prompts, lists)), 1, SCORES_AT_ONCE)
        return scores[0] if is_one else scores

    def batch(self, path: Union[str, os.PathLike], output: Union[str, os.PathLike, None] = None, *,
              poll_seconds: float = 0.5) -> List[Dict[str, Any]]:
        """A file of rows as batches of the server, in places that others leave free: a record for each, in their order.

        Rows are JSON lines in OpenAI's form ({"custom_id", "url", "body"}), or plain ones ({"prompt"} or {"messages"}
        with any fields of a row; with choices they are scored, with embed embedded). A record has the answer as
        record["response"]["body"], as OpenAI gives it; a wrong row has one with status_code 400 and harms no other.
        `output`: a file that the records are written to as well. An interrupt cancels. The server needs --files-dir;
        the one that is started here has a temporary one. Throws RequestError, ServerError, and ValueError with the
        line of a row that is no JSON object.
        """
        records = run_batches(self._connection, read_lines(path), poll_seconds)
        if output is not None:
            with open(output, "w", encoding="utf-8") as file:
                file.writelines(json.dumps(record) + "\n" for record in records)
        return records

    def tokenize(self, text: str, add_special_tokens: bool = True) -> List[int]:
        """The model's ids of a text."""
        return self._connection.post(
            "/tokenize", {"prompt": text, "add_special_tokens": add_special_tokens})["tokens"]

    def detokenize(self, ids: Sequence[int]) -> str:
        """The text of ids."""
        return self._connection.post("/detokenize", {"tokens": list(ids)})["prompt"]

    def _complete(self, rows: List[Any], fields: Dict[str, Any], with_ids: bool) -> List[Completion]:
        """The answers of all rows, in their order."""
        body = {**fields, "return_token_ids": True} if with_ids else fields
        size = max(1, min(PROMPTS_OF_REQUEST, MOST_ANSWERS // max(fields.get("n", 1), 1)))

        def ask(part: List[Any]) -> List[Completion]:
            choices = self._connection.post(COMPLETIONS, {**body, "prompt": part})["choices"]
            return [completion_of(choice) for choice in choices]

        return self._in_parts(ask, rows, size)

    @staticmethod
    def _in_parts(ask: Callable[[List[Any]], List[Any]], rows: List[Any], size: int,
                  at_once: int = REQUESTS_AT_ONCE) -> List[Any]:
        """What `ask` answers to all rows, in their order, given so many at a time."""
        parts = [rows[first:first + size] for first in range(0, len(rows), size)]
        if len(parts) == 1:
            return ask(parts[0])
        with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
            waiting = [pool.submit(ask, part) for part in parts]
            try:
                return [answer for one in waiting for answer in one.result()]
            except BaseException:
                for one in waiting:
                    one.cancel()
                raise

    def _stream(self, given: Prompts, fields: Dict[str, Any]) -> Iterator[Any]:
        if fields.get("n", 1) > 1:
            raise ValueError("a stream has one answer to each prompt; leave num_return_sequences out")
        if given.is_one:
            return self._pieces(COMPLETIONS, {**fields, "prompt": given.rows[0]},
                                lambda choice: choice["text"])
        return self._pieces(COMPLETIONS, {**fields, "prompt": given.rows},
                            lambda choice: choice["text"] and (choice["index"], choice["text"]))

    def _pieces(self, path: str, body: Dict[str, Any], piece_of) -> Iterator[Any]:
        """What there is of each event; nothing of events without text."""
        events = self._connection.events(path, body)
        try:
            for event in events:
                for choice in event["choices"]:
                    piece = piece_of(choice)
                    if piece:
                        yield piece
        finally:
            events.close()
