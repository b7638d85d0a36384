"""DVC for real: real trainings of a tiny study, a remote, a fresh clone, `scfs sync` between Snakemake and DVC."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from repository import ROOT, command_environment, copy_folder, copy_repository, git, warm_scfs
from warm import ORDINARY

from scfs import paths

pytestmark = pytest.mark.end_to_end

STUDY: dict[str, Any] = {
    "study": "small",
    "scale": "tiny",
    "data": {
        "scenes": {
            "source": "garment-scenes",
            "splits": {"pretrain": {"scenes": 48}, "train": {"scenes": 40}, "val": {"scenes": 20, "part": "test"}},
        }
    },
    "pretrain": {
        "dataset": "scenes",
        "backbone": "narrow_resnet18",
        "epochs": 2,
        "batch": 8,
        "views": {"global_size": 48, "local_size": 24, "local_number": 1},
        "head": {"hidden": 16, "bottleneck": 8, "prototypes": 16, "batch_norm": True},
        "search_head": {"width": 8, "hidden": 16, "output": 8},
        "optimizer": {"warmup_epochs": 1},
    },
    # The names are also words of the commands and of their paths.
    "runs": {"scfs": {"method": "scfs"}, "dino": {"method": "dino"}, "random": {"epochs": 0}},
    "evaluate": {"knn": {"kind": "knn", "dataset": "scenes", "resize": 48, "crop": 48, "k": [5], "report_k": 5}},
    "tables": {
        "main": {
            "title": "Two methods",
            "columns": [{"label": "k-NN", "evaluation": "knn", "value": "top1"}],
            "rows": [{"label": "DINO", "runs": ["dino"]}, {"label": "SCFS", "runs": ["scfs"]}],
        }
    },
    "figures": {"curves": {"kind": "curves"}},
}
STEPS = 12
SHOWN = {"table-main", "figure-curves", "report"}
AGREE = "Snakemake and DVC agree"


def run(folder: Path, *command: str, fails: bool = False) -> str:
    """What a command says in a folder, with the package of ROOT, which warm processes have loaded."""
    variables = command_environment(ROOT, warm=True)
    done = subprocess.run([*ORDINARY, *command], cwd=folder, env=variables, capture_output=True, text=True)
    said = done.stdout + done.stderr
    assert (done.returncode != 0) == fails, said
    assert "Traceback" not in said
    return said


def change(folder: Path, **of_scfs: Any) -> None:
    """Change the settings of the run `scfs`."""
    study = yaml.safe_load((folder / "params.yaml").read_text())
    study["runs"]["scfs"] |= of_scfs
    (folder / "params.yaml").write_text(yaml.safe_dump(study, sort_keys=False))


def stale_for_dvc(folder: Path) -> set[str]:
    done = subprocess.run(
        ["dvc", "status", "--json", "dvc.yaml"],
        cwd=folder,
        env=command_environment(ROOT, warm=True),
        capture_output=True,
    )
    return set(json.loads(done.stdout))


def stale_for_snakemake(folder: Path) -> set[str]:
    commands = re.findall(
        r"Shell command: (?:SCFS_LAUNCH=\S* )?scfs (.*)", run(folder, "snakemake", "--dry-run", "--printshellcmds")
    )
    return {stage_name(shlex.split(command)[4:]) for command in commands}


def stage_name(arguments: list[str]) -> str:
    stage, *rest = arguments
    if stage == "evaluate":
        return f"evaluate-{rest[0]}@{rest[2]}"
    if stage in ("table", "figure"):
        return f"{stage}-{rest[0]}"
    return "@".join([stage, *(word for word in rest if word != "--run")])


def assert_nothing_to_do(folder: Path) -> None:
    assert "up to date" in run(folder, "dvc", "status", "dvc.yaml")
    assert "Running stage" not in run(folder, "dvc", "repro")
    assert "Nothing to be done" in run(folder, "snakemake", "--dry-run")


def weights(folder: Path) -> bytes:
    return (folder / paths.weights("scfs")).read_bytes()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose study Snakemake has run, and of which DVC has been told."""
    folder = copy_repository(tmp_path_factory.mktemp("finished") / "repository", every_dvc_file=False)
    (folder / "params.yaml").write_text(yaml.safe_dump(STUDY, sort_keys=False))
    run(folder, "scfs", "dvc-file")
    run(folder, "snakemake", "--cores", "1")
    assert git(folder, "status", "--porcelain").split() == ["M", "dvc.yaml", "M", "params.yaml"]
    said = run(folder, *warm_scfs("sync"))
    assert AGREE in said
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--no-verify", "--message", "small study")
    return folder


