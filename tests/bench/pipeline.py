"""How busy a pipeline keeps its stages: timed stages, and real ranks. See README.md here."""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

CACHE = pathlib.Path.home() / ".cache" / "sluice-bench"
PROMPT = 16  # of the real ranks: their figure is decoding
NEW_TOKENS = 32
PASS_US = 40000  # what a pass keeps an ordinary stage busy for
LAYERS = 4
# Per case: name in the table, stages, settings of bench_pipeline_stages, figure and goal.
DECODE = {"gpu-batch": 8, "new": 32, "layer-us": PASS_US // LAYERS, "delay-us": PASS_US // 5}
CHUNK = 256
PREFILL = {"gpu-batch": 4, "prompt": 512, "chunk": CHUNK, "delay-us": PASS_US // 5,
           "layer-token-us": PASS_US // LAYERS // CHUNK}
# Every tenth prompt is long; one of its chunks takes as long as five decode steps.
MIXED = {"gpu-batch": 4, "requests": 100, "prompt": 8, "long-prompt": 1500, "new": 20,
         "chunk": CHUNK, "layer-us": PASS_US // LAYERS // 5, "delay-us": PASS_US // 25,
         "layer-token-us": PASS_US // LAYERS // CHUNK}
CASES = [
    ("decode", 4, DECODE, "pipeline_decode_utilisation", 0.95),
    ("decode", 2, DECODE, "pipeline_decode_utilisation_2_stages", 0.95),
    # Eight links are late by 1.6 passes together: nine micro-batches are too few.
    ("decode, 10 micro-batches", 8, DECODE | {"micro-batches": 10},
     "pipeline_decode_utilisation_8_stages", 0.95),
    ("decode, stage 1 half as fast", 4, DECODE | {"slow-stage": 1},
     "pipeline_decode_utilisation_slow_stage", 0.95),
    ("prefill", 4, PREFILL, "pipeline_prefill_utilisation", 0.85),
    ("prefill, chunks of 512", 4, PREFILL | {"chunk": 512, "delay-us": 2 * PASS_US // 5},
     "pipeline_prefill_utilisation_coarse", None),
    ("prefill", 2, PREFILL, "pipeline_prefill_utilisation_2_stages", None),
    ("prefill", 8, PREFILL, "pipeline_prefill_utilisation_8_stages", None),
    ("prefill of one prompt", 4,
     PREFILL | {"requests": 1, "prompt": 2000, "chunk": 128, "delay-us": PASS_US // 10},
     "pipeline_prefill_utilisation_one_prompt", None),
    ("both, with refill", 4, MIXED, "pipeline_mixed_utilisation", None),
    ("both, 10 micro-batches", 4, MIXED | {"micro-batches": 10},
     "pipeline_mixed_utilisation_10_micro_batches", 0.95),
]


# Ranks, threads, sequences of a micro-batch, micro-batches.
SIDES = {"1 x 1, 3 of 32": (1, 1, 32, 3), "1 x 2, 3 of 32": (1, 2, 32, 3),
         "2 x 1, 3 of 32": (2, 1, 32, 3), "1 x 1, 1 of 32": (1, 1, 32, 1),
         "1 x 2, 1 of 32": (1, 2, 32, 1), "2 x 1, 2 of 16": (2, 1, 16, 2)}


def timed_run(program, stages, settings, over_mpi) -> dict:
    settings = {"stages": stages, "layers": LAYERS, "micro-batches": stages + 1} | settings
    settings.setdefault("requests", settings["micro-batches"] * settings["gpu-batch"])
    command = [program]
    if over_mpi:
        settings["mpi"] = 1
        command = ["mpirun", "--bind-to", "none", "-n", str(stages), program]
    for name, value in settings.items():
        command += [f"--{name}", str(value)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def timed_stages(options, command) -> list:
    program = os.path.join(os.path.dirname(options.sluice) or ".", "bench_pipeline_stages")
    if not os.path.exists(program):
        sys.exit(f"bench: no {program}; build the target bench_pipeline_stages")
    print(f"timed stages, links late by 20 % of a pass, stages + 1 micro-batches; useful share of the "
          f"slowest stage\nfrom the first stage's first work to the last stage's last; medians of "
          f"{options.repeats}")
    print(f"{'job':>29} {'stages':>6} {'ranks are':>9} {'passes':>6} {'seconds':>8} {'useful':>7} "
          f"{'T/(T+P-1)':>9} {'goal':>5}")
    figures = []
    for over_mpi in (False, True):
        for job, stages, settings, name, goal in CASES:
            if over_mpi and name not in ("pipeline_decode_utilisation",
                                         "pipeline_prefill_utilisation"):
                continue
            runs = [timed_run(program, stages, settings, over_mpi) for _ in range(options.repeats)]
            useful = statistics.median(max(run["busy"]) / run["seconds"] for run in runs)
            seconds = statistics.median(run["seconds"] for run in runs)
            passes = runs[0]["passes"]
            bound = passes / (passes + stages - 1)
            ranks = "processes" if over_mpi else "threads"
            print(f"{job:>29} {stages:>6} {ranks:>9} {passes:>6} {seconds:8.3f} {useful:7.3f} "
                  f"{bound:9.3f} {goal or '-':>5}", flush=True)
            figures.append({"name": name + ("_mpi" if over_mpi else ""), "value": round(useful, 4),
                            "unit": "share of time", "limit": round(bound, 4),
                            "ratio": round(useful, 4), "goal": goal, "command": command})
    return figures


def real_run(options, ranks, threads, batch, micro_batches) -> float:
    """Decode tokens/s of the program: `micro_batches` of `batch` sequences under way."""
    with tempfile.TemporaryDirectory() as folder:
        report = os.path.join(folder, "report.json")
        launcher = ["mpirun", "--bind-to", "none", "-n", str(ranks)] if ranks > 1 else []
        subprocess.run([*launcher, options.sluice, "generate", "--device", "cpu", "--model", str(options.model),
                        "--threads", str(threads), "--prompt-len", str(PROMPT), "--gen-len",
                        str(NEW_TOKENS), "--num-prompts", str(batch * micro_batches),
                        "--gpu-batch-size", str(batch), "--micro-batches", str(micro_batches),
                        "--max-batch-tokens", str(batch * PROMPT), "--report", report, "--quiet"],
                       check=True, stdout=subprocess.DEVNULL)
        with open(report, encoding="utf-8") as file:
            return json.load(file)["run"]["decode_tokens_per_second"]


def real_ranks(options, command) -> list:
    options.model = CACHE / f"opt-{options.shape}-{options.storage}"
    if not (options.model / "done").exists():
        import bench_models  # needs numpy; nothing else here does
        bench_models.make_checkpoint(options.model, bench_models.SHAPES[options.shape],
                                     options.storage)
    rates = {side: [] for side in SIDES}
    for _ in range(options.pairs):
        for side, shape in SIDES.items():
            rates[side].append(real_run(options, *shape))
    print(f"\nreal ranks x threads, OPT-{options.shape} shape, weights kept as {options.storage}, "
          f"decode tokens/s; medians of {options.pairs} interleaved runs")
    print(f"{'ranks x threads, micro-batches':>31} {'tokens/s':>9}")
    for side in SIDES:
        print(f"{side:>31} {statistics.median(rates[side]):9.2f}")
    figures = []
    for batching, others, suffix in (("3 of 32", "3 of 32", ""),
                                     ("2 of 16", "1 of 32", "_32_sequences")):
        for other, goal in (("1 x 1", 1.75), ("1 x 2", 0.95)):
            mine, theirs = rates[f"2 x 1, {batching}"], rates[f"{other}, {others}"]
            ratio = statistics.median(a / b for a, b in zip(mine, theirs))
            print(f"2 x 1, {batching}, over {other}, {others}: {ratio:.2f}")
            figures.append({"name": f"ranks_2x1_over_{other.replace(' ', '')}{suffix}",
                            "value": round(statistics.median(mine), 3), "unit": "tokens/s",
                            "limit": None, "ratio": round(ratio, 4),
                            "goal": None if suffix else goal,
                            "peer": round(statistics.median(theirs), 3),
                            "batching": f"{batching} over {others}", "command": command})
    return figures


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sluice", required=True)
    parser.add_argument("--only", choices=["timed", "ranks"])
    parser.add_argument("--repeats", type=int, default=3, help="of each run of timed stages")
    parser.add_argument("--shape", default="1.3b", choices=["125m", "1.3b"])
    parser.add_argument("--storage", default="f16", choices=["f32", "f16"])
    parser.add_argument("--pairs", type=int, default=3, help="turns of the real ranks")
    options = parser.parse_args()
    command = "scripts/bench pipeline " + " ".join(sys.argv[3:])
    figures = []
    if options.only != "ranks":
        figures += timed_stages(options, command)
    if options.only != "timed":
        figures += real_ranks(options, command)
    for figure in figures:
        print(json.dumps(figure))
    return 0


if __name__ == "__main__":
    sys.exit(main())
