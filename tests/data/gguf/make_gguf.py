#!/usr/bin/env python3
"""Writes the GGUF files of this folder, as llama.cpp's own converter writes them, and the small ones that
fuzzing begins with (tests/fuzz/corpus/gguf).

    tests/data/gguf/make_gguf.py

Needs the Python packages gguf (0.19) and numpy. See README.md beside it for what each file is.
"""
import json
import math
import pathlib
import struct

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

HERE = pathlib.Path(__file__).resolve().parent
DATA = HERE.parent
NAMES = {"input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
         "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
         "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
         "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate",
         "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}
OUTSIDE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def read_safetensors(folder):
    tensors = {}
    for path in sorted(folder.glob("*.safetensors")):
        raw = path.read_bytes()
        length = struct.unpack("<Q", raw[:8])[0]
        for name, entry in json.loads(raw[8:8 + length]).items():
            if name == "__metadata__":
                continue
            begin, end = (8 + length + offset for offset in entry["data_offsets"])
            if entry["dtype"] == "BF16":
                values = (np.frombuffer(raw[begin:end], np.uint16).astype(np.uint32) << 16).view(np.float32)
            else:
                values = np.frombuffer(raw[begin:end], {"F32": np.float32, "F16": np.float16}[entry["dtype"]])
            tensors[name] = values.astype(np.float32).reshape(entry["shape"])
    return tensors


def their_name(name):
    stem, end = name.rsplit(".", 1)
    if stem in OUTSIDE:
        return f"{OUTSIDE[stem]}.{end}"
    _, _, layer, part = stem.split(".", 3)
    return f"blk.{layer}.{NAMES[part]}.{end}"


def halves_to_pairs(rows, heads):
    """Hugging Face turns elements (i, i + width / 2) of a head, llama.cpp (2 i, 2 i + 1)."""
    halves = rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(rows.shape))


def llama3_factors(config, width):
    scaling = config["rope_scaling"]
    trained, factor = scaling["original_max_position_embeddings"], scaling["factor"]
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    for i in range(0, width, 2):
        wave = 2 * math.pi * config["rope_theta"] ** (i / width)
        if wave < trained / high:
            yield 1.0
        elif wave > trained / low:
            yield factor
        else:
            smooth = (trained / wave - low) / (high - low)
            yield 1 / ((1 - smooth) / factor + smooth)


def add_metadata(writer, config):
    heads = config["num_attention_heads"]
    width = config.get("head_dim") or config["hidden_size"] // heads
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.get("num_key_value_heads") or heads)
    writer.add_key_length(width)
    writer.add_value_length(width)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(float(config.get("rope_theta", 10000.0)))
    if config["model_type"] == "llama":
        writer.add_vocab_size(config["vocab_size"])
        writer.add_rope_dimension_count(width)
    scaling = config.get("rope_scaling") or {}
    if scaling.get("type") == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(scaling["factor"])
    return heads, config.get("num_key_value_heads") or heads, width


