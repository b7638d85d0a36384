"""The cost model: what it counts is what processes do, and its arithmetic."""

import dataclasses
import json
import subprocess

import pytest
import ranks
import torch
from repository import ROOT, command_environment

from scfs.config.pretrain import Views
from scfs.costs import loading
from scfs.costs.counting import sent_messages, training_work
from scfs.costs.machine import Cluster, Work, scaling_limit, step
from scfs.costs.scaling import IMAGENET, describe, report
from scfs.errors import ScfsError


def test_the_messages_are_those_of_real_processes(noise_folder, tmp_path, monkeypatch) -> None:
    ranks.shallow_backbones(monkeypatch)
    codes, errors = ranks.end(ranks.start("messages", tmp_path, noise_folder, 2))
    assert codes == [0, 0], errors
    one, other = (torch.load(tmp_path / f"messages-{rank}.pt") for rank in (0, 1))
    assert one == other
    for case in ranks.CASES:
        if case == "parts":  # counted as one part
            continue
        counted = list(sent_messages(ranks.settings(case)))
        if case == "supervised":  # of 3 classes there, of 1000 in the plan: the gradients alone know of them
            big = max(range(len(counted)), key=lambda index: counted[index][1])
            assert counted[big][0] == one[case][big][0] == "all_reduce"
            del counted[big], one[case][big]
        assert counted == one[case], case
        assert len(counted) > 3


def test_messages_do_not_change_what_else_is_counted() -> None:
    found, alone = (training_work(ranks.settings("scfs"), messages) for messages in (True, False))
    assert found.messages == sent_messages(ranks.settings("scfs")) and not alone.messages
    assert dataclasses.replace(found, messages=()) == alone
    assert found.traffic > 0 and found.kernels > 100


TOY = Work(
    flops=1e9, traffic=1e6, kernels=10, messages=(("all_reduce", 8000), ("all_gather", 100)), weights=0, states=0
)
SLOW = Cluster(
    flops=1e12, memory=1e12, launch=1e-6, gpus_per_node=2, cores=2, within=1e6, between=5e5, latency=1e-4, hop=1e-3
)


def test_a_step_by_hand() -> None:
    alone = step(TOY, 8, 1, SLOW, 1e-3)
    assert alone.operations == pytest.approx(8e-3) and alone.memory == pytest.approx(8e-6)
    assert alone.launches == pytest.approx(1e-5) and alone.network == 0 and alone.cores == pytest.approx(4e-3)
    assert alone.seconds == pytest.approx(8e-3) and alone.limit == "operations"
    assert alone.images_per_second == pytest.approx(1000)
    pair = step(TOY, 8, 2, SLOW, 1e-3)  # a ring of 2: all_reduce moves its bytes once, all_gather too
    assert pair.network == pytest.approx(2e-4 + (8000 + 100) / 1e6)
    assert pair.seconds == pytest.approx(4e-3 + 8.3e-3) and pair.limit == "network"
    eight = step(TOY, 8, 8, SLOW, 1e-3)
    assert eight.network == pytest.approx(2 * (1e-4 + 2e-3) + (2 * 7 / 8 * 8000 + 7 * 100) / 5e5)
    assert step(TOY, 8, 3, SLOW, 1e-3).operations == pytest.approx(3e-3)  # the largest share
    starved = step(TOY, 8, 2, SLOW, 0.1)
    assert starved.limit == "cores" and starved.seconds == pytest.approx(0.2)


def test_the_scaling_limit() -> None:
    free = Cluster(flops=1e12, launch=0, latency=0, hop=0, within=1e15, between=1e15)
    assert scaling_limit(TOY, 64, free, 0).processes == 64
    assert scaling_limit(TOY, 8, SLOW, 0).processes == 1


def test_a_report_of_the_papers_runs_says_that_it_is_computed() -> None:
    settings = ranks.settings("scfs")
    text = describe(settings, IMAGENET, [1, 2, 64], Cluster(), 1e-3, "given")
    assert "computed, not measured" in text and "1.00 ms of a core (given)" in text
    assert f"more than the {settings.batch} images of a batch" in text
    assert text.count("\nscaling limit: ") == 1


@pytest.mark.parametrize("gpus", ["", "0", "two", "1,,2"])
def test_wrong_numbers_of_gpus_are_one_line(gpus) -> None:
    with pytest.raises(ScfsError, match=r"--gpus .*: must be numbers from 1 on"):
        report(None, None, gpus, "device", 1.0, {})


def test_the_cpus_part_comes_from_the_history_or_is_measured(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    small = Views(global_size=16, local_size=8, local_number=1)
    seconds, source = loading.cpu_seconds(small, "device")
    assert source == "measured now" and 1e-5 < seconds < 0.1
    folder = tmp_path / "results/benchmarks"
    folder.mkdir(parents=True)
    for name, comparison, middle in (("1", "loader-crops", 0.5), ("2", "loader-crops", 0.25), ("3", "step", 0.125)):
        record = {"found": {comparison: {"ours_seconds": {"middle": middle}}}}
        (folder / f"{name}.json").write_text(json.dumps(record))
    assert loading.cpu_seconds(Views(), "device") == (0.25, "measured: results/benchmarks/2.json")
    assert loading.cpu_seconds(small, "device")[1] == "measured now"


def test_the_command() -> None:
    def scaling(*arguments: str) -> subprocess.CompletedProcess[str]:
        command, environment = ["scfs", "scaling", *arguments], command_environment(ROOT, warm=True)
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)

    done = scaling("demo-scfs", "--gpus", "1,2", "--cpu-ms", "1")
    assert done.returncode == 0, done.stderr
    assert "computed, not measured" in done.stdout and "scaling limit: " in done.stdout
    failed = scaling("nothing")
    assert failed.returncode != 0 and "nothing" in failed.stderr and "Traceback" not in failed.stderr
