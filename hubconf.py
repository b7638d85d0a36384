"""What `torch.hub.load(REPOSITORY, "encoder", weights=...)` finds."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scfs.evaluation.encoder import Encoder

dependencies = ["torch", "torchvision", "numpy", "PIL", "pydantic", "yaml", "safetensors", "pyarrow", "simplejpeg"]


def encoder(weights: str, **options: Any) -> "Encoder":
    """Load a pre-trained encoder; see `scfs.load` for the arguments."""
    import scfs

    return scfs.load(weights, **options)
