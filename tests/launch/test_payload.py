"""The call of a stage: its pickle holds names alone, and what submits it needs no torch."""

import pickle
import subprocess
import sys

import pytest

from scfs.cli import calls
from scfs.launch.payload import StageCall


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
