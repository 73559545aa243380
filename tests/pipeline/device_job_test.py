"""What must hold on every device: Hugging Face's greedy tokens wherever they are not a matter of
rounding, for every variant of OPT and placement, and the same tokens whatever the ranks.

SLUICE_TEST_DEVICE (cpu, cuda, cuda:N) says which device; a GPU computes in the checkpoint's 16 bits.
"""

import math
import unittest

from job_support import DEMO_MODEL, DEVICE, REFERENCE, JobTest, percent
from reference_job_test import reference_prompts

# Rounding everything to f16 moves a logit by 0.03 at most (the data's README), so two by twice that.
MARGIN = 0.1
PLACEMENTS = [
    percent(100, 0, 100, 0, 100, 0),
    percent(0, 100, 0, 100, 0, 100) + ["--cpu-cache-compute"],
    percent(0, 100, 0, 100, 0, 100),
    percent(30, 40, 50, 20, 50, 50),
    percent(0, 0, 100, 0, 100, 0),
]
# Model, and the placements and ranks it runs with: every placement twice, every number of ranks.
RUNS = [("opt-pre", 0, 1), ("opt-deep", 1, 4), ("opt-odd", 2, 2), ("opt-fullvocab", 3, 1),
        ("opt-old-prefix", 4, 1), ("opt-post-proj", 0, 2), ("galactica-like", 1, 1),
        ("opt-pre", 2, 4), ("opt-deep", 3, 2), ("opt-fullvocab", 4, 3), ("opt-odd", 0, 1),
        ("opt-old-prefix", 1, 2), ("galactica-like", 3, 4), ("opt-post-proj", 4, 1)]


def margins_of(cases):
    """name -> how far each greedy token lies above the second."""
    margins = {p["id"]: p["greedy"]["margins"] for p in cases["single"]}
    for batch in cases["batch"]:
        for index, row in enumerate(batch["rows"]):
            margins[f"{batch['id']}-{index}"] = row["greedy"]["margins"]
    return margins


def log_softmax(logits, token):
    return logits[token] - math.log(sum(map(math.exp, logits)))


class DeviceJobTest(JobTest):
    def tokens(self, model, rows, *arguments, name="output", ranks=0):
        output, report = self.scratch / f"{name}.jsonl", self.scratch / "report.json"
        self.generate(model, "--input", self.write_rows("rows.jsonl", rows), "--output", output,
                      "--overwrite", "--report", report, "--probe", "never", *arguments,
                      ranks=ranks)
        for stage in self.read_json(report)["stages"]:
            self.assertTrue(stage["device"].startswith(DEVICE.partition(":")[0]), stage["device"])
        return {name: record["token_ids"] for name, record in self.records(output).items()}

    def test_reference_tokens_wherever_rounding_decides_nothing(self):
        for number, (model, placement, ranks) in enumerate(RUNS):
            with self.subTest(model=model, placement=PLACEMENTS[placement], ranks=ranks):
                cases = self.read_json(REFERENCE / model / "cases.json")
                prompts, margins = reference_prompts(cases), margins_of(cases)
                rows = [{"custom_id": name, "prompt": ids, "max_tokens": len(greedy),
                         "ignore_eos": True} for name, (ids, greedy) in prompts.items()]
                got = self.tokens(REFERENCE / model, rows, *PLACEMENTS[placement],
                                  "--gpu-batch-size", (8, 3, 1)[number % 3],
                                  "--num-gpu-batches", 1 + number % 2, "--max-batch-tokens", 64,
                                  ranks=ranks)
                compared = 0
                for name, (_, greedy) in prompts.items():
                    sure = next((i for i, margin in enumerate(margins[name]) if margin < MARGIN),
                                len(greedy))
                    compared += sure
                    self.assertEqual(got[name][:sure], greedy[:sure], name)
                self.assertGreater(compared, 0.6 * sum(map(len, margins.values())))

    def test_scores_of_choices_are_hugging_faces_within_rounding(self):
        for model, placement, ranks in [("opt-pre", 0, 1), ("opt-deep", 3, 2), ("opt-odd", 1, 1)]:
            layers = self.read_json(REFERENCE / model / "cases.json")["layers"]
            ids, rows, expected = layers["input_ids"], [], {}
            for border in range(1, len(ids)):
                others = [(border * 37 + i * 101) % len(layers["logits"][0]) for i in range(3)]
                choices = [ids[border:], *([token] for token in others)]
                rows.append({"custom_id": str(border), "prompt": ids[:border], "choices": choices})
                expected[str(border)] = [
                    [log_softmax(layers["logits"][border + i - 1], token)
                     for i, token in enumerate(choice)] for choice in choices]
            output = self.scratch / "scores.jsonl"
            self.generate(REFERENCE / model, "--input", self.write_rows("rows.jsonl", rows),
                          "--output", output, "--overwrite", *PLACEMENTS[placement],
                          "--gpu-batch-size", 3, "--max-batch-tokens", 8, ranks=ranks)
            for name, record in self.records(output).items():
                for score, logprobs in zip(record["scores"], expected[name], strict=True):
                    for ours, theirs in zip(score["token_logprobs"], logprobs, strict=True):
                        self.assertLess(abs(ours - theirs), MARGIN, (model, name))

    def test_any_number_of_ranks_on_one_device_gives_the_same_tokens(self):
        cases = self.read_json(REFERENCE / "opt-deep/cases.json")
        rows = [{"custom_id": entry["id"], "prompt": entry["input_ids"][:20], "max_tokens": 16,
                 "ignore_eos": True} for entry in cases["single"]]
        alone = None
        for ranks in (1, 2, 4):
            got = self.tokens(REFERENCE / "opt-deep", rows, "--device-memory", "1GiB",
                              "--device", "cuda:0" if DEVICE == "cuda" else DEVICE,
                              "--gpu-batch-size", 1, name=f"ranks{ranks}", ranks=ranks)
            alone = alone or got
            self.assertEqual(got, alone, ranks)

    def test_compressed_weights_and_cache_give_the_same_tokens_in_every_place(self):
        rows = [{"custom_id": str(i), "prompt": f"Question: What is {i} plus 3?\nAnswer:",
                 "max_tokens": 8, "ignore_eos": True} for i in range(6)]
        for bits in ("8bit", "4bit"):
            alone = None
            for placement in (0, 2, 4):
                got = self.tokens(DEMO_MODEL, rows, *PLACEMENTS[placement], "--compress-weight",
                                  bits, "--compress-cache", bits, "--gpu-batch-size", 1,
                                  "--packed-dir", self.scratch / "packed", ranks=1 + placement // 2)
                alone = alone or got
                self.assertEqual(got, alone, (bits, placement))

    def test_chance_comes_from_the_seed_alone(self):
        rows = [{"custom_id": str(i), "prompt": [5, 6, 7], "max_tokens": 12, "temperature": 1.0,
                 "top_p": 0.95, "seed": i, "ignore_eos": True} for i in range(8)]
        first = self.tokens(REFERENCE / "opt-pre", rows, "--gpu-batch-size", 8)
        again = self.tokens(REFERENCE / "opt-pre", rows, "--gpu-batch-size", 8)
        self.assertEqual(again, first)
        self.assertGreater(len({str(tokens) for tokens in first.values()}), 1)


if __name__ == "__main__":
    unittest.main()
