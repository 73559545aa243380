"""Model folders as other programs leave them: tokens added later, special tokens, the hub's cache,
and files that were not fetched.

The folders are built here from the demo model, but for the special tokens, which need a model that
says some: opt-reference/galactica-like.
"""

import json
import os
import pathlib
import shutil
import unittest

from job_support import BAD_INPUT, DEMO_MODEL, REFERENCE, JobTest

FRANCE = "Question: What is the capital of France?\nAnswer:"
POINTER = ("version https://git-lfs.github.com/spec/v1\n"
           "oid sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n"
           "size 7106560\n")


def byte_letters():
    """The letter that byte-level BPE writes for each byte."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in plain]
    return {**{b: chr(b) for b in plain}, **{b: chr(256 + i) for i, b in enumerate(others)}}


def added(number, content, **fields):
    return {"id": number, "content": content, "single_word": False, "lstrip": False,
            "rstrip": False, "normalized": False, "special": False, **fields}


def tokenizer_json(vocabulary, merges, added_tokens, pre_tokenizer, post_processor):
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added_tokens,
            "normalizer": None, "pre_tokenizer": pre_tokenizer or byte_level,
            "post_processor": post_processor, "decoder": byte_level,
            "model": {"type": "BPE", "dropout": None, "unk_token": None,
                      "continuing_subword_prefix": None, "end_of_word_suffix": None,
                      "fuse_unk": False, "vocab": vocabulary, "merges": merges}}


class ModelFolderTest(JobTest):
    def copy_of(self, source=DEMO_MODEL, name="model", weights=True):
        folder = self.scratch / name
        folder.mkdir(parents=True)
        for file in source.iterdir():
            if file.suffix not in (".jsonl", ".md") and (weights or file.suffix != ".safetensors"):
                shutil.copyfile(file, folder / file.name)
        return folder

    def answer(self, model, *more, **options):
        ended = self.generate(model, "--max-new-tokens", 3, "--prompt", FRANCE, *more, **options)
        return ended.stdout


class TokenizerTest(ModelFolderTest):
    def newer_tokenizer(self):
        """tokenizer.json with two added tokens beside vocab.json and merges.txt without them."""
        folder = self.copy_of()
        vocabulary = self.read_json(folder / "vocab.json")
        merges = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()[1:]
        size = max(vocabulary.values()) + 1
        tokens = [added(1, "<pad>", special=True, normalized=True),
                  added(2, "</s>", special=True, normalized=True),
                  added(size, "<work>", normalized=True),
                  added(size + 1, "[REF]", special=True, lstrip=True, rstrip=True)]
        bos = {"type": "TemplateProcessing",
               "single": [{"SpecialToken": {"id": "</s>", "type_id": 0}},
                          {"Sequence": {"id": "A", "type_id": 0}}],
               "special_tokens": {"</s>": {"id": "</s>", "ids": [2], "tokens": ["</s>"]}}}
        (folder / "tokenizer.json").write_text(
            json.dumps(tokenizer_json(vocabulary, [line.split(" ") for line in merges], tokens,
                                      None, bos)), encoding="utf-8")
        (folder / "tokenizer_config.json").write_text(
            json.dumps({"tokenizer_class": "GPT2Tokenizer", "bos_token": "</s>",
                        "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "</s>",
                        "extra_special_tokens": ["[REF]"]}))
        return folder, vocabulary, size

    def test_the_newer_description_counts(self):
        folder, vocabulary, size = self.newer_tokenizer()
        letters = [vocabulary[letter] for letter in "abc"]
        ids = [2, letters[0], size, letters[1], size + 1, letters[2]]
        for text in ("a<work>b[REF]c", "a<work>b [REF]\u3000c"):
            ended = self.run_job("tokenize", "--model", folder, text=text)
            self.assertEqual(ended.stdout.split(), list(map(str, ids)), ended)
        self.assertEqual(self.answer(folder), " Paris\n\n")

    def special_tokens(self):
        """A tokenizer in which 314 and 396, which the model says, are special."""
        folder = self.copy_of(REFERENCE / "galactica-like")
        special = {0: "<s>", 1: "<pad>", 2: "</s>", 3: "<unk>", 314: "[START_REF]",
                   396: "[END_REF]"}
        letters = [chr(ord("a") + i) for i in range(26)]
        pairs = [a + b for a in letters for b in letters][:640 - 256 - len(special)]
        by_byte = byte_letters()
        words = iter([*(by_byte[b] for b in range(256)), *pairs])
        vocabulary = {special.get(i) or next(words): i for i in range(640)}
        steps = {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"String": "SPL1T-TH1S-Pl3A5E"}, "behavior": "Removed",
             "invert": False},
            {"type": "Digits", "individual_digits": True},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}]}
        (folder / "tokenizer.json").write_text(
            json.dumps(tokenizer_json(vocabulary, [list(pair) for pair in pairs],
                                      [added(i, t, special=True) for i, t in special.items()],
                                      steps, None)), encoding="utf-8")
        return folder

    def answers(self, folder, rows, *flags):
        output = self.scratch / "output.jsonl"
        path = self.write_rows("rows.jsonl", [
            {"custom_id": name, "prompt": [348], "max_tokens": 8, "ignore_eos": True, **row}
            for name, row in rows.items()])
        self.generate(folder, "--input", path, "--output", output, "--overwrite", *flags)
        return self.records(output)

    def test_special_tokens_in_answers_and_stop_texts(self):
        folder = self.special_tokens()
        whole = [314, 314, 220, 396, 396, 530, 220, 220]
        kept = "[START_REF][START_REF]\ufffd[END_REF][END_REF]ki\ufffd\ufffd"
        answers = self.answers(folder, {
            "plain": {}, "keep": {"skip_special_tokens": False},
            "stop": {"stop": ["[END_REF]"]}, "stop-id": {"stop_token_ids": [396]},
            "stop-kept": {"stop": "[END_REF]", "skip_special_tokens": False},
            "stop-long": {"stop": ["[END_REF][END_REF]ki"]}, "stop-part": {"stop": ["END"]}})
        self.assertEqual(answers["plain"]["text"], "\ufffdki\ufffd\ufffd")
        self.assertEqual(answers["keep"]["text"], kept)
        self.assertEqual(answers["keep"]["token_ids"], whole)
        for name in ("stop", "stop-id", "stop-kept"):
            self.assertEqual(answers[name]["token_ids"], whole[:4], name)
            self.assertEqual(answers[name]["finish_reason"], "stop", name)
        self.assertEqual(answers["stop"]["text"], answers["stop-id"]["text"])
        self.assertEqual(answers["stop-kept"]["text"], "[START_REF][START_REF]\ufffd")
        self.assertEqual(answers["stop-long"]["token_ids"], whole[:6])
        self.assertEqual(answers["stop-part"]["token_ids"], whole)

        flag = self.answers(folder, {"a": {}}, "--skip-special-tokens", 0)
        self.assertEqual(flag["a"]["text"], kept)
        config = self.write("run.yaml", "generation:\n  skip_special_tokens: false\n")
        rows = {"a": {}, "b": {"skip_special_tokens": True}}
        both = self.answers(folder, rows, "--config", config)
        self.assertEqual([both["a"]["text"], both["b"]["text"]], [kept, "\ufffdki\ufffd\ufffd"])


class HubTest(ModelFolderTest):
    """The hub's cache is where the hub's own library would look."""

    def hub(self, where, missing=()):
        model = where / "models--acme--opt-demo"
        for part in ("blobs", "refs", "snapshots/0123abcd"):
            (model / part).mkdir(parents=True)
        (model / "refs/main").write_text("0123abcd")
        for file in DEMO_MODEL.iterdir():
            if file.name in missing:
                (model / f"blobs/{file.name}.incomplete").write_bytes(file.read_bytes()[:1000])
                continue
            shutil.copyfile(file, model / f"blobs/{file.name}")
            os.symlink(f"../../blobs/{file.name}", model / "snapshots/0123abcd" / file.name)
        return where

    def with_variables(self, **variables):
        return {"XDG_CACHE_HOME": "/nonexistent", "HOME": str(self.scratch / "home"), **variables}

    def test_the_variables_are_read_as_the_hubs_library_reads_them(self):
        self.hub(self.scratch / "home/hub/hub")
        for variables in ({"HF_HOME": "~/hub"}, {"HF_HOME": "$HOME/hub"},
                          {"HF_HUB_CACHE": "~/hub/hub"}, {"HF_HUB_CACHE": "${HOME}/hub/hub"},
                          {"HUGGINGFACE_HUB_CACHE": "~/hub/hub"},
                          {"HF_HOME": "home/hub"}, {"HF_HUB_CACHE": "home/hub/hub/"}):
            with self.subTest(variables):
                self.assertEqual(self.answer("acme/opt-demo",
                                             environment=self.with_variables(**variables)),
                                 " Paris\n\n")

    def test_a_model_that_is_not_there_names_todays_command(self):
        ended = self.run_job("generate", "--model", "acme/nosuch", "--prompt", "a",
                             environment=self.with_variables(HF_HOME="~/$NOT_SET/hub"))
        self.assert_refused(ended, BAD_INPUT, "hf download acme/nosuch",
                            r"home/\$NOT_SET/hub/hub")

    def test_a_download_that_was_broken_off(self):
        where = self.hub(self.scratch / "hub", ("config.json", "model.safetensors"))
        ended = self.run_job("generate", "--model", "acme/opt-demo", "--prompt", "a",
                             environment=self.with_variables(HF_HUB_CACHE=str(where)))
        self.assert_refused(ended, BAD_INPUT, "hf download acme/opt-demo", "config.json")


class PointerTest(ModelFolderTest):
    def test_every_file_may_be_a_pointer_of_git_lfs(self):
        for file in ("model.safetensors", "config.json", "generation_config.json", "vocab.json",
                     "merges.txt", "tokenizer_config.json", "tokenizer.json", "pytorch_model.bin",
                     "model.safetensors.index.json"):
            with self.subTest(file):
                other_weights = file in ("pytorch_model.bin", "model.safetensors.index.json")
                folder = self.copy_of(name=f"{file}-folder", weights=not other_weights)
                (folder / file).write_text(POINTER)
                ended = self.run_job("generate", "--model", folder, "--prompt", "a")
                self.assert_refused(ended, BAD_INPUT, "Git LFS pointer", f"/{file} ", "git lfs pull")


if __name__ == "__main__":
    unittest.main()
