"""Rows with adapters: jobs of the program over the demo model, with folders as PEFT writes them."""

import json
import random
import signal
import struct
import unittest

from job_support import (BAD_INPUT, DEMO_MODEL, ROWS_FAILED, USAGE, JobTest, percent)

CONFIG = json.loads((DEMO_MODEL / "config.json").read_text())
HIDDEN = CONFIG["hidden_size"]


def safetensors(tensors):
    """name -> (shape, floats)"""
    header, data = {}, b""
    for name, (shape, values) in tensors.items():
        begin = len(data)
        data += struct.pack(f"<{len(values)}f", *values)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, len(data)]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


class AdaptersTest(JobTest):
    def adapter(self, name, seed, rank=4, size=0.2, **settings):
        """A folder with adapters of all modules of attention that are square."""
        rng = random.Random(seed)
        names = {"opt": ("model.decoder.layers", "self_attn.out_proj"),
                 "llama": ("model.layers", "self_attn.o_proj")}[CONFIG["model_type"]]
        tensors = {}
        for layer in range(CONFIG["num_hidden_layers"]):
            stem = f"base_model.model.{names[0]}.{layer}.{names[1]}"
            for end, shape in [("lora_A", [rank, HIDDEN]), ("lora_B", [HIDDEN, rank])]:
                values = [rng.uniform(-size, size) for _ in range(rank * HIDDEN)]
                tensors[f"{stem}.{end}.weight"] = (shape, values)
        folder = self.scratch / name
        folder.mkdir(exist_ok=True)
        (folder / "adapter_model.safetensors").write_bytes(safetensors(tensors))
        (folder / "adapter_config.json").write_text(json.dumps(
            {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank} | settings))
        return f"{name}={folder}"

    def rows(self, count, names=("law", "med"), max_tokens=8):
        for i in range(count):
            row = {"custom_id": f"row {i}", "prompt": f"Question: What is {i} plus {i % 7}?\nAnswer:",
                   "max_tokens": max_tokens, "logprobs": 0}
            if i % 3:
                row["lora"] = names[i % 3 - 1]
            yield row

    def answers(self, rows, *arguments, status=0, **options):
        rows = self.write_rows("rows.jsonl", rows)
        output = self.scratch / "output.jsonl"
        self.generate(DEMO_MODEL, "--input", rows, "--output", output, "--overwrite", *arguments,
                      status=status, **options)
        return self.records(output)

    def flags(self):
        return ["--lora", self.adapter("law", 1), "--lora", self.adapter("med", 2)]

    def test_rows_go_by_their_adapter_on_any_stages_and_placement(self):
        flags = self.flags()
        expected = self.answers(self.rows(18), *flags)
        without = self.answers(({k: v for k, v in row.items() if k != "lora"}
                                for row in self.rows(18)))
        for i, row in enumerate(self.rows(18)):
            name = row["custom_id"]
            self.assertEqual(expected[name] == without[name], i % 3 == 0, name)
        for arguments, ranks in [(["--gpu-batch-size", 3, "--max-batch-tokens", 16], 0),
                                 (percent(30, 40, 50, 20, 50, 50), 2),
                                 ([*percent(0, 0, 0, 0, 0, 0), "--gpu-batch-size", 4], 3)]:
            self.assertEqual(self.answers(self.rows(18), *flags, *arguments, ranks=ranks), expected,
                             arguments)

    def test_a_killed_job_goes_on_with_the_same_adapters_only(self):
        flags = self.flags()
        rows = self.write_rows("rows.jsonl", self.rows(60, max_tokens=60))
        expected = self.answers(self.rows(60, max_tokens=60), *flags)
        output = self.scratch / "killed.jsonl"
        job = self.start("generate", "--model", DEMO_MODEL, "--quiet", "--input", rows, "--output",
                         output, "--journal-seconds", "0.01", *flags)
        job.wait_for_lines(output, 3)
        job.process.send_signal(signal.SIGKILL)
        job.end()
        self.generate(DEMO_MODEL, "--input", rows, "--output", output, "--resume", *flags)
        self.assertEqual(self.records(output), expected)

    def test_what_cannot_be_is_refused(self):
        law = self.adapter("law", 1)
        rows = self.write_rows("rows.jsonl", self.rows(3))
        output = self.scratch / "output.jsonl"

        def refused(status, *patterns, flags):
            ended = self.run_job("generate", "--model", DEMO_MODEL, "--quiet", "--input", rows,
                                 "--output", output, *flags)
            self.assert_refused(ended, status, *patterns)

        refused(USAGE, "--lora law is no NAME=DIR", flags=["--lora", "law"])
        refused(USAGE, "twice", flags=["--lora", law, "--lora", law])
        refused(BAD_INPUT, "adapter_config.json", flags=["--lora", "law=/nonexistent"])
        refused(BAD_INPUT, "modules_to_save",
                flags=["--lora", self.adapter("bad", 1, modules_to_save=["lm_head"])])
        refused(USAGE, "dummy", flags=["--lora", law, "--weights", "dummy"])
        # A name that nobody gave costs its row alone.
        records = self.answers(self.rows(3), "--lora", law, status=ROWS_FAILED)
        self.assertIn("text", records["row 1"])
        self.assertEqual(records["row 2"]["error"]["param"], "lora")

    def test_the_plan_counts_their_bytes(self):
        rows = self.write_rows("rows.jsonl", self.rows(3))

        def paper(*flags):
            ended = self.run_job("generate", "--model", DEMO_MODEL, "--input", rows, "--dry-run", *flags)
            self.assertEqual(ended.status, 0, ended)
            return ended.stdout + ended.stderr

        self.assertNotIn("adapters", paper())
        self.assertRegex(paper(*self.flags()), r"device .*(.|\n)* adapters ")


if __name__ == "__main__":
    unittest.main()
