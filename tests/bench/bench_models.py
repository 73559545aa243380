"""Models with random weights, for both sides of a benchmark; what peers need of a Llama is in
bench_llama.py."""
import json
import pathlib
import struct
import subprocess

import numpy as np

from bench_shapes import POSITIONS, SHAPES, VOCABULARY, is_llama, write_config


def tensors_of(shape):
    """(name, shape, scale) of every tensor; scale None: a norm's ones."""
    return llama_tensors(shape) if is_llama(shape) else opt_tensors(shape)


def opt_tensors(shape):
    hidden, ffn = shape["hidden"], shape["ffn"]
    yield "model.decoder.embed_tokens.weight", (VOCABULARY, hidden), 0.02
    yield "model.decoder.embed_positions.weight", (POSITIONS + 2, hidden), 0.02
    for layer in range(shape["layers"]):
        prefix = f"model.decoder.layers.{layer}."
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield f"{prefix}self_attn.{name}.weight", (hidden, hidden), 0.02
            yield f"{prefix}self_attn.{name}.bias", (hidden,), 0.01
        for name in ("self_attn_layer_norm", "final_layer_norm"):
            yield f"{prefix}{name}.weight", (hidden,), None
            yield f"{prefix}{name}.bias", (hidden,), 0.01
        yield f"{prefix}fc1.weight", (ffn, hidden), 0.02
        yield f"{prefix}fc1.bias", (ffn,), 0.01
        yield f"{prefix}fc2.weight", (hidden, ffn), 0.02
        yield f"{prefix}fc2.bias", (hidden,), 0.01
    yield "model.decoder.final_layer_norm.weight", (hidden,), None
    yield "model.decoder.final_layer_norm.bias", (hidden,), 0.01


def llama_tensors(shape):
    hidden, ffn = shape["hidden"], shape["ffn"]
    shared = hidden // shape["heads"] * shape["kv_heads"]
    yield "model.embed_tokens.weight", (shape["vocabulary"], hidden), 0.02
    for layer in range(shape["layers"]):
        prefix = f"model.layers.{layer}."
        yield f"{prefix}input_layernorm.weight", (hidden,), None
        for name, rows in (("q", hidden), ("k", shared), ("v", shared), ("o", hidden)):
            yield f"{prefix}self_attn.{name}_proj.weight", (rows, hidden), 0.02
        yield f"{prefix}post_attention_layernorm.weight", (hidden,), None
        yield f"{prefix}mlp.gate_proj.weight", (ffn, hidden), 0.02
        yield f"{prefix}mlp.up_proj.weight", (ffn, hidden), 0.02
        yield f"{prefix}mlp.down_proj.weight", (hidden, ffn), 0.02
    yield "model.norm.weight", (hidden,), None
    yield "lm_head.weight", (shape["vocabulary"], hidden), 0.02


def weight_count(shape) -> int:
    """Elements a decode step reads: all but tables of which it reads a row per sequence."""
    tables = ("model.embed_tokens.weight", "model.decoder.embed_positions.weight")
    return sum(int(np.prod(dims)) for name, dims, _ in tensors_of(shape) if name not in tables)


def values(index, shape, scale, dtype):
    if scale is None:
        return np.ones(shape, dtype)
    random = np.random.default_rng(index)
    return (random.standard_normal(shape, np.float32) * scale).astype(np.float16).astype(dtype)


