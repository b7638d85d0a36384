"""Evaluations of a frozen encoder."""
