"""Projection heads: DINO's for the data loss, and the paper's for one searched layer. Names are the authors'."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scfs.config.pretrain import ProjectionHead as ProjectionSettings
from scfs.config.pretrain import SearchHead as SearchSettings
from scfs.model.ops.batch_norm import folded_batch_norm
from scfs.model.ops.convolution import conv1x1_with_residual, conv2d
from scfs.model.ops.relu import add_relu_, relu_
from scfs.model.prototype_loss import row_norms


class Prototypes(nn.Module):
    """Weight-normalised linear layer whose rows have length one: weight_g is fixed at 1, only weight_v learns."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight_v = nn.Parameter(nn.Linear(inputs, outputs, bias=False).weight.detach())
        self.weight_g = nn.Parameter(torch.ones(outputs, 1), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, inputs) to logits (n, outputs)."""
        # Scaling the products needs no normalised copy of the weight.
        return F.linear(x, self.weight_v) * (self.weight_g.squeeze(1) / row_norms(self.weight_v))


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
        logits: Tensor = self.last_layer(self.embeddings(features))
        return logits

    def embeddings(self, features: Tensor) -> Tensor:
        """Map pooled features (n, C) to the unit vectors (n, bottleneck) that the prototypes are compared with."""
        return F.normalize(self.mlp(features), dim=-1)


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
        feature_map, first = conv1x1_with_residual(feature_map, self.conv1)
        return self.after_first(first, feature_map)

    def after_first(self, first: Tensor, feature_map: Tensor) -> Tensor:
        """`forward` from the first convolution's maps (n, width, H, W) on."""
        x = self._branch(relu_(self.bn1(first)))
        return self._unit_vectors(add_relu_(x, feature_map))

    def searched(self, attention: Tensor, first: Tensor, feature_map: Tensor) -> Tensor:
        """`forward` of the searched features A . F (Eq. 7), which are never made: without gradient.

        A scales all channels of a position alike, so that the first convolution of A . F is A times that of F, which is
        there already; and the sums of A and of its square over the crops give its batch statistics.

        Args:
            attention: A, (B, N, H, W).
            first: the first convolution's maps of F, (B, width, H, W).
            feature_map: F, (B, C, H, W).

        Returns:
            (N*B, D), crop-major.
        """
        A = attention.transpose(0, 1).unsqueeze(-1).to(first.dtype)  # N, B, H, W, 1: channels last throughout
        scale, shift = (part.to(first.dtype) for part in folded_batch_norm(self.bn1, attention, first))
        x = relu_(torch.addcmul(shift, A, first.permute(0, 2, 3, 1) * scale))
        x = self._branch(x.flatten(0, 1).permute(0, 3, 1, 2))
        x.unflatten(0, A.shape[:2]).permute(0, 1, 3, 4, 2).addcmul_(A.to(x.dtype), feature_map.permute(0, 2, 3, 1))
        return self._unit_vectors(relu_(x))

    def _branch(self, x: Tensor) -> Tensor:
        """From the first rectified maps to what the residual is added to."""
        x = relu_(self.bn2(conv2d(x, self.conv2)))
        branch: Tensor = self.bn3(conv2d(x, self.conv3))
        return branch

    def _unit_vectors(self, x: Tensor) -> Tensor:
        """Pool rectified maps (n, C, H, W), and the fully connected layers: (n, D)."""
        return F.normalize(self.mlp(_means(x)), dim=-1)


def _means(maps: Tensor) -> Tensor:
    """Means over the positions of maps (n, C, H, W), (n, C), in their precision."""
    if maps.device.type != "cpu":
        return maps.mean((2, 3))
    return maps.sum((2, 3)) / maps[0, 0].numel()  # PyTorch's mean of a bf16 map makes a float32 copy of it first
