"""HELM's and lm-evaluation-harness' kind of question: which choice is the likeliest, and does an answer match?

    python evaluate.py --model facebook/opt-6.7b --questions arithmetic.jsonl

A line is {"question": ..., "choices": [...], "answer": index of the right one}. Printed are the accuracy of the
likeliest choice (acc), of the likeliest per byte (acc_norm), and the share of greedy answers that begin with the
right choice and a line's end (exact_match), each with its standard error.

The suites themselves run unchanged on the server: model.url is theirs.
    lm_eval --model local-completions --model_args model=demo,base_url=URL/v1/completions,max_length=2048 --tasks ...
"""

import argparse
import json
import math
import pathlib

import example_model

QUESTIONS = pathlib.Path(__file__).with_name("arithmetic.jsonl")


def share(name, right) -> str:
    mean = sum(right) / len(right)
    error = math.sqrt(mean * (1 - mean) / (len(right) - 1)) if len(right) > 1 else 0.0
    return f"{name:<11} {mean:.4f} ± {error:.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    example_model.add_options(parser)
    parser.add_argument("--questions", type=pathlib.Path, default=QUESTIONS, metavar="FILE",
                        help="JSON lines [arithmetic.jsonl beside this file]")
    options = parser.parse_args()
    rows = [json.loads(line) for line in options.questions.read_text(encoding="utf-8").splitlines()]
    prompts = [f"Question: {row['question']}\nAnswer:" for row in rows]
    choices = [[" " + choice for choice in row["choices"]] for row in rows]
    with example_model.open_model(options) as model:
        scores = model.score(prompts, choices)
        answers = model.generate(prompts, max_new_tokens=16, stop="\n")
    truths = [row["answer"] for row in rows]
    print(f"questions   {len(rows)}")
    print(share("acc", [one.best == truth for one, truth in zip(scores, truths)]))
    print(share("acc_norm", [one.best_per_byte == truth for one, truth in zip(scores, truths)]))
    print(share("exact_match", [answer == texts[truth] for answer, texts, truth in zip(answers, choices, truths)]))


if __name__ == "__main__":
    main()
