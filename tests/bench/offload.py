"""What offloading costs beside what it must cost at least. See README.md here."""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

import bench_models

CACHE = pathlib.Path.home() / ".cache" / "sluice-bench"
CORES = len(os.sched_getaffinity(0))
MOST_RATE = 1e9  # bytes/s of a limited link
STORAGES = {"f32": ("f32", [], 0.9), "f16": ("f16", [], 0.85),
            "8bit": ("f16", ["--compress-weight", "8bit"], 0.8),
            "4bit": ("f16", ["--compress-weight", "4bit"], 0.7)}


class Bench:
    """Runs the program and collects figures."""

    def __init__(self, options):
        self.program = options.sluice
        self.build = pathlib.Path(options.sluice).resolve().parent
        self.pairs = options.pairs
        self.figures = []
        self.command = "scripts/bench offload " + " ".join(sys.argv[3:])

    def model(self, shape, storage) -> pathlib.Path:
        folder = CACHE / f"opt-{shape}-{storage}"
        bench_models.make_checkpoint(folder, bench_models.SHAPES[shape], storage)
        return folder

    def run(self, model, batch, new_tokens, *flags, prompt=8, limits=None, ranks=1) -> dict:
        """One run of `batch` prompts in one micro-batch; its report, and what the system says."""
        with tempfile.TemporaryDirectory() as folder:
            report = os.path.join(folder, "report.json")
            arguments = [self.program, "generate", "--device", "cpu", "--model", str(model), "--prompt-len",
                         str(prompt), "--gen-len", str(new_tokens), "--num-prompts", str(batch),
                         "--gpu-batch-size", str(batch), "--micro-batches", "1",
                         "--max-batch-tokens", str(batch * prompt), "--offload-dir", folder,
                         "--report", report, "--quiet", *map(str, flags)]
            if limits:
                config = os.path.join(folder, "limits.yaml")
                pathlib.Path(config).write_text(json.dumps({"stage_defaults": limits}))
                arguments += ["--config", config]
            if ranks > 1:
                arguments = ["mpirun", "--bind-to", "none", "-n", str(ranks)] + arguments
            process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode != 0:
                raise RuntimeError(f"{' '.join(arguments)}: status {process.returncode}")
            result = json.load(open(report))
        result["peak_bytes"] = usage.ru_maxrss * 1024
        return result

    def figure(self, name, ratio, goal, limit, unit, value, **more):
        met = "" if goal is None else f"  (goal {goal}: {'met' if ratio >= goal else 'NOT met'})"
        label = f"{name} {more['storage']}" if "storage" in more else name
        print(f"{label:>36} {value:10.3f} {unit:<8} limit {limit:10.3f}  ratio {ratio:5.2f}{met}",
              flush=True)
        self.figures.append({"name": name, "value": round(value, 4), "unit": unit,
                             "limit": round(limit, 4), "ratio": round(ratio, 3), "goal": goal,
                             "command": self.command} | more)


def step_of(report) -> float:
    """Seconds of a pass of the steady state."""
    decode = report["stages"][0]["decode"]
    return decode["wall_seconds"] / decode["passes"]


def moved_per_step(report, activity) -> float:
    decode = report["stages"][0]["decode"]
    return decode["activities"][activity]["bytes"] / decode["passes"]


def overlap(bench, options, link):
    """I/O made as long as computing; a step should then take as long as one of them."""
    model = bench.model(options.overlap_shape, "f16")
    batch, tokens = options.overlap_batch, options.overlap_tokens
    # The cores that are not the device's are its links' and its disk's.
    threads = ("--threads", max(1, CORES - 1))
    run = lambda *flags, **more: bench.run(model, batch, tokens, *threads, *flags, **more)
    on_device = ("--percent", 100, 0, 100, 0, 100, 0)
    alone = step_of(run(*on_device))
    activity, section, key = (("disk_read", "disk", "read_gbps") if link == "disk" else
                              ("host_to_device", "link", "host_to_device_gbps"))
    trial = run("--percent", 0, 0 if link == "disk" else 100, 100, 0, 100, 0)
    # A rate that a copying core, and the disk, reach beside computing: what is measured is overlap,
    # not they. So only a share of the weights is streamed where a step is short.
    rate = MOST_RATE
    if link == "disk":
        rate = min(rate, 0.5 * (trial["stages"][0]["rates"]["disk_read"] or rate))
    share = round(min(100, 100 * rate * alone / moved_per_step(trial, activity)))
    shares = ("--percent", 100 - share, 0 if link == "disk" else share, 100, 0, 100, 0)
    bytes_per_step = moved_per_step(run(*shares), activity)
    rows = []
    for _ in range(bench.pairs):
        compute = step_of(run(*on_device))
        gbps = bytes_per_step / compute / 1e9
        limits = {section: {key: gbps}}
        slots = ("--weight-slots", 4)
        on = run(*shares, *slots, limits=limits)
        off = run(*shares, *slots, "--overlap", 0, limits=limits)
        limit = max(compute, moved_per_step(on, activity) / gbps / 1e9)
        stage = on["stages"][0]["decode"]
        uses = {use["name"].replace(" ", "_"): use for use in stage["resources"]}
        rows.append((limit, step_of(on), step_of(off), gbps, uses[activity]["hidden"]))
    limit, on, off, gbps, hidden = (statistics.median(column) for column in zip(*rows))
    suffix = "_disk" if link == "disk" else ""
    more = {"shape": options.overlap_shape, "batch": batch, "gbps": round(gbps, 3), "share": share,
            "hidden": round(hidden, 3)}
    bench.figure(f"overlap_step{suffix}", statistics.median(row[0] / row[1] for row in rows), 0.9,
                 limit, "s/step", on, **more)
    bench.figure(f"overlap_off_step{suffix}", statistics.median(row[0] / row[2] for row in rows),
                 None, limit, "s/step", off, **more)


