"""Which process of a job failed, as its logs tell."""

from pathlib import Path

import pytest

from scfs.launch.logs import STARTED, Follower, failed_rank, lines_of, newest_job, rank_log

SUBMITIT = "submitit WARNING (2026-11-25 07:00:00,000) - Bypassing signal SIGTERM\n"


def write(folder: Path, *texts: str) -> None:
    (folder / "logs").mkdir(exist_ok=True)
    for rank, text in enumerate(texts):
        rank_log(folder, "7", rank).write_text(f"{STARTED}\n{SUBMITIT}{text}")


@pytest.mark.parametrize(
    ("texts", "rank"),
    [
        (["epoch 1: loss 2\nsrun: error: n2: task 3: Killed\nsrun: error: n1: tasks 0-1: Terminated\n", "", "", ""], 3),
        (["srun: error: n2: task 1: Killed\nscfs: another\nsrun: error: n1: task 0: Killed\nsrun: Force\n", ""], 1),
        ([f"srun: error: n2: task 1: Killed\n{STARTED}\nsrun: error: n3: task 2: Killed\n", "", ""], 2),  # queued again
        (["srun: error: n2: task 2: Exited with exit code 1\n", "", "scfs: n2: the disk is full\n", ""], 2),
        (["srun: error: n2: task 1: Exited with exit code 1\n", 'Traceback (most recent\nValueError: "boom"\n'], 1),
        (["scfs: /data: not found\nsrun: error: n1: task 0: Exited with exit code 1\n", ""], 0),
        (["srun: error: n2: tasks 1,3: Exited with exit code 1\n", "", "", ""], 1),
        (["slurmstepd: error: *** JOB 7 CANCELLED DUE TO TIME LIMIT ***\n", ""], 0),
    ],
)
def test_the_process_that_failed_is_found(tmp_path: Path, texts: list[str], rank: int) -> None:
    write(tmp_path, *texts)
    assert failed_rank(tmp_path, "7") == rank
    assert newest_job(tmp_path) == "7"
    assert not any("submitit" in line or STARTED in line for line in lines_of(rank_log(tmp_path, "7", 0)))


def test_a_follower_passes_whole_lines_on_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, "one\n")
    path = rank_log(tmp_path, "7", 0)
    all_, new = Follower(tmp_path, "7"), Follower(tmp_path, "7", from_now=True)
    with path.open("a") as file:
        file.write("two\nthr")
    all_.pass_on()
    assert capsys.readouterr().err == "one\ntwo\n"
    new.pass_on()
    assert capsys.readouterr().err == "two\n"
    with path.open("a") as file:
        file.write("ee\n")
    all_.pass_on()
    new.pass_on()
    assert capsys.readouterr().err == "three\nthree\n"
