"""What the journal costs: the same job with and without it, in turn, so that both have the machine's noise.

    scripts/bench journal [--pairs 7] [--shape 125m] [--batch 32]

Two ratios: of tokens per second, and of the processes' CPU time, which varies less.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import tempfile

from bench_shapes import SHAPES, VOCABULARY, write_config


def run(arguments, folder, seconds):
    """Tokens of answers per second of a whole run, and the seconds of CPU that its process took."""
    report = folder / "report.json"
    process = subprocess.Popen(
        [arguments.sluice, "generate", "--model", folder / "model", "--weights", "dummy", "--device", "cpu",
         "--input", folder / "rows.jsonl", "--output", folder / "answers.jsonl", "--overwrite", "--quiet",
         "--gpu-batch-size", str(arguments.batch), "--report", report, "--probe", "never",
         "--journal-seconds", str(seconds)])
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"sluice ended with {os.waitstatus_to_exitcode(status)}")
    return json.loads(report.read_text())["run"]["completion_tokens_per_second"], used.ru_utime + used.ru_stime


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sluice", required=True)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--shape", default="125m", choices=sorted(SHAPES))
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--prompt-len", type=int, default=32)
    parser.add_argument("--gen-len", type=int, default=128)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sluice-bench-", dir=".") as scratch:
        folder = pathlib.Path(scratch)
        write_config(folder / "model", SHAPES[arguments.shape])
        rows = [{"custom_id": f"row {i}", "max_tokens": arguments.gen_len, "ignore_eos": True,
                 "prompt": [4 + (i * 977 + k * 131) % (VOCABULARY - 4)
                            for k in range(arguments.prompt_len)]}
                for i in range(arguments.batch)]
        (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        run(arguments, folder, 0)  # to warm up the machine
        rates, times = [], []
        for pair in range(arguments.pairs):
            order = (1, 0) if pair % 2 == 0 else (0, 1)
            seen = {seconds: run(arguments, folder, seconds) for seconds in order}
            rates.append(seen[1][0] / seen[0][0])
            times.append(seen[0][1] / seen[1][1])
            print(f"with a journal {seen[1][0]:.1f} tokens/s, without {seen[0][0]:.1f}, ratio {rates[-1]:.4f}; "
                  f"of CPU time {times[-1]:.4f}", flush=True)
        for name, ratios in (("tokens/s", rates), ("CPU time", times)):
            print(f"{name}: median ratio {statistics.median(ratios):.4f}, from {min(ratios):.4f} to {max(ratios):.4f}")


if __name__ == "__main__":
    main()
