"""Loggers of a pre-training: each is one module that registers a class; plugins add theirs in the same way."""

from scfs.training.loggers import chosen, dvclive, tensorboard  # noqa: F401  # they register themselves
from scfs.training.loggers.registry import CHOSEN, LOGGERS, Loggers

__all__ = ["CHOSEN", "LOGGERS", "Loggers"]
