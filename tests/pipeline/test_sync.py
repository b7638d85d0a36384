"""`scfs sync` without the two tools: names of stages, folders of one's own, and what is said when a tool is missing."""

import os
import shutil
from pathlib import Path

import pytest
import yaml

from scfs.config.study import Study, load_study
from scfs.errors import ScfsError
from scfs.pipeline import sync

FOLDERS = {
    "study": "own",
    "data": {"photos": {"source": "folder", "splits": {"train": "photos"}}},
    "pretrain": {"dataset": "photos", "split": "train"},
    "runs": {"one": {"epochs": 0}},
}


def write(path: Path, values: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(values))


def test_an_included_stage_has_its_name_in_the_file_that_defines_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("params.yaml"), FOLDERS)
    figures = {"curves": {"kind": "curves", "runs": ["one"]}}
    write(Path("config/more/params.yaml"), {"study": "more", "include": ["params.yaml"], "figures": figures})
    study = load_study(Path("config/more/params.yaml"))
    of_more = {"config/more/dvc.yaml:figure-curves", "config/more/dvc.yaml:report"}
    assert set(sync.jobs_of(study)) == {"prepare@photos", "inspect@photos", "pretrain@one"} | of_more


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """A study of a folder of photographs, and its manifest."""
    monkeypatch.chdir(tmp_path)
    write(Path("params.yaml"), FOLDERS)
    Path("photos/cats").mkdir(parents=True)
    Path("data/photos").mkdir(parents=True)
    Path("data/photos/manifest.parquet").touch()
    return load_study(Path("params.yaml"))


@pytest.mark.parametrize("changed", ["photos", "photos/cats"])
def test_a_folder_that_changed_after_its_manifest_is_left_to_snakemake(
    own_folder: Study, changed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DVC has nothing to do, as it does not watch the folder; Snakemake is right and must not be told otherwise."""
    jobs = sync.jobs_of(own_folder)
    told: list[str] = []
    monkeypatch.setattr(sync, "_check_files", lambda study: None)
    monkeypatch.setattr(sync, "stale_for_dvc", lambda study, jobs: {})
    monkeypatch.setattr(sync, "stale_for_snakemake", lambda study, jobs: jobs)
    monkeypatch.setattr(sync, "_tell_snakemake", lambda study, jobs: told.extend(jobs))
    assert "agree" in sync.sync(own_folder) and told == list(jobs)
    os.utime(changed, (4e9, 4e9))
    with pytest.raises(
        ScfsError, match=rf"data\.photos: {changed} has changed after data/photos/manifest\.parquet.*run snake"
    ):
        sync.sync(own_folder)
    assert told == list(jobs)


def test_a_missing_tool_is_one_line(own_folder: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync, "_check_files", lambda study: None)
    monkeypatch.setattr(shutil, "which", lambda program, path: None)
    with pytest.raises(ScfsError, match="dvc: not found beside"):
        sync.sync(own_folder)


def test_the_record_of_a_long_name_stands_in_folders() -> None:
    """As Snakemake keeps it, since no name may have more than 255 characters."""
    record = sync._record(Path("x" * 400))
    assert record.parent.name.startswith("@") and all(len(part) <= 255 for part in record.parts)
