"""Backbones by name: ResNets and vision transformers."""