def startup(bench, options):
    model = bench.model(options.startup_shape, "f16")
    rows = []
    for _ in range(bench.pairs):
        report = bench.run(model, 1, 2)
        tiers = report["stages"][0]["tiers"]
        planned = tiers["device"]["planned"] + tiers["host"]["planned"]
        rows.append(((planned + 200e6) / report["peak_bytes"], report["peak_bytes"], planned))
    ratio, peak, planned = (statistics.median(column) for column in zip(*rows))
    bench.figure("startup_memory", ratio, 1.0, (planned + 200e6) / 1e9, "GB", peak / 1e9,
                 shape=options.startup_shape)
    report = bench.run(model, 1, 2, ranks=2)
    worst = None
    for stage in report["stages"]:
        slice_bytes = sum(entry["bytes"] for entry in stage["plan"]
                          if entry["purpose"] == "weights")
        read = stage["load"]["activities"]["disk_read"]["bytes"]
        written = sum(stage[part]["activities"]["disk_write"]["bytes"] for part in ("load", "run"))
        ratio = 0.0 if written or not read else 1.05 * slice_bytes / read
        if worst is None or ratio < worst[0]:
            worst = (ratio, slice_bytes, read, written)
    ratio, slice_bytes, read, written = worst
    bench.figure("startup_read", ratio, 1.0, 1.05 * slice_bytes / 1e9, "GB", read / 1e9,
                 shape=options.startup_shape, ranks=2, bytes_written=written)


def of_bandwidth(bench, options):
    for shape in options.decode_shapes.split(","):
        rows = {name: [] for name in STORAGES}
        for turn in range(bench.pairs + 1):  # the first packs quantised weights
            for name, (storage, flags, _) in STORAGES.items():
                if turn == 0 and not flags:
                    continue
                report = bench.run(bench.model(shape, storage), 1, options.decode_tokens, *flags,
                                   "--probe", "again")
                stage = report["stages"][0]
                decode = stage["decode"]
                rate = decode["work"]["weight_bytes"] / decode["wall_seconds"]
                if turn > 0:
                    rows[name].append((rate / stage["rates"]["memory_read"], rate,
                                       stage["rates"]["memory_read"],
                                       decode["passes"] / decode["wall_seconds"]))
        for name, (_, _, goal) in STORAGES.items():
            ratio, rate, limit, tokens = (statistics.median(column) for column in zip(*rows[name]))
            bench.figure(f"decode_{shape}_b1_of_bandwidth", ratio, goal, limit / 1e9, "GB/s",
                         rate / 1e9, storage=name, tokens_per_second=round(tokens, 2))


def other(bench, name, goal, program, *arguments):
    """A benchmark of its own, whose figures are the JSON lines it prints."""
    if not os.path.exists(program):
        print(f"{name:>36} missing: {program}")
        return
    command = [sys.executable] if str(program).endswith(".py") else []
    done = subprocess.run([*command, program, *map(str, arguments)], capture_output=True, text=True)
    figures = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode != 0 or not figures:
        print(f"{name:>36} missing: {os.path.basename(program)} ended with status "
              f"{done.returncode}: {(done.stderr or done.stdout).strip()[-300:]}")
    for figure in figures:
        wanted = figure.get("goal", goal if figure["name"] == name else None)
        known = ("name", "ratio", "goal", "limit", "unit", "value", "command")
        bench.figure(figure["name"], figure["ratio"], wanted, figure.get("limit") or 0,
                     figure.get("unit", ""), figure["value"],
                     **{key: figure[key] for key in figure if key not in known})


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sluice", required=True)
    parser.add_argument("--pairs", type=int, default=3, help="turns of which medians are taken")
    parser.add_argument("--quick", action="store_true", help="small shapes, one turn")
    parser.add_argument("--only", default="", help="overlap,startup,disk,attention,quant4,decode")
    parser.add_argument("--overlap-shape", default="1.3b")
    parser.add_argument("--overlap-batch", type=int, default=32)
    parser.add_argument("--overlap-tokens", type=int, default=9)
    parser.add_argument("--startup-shape", default="1.3b")
    parser.add_argument("--decode-shapes", default="125m,1.3b")
    parser.add_argument("--decode-tokens", type=int, default=33)
    options = parser.parse_args()
    if options.quick:
        options.pairs = 1
        options.overlap_shape = options.startup_shape = options.decode_shapes = "125m"
    bench = Bench(options)
    here = pathlib.Path(__file__).parent
    build = bench.build
    quick = lambda *flags: flags if options.quick else ()
    parts = {
        "overlap": lambda: [overlap(bench, options, link) for link in ("link", "disk")],
        "startup": lambda: startup(bench, options),
        "disk": lambda: other(bench, "disk_weight_rate", 0.9, here / "disk.py", "--build", build,
                              *quick("--shape", "125m", "--pairs", 1, "--seconds", 1)),
        "attention": lambda: other(bench, "cpu_attention_rate", 0.8,
                                   build / "bench_attention_rate", *quick("--rounds", 3)),
        "quant4": lambda: other(bench, "quant4_traffic", 1.0, here / "traffic.py", "--build",
                                build),
        "decode": lambda: of_bandwidth(bench, options),
    }
    wanted = options.only.split(",") if options.only else list(parts)
    for name in wanted:
        if name not in parts:
            sys.exit(f"bench: --only {name}: there are {', '.join(parts)}")
        parts[name]()
    for figure in bench.figures:
        print(json.dumps(figure))
    return 0


if __name__ == "__main__":
    sys.exit(main())
