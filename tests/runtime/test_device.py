"""Device and precision, and the hole in bf16 that precision has to go around."""

import pytest
import torch

from scfs.errors import ScfsError
from scfs.model.backbones.resnet import Backbone
from scfs.runtime.device import SMALLEST_BF16_CROP, resolve_device, resolve_precision

CPU = torch.device("cpu")


def test_bf16_is_refused_for_crops_whose_gradients_would_be_wrong() -> None:
    assert resolve_precision("auto", CPU, SMALLEST_BF16_CROP - 1) == "fp32"
    assert resolve_precision("bf16", CPU, SMALLEST_BF16_CROP) == "bf16"
    with pytest.raises(ScfsError, match="precision = bf16 with crops of 16 pixels"):
        resolve_precision("bf16", CPU, 16)


@pytest.mark.parametrize("size", [SMALLEST_BF16_CROP, 24, 32, 48])
def test_bf16_gradients_do_not_depend_on_what_was_in_memory(size: int) -> None:
    """Freed memory full of NaN: a kernel that reads what it has not written shows it."""
    torch.manual_seed(0)
    backbone = Backbone("narrow_resnet18").to(memory_format=torch.channels_last)
    images = torch.randn(6, 3, size, size).contiguous(memory_format=torch.channels_last)

    def gradients() -> list[torch.Tensor]:
        for elements in (1_000, 5_000, 20_000, 80_000, 300_000, 1_000_000):
            torch.full((elements,), float("nan"))
        with torch.autocast("cpu", torch.bfloat16):
            loss = backbone(images)["layer4"].float().square().mean()
        return list(torch.autograd.grad(loss, list(backbone.parameters())))

    first = gradients()
    for _ in range(4):
        for (name, _), one, other in zip(backbone.named_parameters(), first, gradients(), strict=True):
            assert torch.isfinite(one).all() and torch.equal(one, other), name


def test_a_device_that_is_not_there_is_one_line() -> None:
    with pytest.raises(ScfsError, match="--device tpu: not among auto, cpu, cuda"):
        resolve_device("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(ScfsError, match="this machine has no CUDA device"):
            resolve_device("cuda")
