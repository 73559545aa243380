"""Prefill and decode tokens/s beside CTranslate2 and llama.cpp, interleaved. See README.md here."""
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

import bench_llama
import bench_models
from bench_shapes import SHAPES, is_llama, prompt_length, vocabulary

CACHE = pathlib.Path.home() / ".cache" / "sluice-bench"
CORES = len(os.sched_getaffinity(0))
OURS = {"f16": [], "f32": [], "8bit": ["--compress-weight", "8bit"],
        "4bit": ["--compress-weight", "4bit"]}
# Each peer, and the storage of ours it is measured beside.
PEERS = {"ctranslate2_f32": "f16", "ctranslate2_int8": "8bit", "llamacpp_f16": "f16",
         "llamacpp_q4_0": "4bit", "llamacpp_q8_0": "8bit"}
# The ratios we want to reach, by batch. Llama's are what OPT's 1.3B shape has in
# docs/verification.md, but for one row of 16 bits; prefill beside OPT's of as many tokens.
GOALS = {
    "opt": {
        ("decode", "ctranslate2_f32"): {1: 1.5, 8: 1.5, 32: 2.0},
        ("decode", "ctranslate2_int8"): {1: 1.0, 8: 1.2, 32: 1.5},
        ("decode", "llamacpp_f16"): {1: 1.0, 8: 1.3, 32: 2.0},
        ("decode", "llamacpp_q4_0"): {1: 1.0, 8: 1.3, 32: 2.0},
        ("decode", "llamacpp_q8_0"): {1: 1.0, 8: 1.3, 32: 2.0},
        ("prefill", "ctranslate2_f32"): {8: 1.0},
    },
    "llama": {
        ("decode", "ctranslate2_f32"): {1: 1.53, 8: 2.51, 32: 2.22},
        ("decode", "ctranslate2_int8"): {1: 1.28, 8: 1.42, 32: 1.93},
        ("decode", "llamacpp_f16"): {1: 1.0, 8: 1.17, 32: 1.78},
        ("decode", "llamacpp_q4_0"): {1: 1.10, 8: 2.10, 32: 3.15},
        ("decode", "llamacpp_q8_0"): {1: 1.0, 8: 1.3, 32: 2.0},
        ("prefill", "ctranslate2_f32"): {1: 1.82},
        ("prefill", "ctranslate2_int8"): {1: 1.03},
        ("prefill", "llamacpp_f16"): {1: 2.53},
        ("prefill", "llamacpp_q4_0"): {1: 3.46},
    },
}


def read_bandwidth(seconds=1.0) -> float:
    """Bytes/s that all cores together read from memory: a sum over arrays far beyond any cache."""
    code = ("import numpy,time,sys\na=numpy.ones(1<<26,numpy.float32)\na.sum()\n"
            "t=time.perf_counter();n=0\n"
            f"while time.perf_counter()-t<{seconds}: a.sum();n+=1\n"
            "print(n*a.nbytes/(time.perf_counter()-t))")
    readers = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
               for _ in range(CORES)]
    return sum(float(reader.communicate()[0]) for reader in readers)


class Sluice:
    """The program, started anew for each run; seconds come from its own report, loading apart."""

    def __init__(self, program, model, storage, length):
        self.program, self.model, self.flags, self.length = program, model, OURS[storage], length

    def run(self, batch, prompt) -> dict:
        with tempfile.TemporaryDirectory() as folder:
            report = os.path.join(folder, "report.json")
            subprocess.run([self.program, "generate", "--device", "cpu",
                            "--model", str(self.model), *self.flags,
                            "--prompt-len", str(prompt), "--gen-len", str(self.length),
                            "--num-prompts", str(batch), "--gpu-batch-size", str(batch),
                            "--micro-batches", "1", "--max-batch-tokens",
                            str(max(batch * prompt, 1)), "--report", report, "--quiet"],
                           check=True, stdout=subprocess.DEVNULL)
            run = json.load(open(report))["run"]
        return {"prefill": batch * prompt / run["prefill_seconds"],
                "decode": run["decode_tokens_per_second"]}


