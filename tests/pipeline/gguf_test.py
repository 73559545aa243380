"""Jobs over GGUF files: dense ones give Hugging Face's greedy tokens, quantised ones those of the
same values in safetensors; text, folders and packed files; damage is refused.
"""

import shutil
import unittest

import gguf_weights
from job_support import BAD_INPUT, DONE, SOURCE, JobTest, percent

FILES = SOURCE / "tests/data/gguf"
FAMILIES = SOURCE / "tests/data/families"
DEVICE = percent(100, 0, 100, 0, 100, 0)
DISK = percent(0, 0, 0, 0, 0, 0)
MIXED = percent(30, 40, 50, 20, 50, 50)
# file, reference checkpoint, ranks, placement
DENSE = [("llama3-like-bf16", "llama3-like", 2, MIXED), ("llama-biases-f32", "llama-biases", 1, DISK),
         ("qwen2-f16", "qwen2", 3, DISK), ("qwen3-bf16", "qwen3", 1, DEVICE)]
PROMPTS = [[3], [101, 32, 17, 88, 9], [5, 4, 250, 7, 91, 64, 64, 2, 130, 201, 44, 12, 3, 77]]


class GgufTest(JobTest):
    def run_rows(self, model, rows, *arguments, **options):
        output = self.scratch / "output.jsonl"
        self.generate(model, "--input", self.write_rows("rows.jsonl", rows), "--output", output,
                      "--overwrite", "--packed-dir", self.scratch / "packed", *arguments, **options)
        return self.records(output)

    def rows(self):
        return [{"custom_id": str(i), "prompt": prompt, "ignore_eos": True, "max_tokens": 20,
                 "logprobs": 1} for i, prompt in enumerate(PROMPTS)]

    def test_dense_files_give_hugging_faces_tokens(self):
        for file, reference, ranks, placement in DENSE:
            with self.subTest(file=file, ranks=ranks):
                cases = self.read_json(FAMILIES / reference / "cases.json")
                rows = [{"custom_id": case["id"], "prompt": case["input_ids"], "ignore_eos": True,
                         "max_tokens": len(case["greedy"]["tokens"])} for case in cases["single"]]
                records = self.run_rows(FILES / f"{file}.gguf", rows, *placement, ranks=ranks)
                for case in cases["single"]:
                    self.assertEqual(records[case["id"]]["token_ids"], case["greedy"]["tokens"],
                                     case["id"])
        self.assertEqual(list((self.scratch / "packed").glob("*")), [])  # read where they lie

    def test_quantised_files_are_the_values_of_their_blocks(self):
        for name in ("qwen2", "llama"):
            file, folder = FILES / f"{name}-quantised.gguf", self.scratch / name
            gguf_weights.write_widened(file, folder)
            for compression in ([], ["--compress-weight", "8bit"]):
                with self.subTest(name=name, compression=compression):
                    ours = self.run_rows(file, self.rows(), *compression)
                    theirs = self.run_rows(folder, self.rows(), *compression)
                    self.assertEqual(len(ours), len(PROMPTS))
                    for row in ours:
                        self.assertEqual(ours[row]["token_ids"], theirs[row]["token_ids"])
                        if name == "qwen2":  # the order of rows is the same, so the bits are
                            self.assertEqual(ours[row]["logprobs"]["token_logprobs"],
                                             theirs[row]["logprobs"]["token_logprobs"])

    def test_blocks_are_widened_once_and_found_again(self):
        file = FILES / "llama-quantised.gguf"
        first = self.run_rows(file, self.rows(), *MIXED)
        packed = {path: path.stat().st_mtime_ns for path in (self.scratch / "packed").rglob("*.packed")}
        self.assertEqual(sorted(path.name for path in packed),
                         ["embedding.tokens.weight.packed", "layer-0.packed"])
        second = self.run_rows(file, self.rows(), *DISK)
        self.assertEqual({path: path.stat().st_mtime_ns for path in packed}, packed)
        for row in first:
            self.assertEqual(second[row]["token_ids"], first[row]["token_ids"])

    def test_one_file_has_everything(self):
        folder = self.scratch / "model"
        folder.mkdir()
        shutil.copy(FILES / "llama3-like-bf16.gguf", folder / "some-model-BF16.gguf")
        ended = self.run_job("tokenize", "--model", folder, text="the\n")
        self.assertEqual(ended.status, DONE, ended)
        ids = [int(word) for word in ended.stdout.split()]
        self.assertEqual(ids[0], 381)  # BOS
        back = self.run_job("tokenize", "--model", folder, "--decode",
                            text=" ".join(map(str, ids[1:])) + "\n")
        self.assertEqual(back.stdout.strip(), "the", back)
        rows = [{"custom_id": "text", "prompt": "the", "max_tokens": 4, "ignore_eos": True},
                {"custom_id": "ids", "prompt": ids, "max_tokens": 4, "ignore_eos": True},
                {"custom_id": "chat", "messages": [{"role": "user", "content": "hi"}],
                 "max_tokens": 4, "ignore_eos": True}]
        records = self.run_rows(folder, rows)
        self.assertEqual(records["text"]["token_ids"], records["ids"]["token_ids"])
        self.assertEqual(len(records["chat"]["token_ids"]), 4, records["chat"])

    def test_inspect_says_what_is_stored_and_what_becomes_of_it(self):
        file = FILES / "llama-quantised.gguf"
        ended = self.run_job("inspect", file)
        self.assertEqual(ended.status, DONE, ended)
        self.assertRegex(ended.stdout, r"stored as +Q6_K \d+.*Q4_K \d+.*; blocks become f32, exactly")
        self.assertIn("byte-level BPE of 272 tokens, from llama-quantised.gguf", ended.stdout)
        self.assertIn("1 GGUF file", ended.stdout)
        ended = self.run_job("inspect", file, "--compress-weight", "8bit")
        self.assertIn("blocks become groups of 64, rounded once more", ended.stdout)
        self.assertNotIn("stored as", self.run_job("inspect", FILES / "qwen2-f16.gguf").stdout)

    def test_bad_files_are_refused(self):
        good = (FILES / "llama3-like-bf16.gguf").read_bytes()
        bad = self.scratch / "bad.gguf"
        for content, said in ((good[:5000], "the GGUF header"), (good[:-100], "bad.gguf.*tensor"),
                              (b"hello, this is no model", "no GGUF file"), (b"", "bad.gguf"),
                              (good.replace(b"llama-bpe", b"llama-xyz"), "tokenizer.ggml.pre is"),
                              (good.replace(b"blk.2.ffn_up", b"blk.9.ffn_up"), "blk.2.ffn_up.weight")):
            with self.subTest(said=said):
                bad.write_bytes(content)
                ended = self.run_job("generate", "--model", bad, "--prompt", "the", "--quiet")
                self.assert_refused(ended, BAD_INPUT, said, "bad.gguf")


if __name__ == "__main__":
    unittest.main()
