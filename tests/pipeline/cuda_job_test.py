"""Jobs of the program on emulated GPUs (tests/support/cuda_emulation): the CUDA engine, by every
placement of bytes and several ranks, gives Hugging Face's greedy tokens, or those of the CPU engine
in f32.

Checkpoints in f32 must give every token. In 16 bits a token may differ where the margin to the
second is small; what follows in that answer is another text, and not compared.
"""

import array
import json
import re
import shutil
import struct
import unittest

from job_support import NO_SPACE, REFERENCE, SOURCE, USAGE, JobTest, percent

ON_DEVICE = percent(100, 0, 100, 0, 100, 0)
WEIGHTS_ON_HOST = percent(0, 100, 100, 0, 100, 0)
WEIGHTS_ON_DISK = percent(0, 0, 100, 0, 100, 0)
CACHE_ON_HOST = percent(50, 50, 0, 100, 100, 0)
EVERYWHERE = percent(30, 40, 50, 20, 50, 50)
CPU_ATTENTION = ["--cpu-cache-compute"]

# Log-probabilities move by up to 0.03 where every intermediate is rounded to f16 (README of
# tests/data/opt-reference), and by 8 times that in bf16; a margin is the difference of two.
F16_ERROR = 0.05
BF16_ERROR = 0.25
# With a cache of q8 a key that is a little off may take another code: a 255th of its range.
Q8_ERROR = 0.15
LEVELS = {"4bit": 15, "8bit": 255}
FAMILIES = SOURCE / "tests/data/families"
# Streams run as late as they may, threads in some order: what a GPU is free to do.
LATE = {"SLUICE_EMULATED_LATE": "1", "SLUICE_EMULATED_SEED": "1"}


def bfloat16(floats):
    """Their bits, rounded to nearest even."""
    bits = array.array("I", floats.tobytes())
    return array.array("H", ((b + 0x7FFF + (b >> 16 & 1)) >> 16 for b in bits)).tobytes()


def float16(value):
    return struct.unpack("<e", struct.pack("<e", value))[0]


def quantised(floats, columns, levels):
    """What is left of rows of so many columns after kernels/group_quantize.h."""
    result = array.array("f")
    for row in range(0, len(floats), columns):
        for first in range(row, row + columns, 64):
            group = floats[first:min(first + 64, row + columns)]
            low = float16(min(group))
            step = float16(max(max(group) - low, 0) / levels)
            codes = (min(max(round((x - low) / step), 0), levels) if step else 0 for x in group)
            result.extend(low + step * code for code in codes)
    return result


def is_quantised(name):
    """Whether --compress-weight packs a tensor: embeddings of tokens, and the layers' matrices."""
    return "embed_tokens" in name or (".layers." in name and name.endswith("weight")
                                      and "layer_norm" not in name)


def convert_safetensors(source, target, kind):
    """A file of f16 tensors as another: F32, exactly; BF16; or in f32 what packing to 4bit or 8bit
    leaves."""
    content = source.read_bytes()
    length = struct.unpack_from("<Q", content)[0]
    header = json.loads(content[8:8 + length])
    data = bytearray()
    for name, tensor in header.items():
        if name == "__metadata__":
            continue
        begin, end = (8 + length + offset for offset in tensor["data_offsets"])
        floats = array.array("f", struct.unpack(f"<{(end - begin) // 2}e", content[begin:end]))
        if kind in LEVELS and is_quantised(name):
            floats = quantised(floats, tensor["shape"][-1], LEVELS[kind])
        first = len(data)
        data += bfloat16(floats) if kind == "BF16" else floats.tobytes()
        tensor["dtype"] = "BF16" if kind == "BF16" else "F32"
        tensor["data_offsets"] = [first, len(data)]
    text = json.dumps(header).encode()
    target.write_bytes(struct.pack("<Q", len(text)) + text + data)


