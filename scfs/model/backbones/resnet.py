"""ResNets in torchvision's parameter names that return their layer maps instead of class scores."""

from typing import cast

import torch
from torch import Tensor, nn

from scfs.config.backbones import BACKBONES, ResNetSpec
from scfs.model.backbones.base import Network
from scfs.model.ops.activation_checkpointing import checkpointed
from scfs.model.ops.convolution import conv1x1_with_residual, conv2d
from scfs.model.ops.relu import add_relu_, relu_

# The blocks are written out here, as `import torchvision` imports torch's compiler, seconds for each process.


def _convolution(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)


class BasicBlock(nn.Module):
    """Two convolutions beside a shortcut (He et al. 2016), in torchvision's names."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int, downsample: nn.Sequential | None) -> None:
        super().__init__()
        self.conv1, self.bn1 = _convolution(inputs, width, 3, stride), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = _convolution(width, width, 3), nn.BatchNorm2d(width)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, C, H, W) to (n, C', H / stride, W / stride)."""
        out = relu_(self.bn1(conv2d(x, self.conv1)))
        return _joined(self, x, self.bn2(conv2d(out, self.conv2)))


class Bottleneck(nn.Module):
    """Three convolutions beside a shortcut, in torchvision's names; as there, the second has the stride."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int, downsample: nn.Sequential | None) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.conv1, self.bn1 = _convolution(inputs, width, 1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = _convolution(width, width, 3, stride), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = _convolution(width, outputs, 1), nn.BatchNorm2d(outputs)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, C, H, W) to (n, C', H / stride, W / stride)."""
        x, out = conv1x1_with_residual(x, self.conv1)
        out = relu_(self.bn1(out))
        out = relu_(self.bn2(conv2d(out, self.conv2)))
        return _joined(self, x, self.bn3(conv2d(out, self.conv3)))


def _layer(block: type[BasicBlock | Bottleneck], inputs: int, width: int, depth: int, stride: int) -> nn.Sequential:
    """Build a layer of blocks, of which the first has the stride, and a convolution in its shortcut if needed."""
    outputs, downsample = width * block.expansion, None
    if stride != 1 or inputs != outputs:
        downsample = nn.Sequential(_convolution(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))
    first = block(inputs, width, stride, downsample)
    return nn.Sequential(first, *(block(outputs, width, 1, None) for _ in range(1, depth)))


def _joined(block: BasicBlock | Bottleneck, x: Tensor, out: Tensor) -> Tensor:
    """Add the shortcut of `x` to the branch `out`, and apply ReLU."""
    if block.downsample is not None:
        convolution, norm = block.downsample.children()
        x = norm(conv2d(x, cast(nn.Conv2d, convolution)))
    return add_relu_(out, x)


def block_of(spec: ResNetSpec) -> type[BasicBlock | Bottleneck]:
    """Return the class of a ResNet's blocks."""
    return Bottleneck if spec.bottleneck else BasicBlock


LAYERS = ("layer1", "layer2", "layer3", "layer4")
LARGE = LAYERS[:2]
"""Checkpointed layers: with the stem they have two thirds of the maps kept for backward for a third of the products."""


class Backbone(Network):
    """torchvision's ResNet without its classifier.

    The paper's Res2, Res3, Res4 are `layer2`, `layer3`, `layer4` (strides 8, 16, 32; with a small stem 2, 4, 8).
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        spec = BACKBONES[name]
        assert isinstance(spec, ResNetSpec)
        block, width = block_of(spec), spec.width
        self.conv1 = _convolution(3, width, 3) if spec.small_stem else _convolution(3, width, 7, stride=2)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.Identity() if spec.small_stem else nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        inputs = width
        for index, (layer, depth) in enumerate(zip(LAYERS, spec.blocks, strict=True)):
            setattr(self, layer, _layer(block, inputs, width * 2**index, depth, stride=1 if index == 0 else 2))
            inputs = width * 2**index * block.expansion
        self.name = name
        self.channels = {layer: width * 2**index * block.expansion for index, layer in enumerate(LAYERS)}
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Map images (B, 3, H, W) to the maps of all four layers, each (B, C_i, H_i, W_i)."""
        maps: dict[str, Tensor] = {}
        again = self.activation_checkpointing and torch.is_grad_enabled()
        x = checkpointed(self._stem, images, self.bn1) if again else self._stem(images)
        for layer in LAYERS:
            for block in getattr(self, layer):
                x = checkpointed(block, x, block) if again and layer in LARGE else block(x)
            maps[layer] = x
        return maps

    def _stem(self, images: Tensor) -> Tensor:
        x: Tensor = self.maxpool(relu_(self.bn1(self.conv1(images))))
        return x


def pooled(feature_map: Tensor) -> Tensor:
    """Pool maps (B, C, H, W) to their means (B, C), summed in float32 at least (Eq. 5)."""
    return feature_map.mean((2, 3), dtype=torch.promote_types(feature_map.dtype, torch.float32))
