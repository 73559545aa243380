"""FlexGen as the other side of a benchmark: started from a checkout that the user gives, loaded
once, then asked for one generation after the other. Nothing of it is copied or changed.

The process runs this file as a program; its one argument is a JSON object (see `start`). It makes
FlexGen's own ExecutionEnv, Policy and OptLM with made-up weights, as FlexGen's `run_flexllmgen`
does, but with a number of layers of its own and prompts of random ids, so that no tokenizer is
fetched. Each line on its standard input is answered by one line of JSON.
"""
import contextlib
import json
import os
import random
import select
import signal
import subprocess
import sys
import time

from bench_steps import end_with_parent

PAD = 1


class Failed(Exception):
    """FlexGen did not do what it was asked; the text says why."""


class FlexGen:
    """The asking side. `log`: an open file that takes whatever FlexGen prints beside its answers."""

    def __init__(self, checkout, log, python=sys.executable):
        self.checkout, self.log, self.python = str(checkout), log, python
        self.process, self.buffer = None, b""

    def start(self, settings, seconds) -> dict:
        """Loads the model. settings: model ("opt-30b"), layers, hidden, heads, ffn, vocabulary,
        gpu_batch_size, num_gpu_batches, percent (six numbers), prompt, gen, cpu_cache_compute,
        compress_weight, pin_weight, offload_dir, device."""
        settings = dict(settings, checkout=self.checkout)
        self.buffer = b""
        self.process = subprocess.Popen(
            [self.python, os.path.abspath(__file__), json.dumps(settings)], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=self.log, start_new_session=True,
            preexec_fn=end_with_parent)
        return self._answer(seconds)

    def generate(self, seconds, cold=False) -> dict:
        """One generation: prefill_seconds, decode_seconds. cold: weights on disk are dropped from
        the page cache before each layer is read."""
        try:
            self.process.stdin.write(b"cold\n" if cold else b"go\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # _answer() says how it ended
        return self._answer(seconds)

    def stop(self):
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()
        self.process = None

    def _answer(self, seconds) -> dict:
        deadline = time.monotonic() + seconds
        stream = self.process.stdout
        while b"\n" not in self.buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([stream], [], [], left)[0]:
                self.stop()
                raise Failed(f"FlexGen did not answer in {seconds:.0f} s")
            got = os.read(stream.fileno(), 65536)
            if not got:
                status = self.process.wait()
                self.process = None
                raise Failed(f"FlexGen ended with status {status}")
            self.buffer += got
        line, _, self.buffer = self.buffer.partition(b"\n")
        answer = json.loads(line)
        if "error" in answer:
            self.stop()
            raise Failed(f"FlexGen: {answer['error']}")
        return answer


# ---- what follows runs in FlexGen's process ----

def without_a_gpu(torch):
    """Its tensors of "cuda" in host memory instead: checks this driver, measures nothing."""
    class Stream:
        def __init__(self, *_, **__): pass

    torch.cuda.Stream = Stream
    torch.cuda.stream = lambda _: contextlib.nullcontext()
    torch.cuda.synchronize = torch.cuda.set_device = lambda *_: None
    torch.cuda.memory_allocated = torch.cuda.max_memory_allocated = lambda *_: 0
    empty = torch.empty
    torch.empty = lambda *shape, pin_memory=False, **more: empty(*shape, **more)
    torch.Tensor.pin_memory = torch.Tensor.cuda = lambda self: self
    torch.Tensor.is_pinned = lambda self: True
    make = torch.device
    from flexllmgen import pytorch_backend

    def on_the_host(self, name, mem_capacity=None, flops=None, made=pytorch_backend.TorchDevice.__init__):
        made(self, name, mem_capacity, flops)
        self.dev = make("cpu")

    pytorch_backend.TorchDevice.__init__ = on_the_host
    # Beside a GPU, one relay buffer of 2 GiB for each thread that copies is nothing.
    pytorch_backend.GB = 1 << 24


def load(settings):
    """(its modules, its model), weights in their places."""
    sys.path.insert(0, settings["checkout"])
    tokenizer = type(sys)("transformers")  # only for prompts as text, which there are none of
    tokenizer.AutoTokenizer = None
    sys.modules["transformers"] = tokenizer
    import torch
    from flexllmgen import compression, flex_opt, opt_config, pytorch_backend, utils
    if settings["device"] == "cpu":
        without_a_gpu(torch)
    gpu, cpu = pytorch_backend.TorchDevice("cuda:0"), pytorch_backend.TorchDevice("cpu")
    disk = pytorch_backend.TorchDisk(settings["offload_dir"])
    mixed = pytorch_backend.TorchMixedDevice([gpu, cpu, disk])
    env = utils.ExecutionEnv(gpu=gpu, cpu=cpu, disk=disk, mixed=mixed)
    four_bits = lambda dim: compression.CompressionConfig(num_bits=4, group_size=64, group_dim=dim,
                                                          symmetric=False)
    policy = flex_opt.Policy(
        settings["gpu_batch_size"], settings["num_gpu_batches"], *settings["percent"],
        True, True, settings["pin_weight"], settings["cpu_cache_compute"], 1.0,
        settings["compress_weight"], four_bits(0), False, four_bits(2))
    config = opt_config.get_opt_config(
        settings["model"], num_hidden_layers=settings["layers"], hidden_size=settings["hidden"],
        input_dim=settings["hidden"], n_head=settings["heads"], ffn_embed_dim=settings["ffn"],
        vocab_size=settings["vocabulary"])
    return torch, flex_opt, flex_opt.OptLM(config, env, "_DUMMY_", policy)


def forget_pages(model):
    """Before each layer is read, its files leave the page cache."""
    load_weight = model.load_weight

    def cold(i, j, k, overlap=True):
        layer = j % model.num_layers
        if k == 0:
            for tensor in model.weight_home[layer].val:
                for part in (tensor.data if isinstance(tensor.data, tuple) else [tensor]):
                    path = getattr(part, "data", None)
                    if isinstance(path, str) and os.path.exists(path):
                        with open(path, "rb") as file:
                            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        load_weight(i, j, k, overlap)

    model.load_weight = cold
    return load_weight


def prompts(settings, length):
    dice = random.Random(7)
    count = settings["gpu_batch_size"] * settings["num_gpu_batches"]
    return [[dice.randrange(4, settings["vocabulary"]) for _ in range(length)]
            for _ in range(count)]


def generate(flex_opt, model, settings, cold) -> dict:
    flex_opt.timers("generate").reset()
    warm = forget_pages(model) if cold else None
    try:
        model.generate(prompts(settings, settings["prompt"]), max_new_tokens=settings["gen"],
                       verbose=0)
    finally:
        if warm:
            model.load_weight = warm
    costs = flex_opt.timers("generate").costs
    return {"prefill_seconds": costs[0], "decode_seconds": sum(costs[1:]), "steps": len(costs)}


def serve(settings):
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what FlexGen prints is no answer

    def say(answer):
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    try:
        begin = time.perf_counter()
        torch, flex_opt, model = load(settings)
        os.sync()  # dummy weights on disk are there before any is read
        loaded = time.perf_counter()
        model.generate(prompts(settings, min(32, settings["prompt"])), max_new_tokens=1, verbose=0)
        say({"load_seconds": loaded - begin, "warm_up_seconds": time.perf_counter() - loaded,
             "torch": torch.__version__})
        for line in sys.stdin:
            say(generate(flex_opt, model, settings, line.strip() == "cold") |
                {"peak_gpu_bytes": torch.cuda.max_memory_allocated()})
    except BaseException as error:  # an exit must be said, too
        say({"error": f"{type(error).__name__}: {error}"})
        raise
    finally:
        answers.flush()
        sys.stderr.flush()
        os._exit(0)  # its copy threads would keep the process


if __name__ == "__main__":
    serve(json.loads(sys.argv[1]))
