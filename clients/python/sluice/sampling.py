"""Hugging Face's words for generate() as the fields of a request."""

from __future__ import annotations

import warnings
from typing import Any, Dict

# Their word -> ours, where the value is the same.
RENAMED = {"max_new_tokens": "max_tokens", "min_new_tokens": "min_tokens", "bad_words_ids": "bad_words",
           "stop_strings": "stop", "num_return_sequences": "n"}
# What only sampling looks at.
OF_SAMPLING = ("temperature", "top_p", "top_k", "min_p")


def request_fields(do_sample: bool, words: Dict[str, Any]) -> Dict[str, Any]:
    """Fields of a request; words that are None are left out, and those that are not known are passed on.

    Without do_sample answers are greedy, and what only sampling looks at is left out with a warning, as in
    transformers. With it, a temperature of 0 is greedy, too.
    """
    fields: Dict[str, Any] = {}
    for word, value in words.items():
        if value is None:
            continue
        if word == "eos_token_id":
            fields["stop_token_ids"] = value if isinstance(value, (list, tuple)) else [value]
        elif not do_sample and word in OF_SAMPLING:
            warnings.warn(f"{word} has no effect without do_sample=True", stacklevel=4)
        else:
            fields[RENAMED.get(word, word)] = value
    if not do_sample:
        fields["temperature"] = 0
    return fields
