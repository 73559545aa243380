"""Prefill and decode tokens/s beside CTranslate2's float32, interleaved. See README.md here."""
import argparse
import json
import os
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile
import time

import bench_models
import numpy as np

CACHE = pathlib.Path.home() / ".cache" / "sluice-bench"
NEW_TOKENS = 32


def read_bandwidth(seconds=1.0) -> float:
    """Bytes/s that all cores together read from memory: a sum over arrays far beyond any cache."""
    code = ("import numpy,time,sys\na=numpy.ones(1<<26,numpy.float32)\na.sum()\n"
            "t=time.perf_counter();n=0\n"
            f"while time.perf_counter()-t<{seconds}: a.sum();n+=1\n"
            "print(n*a.nbytes/(time.perf_counter()-t))")
    readers = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
               for _ in range(len(os.sched_getaffinity(0)))]
    return sum(float(reader.communicate()[0]) for reader in readers)


def run_sluice(program, model, batch, prompt) -> dict:
    """One run; seconds of prefill and decode from its own report (loading apart)."""
    with tempfile.TemporaryDirectory() as folder:
        report = os.path.join(folder, "report.json")
        subprocess.run([program, "generate", "--model", str(model), "--prompt-len", str(prompt),
                        "--gen-len", str(NEW_TOKENS), "--num-prompts", str(batch),
                        "--gpu-batch-size", str(batch), "--micro-batches", "1",
                        "--max-batch-tokens", str(max(batch * prompt, 1)),
                        "--report", report, "--quiet"], check=True, stdout=subprocess.DEVNULL)
        run = json.load(open(report))["run"]
    return {"prefill": batch * prompt / run["prefill_seconds"],
            "decode": run["decode_tokens_per_second"]}


class Peer:
    """CTranslate2, kept loaded; idle while the other side runs."""

    def __init__(self, model):
        import ctranslate2
        self.generator = ctranslate2.Generator(str(model), compute_type="float32",
                                               intra_threads=len(os.sched_getaffinity(0)))

    def generate(self, batch, prompt, length) -> float:
        dice = random.Random(7)
        prompts = [["t2"] + [f"t{dice.randrange(4, 50000)}" for _ in range(prompt - 1)]
                   for _ in range(batch)]
        begin = time.perf_counter()
        results = self.generator.generate_batch(
            prompts, max_length=length, min_length=length, sampling_topk=1, beam_size=1,
            include_prompt_in_result=False, max_batch_size=0)
        seconds = time.perf_counter() - begin
        assert all(len(result.sequences[0]) == length for result in results)
        return seconds

    def run(self, batch, prompt) -> dict:
        prefill = self.generate(batch, prompt, 1)
        whole = self.generate(batch, prompt, NEW_TOKENS)
        return {"prefill": batch * prompt / prefill,
                "decode": batch * (NEW_TOKENS - 1) / (whole - prefill)}


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sluice", required=True)
    parser.add_argument("--shapes", default="125m")
    parser.add_argument("--batches", default="1,8,32")
    parser.add_argument("--storage", default="f32", choices=["f32", "f16"])
    parser.add_argument("--pairs", type=int, default=5)
    options = parser.parse_args()
    command = "scripts/bench decode " + " ".join(sys.argv[3:])
    bandwidth = read_bandwidth()
    print(f"memory read bandwidth, all cores: {bandwidth / 1e9:.1f} GB/s; medians of "
          f"{options.pairs} interleaved pairs; weights kept as {options.storage}")
    print(f"{'shape':>6} {'batch':>5} {'phase':>8} {'sluice':>9} {'CT2 f32':>9} {'ratio':>6} "
          f"{'limit':>9}")
    figures = []
    for name in options.shapes.split(","):
        shape = bench_models.SHAPES[name]
        ours = CACHE / f"opt-{name}-{options.storage}"
        theirs = CACHE / f"opt-{name}-ctranslate2"
        bench_models.make_checkpoint(ours, shape, options.storage)
        bench_models.make_ctranslate2(theirs, shape)
        weight_bytes = os.path.getsize(ours / "model.safetensors")
        peer = Peer(theirs)
        for batch in map(int, options.batches.split(",")):
            mine, other = [], []
            for pair in range(options.pairs + 1):  # the first warms both up
                a = run_sluice(options.sluice, ours, batch, shape["prompt"])
                b = peer.run(batch, shape["prompt"])
                if pair > 0:
                    mine.append(a)
                    other.append(b)
            for phase in ("prefill", "decode"):
                value = statistics.median(run[phase] for run in mine)
                base = statistics.median(run[phase] for run in other)
                ratio = statistics.median(a[phase] / b[phase] for a, b in zip(mine, other))
                limit = batch * bandwidth / weight_bytes if phase == "decode" else None
                print(f"{name:>6} {batch:>5} {phase:>8} {value:9.1f} {base:9.1f} {ratio:6.2f} "
                      + (f"{limit:9.1f}" if limit else f"{'-':>9}"), flush=True)
                suffix = "" if options.storage == "f16" else "_f32_storage"
                figures.append({"name": f"{phase}_{name}_b{batch}_vs_ctranslate2_f32{suffix}",
                                "value": round(value, 2), "unit": "tokens/s",
                                "limit": round(limit, 1) if limit else None,
                                "ratio": round(ratio, 3), "peer": round(base, 2),
                                "command": command})
        del peer
    for figure in figures:
        print(json.dumps(figure))
    return 0


if __name__ == "__main__":
    sys.exit(main())
