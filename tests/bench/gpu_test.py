"""What `scripts/bench gpu` would do, without a GPU: its plan, its limits, its two sides.

python3 gpu_test.py SLUICE SOURCE_FOLDER [unittest's own arguments]
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

SLUICE = os.path.abspath(sys.argv.pop(1))
HERE = pathlib.Path(sys.argv.pop(1)).resolve() / "tests/bench"
sys.path.insert(0, str(HERE))

import bench_flexgen
import bench_gpu_cases as cases
import bench_shapes

# A stand-in with the names of FlexGen that the driver uses. Its generate() does what MOOD says.
STAND_IN = {
    "flexllmgen/__init__.py": "",
    "flexllmgen/compression.py": "def CompressionConfig(**_): return None\n",
    "flexllmgen/utils.py": "def ExecutionEnv(**tiers): return tiers\n",
    "flexllmgen/opt_config.py": "def get_opt_config(name, **changes): return dict(changes, name=name)\n",
    "flexllmgen/pytorch_backend.py": """
GB = 1
class TorchDevice:
    def __init__(self, name, mem_capacity=None, flops=None): pass
TorchDisk = TorchMixedDevice = lambda *_: None
""",
    "flexllmgen/flex_opt.py": """
import os, signal, sys, time
class Timer:
    costs = []
    def reset(self): self.costs = []
generate = Timer()
timers = lambda name: generate
def Policy(*values): return values
class OptLM:
    num_layers = 2
    weight_home = []
    def __init__(self, config, env, path, policy):
        assert path == "_DUMMY_" and config["name"].startswith("opt-")
        self.policy = policy
    def load_weight(self, i, j, k, overlap=True): pass
    def generate(self, prompts, max_new_tokens, verbose):
        mood = os.environ.get("MOOD", "") if max_new_tokens > 1 else ""
        print("this is no answer")
        if mood == "raises": raise MemoryError("no room")
        if mood == "ends": os._exit(9)
        if mood == "hangs": signal.pause()
        assert len(prompts) == self.policy[0] * self.policy[1]
        generate.costs = [0.5] + [0.25] * (max_new_tokens - 1)
""",
    "torch.py": """
__version__ = "stand-in"
class cuda:
    max_memory_allocated = staticmethod(lambda *_: 7)
