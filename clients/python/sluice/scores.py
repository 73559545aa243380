"""How likely texts are behind a prompt."""

from __future__ import annotations

import dataclasses
from typing import Any, Dict, List


@dataclasses.dataclass(frozen=True)
class ChoiceScore:
    """logprob: the sum over the choice's tokens of the model's log-probabilities, before all settings of sampling;
    the others divide it by the number of tokens, or of the text's bytes.
    """

    text: str
    logprob: float
    logprob_per_token: float
    logprob_per_byte: float
    token_ids: List[int]
    token_logprobs: List[float]


@dataclasses.dataclass(frozen=True)
class Scores:
    """choices: in the order in which they were given. best: the index of the likeliest; best_per_token and
    best_per_byte: that by the other two measures.
    """

    choices: List[ChoiceScore]
    best: int
    best_per_token: int
    best_per_byte: int


def scores_of(answer: Dict[str, Any]) -> Scores:
    """Of what /v1/score answers to choices."""
    names = [field.name for field in dataclasses.fields(ChoiceScore)]
    choices = [ChoiceScore(*[one[name] for name in names]) for one in answer["scores"]]
    return Scores(choices, answer["best"], answer["best_per_token"], answer["best_per_byte"])
