"""What all tests share: the finished demo study, and the time that each marker took."""

import os
import subprocess
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import warm
import yaml
from repository import command_environment, copy_repository, git

SLOW_MARKERS = ("demo", "slurm", "container", "end_to_end", "detectron2")
"""What takes longest comes first, so that both processes of `pytest -n 2` end at the same time."""
SHARED = {"demo": "demo", "cluster": "slurm", "image": "container"}
"""Fixtures that take minutes, each with the marker of the tests that use it."""
TOGETHER = ("tests/slurm", "tests/containers")
"""Folders whose files share such a fixture."""

WHOLE_DEMO = bool(os.environ.get("SCFS_WHOLE_DEMO"))
"""Run the demo as it is (`make demo-test`), not with what SHORT has less of."""
SHORT = {
    "pretrain": {"epochs": 2},
    "evaluate": {
        "linear": {"epochs": 4},
        "linear-cached": {"epochs": 20},
        "coco-1x": {"small_machine": {"iterations": 100}},
        "voc": {"small_machine": {"iterations": 20}},
    },
}

seconds: Counter[str] = Counter()


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """A clean repository in which the study `demo` has run, as `make demo` runs it, but shorter unless WHOLE_DEMO.

    With SCFS_DEMO_DIR it stays in that folder, and a later session takes it from there with what it needs again.
    """
    kept = os.environ.get("SCFS_DEMO_DIR")
    folder = Path(kept).resolve() if kept else tmp_path_factory.mktemp("demo")
    if not (folder / "Snakefile").exists():
        copy_repository(folder)
        if not WHOLE_DEMO:
            file = folder / "params.yaml"
            file.write_text(yaml.safe_dump(replaced(yaml.safe_load(file.read_text()), SHORT), sort_keys=False))
            git(folder, "commit", "--quiet", "--no-verify", "--all", "--message", "a shorter demo")
    is_short = yaml.safe_load((folder / "params.yaml").read_text())["pretrain"]["epochs"] == SHORT["pretrain"]["epochs"]
    assert is_short != WHOLE_DEMO, f"SCFS_DEMO_DIR: {folder} has the {'short' if is_short else 'whole'} demo"
    terminal = request.config.pluginmanager.getplugin("capturemanager")
    with terminal.global_and_fixture_disabled():  # minutes: progress has to be seen
        print("\nrunning the demo study", flush=True)
        command = ["snakemake", "--cores", "2", "--quiet", "host", "rules"]
        subprocess.run(command, cwd=folder, env=command_environment(folder, warm=not WHOLE_DEMO), check=True)
    return folder


def replaced(values: dict[str, Any], others: dict[str, Any]) -> dict[str, Any]:
    """Give some values of a tree others."""
    new = {key: replaced(values[key], other) if isinstance(other, dict) else other for key, other in others.items()}
    return values | new


def pytest_configure(config: pytest.Config) -> None:
    """Start the warm processes once for all processes of `pytest -n`."""
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        os.environ[warm.SHARED] = str(warm.start())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What shares a fixture carries its marker; the longest come first."""
    for item in items:
        for fixture, marker in SHARED.items():
            if fixture in getattr(item, "fixturenames", ()):
                item.add_marker(marker)
    order = {marker: place for place, marker in enumerate(SLOW_MARKERS)}
    items.sort(key=lambda item: order.get(slow_marker(item.keywords), len(order)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Of `pytest -n`, one process takes a whole file (--dist loadfile), or a whole folder of `TOGETHER`."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file: str = super()._split_scope(nodeid)
            folder = file.rpartition("/")[0]
            return folder if folder in TOGETHER else file

    return Scheduling(config, log) if config.getvalue("dist") == "loadfile" else None


def slow_marker(keywords: Iterable[str]) -> str:
    return next((marker for marker in SLOW_MARKERS if marker in keywords), "unmarked")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Add up the time of setup, call and teardown."""
    seconds[slow_marker(report.keywords)] += report.duration


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say where the time went."""
    if not seconds:
        return
    times = ", ".join(f"{marker} {spent:.0f} s" for marker, spent in seconds.most_common())
    terminalreporter.write_line(f"time by marker: {times}")
