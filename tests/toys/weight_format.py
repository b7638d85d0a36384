"""Two formats of weight files: one of a library, one of training checkpoints."""

import json

from scfs.config.weight_formats import FORMATS, NameMap, WeightFormat


def write(tensors, facts):
    named = {key: list(tensor.shape) for key, tensor in tensors.items()}
    return json.dumps({"shapes": named, "facts": facts}, sort_keys=True).encode()


NAMES = NameMap(
    {"resnet18": "toy-18", "toy_net": "toy-net"}, "top", rules=((r"conv1\.", "entry.convolution."), (r"", "body."))
)
FORMATS.add("toy")(WeightFormat((NAMES,), ending="json", file=write))
FORMATS.add("toy-checkpoint")(
    WeightFormat((NAMES,), exports=False, encoders=("teacher",), required=("teacher",), prefix="net.", classifier=False)
)
