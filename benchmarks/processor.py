"""The kind of a processor: speed ratios that were measured on one kind say little about another."""

import platform
from pathlib import Path

FEATURES = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "sve", "bf16")
"""Instruction sets that torch's CPU kernels choose by."""


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Maker and instruction sets of the first core, such as `AuthenticAMD avx2 avx512f avx512_bf16`."""
    try:
        lines = cpuinfo.read_text(errors="replace").split("\n\n")[0].splitlines()
    except OSError:
        return platform.machine()
    said = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    flags = said.get("flags", said.get("Features", "")).split()
    maker = said.get("vendor_id", platform.machine())
    return " ".join([maker, *(feature for feature in FEATURES if feature in flags)])
