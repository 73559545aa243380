"""What generate() takes as prompts, as lists; and answers in the form in which the prompts came."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any, Callable, List, Sequence


@dataclasses.dataclass(frozen=True)
class Prompts:
    """rows: texts, or lists of ids. is_one: the caller gave one prompt, and no list. given_back: makes what the
    caller gets of all answers, in the order of the rows.
    """

    rows: List[Any]
    is_one: bool
    given_back: Callable[[List[Any]], Any]


def text_prompts(prompts: Any, column: str, output: str) -> Prompts:
    """A text, texts, or pandas' Series or DataFrame with a column of texts."""
    if isinstance(prompts, str):
        return Prompts([prompts], True, _one_or_all)
    pandas = sys.modules.get("pandas")  # who has a table has imported it
    if pandas is not None and isinstance(prompts, pandas.DataFrame):
        return Prompts(_checked(prompts[column].tolist()), False,
                       lambda answers: prompts.assign(**{output: answers}))
    if pandas is not None and isinstance(prompts, pandas.Series):
        return Prompts(_checked(prompts.tolist()), False,
                       lambda answers: pandas.Series(answers, prompts.index, dtype=object, name=output))
    return Prompts(_checked(list(prompts)), False, lambda answers: answers)


def id_prompts(input_ids: Any, attention_mask: Any = None) -> Prompts:
    """Ids of a prompt, or of several: lists, arrays or tensors. attention_mask: 0 where a padded row has no token."""
    rows, masks = _plain(input_ids), _plain(attention_mask)
    is_one = not rows or not isinstance(rows[0], (list, tuple))
    if is_one:
        rows, masks = [rows], None if masks is None else [masks]
    if masks is not None:
        if [len(row) for row in masks] != [len(row) for row in rows]:
            raise ValueError("attention_mask has not the shape of input_ids")
        rows = [[one for one, there in zip(row, mask) if there] for row, mask in zip(rows, masks)]
    return Prompts([[int(one) for one in row] for row in rows], is_one,
                   _one_or_all if is_one else lambda answers: answers)


def are_ids(prompts: Any) -> bool:
    """Whether these are token ids, and no texts."""
    if isinstance(prompts, str) or hasattr(prompts, "iloc"):  # pandas' tables hold texts
        return False
    first = _plain(prompts)
    while isinstance(first, (list, tuple)) and first:
        first = first[0]
    return isinstance(first, int)


def _one_or_all(answers: List[Any]) -> Any:
    return answers[0] if len(answers) == 1 else answers


def _plain(values: Any) -> Any:
    """Of arrays and tensors their lists."""
    return values.tolist() if hasattr(values, "tolist") else values


def _checked(texts: Sequence[Any]) -> List[str]:
    for place, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"prompt {place} is {text!r}; a prompt is a text")
    return list(texts)
