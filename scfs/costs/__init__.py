"""Costs of a study: images per second, hours and disk, estimated before anything runs."""
