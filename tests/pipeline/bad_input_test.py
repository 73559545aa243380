"""What is wrong with a job is said in one sentence, with the right status, at once; and nothing
that a hostile file asks for is done.
"""

import json
import os
import pickle
import shutil
import struct
import unittest
import zipfile

from job_support import (BAD_INPUT, DEMO_MODEL, DONE, FAILURE, NO_SPACE, REFERENCE, ROWS_FAILED,
                         USAGE, JobTest, percent)

TINY = REFERENCE / "opt-pre"  # 4 layers, 512 ids, 128 positions


class Hostile:
    """Unpickling it would create a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.system, (f"touch '{self.path}'",)


def safetensors(header, data=b""):
    if not isinstance(header, bytes):
        header = json.dumps(header).encode()
    return struct.pack("<Q", len(header)) + header + data


class BadInputTest(JobTest):
    def setUp(self):
        super().setUp()
        self.output = self.scratch / "output.jsonl"
        self.rows = self.write_rows("rows.jsonl", [{"custom_id": "a", "prompt": [2, 5, 6],
                                                    "max_tokens": 2, "ignore_eos": True}])

    def job(self, model=TINY, *more, rows=None, **options):
        return self.run_job("generate", "--model", model, "--quiet", "--input", rows or self.rows,
                            "--output", self.output, *more, **options)

    def model_copy(self, name="copy", source=TINY, **changes):
        """A copy of a model that may be damaged, with changes to its config.json."""
        folder = self.scratch / name
        shutil.copytree(source, folder, copy_function=shutil.copyfile)
        config = self.read_json(folder / "config.json")
        (folder / "config.json").write_text(json.dumps(config | changes), encoding="utf-8")
        return folder

    # The model

    def test_there_is_no_such_model(self):
        for ranks in (0, 2):
            missing = self.scratch / "missing"
            self.assert_refused(self.job(missing, ranks=ranks), BAD_INPUT, "missing")
        self.assertFalse(self.output.exists())

    def test_a_model_that_is_not_in_the_hub_cache_names_the_download(self):
        ended = self.job("facebook/opt-125m", environment={"HF_HOME": str(self.scratch / "hub")})
        self.assert_refused(ended, BAD_INPUT, "hf download facebook/opt-125m")

    def test_a_folder_without_a_checkpoint(self):
        folder = self.model_copy()
        (folder / "model.safetensors").unlink()
        for ranks in (0, 2):
            self.assert_refused(self.job(folder, ranks=ranks), BAD_INPUT, "copy")
        (folder / "config.json").unlink()
        self.assert_refused(self.job(folder), BAD_INPUT, "config.json")

    def test_checkpoints_cut_short(self):
        size = (TINY / "model.safetensors").stat().st_size
        for index, length in enumerate((0, 7, 100, size // 2, size - 1)):
            with self.subTest(length=length):
                folder = self.model_copy(f"cut-{index}")
                os.truncate(folder / "model.safetensors", length)
                self.assert_refused(self.job(folder, ranks=2 if index == 3 else 0), BAD_INPUT,
                                    "model.safetensors")

    def test_weights_of_other_shapes(self):
        for name, changes in (("hidden", {"hidden_size": 128, "word_embed_proj_dim": 128}),
                              ("ffn", {"ffn_dim": 255}), ("vocabulary", {"vocab_size": 513}),
                              ("layers", {"num_hidden_layers": 5})):
            with self.subTest(name):
                folder = self.model_copy(name, **changes)
                ended = self.job(folder, ranks=2 if name == "layers" else 0)
                self.assert_refused(ended, BAD_INPUT, name, r"decoder|layers\.4")

    def test_config_files_that_make_no_sense(self):
        for name, changes, pattern in (
                ("mamba", {"model_type": "mamba"}, r"only .*OPT"),
                ("heads", {"num_attention_heads": 0}, "heads"),
                ("huge", {"hidden_size": 2**31}, "hidden_size"),
                ("product", {"hidden_size": 2**30, "vocab_size": 2**31 - 1}, "config.json"),
                ("text", {"num_hidden_layers": "4"}, "num_hidden_layers"),
                ("none", {"num_hidden_layers": 0}, "layers")):
            with self.subTest(name):
                self.assert_refused(self.job(self.model_copy(name, **changes)), BAD_INPUT, pattern)
        folder = self.model_copy("brackets")
        (folder / "config.json").write_text("[" * 100000, encoding="utf-8")
        self.assert_refused(self.job(folder), BAD_INPUT, "config.json")

    def test_hostile_safetensors(self):
        tensor = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}
        files = {
            "length": struct.pack("<Q", 2**63 - 1) + b"{}",
            "no json": safetensors(b"\0" * 64),
            "nesting": safetensors(b"{\"a\":" * 50000),
            "outside": safetensors({"a": tensor | {"data_offsets": [0, 2**62]}}),
            "backwards": safetensors({"a": tensor | {"data_offsets": [16, 0]}}, b"\0" * 16),
            "negative": safetensors({"a": tensor | {"shape": [-2, -2]}}, b"\0" * 16),
            "overflow": safetensors({"a": tensor | {"shape": [2**32, 2**32]}}, b"\0" * 16),
            "twice": safetensors(b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},'
                                 b'"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}',
                                 b"\0" * 16),
        }
        folder = self.model_copy()
        for name, content in files.items():
            with self.subTest(name):
                (folder / "model.safetensors").write_bytes(content)
                self.assert_refused(self.job(folder), BAD_INPUT, "model.safetensors")

    def test_an_index_cannot_point_out_of_the_folder(self):
        folder = self.model_copy()
        (folder / "model.safetensors").unlink()
        outside = os.path.relpath(TINY / "model.safetensors", folder)
        (folder / "model.safetensors.index.json").write_text(
            json.dumps({"weight_map": {"model.decoder.embed_tokens.weight": outside}}),
            encoding="utf-8")
        self.assert_refused(self.job(folder), BAD_INPUT, "index.json")

    def test_a_hostile_pickle_is_not_executed(self):
        trap = self.scratch / "executed"
        folder = self.model_copy()
        (folder / "model.safetensors").unlink()
        for name, content in (("value", {"model.decoder.embed_tokens.weight": Hostile(trap)}),
                              ("whole", Hostile(trap))):
            for protocol in (2, 4):
                with self.subTest(name, protocol=protocol):
                    with zipfile.ZipFile(folder / "pytorch_model.bin", "w") as archive:
                        archive.writestr("archive/data.pkl", pickle.dumps(content, protocol))
                        archive.writestr("archive/version", "3\n")
                    self.assert_refused(self.job(folder), BAD_INPUT, "pytorch_model.bin")
                    self.assertFalse(trap.exists())

    # Flags and configuration

    def test_more_stages_than_layers(self):
        ended = self.job(REFERENCE / "opt-old-prefix", ranks=3)
        self.assert_refused(ended, USAGE, "3 stages but the model has only 2 layers")

    def test_flags_that_cannot_be(self):
        for arguments, pattern in (
                (percent(60, 60, 100, 0, 100, 0), "percent"),
                (percent(-1, 0, 100, 0, 100, 0), "percent"),
                (percent(100, 0, 100, 0, 100, "x"), "percent"),
                (percent(100, 0), "percent"),
                (["--gpu-batch-size", 0], "gpu.batch.size"),
                (["--device", "cuda"], "(?i)cuda"),
                (["--device", "cuda:3"], "(?i)cuda"),
                (["--weight-slot", 3], "--weight-slots"),
                (["--device-memory", "16G"], "16G"),
                (["--attn-sparsity", 0], "attn.sparsity"),
                (["--attn-sparsity", 1.5], "attn.sparsity"),
                (["--attn-sparsity", 0.1, "--compress-cache"],
                 "attn_sparsity.* compressed cache.*--compress-cache"),
                (["--prompt", "a"], "--prompt")):
            with self.subTest(arguments=arguments):
                self.assert_refused(self.job(TINY, *arguments), USAGE, pattern)
        self.assert_refused(self.job(TINY, "--device", "cuda", ranks=2), USAGE, "(?i)cuda")
        self.assert_refused(self.job(TINY, "--weight-slot", 3, ranks=2), USAGE, "--weight-slots")

    def test_a_wrong_key_is_shown_with_its_place(self):
        config = self.write("run.yaml", "batching:\n  gpu_batch_size: 2\n  gpu_bach: 3\n")
        for ranks in (0, 2):
            ended = self.job(TINY, "--config", config, ranks=ranks)
            self.assert_refused(ended, USAGE, r"run\.yaml:3:3: .*gpu_bach.*unknown key")
        config.write_text("batching: [1, 2\n", encoding="utf-8")
        self.assert_refused(self.job(TINY, "--config", config), USAGE, r"run\.yaml:\d+:\d+")

    def test_no_command_and_no_job(self):
        self.assert_refused(self.run_job(), USAGE, "no command")
        self.assert_refused(self.run_job("generat"), USAGE, "generate")
        self.assert_refused(self.run_job("generate", "--model", TINY), USAGE, "--input|prompt")

    # Input and output files

    def test_there_is_no_input(self):
        for rows in (self.scratch / "none.jsonl", self.scratch):
            self.assert_refused(self.job(rows=rows), BAD_INPUT, "input")
        self.assertFalse(self.output.exists())

    def test_an_empty_input_is_a_job_that_is_done(self):
        for ranks, text in ((0, ""), (2, "\n \n")):
            self.output.unlink(missing_ok=True)
            ended = self.job(rows=self.write("empty.jsonl", text), ranks=ranks)
            self.assertEqual((ended.status, ended.said()), (DONE, []), ended)
            self.assertEqual(self.output.read_text(encoding="utf-8"), "")

    def test_an_output_that_is_there_is_kept(self):
        for ranks in (0, 2):
            self.output.write_text("mine\n", encoding="utf-8")
            self.assert_refused(self.job(ranks=ranks), USAGE, "exists", "--resume", "--overwrite")
            self.assert_refused(self.job(TINY, "--resume", ranks=ranks), BAD_INPUT, "line 1")
            self.assertEqual(self.output.read_text(encoding="utf-8"), "mine\n")

    def test_a_refused_run_does_not_stand_in_the_way_of_the_next(self):
        self.assert_refused(self.job(TINY, "--device", "cuda"), USAGE, "(?i)cuda")
        self.assertEqual(self.job().status, DONE)
        self.assertEqual(set(self.records(self.output)), {"a"})

    def test_the_output_cannot_be_the_input(self):
        before = self.rows.read_bytes()
        link = self.scratch / "link.jsonl"
        os.link(self.rows, link)
        symlink = self.scratch / "symlink.jsonl"
        symlink.symlink_to(self.rows)
        for output in (self.rows, self.scratch / "." / "rows.jsonl", link, symlink):
            for flag in ([], ["--resume"], ["--overwrite"]):
                with self.subTest(output=output.name, flag=flag):
                    ended = self.run_job("generate", "--model", TINY, "--quiet", "--input",
                                         self.rows, "--output", output, *flag)
                    self.assert_refused(ended, USAGE, "output")
                    self.assertEqual(self.rows.read_bytes(), before)

    def test_places_that_cannot_be_written(self):
        nowhere = self.scratch / "no" / "such" / "file"
        for arguments in (["--output", nowhere], ["--output", self.scratch]):
            ended = self.run_job("generate", "--model", TINY, "--quiet", "--input", self.rows,
                                 *arguments)
            self.assert_refused(ended, USAGE, "output")
        for flag in ("--report", "--trace"):
            self.output.unlink(missing_ok=True)
            ended = self.job(TINY, flag, nowhere)
            self.assertIn(ended.status, (FAILURE, USAGE))
            self.assert_refused(ended, ended.status, "such/file|such")
            self.assertFalse(self.output.exists(), "told before anything is begun")
        ended = self.job(TINY, "--offload-dir", nowhere, *percent(0, 0, 0, 0, 0, 0))
        self.assertIn(ended.status, (FAILURE, USAGE))
        self.assert_refused(ended, ended.status, "such/file")

    # Rows

    def test_bad_rows_harm_no_others(self):
        rows = [
            json.dumps({"custom_id": "good-1", "prompt": [2, 9], "max_tokens": 3}),
            json.dumps({"custom_id": "vocabulary", "prompt": [2, 512]}),
            json.dumps({"custom_id": "negative", "prompt": [2, -1]}),
            json.dumps({"custom_id": "long", "prompt": [2] * 129}),
            json.dumps({"custom_id": "both", "prompt": [2] * 100, "max_tokens": 29}),
            json.dumps({"custom_id": "type", "prompt": [2], "max_tokens": "4"}),
            json.dumps({"custom_id": "field", "prompt": [2], "max_token": 4}),
            json.dumps({"custom_id": "nothing"}),
            json.dumps({"custom_id": "text", "prompt": "no tokenizer here"}),
            '{"custom_id": "torn", "prompt": [2',
            "[1, 2]",
            json.dumps({"custom_id": "good-2", "prompt": [2, 10], "max_tokens": 3}),
        ]
        path = self.write("bad.jsonl", "\n".join(rows) + "\n")
        answers = []
        for ranks in (0, 2):
            self.output.unlink(missing_ok=True)
            ended = self.job(TINY, "--strict", rows=path, ranks=ranks)
            self.assertEqual((ended.status, ended.said()), (ROWS_FAILED, []), ended)
            self.assert_no_crash(ended)
            answers.append(self.records(self.output))
        records = answers[0]
        self.assertEqual(answers[1], records)
        self.assertEqual(len(records), len(rows))
        for name in ("good-1", "good-2"):
            self.assertGreater(len(records[name]["token_ids"]), 0)
        for name, words in (("vocabulary", "512"), ("negative", "-1"), ("long", "128 positions"),
                            ("both", "128 positions"), ("type", "max_tokens"),
                            ("field", "max_tokens"), ("nothing", "no prompt"),
                            ("text", "token"), ("torn", "no JSON"), ("row-11", "object")):
            self.assertIn(words, records[name]["error"]["message"])
            self.assertRegex(records[name]["error"]["message"], r"^line \d+: ")
        self.assertEqual(records["torn"]["line"], 10)

    def test_bytes_that_are_no_text(self):
        path = self.scratch / "bytes.jsonl"
        path.write_bytes(b'{"custom_id": "a", "prompt": "\xff\xfe"}\n\x00\xff\n'
                         b'{"custom_id": "good", "prompt": "Question:", "max_tokens": 1}\n')
        ended = self.job(DEMO_MODEL, rows=path)
        self.assertEqual(ended.status, ROWS_FAILED, ended)
        self.assertIn("token_ids", self.records(self.output)["good"])


if __name__ == "__main__":
    unittest.main()
