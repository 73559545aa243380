"""Makes the demo's byte-level BPE vocabulary and writes it in OPT's own file format."""

import json

from tokenizers import ByteLevelBPETokenizer
from transformers import GPT2Tokenizer

SPECIAL_TOKENS = ["<s>", "<pad>", "</s>", "<unk>"]  # ids 0..3, as in the OPT models
BOS_ID = EOS_ID = 2
PAD_ID = 1


def added_token(text):
    return {"content": text, "single_word": False, "lstrip": False, "rstrip": False,
            "normalized": True}


def write_json(path, value, indent=2):
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    path.write_text(text + "\n", encoding="utf-8")


def make_tokenizer(texts, entries, folder):
    """Trains on `texts`; writes vocab.json, merges.txt and the two settings files."""
    bpe = ByteLevelBPETokenizer(add_prefix_space=False)
    bpe.train_from_iterator(texts, vocab_size=entries, min_frequency=2,
                            special_tokens=SPECIAL_TOKENS, show_progress=False)
    bpe.save_model(str(folder))
    names = {"unk_token": "</s>", "bos_token": "</s>", "eos_token": "</s>", "pad_token": "<pad>"}
    tokens = {key: added_token(text) for key, text in names.items()}
    write_json(folder / "special_tokens_map.json", tokens)
    settings = {"errors": "replace"}
    settings |= {key: token | {"__type": "AddedToken"} for key, token in tokens.items()}
    settings |= {"add_prefix_space": False, "add_bos_token": True,
                 "special_tokens_map_file": None, "tokenizer_class": "GPT2Tokenizer"}
    write_json(folder / "tokenizer_config.json", settings)
    return load_tokenizer(folder)


def load_tokenizer(folder):
    """Hugging Face's slow tokenizer, which is the one that the published OPT models name."""
    return GPT2Tokenizer.from_pretrained(folder)
