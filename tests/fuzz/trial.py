"""One input in a process of its own, with limits of time and memory, and what came of it."""

import os
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

SECONDS = 120
"""Of the processor's, and three times as many of a busy machine's."""
GROWTH = 2 * 2**30
"""Bytes beyond what the process has at its start."""
SENTINEL = "executed"
"""File that an input which is executed makes in the trial's folder."""
WRITTEN = {"prepare": "data/mine/manifest.parquet", "import-weights": "out.safetensors", "export": "out.safetensors"}
"""What each command must not leave behind when it has refused its input."""

Commands = list[list[str] | Callable[[], object]]
Kind = Callable[[Random, Path], Commands]
"""Fills the working folder with a changed input, given the folder of sound ones; returns what takes it: words after
`scfs`, or a function where no command leads to the code."""


@dataclass(frozen=True)
class Outcome:
    """What became of one input."""

    verdict: str
    """accepted, clean (refused in one line), or a fault: traceback, hang, crash, memory, executed, half written, wordy."""
    said: str
    """Everything that the commands wrote."""


SOUND = ("accepted", "clean")


def attempt(kind: Kind, seed: int, sound: Path, folder: Path) -> Outcome:
    """Make an input and give it to its commands, one after another until one refuses it.

    Args:
        kind: what kind of input.
        seed: of the change; the same seed makes the same input.
        sound: folder of sound inputs.
        folder: made and left as the commands left it; the caller removes it.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    said = folder.with_suffix(".log")
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    process = os.fork()
    if not process:
        _run(kind, seed, sound, folder, said)
    status, peak = _wait(process)
    text = said.read_text(errors="replace")
    said.unlink()
    return Outcome(_verdict(status, peak - grown, text, folder), text)


def _run(kind: Kind, seed: int, sound: Path, folder: Path, said: Path) -> None:
    """The forked process: never returns."""
    code = 1
    try:
        os.setsid()
        with said.open("wb") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 5))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + 2 * GROWTH, size + 2 * GROWTH))
        os.chdir(folder)
        code = _commands(kind(Random(seed), sound))
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _commands(commands: Commands) -> int:
    from scfs.cli import main
    from scfs.errors import ScfsError

    for command in commands:
        print("$", command.__name__ if callable(command) else " ".join(command), flush=True)
        try:
            if callable(command):
                command()
            else:
                sys.argv = ["scfs", *command]
                main()
        except ScfsError as error:
            print(f"scfs: {error}", file=sys.stderr)
            return 1
        except SystemExit as ended:
            if ended.code not in (None, 0):
                return ended.code if isinstance(ended.code, int) else 1
    return 0


def _wait(process: int) -> tuple[int | None, int]:
    """Exit status (None: it had to be killed) and the most memory, in bytes."""
    end = time.monotonic() + 3 * SECONDS
    while time.monotonic() < end:
        found, status, used = os.wait4(process, os.WNOHANG)
        if found:
            return status, used.ru_maxrss * 1024
        time.sleep(0.005)
    os.killpg(process, signal.SIGKILL)
    _, _, used = os.wait4(process, 0)
    return None, used.ru_maxrss * 1024


def _verdict(status: int | None, growth: int, said: str, folder: Path) -> str:
    if (folder / SENTINEL).exists():
        return "executed"
    if status is None or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU):
        return "hang"
    if growth > GROWTH:
        return "memory"
    if os.WIFSIGNALED(status):
        return "crash"
    if "Traceback (most recent call last)" in said:
        return "traceback"
    if status == 0:
        return "accepted"
    lines = said.splitlines()
    problems = [number for number, line in enumerate(lines) if line.startswith("scfs: ")]
    refused = [line.split()[1] for line in lines if line.startswith("$ ")][-1]
    if any(folder.rglob("*.tmp")) or (refused in WRITTEN and (folder / WRITTEN[refused]).exists()):
        return "half written"
    if refused == "data":  # `data verify`, whose report of what is changed ends with 1
        return "accepted"
    return "clean" if problems == [len(lines) - 1] and len(lines[-1]) <= 2000 else "wordy"