class CTranslate2:
    """Kept loaded; idle while others run."""

    def __init__(self, model, compute_type, tokens, length):
        import ctranslate2
        self.tokens, self.length = tokens, length
        self.generator = ctranslate2.Generator(str(model), compute_type=compute_type,
                                               intra_threads=CORES)

    def generate(self, batch, prompt, length) -> float:
        dice = random.Random(7)
        prompts = [["t2"] + [f"t{dice.randrange(4, self.tokens)}" for _ in range(prompt - 1)]
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
        whole = self.generate(batch, prompt, self.length)
        return {"prefill": batch * prompt / prefill,
                "decode": batch * (self.length - 1) / (whole - prefill)}


class LlamaCpp:
    """llama-batched-bench, started anew for each run; loading is apart there, too."""

    def __init__(self, program, model, length):
        self.program, self.model, self.length = program, model, length

    def run(self, batch, prompt) -> dict:
        command = [self.program, "-m", str(self.model), "-npp", str(prompt), "-ntg",
                   str(self.length), "-npl", str(batch), "-c", str(batch * (prompt + self.length)),
                   "-b", "2048", "-ub", "512", "-t", str(CORES), "-tb", str(CORES),
                   "--output-format", "jsonl"]
        for _ in range(4):  # it crashes now and then
            done = subprocess.run(command, capture_output=True, text=True)
            lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
            if done.returncode == 0 and lines:
                result = json.loads(lines[-1])
                return {"prefill": result["speed_pp"], "decode": result["speed_tg"]}
            print(f"bench: llama-batched-bench ended with {done.returncode}; once more",
                  file=sys.stderr)
        sys.exit(f"bench: {' '.join(command)} failed:\n{done.stderr[-2000:]}")


def make_side(name, shape_name, options):
    shape, length = SHAPES[shape_name], options.new_tokens
    family = "llama" if is_llama(shape) else "opt"
    made = bench_llama if is_llama(shape) else bench_models
    model = shape_name.removeprefix("llama-")
    if name in OURS:
        stored = "f32" if name == "f32" else "f16"
        folder = CACHE / f"{family}-{model}-{stored}"
        bench_models.make_checkpoint(folder, shape, stored)
        return Sluice(options.sluice, folder, name, length)
    if name.startswith("ctranslate2"):
        folder = CACHE / f"{family}-{model}-ctranslate2"
        made.make_ctranslate2(folder, shape)
        return CTranslate2(folder, "float32" if name.endswith("f32") else "int8",
                           vocabulary(shape), length)
    programs = pathlib.Path(options.llamacpp)
    # llama.cpp knows no OPT: the same weights as a GPT-2.
    file = CACHE / (f"{'llama' if is_llama(shape) else 'gpt2'}-{model}-"
                    f"{name.removeprefix('llamacpp_')}.gguf")
    bench_models.make_gguf(file, shape, programs / "llama-quantize", made.write_gguf)
    return LlamaCpp(str(programs / "llama-batched-bench"), file, length)


def measure(sides, batch, prompt, pairs, warm_up):
    """{side: [run, ...]}, one run of every side after the other, `pairs` times over."""
    runs = {name: [] for name in sides}
    for turn in range(-1 if warm_up else 0, pairs):
        for name, side in sides.items():
            run = side.run(batch, prompt)
            if turn >= 0:
                runs[name].append(run)
    return runs


def figures_of(shape_name, batch, runs, peers, f32_too, bound):
    goals = GOALS["llama" if is_llama(SHAPES[shape_name]) else "opt"]
    for peer in peers:
        beside = [(PEERS[peer], "")] + ([("f32", "_f32_storage")]
                                        if f32_too and peer == "ctranslate2_f32" else [])
        for ours, suffix in beside:
            for phase in ("prefill", "decode"):
                goal = goals.get((phase, peer), {}).get(batch)
                pairs = list(zip(runs[ours], runs[peer]))
                yield {"name": f"{phase}_{shape_name}_b{batch}_vs_{peer}{suffix}",
                       "ratio": round(statistics.median(a[phase] / b[phase] for a, b in pairs), 3),
                       "goal": None if suffix else goal, "unit": "tokens/s",
                       "value": round(statistics.median(a[phase] for a, _ in pairs), 2),
                       "peer": round(statistics.median(b[phase] for _, b in pairs), 2),
                       "limit": round(bound[ours], 1) if phase == "decode" else None,
                       "pairs": len(pairs)}


def show(figure):
    goal = f"{figure['goal']:.2f}" if figure["goal"] else "-"
    limit = f"{figure['limit']:.1f}" if figure["limit"] else "-"
    print(f"{figure['name']:<44} {figure['value']:>9.1f} {figure['peer']:>9.1f} "
          f"{figure['ratio']:>6.2f} {goal:>5} {limit:>8}", flush=True)


def parse():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sluice", required=True)
    parser.add_argument("--shapes", default="125m,1.3b")
    parser.add_argument("--batches", default="1,8,32")
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--f32", action="store_true", help="ours with float32 weights, too")
    parser.add_argument("--pairs", default="3", help="turns: a number, or one for each batch")
    parser.add_argument("--new-tokens", type=int, default=32)
    parser.add_argument("--prepare", action="store_true", help="make the models, measure nothing")
    parser.add_argument("--no-warm-up", action="store_true")
    parser.add_argument("--llamacpp", default=os.environ.get("SLUICE_BENCH_LLAMACPP", ""),
                        help="folder of llama-batched-bench and llama-quantize")
    options = parser.parse_args()
    options.batches = [int(batch) for batch in options.batches.split(",")]
    options.pairs = [int(pairs) for pairs in options.pairs.split(",")]
    if len(options.pairs) == 1:
        options.pairs *= len(options.batches)
    if len(options.pairs) != len(options.batches):
        parser.error("--pairs must be one number, or as many as --batches has")
    peers = options.peers.split(",")
    if not options.llamacpp and any(peer.startswith("llamacpp") for peer in peers):
        print("bench: no llama.cpp (--llamacpp DIR or SLUICE_BENCH_LLAMACPP; README.md here says "
              "how to build it): its figures are left out", file=sys.stderr)
        peers = [peer for peer in peers if not peer.startswith("llamacpp")]
    return options, peers


def measure_shape(shape_name, options, peers, bandwidth):
    """Yields the figures of one shape."""
    shape = SHAPES[shape_name]
    names = sorted({PEERS[peer] for peer in peers} | ({"f32"} if options.f32 else set()))
    sides = {name: make_side(name, shape_name, options) for name in names + peers}
    if options.prepare:
        return
    weights = bench_models.weight_count(shape)
    bytes_of = {"f32": 4, "f16": 2, "8bit": 68 / 64, "4bit": 36 / 64}
    for batch, pairs in zip(options.batches, options.pairs):
        bound = {name: batch * bandwidth / (weights * bytes_of[name]) for name in names}
        prompt = prompt_length(shape, batch)
        runs = measure(sides, batch, prompt, pairs, not options.no_warm_up)
        yield from figures_of(shape_name, batch, runs, peers, options.f32, bound)


def main() -> int:
    options, peers = parse()
    command = "scripts/bench peers " + " ".join(sys.argv[3:])
    bandwidth = read_bandwidth()
    print(f"memory read bandwidth, {CORES} cores: {bandwidth / 1e9:.1f} GB/s; medians of "
          f"{','.join(map(str, options.pairs))} interleaved runs of each side")
    print(f"{'tokens/s':<44} {'sluice':>9} {'peer':>9} {'ratio':>6} {'goal':>5} {'limit':>8}")
    figures = []
    for shape_name in options.shapes.split(","):
        for figure in measure_shape(shape_name, options, peers, bandwidth):
            figures.append(dict(figure, command=command))
            show(figure)
    for figure in figures:
        print(json.dumps(figure))
    return 0


if __name__ == "__main__":
    sys.exit(main())
