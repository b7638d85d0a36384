"""Loggers of a pre-training: each is one module that registers a class; plugins add theirs in the same way."""

from scfs.training.loggers import dvclive, tensorboard  # noqa: F401  # they register themselves
from scfs.training.loggers.registry import LOGGERS, Loggers

__all__ = ["LOGGERS", "Loggers"]
