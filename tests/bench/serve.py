"""`scripts/bench serve`: clients of `sluice serve` beside clients of llama.cpp's llama-server, over the same GGUF file.

The load of both is that of `sluice bench serve`. Each turn puts it on one server after the other, while the other idles.
"""
import argparse
import json
import os
import pathlib
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request


import bench_llama
import bench_models
from bench_shapes import SHAPES, vocabulary

CORES = len(os.sched_getaffinity(0))
CACHE = pathlib.Path(os.environ.get("SLUICE_BENCH_CACHE", pathlib.Path.home() / ".cache/sluice-bench"))
VOCABULARY = pathlib.Path(__file__).parents[1] / "data/gguf/llama3-like-bf16.gguf"
START_SECONDS = 120
PLACES = 32
NORMAL = 1  # type of a token, of llama.cpp


def loads(options):
    """name: flags of `sluice bench serve`, what is compared, its unit, and the goal: our value by theirs."""
    long, short = (512, 64) if options.shape != "llama-tiny" else (64, 16)
    return {
        "streams_32": (["--shapes", f"{short}/{options.answer}", "--requests", str(2 * PLACES),
                        "--max-concurrency", str(PLACES), "--warm-up", "2"],
                       lambda figures: figures["output_tokens_per_second"], "tokens/s", (">=", 1.5)),
        "chat_turn_ttft": (["--shapes", f"{long + 32}/8", "--prefix-len", str(long), "--requests", "10",
                            "--max-concurrency", "1", "--warm-up", "2"],
                           lambda figures: figures["latencies"][0]["median_ms"], "ms", ("<=", 1.2)),
    }


def add_vocabulary(writer, size):
    """That of a reference checkpoint, with further words behind it."""
    import gguf

    fields = gguf.GGUFReader(VOCABULARY).fields
    value = {name: fields[f"tokenizer.ggml.{name}"].contents()
             for name in ("model", "pre", "tokens", "token_type", "merges", "bos_token_id", "eos_token_id")}
    more = size - len(value["tokens"])
    writer.add_tokenizer_model(value["model"])
    writer.add_tokenizer_pre(value["pre"])
    writer.add_token_list(value["tokens"] + [f"word{i}" for i in range(more)])
    writer.add_token_types([int(kind) for kind in value["token_type"]] + [NORMAL] * more)
    writer.add_token_merges(value["merges"])
    writer.add_bos_token_id(int(value["bos_token_id"]))
    writer.add_eos_token_id(int(value["eos_token_id"]))


def make_model(shape_name):
    path = CACHE / f"{shape_name}-words-f16.gguf"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        bench_llama.write_gguf(part, SHAPES[shape_name], add_vocabulary)
        part.rename(path)
    return path


class Server:
    """A process that listens at `url`; its output is in a file."""

    def __init__(self, command, url_of, log):
        self.log = log
        with open(log, "w", encoding="utf-8") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + START_SECONDS
        self.url = None
        while not self.is_ready(url_of):
            if self.process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"bench: {' '.join(map(str, command))} does not answer:\n{self.said()[-2000:]}")
            time.sleep(0.1)

    def said(self):
        return pathlib.Path(self.log).read_text(encoding="utf-8", errors="replace")

    def is_ready(self, url_of):
        self.url = self.url or url_of(self.said())
        try:
            return bool(self.url) and urllib.request.urlopen(self.url + "/health", timeout=5).status == 200
        except OSError:
            return False

    def close(self):
        self.process.terminate()
        self.process.wait()


def start_sluice(program, model, log):
    return Server([program, "serve", "--model", model, "--device", "cpu", "--port", "0", "--gpu-batch-size", str(PLACES)],
                  lambda said: next(iter(re.findall(r"listening on (http://\S+)", said)), None), log)


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return str(one.getsockname()[1])


def start_llamacpp(folder, model, context, log):
    port = free_port()
    return Server([folder / "llama-server", "-m", model, "--host", "127.0.0.1", "--port", port, "-np", str(PLACES),
                   "-c", str(PLACES * context), "-t", str(CORES), "-tb", str(CORES)],
                  lambda said: f"http://127.0.0.1:{port}", log)


def measure(options, server, flags, turn):
    """The prompts are others in each turn: both servers remember what they have seen."""
    done = subprocess.run([options.sluice, "bench", "serve", "--url", server.url, "--format", "json",
                           "--seed", str(turn), *flags], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"bench: load on {server.url} failed: {done.stderr[-2000:]}\n{server.said()[-1000:]}")
    figures = json.loads(done.stdout)
    if figures["failed"]:
        sys.exit(f"bench: {figures['failed']} requests to {server.url} failed: {figures['failures']}")
    return figures


def parse():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sluice", required=True)
    parser.add_argument("--shape", default="llama-160m", choices=[name for name in SHAPES if "llama" in name])
    parser.add_argument("--pairs", type=int, default=3, help="turns of each load")
    parser.add_argument("--answer", type=int, default=64, help="tokens of each of the 32 streams")
    parser.add_argument("--only", help="one of the loads")
    parser.add_argument("--llamacpp", type=pathlib.Path, default=os.environ.get("SLUICE_BENCH_LLAMACPP"),
                        help="folder of llama-server")
    return parser.parse_args()


def main() -> int:
    options = parse()
    model = make_model(options.shape)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="sluice-bench-"))
    sides = {"sluice": start_sluice(options.sluice, model, folder / "sluice.txt")}
    try:
        if options.llamacpp and (options.llamacpp / "llama-server").exists():
            sides["llama.cpp"] = start_llamacpp(options.llamacpp, model, 1024, folder / "llamacpp.txt")
        else:
            print("bench: no llama-server (--llamacpp DIR or SLUICE_BENCH_LLAMACPP; README.md here says how to "
                  "build it): sluice alone", file=sys.stderr)
        for name, (flags, value_of, unit, (sign, goal)) in loads(options).items():
            if options.only not in (None, name):
                continue
            runs = {side: [] for side in sides}
            for turn in range(options.pairs):
                for side, server in sides.items():
                    runs[side].append(value_of(measure(options, server, flags, turn)))
            peer = runs.get("llama.cpp")
            ratios = [ours / theirs for ours, theirs in zip(runs["sluice"], peer)] if peer else []
            figure = {"name": f"serve_{name}_{options.shape}", "value": round(statistics.median(runs["sluice"]), 2),
                      "unit": unit, "peer": round(statistics.median(peer), 2) if peer else None,
                      "ratio": round(statistics.median(ratios), 3) if ratios else None,
                      "goal": f"{sign} {goal}", "pairs": options.pairs,
                      "command": "scripts/bench serve " + " ".join(sys.argv[3:])}
            print(json.dumps(figure), flush=True)
    finally:
        for server in sides.values():
            server.close()
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
