"""Projection heads: DINO's for the data loss, and the paper's for one searched layer. Names are the authors'."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scfs.config.pretrain import ProjectionHead as ProjectionSettings
from scfs.config.pretrain import SearchHead as SearchSettings


class Prototypes(nn.Module):
    """Weight-normalised linear layer whose rows have length one: weight_g is fixed at 1, only weight_v learns."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight_v = nn.Parameter(nn.Linear(inputs, outputs, bias=False).weight.detach())
        self.weight_g = nn.Parameter(torch.ones(outputs, 1), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, inputs) to logits (n, outputs)."""
        return F.linear(x, torch._weight_norm(self.weight_v, self.weight_g, 0))


class ProjectionHead(nn.Module):
    """Three-layer MLP, L2 normalisation, prototypes: the paper's "four-layer MLP" (Sec. 3.4; Caron et al., 2021)."""

    def __init__(self, inputs: int, settings: ProjectionSettings) -> None:
        super().__init__()
        widths = [inputs, settings.hidden, settings.hidden, settings.bottleneck]
        layers: list[nn.Module] = []
        for index, (fan_in, fan_out) in enumerate(pairwise(widths)):
            linear = nn.Linear(fan_in, fan_out)
            nn.init.trunc_normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)
            layers.append(linear)
            if index < len(widths) - 2:
                layers += [nn.BatchNorm1d(fan_out)] if settings.batch_norm else []
                layers.append(nn.GELU())
        self.mlp = nn.Sequential(*layers)
        self.last_layer = Prototypes(settings.bottleneck, settings.prototypes)

    def forward(self, features: Tensor) -> Tensor:
        """Map pooled features (n, C) to logits (n, K)."""
        return self.last_layer(F.normalize(self.mlp(features), dim=-1))


class SearchHead(nn.Module):
    """H_i of Eq. 8: a bottleneck of three convolutions with a residual, pooling, two fully connected layers."""

    def __init__(self, channels: int, settings: SearchSettings) -> None:
        super().__init__()
        width = settings.width
        self.conv1 = nn.Conv2d(channels, width, kernel_size=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, kernel_size=3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, channels, kernel_size=1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        self.mlp = nn.Sequential(
            nn.Linear(channels, settings.hidden),
            nn.BatchNorm1d(settings.hidden),
            nn.ReLU(inplace=True),
            nn.Linear(settings.hidden, settings.output),
            nn.BatchNorm1d(settings.output),
        )

    def forward(self, feature_map: Tensor) -> Tensor:
        """Map a layer's maps (n, C, H, W) to unit vectors (n, D)."""
        x = F.relu(self.bn1(self.conv1(feature_map)))
        x = F.relu(self.bn2(self.conv2(x)))
        x = F.relu(self.bn3(self.conv3(x)) + feature_map)
        return F.normalize(self.mlp(x.mean((2, 3))), dim=-1)