class CudaJobTest(JobTest):
    def converted(self, model, kind):
        """A reference checkpoint in another dtype."""
        folder = self.scratch / f"{model}-{kind}"
        folder.mkdir()
        for path in (REFERENCE / model).iterdir():
            if path.suffix == ".safetensors":
                convert_safetensors(path, folder / path.name, kind)
            elif path.name != "cases.json":
                shutil.copy(path, folder)
        config = self.read_json(folder / "config.json")
        config["torch_dtype"] = "bfloat16" if kind == "BF16" else "float32"
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
        return folder

    def answers(self, folder, model, *arguments, ranks, device="cuda", environment=None,
                prompts=None, tokens=None, source=REFERENCE):
        """name -> record of a job with the model's reference prompts, or so many of them."""
        cases = self.read_json(source / model / "cases.json")
        rows = [{"custom_id": case["id"], "prompt": case["input_ids"], "ignore_eos": True,
                 "max_tokens": tokens or len(case["greedy"]["tokens"])}
                for case in cases["single"][:prompts]]
        output = self.scratch / "output.jsonl"
        self.generate(folder, "--input", self.write_rows("rows.jsonl", rows), "--output", output,
                      "--overwrite", "--device", device, "--max-batch-tokens", 32, "--logprobs", 2,
                      "--gpu-batch-size", 3, *arguments, ranks=ranks, environment=environment)
        return self.records(output)

    def compare(self, records, wanted, error):
        """wanted: name -> (tokens, margins, log-probabilities or none)."""
        compared = 0
        for name, (tokens, margins, values) in wanted.items():
            got = records[name]["token_ids"]
            self.assertEqual(len(got), len(tokens))
            for step, (token, margin) in enumerate(zip(tokens, margins)):
                if got[step] != token:
                    self.assertLess(margin, 2 * error, f"{name}: {got} {tokens}")
                    break
                compared += 1
                if values:
                    value = records[name]["logprobs"]["token_logprobs"][step]
                    self.assertAlmostEqual(value, values[step], delta=error, msg=name)
        self.assertGreater(compared, sum(len(tokens) for tokens, _, _ in wanted.values()) / 2)

    def check(self, folder, model, *arguments, error=0.0, **options):
        """Against Hugging Face's tokens. error 0: every token."""
        with self.subTest(folder=folder.name, arguments=arguments, **options):
            cases = self.read_json(REFERENCE / model / "cases.json")["single"]
            wanted = {case["id"]: (case["greedy"]["tokens"], case["greedy"]["margins"], None)
                      for case in cases}
            self.compare(self.answers(folder, model, *arguments, **options), wanted, error)

    def check_as(self, exact, folder, model, *arguments, both=(), error, **options):
        """Against the CPU's answers with another checkpoint of the same weights."""
        with self.subTest(folder=folder.name, arguments=arguments, **options):
            wanted = {}
            # Sums of one warp for every element take an emulated GPU long.
            few = {"prompts": 2, "tokens": 8}
            exactly = self.answers(exact, model, *both, ranks=0, device="cpu", **few)
            for name, record in exactly.items():
                two = [sorted(step.values()) for step in record["logprobs"]["top_logprobs"]]
                wanted[name] = (record["token_ids"], [step[-1] - step[-2] for step in two],
                                record["logprobs"]["token_logprobs"])
            self.compare(self.answers(folder, model, *arguments, *both, **few, **options), wanted,
                         error)

    def test_f32_gives_every_token(self):
        pre = self.converted("opt-pre", "F32")
        post = self.converted("opt-post-proj", "F32")
        galactica = self.converted("galactica-like", "F32")
        self.check(pre, "opt-pre", *ON_DEVICE, ranks=1)
        self.check(galactica, "galactica-like", *WEIGHTS_ON_HOST, ranks=2, environment=LATE)
        self.check(post, "opt-post-proj", *WEIGHTS_ON_DISK, ranks=3)
        self.check(post, "opt-post-proj", *CACHE_ON_HOST, ranks=1, environment=LATE)
        self.check(pre, "opt-pre", *CACHE_ON_HOST, *CPU_ATTENTION, ranks=2)
        self.check(galactica, "galactica-like", *EVERYWHERE, *CPU_ATTENTION, "--num-gpu-batches", 2,
                   ranks=3, environment=LATE)

    def test_guesses_change_no_token(self):
        pre = self.converted("opt-pre", "F32")
        report = self.scratch / "report.json"
        always = ["--draft-adapts", 0, "--report", report, "--probe", "never"]
        for arguments, ranks, environment in (
                ([*WEIGHTS_ON_HOST, "--draft-model", pre, *always], 1, LATE),
                ([*EVERYWHERE, "--draft", "ngram", *always], 2, LATE)):
            self.check(pre, "opt-pre", *arguments, ranks=ranks, environment=environment)
            run = self.read_json(report)["run"]
            self.assertGreater(run["drafted_tokens"], 0)
            if "--draft-model" in arguments:  # the model itself
                self.assertEqual(run["accepted_tokens"], run["drafted_tokens"])

    def test_f16_gives_the_tokens_whose_margin_is_wide(self):
        for model, arguments, ranks, environment in (
                ("opt-odd", ON_DEVICE, 3, LATE),
                ("opt-fullvocab", EVERYWHERE, 1, None),
                ("opt-old-prefix", [*CACHE_ON_HOST, *CPU_ATTENTION], 2, LATE)):
            self.check(REFERENCE / model, model, *arguments, error=F16_ERROR, ranks=ranks,
                       environment=environment)

    def test_bf16_is_near_f32(self):
        folder = self.converted("opt-pre", "BF16")
        self.check_as(folder, folder, "opt-pre", *ON_DEVICE, error=BF16_ERROR, ranks=1)

    def test_other_families_give_the_tokens_whose_margin_is_wide(self):
        jobs = (("llama-biases", EVERYWHERE, 2), ("gpt2", WEIGHTS_ON_HOST, 1),
                ("llama3-like", ON_DEVICE, 2), ("qwen3", WEIGHTS_ON_DISK, 1),
                ("mistral-window", EVERYWHERE, 1), ("bloom", [*CACHE_ON_HOST, *CPU_ATTENTION], 1),
                ("codegen", ON_DEVICE, 1), ("neox-pythia", WEIGHTS_ON_HOST, 2),
                ("glm4-0414-like", CACHE_ON_HOST, 1), ("phi3-longrope", EVERYWHERE, 2),
                ("gemma2", ON_DEVICE, 1), ("gemma3", CACHE_ON_HOST, 2), ("yalm", ON_DEVICE, 1),
                ("mixtral", EVERYWHERE, 2), ("qwen2-moe-sparse-step", ON_DEVICE, 1))
        for model, arguments, ranks in jobs:
            with self.subTest(model=model):
                cases = self.read_json(FAMILIES / model / "cases.json")["single"][:4]
                wanted = {case["id"]: (case["greedy"]["tokens"][:8], case["greedy"]["margins"][:8],
                                       None) for case in cases}
                # How far rounding every intermediate moves a logit, measured by transformers.
                moved = [case["rounded_sim"]["max_abs_logit_diff"] for case in cases
                         if case.get("rounded_sim")]
                got = self.answers(FAMILIES / model, model, *arguments, "--generation-config", "none",
                                   "--packed-dir", self.scratch / "packed", ranks=ranks, prompts=4,
                                   tokens=8, source=FAMILIES)
                self.compare(got, wanted, 2 * max(moved, default=0.0))

    def test_packed_weights_are_near_what_they_stand_for(self):
        # The CPU, given packed weights, would round what they are multiplied with, too.
        packed = ["--packed-dir", self.scratch / "packed"]
        for kind, arguments, ranks, cache, error in (
                ("4bit", WEIGHTS_ON_HOST, 2, "f32", F16_ERROR),
                ("8bit", CACHE_ON_HOST, 1, "q8", Q8_ERROR)):
            self.check_as(self.converted("opt-pre", kind), REFERENCE / "opt-pre", "opt-pre",
                          *arguments, *packed, "--compress-weight", kind, error=error,
                          both=["--cache-dtype", cache], ranks=ranks, environment=LATE)

    def test_ranks_take_a_gpu_each(self):
        report = self.scratch / "report.json"
        for gpus, taken in ((1, ["cuda:0", "cuda:0"]), (2, ["cuda:0", "cuda:1"])):
            self.check(REFERENCE / "opt-old-prefix", "opt-old-prefix", "--report", report, "--probe",
                       "never", ranks=2, environment={"SLUICE_EMULATED_GPUS": str(gpus)},
                       error=F16_ERROR)
            stages = self.read_json(report)["stages"]
            self.assertEqual([stage["device"].split(" ")[0] for stage in stages], taken)
            for stage in stages:
                self.assertIn("emulated GPU", stage["device"])
                self.assertEqual(stage["cache"]["dtype"], "f16")  # the device's own, unasked

    def test_what_is_not_there_is_refused(self):
        job = ["generate", "--model", REFERENCE / "opt-pre", "--prompt-len", 8, "--quiet"]
        for device, gpus, reason in (("cuda", "0", "no CUDA device is visible"),
                                     ("cuda:2", "2", "there is no device 2: 2 are visible")):
            ended = self.run_job(*job, "--device", device,
                                 environment={"SLUICE_EMULATED_GPUS": gpus})
            self.assert_refused(ended, USAGE, reason)
        # A GPU with hardly more memory than the kernels take for themselves.
        table = self.run_job(*job[:-1], "--device", "cuda", "--dry-run").stdout
        kernels = int(re.search(r"kernels +(\d+) MiB", table)[1])
        ended = self.run_job(*job, "--device", "cuda",
                             environment={"SLUICE_EMULATED_GPU_MIB": str(kernels + 1)})
        self.assert_refused(ended, NO_SPACE, "device", "MiB|bytes")


if __name__ == "__main__":
    unittest.main()
