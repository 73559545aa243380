"""An answer with what belongs to it."""

from __future__ import annotations

import dataclasses
from typing import Any, Dict, List, Optional


@dataclasses.dataclass(frozen=True)
class Completion:
    """text: without the prompt. finish_reason: "stop" or "length". token_ids: the answer's, with the token that
    ended it. logprobs: OpenAI's object, where the request asked for it.
    """

    text: str
    finish_reason: Optional[str] = None
    token_ids: Optional[List[int]] = None
    logprobs: Optional[Dict[str, Any]] = None


def completion_of(choice: Dict[str, Any]) -> Completion:
    """Of a choice in OpenAI's form, of a text or a chat."""
    message = choice.get("message")
    text = choice["text"] if message is None else message["content"]
    return Completion(text, choice["finish_reason"], choice.get("token_ids"), choice.get("logprobs"))
