"""JSON over HTTP by the standard library: requests, streams of events, and errors in OpenAI's form."""

from __future__ import annotations

import http.client
import json
import time
import urllib.parse
from typing import Any, Callable, Dict, Iterator, Optional

from sluice.errors import RequestError, ServerError

COME_AGAIN = (429, 503)  # the queue is full; the model is being loaded


class Connection:
    """Where a server is, and how to ask it. Threads may share one: each request opens its own socket.

    timeout: seconds without a byte after which a request fails; None: none, as an answer of a large
    model may take hours. patience: seconds for which a request that is told to come again does so.
    explain: what is known of a server that cannot be reached; empty: nothing.
    """

    def __init__(self, url: str, api_key: Optional[str] = None, timeout: Optional[float] = None,
                 patience: float = 600.0, explain: Callable[[], str] = str):
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is no address of a server; write http://HOST:PORT")
        self.url = url.rstrip("/")
        if self.url.endswith("/v1"):  # as OpenAI's clients want it
            self.url = self.url[:-len("/v1")]
        self._secure = parts.scheme == "https"
        self._host, self._port = parts.hostname, parts.port
        self._prefix = urllib.parse.urlsplit(self.url).path
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._timeout, self._patience, self._explain = timeout, patience, explain

    def get(self, path: str) -> Any:
        """The answer's JSON. Throws RequestError, ServerError."""
        return json.loads(self.ask("GET", path))

    def post(self, path: str, body: Dict[str, Any]) -> Any:
        """The answer's JSON. Throws RequestError, ServerError."""
        return json.loads(self.ask("POST", path, json.dumps(body).encode()))

    def ask(self, method: str, path: str, body: Optional[bytes] = None,
            content_type: str = "application/json") -> bytes:
        """The answer's body. Throws RequestError, ServerError."""
        channel, response = self._open(method, path, body, content_type)
        try:
            return response.read()
        except (OSError, http.client.HTTPException) as problem:
            raise self._lost(problem) from problem
        finally:
            channel.close()

    def events(self, path: str, body: Dict[str, Any]) -> Iterator[Dict[str, Any]]:
        """The events of a stream, as they come. Closing the iterator tells the server to stop.

        Throws RequestError, also within the stream, and ServerError where it breaks off.
        """
        text = json.dumps({**body, "stream": True}).encode()
        channel, response = self._open("POST", path, text, "application/json")
        try:
            for line in response:
                if not line.startswith(b"data:"):
                    continue
                data = line[len(b"data:"):].strip()
                if data == b"[DONE]":
                    return
                event = json.loads(data)
                if event.get("error"):
                    raise _request_error(event, None)
                yield event
            raise self._lost("the stream broke off")
        except (OSError, http.client.HTTPException) as problem:
            raise self._lost(problem) from problem
        finally:
            channel.close()

    def is_ready(self) -> bool:
        """Whether the server answers, and has its model loaded."""
        channel = self._channel()
        try:
            channel.request("GET", self._prefix + "/health")
            return channel.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            channel.close()

    def _channel(self) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        return kind(self._host, self._port, timeout=self._timeout)

    def _open(self, method: str, path: str, body: Optional[bytes], content_type: str):
        """A channel, and its response with status 200. Comes again where the server says so."""
        headers = dict(self._headers)
        if body is not None:
            headers["Content-Type"] = content_type
        deadline = time.monotonic() + self._patience
        while True:
            channel = self._channel()
            try:
                channel.request(method, self._prefix + path, body, headers)
                response = channel.getresponse()
                if response.status == 200:
                    return channel, response
                text = response.read()
            except (OSError, http.client.HTTPException) as problem:
                channel.close()
                raise self._lost(problem) from problem
            channel.close()
            left = deadline - time.monotonic()
            if response.status not in COME_AGAIN or left <= 0:
                raise _error_of(text, response.status)
            time.sleep(min(_seconds(response.getheader("Retry-After")), left))

    def _lost(self, problem: object) -> ServerError:
        words = self._explain()
        return ServerError(f"{self.url}: {words or f'the server cannot be reached: {problem}'}")


def _seconds(retry_after: Optional[str]) -> float:
    try:
        return max(float(retry_after or 1), 0.05)
    except ValueError:  # a date
        return 1.0


def _error_of(text: bytes, status: int) -> RequestError:
    try:
        return _request_error(json.loads(text), status)
    except (ValueError, AttributeError):
        return RequestError(f"status {status}: {text[:300].decode(errors='replace')}", status)


def _request_error(body: Dict[str, Any], status: Optional[int]) -> RequestError:
    error = body.get("error") or {}
    return RequestError(error.get("message", str(body)), status, error.get("type"),
                        error.get("param"), error.get("code"))
