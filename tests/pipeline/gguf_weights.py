"""GGUF files, read from their description and not by sluice's code: metadata, tensors, and what
quantised blocks are worth, as a folder in Hugging Face's form.
"""

import array
import json
import struct

SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
F32, Q4_0, Q8_0, Q4_K, Q6_K = 0, 2, 8, 12, 14
THEIR_NAMES = {"attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj",
               "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
               "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm",
               "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
OUTSIDE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}


class Gguf:
    def __init__(self, path):
        self.data = path.read_bytes()
        self.at = 0
        magic, _, tensors, entries = self.take("<4sIQQ")
        assert magic == b"GGUF"
        self.metadata = {}
        for _ in range(entries):
            key = self.text()
            self.metadata[key] = self.value(self.take("<I")[0])
        infos = []
        for _ in range(tensors):
            name = self.text()
            extents = self.take(f"<{self.take('<I')[0]}Q")
            infos.append((name, extents[::-1], *self.take("<IQ")))
        begin = -(-self.at // 32) * 32
        self.tensors = {name: (shape, kind, begin + offset) for name, shape, kind, offset in infos}

    def take(self, form):
        values = struct.unpack_from(form, self.data, self.at)
        self.at += struct.calcsize(form)
        return values

    def text(self):
        length = self.take("<Q")[0]
        self.at += length
        return self.data[self.at - length:self.at].decode()

    def value(self, kind):
        if kind == 8:
            return self.text()
        if kind == 9:
            element, count = self.take("<IQ")
            return [self.value(element) for _ in range(count)]
        return self.take("<" + SCALARS[kind])[0]

    def values(self, name):
        """Row after row, as floats of 32 bits."""
        shape, kind, offset = self.tensors[name]
        count = 1
        for extent in shape:
            count *= extent
        if kind == F32:
            return array.array("f", self.data[offset:offset + 4 * count])
        widen, elements, size = {Q4_0: (widen_q4_0, 32, 18), Q8_0: (widen_q8_0, 32, 34),
                                 Q4_K: (widen_q4_k, 256, 144), Q6_K: (widen_q6_k, 256, 210)}[kind]
        result = array.array("f")
        for at in range(offset, offset + count // elements * size, size):
            result.extend(widen(self.data[at:at + size]))
        return result


def half(data, at):
    return struct.unpack_from("<e", data, at)[0]


def widen_q4_0(block):
    scale = half(block, 0)
    codes = [byte & 15 for byte in block[2:]] + [byte >> 4 for byte in block[2:]]
    return [scale * (code - 8) for code in codes]


def widen_q8_0(block):
    scale = half(block, 0)
    return [scale * code for code in struct.unpack_from("<32b", block, 2)]


def widen_q4_k(block):
    factor, minimum = half(block, 0), half(block, 2)
    packed = block[4:16]
    scales = [byte & 63 for byte in packed[:4]]
    scales += [packed[8 + i] & 15 | packed[i] >> 6 << 4 for i in range(4)]
    minima = [byte & 63 for byte in packed[4:8]]
    minima += [packed[8 + i] >> 4 | packed[4 + i] >> 6 << 4 for i in range(4)]
    codes = []
    for pair in range(4):
        bytes_of_pair = block[16 + 32 * pair:48 + 32 * pair]
        codes += [byte & 15 for byte in bytes_of_pair] + [byte >> 4 for byte in bytes_of_pair]
    return [factor * scales[i // 32] * code - minimum * minima[i // 32]
            for i, code in enumerate(codes)]


def widen_q6_k(block):
    scales, factor = struct.unpack_from("<16b", block, 192), half(block, 208)
    result = []
    for i in range(256):
        part, place = i // 128, i % 128
        low = block[64 * part + place % 64]
        low = low & 15 if place < 64 else low >> 4
        high = block[128 + 32 * part + place % 32] >> 2 * (place // 32) & 3
        result.append(factor * scales[i // 16] * ((low | high << 4) - 32))
    return result


def halves_of_pairs(values, columns, heads):
    """llama.cpp turns elements (2 i, 2 i + 1) of a head, Hugging Face (i, i + width / 2)."""
    rows = [values[at:at + columns] for at in range(0, len(values), columns)]
    width = len(rows) // heads
    result = array.array("f")
    for head in range(heads):
        for parity in (0, 1):
            for pair in range(width // 2):
                result.extend(rows[head * width + 2 * pair + parity])
    return result


def write_widened(path, folder):
    """The model of a GGUF file as config.json and model.safetensors in f32."""
    gguf = Gguf(path)
    kind = gguf.metadata["general.architecture"]
    key = {name.removeprefix(kind + "."): value for name, value in gguf.metadata.items()}
    heads, kv_heads = key["attention.head_count"], key["attention.head_count_kv"]
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({
        "model_type": kind, "num_hidden_layers": key["block_count"],
        "hidden_size": key["embedding_length"], "intermediate_size": key["feed_forward_length"],
        "num_attention_heads": heads, "num_key_value_heads": kv_heads,
        "vocab_size": len(gguf.metadata["tokenizer.ggml.tokens"]), "torch_dtype": "float32",
        "max_position_embeddings": key["context_length"], "rope_theta": key["rope.freq_base"],
        "rms_norm_eps": key["attention.layer_norm_rms_epsilon"], "tie_word_embeddings": True,
        "bos_token_id": 0, "eos_token_id": gguf.metadata["tokenizer.ggml.eos_token_id"]}))
    entries, data = {}, b""
    for name in gguf.tensors:
        stem, end = name.rsplit(".", 1)
        shape, values = gguf.tensors[name][0], gguf.values(name)
        part = stem.rsplit(".", 1)[-1]
        if kind == "llama" and part in ("attn_q", "attn_k"):
            values = halves_of_pairs(values, shape[1], heads if part == "attn_q" else kv_heads)
        if stem in OUTSIDE:
            theirs = OUTSIDE[stem]
        else:
            theirs = f"model.layers.{stem.split('.')[1]}.{THEIR_NAMES[part]}"
        more = values.tobytes()
        entries[f"{theirs}.{end}"] = {"dtype": "F32", "shape": list(shape),
                                      "data_offsets": [len(data), len(data) + len(more)]}
        data += more
    header = json.dumps(entries).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + data)
