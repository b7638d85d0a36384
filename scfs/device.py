"""Device and precision: settings of the occasion, resolved here and recorded in the result."""

import torch

from scfs.errors import ScfsError


def resolve_device(name: str) -> torch.device:
    """ "auto" (the GPU if there is one), "cpu" or "cuda".

    Raises:
        ScfsError: cuda is asked for and not there, or the name is unknown.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise ScfsError(f"--device {name}: not among auto, cpu, cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise ScfsError("--device cuda: this machine has no CUDA device; allowed here: auto, cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def resolve_precision(name: str, device: torch.device) -> str:
    """ "auto" becomes bf16 where the hardware computes in it, else fp32."""
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if torch.cpu._is_avx512_bf16_supported() else "fp32"
