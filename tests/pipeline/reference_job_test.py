"""Jobs over mpirun give Hugging Face's greedy tokens, for every variant of OPT, placement of bytes,
number of ranks and GPU-batch size. All combinations are in exactness_test.cc, in one process; here
are as many real jobs as make every pair of placement, ranks and batch size meet.
"""

import unittest

from job_support import DONE, REFERENCE, JobTest, percent

PLACEMENTS = [
    percent(100, 0, 100, 0, 100, 0),  # all on the device
    percent(0, 100, 0, 100, 0, 100),  # all in host memory
    percent(0, 0, 0, 0, 0, 0),        # all on disk
    percent(30, 40, 50, 20, 50, 50),  # all three
]
RANKS = [1, 2, 3, 4]
GPU_BATCH_SIZES = [1, 3, 8]
# Per number of ranks one model for each placement, with at least as many layers.
MODELS = {
    1: ["opt-old-prefix", "opt-odd", "opt-deep", "opt-post-proj"],
    2: ["galactica-like", "opt-fullvocab", "opt-pre", "opt-old-prefix"],
    3: ["opt-fullvocab", "opt-post-proj", "opt-odd", "opt-deep"],
    4: ["opt-deep", "opt-pre", "galactica-like", "opt-post-proj"],
}


def batch_size_of(placement, ranks):
    return GPU_BATCH_SIZES[(placement + ranks) % len(GPU_BATCH_SIZES)]


def reference_prompts(cases):
    """name -> (prompt ids, greedy ids) of all prompts of a model; padding is cut off."""
    prompts = {p["id"]: (p["input_ids"], p["greedy"]["tokens"]) for p in cases["single"]}
    for batch in cases["batch"]:
        rows = zip(batch["input_ids"], batch["attention_mask"], batch["rows"])
        for index, (ids, mask, row) in enumerate(rows):
            whole = [token for token, kept in zip(ids, mask) if kept]
            prompts[f"{batch['id']}-{index}"] = (whole, row["greedy"]["tokens"])
    return prompts


class ReferenceJobTest(JobTest):
    def check(self, model, *arguments, ranks):
        cases = self.read_json(REFERENCE / model / "cases.json")
        prompts = reference_prompts(cases)
        rows = [{"custom_id": name, "prompt": ids, "max_tokens": len(greedy), "ignore_eos": True}
                for name, (ids, greedy) in prompts.items()]
        full = {case["id"]: case["input_ids"] for case in cases["prefill_only"]}
        rows += [{"custom_id": name, "prompt": ids, "max_tokens": 0} for name, ids in full.items()]
        output = self.scratch / "output.jsonl"
        self.generate(REFERENCE / model, "--input", self.write_rows("rows.jsonl", rows),
                      "--output", output, *arguments, ranks=ranks)
        records = self.records(output)
        self.assertEqual(set(records), set(prompts) | set(full))
        for name in full:  # every position is taken, nothing is to be answered
            self.assertEqual(records[name]["token_ids"], [])
        for name, (ids, greedy) in prompts.items():
            self.assertEqual(records[name]["token_ids"], greedy, name)
            self.assertEqual(records[name]["finish_reason"], "length")
            self.assertEqual(records[name]["usage"],
                             {"prompt_tokens": len(ids), "completion_tokens": len(greedy)})
        left = {path.name for path in self.scratch.iterdir()}
        self.assertEqual(left, {"rows.jsonl", "output.jsonl"})  # no offload file stays

    def check_ranks(self, ranks):
        for placement, arguments in enumerate(PLACEMENTS):
            model = MODELS[ranks][placement]
            size = batch_size_of(placement, ranks)
            with self.subTest(model=model, arguments=arguments, gpu_batch_size=size):
                self.check(model, *arguments, "--gpu-batch-size", size, "--num-gpu-batches",
                           1 + placement % 2, "--max-batch-tokens", 32, ranks=ranks)
                (self.scratch / "output.jsonl").unlink()

    def test_one_rank(self):
        self.check_ranks(1)

    def test_two_ranks(self):
        self.check_ranks(2)

    def test_three_ranks(self):
        self.check_ranks(3)

    def test_four_ranks(self):
        self.check_ranks(4)

    def test_every_model_and_every_pair_of_settings_is_run(self):
        runs = [(placement, ranks, batch_size_of(placement, ranks))
                for placement in range(len(PLACEMENTS)) for ranks in RANKS]
        for a, b, count in ((0, 1, 16), (0, 2, 12), (1, 2, 12)):
            self.assertEqual(len({(run[a], run[b]) for run in runs}), count)
        folders = {path.parent.name for path in REFERENCE.glob("*/cases.json")}
        self.assertEqual(folders, {model for models in MODELS.values() for model in models})

    def test_end_of_sequence_ends_a_row_and_no_other(self):
        cases = self.read_json(REFERENCE / "opt-pre/cases.json")
        stops = [entry for entry in cases["eos"] if entry["id"] == "eos-stop"]
        rows = [{"custom_id": entry["id"], "prompt": entry["input_ids"],
                 "max_tokens": entry["max_new_tokens"]} for entry in stops]
        other = cases["single"][2]
        rows.append({"custom_id": "other", "prompt": other["input_ids"], "ignore_eos": True,
                     "max_tokens": len(other["greedy"]["tokens"])})
        output = self.scratch / "output.jsonl"
        self.generate(REFERENCE / "opt-pre", "--input", self.write_rows("rows.jsonl", rows),
                      "--output", output, ranks=2, status=DONE)
        records = self.records(output)
        for entry in stops:
            self.assertEqual(records[entry["id"]]["token_ids"], entry["greedy"]["tokens"])
            self.assertEqual(records[entry["id"]]["finish_reason"], "stop")
        self.assertEqual(records["other"]["token_ids"], other["greedy"]["tokens"])


if __name__ == "__main__":
    unittest.main()
