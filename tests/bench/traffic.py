"""Bytes that 4-bit weights move, beside those of fp16: quant4_traffic. See README.md here.

    python3 tests/bench/traffic.py --build DIR [--layers N]

Needs nothing but Python. The same made-up prompts through a checkpoint of OPT-125M's shape, all
weights in host memory and then all on disk: bytes host to device and bytes read from disk, as the
run's report has them. 0.30 allows for what is not packed: scales, vectors, positions.
"""
import argparse
import json
import math
import os
import pathlib
import struct
import subprocess
import sys
import tempfile

HIDDEN, FFN, HEADS, VOCABULARY, POSITIONS = 768, 3072, 12, 50272, 2048
GOAL = 0.30
PLACES = {"host": ("host_to_device", ["0", "100"]), "disk": ("disk_read", ["0", "0"])}
# Of an fp16 number's upper byte: sign, and exponents that make values of 2^-9 to 2^-4.
UPPER = bytes((0x18 + (byte & 0x17)) | (byte & 0x80) for byte in range(256))


def tensors(layers):
    """name -> shape."""
    shapes = {"embed_tokens.weight": (VOCABULARY, HIDDEN),
              "embed_positions.weight": (POSITIONS + 2, HIDDEN),
              "final_layer_norm.weight": (HIDDEN,), "final_layer_norm.bias": (HIDDEN,)}
    for layer in range(layers):
        for name, rows, columns in (("self_attn.q_proj", HIDDEN, HIDDEN),
                                    ("self_attn.k_proj", HIDDEN, HIDDEN),
                                    ("self_attn.v_proj", HIDDEN, HIDDEN),
                                    ("self_attn.out_proj", HIDDEN, HIDDEN),
                                    ("fc1", FFN, HIDDEN), ("fc2", HIDDEN, FFN)):
            shapes[f"layers.{layer}.{name}.weight"] = (rows, columns)
            shapes[f"layers.{layer}.{name}.bias"] = (rows,)
        for name in ("self_attn_layer_norm", "final_layer_norm"):
            shapes[f"layers.{layer}.{name}.weight"] = (HIDDEN,)
            shapes[f"layers.{layer}.{name}.bias"] = (HIDDEN,)
    return shapes


def write_checkpoint(folder, layers):
    """Random fp16 values in OPT's shapes."""
    (folder / "config.json").write_text(json.dumps({
        "model_type": "opt", "architectures": ["OPTForCausalLM"], "torch_dtype": "float16",
        "activation_function": "relu", "do_layer_norm_before": True, "num_hidden_layers": layers,
        "hidden_size": HIDDEN, "ffn_dim": FFN, "num_attention_heads": HEADS,
        "vocab_size": VOCABULARY, "max_position_embeddings": POSITIONS,
        "word_embed_proj_dim": HIDDEN, "bos_token_id": 2, "eos_token_id": 2, "pad_token_id": 1}))
    header, offset = {}, 0
    shapes = tensors(layers)
    for name, shape in shapes.items():
        end = offset + 2 * math.prod(shape)
        header[f"model.decoder.{name}"] = {"dtype": "F16", "shape": shape,
                                           "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for shape in shapes.values():
            values = bytearray(os.urandom(2 * math.prod(shape)))
            values[1::2] = values[1::2].translate(UPPER)
            file.write(values)


def moved(options, folder, place, flags):
    """Bytes per pass, over what `place` is bound by."""
    activity, weights = PLACES[place]
    report = folder / "report.json"
    command = [str(options.sluice or options.build / "sluice"), "generate", "--device", "cpu", "--model", str(folder), "--prompt-len",
               "8", "--gen-len", str(options.passes), "--num-prompts", "2", "--gpu-batch-size", "2", "--percent",
               *weights, "100", "0", "100", "0", "--packed-dir", str(folder / "packed"),
               "--offload-dir", str(folder), "--report", str(report), "--quiet", *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"traffic: {' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    stage = json.loads(report.read_text())["stages"][0]
    # What is read ahead belongs to no phase: all of the run is counted, and passes enough to make
    # what is read in vain at its end small.
    total = sum(stage[phase]["activities"][activity]["bytes"] for phase in ("load", "run"))
    return total / stage["run"]["passes"]


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path,
                        default=pathlib.Path(__file__).resolve().parents[2] / "build")
    parser.add_argument("--sluice", type=pathlib.Path, help="the program; else that in --build")
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--passes", type=int, default=24)
    options = parser.parse_args()
    rows = {}
    with tempfile.TemporaryDirectory(prefix="sluice-traffic-") as name:
        folder = pathlib.Path(name)
        write_checkpoint(folder, options.layers)
        for place in PLACES:
            fp16 = moved(options, folder, place, [])
            packed = moved(options, folder, place, ["--compress-weight", "4bit"])
            rows[place] = (fp16, packed)
            print(f"weights on {place:5s} {fp16 / 1e6:10.2f} MB a pass in fp16 "
                  f"{packed / 1e6:10.2f} MB in 4 bits: {packed / fp16:.4f} of them")
    worst = max(rows, key=lambda place: rows[place][1] / rows[place][0])
    fp16, packed = rows[worst]
    print(json.dumps({"name": "quant4_traffic", "value": packed, "unit": "bytes/pass",
                      "limit": GOAL * fp16, "ratio": round(GOAL * fp16 / packed, 4),
                      "weights_on": worst, "command": " ".join(sys.argv)}))


if __name__ == "__main__":
    main()
