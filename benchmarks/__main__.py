"""`python -m benchmarks [NAME ...]`: compare, print a table, keep the numbers, hold them to the floors."""

import argparse
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure import Measured, Spread, compare
from benchmarks.processor import processor
from benchmarks.registry import NAMES
from scfs.errors import ScfsError
from scfs.io.atomic import write_json
from scfs.io.progress import track
from scfs.io.results import git_revision
from scfs.runtime.cpu import keep_freed_memory
from scfs.runtime.device import resolve_device, resolve_precision

FLOORS = Path(__file__).parent / "floors.json"
HISTORY = Path("results/benchmarks")
MIB = 2**20


def main(arguments: list[str] | None = None) -> int:
    """Exit code: 1 if a floor of this processor is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; none: all")
    parser.add_argument("--short", action="store_true", help="smaller work, held to no floor")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda or auto; a GPU is held to no floor")
    parser.add_argument("--rounds", type=int, help="instead of each comparison's own number")
    chosen = parser.parse_args(arguments)
    try:
        return run(chosen.names, chosen.short, resolve_device(chosen.device), chosen.rounds)
    except ScfsError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2


SIDE = 224
"""Side in pixels of the crops of a training step, which the precision depends on."""


def run(names: list[str], short: bool, device: torch.device, rounds: int | None) -> int:
    """Compare, print, keep; returns the exit code.

    Raises:
        ScfsError: there is no such comparison, or fewer than one round.
    """
    if unknown := [name for name in names if name not in NAMES]:
        raise ScfsError(f"{unknown[0]}: no such comparison; allowed: {', '.join(NAMES)}")
    if rounds is not None and rounds < 1:
        raise ScfsError(f"--rounds {rounds}: must be at least 1")
    names = names or [name for name, benchmark in NAMES.items() if device.type in benchmark.devices]
    if (
        short
        and resolve_precision("auto", device, SIDE) == "fp32"
        and (slow := [n for n in names if "bf16" in NAMES[n].what])
    ):
        print(f"left out of the short form, as bf16 is emulated here, at many times its time: {', '.join(slow)}")
        names = [name for name in names if name not in slow]
    torch.set_num_threads(1)
    keep_freed_memory()  # both sides have the product's allocator
    machine = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    known = json.loads(FLOORS.read_text())
    floors = known.get(machine) if device.type == "cpu" and not short else None
    found = {}
    for name in track(names, "benchmarks", unit="comparison"):
        each = rounds or (3 if short else NAMES[name].rounds)
        found[name] = compare(NAMES[name].make(short, device), each, device)
    print(table(found))
    missed = misses(found, floors or {})
    if not short:
        _keep(found, missed, machine, device)
    how = f"{machine}, one thread, {'seconds by events' if device.type == 'cuda' else 'CPU time'}"
    if floors is None:
        why = "the short form" if short else "a GPU" if device.type == "cuda" else "a processor without floors"
        print(f"{how}: {why}: reported, held to nothing")
    elif missed:
        print(f"{how}: MISSED: {'; '.join(missed)}")
    else:
        print(f"{how}: all floors held")
    return bool(missed)


def table(found: dict[str, Measured]) -> str:
    """Markdown: a comparison per line."""
    lines = ["| what | ours | reference | ratio (least to most) | target | memory: ours, reference | ratio |"]
    lines.append("|---|---|---|---|---|---|---|")
    for name, measured in found.items():
        benchmark = NAMES[name]
        target = f"{benchmark.speed:g}" + ("" if benchmark.memory is None else f", memory {benchmark.memory:g}")
        ratio = "{:.2f} ({:.2f} to {:.2f})".format(*measured.ratio)
        peaks = f"{measured.ours_peak / MIB:.0f}, {measured.reference_peak / MIB:.0f} MiB"
        times = f"{_seconds(measured.ours)} | {_seconds(measured.reference)}"
        lines.append(f"| {benchmark.what} | {times} | {ratio} | {target} | {peaks} | {measured.memory:.2f} |")
    return "\n".join(lines)


def _seconds(spread: Spread) -> str:
    return f"{spread.middle:.3g} s" if spread.middle >= 1 else f"{spread.middle * 1000:.3g} ms"


def misses(found: dict[str, Measured], floors: dict[str, dict[str, float]]) -> list[str]:
    """Describe what falls short of the floors of this processor."""
    said = []
    for name, measured in found.items():
        floor = floors.get(name, {})
        if "speed" in floor and measured.ratio.middle < floor["speed"]:
            said.append(f"{name} {measured.ratio.middle:.2f} < {floor['speed']:g}")
        if "memory" in floor and measured.memory > floor["memory"]:
            said.append(f"{name} memory {measured.memory:.2f} > {floor['memory']:g}")
    return said


def _keep(found: dict[str, Measured], missed: list[str], machine: str, device: torch.device) -> None:
    """Add a file to the history: numbers, and where they come from."""
    now = datetime.now(UTC)
    rows: dict[str, Any] = {
        name: {
            "ours_seconds": measured.ours._asdict(),
            "reference_seconds": measured.reference._asdict(),
            "ratio": measured.ratio._asdict(),
            "ours_peak_bytes": measured.ours_peak,
            "reference_peak_bytes": measured.reference_peak,
        }
        for name, measured in found.items()
    }
    about = {"finished": now.isoformat(timespec="seconds"), "git": git_revision(), "torch": torch.__version__}
    record = {**about, "machine": machine, "device": device.type, "missed": missed, "found": rows}
    write_json(HISTORY / f"{now:%Y%m%dT%H%M%S}.json", record)


if __name__ == "__main__":
    sys.exit(main())