def byte_alphabet():
    """GPT-2's: a printable character for each byte."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    table = {byte: chr(byte) for byte in printable}
    return table | {byte: chr(256 + i) for i, byte in enumerate(others)}


def add_vocabulary(writer, pattern, size, eos):
    """Bytes, pairs of letters by rank, and three tokens that no text merges to."""
    alphabet = byte_alphabet()
    tokens = [alphabet[byte] for byte in range(256)]
    letters = "etaoinshrdluc"
    pairs = [a + b for a in letters for b in letters][:size - 256 - 3]
    types = [gguf.TokenType.NORMAL] * (256 + len(pairs)) + [gguf.TokenType.CONTROL] * 2
    types.append(gguf.TokenType.USER_DEFINED)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pattern)
    writer.add_token_list(tokens + pairs + ["<|begin|>", "<|end|>", "<|tool|>"])
    writer.add_token_types(types)
    writer.add_token_merges([" ".join(pair) for pair in pairs])
    writer.add_bos_token_id(size - 3)
    writer.add_eos_token_id(eos)
    writer.add_add_bos_token(pattern == "llama-bpe")
    writer.add_chat_template("{% for m in messages %}<|begin|>{{ m.role }}: {{ m.content }}<|end|>"
                             "{% endfor %}{% if add_generation_prompt %}<|begin|>assistant:{% endif %}")


def write_reference(folder, name, dtype, pattern):
    """A reference checkpoint in one dense storage; vectors are F32, as llama.cpp has them."""
    source = DATA / "families" / folder
    config = json.loads((source / "config.json").read_text())
    writer = gguf.GGUFWriter(HERE / name, config["model_type"])
    heads, kv_heads, width = add_metadata(writer, config)
    add_vocabulary(writer, pattern, config["vocab_size"], config["eos_token_id"])
    for key, values in read_safetensors(source).items():
        if key == "lm_head.weight" and config.get("tie_word_embeddings"):
            continue
        if config["model_type"] == "llama" and (".q_proj." in key or ".k_proj." in key):
            values = halves_to_pairs(values, heads if ".q_proj." in key else kv_heads)
        stored = Type.F32 if values.ndim == 1 else dtype
        writer.add_tensor(their_name(key), gguf.quants.quantize(values, stored), raw_dtype=stored)
    if (config.get("rope_scaling") or {}).get("rope_type") == "llama3":
        writer.add_tensor("rope_freqs.weight", np.array([*llama3_factors(config, width)], np.float32))
    end(writer)


def end(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def halves(values):
    return np.asarray(values, np.float16).view(np.uint8)


def random_blocks(rng, stored, count, deviation):
    """Blocks whose every bit is random, but for factors that give the values this deviation."""
    def random(width):
        return rng.integers(0, 256, (count, width), np.uint8)

    def factors(usual):
        return halves(usual * rng.uniform(0.8, 1.2, count)).reshape(count, 2)

    if stored == Type.Q4_0:
        return np.hstack([factors(deviation / 4.6), random(16)])
    if stored == Type.Q8_0:
        return np.hstack([factors(deviation / 74), random(32)])
    if stored == Type.Q4_K:
        scale = deviation / 220
        return np.hstack([factors(scale), factors(7.5 * scale), random(12), random(128)])
    assert stored == Type.Q6_K
    return np.hstack([random(128), random(64), random(16), factors(deviation / 1370)])


def write_quantised(name, architecture, pattern, kinds, seed):
    """One random layer, each matrix in another storage. Rows of query and key are llama.cpp's."""
    rng = np.random.default_rng(seed)
    config = {"model_type": architecture, "num_hidden_layers": 1, "max_position_embeddings": 256,
              "hidden_size": 256, "intermediate_size": 256, "num_attention_heads": 4,
              "num_key_value_heads": 1, "rms_norm_eps": 1e-5, "vocab_size": 272}
    writer = gguf.GGUFWriter(HERE / name, architecture)
    add_metadata(writer, config)
    add_vocabulary(writer, pattern, config["vocab_size"], config["vocab_size"] - 2)
    rows = {"token_embd": 272, "blk.0.attn_q": 256, "blk.0.attn_k": 64, "blk.0.attn_v": 64,
            "blk.0.attn_output": 256, "blk.0.ffn_gate": 256, "blk.0.ffn_up": 256, "blk.0.ffn_down": 256}
    for (tensor, count), stored in zip(rows.items(), kinds):
        elements, block_bytes = gguf.GGML_QUANT_SIZES[stored]
        deviation = 1.0 if tensor == "token_embd" else 10.0 / 16
        blocks = random_blocks(rng, stored, count * 256 // elements, deviation)
        writer.add_tensor(f"{tensor}.weight", blocks.reshape(count, 256 // elements * block_bytes),
                          raw_dtype=stored)
    for tensor in ("blk.0.attn_norm", "blk.0.ffn_norm", "output_norm"):
        writer.add_tensor(f"{tensor}.weight", rng.uniform(0.5, 1.5, 256).astype(np.float32))
    if architecture == "qwen2":
        for tensor, count in (("attn_q", 256), ("attn_k", 64), ("attn_v", 64)):
            writer.add_tensor(f"blk.0.{tensor}.bias", rng.normal(0, 0.3, count).astype(np.float32))
    end(writer)


def write_tokenizer(folder, pattern):
    """A vocabulary without a model, from a tokenizer.json."""
    source = json.loads((DATA / "tokenizers" / folder / "tokenizer.json").read_text())
    model, added = source["model"], {token["id"]: token for token in source["added_tokens"]}
    tokens = {id: token for token, id in model["vocab"].items()} | {
        id: token["content"] for id, token in added.items()}
    writer = gguf.GGUFWriter(HERE / f"{folder}.gguf", "llama")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pattern)
    writer.add_token_list([tokens[id] for id in range(len(tokens))])
    kinds = gguf.TokenType
    writer.add_token_types([
        (kinds.CONTROL if added[id]["special"] else kinds.USER_DEFINED) if id in added else kinds.NORMAL
        for id in range(len(tokens))])
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge)
                             for merge in model["merges"]])
    first = next((id for id, token in added.items() if "begin" in token["content"]), None)
    if first is not None:
        writer.add_bos_token_id(first)
    writer.add_eos_token_id(len(tokens) - 1)
    writer.add_add_bos_token(first is not None)
    end(writer)


