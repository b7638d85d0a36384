"""Plugins of a laboratory that does not touch scfs: one module for each sort of thing that may be added."""
