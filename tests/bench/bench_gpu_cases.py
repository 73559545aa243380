"""The cases of `scripts/bench gpu`: policies, how large a model each may have here, and what it must
take at least."""
import dataclasses

import bench_shapes

GIB = 1 << 30
PROMPT, GEN = 512, 32
KV_BYTES = F16 = 2
FOUR_BITS = 36 / 64  # codes, and a scale and a minimum for each 64
# What a first run of a machine is taken to reach; only to choose how many layers fit the time.
ASSUMED = {"host_to_device": 50e9, "device_to_host": 50e9, "device_copy": 3e12, "product": 7e14,
           "host_read": 2e11, "disk_read": 1.5e9}


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    shape: str
    percent: tuple
    batch: int  # of a GPU batch
    batches: int
    goal_bound: float
    device_gib: int = 0  # 0: all there is
    cpu_attention: bool = False
    four_bits: bool = False
    flexgen_reaches: float = 0.3  # of the bound; a guess, to plan by
    turns: int = 2  # to plan for
    goal_ratio: float = 1.5

    @property
    def sequences(self):
        return self.batch * self.batches

    @property
    def element_bytes(self):
        return FOUR_BITS if self.four_bits else F16


CASES = [
    Case("gpu_6.7b_device", "6.7b", (100, 0, 100, 0, 100, 0), 32, 1, 0.85),
    Case("gpu_30b_host", "30b", (0, 100, 100, 0, 100, 0), 16, 1, 0.85, device_gib=24,
         flexgen_reaches=0.6),
    Case("gpu_30b_cpu_attention", "30b", (20, 80, 0, 100, 0, 100), 16, 2, 0.7, device_gib=16,
         cpu_attention=True),
    Case("gpu_30b_4bit", "30b", (100, 0, 100, 0, 100, 0), 8, 1, 0.7, device_gib=24,
         four_bits=True, flexgen_reaches=0.1),
    Case("gpu_6.7b_disk", "6.7b", (0, 0, 100, 0, 100, 0), 32, 1, 0.85, turns=1),
]


def amounts(case, shape, prompt, gen) -> dict:
    """What prefill and all decode steps together must move (bytes) and compute (FLOP) at least,
    by resource. Weights that are not on the device cross the link once per step."""
    elements = bench_shapes.layer_elements(shape) * shape["layers"]
    head = bench_shapes.head_elements(shape)
    on_device, on_host = case.percent[0] / 100, case.percent[1] / 100
    layers, head_bytes = elements * case.element_bytes, head * case.element_bytes
    weights = layers + head_bytes  # the policy holds for the output head, too
    kv_token = 2 * shape["layers"] * shape["hidden"] * KV_BYTES
    kv_host = case.percent[3] / 100
    steps, rows = gen - 1, case.sequences
    context = prompt + gen / 2  # of a decode step, on average

    def phase(passes, tokens, meetings, kv_read, kv_written):
        attention = 4 * meetings * shape["hidden"] * shape["layers"]
        # Only what is read from the cache, by decode steps, can be attended on the CPU.
        on_cpu = kv_host if case.cpu_attention and kv_read else 0
        return {
            "host_to_device": passes * (1 - on_device) * weights + (kv_host - on_cpu) * kv_read,
            "device_to_host": kv_host * kv_written,
            "disk_read": passes * (1 - on_device - on_host) * weights,
            "product": 2 * elements * tokens + 2 * head * rows * passes + (1 - on_cpu) * attention,
            "device_copy": passes * (case.batches * layers + head_bytes)
                           + (1 - kv_host) * (kv_read + kv_written),
            "host_read": on_cpu * kv_read,
        }

    return {"prefill": phase(1, rows * prompt, rows * prompt * (prompt + 1) / 2, 0,
                             rows * prompt * kv_token),
            "decode": phase(steps, rows * steps, rows * steps * context,
                            rows * steps * context * kv_token, rows * steps * kv_token)}


def bound(amount, rates):
    """(seconds, resource) of the resource that needs longest."""
    return max((amount[name] / rates[name], name) for name in amount if rates.get(name))


def bounds(case, shape, prompt, gen, rates) -> dict:
    return {phase: bound(amount, rates)
            for phase, amount in amounts(case, shape, prompt, gen).items()}


