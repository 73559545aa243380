#!/usr/bin/env python3
"""Lists every tensor of the checkpoints beside it into tensors.txt: the independent reading that
checkpoint_test.cc compares with. Needs PyTorch; reads safetensors by itself.

Line: folder, file, name, dtype, CRC-32 of its bytes, shape."""
import json, pathlib, struct, zlib
import torch

folder = pathlib.Path(__file__).parent
dtypes = {"F16": torch.float16, "F32": torch.float32, "BF16": torch.bfloat16}


def safetensors(path):
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    for name, entry in json.loads(data[8:8 + length]).items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        raw = bytearray(data[8 + length + begin:8 + length + end])
        yield name, torch.frombuffer(raw, dtype=dtypes[entry["dtype"]]).reshape(entry["shape"])


def readers():
    for path in sorted(folder.glob("*/*")):
        if path.suffix == ".safetensors":
            yield path, safetensors(path)
        elif path.suffix == ".bin":
            yield path, torch.load(path, map_location="cpu").items()


with open(folder / "tensors.txt", "w") as out:
    for path, tensors in readers():
        for name, tensor in sorted(tensors, key=lambda item: item[0]):
            raw = tensor.contiguous().view(torch.uint8).numpy().tobytes()
            print(path.parent.name, path.name, name, str(tensor.dtype).removeprefix("torch."),
                  f"{zlib.crc32(raw):08x}", *tensor.shape, file=out)
