"""Files of rows as batches of the server, in OpenAI's form."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any, Dict, Iterator, List, Tuple

from sluice.connection import Connection
from sluice.errors import RequestError

MOST_LINES = 50_000  # of a batch
MOST_BYTES = 32 << 20  # of a file
ENDED = ("completed", "failed", "expired", "cancelled")

Record = Dict[str, Any]


def batch_line(text: str, number: int) -> Tuple[str, str, str]:
    """Endpoint, custom_id and line of a row: one of OpenAI's form as it is, and of another its fields as a body."""
    row = json.loads(text)
    if not isinstance(row, dict):
        raise ValueError("is no JSON object")
    if "body" not in row:
        url = ("/v1/score" if "choices" in row else "/v1/embeddings" if "embed" in row
               else "/v1/chat/completions" if "messages" in row else "/v1/completions")
        body = {name: value for name, value in row.items() if name != "custom_id"}
        if "embed" in row:
            body["input"] = body.pop("prompt", None)
        row = {"custom_id": row.get("custom_id"), "method": "POST", "url": url, "body": body}
    if row.get("custom_id") is None:
        row["custom_id"] = f"row-{number}"
    return str(row.get("url")), str(row["custom_id"]), json.dumps(row)


def read_lines(path: Any) -> List[Tuple[str, str, str]]:
    """batch_line() of each line that is not empty. ValueError with the line of one that is no object."""
    lines = []
    with open(path, encoding="utf-8") as file:
        for number, text in enumerate(file, 1):
            if not text.strip():
                continue
            try:
                lines.append(batch_line(text, number))
            except ValueError as problem:
                raise ValueError(f"{path}:{number}: {problem}") from problem
    return lines


def parts_of(lines: List[str]) -> Iterator[str]:
    """The lines as files that a server takes."""
    part: List[str] = []
    size = 0
    for line in lines:
        length = len(line.encode()) + 1
        if part and (len(part) == MOST_LINES or size + length > MOST_BYTES):
            yield "".join(part)
            part, size = [], 0
        part.append(line + "\n")
        size += length
    if part:
        yield "".join(part)


class Batch:
    """A batch of one endpoint's lines, under way from the start."""

    def __init__(self, connection: Connection, endpoint: str, text: str):
        self._connection = connection
        kind, body = _form(text)
        self._files = [json.loads(connection.ask("POST", "/v1/files", body, kind))["id"]]
        self._name = connection.post("/v1/batches", {"input_file_id": self._files[0], "endpoint": endpoint,
                                                     "completion_window": "24h"})["id"]

    def records(self, poll_seconds: float) -> List[Record]:
        """Waits for the end; all records, of answers and of errors. RequestError where it came to nothing."""
        state = self._connection.get(f"/v1/batches/{self._name}")
        while state["status"] not in ENDED:
            time.sleep(poll_seconds)
            state = self._connection.get(f"/v1/batches/{self._name}")
        records: List[Record] = []
        for name in ("output_file_id", "error_file_id"):
            if state.get(name):
                self._files.append(state[name])
                content = self._connection.ask("GET", f"/v1/files/{state[name]}/content").decode()
                records += [json.loads(line) for line in content.splitlines()]
        if state["status"] != "completed" and not records:
            problems = (state.get("errors") or {}).get("data") or [{}]
            raise RequestError(problems[0].get("message") or f"the batch is {state['status']}",
                               code=problems[0].get("code"))
        return records

    def cancel(self) -> None:
        self._connection.post(f"/v1/batches/{self._name}/cancel", {})

    def remove_files(self) -> None:
        """What the server keeps of it."""
        for name in self._files:
            self._connection.ask("DELETE", f"/v1/files/{name}")


def run_batches(connection: Connection, lines: List[Tuple[str, str, str]], poll_seconds: float) -> List[Record]:
    """The records of all lines, in their order; a line without one (of a batch that was ended) is left out.

    Where this is interrupted, the batches are cancelled.
    """
    by_endpoint: Dict[str, List[str]] = {}
    for endpoint, _, text in lines:
        by_endpoint.setdefault(endpoint, []).append(text)
    batches = []
    try:
        for endpoint, texts in by_endpoint.items():
            batches += [Batch(connection, endpoint, part) for part in parts_of(texts)]
        records: Dict[str, List[Record]] = {}
        for batch in batches:
            for record in batch.records(poll_seconds):
                records.setdefault(str(record["custom_id"]), []).append(record)
    except BaseException:
        for batch in batches:
            batch.cancel()
        raise
    for batch in batches:
        batch.remove_files()
    return [records[name].pop(0) for _, name, _ in lines if records.get(name)]


def _form(text: str) -> Tuple[str, bytes]:
    """Content type and body of the form that a file comes in."""
    border = uuid.uuid4().hex
    head = "Content-Disposition: form-data; name="
    body = (f'--{border}\r\n{head}"purpose"\r\n\r\nbatch\r\n--{border}\r\n{head}"file"; filename="rows.jsonl"\r\n'
            f"Content-Type: application/jsonl\r\n\r\n{text}\r\n--{border}--\r\n")
    return f"multipart/form-data; boundary={border}", body.encode()
