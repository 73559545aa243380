"""A Llama with random weights (bench_models.py) as its peers want it."""
import pathlib

import numpy as np

import bench_models
from bench_shapes import RMS_EPSILON, ROTARY_BASE, vocabulary


def weights_of(shape):
    """{name: function of a dtype that makes the tensor}: they need not all be in memory at once."""
    return {name: lambda dtype, index=index, dims=dims, scale=scale:
            bench_models.values(index, dims, scale, dtype)
            for index, (name, dims, scale) in enumerate(bench_models.tensors_of(shape))}


def make_ctranslate2(folder: pathlib.Path, shape) -> None:
    """The same weights as a CTranslate2 model, float32 (what its Llama converter makes of them)."""
    if (folder / "model.bin").exists():
        return
    from ctranslate2.converters import utils
    from ctranslate2.specs import TransformerDecoderModelSpec, common_spec

    weights = weights_of(shape)
    spec = TransformerDecoderModelSpec.from_config(
        shape["layers"], shape["heads"], pre_norm=True, activation=common_spec.Activation.SWISH,
        ffn_glu=True, rms_norm=True, rotary_dim=0, rotary_interleave=False,
        rotary_base=ROTARY_BASE, num_heads_kv=shape["kv_heads"])

    def tensor(name):
        return weights[name + ".weight"](np.float32)

    decoder = spec.decoder
    decoder.scale_embeddings = False
    decoder.embeddings.weight = tensor("model.embed_tokens")
    decoder.layer_norm.gamma = tensor("model.norm")
    decoder.projection.weight = tensor("lm_head")
    for layer, target in enumerate(decoder.layer):
        prefix = f"model.layers.{layer}."
        parts = [common_spec.LinearSpec() for _ in range(3)]
        for part, name in zip(parts, "qkv"):
            part.weight = tensor(f"{prefix}self_attn.{name}_proj")
        utils.fuse_linear(target.self_attention.linear[0], parts)
        target.self_attention.linear[1].weight = tensor(f"{prefix}self_attn.o_proj")
        target.self_attention.layer_norm.gamma = tensor(f"{prefix}input_layernorm")
        target.ffn.linear_0.weight = tensor(f"{prefix}mlp.gate_proj")
        target.ffn.linear_0_noact.weight = tensor(f"{prefix}mlp.up_proj")
        target.ffn.linear_1.weight = tensor(f"{prefix}mlp.down_proj")
        target.ffn.layer_norm.gamma = tensor(f"{prefix}post_attention_layernorm")
    spec.register_vocabulary([f"t{i}" for i in range(vocabulary(shape))])
    spec.config.bos_token = spec.config.eos_token = spec.config.unk_token = "t2"
    spec.config.layer_norm_epsilon = RMS_EPSILON
    spec.validate()
    spec.optimize(quantization="float32")
    folder.mkdir(parents=True, exist_ok=True)
    spec.save(str(folder))


def halves_to_pairs(rows, heads):
    """Hugging Face rotates (i, i + width / 2) of a head, llama.cpp (2 i, 2 i + 1)."""
    halves = rows.reshape(heads, 2, rows.shape[0] // heads // 2, rows.shape[1])
    return halves.swapaxes(1, 2).reshape(rows.shape)


def write_gguf(path: pathlib.Path, shape, add_vocabulary=None) -> None:
    """The same weights as a Llama of llama.cpp. add_vocabulary: adds tokens of texts, which the weights need not."""
    width = shape["hidden"] // shape["heads"]
    writer = bench_models.gguf_writer(path, shape, "llama", vocabulary(shape), add_vocabulary)
    writer.add_head_count_kv(shape["kv_heads"])
    writer.add_rope_dimension_count(width)
    writer.add_rope_freq_base(ROTARY_BASE)
    writer.add_layer_norm_rms_eps(RMS_EPSILON)
    names = {"input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q",
             "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
             "self_attn.o_proj": "attn_output", "post_attention_layernorm": "ffn_norm",
             "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}
    outside = {"model.embed_tokens": "token_embd", "model.norm": "output_norm",
               "lm_head": "output"}
    rotated = {"self_attn.q_proj": shape["heads"], "self_attn.k_proj": shape["kv_heads"]}
    for name, make in weights_of(shape).items():
        name = name.removesuffix(".weight")
        tensor = make(np.float32 if name.endswith("norm") else np.float16)
        if name in outside:
            writer.add_tensor(f"{outside[name]}.weight", tensor)
            continue
        layer, part = name.removeprefix("model.layers.").split(".", 1)
        if part in rotated:
            tensor = halves_to_pairs(tensor, rotated[part])
        writer.add_tensor(f"blk.{layer}.{names[part]}.weight", tensor)
    bench_models.end_gguf(writer)
