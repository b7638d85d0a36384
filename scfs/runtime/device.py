"""Device and precision of an execution: resolved here, recorded in the result."""

import os

import torch

from scfs.errors import ScfsError


def resolve_device(name: str) -> torch.device:
    """Return the device that "auto" (the GPU if there is one), "cpu" or "cuda" names.

    Raises:
        ScfsError: cuda is asked for and not there, or the name is unknown.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise ScfsError(f"--device {name}: not among auto, cpu, cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise ScfsError("--device cuda: this machine has no CUDA device; allowed here: auto, cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


SMALLEST_BF16_CROP = 17
"""Smallest crop in pixels that is trained in bf16 on a CPU. A crop of 16 pixels or fewer has a layer3 map of 1 x 1, on
which the weight gradient of layer4's first convolution (3 x 3, stride 2) is wrong in bf16: it contains uninitialised
memory (PyTorch 2.14.1, oneDNN)."""


def resolve_precision(name: str, device: torch.device, smallest_crop: int) -> str:
    """Return the precision to train in: "auto" is bf16 where the hardware has it and computes it correctly, else fp32.

    Args:
        name: "auto", "fp32", "bf16" or "fp16".
        device: where the forward pass runs.
        smallest_crop: side of the smallest crop in pixels.

    Raises:
        ScfsError: bf16 is asked for where it gives wrong gradients.
    """
    broken = device.type == "cpu" and smallest_crop < SMALLEST_BF16_CROP
    if name == "bf16" and broken:
        raise ScfsError(
            f"precision = bf16 with crops of {smallest_crop} pixels: on the CPU PyTorch computes wrong gradients below"
            f" {SMALLEST_BF16_CROP} pixels; allowed: fp32, or larger crops"
        )
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if torch.cpu.get_capabilities().get("avx512_bf16", False) and not broken else "fp32"


def device_memory(device: torch.device) -> int:
    """Return the bytes of a GPU's memory, or of the machine's for the CPU."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def autocast_device_type(x: torch.Tensor) -> str:
    """Return the device type whose autocast applies to a tensor; the meta device of `scfs plan` counts as a CPU."""
    return "cpu" if x.is_meta else x.device.type
