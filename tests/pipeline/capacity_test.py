"""Models larger than the memory they get run, within it; what does not fit is refused before
anything is loaded; and a disk that fills up costs no finished answer.
"""

import json
import unittest

from job_support import (DEMO_MODEL, DONE, NO_SPACE, REFERENCE, JobTest, percent)

MIB = 1 << 20
OPT_125M = {
    "model_type": "opt", "num_hidden_layers": 12, "hidden_size": 768, "num_attention_heads": 12,
    "ffn_dim": 3072, "vocab_size": 50272, "max_position_embeddings": 2048,
    "word_embed_proj_dim": 768, "do_layer_norm_before": True, "activation_function": "relu",
    "torch_dtype": "float16", "bos_token_id": 2, "eos_token_id": 2, "pad_token_id": 1,
}


def parameters(config):
    hidden, ffn = config["hidden_size"], config["ffn_dim"]
    layer = 4 * (hidden + 1) * hidden + (hidden + 1) * ffn + (ffn + 1) * hidden + 4 * hidden
    tables = (config["vocab_size"] + config["max_position_embeddings"] + 2) * hidden
    return config["num_hidden_layers"] * layer + tables + 2 * hidden


class CapacityTest(JobTest):
    def model(self):
        folder = self.scratch / "opt-125m"
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(OPT_125M), encoding="utf-8")
        return folder

    def check_next_run_cleans(self, disk):
        """Whatever a failed run leaves on the disk, the next one there removes."""
        self.generate(DEMO_MODEL, "--prompt", "Question:", "--max-new-tokens", 2, "--offload-dir",
                      disk, "--gpu-batch-size", 1, *percent(100, 0, 0, 0, 100, 0))
        self.assertEqual(list(disk.iterdir()), [], "a run folder is left")

    def test_a_model_larger_than_the_device_memory_of_all_ranks(self):
        budget = 112 * MIB
        self.assertLess(2 * budget, 2 * parameters(OPT_125M))
        model, report = self.model(), self.scratch / "report.json"
        for name, weights in (("host", (0, 100)), ("disk", (0, 0)), ("spread", (10, 40))):
            with self.subTest(name):
                self.generate(model, "--weights", "dummy", "--prompt-len", 16, "--gen-len", 3,
                              "--num-prompts", 4, "--gpu-batch-size", 2, "--max-batch-tokens", 32,
                              *percent(*weights, 100, 0, 100, 0), "--device-memory", budget,
                              "--host-memory", 320 * MIB, "--report", report, ranks=2)
                told = self.read_json(report)
                self.assertEqual((told["run"]["failed"], told["run"]["completion_tokens"]), (0, 12))
                self.assertEqual(len(told["stages"]), 2)
                for stage in told["stages"]:
                    device, host = stage["tiers"]["device"], stage["tiers"]["host"]
                    self.assertEqual((device["budget"], host["budget"]), (budget, 320 * MIB))
                    for tier, numbers in stage["tiers"].items():
                        planned = sum(entry["bytes"] for entry in stage["plan"]
                                      if entry["tier"] == tier)
                        self.assertEqual(numbers["planned"], planned)
                        self.assertEqual(numbers["high_water"], planned, f"{name}: {tier}")
                    self.assertLessEqual(device["high_water"], budget)
                    self.assertLessEqual(host["high_water"], 320 * MIB)
                    # All streamed weights came by in every pass.
                    moved = sum(stage[part]["activities"]["host_to_device"]["bytes"]
                                for part in ("load", "run"))  # the first layers come ahead
                    self.assertGreater(moved, stage["run"]["passes"] * 100 * MIB)

    def test_budgets_that_are_too_small_are_refused_at_once(self):
        model = self.model()
        for flag, tier in (("--device-memory", "device"), ("--host-memory", "host")):
            for ranks in (0, 2):
                with self.subTest(tier=tier, ranks=ranks):
                    ended = self.run_job("generate", "--model", model, "--weights", "dummy",
                                         "--prompt-len", 16, "--gen-len", 2, flag, "20MiB",
                                         *percent(0, 100, 100, 0, 100, 0), ranks=ranks)
                    self.assert_refused(ended, NO_SPACE, rf"{tier} tier needs [\d.]+ MiB",
                                        r"budget is 20\.0 MiB", rf"budget\.{tier}")

    def test_a_budget_decides_to_the_byte(self):
        # One sequence in each of two tiers: less cache than for one is no cache.
        arguments = ["generate", "--model", REFERENCE / "opt-pre", "--prompt-len", 8, "--gen-len",
                     2, "--num-prompts", 2, "--gpu-batch-size", 2, "--quiet",
                     *percent(30, 40, 50, 50, 50, 50)]
        report = self.scratch / "report.json"
        self.assertEqual(self.run_job(*arguments, "--report", report).status, DONE)
        tiers = self.read_json(report)["stages"][0]["tiers"]
        for flag, tier in (("--device-memory", "device"), ("--host-memory", "host")):
            needed = tiers[tier]["planned"]
            self.assertEqual(self.run_job(*arguments, flag, needed).status, DONE)
            self.assert_refused(self.run_job(*arguments, flag, needed - 1), NO_SPACE, tier)

    def test_prompts_wait_for_cache_where_a_budget_holds_few_long_ones(self):
        rows = [{"custom_id": str(i), "max_tokens": 4, "ignore_eos": True,
                 "prompt": "Question: what is one plus one? " * (12 if i % 7 == 0 else 1)}
                for i in range(30)]
        source, report = self.write_rows("rows.jsonl", rows), self.scratch / "report.json"
        for ranks in (0, 2):
            roomy, tight = self.scratch / f"roomy{ranks}", self.scratch / f"tight{ranks}"
            arguments = [DEMO_MODEL, "--input", source, "--report", report,
                         "--gpu-batch-size", 6, *percent(100, 0, 100, 0, 100, 0)]
            self.generate(*arguments, "--output", roomy, ranks=ranks)
            stages = self.read_json(report)["stages"]
            cache = [entry["bytes"] for entry in stages[0]["plan"]
                     if (entry["tier"], entry["purpose"]) == ("device", "KV cache")]
            budget = stages[0]["tiers"]["device"]["planned"] - sum(cache) * 7 // 10
            self.generate(*arguments, "--output", tight, "--device-memory", budget, ranks=ranks)
            answers, wanted = self.records(tight), self.records(roomy)
            self.assertEqual(set(answers), {row["custom_id"] for row in rows})
            for name, record in answers.items():
                self.assertEqual(record["token_ids"], wanted[name]["token_ids"])
            for stage in self.read_json(report)["stages"]:
                device = stage["tiers"]["device"]
                self.assertEqual(device["high_water"], device["planned"])
                self.assertLessEqual(device["planned"], budget)
                self.assertGreater(stage["cache"]["tokens_stored"], 0)
                self.assertGreaterEqual(stage["cache"]["tokens_taken"],
                                        stage["cache"]["tokens_stored"])

    def test_a_full_output_disk_costs_no_finished_answer(self):
        disk = self.small_disk(16384)
        rows = [{"custom_id": str(i), "prompt": f"Question: What is {i} plus 1?\nAnswer:",
                 "max_tokens": 48, "ignore_eos": True} for i in range(120)]
        arguments = ["generate", "--model", DEMO_MODEL, "--quiet", "--input",
                     self.write_rows("rows.jsonl", rows)]
        output = disk / "output.jsonl"
        for ranks in (0, 2):
            self.remove_output(output)
            ended = self.run_job(*arguments, "--output", output, ranks=ranks)
            # The journal lies on that disk, too, and may be the first to find it full.
            ended.stdout, ended.stderr = ("".join(
                line for line in text.splitlines(keepends=True)
                if not line.startswith("sluice: cannot write the journal")) for text in (ended.stdout, ended.stderr))
            self.assert_refused(ended, NO_SPACE, r"output\.jsonl", "No space left", "--resume",
                                seconds=30)
        kept = self.records(output)  # whole lines only
        self.assertGreater(len(kept), 0)
        self.assertLess(len(kept), len(rows))
        roomy = self.scratch / "roomy.jsonl"
        roomy.write_bytes(output.read_bytes())
        self.assertEqual(self.run_job(*arguments, "--output", roomy, "--resume").status, DONE)
        records = self.records(roomy)
        self.assertEqual(set(records), {row["custom_id"] for row in rows})
        self.assertEqual({name: records[name] for name in kept}, kept)

    def test_an_offload_disk_that_is_too_small_is_refused_before_the_job(self):
        disk = self.small_disk(MIB)
        output = self.scratch / "output.jsonl"
        rows = self.write_rows("rows.jsonl", [{"prompt": "Question:", "max_tokens": 200}] * 8)
        for ranks in (0, 2):
            ended = self.run_job("generate", "--model", DEMO_MODEL, "--quiet", "--input", rows,
                                 "--output", output, "--offload-dir", disk,
                                 *percent(100, 0, 0, 0, 100, 0), ranks=ranks)
            self.assert_refused(ended, NO_SPACE, "kv-cache", "are wanted", "free")
        self.check_next_run_cleans(disk)
        self.assertEqual(output.read_bytes() if output.exists() else b"", b"")

    def test_made_up_weights_that_do_not_fit_on_the_disk(self):
        disk = self.small_disk(8 * MIB)
        ended = self.run_job("generate", "--model", self.model(), "--weights", "dummy",
                             "--prompt-len", 4, "--gen-len", 1, "--quiet", "--offload-dir", disk,
                             *percent(0, 0, 100, 0, 100, 0), ranks=2)
        self.assert_refused(ended, NO_SPACE, "disk|space", seconds=30)
        self.check_next_run_cleans(disk)


if __name__ == "__main__":
    unittest.main()