def needs(case, shape, prompt, gen, with_flexgen) -> dict:
    """Bytes of each tier that both sides take together, generously."""
    weights = (bench_shapes.layer_elements(shape) * shape["layers"]
               + 2 * bench_shapes.head_elements(shape)) * case.element_bytes
    kv = 2 * shape["layers"] * shape["hidden"] * KV_BYTES * case.sequences * (prompt + gen)
    widest = bench_shapes.VOCABULARY if case.sequences > 64 else shape["ffn"]
    work = case.batch * prompt * widest * 4 * 2
    slots = 3 * (bench_shapes.layer_elements(shape) + bench_shapes.head_elements(shape)) * F16
    tier = lambda index: (weights * case.percent[index] / 100
                          + kv * case.percent[index + 2] / 100)
    disk = weights * (1 - (case.percent[0] + case.percent[1]) / 100)
    sides = 2 if with_flexgen else 1
    # FlexGen's pinned memory comes in powers of two, and its four copying threads have 2 GiB each.
    theirs = (1.5 * tier(1) + 10 * GIB) if with_flexgen else 0
    return {"device": sides * (tier(0) + slots + work), "host": 1.1 * tier(1) + theirs + 4 * GIB,
            "disk": sides * disk}


def seconds_of_a_turn(case, shape, prompt, gen, rates, with_flexgen) -> tuple:
    """(loading of both sides once, one run of each): guesses, to plan by."""
    weights = bench_shapes.layer_elements(shape) * shape["layers"] * F16
    least = sum(seconds for seconds, _ in bounds(case, shape, prompt, gen, rates).values())
    ours = 3 + weights / 2e9 + least / 0.7
    load = 15 + weights / 7e8 if with_flexgen else 0
    return load, ours + (least / case.flexgen_reaches if with_flexgen else 0)


def sizes(case):
    """(layers, generated tokens), the whole first. With weights on disk a step takes seconds: then
    fewer steps, too."""
    full = bench_shapes.SHAPES[case.shape]["layers"]
    counts = [n for n in (48, 40, 32, 24, 20, 16, 12, 8, 6, 4, 2) if n <= full]
    if case.percent[0] + case.percent[1] == 100:
        return [(n, GEN) for n in counts]
    return [(n, gen) for n in counts for gen in ((GEN, 16) if n > 8 else (16, 8))]


def choose_size(case, machine, rates, seconds, with_flexgen) -> tuple:
    """(layers, generated tokens, what held them down): the most that fits machine and time."""
    whole = sizes(case)[0]
    why = set()
    for layers, gen in sizes(case):
        shape = dict(bench_shapes.SHAPES[case.shape], layers=layers)
        needed = needs(case, shape, PROMPT, gen, with_flexgen)
        load, turn = seconds_of_a_turn(case, shape, PROMPT, gen, rates, with_flexgen)
        small = {tier for tier in needed if needed[tier] > 0.9 * machine[tier]}
        if load + case.turns * turn > seconds:
            small.add("time")
        if not small:
            break
        why |= small
    return layers, gen, "" if (layers, gen) == whole else ", ".join(sorted(why))


def sluice_command(program, case, model, prompt, gen, report, offload, device):
    words = [program, "generate", "--model", model, "--weights", "dummy", "--device", device,
             "--percent", *case.percent, "--prompt-len", prompt, "--gen-len", gen,
             "--num-prompts", case.sequences, "--gpu-batch-size", case.batch,
             "--num-gpu-batches", case.batches, "--micro-batches", 1,
             "--max-batch-tokens", case.batch * prompt, "--cache-dtype", "f16",
             "--offload-dir", offload, "--report", report, "--probe", "never", "--quiet"]
    if case.device_gib:
        words += ["--device-memory", f"{case.device_gib}GiB"]
    if case.cpu_attention:
        words += ["--cpu-cache-compute"]
    if case.four_bits:
        words += ["--compress-weight", "4bit"]
    if case.percent[0] + case.percent[1] < 100:
        words += ["--weight-slots", 3]
    return [str(word) for word in words]


def flexgen_settings(case, shape, prompt, gen, offload, device) -> dict:
    return {"model": "opt-30b" if case.shape == "30b" else "opt-6.7b",
            "layers": shape["layers"], "hidden": shape["hidden"], "heads": shape["heads"],
            "ffn": shape["ffn"], "vocabulary": bench_shapes.VOCABULARY,
            "gpu_batch_size": case.batch, "num_gpu_batches": case.batches,
            "percent": list(case.percent), "prompt": prompt, "gen": gen,
            "cpu_cache_compute": case.cpu_attention, "compress_weight": case.four_bits,
            "pin_weight": True, "offload_dir": str(offload), "device": device}
