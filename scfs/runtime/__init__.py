"""Processes and the machine: ranks, collectives, devices, signals, random numbers."""
