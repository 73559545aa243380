"""sluice plan says what a run will reserve, and the run reserves that; what cannot be is refused with
the bytes that are missing; and a run that is not told where bytes live plans by itself.
"""

import json
import os
import random
import re
import socket
import subprocess
import unittest

from job_support import DONE, NO_SPACE, SLUICE, SOURCE, USAGE, JobTest, percent

MIB = 1 << 20
MACHINE = SOURCE / "cluster-configs" / "machines" / "t4.yaml"


class PlanTest(JobTest):
    def model(self, name, layers, heads, vocabulary=500, dtype="float16"):
        folder = self.scratch / name
        folder.mkdir()
        hidden = 64 * heads
        (folder / "config.json").write_text(json.dumps({
            "model_type": "opt", "num_hidden_layers": layers, "hidden_size": hidden,
            "num_attention_heads": heads, "ffn_dim": 4 * hidden, "vocab_size": vocabulary,
            "max_position_embeddings": 512, "word_embed_proj_dim": hidden,
            "do_layer_norm_before": True, "activation_function": "relu", "torch_dtype": dtype,
            "bos_token_id": 2, "eos_token_id": 2, "pad_token_id": 1}), encoding="utf-8")
        return folder

    def machine(self, name="cpu.yaml", memory="4GiB"):
        """A CPU with a T4's figures: only its memory matters here."""
        text = MACHINE.read_text(encoding="utf-8")
        text = text.replace('kind: "cuda"', 'kind: "cpu"').replace("compute_dtype: f16",
                                                                  "compute_dtype: f32")
        text = re.sub(r"\bmemory: \S+", f"memory: {memory}", text)
        return self.write(name, text)

    def plan(self, *arguments, status=DONE):
        out, told = self.scratch / "plan.yaml", self.scratch / "plan.json"
        ended = self.run_job("plan", *arguments, "--output", out, "--json", told)
        self.assertEqual(ended.status, status, ended)
        return (out, self.read_json(told), ended.stdout) if status == DONE else ended

    def check_reserved(self, report, told):
        self.assertEqual(len(report["stages"]), len(told["stages"]))
        for stage, promised in zip(report["stages"], told["stages"]):
            self.assertEqual(stage["layers"], promised["layers"])
            for tier in ("device", "host", "disk"):
                self.assertEqual(stage["tiers"][tier]["planned"], promised[f"{tier}_bytes"], tier)
                self.assertEqual(stage["tiers"][tier]["high_water"], promised[f"{tier}_bytes"], tier)

    def test_plans_run_and_reserve_what_they_promised(self):
        chance, ran = random.Random(7), 0
        machine, report = self.machine(), self.scratch / "report.json"
        while ran < 30:
            ranks = chance.choice((0, 0, 0, 2, 3))
            model = self.model(f"model{chance.random()}", chance.randint(3, 6),
                               chance.randint(1, 4), dtype=chance.choice(("float16", "float32")))
            arguments = ["--model", model, "--weights", "dummy", "--machine", machine,
                         "--prompt-len", chance.randint(1, 60), "--gen-len", chance.randint(1, 12),
                         "--num-prompts", chance.randint(1, 20)]
            if chance.random() < 0.7:
                arguments += ["--device-memory", int(MIB * 2 ** chance.uniform(0.5, 6))]
            if chance.random() < 0.5:
                arguments += ["--host-memory", int(MIB * 2 ** chance.uniform(2, 6))]
            if chance.random() < 0.3:
                arguments += ["--allow-compression", "4bit"]
            ended = self.run_job("plan", *arguments, "--stages", max(ranks, 1), "--output",
                                 self.scratch / "plan.yaml", "--json", self.scratch / "plan.json")
            if ended.status == NO_SPACE:
                self.assertIn("missing", ended.stderr)
                continue
            self.assertEqual(ended.status, DONE, ended)
            ran += 1
            with self.subTest(arguments=list(map(str, arguments)), ranks=ranks):
                ended = self.run_job("generate", "--config", self.scratch / "plan.yaml", "--report",
                                     report, "--quiet", ranks=ranks)
                self.assertEqual(ended.status, DONE, ended)
                self.check_reserved(self.read_json(report), self.read_json(self.scratch / "plan.json"))

    def test_a_plan_says_what_it_chose_and_what_it_will_take(self):
        _, told, text = self.plan("--model", self.model("model", 4, 4), "--weights", "dummy", "--machine",
                                  self.machine(), "--num-prompts", 12, "--explain")
        for part in ("host to device", "bound by", "predicted", "next best", "twice the host memory",
                     "sluice generate --config"):
            self.assertIn(part, text)
        self.assertEqual(set(told["prediction"]),
                         {"total_seconds", "prefill_seconds", "decode_seconds", "error"})
        self.assertGreater(told["prediction"]["total_seconds"], 0)

    def test_what_is_said_is_kept(self):
        out, _, _ = self.plan("--model", self.model("model", 4, 4), "--weights", "dummy", "--machine",
                              self.machine(), "--gpu-batch-size", 3, *percent(0, 100, 0, 100, 100, 0),
                              "--num-prompts", 12)
        text = out.read_text(encoding="utf-8")
        self.assertRegex(text, r"gpu_batch_size: 3\b")
        self.assertRegex(text, r"weights: \[0, 100, 0\]")

    def test_requests_that_cannot_be_are_refused_with_the_missing_bytes(self):
        model = self.model("model", 4, 4)
        base = ["plan", "--model", model, "--weights", "dummy", "--machine", self.machine()]
        ended = self.run_job(*base, "--device-memory", "10KiB")
        self.assert_refused(ended, NO_SPACE, r"[\d]+ bytes\) are missing", "device")
        # What was decided is to blame: the nearest plan is named.
        ended = self.run_job(*base, "--device-memory", "4MiB", *percent(100, 0, 100, 0, 100, 0))
        self.assertEqual(ended.status, NO_SPACE, ended)
        self.assertIn("missing", ended.stderr)
        self.assertIn("without what was decided this fits", ended.stderr)
        self.assert_refused(self.run_job(*base, "--stages", 9), USAGE, "9 stages", "4 layers")
        self.assert_refused(self.run_job("plan", "--model", model), USAGE, "--machine", "calibrate")

    def test_a_run_that_is_told_nothing_plans_by_itself(self):
        model, machine = self.model("model", 3, 2), self.machine()
        base = ["generate", "--model", model, "--weights", "dummy", "--prompt-len", 8, "--gen-len", 4,
                "--num-prompts", 6]
        for ranks in (0, 2):
            planned = self.run_job(*base, "--machine", machine, "--device-memory", 8 * MIB, ranks=ranks)
            self.assertEqual((planned.status, planned.stderr.count("this is planned")), (DONE, 1), planned)
        decided = self.run_job(*base, "--machine", machine, *percent(0, 100, 100, 0, 100, 0))
        for told in (decided, self.run_job(*base)):  # the latter has no machine file
            self.assertEqual((told.status, told.stderr.count("is planned")), (DONE, 0), told)

    def test_a_damaged_machine_file_of_the_cache_folder_fails_no_run(self):
        model, cache = self.model("model", 3, 2), self.scratch / "cache"
        base = ["generate", "--model", model, "--weights", "dummy", "--prompt-len", 8, "--gen-len", 4]
        processor = next((line.partition(": ")[2] for line in open("/proc/cpuinfo", encoding="utf-8")
                          if line.startswith("model name")), "unknown processor").strip()
        plain = [re.sub("[^A-Za-z0-9.]+", "-", name).strip("-")[:100]
                 for name in (socket.gethostname(), processor)]
        (cache / "sluice").mkdir(parents=True)
        kept = cache / "sluice" / f"machine-{plain[0]}-{plain[1]}.yaml"
        kept.write_bytes(self.machine().read_bytes()[:2500])
        for ranks in (0, 2):
            ended = self.run_job(*base, environment={"XDG_CACHE_HOME": str(cache)}, ranks=ranks)
            self.assertEqual((ended.status, ended.stderr.count("no plan was made")), (DONE, 1), ended)
        # One that was asked for by name is refused.
        self.assert_refused(self.run_job(*base, "--machine", kept), USAGE, kept.name)

    def test_a_dry_run_shows_its_table_also_where_it_does_not_fit(self):
        ended = self.run_job("generate", "--model", self.model("model", 3, 2), "--weights", "dummy",
                             "--prompt-len", 8, "--dry-run", "--device-memory", "300KiB", "--host-memory",
                             "100KiB", *percent(50, 50, 100, 0, 100, 0))
        self.assertEqual(ended.status, NO_SPACE, ended)
        self.assertEqual(ended.stdout.count("does not fit"), 2, ended.stdout)
        self.assertIn("weight slots", ended.stdout)
        self.assertIn("the device tier needs", ended.stderr)

    def test_a_dry_run_that_gives_up_its_plan_shows_the_table_of_what_runs(self):
        # Rank 1 finds less memory than the head planned with, and enough for the defaults.
        (self.scratch / "meminfo").write_text("MemAvailable: 60000 kB\n", encoding="utf-8")
        poor = self.scratch / "poor"
        poor.write_text(f"""#!/bin/sh
test "$OMPI_COMM_WORLD_RANK" = 1 || exec "$@"
exec unshare --mount sh -c 'mount --bind "$0" /proc/meminfo && exec "$@"' {self.scratch}/meminfo "$@"
""", encoding="utf-8")
        poor.chmod(0o755)
        if subprocess.run([poor, "true"], env={**os.environ, "OMPI_COMM_WORLD_RANK": "1"}, check=False).returncode:
            self.skipTest("may not mount")
        base = [SLUICE, "generate", "--model", self.model("model", 3, 2), "--weights", "dummy", "--prompt-len", 8,
                "--gen-len", 4, "--machine", self.machine(), "--device", "cpu", "--dry-run"]
        planned = self.run_job(*base, program=poor, ranks=2)
        told = self.run_job(*base, "--gpu-batch-size", 8, program=poor, ranks=2)  # the default
        self.assertEqual((planned.status, told.status), (DONE, DONE), planned)
        self.assertIn("weight staging", told.stdout)
        self.assertEqual(planned.stdout, told.stdout)
        self.assertEqual(planned.stderr.count("the plan does not fit; going on with the defaults"), 1, planned)
        self.assertEqual(planned.stderr.count("transport:"), 1, planned)


if __name__ == "__main__":
    unittest.main()