def write_seed(name, model, pattern, tokens, types, **more):
    """A small vocabulary, a few values of other types, and one tensor in each storage of blocks."""
    writer = gguf.GGUFWriter(DATA.parent / "fuzz" / "corpus" / "gguf" / name, "llama")
    writer.add_tokenizer_model(model)
    writer.add_tokenizer_pre(pattern)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    if "merges" in more:
        writer.add_token_merges(more["merges"])
    if "scores" in more:
        writer.add_token_scores(more["scores"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_rope_freq_base(10000.0)
    rng = np.random.default_rng(3)
    for stored in (Type.Q4_0, Type.Q8_0, Type.Q4_K, Type.Q6_K):
        writer.add_tensor(f"w.{stored.name}", random_blocks(rng, stored, 1, 0.05), raw_dtype=stored)
    end(writer)


def write_blocks():
    """Blocks of each storage, and what the gguf package widens them to: bits of f32."""
    rng = np.random.default_rng(7)
    lines = []
    for stored in (Type.Q4_0, Type.Q8_0, Type.Q4_K, Type.Q6_K):
        blocks = random_blocks(rng, stored, 3, 0.05)
        values = gguf.quants.dequantize(blocks, stored).astype(np.float32)
        lines.append(f"{stored.name} {blocks.tobytes().hex()} {values.tobytes().hex()}\n")
    (HERE / "blocks.txt").write_text("".join(lines))


write_reference("llama3-like", "llama3-like-bf16.gguf", Type.BF16, "llama-bpe")
write_reference("llama-biases", "llama-biases-f32.gguf", Type.F32, "gpt-2")
write_reference("qwen2", "qwen2-f16.gguf", Type.F16, "qwen2")
write_reference("qwen3", "qwen3-bf16.gguf", Type.BF16, "qwen2")
K4, K6, Z4, Z8 = Type.Q4_K, Type.Q6_K, Type.Q4_0, Type.Q8_0
write_quantised("llama-quantised.gguf", "llama", "llama-bpe", [K6, K4, Z8, K6, Z4, K4, Z8, K6], 11)
write_quantised("qwen2-quantised.gguf", "qwen2", "qwen2", [Z8, Z4, K4, K4, K6, Z8, K4, Z4], 12)
write_tokenizer("llama3-style", "llama-bpe")
write_tokenizer("qwen2-style", "qwen2")
write_tokenizer("gpt2-style", "gpt-2")
write_tokenizer("starcoder-style", "starcoder")
write_tokenizer("o200k-style", "gpt-4o")
write_blocks()
KINDS = gguf.TokenType
ENDS, END_KINDS = ["<s>", "</s>"], [KINDS.CONTROL] * 2
for pattern in ("gpt-2", "llama-bpe", "qwen2", "smollm"):
    write_seed(f"{pattern}.gguf", "gpt2", pattern, [*ENDS, *"abIt1\u0120\u010a", "ab", "\u0120a", "<e>", "[PAD]"],
               [*END_KINDS, *[KINDS.NORMAL] * 9, KINDS.USER_DEFINED, KINDS.UNUSED], merges=["a b", "\u0120 a"])
write_seed("pieces.gguf", "llama", "default", [*ENDS, "<unk>", "<0x41>", *"abthe\u2581", "th", "the", "\u2581the"],
           [*END_KINDS, KINDS.UNKNOWN, KINDS.BYTE, *[KINDS.NORMAL] * 9],
           scores=[0.0] * 4 + [-9.0] * 6 + [-1.0, -2.0, -3.0])
