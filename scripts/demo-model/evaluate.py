"""Exact match on evaluation.jsonl, of the model itself or of a file of answers.

    evaluate.py --model models/demo                  run the model with transformers, in fp32
    evaluate.py --answers answers.jsonl              score lines of {"custom_id", "text"}

Prints the score of each task; the exit status is 1 if the whole is below --at-least.
Scoring answers needs nothing but Python.
"""

import argparse
import json
import pathlib
import sys

DEFAULT_EVALUATION = pathlib.Path(__file__).resolve().parents[2] / "models/demo/evaluation.jsonl"


def read_rows(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


def cut(text, stops):
    """The text before the first stop string."""
    return text[:min([text.find(stop) for stop in stops if stop in text], default=len(text))]


def model_answers(folder, rows):
    """custom_id -> text, greedily decoded one row at a time in fp32 from the saved weights."""
    import torch
    from transformers import OPTForCausalLM
    from tokenizer import load_tokenizer

    torch.set_num_threads(2)
    tokenizer = load_tokenizer(folder)
    model = OPTForCausalLM.from_pretrained(folder, torch_dtype=torch.float32).eval()
    answers = {}
    for row in rows:
        ids = tokenizer(row["prompt"], return_tensors="pt").input_ids
        with torch.no_grad():
            out = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False,
                                 max_new_tokens=row["max_tokens"])
        answers[row["custom_id"]] = tokenizer.decode(
            out[0, ids.shape[1]:], skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return answers


def score(rows, answers, show=10):
    """Prints matches by task and the first wrong answers; returns the share of all rows."""
    totals, rights, wrong = {}, {}, []
    for row in rows:
        task = row["custom_id"].rsplit("-", 1)[0]
        text = answers.get(row["custom_id"])
        right = text is not None and cut(text, row["stop"]) == row["expected"]
        totals[task] = totals.get(task, 0) + 1
        rights[task] = rights.get(task, 0) + right
        if not right:
            wrong.append(f"  {row['custom_id']}: expected {row['expected']!r}, got {text!r}")
    for task in totals:
        print(f"{task:10s} {rights[task]:4d} of {totals[task]:4d}")
    share = sum(rights.values()) / len(rows)
    print(f"{'all':10s} {sum(rights.values()):4d} of {len(rows):4d}  {100 * share:.2f} %")
    for line in wrong[:show]:
        print(line)
    return share


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--model", type=pathlib.Path, help="checkpoint folder")
    source.add_argument("--answers", type=pathlib.Path, help="JSON lines to score")
    parser.add_argument("--evaluation", type=pathlib.Path, default=DEFAULT_EVALUATION)
    parser.add_argument("--at-least", type=float, default=98.0, help="per cent")
    args = parser.parse_args()

    rows = read_rows(args.evaluation)
    if args.model:
        answers = model_answers(args.model, rows)
    else:
        answers = {row["custom_id"]: row["text"] for row in read_rows(args.answers)}
    sys.exit(0 if 100 * score(rows, answers) >= args.at_least else 1)


if __name__ == "__main__":
    main()
