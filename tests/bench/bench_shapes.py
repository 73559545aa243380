"""Shapes of OPT and Llama, as folders that hold nothing but a config.json, and what OPT's weigh."""
import json

SHAPES = {
    "125m": dict(layers=12, hidden=768, heads=12, ffn=3072, prompt=128),
    "350m-pre": dict(layers=24, hidden=1024, heads=16, ffn=4096, prompt=128),
    "1.3b": dict(layers=24, hidden=2048, heads=32, ffn=8192, prompt=64),
    "6.7b": dict(layers=32, hidden=4096, heads=32, ffn=16384),
    "30b": dict(layers=48, hidden=7168, heads=56, ffn=28672),
    "tiny": dict(layers=4, hidden=128, heads=4, ffn=512),
    # `alone`: the length of a prompt that is alone in its batch.
    "llama-1.1b": dict(family="llama", layers=22, hidden=2048, heads=32, kv_heads=4, ffn=5632,
                       vocabulary=32000, prompt=16, alone=512),
    "llama-160m": dict(family="llama", layers=12, hidden=768, heads=12, kv_heads=4, ffn=2048,
                       vocabulary=32000, prompt=64, alone=512),
    "llama-tiny": dict(family="llama", layers=3, hidden=128, heads=4, kv_heads=2, ffn=352,
                       vocabulary=512, prompt=16, alone=64),
}
VOCABULARY = 50272
POSITIONS = 2048
RMS_EPSILON = 1e-5
ROTARY_BASE = 10000.0


def is_llama(shape) -> bool:
    return shape.get("family") == "llama"


def vocabulary(shape) -> int:
    return shape.get("vocabulary", VOCABULARY)


def prompt_length(shape, batch) -> int:
    return shape.get("alone", shape["prompt"]) if batch == 1 else shape["prompt"]


def write_config(folder, shape, dtype="float16"):
    """The folder, with a config.json of these shapes."""
    folder.mkdir(parents=True, exist_ok=True)
    config = llama_config(shape, dtype) if is_llama(shape) else opt_config(shape, dtype)
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    return folder


def opt_config(shape, dtype):
    return dict(model_type="opt", architectures=["OPTForCausalLM"], activation_function="relu",
                num_hidden_layers=shape["layers"], hidden_size=shape["hidden"],
                num_attention_heads=shape["heads"], ffn_dim=shape["ffn"], vocab_size=VOCABULARY,
                max_position_embeddings=POSITIONS, word_embed_proj_dim=shape["hidden"],
                do_layer_norm_before=True, bos_token_id=2, eos_token_id=2, pad_token_id=1,
                torch_dtype=dtype)


def llama_config(shape, dtype):
    return dict(model_type="llama", architectures=["LlamaForCausalLM"], hidden_act="silu",
                num_hidden_layers=shape["layers"], hidden_size=shape["hidden"],
                num_attention_heads=shape["heads"], num_key_value_heads=shape["kv_heads"],
                head_dim=shape["hidden"] // shape["heads"], intermediate_size=shape["ffn"],
                vocab_size=shape["vocabulary"], max_position_embeddings=POSITIONS,
                rms_norm_eps=RMS_EPSILON, rope_theta=ROTARY_BASE, rope_scaling=None,
                attention_bias=False, mlp_bias=False, tie_word_embeddings=False,
                bos_token_id=1, eos_token_id=2, torch_dtype=dtype)


def layer_elements(shape) -> int:
    """Of a decoder layer's matrices; its vectors are less than a thousandth."""
    return 4 * shape["hidden"] ** 2 + 2 * shape["hidden"] * shape["ffn"]


def head_elements(shape) -> int:
    return VOCABULARY * shape["hidden"]
