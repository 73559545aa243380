"""Jobs over mpirun give Hugging Face's greedy tokens for families other than OPT. What every family
does under every placement is in families_test.cc, in one process; here are real jobs of some.
"""

import unittest

from job_support import BAD_INPUT, SOURCE, USAGE, JobTest, percent

FAMILIES = SOURCE / "tests/data/families"
DEVICE = percent(100, 0, 100, 0, 100, 0)
HOST = percent(0, 100, 0, 100, 0, 100)
DISK = percent(0, 0, 0, 0, 0, 0)
MIXED = percent(30, 40, 50, 20, 50, 50)
# model, ranks, placement, GPU-batch size
JOBS = [
    ("llama3-like", 1, DISK, 3), ("mistral-window", 2, HOST, 1), ("qwen2", 3, MIXED, 8),
    ("qwen3-yarn-v5", 4, DISK, 3), ("gpt2", 2, MIXED, 3), ("bloom", 3, HOST, 1),
    ("codegen", 1, MIXED, 8), ("neox-pythia", 4, MIXED, 1), ("falcon-40b-like", 3, DISK, 8),
    ("glm4-0414-like", 2, DISK, 8), ("phi3-longrope", 4, HOST, 3), ("gemma2", 2, DEVICE, 3),
    ("gemma3", 3, DEVICE, 1), ("yalm", 1, HOST, 8), ("mixtral", 3, MIXED, 3), ("dbrx", 2, DISK, 8),
]


class FamiliesTest(JobTest):
    def rows(self, cases, **more):
        return [{"custom_id": p["id"], "prompt": p["input_ids"], "ignore_eos": True,
                 "max_tokens": len(p["greedy"]["tokens"])} | more for p in cases["single"]]

    def run_rows(self, model, rows, *arguments, **options):
        output = self.scratch / "output.jsonl"
        ended = self.generate(FAMILIES / model, "--input", self.write_rows("rows.jsonl", rows),
                              "--output", output, "--overwrite", "--packed-dir",
                              self.scratch / "packed", *arguments, **options)
        return self.records(output), ended

    def test_tokens_are_hugging_faces(self):
        for model, ranks, placement, size in JOBS:
            with self.subTest(model=model, ranks=ranks, placement=placement, size=size):
                cases = self.read_json(FAMILIES / model / "cases.json")
                stop = cases["eos"][0]
                rows = self.rows(cases) + [
                    {"custom_id": "stop", "prompt": stop["input_ids"], "max_tokens": 40}]
                records, _ = self.run_rows(
                    model, rows, *placement, "--gpu-batch-size", size, "--num-gpu-batches", 2,
                    "--max-batch-tokens", 32, "--generation-config", "none", ranks=ranks)
                for prompt in cases["single"]:
                    self.assertEqual(records[prompt["id"]]["token_ids"],
                                     prompt["greedy"]["tokens"], prompt["id"])
                self.assertEqual(records["stop"]["token_ids"], stop["tokens"])
                self.assertEqual(records["stop"]["finish_reason"], "stop")

    def test_matrices_stored_by_columns_are_laid_out_once(self):
        cases = self.read_json(FAMILIES / "gpt2/cases.json")
        rows = self.rows(cases)
        first, _ = self.run_rows("gpt2", rows)
        files = {path: path.stat().st_mtime_ns
                 for path in (self.scratch / "packed").rglob("*.packed")}
        self.assertEqual(len(files), 3)  # one for each layer
        second, _ = self.run_rows("gpt2", rows, ranks=3)
        self.assertEqual({path: path.stat().st_mtime_ns for path in files}, files)
        self.assertEqual(len(list((self.scratch / "packed").rglob("*.packed"))), 3)
        for name, record in first.items():
            self.assertEqual(second[name]["token_ids"], record["token_ids"])

    def test_sampling_of_generation_config_is_taken_and_said(self):
        rows = self.rows(self.read_json(FAMILIES / "llama3-like/cases.json"))
        taken, _ = self.run_rows("llama3-like", rows)
        given, _ = self.run_rows("llama3-like", rows, "--generation-config", "none",
                                 "--temperature", 0.6, "--top-p", 0.9)
        greedy, _ = self.run_rows("llama3-like", rows, "--temperature", 0)
        none, _ = self.run_rows("llama3-like", rows, "--generation-config", "none")

        def tokens(records):
            return {name: record["token_ids"] for name, record in records.items()}
        self.assertEqual(tokens(taken), tokens(given))
        self.assertEqual(tokens(greedy), tokens(none))
        self.assertNotEqual(tokens(taken), tokens(none))
        ended = self.run_job("generate", "--model", FAMILIES / "llama3-like", "--prompt-len", 4,
                             "--gen-len", 2)
        self.assertEqual(ended.status, 0, ended)
        self.write_rows("rows.jsonl", rows)
        ended = self.run_job("generate", "--model", FAMILIES / "llama3-like", "--input",
                             self.scratch / "rows.jsonl", "--output", self.scratch / "said.jsonl")
        self.assertEqual([line for line in ended.said() if "generation_config.json" in line],
                         ["sluice: the model's generation_config.json sets temperature 0.6, top_p "
                          "0.9; --generation-config none turns that off"])

    def test_the_mlp_cannot_wait_where_it_reads_what_attention_reads(self):
        path = self.write("run.yaml", "stage_defaults: {policy: {mlp_once: true}}\n")
        ended = self.run_job("generate", "--model", FAMILIES / "gptj", "--config", path,
                             "--prompt-len", 4, "--gen-len", 2)
        self.assert_refused(ended, USAGE, "policy.mlp_once")

    def test_models_that_cannot_run_are_refused_by_name(self):
        for keys, said in (('"model_type":"mamba"', 'model_type is "mamba", but only "opt"'),
                           ('"model_type":"falcon","alibi":true', "alibi is true")):
            folder = self.scratch / "model"
            folder.mkdir(exist_ok=True)
            (folder / "config.json").write_text("{" + keys + "}")
            ended = self.run_job("generate", "--model", folder, "--prompt-len", 4)
            self.assert_refused(ended, BAD_INPUT, said)


if __name__ == "__main__":
    unittest.main()
