"""Model folders as other programs leave them: a head stored under either name, tokens added later,
special tokens, the hub's cache, files that were not fetched, and files that nobody needs.

The folders are built here from the demo model, but for the special tokens, which need a model that
says some: opt-reference/galactica-like.
"""

import json
import os
import pathlib
import pickle
import shutil
import struct
import sys
import types
import unittest
import zipfile

from job_support import BAD_INPUT, DEMO_MODEL, DONE, REFERENCE, JobTest

FRANCE = "Question: What is the capital of France?\nAnswer:"
FRANCE_IDS = [672, 202, 2]
EMBEDDING = "model.decoder.embed_tokens.weight"
HEAD = "lm_head.weight"
POINTER = ("version https://git-lfs.github.com/spec/v1\n"
           "oid sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n"
           "size 7106560\n")


def read_tensors(path):
    """{name: (dtype, shape, bytes)} of a safetensors file."""
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + size])
    header.pop("__metadata__", None)
    body = data[8 + size:]
    return {name: (t["dtype"], t["shape"], body[slice(*t["data_offsets"])])
            for name, t in header.items()}


def write_safetensors(path, tensors, metadata=None):
    header, at = {"__metadata__": {"format": "pt", **(metadata or {})}}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text
                     + b"".join(data for _, _, data in tensors.values()))


class Tensor:
    """Pickles as PyTorch's tensors do."""

    def __init__(self, storage, shape):
        self.storage = storage
        self.shape = tuple(shape)

    def __reduce__(self):
        strides = [1]
        for extent in reversed(self.shape[1:]):
            strides.insert(0, strides[0] * extent)
        return (sys.modules["torch._utils"]._rebuild_tensor_v2,
                (self.storage, 0, self.shape, tuple(strides), False, {}))


class Storage:
    def __init__(self, key, elements):
        self.key = str(key)
        self.elements = elements


class TorchPickler(pickle.Pickler):
    def persistent_id(self, obj):
        if not isinstance(obj, Storage):
            return None
        return "storage", sys.modules["torch"].HalfStorage, obj.key, "cpu", obj.elements