empty = lambda *_, **__: None
device = lambda name: name
class Tensor: pass
""",
}


class GpuBenchTest(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory(prefix="sluice-gpu-bench-")
        self.addCleanup(scratch.cleanup)
        self.scratch = pathlib.Path(scratch.name)
        self.flexgen = self.scratch / "flexgen"
        for name, text in STAND_IN.items():
            path = self.flexgen / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def bench(self, *arguments, mood="", status=0):
        done = subprocess.run(
            [sys.executable, HERE / "gpu.py", "--sluice", SLUICE, *map(str, arguments)],
            capture_output=True, text=True, timeout=200, cwd=self.scratch,
            env=os.environ | {"MOOD": mood})
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        return done.stdout + done.stderr

    def tiny(self, *arguments, **more):
        out = self.scratch / "out"
        self.bench("--device", "cpu", "--tiny", "--minutes", 2, "--turns", 1, "--out", out,
                   "--flexgen", self.flexgen, *arguments, **more)
        return {figure["name"]: figure
                for figure in map(json.loads, (out / "gpu.jsonl").read_text().splitlines())}

    def test_dry_run_prints_every_case_and_runs_nothing(self):
        said = self.bench("--dry-run", "--ram", 120, "--flexgen", self.flexgen)
        for case in cases.CASES:
            self.assertRegex(said, rf"{case.name}: \d+ of \d+ layers")
        self.assertIn("--percent 20 80 0 100 0 100", said)
        self.assertIn("--cpu-cache-compute", said)
        self.assertFalse((self.scratch / "bench-gpu").exists())

    def test_refuses_by_name(self):
        self.assertIn("--only nothing: there are", self.bench("--only", "nothing", status=2))
        self.assertIn("no flexllmgen/flex_opt.py", self.bench("--flexgen", "/", status=2))

    def test_both_sides_of_a_case(self):
        figures = self.tiny("--only", "gpu_30b_cpu_attention,gpu_6.7b_disk,launch,ranks,rates")
        for name in ("gpu_30b_cpu_attention", "gpu_6.7b_disk"):
            figure = figures[name]
            self.assertEqual(figure["peer"], 32 * 4 / (0.5 + 3 * 0.25))
            self.assertAlmostEqual(figure["ratio"], figure["value"] / figure["peer"], places=1)
            self.assertGreater(figure["of_bound"], 0)
            self.assertGreater(figure["decode_of_bound"], 0)
        self.assertEqual(figures["gpu_6.7b_disk"]["peer_page_cache"], "dropped before each layer")
        self.assertIn("gpu_launch_overhead_no_graphs", figures)
        self.assertEqual(figures["gpu_ranks_4"]["same_rows"], figures["gpu_ranks_4"]["rows"])
        self.assertGreater(figures["rate_host_to_device"]["value"], 0)

    def test_ours_is_kept_where_flexgen_fails(self):
        for mood, why in (("raises", "no room"), ("ends", "status 9")):
            figures = self.tiny("--only", "gpu_30b_host", mood=mood)
            self.assertIsNone(figures["gpu_30b_host"]["ratio"])
            self.assertGreater(figures["gpu_30b_host"]["value"], 0)
            self.assertIn(why, figures["gpu_30b_host_flexgen"]["failed"])

    def test_a_side_that_hangs_is_ended(self):
        os.environ["MOOD"] = "hangs"
        self.addCleanup(os.environ.pop, "MOOD")
        with open(self.scratch / "log", "w") as log:
            peer = bench_flexgen.FlexGen(self.flexgen, log)
            settings = cases.flexgen_settings(cases.CASES[0], bench_shapes.SHAPES["tiny"], 8, 4,
                                              self.scratch, "cuda")
            self.assertIn("load_seconds", peer.start(settings, 60))
            process = peer.process
            with self.assertRaisesRegex(bench_flexgen.Failed, "did not answer"):
                peer.generate(0.5)
        self.assertIsNotNone(process.returncode)

    def test_a_missing_gpu_is_said_and_the_rest_goes_on(self):
        out = self.scratch / "none"
        self.bench("--minutes", 1, "--only", "rates,launch", "--out", out, "--tiny",
                   "--device", "cuda:77",
                   status=1)
        figures = [json.loads(line) for line in (out / "gpu.jsonl").read_text().splitlines()]
        failed = {figure["name"]: figure["failed"] for figure in figures if "failed" in figure}
        self.assertEqual(list(failed), ["rates", "launch"])
        for why in failed.values():
            self.assertRegex(why, "ended with status 2: .*(CUDA|cuda)")


class BoundsTest(unittest.TestCase):
    SHAPE = dict(layers=2, hidden=4096, heads=32, ffn=16384)
    LAYERS = 2 * (4 * 4096 ** 2 + 2 * 4096 * 16384)  # elements
    HEAD = 50272 * 4096

    def test_weights_on_the_host_cross_the_link_once_a_step(self):
        case = cases.CASES[1]
        amounts = cases.amounts(case, self.SHAPE, 512, 32)
        self.assertEqual(amounts["prefill"]["host_to_device"], 2 * (self.LAYERS + self.HEAD))
        self.assertEqual(amounts["decode"]["host_to_device"], 31 * 2 * (self.LAYERS + self.HEAD))
        self.assertEqual(amounts["decode"]["disk_read"], 0)
        self.assertEqual(amounts["decode"]["device_to_host"], 0)

    def test_attention_on_the_cpu_reads_host_memory_and_not_the_link(self):
        case = cases.CASES[2]
        amounts = cases.amounts(case, self.SHAPE, 512, 32)
        kv_token = 2 * 2 * 4096 * 2
        self.assertEqual(amounts["decode"]["host_read"], 32 * 31 * (512 + 16) * kv_token)
        self.assertAlmostEqual(amounts["decode"]["host_to_device"],
                               31 * 0.8 * 2 * (self.LAYERS + self.HEAD), delta=16)
        self.assertEqual(amounts["prefill"]["device_to_host"], 32 * 512 * kv_token)
        self.assertEqual(amounts["prefill"]["host_read"], 0)

    def test_the_bound_is_the_slowest_resource(self):
        rates = {"host_to_device": 2.0, "product": 100.0, "disk_read": 0}
        amount = {"host_to_device": 6.0, "product": 100.0, "disk_read": 1e9}
        self.assertEqual(cases.bound(amount, rates), (3.0, "host_to_device"))

    def test_sizes_fit_the_machine(self):
        machine = {"device": 80e9, "host": 128e9, "disk": 60e9}
        for case in cases.CASES:
            layers, gen, why = cases.choose_size(case, machine, cases.ASSUMED, 1e9, True)
            shape = dict(bench_shapes.SHAPES[case.shape], layers=layers)
            for tier, needed in cases.needs(case, shape, 512, gen, True).items():
                self.assertLess(needed, machine[tier])
            self.assertEqual(why == "", layers == bench_shapes.SHAPES[case.shape]["layers"])
        # 48 layers of 30B are 60 GB, and FlexGen's pinned memory rounds up to powers of two.
        layers, _, why = cases.choose_size(cases.CASES[1], machine, cases.ASSUMED, 1e9, True)
        self.assertIn("host", why)
        self.assertGreaterEqual(layers, 16)


if __name__ == "__main__":
    unittest.main()
