"""One process per GPU: which command replaces this one, and when none does. No GPU is needed: torch's count is faked."""

import os
import sys

import pytest
import torch

from scfs.launch.start import process_count, restart_on_every_gpu


@pytest.mark.parametrize(
    ("gpus", "images", "used"), [(0, 16, 1), (1, 16, 1), (8, 16, 8), (3, 16, 2), (8, 4, 4), (2, 1, 1)]
)
def test_a_batch_is_shared_evenly(gpus: int, images: int, used: int) -> None:
    assert process_count(gpus, images) == used


@pytest.fixture
def replaced(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    commands: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda program, command: commands.append(command))
    monkeypatch.setattr(sys, "argv", ["scfs", "--params", "p.yaml", "detect", "voc", "trial-0", "--run", "r"])
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    return commands


def test_the_same_command_goes_on_in_torchrun(replaced: list[list[str]]) -> None:
    restart_on_every_gpu("auto", 16, {})
    (command,) = replaced
    assert command[:2] == [sys.executable, "-m"]
    assert "--nproc-per-node 4" in " ".join(command)
    assert command[-9:] == ["-m", "--", "scfs.cli", "--params", "p.yaml", "detect", "voc", "trial-0", "--run", "r"][-9:]


@pytest.mark.parametrize(
    ("device", "environment"),
    [
        ("cpu", {}),
        ("auto", {"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "x", "MASTER_PORT": "1"}),
    ],
)
def test_a_process_of_a_launcher_and_one_for_the_cpu_go_on_alone(
    replaced: list[list[str]], device: str, environment: dict[str, str]
) -> None:
    restart_on_every_gpu(device, 16, environment)
    assert replaced == []
