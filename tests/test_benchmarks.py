"""The frame of the benchmarks: what is timed, printed, kept and held; not how fast anything is."""

import json
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from benchmarks import __main__ as command
from benchmarks import stages
from benchmarks.measure import Measured, Pair, Spread, compare
from benchmarks.processor import processor
from benchmarks.registry import NAMES, Benchmark
from scfs.errors import ScfsError

CPU = torch.device("cpu")


def spinning(seconds: float, mebibytes: int) -> Callable[[], None]:
    def call() -> None:
        held = [torch.empty(2**18) for _ in range(mebibytes)]
        end = time.process_time() + seconds
        while time.process_time() < end:
            pass
        held.clear()

    return call


@pytest.fixture(scope="module")
def measured() -> Measured:
    """Twice as fast at a quarter of the memory."""
    return compare(Pair(spinning(0.02, 2), spinning(0.04, 8)), 3, CPU)


@pytest.fixture
def measured_once(known: Path, measured: Measured, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`known`, whose comparison has been measured for all tests."""
    monkeypatch.setattr(command, "compare", lambda pair, rounds, device: measured)
    return known


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """One comparison, twice as fast at a quarter of the memory; floors of this processor in the file returned."""
    made = Benchmark("spinning", lambda short, device: Pair(spinning(0.02, 2), spinning(0.04, 8)), 1.5, 0.5, rounds=3)
    monkeypatch.setattr(command, "NAMES", {"spin": made})
    monkeypatch.setattr(command, "FLOORS", tmp_path / "floors.json")
    monkeypatch.setattr(command, "HISTORY", tmp_path / "history")
    return tmp_path / "floors.json"


def test_rounds_give_ratios_and_bytes() -> None:
    measured = compare(Pair(spinning(0.01, 1), spinning(0.03, 4)), 3, CPU)
    assert measured.ours.middle == pytest.approx(0.01, rel=0.3)
    assert measured.ratio.low <= measured.ratio.middle <= measured.ratio.high
    assert measured.ratio.middle == pytest.approx(3, rel=0.3)
    assert (measured.ours_peak, measured.reference_peak) == (2**20, 4 * 2**20)
    assert measured.memory == 0.25


def test_sleep_is_no_cpu_time() -> None:
    assert compare(Pair(lambda: time.sleep(0.05), spinning(0.01, 0)), 1, CPU).ours.middle < 0.01


@pytest.mark.parametrize(
    ("floor", "code", "said"),
    [
        ({"speed": 1.5, "memory": 0.5}, 0, "all floors held"),
        ({"speed": 9}, 1, "MISSED: spin 2."),
        ({"memory": 0.1}, 1, "MISSED: spin memory 0.25 > 0.1"),
    ],
)
def test_floors_of_this_processor_decide(
    measured_once: Path, capsys: pytest.CaptureFixture[str], floor: dict[str, float], code: int, said: str
) -> None:
    measured_once.write_text(json.dumps({processor(): {"spin": floor}}))
    assert command.main([]) == code
    lines = capsys.readouterr().out.splitlines()
    assert said in lines[-1] or (said == "MISSED: spin 2." and "MISSED: spin 1.9" in lines[-1])
    assert lines[2].startswith("| spinning | ") and lines[2].endswith("| 1.5, memory 0.5 | 2, 8 MiB | 0.25 |")


def test_another_processor_and_the_short_form_are_only_reported(
    measured_once: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measured_once.write_text(json.dumps({"another": {"spin": {"speed": 9}}}))
    assert command.main([]) == 0 and "without floors" in capsys.readouterr().out
    measured_once.write_text(json.dumps({processor(): {"spin": {"speed": 9}}}))
    assert command.main(["--short"]) == 0 and "the short form" in capsys.readouterr().out
    assert len(list((measured_once.parent / "history").glob("*.json"))) == 1  # the short form is not kept


def test_a_run_is_kept(known: Path) -> None:
    known.write_text("{}")
    command.main(["spin", "--rounds", "1"])
    (file,) = (known.parent / "history").glob("*.json")
    record = json.loads(file.read_text())
    assert record["machine"] == processor() and record["device"] == "cpu"
    assert record["found"]["spin"]["ratio"]["middle"] > 1 and record["found"]["spin"]["reference_peak_bytes"] == 2**23


@pytest.mark.parametrize("arguments", [["nothing"], ["--rounds", "0"], ["--device", "tpu"]])
def test_bad_arguments_are_one_line(arguments: list[str], known: Path, capsys: pytest.CaptureFixture[str]) -> None:
    known.write_text("{}")
    assert command.main(arguments) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and arguments[-1] in said[0]


def test_the_processor_is_its_maker_and_its_instructions(tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(
        "processor\t: 0\nvendor_id\t: Maker\nflags\t\t: fpu avx2 amx_bf16 avx512f\n\nprocessor\t: 1\nflags\t: sve\n"
    )
    assert processor(file) == "Maker avx2 avx512f amx_bf16"
    assert processor(tmp_path / "none") != ""


def test_floors_name_what_there_is() -> None:
    for machine, floors in json.loads(command.FLOORS.read_text()).items():
        assert set(floors) <= set(NAMES), machine
        assert all(set(floor) <= {"speed", "memory"} for floor in floors.values())


def test_misses_are_those_of_the_median() -> None:
    measured = Measured(Spread(1, 1, 1), Spread(2, 2, 2), Spread(2, 1, 3), 1, 2)
    assert command.misses({"a": measured}, {"a": {"speed": 2, "memory": 0.5}}) == []
    assert command.misses({"a": measured, "b": measured}, {"b": {"speed": 2.1}}) == ["b 2.00 < 2.1"]


def test_stages_counts_a_job_once_whatever_it_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ScfsError, match="no finished job"):
        stages.main(tmp_path)
    folder = tmp_path / ".snakemake/metadata"
    folder.mkdir(parents=True)
    for name, rule, log, started, ended in (
        ("weights", "pretrain", "a", 100, 160),
        ("curve", "pretrain", "a", 100, 160.5),
        ("first try", "pretrain", "b", 10, 11),
        ("other run", "pretrain", "b", 100, 140),
        ("table", "table", "c", 160.5, 161),
    ):
        record = {"rule": rule, "log": [log], "starttime": started, "endtime": ended}
        (folder / name).write_text(json.dumps(record))
    monkeypatch.setattr(stages, "start_up", lambda module: 3.0 if "training" in module else 0.1)
    stages.main(tmp_path)
    said = capsys.readouterr().out
    assert "| pretrain | 2 | 100 | 6 |" in said and "| table | 1 | 0 | 0 |" in said
    assert "| all | 3 | 101, in 61 of wall time | 6 |" in said


@pytest.mark.parametrize("module", [*stages.STARTS.values(), stages.LIGHT])
def test_stages_knows_where_a_process_begins(module: str) -> None:
    assert find_spec(module)
