"""Backbones, heads and the feature search."""