def make_checkpoint(folder: pathlib.Path, shape, storage: str) -> None:
    """A Hugging Face folder: config.json and one safetensors file of `storage` f16 or f32."""
    if (folder / "done").exists():
        return
    write_config(folder, shape, "float16" if storage == "f16" else "float32")
    dtype = np.float16 if storage == "f16" else np.float32
    header, offset = {}, 0
    for name, dims, _ in tensors_of(shape):
        size = int(np.prod(dims)) * np.dtype(dtype).itemsize
        header[name] = {"dtype": "F16" if storage == "f16" else "F32", "shape": list(dims),
                        "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)))
        file.write(text)
        for index, (_, dims, scale) in enumerate(tensors_of(shape)):
            file.write(values(index, dims, scale, dtype).tobytes())
    (folder / "done").touch()


def make_ctranslate2(folder: pathlib.Path, shape) -> None:
    """The same weights as a CTranslate2 model, float32 (what its OPT converter makes of them)."""
    if (folder / "model.bin").exists():
        return
    from ctranslate2.converters import utils
    from ctranslate2.specs import TransformerDecoderModelSpec, common_spec

    weights = {name: values(index, dims, scale, np.float32)
               for index, (name, dims, scale) in enumerate(tensors_of(shape))}
    spec = TransformerDecoderModelSpec.from_config(
        shape["layers"], shape["heads"], pre_norm=True, activation=common_spec.Activation.RELU)

    def linear(target, name):
        target.weight = weights[name + ".weight"]
        target.bias = weights[name + ".bias"]

    def norm(target, name):
        target.gamma = weights[name + ".weight"]
        target.beta = weights[name + ".bias"]

    decoder = spec.decoder
    decoder.scale_embeddings = False
    decoder.embeddings.weight = weights["model.decoder.embed_tokens.weight"]
    decoder.position_encodings.encodings = weights["model.decoder.embed_positions.weight"][2:]
    norm(decoder.layer_norm, "model.decoder.final_layer_norm")
    decoder.projection.weight = weights["model.decoder.embed_tokens.weight"]
    for layer, target in enumerate(decoder.layer):
        prefix = f"model.decoder.layers.{layer}."
        parts = [common_spec.LinearSpec() for _ in range(3)]
        for part, name in zip(parts, ("q_proj", "k_proj", "v_proj")):
            linear(part, f"{prefix}self_attn.{name}")
        utils.fuse_linear(target.self_attention.linear[0], parts)
        linear(target.self_attention.linear[1], f"{prefix}self_attn.out_proj")
        norm(target.self_attention.layer_norm, f"{prefix}self_attn_layer_norm")
        linear(target.ffn.linear_0, f"{prefix}fc1")
        linear(target.ffn.linear_1, f"{prefix}fc2")
        norm(target.ffn.layer_norm, f"{prefix}final_layer_norm")
    spec.register_vocabulary([f"t{i}" for i in range(VOCABULARY)])
    spec.config.bos_token = spec.config.eos_token = spec.config.unk_token = "t2"
    spec.validate()
    spec.optimize(quantization="float32")
    folder.mkdir(parents=True, exist_ok=True)
    spec.save(str(folder))


def make_gguf(path: pathlib.Path, shape, quantize: pathlib.Path, write) -> None:
    """`path` ends in -f16.gguf, which `write` makes, or in -q4_0.gguf, -q8_0.gguf, which
    llama-quantize makes of that."""
    if path.exists():
        return
    name, kind = path.stem.rsplit("-", 1)
    part = path.with_suffix(".part")
    if kind == "f16":
        path.parent.mkdir(parents=True, exist_ok=True)
        write(part, shape)
    else:
        f16 = path.with_name(f"{name}-f16.gguf")
        make_gguf(f16, shape, quantize, write)
        subprocess.run([quantize, "--pure", f16, part, kind.upper()], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    part.rename(path)


def gguf_writer(path: pathlib.Path, shape, architecture, vocabulary, add_vocabulary=None):
    """With what every architecture says of itself."""
    import gguf

    writer = gguf.GGUFWriter(str(path), architecture)
    writer.add_block_count(shape["layers"])
    writer.add_context_length(POSITIONS)
    writer.add_embedding_length(shape["hidden"])
    writer.add_feed_forward_length(shape["ffn"])
    writer.add_head_count(shape["heads"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_vocab_size(vocabulary)
    if add_vocabulary is None:
        writer.add_tokenizer_model("no_vocab")
    else:
        add_vocabulary(writer, vocabulary)
    return writer


def end_gguf(writer) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_gguf(path: pathlib.Path, shape) -> None:
    """The same weights as a GPT-2 of llama.cpp, which knows no OPT."""
    writer = gguf_writer(path, shape, "gpt2", VOCABULARY)
    writer.add_layer_norm_eps(1e-5)
    names = {"self_attn.out_proj": "attn_output", "self_attn_layer_norm": "attn_norm",
             "final_layer_norm": "ffn_norm", "fc1": "ffn_up", "fc2": "ffn_down"}
    fused = {}
    for index, (name, dims, scale) in enumerate(tensors_of(shape)):
        is_matrix = len(dims) > 1 and "embed_positions" not in name
        tensor = values(index, dims, scale, np.float16 if is_matrix else np.float32)
        parts = name.removeprefix("model.decoder.").split(".")
        if parts[0] == "embed_tokens":
            writer.add_tensor("token_embd.weight", tensor)
        elif parts[0] == "embed_positions":
            writer.add_tensor("position_embd.weight", tensor[2:])
        elif parts[0] == "final_layer_norm":
            writer.add_tensor(f"output_norm.{parts[1]}", tensor)
        elif parts[-2] in ("q_proj", "k_proj", "v_proj"):
            key = f"blk.{parts[1]}.attn_qkv.{parts[-1]}"
            fused.setdefault(key, {})[parts[-2][0]] = tensor
            if len(fused[key]) == 3:
                writer.add_tensor(key, np.concatenate([fused[key][part] for part in "qkv"]))
                del fused[key]
        else:
            target = names[".".join(parts[2:-1])]
            writer.add_tensor(f"blk.{parts[1]}.{target}.{parts[-1]}", tensor)
    end_gguf(writer)
