"""A backbone of three convolutions, and a pre-training method without heads."""

from torch import nn

from scfs.config.backbones import BackboneSpec
from scfs.config.methods import MethodSpec
from scfs.model.backbones.base import Network
from scfs.model.backbones.registry import add_backbone
from scfs.model.methods import Method, add_method


@add_backbone("toy_net", BackboneSpec(strides=(4, 8, 8)))
class ToyNet(Network):
    def __init__(self):
        super().__init__()
        self.channels = {"layer2": 4, "layer3": 6, "layer4": 8}
        self.layers = nn.ModuleList([nn.Conv2d(3, 4, 4, 4), nn.Conv2d(4, 6, 2, 2), nn.Conv2d(6, 8, 1)])

    def forward(self, images):
        maps, x = {}, images
        for name, layer in zip(self.channels, self.layers):
            x = maps[name] = layer(x).relu()
        return maps


@add_method("toy_method", MethodSpec())
class ToyMethod(Method):
    def __init__(self, backbone, settings, classes):
        super().__init__(nn.ModuleDict({"backbone": backbone}), 10)

    def forward(self, crops, teacher_temperature):
        maps = (side["backbone"](crops.global_crops) for side in (self.student, self.teacher))
        ours, theirs = (part["layer4"].mean((2, 3)) for part in maps)
        loss = (ours - theirs.detach().roll(len(ours) // 2, 0)).square().mean()
        return {"loss": loss, "loss_data": loss}
