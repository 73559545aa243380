#!/usr/bin/env python3
"""Writes the small PyTorch files beside it: what torch.save makes of the cases that the reference
checkpoints do not have. Needs PyTorch (1.13 was used)."""
import collections, pathlib
import torch

folder = pathlib.Path(__file__).parent
ramp = torch.arange(12, dtype=torch.float32).reshape(3, 4)


def save(name, value, **options):
    torch.save(value, folder / name, **options)


class Net(torch.nn.Module):  # its state dict is an OrderedDict with _metadata
    def __init__(self):
        super().__init__()
        self.fc1 = torch.nn.Linear(4, 3)
        self.fc1.weight.data.copy_(ramp)
        self.fc1.bias.data.copy_(torch.tensor([0.5, -1.0, 2.0]))


save("module.bin", Net().state_dict())
save("dtypes.bin", collections.OrderedDict([
    ("decoder.layers.0.fc1.weight", ramp.to(torch.bfloat16)),
    ("decoder.layers.0.fc2.weight", ramp.to(torch.float16)),
    ("decoder.layers.0.fc1.bias", ramp[1]),  # shares no storage: save clones nothing, offset 4
    ("decoder.version", torch.tensor([3], dtype=torch.int64)),
]))
save("parameter.bin", {"decoder.layers.0.fc1.weight": torch.nn.Parameter(ramp)})
save("transposed.bin", {"decoder.layers.0.fc1.weight": ramp.t()})
save("integers.bin", {"decoder.layers.0.fc1.weight": ramp.to(torch.int64)})
save("legacy.bin", {"decoder.layers.0.fc1.weight": ramp}, _use_new_zipfile_serialization=False)
save("module-object.bin", {"decoder.layers.0.fc1.weight": torch.nn.ReLU()})
