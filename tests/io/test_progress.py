"""Progress lines, also within one long item, without a thread that outlives the loop, and whatever the disk does; bars."""

import gc
import os
import pty
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from scfs.io import progress

FULL = Path("/dev/full")


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    gc.collect()  # loops that other tests' tracebacks have held
    monkeypatch.setattr(progress, "_log_files", [])
    monkeypatch.setattr(progress, "_prefix", "")
    monkeypatch.setattr(progress, "PLAIN_LINE_SECONDS", 0.01)


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was logged."""
    logged: list[str] = []
    monkeypatch.setattr(progress, "log", logged.append)
    return logged


def wait_for(lines: list[str], beginning: str) -> None:
    ends = time.monotonic() + 10
    while not any(line.startswith(beginning) for line in lines):
        assert time.monotonic() < ends, lines
        time.sleep(0.002)


def timers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "progress"]


def test_a_long_item_is_not_silent(lines: list[str]) -> None:
    for item in progress.track([10, 20, 30], "work", "items"):
        wait_for(lines, f"work: {item // 10 - 1}/3 items, ")
    assert not timers()


def test_a_long_wait_for_an_item_is_not_silent(lines: list[str]) -> None:
    def slow() -> Iterator[int]:
        wait_for(lines, "work: 0 it, ")
        yield 1

    assert list(progress.track(slow(), "work")) == [1]


def test_no_thread_outlives_a_loop_that_is_left_or_fails(lines: list[str]) -> None:
    stream = progress.track([1, 2], "work")
    next(iter(stream))
    assert timers()
    stream.close()  # type: ignore[attr-defined]
    assert not timers()

    def failing() -> Iterator[int]:
        yield 1
        raise ValueError

    with pytest.raises(ValueError):
        list(progress.track(failing(), "work"))
    assert not timers()


def test_a_short_loop_says_nothing(lines: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PLAIN_LINE_SECONDS", 10)
    assert list(progress.track([1, 2], "work")) == [1, 2]
    assert not lines


def test_a_full_disk_under_the_log_file_does_not_hide_the_message(capsys: pytest.CaptureFixture[str]) -> None:
    progress.copy_log(FULL)
    progress.log("one")
    progress.log("two")
    assert capsys.readouterr().err == "[full] one\n[full] two\n"


def test_what_an_earlier_execution_did_counts_in_the_total_and_not_in_the_speed(
    lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, *[10.0] * 1000])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    work = progress.track(range(4), "work", "step", total=100, first=96, note=lambda: "loss 2")
    next(work), next(work)
    ends = time.perf_counter() + 10
    while lines[-1:] != ["work: 97/100 step, 10.0 s/step, loss 2, 0:00:30 left"]:
        assert time.perf_counter() < ends, lines
        time.sleep(0.002)
    work.close()  # type: ignore[attr-defined]


ON_A_TERMINAL = """
import time
from scfs.io import progress
progress.BAR_SECONDS = 0.01
for _ in progress.track(range(2), "outer", "step", total=9, first=7):
    for _ in progress.track(range(2), "inner", "images"):
        time.sleep(0.05)
        progress.log("a [bold]line[/bold] " + "x" * 200)
progress.log("end")
"""


def test_on_a_terminal_there_are_bars_and_lines_stay_whole() -> None:
    process, terminal = pty.fork()
    if not process:
        os.execve(sys.executable, [sys.executable, "-c", ON_A_TERMINAL], os.environ | {"TERM": "xterm"})
    seen = b""
    with suppress(OSError):  # at its end
        while part := os.read(terminal, 4096):
            seen += part
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
    text = seen.decode()
    assert "7/9 step, 0.0 step/s" in text and "1/2 images" in text and " left" in text
    assert text.count("a [bold]line[/bold] " + "x" * 200) == 4  # rich neither reads marks in it nor cuts it
    assert text.rstrip().endswith("end")
