"""Semantics-Consistent Feature Search (Song et al., ICCV 2023): pre-training and every evaluation of the paper."""

__version__ = "0.1.0"
