"""Writes texts with their token ids, for testing another tokenizer on the demo's vocabulary.

The ids are those of transformers' slow GPT2Tokenizer, which the published OPT models name; the
Rust `tokenizers` library has to agree on each.
"""

import argparse
import json
import pathlib
import random

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

import tasks
from tokenizer import BOS_ID, load_tokenizer

ENGLISH = [
    "Hello world", "The quick brown fox jumps over the lazy dog.", "Call me Ishmael.",
    "Answer:", "Question: What is 3 + 5?\nAnswer:", " leading blank", "trailing blank ",
    "MiXeD CaSe", "ALL CAPITALS HERE", "JFK, SFO", " JFK, SFO\n", "(JFK)", "snake_case_name",
    "kebab-case-name", "e-mail: someone@example.com", "https://example.com/a?b=c&d=%20",
    "C++20 and C#", "a,b;c:d.e!f?g", "...", "?!?!", "----", "$5.00", "50% off", "\"quoted\"",
    "'single'", "(a (b (c)))", "{\"key\": [1, 2, 3]}", "<b>bold</b>", "\\backslash\\n", "~`^|",
]
CONTRACTIONS = [
    "it's", "don't", "we're", "you've", "I'm", "they'll", "she'd", "IT'S", "DON'T", "We'Re",
    "'s", "'t're've", " 's 't 're 've 'm 'll 'd", "o'clock", "rock'n'roll", "''s", "'", "'x",
    "dogs' tails", "it\u2019s",
]
BLANKS = [
    " ", "  ", "   ", "a b", "a  b", "a   b", "a    b", "\n", "\n\n", "\n\n\n", "a\nb", "a\n\nb",
    "a \n b", "a\n  b", "\t", "\t\t", "a\tb", "a\t\tb", " \t \n ", "a \t", "\r\n", "a\r\nb",
    "\x0b\x0c", "a\u00a0b", "a\u00a0\u00a0b", "\u00a0", "\u3000", "\u4e00\u3000\u4e8c",
    "a\u2003b", "a \u2009b", "a\u2028b\u2029c", "a\u0085b", "a\u1680b", "a\u202fb\u205fc",
    "a\u200bb", "a \u200b b", "\ufeffstart", "a\u180eb", "  indented\n    more\n",
]
NUMBERS = [
    "0", "7", "42", "2024", "1234567890", "3.14159", "1,000,000", "-5", "a1b2", "12ab", " 12  34",
    "\u00b2\u00b3", "\u00bd", "\u2167", "\u0663\u0664\u0665", "\u096a\u0968", "\uff11\uff12",
    "x\u2080\u2081", "\u2460",
]
UNICODE = [
    "\u00e9", "caf\u00e9", "cafe\u0301", "na\u00efve", "\u00dcber Stra\u00dfe", "\u0130stanbul",
    "\u0141\u00f3d\u017a", "\u041c\u043e\u0441\u043a\u0432\u0430", "\u0391\u03b8\u03ae\u03bd\u03b1",
    "\u05e9\u05dc\u05d5\u05dd", "\u0645\u0631\u062d\u0628\u0627",
    "\u0928\u092e\u0938\u094d\u0924\u0947",
    "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35", "\u4f60\u597d\uff0c\u4e16\u754c", "\u6771\u4eac (HND)",
    "\u3053\u3093\u306b\u3061\u306f", "\uc548\ub155", "\U00020000", "o\u0308\u0304", "\u0301",
    "\U0001f600", "a\U0001f600b", " \U0001f680\U0001f680",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "\U0001f1eb\U0001f1ee", "\U0001f44d\U0001f3fd", "\u2764\ufe0f", "\u20ac100", "\u2014 dash",
    "\u201cquoted\u201d", "\u00bfQu\u00e9?", "\u2211\u222b\u221e", "\ufffd", "\ue000", "\U0010ffff",
    "\u00aa\u00ba", "\u02b0\u02bc", "\u00ad", "\ufdfa", "\U0001d400\U0001d7d8",
]
CONTROL = ["\x00", "a\x00b", "\x00\x00", "\x01\x02\x03", "\x1b[0m", "a\x1cb\x1dc\x1ed\x1fe", "\x7f",
           " \x00 ", "\u0080\u009f"]
LONG = ["a" * 200, "antidisestablishmentarianism", "XQZ" * 20, "ab" * 60, "9" * 70, "!" * 50,
        "na" * 8 + " " * 20 + "Batman", "\U0001f600" * 10,
        "Donaudampfschifffahrtsgesellschaftskapit\u00e4n"]
SPECIAL = [
    "</s>", "<pad>", "a</s>b", "a </s> b", "</s></s>", "</s>\n", "  </s>  ", "a<pad>b",
    " <pad> <pad>", "<pad></s>", "</s", "< /s>", "</S>", "<PAD>", "<s>", "<unk>", "<mask>",
    "a<s>b</s>c<unk>d", "<|endoftext|>", "</</s>s>", "it</s>'s", "caf</s>\u00e9",
]


def texts():
    rng = random.Random(3)
    found = ["", "a", "Z", ".", *ENGLISH, *CONTRACTIONS, *BLANKS, *NUMBERS, *UNICODE, *CONTROL,
             *LONG, *SPECIAL]
    for name in ("airports", "opposites", "capitals", "sums", "young"):
        _, prompt, answer = tasks.TASKS[name][0](rng)
        found.append(prompt + answer + tasks.STOP)
    return list(dict.fromkeys(found))


def rust_tokenizer(folder):
    """OPT's rules spelled out once more, for the Rust library."""
    files = str(folder / "vocab.json"), str(folder / "merges.txt")
    tokenizer = Tokenizer(models.BPE.from_file(*files))
    pattern = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, normalized=False) for text in ("</s>", "<pad>")])
    return tokenizer


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="JSON file to write")
    args = parser.parse_args()
    slow, rust = load_tokenizer(args.model), rust_tokenizer(args.model)
    cases = []
    for text in texts():
        ids = slow(text).input_ids
        decoded = slow.decode(ids, clean_up_tokenization_spaces=False)
        assert ids == [BOS_ID] + rust.encode(text).ids, text
        assert decoded == "</s>" + text, (decoded, text)
        cases.append({"text": text, "ids": ids, "decoded": decoded})
    lines = ",\n".join(json.dumps(case) for case in cases)
    args.out.write_text(f"[\n{lines}\n]\n", encoding="ascii")
    print(f"{len(cases)} cases")


if __name__ == "__main__":
    main()
