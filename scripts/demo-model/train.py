"""Trains the demo model and writes it as a Hugging Face OPT checkpoint. See README.md."""

import argparse
import math
import pathlib
import random
import time

import torch
from transformers import OPTConfig, OPTForCausalLM

import tasks
from tokenizer import BOS_ID, EOS_ID, PAD_ID, make_tokenizer

VOCABULARY_ENTRIES = 1273
EMBEDDING_ROWS = 1280  # like the published OPT models, a few rows more than there are tokens
MICRO_BATCHES = 3      # a batch is sorted by length and cut in three, to pad less
ANSWER_WEIGHT, TEXT_WEIGHT, TAIL_WEIGHT = 1.0, 0.03, 0.1


def new_model():
    config = OPTConfig(
        vocab_size=EMBEDDING_ROWS, hidden_size=256, num_hidden_layers=4, ffn_dim=1024,
        num_attention_heads=8, max_position_embeddings=256, word_embed_proj_dim=256,
        dropout=0.0, attention_dropout=0.0, layerdrop=0.0, activation_function="relu",
        do_layer_norm_before=True, pad_token_id=PAD_ID, bos_token_id=BOS_ID, eos_token_id=EOS_ID,
        prefix="</s>")
    return OPTForCausalLM(config)


class Encoder:
    """Token ids of the examples. Pieces repeat a lot, so words are looked up only once."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    def __call__(self, text):
        return self.tokenizer.encode(text)[1:]

    def example(self, prompt, answer):
        """Ids, and for each the weight of the loss of predicting it."""
        question, reply = self(prompt), self(answer + tasks.STOP)
        ids = [BOS_ID] + question + reply + [EOS_ID]
        weights = [0.0] + [TEXT_WEIGHT] * len(question) + [ANSWER_WEIGHT] * (len(reply) + 1)
        return ids, weights


def micro_batch(examples, tail):
    """Tensors of ids and weights. Rows are filled up with `</s>`, which the model learns to
    repeat after its answer: text past the end of an answer is then as certain as the answer."""
    length = max(len(ids) for ids, _ in examples) + tail
    ids = [row + [EOS_ID] * (length - len(row)) for row, _ in examples]
    weights = [row + [TAIL_WEIGHT] * (length - len(row)) for _, row in examples]
    return torch.tensor(ids), torch.tensor(weights)


def batch(rng, encode, rows):
    examples = [encode.example(prompt, answer)
                for _, prompt, answer in (tasks.training_example(rng) for _ in range(rows))]
    examples.sort(key=lambda example: len(example[0]))
    size = rows // MICRO_BATCHES
    tail = 24 if rng.random() < 0.05 else 0
    return [micro_batch(examples[i:i + size], tail) for i in range(0, rows, size)]


def weighted_loss(model, ids, weights, bf16):
    """The summed loss, and the number of right answer tokens and of answer tokens."""
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        logits = model(ids, use_cache=False).logits[:, :-1].float()
    targets, weights = ids[:, 1:], weights[:, 1:]
    losses = torch.nn.functional.cross_entropy(
        logits.reshape(-1, logits.shape[-1]), targets.reshape(-1), reduction="none")
    answer = weights == ANSWER_WEIGHT
    right = (logits.argmax(-1) == targets) & answer
    return (losses * weights.reshape(-1)).sum(), right.sum().item(), answer.sum().item()


def optimizer_for(model, peak):
    """AdamW, with decay on matrices alone."""
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": 0.05}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=peak, betas=(0.9, 0.98))


def learning_rate(step, steps, peak, warmup=100):
    """Linear warm-up, then a cosine down to a hundredth."""
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


def train(model, encode, args):
    rng = random.Random(args.seed)
    optimizer = optimizer_for(model, args.peak)
    model.train()
    start, right, answers, total, count = time.time(), 0, 0, 0.0, 0
    for step in range(args.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, args.steps, args.peak)
        parts = batch(rng, encode, args.rows)
        scale = sum(weights[:, 1:].sum().item() for _, weights in parts)
        for ids, weights in parts:
            loss, part_right, part_answers = weighted_loss(
                model, ids, weights, args.precision == "bf16")
            (loss / scale).backward()
            total += loss.item() / scale
            right += part_right
            answers += part_answers
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        count += 1
        if count == 50 or step + 1 == args.steps:
            print(f"step {step + 1:5d}  loss {total / count:.4f}  answer tokens right "
                  f"{right / answers:.4f}  {time.time() - start:.0f} s", flush=True)
            right, answers, total, count = 0, 0, 0.0, 0


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder to write")
    parser.add_argument("--steps", type=int, default=1600)
    parser.add_argument("--rows", type=int, default=96, help="examples per step")
    parser.add_argument("--peak", type=float, default=1e-3, help="highest learning rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--precision", choices=["bf16", "fp32"], default="bf16",
                        help="of the matrix products; weights and all else are fp32 either way")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer(tasks.vocabulary_corpus(), VOCABULARY_ENTRIES, args.out)
    model = new_model()
    print(f"{sum(p.numel() for p in model.parameters())} parameters", flush=True)
    train(model, Encoder(tokenizer), args)
    model.half().save_pretrained(args.out, safe_serialization=True)


if __name__ == "__main__":
    main()
