"""The call of a stage: its pickle holds names alone, and what submits it needs no torch."""

import pickle
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from scfs.cli import calls
from scfs.launch.executor import DEFER_WARNING
from scfs.launch.payload import StageCall

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["pretrain_split", "pretrain_folder", "evaluate", "tune", "finetune", "detect"])
def test_a_pickle_holds_the_functions_name(name: str) -> None:
    call = StageCall(getattr(calls, name), {"run": "small"}, 1, 0)
    assert f"scfs.cli.calls\x94\x8c{chr(len(name))}{name}".encode("latin1") in pickle.dumps(call)
    assert pickle.loads(pickle.dumps(call)) == call


def test_submitting_needs_no_torch() -> None:
    code = (
        "import sys, pickle; from scfs.cli import calls; from scfs.launch import executor, start\n"
        "pickle.dumps(start.StageCall(calls.evaluate, {}, 1, 0)); print('torch' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said == "False\n"


def test_the_call_says_how_many_readers_and_threads() -> None:
    found: dict[str, object] = {}
    StageCall(lambda **keywords: found.update(keywords), {"run": "small"}, 2, 5)()
    assert found == {"run": "small", "threads": 2, "workers": 5}


def test_slurms_warning_after_the_work_is_done_does_not_end_the_process(tmp_path: Path) -> None:
    """Python sets a handled signal back to its default when it ends, which is to die of it."""
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom scfs.launch.payload import Payload, StageCall\n"
        "signal.signal(signal.SIGUSR2, lambda *_: None)  # as Submitit does\n"
        "class Late:\n"
        "    def __del__(self, kill=os.kill, pid=os.getpid(), warning=signal.SIGUSR2): kill(pid, warning)\n"
        "sys.late = Late()  # deleted with the interpreter\n"
        f"Payload(StageCall(dict, {{}}, 1, 0), Path({str(tmp_path)!r}), Path({str(ROOT)!r}))()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)


def test_slurms_warning_before_the_work_begins_is_kept_for_it(tmp_path: Path) -> None:
    """Of a process that is started as a job's are: the first thing that it gets is the warning."""
    code = (
        "import os, signal\nos.kill(os.getpid(), signal.SIGUSR2)  # before anything is imported\n"
        "from pathlib import Path\nfrom scfs.launch.payload import Payload, StageCall\n"
        "from scfs.runtime import stop_signals\n"
        "work = lambda threads, workers: print('warned of', *map(int, stop_signals._received))\n"
        f"Payload(StageCall(work, {{}}, 1, 0), Path({str(tmp_path)!r}), Path({str(ROOT)!r}))()\n"
    )
    command = [sys.executable, "-ISc", DEFER_WARNING, "-c", code]
    said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    assert said == f"warned of {signal.SIGUSR2:d}\n"