def write_torch(path, tensors, others=None):
    """A zip file of torch.save, of f16 tensors and of `others` that are none."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    torch.HalfStorage = type("HalfStorage", (), {"__module__": "torch"})
    utils._rebuild_tensor_v2 = types.FunctionType((lambda *_: None).__code__, {},
                                                  "_rebuild_tensor_v2")
    utils._rebuild_tensor_v2.__module__ = "torch._utils"
    utils._rebuild_tensor_v2.__qualname__ = "_rebuild_tensor_v2"
    sys.modules.update({"torch": torch, "torch._utils": utils})
    try:
        state = {name: Tensor(Storage(key, len(data) // 2), shape)
                 for key, (name, (_, shape, data)) in enumerate(tensors.items())} | (others or {})
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            with archive.open("model/data.pkl", "w") as file:
                TorchPickler(file, 2).dump(state)
            archive.writestr("model/version", "3\n")
            for key, (_, _, data) in enumerate(tensors.values()):
                archive.writestr(f"model/data/{key}", data)
    finally:
        del sys.modules["torch"], sys.modules["torch._utils"]


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

    def tokens(self, model):
        output = self.scratch / "output.jsonl"
        rows = self.write_rows("rows.jsonl", [{"custom_id": "a", "prompt": FRANCE,
                                               "max_tokens": 3}])
        self.generate(model, "--input", rows, "--output", output, "--overwrite")
        return self.records(output)["a"]["token_ids"]


class HeadTest(ModelFolderTest):
    """What a checkpoint stores counts over what config.json says by default, and a tensor that has
    two names may be stored under either."""

    def setUp(self):
        super().setUp()
        self.tensors = read_tensors(DEMO_MODEL / "model.safetensors")

    def own_head(self):
        """What token i had, token i + 1 has."""
        dtype, shape, data = self.tensors[EMBEDDING]
        row = len(data) // shape[0]
        return {**self.tensors, HEAD: (dtype, shape, data[-row:] + data[:-row])}

    def head_only(self):
        return {(HEAD if name == EMBEDDING else name): t for name, t in self.tensors.items()}

    def write_shards(self, folder, tensors, suffix, write, index_names=None):
        """Two files; the index gives the names of `tensors`, or of `index_names`."""
        names = list(tensors)
        weight_map = {}
        for number, part in enumerate((names[:3], names[3:]), 1):
            file = f"part-{number}.{suffix}"
            write(folder / file, {name: tensors[name] for name in part})
            for name in part:
                weight_map[(index_names or {}).get(name, name)] = file
        stem = "model.safetensors" if suffix == "safetensors" else "pytorch_model.bin"
        (folder / f"{stem}.index.json").write_text(json.dumps({"weight_map": weight_map}))

    def layouts(self, tensors):
        """The same tensors in every format, whole and cut into files."""
        for name, file, write in (("safetensors", "model.safetensors", write_safetensors),
                                  ("bin", "pytorch_model.bin", write_torch)):
            folder = self.copy_of(name=f"{name}-{len(list(self.scratch.iterdir()))}",
                                  weights=False)
            write(folder / file, tensors)
            yield name, folder
            folder = self.copy_of(name=f"{name}-shards-{len(list(self.scratch.iterdir()))}",
                                  weights=False)
            self.write_shards(folder, tensors, name, write)
            yield f"{name} in shards", folder

    def test_a_stored_head_is_used(self):
        for name, folder in self.layouts(self.own_head()):
            with self.subTest(name):
                self.assertEqual(self.tokens(folder), [673, 203, 203])

    def test_a_stored_head_that_is_the_embedding(self):
        tensors = {**self.tensors, HEAD: self.tensors[EMBEDDING]}
        for name, folder in self.layouts(tensors):
            with self.subTest(name):
                self.assertEqual(self.tokens(folder), FRANCE_IDS)

    def test_one_tensor_under_the_heads_name_is_both(self):
        for name, folder in self.layouts(self.head_only()):
            with self.subTest(name):
                self.assertEqual(self.tokens(folder), FRANCE_IDS)

    def test_an_index_that_gives_the_other_name_too(self):
        """The index lists both names of the tied tensor, the file has one of them."""
        for stored in (self.tensors, self.head_only()):
            folder = self.copy_of(name=f"both-{len(stored)}-{HEAD in stored}", weights=False)
            self.write_shards(folder, stored, "safetensors", write_safetensors)
            path = folder / "model.safetensors.index.json"
            index = self.read_json(path)
            kept = HEAD if HEAD in stored else EMBEDDING
            for name in (HEAD, EMBEDDING):
                index["weight_map"][name] = index["weight_map"][kept]
            path.write_text(json.dumps(index))
            self.assertEqual(self.tokens(folder), FRANCE_IDS)

    def test_inspect_says_what_the_head_is(self):
        folder = self.copy_of(weights=False)
        write_safetensors(folder / "model.safetensors", self.own_head())
        ended = self.run_job("inspect", folder)
        self.assertEqual(ended.status, DONE, ended)
        self.assertIn("output head of its own", ended.stdout)


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

    def test_tokenize_needs_the_tokenizers_files_only(self):
        folder, _, size = self.newer_tokenizer()
        for file in ("config.json", "model.safetensors", "vocab.json", "merges.txt"):
            (folder / file).unlink()
        ended = self.run_job("tokenize", "--model", folder, text="<work>")
        self.assertEqual(ended.stdout, f"2 {size}\n", ended)

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
        for missing, said in ((("config.json", "model.safetensors"), "config.json"),
                              (("model.safetensors",), "holds no weights")):
            with self.subTest(missing):
                where = self.hub(self.scratch / f"hub-{len(missing)}", missing)
                ended = self.run_job("generate", "--model", "acme/opt-demo", "--prompt", "a",
                                     environment=self.with_variables(HF_HUB_CACHE=str(where)))
                self.assert_refused(ended, BAD_INPUT, "hf download acme/opt-demo", said)


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


class LeftoversTest(ModelFolderTest):
    """What the model does not need must not refuse it."""

    def test_tensors_that_the_model_does_not_name(self):
        tensors = read_tensors(DEMO_MODEL / "model.safetensors")
        tensors["model.decoder.version"] = ("I64", [1], bytes(8))
        tensors["model.decoder.layers.0.self_attn.bias"] = ("BOOL", [2, 2], bytes(4))
        tensors["model.decoder.layers.0.fc1.weight_scale"] = ("F8_E8M0", [4], bytes(4))
        tensors["model.decoder.layers.9.fc1.weight"] = ("F64", [1], bytes(8))
        tensors["base_model.lora_A.weight"] = ("F4", [3, 1], bytes(2))
        folder = self.copy_of(weights=False)
        write_safetensors(folder / "model.safetensors", tensors)
        self.assertEqual(self.answer(folder), " Paris\n\n")

    def test_entries_of_a_state_that_are_no_tensors(self):
        tensors = read_tensors(DEMO_MODEL / "model.safetensors")
        folder = self.copy_of(weights=False)
        write_torch(folder / "pytorch_model.bin", tensors,
                    {"epoch": 3, "args": None, "lm_head.note": "tied", "nested": {"a": [1.5, ()]}})
        self.assertEqual(self.answer(folder), " Paris\n\n")

    def test_a_weight_of_such_a_dtype_is_refused(self):
        tensors = read_tensors(DEMO_MODEL / "model.safetensors")
        name = "model.decoder.layers.0.fc1.bias"
        _, shape, _ = tensors[name]
        tensors[name] = ("I8", shape, bytes(shape[0]))
        folder = self.copy_of(weights=False)
        write_safetensors(folder / "model.safetensors", tensors)
        ended = self.run_job("generate", "--model", folder, "--prompt", "a")
        self.assert_refused(ended, BAD_INPUT, "layers.0.fc1.bias", "I8")

    def test_files_and_keys_that_nobody_needs(self):
        folder = self.copy_of()
        config = self.read_json(folder / "config.json")
        config |= {"auto_map": {"AutoModel": "x.Y"}, "rope_scaling": None, "my_key": [1, {"a": 2}],
                   "transformers_version": "99"}
        (folder / "config.json").write_text(json.dumps(config))
        for name in ("model-00009-of-00009.safetensors", "adapter_model.safetensors",
                     "optimizer.pt", "pytorch_model.bin", "flax_model.msgpack", "README.md"):
            (folder / name).write_text("not what its name says")
        (folder / "pytorch_model.bin.index.json").write_text("{")
        self.assertEqual(self.answer(folder), " Paris\n\n")

    def test_shards_with_tensors_that_the_index_does_not_name(self):
        tensors = read_tensors(DEMO_MODEL / "model.safetensors")
        names = list(tensors)
        folder = self.copy_of(weights=False)
        extra = {"extra.weight": ("I64", [1], bytes(8)), names[0]: tensors[names[0]]}
        write_safetensors(folder / "a.safetensors", {name: tensors[name] for name in names[:4]})
        write_safetensors(folder / "b.safetensors",
                          {**{name: tensors[name] for name in names[4:]}, **extra})
        weight_map = {name: "a.safetensors" if name in names[:4] else "b.safetensors"
                      for name in names} | {"gone.buffer": "b.safetensors"}
        (folder / "model.safetensors.index.json").write_text(
            json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
        self.assertEqual(self.answer(folder), " Paris\n\n")


if __name__ == "__main__":
    unittest.main()
