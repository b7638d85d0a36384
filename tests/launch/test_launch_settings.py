"""Launch settings from a file and from the environment, and how many time limits follow from the planned hours."""

from pathlib import Path

import pytest

from scfs.errors import ScfsError
from scfs.launch.settings import Launch, load_launch
from scfs.launch.start import submits


def test_the_environment_counts_before_the_file(tmp_path: Path) -> None:
    file = tmp_path / "launch.yaml"
    file.write_text("executor: slurm\nnodes: 2\ngpus_per_node: 8\naccount: 12345\nsbatch: {exclude: n7}\n")
    found = load_launch({"SCFS_LAUNCH": str(file), "SCFS_LAUNCH_NODES": "4", "SCFS_LAUNCH_SRUN": "[--cpu-bind=none]"})
    assert (found.executor, found.nodes, found.processes, found.account) == ("slurm", 4, 8, "12345")
    assert found.sbatch == {"exclude": "n7"} and found.srun == ["--cpu-bind=none"]
    assert load_launch({}) == load_launch({"SCFS_LAUNCH": ""}) == Launch()


@pytest.mark.parametrize(
    ("text", "environment", "message"),
    [
        ("nodes: 0\n", {}, r"launch.yaml: nodes = 0: .*greater than or equal to 1"),
        ("node: 2\n", {}, "launch.yaml: unknown key 'node'"),
        ("- nodes\n", {}, r"launch.yaml: \(top level\) = \[.nodes.\]: Input should be a valid dictionary"),
        ("executor: local\nnodes: 2\n", {}, "nodes = 2: the executor local has 1; allowed there: 1"),
        ("poll_seconds: 60\n", {}, "poll_seconds = 60: .*less than or equal to 15"),
        ("", {"SCFS_LAUNCH_MINUTES": "soon"}, "SCFS_LAUNCH_MINUTES: minutes = 'soon'"),
        ("", {"SCFS_LAUNCH_HOURS": "2"}, "SCFS_LAUNCH_HOURS: no such setting; allowed: .*SCFS_LAUNCH_MINUTES"),
        ("", {"SCFS_LAUNCH_SRUN": "[a"}, r"SCFS_LAUNCH_SRUN='\[a': not valid YAML"),
    ],
)
def test_a_wrong_setting_is_one_line(tmp_path: Path, text: str, environment: dict[str, str], message: str) -> None:
    (tmp_path / "launch.yaml").write_text(text or "{}")
    with pytest.raises(ScfsError, match=message):
        load_launch({"SCFS_LAUNCH": str(tmp_path / "launch.yaml"), **environment})


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ScfsError, match=r"nowhere.yaml: cannot be read: No such file"):
        load_launch({"SCFS_LAUNCH": str(tmp_path / "nowhere.yaml")})


def test_time_limits_follow_from_the_planned_hours() -> None:
    day = Launch(minutes=1440)
    assert [day.time_limits(hours) for hours in (0, 1, 24, 100)] == [3, 4, 5, 12]


def test_only_the_stages_that_are_named_submit_and_never_one_of_several_processes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SCFS_LAUNCH_EXECUTOR", "local")
    assert submits("pretrain") and not submits("evaluate")
    monkeypatch.setenv("SCFS_LAUNCH_STAGES", "[evaluate]")
    assert submits("evaluate") and not submits("pretrain")
    for name, value in {
        "RANK": "0",
        "WORLD_SIZE": "2",
        "LOCAL_RANK": "0",
        "MASTER_ADDR": "h",
        "MASTER_PORT": "1",
    }.items():
        monkeypatch.setenv(name, value)
    assert not submits("evaluate")