@pytest.fixture(scope="module")
def pulled(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh clone that has fetched the results from a remote."""
    remote, folder = tmp_path_factory.mktemp("remote"), tmp_path_factory.mktemp("clone") / "repository"
    run(finished, "dvc", "remote", "add", "--default", "store", str(remote))
    git(finished, "commit", "--quiet", "--no-verify", "--all", "--message", "remote")
    run(finished, "dvc", "push", "dvc.yaml")
    git(finished, "clone", "--quiet", str(finished), str(folder))
    run(folder, "dvc", "pull", "dvc.yaml")
    return folder


@pytest.fixture(scope="module")
def synced(pulled: Path) -> Path:
    """The clone, after `scfs sync`."""
    assert AGREE in run(pulled, *warm_scfs("sync"))
    return pulled


@pytest.fixture(scope="module")
def retrained(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the first repository in which Snakemake has trained the run `scfs` with another seed."""
    folder = copy_folder(finished, tmp_path_factory.mktemp("retrained") / "repository")
    change(folder, seed=1)
    run(folder, "snakemake", "--cores", "1", str(paths.weights("scfs")))
    assert weights(folder) != weights(finished)
    return folder


# --- both tools ---


def test_after_snakemake_dvc_has_nothing_to_do(finished: Path) -> None:
    assert_nothing_to_do(finished)
    assert git(finished, "status", "--porcelain") == ""
    assert AGREE in run(finished, *warm_scfs("sync"))


def test_links_to_the_cache_take_no_second_room(finished: Path) -> None:
    made = (finished / paths.weights("scfs")).stat()
    assert made.st_ino in {file.stat().st_ino for file in (finished / ".dvc" / "cache").rglob("*")} or reflinks(
        finished
    )


def test_after_a_pull_snakemake_has_nothing_to_do(synced: Path) -> None:
    assert_nothing_to_do(synced)
    assert git(synced, "status", "--porcelain") == ""
    assert not (synced / "runs").exists() and not (synced / "data" / "scenes" / "images").exists()


def test_another_seed_repeats_the_same_stages_in_both(synced: Path, retrained: Path) -> None:
    """And the training, from pulled data in the clone, gives the weights that Snakemake made elsewhere."""
    change(synced, seed=1)
    lock = (synced / "dvc.lock").read_bytes()
    expected = {"pretrain@scfs", "evaluate-knn@scfs", *SHOWN}
    assert stale_for_snakemake(synced) == expected
    planned = set(re.findall(r"Running stage '(.*)'", run(synced, "dvc", "repro", "--dry", "--force-downstream")))
    # `dvc status` looks at what is there, not at what the stages before would make of it.
    assert planned == expected and {"pretrain@scfs"} | SHOWN == stale_for_dvc(synced)
    said = run(synced, *warm_scfs("sync"), fails=True)
    assert "not finished: snakemake would run pretrain@scfs" in said and len(said.splitlines()) == 1
    assert (synced / "dvc.lock").read_bytes() == lock
    assert "runs.scfs.seed" in run(synced, "dvc", "params", "diff")

    run(synced, "dvc", "repro", "pretrain@scfs")
    assert (synced / "data" / "scenes" / "images").is_dir()
    log = (synced / "logs" / "pretrain" / "scfs.log").read_text()
    assert "resuming" not in log and f"= {STEPS} steps" in log
    assert weights(synced) == weights(retrained)


def test_dvc_shows_what_a_person_can_use(synced: Path, retrained: Path, tmp_path: Path) -> None:
    change(synced, seed=1)
    run(synced, "dvc", "repro", "table-main")
    file = str(paths.metrics("small", "main"))
    cells = {
        row["label"]: row["cells"][0] for row in json.loads((synced / paths.table("small", "main")).read_text())["rows"]
    }
    said = run(synced, "dvc", "metrics", "diff", "--all", "--json")
    found = json.JSONDecoder().raw_decode(said)[0][file]  # what it says of studies without results comes after
    assert found.keys() == {"SCFS.k-NN", "DINO.k-NN"} and cells.keys() == {"SCFS", "DINO"}
    assert found["SCFS.k-NN"]["new"] == cells["SCFS"]["mean"] and found["DINO.k-NN"]["diff"] == 0
    for command in ("show", "diff"):
        run(synced, "dvc", "plots", command, "--out", str(tmp_path / command))
        html = (tmp_path / command / "index.html").read_text()
        for text in ("data loss", "teacher entropy", "scfs/curve.csv", "dino/curve.csv"):
            assert text in html, (command, text)
        assert "random/curve.csv" not in html  # not trained: no curve


def test_swapped_values_are_seen_and_the_order_is_not(finished: Path, tmp_path: Path) -> None:
    folder = copy_folder(finished, tmp_path / "copy")
    study = yaml.safe_load((folder / "params.yaml").read_text())
    (folder / "params.yaml").write_text(yaml.safe_dump(study, sort_keys=True))
    assert (folder / "params.yaml").read_text() != (finished / "params.yaml").read_text()
    assert stale_for_snakemake(folder) == stale_for_dvc(folder) == set()
    head = study["pretrain"]["head"]
    head["hidden"], head["bottleneck"] = head["bottleneck"], head["hidden"]
    (folder / "params.yaml").write_text(yaml.safe_dump(study))
    trained = {f"pretrain@{one}" for one in STUDY["runs"]}
    assert stale_for_snakemake(folder) == trained | {"evaluate-knn@scfs", "evaluate-knn@dino"} | SHOWN
    assert stale_for_dvc(folder) == trained | SHOWN


def test_a_default_that_is_written_out_trains_nothing_again(finished: Path, tmp_path: Path) -> None:
    folder = copy_folder(finished, tmp_path / "copy")
    change(folder, seed=0)
    assert "pretrain@scfs" in stale_for_dvc(folder) & stale_for_snakemake(folder)
    run(folder, "dvc", "repro", "pretrain@scfs")
    assert f"already at its last step, {STEPS}" in (folder / "logs" / "pretrain" / "scfs.log").read_text()
    assert weights(folder) == weights(finished)


def test_killed_under_dvc_and_started_again(finished: Path, retrained: Path, tmp_path: Path) -> None:
    folder = copy_folder(finished, tmp_path / "copy")
    change(folder, seed=1)
    log = folder / "logs" / "pretrain" / "scfs.log"
    log.unlink()
    process = subprocess.Popen(
        ["dvc", "repro", "pretrain@scfs"],
        cwd=folder,
        env=command_environment(ROOT) | {"SCFS_SAVE_EVERY": "0"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 180
    while "epoch 1:" not in (log.read_text() if log.exists() else "") and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (folder / paths.weights("scfs")).exists()
    run(folder, "dvc", "repro", "pretrain@scfs")
    found = re.search(rf"resuming at step (\d+) of {STEPS}", log.read_text())
    assert found and 0 < int(found[1]) < STEPS
    assert weights(folder) == weights(retrained)


# --- what sync refuses ---


def test_results_of_other_settings_are_not_taken_for_current(finished: Path, tmp_path: Path) -> None:
    """Without its records Snakemake sees no change of a setting, so its having nothing to do says nothing."""
    folder = copy_folder(finished, tmp_path / "copy")
    lock = (folder / "dvc.lock").read_bytes()
    shutil.rmtree(folder / ".snakemake")
    change(folder, seed=1)
    assert stale_for_snakemake(folder) == set() and "pretrain@scfs" in stale_for_dvc(folder)
    said = run(folder, *warm_scfs("sync"), fails=True)
    assert "not known whether these results belong to the present settings" in said and "pretrain@scfs" in said
    assert (folder / "dvc.lock").read_bytes() == lock


def test_results_that_dvc_has_put_back_are_not_taken_for_current(finished: Path, tmp_path: Path) -> None:
    """Snakemake's record is of a file that is no longer there; once it has made it again, DVC is told."""
    folder = copy_folder(finished, tmp_path / "copy")
    lock = (folder / "dvc.lock").read_bytes()
    study = (folder / "params.yaml").read_text()
    (folder / "params.yaml").write_text(study.replace("scale: tiny", "scale: small"))
    run(folder, "snakemake", "--cores", "1")
    run(folder, "dvc", "checkout", "--force", *SHOWN)
    stages = yaml.safe_load((folder / "dvc.lock").read_text())["stages"]
    for stage in ("table-main", "figure-curves", "report"):  # as `dvc checkout` may date them: in the graph's order
        for output in stages[stage]["outs"]:
            os.utime(folder / output["path"])
    assert stale_for_snakemake(folder) == set() and stale_for_dvc(folder) == SHOWN
    assert "not known whether" in run(folder, *warm_scfs("sync"), fails=True)
    assert (folder / "dvc.lock").read_bytes() == lock
    run(folder, "snakemake", "--cores", "1", "--forcerun", "table", "draw_svg")
    assert AGREE in run(folder, *warm_scfs("sync"))
    assert (folder / "dvc.lock").read_bytes() != lock
    assert stale_for_dvc(folder) == set()  # and for Snakemake, which sync has just asked


def test_a_missing_repository_and_an_old_file_are_one_line(finished: Path, tmp_path: Path) -> None:
    folder = copy_folder(finished, tmp_path / "copy")
    shutil.rmtree(folder / ".dvc")
    said = run(folder, *warm_scfs("sync"), fails=True)
    assert "not inside of a DVC repository" in said and len(said.splitlines()) == 1
    study = yaml.safe_load((folder / "params.yaml").read_text())
    study["runs"]["second"] = {"method": "dino", "seed": 1}
    (folder / "params.yaml").write_text(yaml.safe_dump(study))
    assert "dvc.yaml: not what params.yaml makes of it" in run(folder, *warm_scfs("sync"), fails=True)


# --- large files ---


def reflinks(folder: Path) -> bool:
    """Whether the file system copies without taking room."""
    copied = ["cp", "--reflink=always", "params.yaml", ".git/copied"]
    return subprocess.run(copied, cwd=folder, capture_output=True).returncode == 0


def test_tracking_an_archive_takes_no_second_room(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "clone"
    git(finished, "clone", "--quiet", str(finished), str(folder))
    archive = folder / "archive.tar"
    archive.write_bytes(os.urandom(2**20) * 50)
    run(folder, "dvc", "add", "archive.tar")
    cached = next(
        file for file in (folder / ".dvc" / "cache").rglob("*") if file.is_file() and file.stat().st_size > 2**25
    )
    assert cached.read_bytes() == archive.read_bytes()
    assert cached.stat().st_ino == archive.stat().st_ino or reflinks(folder)
