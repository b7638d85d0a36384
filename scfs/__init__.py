"""Semantics-Consistent Feature Search (Song et al., ICCV 2023): pre-training and every evaluation of the paper.

From Python: `scfs.load` and `scfs.embed`. Their modules, and torch with them, are imported at the first use.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scfs.evaluation.embedding import embed
    from scfs.evaluation.encoder import Encoder, load

__version__ = "0.1.0"
__all__ = ["Encoder", "embed", "load"]


def __getattr__(name: str) -> Any:
    if name == "embed":
        from scfs.evaluation import embedding

        return embedding.embed
    if name in ("Encoder", "load"):
        from scfs.evaluation import encoder

        return getattr(encoder, name)
    raise AttributeError(f"module 'scfs' has no attribute {name!r}")
