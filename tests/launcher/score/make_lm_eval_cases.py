#!/usr/bin/env python3
"""Makes tests/data/lm-eval-cases.json with lm-evaluation-harness itself, and says whether the file has the same.

make_lm_eval_cases.py [--write]

Contexts and choices of MMLU's and HellaSwag's rows are those of its tasks, ids those of its _encode_pair() over
Hugging Face's tokenizers. Needs lm-eval 0.4, tokenizers and jinja2 (PyPI); ends with 77 where they are not there.
"""

import importlib.util
import json
import pathlib
import sys
import types

try:
    import jinja2
    import tokenizers
    from lm_eval.api.model import TemplateLM
except ImportError as problem:
    print(f"skipped: {problem}")
    sys.exit(77)

DATA = pathlib.Path(__file__).resolve().parents[2] / "data"
CASES = DATA / "lm-eval-cases.json"
TOKENIZERS = ["gpt2-style", "llama2-style", "llama3-style", "mistral-v3-style", "qwen2-style", "unigram-bytes-style"]
PAIRS = [
    ("The capital of France is", " Paris"), ("The capital of France is ", "Paris"),
    ("Question: 1 + 1?\nAnswer:", " 2"), ("Question: 1 + 1?\nAnswer:\n\n", "2"), ("12", "34"), ("un", "able"),
    ("Hello wor", "ld"), ("don", "'t"), ("tab\t", "\tx"), ("no-break\u00a0", "x"), ("\u4e2d\u6587\u3000", "\u4e2d"),
    ("a  b  ", "  c"), ("end.", "\n\nNext"), ("\u00e9", "\u0301x"), ("emoji \U0001f44d", "\U0001f44d"),
    ("for i in range(", "10):\n    pass"), ("x\x1c", "y"), ("A man is sitting on a roof. He", " is using wrap.")]
MMLU = [
    {"question": "Find the degree for the given field extension Q(sqrt(2)) over Q.", "choices": ["0", "4", "2", "6"],
     "answer": 2},
    {"question": "  Which is true?\n", "choices": ["a b", "", "c ", "\u00e9"], "answer": 0}]
HELLASWAG = [
    {"activity_label": "Removing ice from car", "ctx_a": "Then, the man writes over the snow covering the window.",
     "ctx_b": "then", "ctx": "", "label": "3",
     "endings": [", the man adds wax to the windshield.", ", a person board a ski lift.",
                 " [title] Prepare  the car [substeps] Open it.", "continues [removing the snow]."]},
    {"activity_label": "Home and Garden", "ctx_a": "[header] How to clean a rug [title] Vacuum it. [step] Do so twice.",
     "ctx_b": "", "ctx": "", "label": "0", "endings": ["x", "  y  z ", "[a\nb] c", "d]"]},
    {"activity_label": "Health", "ctx_a": "A girl is seen.", "ctx_b": "she THEN speaks to Bob", "ctx": "", "label": "1",
     "endings": ["a", "b", "c", "d"]}]


class Encoder(TemplateLM):
    """Ids as transformers' fast tokenizers give them."""
    backend = "causal"

    def __init__(self, folder):
        super().__init__()
        self.tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))

    def tok_encode(self, string, add_special_tokens=None, **_):
        return self.tokenizer.encode(string, add_special_tokens=add_special_tokens is not False).ids

    eot_token_id = prefix_token_id = 0

    def _loglikelihood_tokens(self, requests, **kwargs):
        raise NotImplementedError

    loglikelihood_rolling = generate_until = _loglikelihood_tokens


def task_module(*path):
    """A file of lm-eval's tasks by itself. The package of all tasks wants more than is needed here."""
    sys.modules.setdefault("datasets", types.SimpleNamespace(Dataset=object))
    folder = pathlib.Path(importlib.util.find_spec("lm_eval").origin).parent / "tasks"
    spec = importlib.util.spec_from_file_location("task", folder.joinpath(*path))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Rows(list):
    """In the place of a data set."""

    def map(self, function):
        return [function(row) for row in self]


def mmlu_template():
    folder = pathlib.Path(importlib.util.find_spec("lm_eval").origin).parent / "tasks/mmlu/default"
    line = next(line for line in (folder / "_default_template_yaml").read_text().splitlines()
                if line.startswith("doc_to_text:"))
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    return environment.from_string(json.loads(line.partition(":")[2]))


def made():
    pairs = []
    for name in TOKENIZERS:
        encoder = Encoder(DATA / "tokenizers" / name)
        for context, continuation in PAIRS:
            ids = encoder._encode_pair(context, continuation)
            pairs.append({"tokenizer": name, "context": context, "continuation": continuation,
                          "context_ids": ids[0], "continuation_ids": ids[1]})
    template = mmlu_template()
    rows = [{"row": row, "prompt": template.render(**row), "gold": row["answer"],
             "choices": [" " + letter for letter in "ABCD"]} for row in MMLU]
    hellaswag = task_module("hellaswag", "utils.py")
    for row, doc in zip(HELLASWAG, hellaswag.process_docs(Rows(HELLASWAG))):
        rows.append({"row": row, "prompt": doc["query"], "gold": doc["gold"],
                     "choices": [" " + choice for choice in doc["choices"]]})
    return {"pairs": pairs, "rows": rows}


def main():
    lists = [f'"{name}": [\n' + ",\n".join(map(json.dumps, entries)) + "\n]" for name, entries in made().items()]
    text = "{\n" + ",\n".join(lists) + "\n}\n"
    if sys.argv[1:] == ["--write"]:
        CASES.write_text(text)
        return 0
    same = json.loads(text) == json.loads(CASES.read_text())
    print("the same" if same else f"lm-eval has other cases than {CASES}")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
