"""The two base classes of transformers that exported code stands on, as far as it uses them.

`from_pretrained` is stricter than the original: names must match exactly, and what is not in the
file is lost, as it is where models are made on the meta device (transformers 5).
"""

import json
import math
import os

import torch


class PretrainedConfig:
    def __init__(self, **kwargs):
        for name, value in kwargs.items():
            setattr(self, name, value)

    @classmethod
    def from_pretrained(cls, folder):
        with open(os.path.join(folder, "config.json")) as file:
            return cls(**json.load(file))


def read_safetensors(path):
    dtypes = {"F32": torch.float32, "F16": torch.float16, "I64": torch.int64}
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        data = bytearray(file.read())
    if header.pop("__metadata__", {}).get("format") != "pt":
        raise OSError("the file does not say that its tensors are those of torch")
    tensors = {}
    for name, it in header.items():
        begin, _ = it["data_offsets"]
        count = math.prod(it["shape"])
        flat = torch.frombuffer(data, dtype=dtypes[it["dtype"]], offset=begin, count=count)
        tensors[name] = flat.reshape(it["shape"])
    return tensors


class PreTrainedModel(torch.nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.complete = False

    def post_init(self):
        self.complete = True

    @classmethod
    def from_pretrained(cls, folder):
        model = cls(cls.config_class.from_pretrained(folder))
        if not model.complete:
            raise RuntimeError("the model's __init__ does not end with post_init()")
        for tensor in [*model.parameters(), *model.buffers()]:
            tensor.data.fill_(math.nan)
        model.load_state_dict(read_safetensors(os.path.join(folder, "model.safetensors")))
        return model.eval()
