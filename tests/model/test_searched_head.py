"""The search head on searched features that are never made, against the head on those that are."""

import copy

import pytest
import torch
from torch import Tensor

from scfs.config.pretrain import SearchHead as Settings
from scfs.model.heads import SearchHead
from scfs.model.ops.convolution import conv2d
from scfs.model.search import searched_features, searched_outputs

B, N, C, SIDE = 3, 4, 12, 5


def inputs(dtype: torch.dtype) -> tuple[SearchHead, Tensor, Tensor]:
    """A head whose norms are not at their initial values, A and F."""
    torch.manual_seed(0)
    head = SearchHead(C, Settings(width=6, hidden=10, output=7)).to(dtype).to(memory_format=torch.channels_last)
    for norm in (head.bn1, head.bn2, head.bn3):
        norm.weight.data.uniform_(-1, 2)
        norm.bias.data.normal_()
    maps = torch.randn(B, C, SIDE, SIDE + 1, dtype=dtype).relu_().to(memory_format=torch.channels_last)
    return head, torch.rand(B, N, SIDE, SIDE + 1, dtype=dtype) * 2 - 1, maps


def both(head: SearchHead, attention: Tensor, maps: Tensor) -> list[tuple[Tensor, dict[str, Tensor]]]:
    """Outputs and state: of the features that are made, and of those that are not."""
    other = copy.deepcopy(head)
    made = head(searched_features(attention, maps))
    found = searched_outputs(other, attention, conv2d(maps, other.conv1), maps)
    return [(made, head.state_dict()), (found, other.state_dict())]


@torch.no_grad()
def test_outputs_and_running_statistics() -> None:
    (made, state), (found, other_state) = both(*inputs(torch.float64))
    assert found.shape == (N * B, 7)
    torch.testing.assert_close(found, made, rtol=1e-9, atol=1e-11)
    for name, value in state.items():
        torch.testing.assert_close(other_state[name], value, rtol=1e-9, atol=1e-11)
    assert state["bn1.num_batches_tracked"] == 1


@torch.no_grad()
def test_the_maps_are_left_as_they_are() -> None:
    head, attention, maps = inputs(torch.float64)
    first = conv2d(maps, head.conv1)
    before = [value.clone() for value in (attention, first, maps)]
    searched_outputs(head, attention, first, maps)
    assert all(torch.equal(*pair) for pair in zip(before, (attention, first, maps), strict=True))


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_keeps_statistics_precise(dtype: torch.dtype) -> None:
    head, attention, maps = inputs(torch.float32)
    with torch.autocast("cpu", dtype):
        (made, state), (found, other_state) = both(head, attention, maps.to(dtype))
    assert state["bn1.running_var"].dtype == other_state["bn1.running_var"].dtype == torch.float32
    torch.testing.assert_close(other_state["bn1.running_var"], state["bn1.running_var"], rtol=0.02, atol=0.02)
    cosines = torch.nn.functional.cosine_similarity(made.float(), found.float(), dim=1)
    assert cosines.min() > 0.99
