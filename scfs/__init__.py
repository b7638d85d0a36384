"""Semantics-Consistent Feature Search (Song et al., ICCV 2023): pre-training and every evaluation of the paper.

From Python: `scfs.load`, `scfs.embed` and `scfs.evaluate`. Their modules, and torch, are imported at the first use.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scfs.evaluation.embedding import embed
    from scfs.evaluation.encoder import Encoder, load
    from scfs.evaluation.own_labels import evaluate

__version__ = "0.1.0"
__all__ = ["Encoder", "embed", "evaluate", "load"]


def __getattr__(name: str) -> Any:
    if name == "embed":
        from scfs.evaluation import embedding

        return embedding.embed
    if name == "evaluate":
        from scfs.evaluation import own_labels

        return own_labels.evaluate
    if name in ("Encoder", "load"):
        from scfs.evaluation import encoder

        return getattr(encoder, name)
    raise AttributeError(f"module 'scfs' has no attribute {name!r}")
