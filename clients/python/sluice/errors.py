"""What can go wrong, each with one sentence that says what to do."""

from __future__ import annotations

from typing import Optional


class Error(Exception):
    """Base of all errors of this package."""


class ServerError(Error):
    """A server did not start, cannot be reached, or ended within a request.

    status: the exit status of a local server that has ended (2: wrong use, 3: a bad model, 4: a tier is
    too small; README.md has all), else None.
    """

    def __init__(self, message: str, status: Optional[int] = None):
        super().__init__(message)
        self.status = status


class RequestError(Error):
    """The server refused a request, or could not complete it. The fields are those of OpenAI's errors.

    status: of HTTP, or None within a stream. param: the field that is wrong. code: such as
    "context_length_exceeded".
    """

    def __init__(self, message: str, status: Optional[int] = None, type: Optional[str] = None,
                 param: Optional[str] = None, code: Optional[str] = None):
        super().__init__(message)
        self.status = status
        self.type = type
        self.param = param
        self.code = code
