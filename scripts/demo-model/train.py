"""Trains the demo model and writes it as a Hugging Face OPT checkpoint. See README.md."""

import argparse
import math
import pathlib
import random
import time
from collections import Counter

import torch
from transformers import OPTConfig, OPTForCausalLM

import tasks
from tokenizer import BOS_ID, EOS_ID, PAD_ID, make_tokenizer

VOCABULARY_ENTRIES = 1273
EMBEDDING_ROWS = 1280  # like the published OPT models, a few rows more than there are tokens
MICRO_BATCHES = 3      # a batch is sorted by length and cut in three, to pad less
ANSWER_WEIGHT, TEXT_WEIGHT, TAIL_WEIGHT = 1.0, 0.01, 0.03


def new_model():
    config = OPTConfig(
        vocab_size=EMBEDDING_ROWS, hidden_size=256, num_hidden_layers=4, ffn_dim=1024,
        num_attention_heads=8, max_position_embeddings=256, word_embed_proj_dim=256,
        dropout=0.0, attention_dropout=0.0, layerdrop=0.0, activation_function="relu",
        do_layer_norm_before=True, pad_token_id=PAD_ID, bos_token_id=BOS_ID, eos_token_id=EOS_ID,
        prefix="</s>")
    return OPTForCausalLM(config)


def encode(tokenizer, example):
    """Task, ids, and for each id the weight of the loss of predicting it.

    A long answer weighs more than a short one, but its single tokens weigh less.
    """
    task, prompt, answer = example
    question = tokenizer.encode(prompt)[1:]
    reply = tokenizer.encode(answer + tasks.STOP)[1:] + [EOS_ID]
    ids = [BOS_ID] + question + reply
    share = ANSWER_WEIGHT / math.sqrt(len(reply))
    return task, ids, [0.0] + [TEXT_WEIGHT] * len(question) + [share] * len(reply)


def micro_batch(examples, tail):
    """Task names, and tensors of ids and weights.

    Rows are filled up with `</s>`, which the model learns to repeat after its answer: what
    follows an answer is then as certain as the answer.
    """
    names = [task for task, _, _ in examples]
    length = max(len(ids) for _, ids, _ in examples) + tail
    ids = [row + [EOS_ID] * (length - len(row)) for _, row, _ in examples]
    weights = [row + [TAIL_WEIGHT] * (length - len(row)) for _, _, row in examples]
    return names, torch.tensor(ids), torch.tensor(weights)


def batch(rng, tokenizer, rows, hard):
    examples = [encode(tokenizer, tasks.training_example(rng, hard)) for _ in range(rows)]
    examples.sort(key=lambda example: len(example[1]))
    size = rows // MICRO_BATCHES
    tail = 24 if rng.random() < 0.05 else 0
    return [micro_batch(examples[i:i + size], tail) for i in range(0, rows, size)]


def weighted_loss(model, ids, weights, bf16):
    """The summed loss, and for each row whether its whole answer is right."""
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        logits = model(ids, use_cache=False).logits[:, :-1].float()
    targets, weights = ids[:, 1:], weights[:, 1:]
    losses = torch.nn.functional.cross_entropy(
        logits.reshape(-1, logits.shape[-1]), targets.reshape(-1), reduction="none")
    right = ((logits.argmax(-1) == targets) | (weights <= TAIL_WEIGHT)).all(-1)
    return (losses * weights.reshape(-1)).sum(), right.tolist()


def optimizer_for(model, peak):
    """AdamW, with decay on matrices alone."""
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": 0.05}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=peak, betas=(0.9, 0.98))


def learning_rate(step, steps, peak, warmup):
    """Linear warm-up, then a cosine down to a hundredth."""
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


class Progress:
    """Prints, every 25 steps, the loss and the share of right answers of each task."""

    def __init__(self):
        self.start, self.step = time.time(), 0
        self.clear()

    def clear(self):
        self.loss, self.steps, self.rows, self.right = 0.0, 0, Counter(), Counter()

    def add(self, names, right):
        self.rows.update(names)
        self.right.update(name for name, is_right in zip(names, right) if is_right)

    def end_step(self, loss):
        self.loss, self.steps, self.step = self.loss + loss, self.steps + 1, self.step + 1
        if self.steps == 25:
            shares = [f"{name} {100 * self.right[name] / self.rows[name]:.1f}"
                      for name in tasks.TASKS if self.rows[name]]
            print(f"step {self.step:5d} {time.time() - self.start:5.0f} s  "
                  f"loss {self.loss / self.steps:.4f}  % right: {', '.join(shares)}", flush=True)
            self.clear()


def train(model, tokenizer, args):
    rng, progress = random.Random(args.seed), Progress()
    optimizer = optimizer_for(model, args.peak)
    model.train()
    for step in range(args.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, args.steps, args.peak, args.warmup)
        loss_of_step = 0.0
        for names, ids, weights in batch(rng, tokenizer, args.rows, args.hard):
            loss, right = weighted_loss(model, ids, weights, args.precision == "bf16")
            loss = loss / args.rows
            loss.backward()
            loss_of_step += loss.item()
            progress.add(names, right)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        progress.end_step(loss_of_step)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder to write")
    parser.add_argument("--steps", type=int, default=2400)
    parser.add_argument("--rows", type=int, default=96, help="examples per step")
    parser.add_argument("--peak", type=float, default=1e-3, help="highest learning rate")
    parser.add_argument("--warmup", type=int, default=100, help="steps")
    parser.add_argument("--start", type=pathlib.Path, help="checkpoint to go on from")
    parser.add_argument("--hard", type=float, default=0.0,
                        help="share of airport texts that are hard to copy from")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--precision", choices=["bf16", "fp32"], default="bf16",
                        help="of the matrix products; weights and all else are fp32 either way")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer(tasks.vocabulary_corpus(), VOCABULARY_ENTRIES, args.out)
    if args.start:
        model = OPTForCausalLM.from_pretrained(args.start, torch_dtype=torch.float32)
        model.config._name_or_path = ""  # keeps this machine's folder out of config.json
    else:
        model = new_model()
    print(f"{sum(p.numel() for p in model.parameters())} parameters", flush=True)
    train(model, tokenizer, args)
    model.half().save_pretrained(args.out, safe_serialization=True)


if __name__ == "__main__":
    main()
