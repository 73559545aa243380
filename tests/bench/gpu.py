"""Whole generations on a GPU beside FlexGen and beside what the machine allows; see README.md here.

Every figure is written as it is measured (OUT/gpu.jsonl); a part that fails or outlasts its share
of the time is named and the next one starts.
"""
import argparse
import json
import os
import pathlib
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import traceback

import bench_direct_read
import bench_flexgen
import bench_gpu_cases as cases
import bench_shapes
from bench_steps import StepFailed, Steps, clean_exit_on_terminate

# Parts in the order of their worth where time is short, and their shares of it.
PARTS = {"rates": 0.25, "gpu_6.7b_device": 0.85, "gpu_30b_host": 1.2, "gpu_30b_cpu_attention": 1.3,
         "gpu_30b_4bit": 1.0, "launch": 0.2, "ranks": 0.6, "kernels": 1.0, "gpu_6.7b_disk": 1.3}
GEMM_GOAL = 0.9


class Bench:
    def __init__(self, options, steps, scratch):
        self.options, self.steps, self.scratch = options, steps, pathlib.Path(scratch)
        self.program = os.path.abspath(options.sluice)
        self.build = pathlib.Path(self.program).parent
        self.rates, self.rates_measured = dict(cases.ASSUMED), False
        self.disk_measured = False
        self.machine = machine(options, self.scratch)
        self.prompt = 32 if options.tiny else cases.PROMPT
        self.python = options.python or shutil.which("python3") or sys.executable

    def model(self, shape) -> pathlib.Path:
        name = f"opt-{shape['hidden']}-{shape['layers']}"
        return bench_shapes.write_config(self.scratch / name, shape)

    def shape(self, name, layers=None) -> dict:
        if self.options.tiny:
            return dict(bench_shapes.SHAPES["tiny"])
        return dict(bench_shapes.SHAPES[name], **({"layers": layers} if layers else {}))

    def size(self, case, seconds) -> tuple:
        """(shape, generated tokens, what was shrunk and why)."""
        if self.options.tiny:
            return self.shape(case.shape), 4, "tiny"
        layers, gen, why = cases.choose_size(case, self.machine, self.rates, seconds,
                                             bool(self.options.flexgen))
        return self.shape(case.shape, layers), gen, why

    # ---- rates and kernels ----

    def kernel_program(self, *arguments):
        return [self.build / "bench_cuda_kernels", "--device", self.options.device, "--tiny",
                int(self.options.tiny), *arguments,
                *(["--rounds", 1, "--milliseconds", 1] if self.options.tiny else [])]

    def measure_rates(self, seconds):
        measured, why = self.steps.lines(self.kernel_program("--only", "rates"), seconds)
        for figure in measured:
            self.steps.figure(figure)
            scale = 1e12 if figure["unit"] == "TFLOP/s" else 1e9
            self.rates[figure["name"].removeprefix("rate_")] = figure["value"] * scale
        edge = 8192
        best, _ = self.cublas_best([f"{edge},{edge},{edge},f16"], seconds / 3)
        for figure in best.values():
            self.steps.figure({"name": "rate_product_cublas", "value": figure["tflop_per_s"],
                               "unit": "TFLOP/s"})
            # The device's peak is the best that anybody reached.
            self.rates["product"] = max(self.rates["product"], figure["tflop_per_s"] * 1e12)
        if why:
            raise StepFailed(f"{why}; sizes are chosen by assumed rates, bounds are left out")
        self.rates_measured = True
        size = 1 << (24 if self.options.tiny else 31)
        self.rates["disk_read"] = bench_direct_read.measure(self.scratch / "disk", size)
        self.steps.figure({"name": "rate_disk_read", "unit": "GB/s",
                           "value": round(self.rates["disk_read"] / 1e9, 3)})
        self.disk_measured = True

    def cublas_best(self, shapes, seconds):
        """(shape -> figure, why it failed or None); nothing without a GPU."""
        if not shapes or self.options.device == "cpu":
            return {}, None
        found, why = self.steps.lines([self.build / "bench_cublas_best", *shapes], seconds)
        return {figure["shape"]: figure for figure in found}, why

    def kernels(self, seconds):
        """The table of every operation; its 16-bit products again by cuBLAS's best algorithm."""
        table, why = self.steps.lines(self.kernel_program(), 0.65 * seconds)
        own = next((f["value"] for f in table if f["name"] == "rate_product"), 0) * 1e12
        table = [figure for figure in table if figure["name"].startswith("kernel_")]
        for figure in table:  # the program knows its own products only, as the peak
            if figure["bound_by"] == "flop" and own and self.rates_measured:
                slower = max(1, self.rates["product"] / own)
                figure |= {"limit": round(figure["limit"] / slower, 5),
                           "ratio": round(figure["ratio"] / slower, 3)}
        # cuBLAS writes 16 bits; the head's f32 logits are another product.
        products = {f"{f['m']},{f['n']},{f['k']},{f['dtype']}": f for f in table
                    if f.get("dtype") in ("f16", "bf16") and "_head_" not in f["name"]}
        best, other = self.cublas_best(list(products), 0.35 * seconds)
        peers = {shape: figure["value"] for shape, figure in best.items()}
        if other:
            self.steps.failed("cublas_best", other)
        for shape, figure in products.items():
            if shape in peers:
                figure |= {"peer": peers[shape], "goal": GEMM_GOAL, "of_bound": figure["ratio"],
                           "ratio": round(peers[shape] / figure["value"], 3)}
        for figure in table:
            self.steps.figure(figure)
        if why:
            self.steps.failed("kernels", why)

    # ---- the five cases ----

    def generate(self, command, report, seconds, environment=None) -> dict:
        self.steps.run(command, seconds, environment)
        with open(report) as file:
            return json.load(file)

    def side_of_ours(self, case, shape, gen, seconds) -> dict:
        with tempfile.TemporaryDirectory(dir=self.scratch) as folder:
            report = os.path.join(folder, "report.json")
            read = self.generate(cases.sluice_command(
                self.program, case, self.model(shape), self.prompt, gen, report, folder,
                self.options.device), report, seconds)
        stage = read["stages"][0]
        moved = stage["decode"]["activities"]["host_to_device"]["bytes"]
        return {"prefill": read["run"]["prefill_seconds"], "decode": read["run"]["decode_seconds"],
                "load": stage["load_seconds"], "host_to_device_bytes": moved,
                "peak_device_bytes": stage["tiers"]["device"]["high_water"], "disk": stage["disk"],
                "bound_by": stage["decode"].get("bound", {}).get("resource")}

    def case(self, case, seconds):
        end = self.steps.left() - seconds
        left = lambda: self.steps.left() - end
        shape, gen, why = self.size(case, seconds)
        self.steps.note(f"{case.name}: {shape['layers']} layers, {gen} new tokens"
                        f"{f' (for {why})' if why else ''}, {seconds:.0f} s")
        ours, theirs, peer, loaded = [], [], None, None
        on_disk = case.percent[0] + case.percent[1] < 100
        try:
            # Ours once before FlexGen is loaded, so that its failure or slowness costs nothing.
            ours.append(self.side_of_ours(case, shape, gen, left()))
            if not self.options.flexgen:
                return
            peer = bench_flexgen.FlexGen(self.options.flexgen, self.steps.log, self.python)
            offload = self.scratch / f"flexgen-{case.name}"
            offload.mkdir()
            loaded = peer.start(cases.flexgen_settings(
                case, shape, self.prompt, gen, offload, self.options.device), left())
            begin = left()
            theirs.append(peer.generate(left(), cold=on_disk))
            turn = begin - left() + 3 + ours[0]["load"] + ours[0]["prefill"] + ours[0]["decode"]
            while len(theirs) < self.options.turns and left() > 1.3 * turn:
                ours.append(self.side_of_ours(case, shape, gen, left()))
                theirs.append(peer.generate(left(), cold=on_disk))
        except bench_flexgen.Failed as error:
            self.steps.failed(f"{case.name}_flexgen", error)
        except StepFailed as error:
            if not ours:
                raise
            self.steps.note(f"{case.name}: a later turn failed: {error}")
        finally:
            if peer:
                peer.stop()
            shutil.rmtree(self.scratch / f"flexgen-{case.name}", ignore_errors=True)
            if ours:
                self.report_case(case, shape, gen, why, ours, theirs, loaded)

    def report_case(self, case, shape, gen, why, ours, theirs, loaded):
        least = cases.bounds(case, shape, self.prompt, gen, self.rates)
        tokens = case.sequences * gen
        whole = lambda turn: turn["prefill"] + turn["decode"]
        medians = {key: statistics.median(turn[key] for turn in ours)
                   for key in ("prefill", "decode", "load")}
        bound = sum(seconds for seconds, _ in least.values())
        amount = cases.amounts(case, shape, self.prompt, gen)["decode"]["host_to_device"]
        on_disk = case.percent[0] + case.percent[1] < 100
        figure = {
            "name": case.name, "unit": "token/s",
            "value": round(statistics.median(tokens / whole(turn) for turn in ours), 3),
            "limit": None, "of_bound": None, "goal_of_bound": case.goal_bound, "goal": case.goal_ratio, "ratio": None,
            "prefill_seconds": round(medians["prefill"], 4),
            "decode_seconds": round(medians["decode"], 4),
            "load_seconds": round(medians["load"], 2), "turns": len(ours),
            "sequences": case.sequences, "prompt": self.prompt, "gen": gen,
            "layers": shape["layers"], "of_layers": bench_shapes.SHAPES[case.shape]["layers"],
            "shrunk_for": why or None, "percent": case.percent,
            "link_bytes_over_least": round(ours[0]["host_to_device_bytes"] / amount, 3)
                                     if amount else None,
            "report_bound_by": ours[0]["bound_by"], "disk": ours[0]["disk"]}
        if self.rates_measured and (self.disk_measured or not on_disk):
            figure |= {"limit": round(tokens / bound, 3), "of_bound": round(
                statistics.median(bound / whole(turn) for turn in ours), 4)}
            for phase, (seconds, resource) in least.items():
                figure[f"{phase}_of_bound"] = round(seconds / medians[phase], 4)
                figure[f"{phase}_bound_by"] = resource
        if theirs:
            times = [turn["prefill_seconds"] + turn["decode_seconds"] for turn in theirs]
            figure |= {
                "peer": round(statistics.median(tokens / time for time in times), 3),
                "ratio": round(statistics.median(
                    time / whole(turn) for time, turn in zip(times, ours)), 3),
                "peer_prefill_seconds": round(statistics.median(
                    turn["prefill_seconds"] for turn in theirs), 4),
                "peer_decode_seconds": round(statistics.median(
                    turn["decode_seconds"] for turn in theirs), 4),
                "peer_load_seconds": round(loaded["load_seconds"], 2),
                "peer_turns": len(theirs), "peer_torch": loaded["torch"],
                "peer_peak_device_bytes": theirs[-1]["peak_gpu_bytes"]}
            if on_disk:
                figure["peer_page_cache"] = "dropped before each layer"
        self.steps.figure(figure)

    # ---- launches, and ranks that share the GPU ----

    def launch(self, seconds):
        """What of a decode step the GPU does not spend on it, at the 125M shape."""
        shape = self.shape("125m")
        new = 4 if self.options.tiny else 128
        for graphs in ("1", "0"):
            for batch in (1, 8):
                with tempfile.TemporaryDirectory(dir=self.scratch) as folder:
                    report = os.path.join(folder, "report.json")
                    read = self.generate(
                        [self.program, "generate", "--model", self.model(shape), "--weights",
                         "dummy", "--device", self.options.device, "--prompt-len", 32, "--gen-len",
                         new, "--num-prompts", batch, "--gpu-batch-size", batch, "--micro-batches",
                         1, "--cache-dtype", "f16", "--report", report, "--probe", "never",
                         "--quiet"], report, max(10, seconds / 4), {"SLUICE_CUDA_GRAPHS": graphs})
                decode = read["stages"][0]["decode"]
                step = decode["wall_seconds"] / decode["passes"]
                busy = decode["activities"]["compute"]["seconds"] / decode["passes"]
                name = "gpu_launch_overhead" if graphs == "1" else "gpu_launch_overhead_no_graphs"
                self.steps.figure({
                    "name": name, "value": round(1 - busy / step, 4), "unit": "of a step",
                    "limit": 0.05, "ratio": None, "batch": batch,
                    "step_ms": round(step * 1e3, 4), "compute_busy_ms": round(busy * 1e3, 4)})

    def ranks(self, seconds):
        """1, 2 and 4 ranks, each with a quarter of the memory: the same tokens?"""
        shape = self.shape("6.7b", 16)
        length, new, count = (8, 4, 8) if self.options.tiny else (128, 32, 32)
        dice = random.Random(11)
        rows = self.scratch / "rows.jsonl"
        rows.write_text("".join(json.dumps({
            "custom_id": f"r{i}", "max_tokens": new, "ignore_eos": True,
            "prompt": [dice.randrange(4, bench_shapes.VOCABULARY) for _ in range(length)]}) + "\n"
            for i in range(count)))
        quarter = int(self.machine["device"] // 4)
        device = "cuda:0" if self.options.device == "cuda" else self.options.device
        alone = {}
        for ranks in (1, 2, 4):
            output, report = self.scratch / f"ranks{ranks}.jsonl", self.scratch / "ranks.json"
            read = self.generate(
                ["mpirun", "--bind-to", "none", "-n", ranks, self.program, "generate", "--model",
                 self.model(shape), "--weights", "dummy", "--device", device,
                 "--device-memory", quarter, "--input", rows, "--output", output, "--overwrite",
                 "--gpu-batch-size", 8, "--cache-dtype", "f16", "--report", report, "--probe",
                 "never", "--quiet"], report, max(20, seconds / 3))
            tokens = {record["custom_id"]: record["token_ids"]
                      for record in map(json.loads, output.read_text().splitlines())}
            alone = alone or tokens
            self.steps.figure({
                "name": f"gpu_ranks_{ranks}", "unit": "token/s",
                "value": round(read["run"]["completion_tokens_per_second"], 2), "limit": None,
                "ratio": None, "same_rows": sum(tokens[row] == alone[row] for row in alone),
                "rows": count, "different_answers": len({str(t) for t in tokens.values()}),
                "device_memory": quarter, "transport": read["stages"][0]["transport"],
                "note": "the ranks share one GPU's arithmetic"})

    def part(self, name, seconds):
        special = {"rates": self.measure_rates, "kernels": self.kernels, "launch": self.launch,
                   "ranks": self.ranks}
        if name in special:
            return special[name](seconds)
        return self.case(next(case for case in cases.CASES if case.name == name), seconds)


def machine(options, scratch) -> dict:
    """Bytes of each tier."""
    ram = next(int(line.split()[1]) * 1024 for line in open("/proc/meminfo")
               if line.startswith("MemAvailable"))
    found = {"device": 80e9, "host": options.ram * 1e9 if options.ram else ram,
             "disk": shutil.disk_usage(scratch).free, "gpu": None}
    if options.device.startswith("cuda") and not options.dry_run:
        number = options.device.partition(":")[2] or "0"
        try:
            said = subprocess.run(["nvidia-smi", "-i", number, "--format=csv,noheader,nounits",
                                   "--query-gpu=memory.total,name,driver_version"], timeout=20,
                                  capture_output=True, text=True, check=True).stdout
            memory, found["gpu"] = re.match(r"(\d+), (.*)", said.strip()).groups()
            found["device"] = int(memory) << 20
        except (OSError, subprocess.SubprocessError, AttributeError) as error:
            print(f"bench: nvidia-smi: {error}: taken to have 80 GB", file=sys.stderr)
    if options.tiny:
        found |= {"device": 1 << 30}
    return found


def commit() -> str:
    """Of a checkout, or of the one that a bundle was made from."""
    root = pathlib.Path(__file__).resolve().parent.parent.parent
    if (root / "commit").exists():
        return (root / "commit").read_text().strip()
    said = subprocess.run(["git", "-C", root, "describe", "--always", "--dirty"],
                          capture_output=True, text=True) if shutil.which("git") else None
    return said.stdout.strip() if said and said.returncode == 0 else "unknown"


def dry_run(bench, wanted, seconds_of):
    """What would be run: shapes, bytes, bounds by assumed rates, commands."""
    print("rates assumed: " + ", ".join(f"{k} {v / 1e9:g} G/s" for k, v in bench.rates.items()))
    for case in cases.CASES:
        if case.name not in wanted:
            continue
        seconds = seconds_of(case.name)
        shape, gen, why = bench.size(case, seconds)
        least = cases.bounds(case, shape, bench.prompt, gen, bench.rates)
        needed = cases.needs(case, shape, bench.prompt, gen, bool(bench.options.flexgen))
        print(f"{case.name}: {shape['layers']} of {bench_shapes.SHAPES[case.shape]['layers']} layers,"
              f" {gen} new tokens{f' (for {why})' if why else ''}, {seconds:.0f} s; at most "
              + ", ".join(f"{tier} {size / 1e9:.1f} GB" for tier, size in needed.items()))
        for phase, (took, resource) in least.items():
            print(f"  {phase} takes {took:.3f} s at least, by {resource}")
        print("  " + " ".join(cases.sluice_command("sluice", case, "MODEL", bench.prompt, gen,
                                                   "REPORT", "FOLDER", bench.options.device)))
        print("  " + json.dumps(cases.flexgen_settings(case, shape, bench.prompt, gen,
                                                       "FOLDER", bench.options.device)))
    for name in wanted:
        if not name.startswith("gpu_"):
            print(f"{name}: {seconds_of(name):.0f} s")


def parse():
    parser = argparse.ArgumentParser(prog="scripts/bench gpu")
    parser.add_argument("--sluice", required=True)
    parser.add_argument("--out", default="bench-gpu", help="folder of gpu.jsonl and gpu.log")
    parser.add_argument("--minutes", type=float, default=9, help="for everything")
    parser.add_argument("--turns", type=int, default=3, help="of each case, where time allows")
    parser.add_argument("--only", default="", help=",".join(PARTS))
    parser.add_argument("--flexgen", default="", help="a checkout of FlexGen; none: ours alone")
    parser.add_argument("--python", default="", help="that has FlexGen's PyTorch; else python3")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N, or cpu with --tiny")
    parser.add_argument("--tiny", action="store_true", help="small shapes, to try this program")
    parser.add_argument("--scratch", default="", help="folder on the disk to measure; else the system's for temporary files")
    parser.add_argument("--ram", type=float, default=0, help="GB of host memory; 0: what is free")
    parser.add_argument("--dry-run", action="store_true", help="print the plan, run nothing")
    options = parser.parse_args()
    wanted = options.only.split(",") if options.only else list(PARTS)
    for name in wanted:
        if name not in PARTS:
            parser.error(f"--only {name}: there are {', '.join(PARTS)}")
    if options.flexgen and not os.path.isfile(f"{options.flexgen}/flexllmgen/flex_opt.py"):
        parser.error(f"--flexgen {options.flexgen}: no flexllmgen/flex_opt.py there")
    if any(case.name in wanted for case in cases.CASES):
        wanted.append("rates")  # what their bounds are made of
    return options, [name for name in PARTS if name in wanted]


def main() -> int:
    options, wanted = parse()
    clean_exit_on_terminate()
    os.environ |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
                   "OMPI_MCA_rmaps_base_oversubscribe": "1"}
    share = lambda names: sum(PARTS[name] for name in names)
    with tempfile.TemporaryDirectory(prefix="sluice-bench-", dir=options.scratch or None) as scratch:
        if options.dry_run:
            bench = Bench(options, None, scratch)
            dry_run(bench, wanted,
                    lambda name: 60 * options.minutes * PARTS[name] / share(wanted))
            return 0
        steps = Steps(options.out, "gpu", options.minutes)
        bench = Bench(options, steps, scratch)
        steps.common = {"device": bench.machine["gpu"] or options.device,
                        "commit": commit(), "command": "scripts/bench gpu " + " ".join(sys.argv[3:])}
        if options.flexgen:
            # Its gigabytes of libraries are read from the disk before anything is measured.
            try:
                steps.run([bench.python, "-c", "import torch; torch.cuda.is_available()"], 40)
            except StepFailed as error:
                steps.note(f"import torch: {error}")
        else:
            steps.note("no --flexgen DIR: its side is left out")
        failed = 0
        for index, name in enumerate(wanted):
            seconds = steps.left() * PARTS[name] / share(wanted[index:])
            steps.note(f"{name}, up to {seconds:.0f} s")
            try:
                bench.part(name, seconds)
            except Exception as error:  # whatever it is, the other parts are worth having
                failed += 1
                steps.failed(name, f"{type(error).__name__}: {error}")
                if not isinstance(error, StepFailed):
                    traceback.print_exc(file=steps.log)
        steps.note(f"{len(wanted) - failed} parts done, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
