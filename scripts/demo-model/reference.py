"""Writes what transformers computes in fp32 from the saved weights, for a few held-back prompts.

Each case has the 24 greedy tokens (`</s>` does not stop them), how far each one's logit lies above
the runner-up's, and a sample of the logits after the prompt: the 16 largest and every 37th.
"""

import argparse
import json
import pathlib

import torch
from transformers import GenerationConfig, OPTForCausalLM

from evaluate import read_rows
from tokenizer import PAD_ID, load_tokenizer

NEW_TOKENS = 24
ROWS_PER_TASK = {"airports": 6, "sums": 2}  # one of each other task


def chosen_rows(path):
    taken, rows = {}, []
    for row in read_rows(path):
        task = row["custom_id"].rsplit("-", 1)[0]
        if taken.get(task, 0) < ROWS_PER_TASK.get(task, 1):
            taken[task] = taken.get(task, 0) + 1
            rows.append(row)
    return rows


def exact(values):
    """The fewest digits that name each float32."""
    return [float(str(value)) for value in values.numpy()]


def reference_case(model, tokenizer, prompt):
    ids = tokenizer(prompt, return_tensors="pt").input_ids
    settings = GenerationConfig(max_new_tokens=NEW_TOKENS, do_sample=False, pad_token_id=PAD_ID,
                                return_dict_in_generate=True, output_scores=True)
    out = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=settings)
    greedy = out.sequences[0, ids.shape[1]:]
    logits = torch.cat(out.scores)
    whole = model(out.sequences[:, :-1]).logits[0, ids.shape[1] - 1:]  # one pass, no cache
    assert torch.equal(whole.argmax(-1), greedy) and len(greedy) == NEW_TOKENS
    assert (whole - logits).abs().max() < 1e-4
    top = logits.topk(2).values
    sample = set(logits[0].topk(16).indices.tolist()) | set(range(0, logits.shape[1], 37))
    sample = sorted(sample)
    return {"prompt": prompt, "input_ids": ids[0].tolist(), "greedy": greedy.tolist(),
            "margins": exact(top[:, 0] - top[:, 1]),
            "last_logits_sample": {"ids": sample, "values": exact(logits[0, sample])}}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="JSON file to write")
    args = parser.parse_args()
    torch.set_num_threads(2)
    tokenizer = load_tokenizer(args.model)
    model = OPTForCausalLM.from_pretrained(args.model, torch_dtype=torch.float32).eval()
    model.generation_config.eos_token_id = None
    with torch.no_grad():
        cases = [reference_case(model, tokenizer, row["prompt"])
                 for row in chosen_rows(args.model / "evaluation.jsonl")]
    lines = ",\n".join(json.dumps(case) for case in cases)
    args.out.write_text(f"[\n{lines}\n]\n", encoding="ascii")
    print(f"{len(cases)} cases, smallest margin {min(min(case['margins']) for case in cases):.2f}")


if __name__ == "__main__":
    main()
