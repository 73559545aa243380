"""Weights streamed from the disk beside what fio reads of the same file. See README.md here."""
import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile

import bench_models

CACHE = pathlib.Path.home() / ".cache" / "sluice-bench"
# Ways of reading a file in order, of which a disk likes one or the other.
WAYS = (("psync", "4m", 1), ("io_uring", "1m", 8), ("io_uring", "4m", 2), ("io_uring", "256k", 32))


def fio(path, way, seconds) -> float:
    """Bytes/s of sequential direct reads of the file, again and again."""
    engine, block, depth = way
    done = subprocess.run(["fio", "--name=read", f"--filename={path}", "--readonly", "--direct=1",
                           "--rw=read", f"--ioengine={engine}", f"--bs={block}",
                           f"--iodepth={depth}", f"--runtime={seconds}", "--time_based",
                           "--output-format=json"], check=True, capture_output=True, text=True)
    return json.loads(done.stdout[done.stdout.index("{"):])["jobs"][0]["read"]["bw_bytes"]


def stream(program, model, options) -> dict:
    """The rates of a run with all weights on disk: in its steady state, and of the disk alone."""
    with tempfile.TemporaryDirectory() as folder:
        report = os.path.join(folder, "report.json")
        subprocess.run([program, "generate", "--device", "cpu", "--model", str(model), "--percent", "0", "0", "100",
                        "0", "100", "0", "--prompt-len", "1", "--gen-len", str(options.tokens),
                        "--num-prompts", str(options.batch), "--gpu-batch-size",
                        str(options.batch), "--micro-batches", "1", "--offload-dir", folder,
                        "--report", report, "--quiet"], check=True, stdout=subprocess.DEVNULL)
        stage = json.load(open(report))["stages"][0]
    decode = stage["decode"]
    read = decode["activities"]["disk_read"]
    return {"rate": read["bytes"] / decode["wall_seconds"], "how": stage["disk"],
            "busy": read["seconds"] / decode["wall_seconds"],
            "step": decode["wall_seconds"] / decode["passes"]}


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", required=True, help="the folder that has the program")
    parser.add_argument("--shape", default="1.3b")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=9, help="of each answer")
    parser.add_argument("--pairs", type=int, default=3, help="turns of which medians are taken")
    parser.add_argument("--seconds", type=int, default=2, help="of each fio")
    options = parser.parse_args()
    if shutil.which("fio") is None:
        sys.exit("disk: fio is not there; install it (apt-get install fio)")
    program = pathlib.Path(options.build) / "sluice"
    model = CACHE / f"opt-{options.shape}-f16"
    bench_models.make_checkpoint(model, bench_models.SHAPES[options.shape], "f16")
    weights = model / "model.safetensors"
    rows = []
    print(f"{'turn':>4} {'sluice':>11} {'fio':>11} {'ratio':>6} {'disk busy':>9} {'s/step':>7}  "
          "fio's best way")
    for turn in range(options.pairs):
        ours = stream(program, model, options)
        theirs = {way: fio(weights, way, options.seconds) for way in WAYS}
        best = max(theirs, key=theirs.get)
        rows.append((ours["rate"] / theirs[best], ours["rate"], theirs[best], ours["busy"]))
        print(f"{turn:>4} {ours['rate'] / 1e9:6.2f} GB/s {theirs[best] / 1e9:6.2f} GB/s "
              f"{rows[-1][0]:6.2f} {ours['busy']:9.2f} {ours['step']:7.2f}  {' '.join(map(str, best))}",
              flush=True)
    ratio, rate, limit, busy = (statistics.median(column) for column in zip(*rows))
    print(json.dumps({"name": "disk_weight_rate", "value": round(rate / 1e9, 3), "unit": "GB/s",
                      "limit": round(limit / 1e9, 3), "ratio": round(ratio, 3), "goal": 0.9,
                      "shape": options.shape, "batch": options.batch, "engine": ours["how"],
                      "disk_busy": round(busy, 3),
                      "command": "python3 tests/bench/disk.py " + " ".join(sys.argv[1:])}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
