"""Every official data set through `prepare` as Snakemake and as DVC run it, from tiny archives and their catalogue."""

import re
import subprocess

import pytest
import yaml
from repository import ROOT, command_environment, copy_repository, git
from tiny_official import tiny_catalogue

from scfs.config.study import load_study
from scfs.data.manifest import numbers_of_images
from scfs.data.official.parsers import BOXES, LABELLED

pytestmark = pytest.mark.end_to_end

STUDY = "config/official/params.yaml"
DVC = "config/official/dvc.yaml"
LAYOUTS = {"imagenet": "archive", "imagenet100": "shards", "cars": "shards", "pets": "shards"}
NAMES = {f"tiny-{entry}": entry for entry in sorted([*LABELLED, *BOXES])}
"""Names that no other study of the repository has; DVC sees all of them."""
OF_DVC = [f"tiny-{entry}" for entry in ("cifar10", "imagenet", "imagenet100", "pets", "coco", "voc")]
"""One of each layout and stage, the sets of boxes, and a subset of another set; DVC's commands are Snakemake's."""


def run(folder, *command):
    done = subprocess.run(
        command, cwd=folder, env=command_environment(folder, warm=True), capture_output=True, text=True
    )
    assert done.returncode == 0 and "Traceback" not in done.stdout + done.stderr, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A repository in whose catalogue the official archives are tiny, with a study of all of them."""
    folder = copy_repository(tmp_path_factory.mktemp("official"), every_dvc_file=False)
    (folder / "scfs/config/official_sets.yaml").write_text(tiny_catalogue(folder / "datasets/archives"))
    data = {
        name: {"source": "official", "entry": entry, "layout": LAYOUTS.get(entry, "folder")}
        for name, entry in NAMES.items()
    }
    (folder / STUDY).parent.mkdir()
    (folder / STUDY).write_text(yaml.safe_dump({"study": "official", "data": data}))
    run(folder, "scfs", "--params", STUDY, "dvc-file")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--no-verify", "--message", "official")
    return folder


def manifests(folder):
    return {name: (folder / "data" / name / "manifest.parquet").read_bytes() for name in OF_DVC}


def test_both_tools_prepare_every_set(copy):
    targets = [f"data/{name}/manifest.parquet" for name in NAMES]
    snakemake = ("snakemake", "--cores", "2", "--configfile", STUDY)
    run(copy, *snakemake, "--", *targets)
    made = manifests(copy)
    for name in NAMES:
        assert sum(numbers_of_images(copy / "data" / name / "manifest.parquet").values()) >= 5
    assert "Nothing to be done" in run(copy, *snakemake, "--dry-run", "--", *targets)

    for name in OF_DVC:
        (copy / "data" / name / "manifest.parquet").unlink()
    (copy / "data" / "tiny-pets").rename(copy / "data" / "away")
    prepares = {}
    for stage in run(copy, "dvc", "stage", "list", "--name-only", DVC).split():
        if ":prepare" in stage:
            prepares[stage.partition("@")[2]] = stage
    assert prepares.keys() == NAMES.keys()
    chosen = [prepares[name] for name in OF_DVC]
    run(copy, "dvc", "repro", *chosen)
    assert manifests(copy) == made
    assert "up to date" in run(copy, "dvc", "status", *chosen)


def test_another_archive_makes_its_sets_stale(copy):
    file = copy / "scfs/config/official_sets.yaml"
    before = file.read_text()
    values = yaml.safe_load(before)
    values["sets"]["imagenet"]["archives"]["val"]["sha256"] = 64 * "0"
    file.write_text(yaml.safe_dump(values))
    try:
        said = run(
            copy, "snakemake", "--dry-run", "--configfile", STUDY, "--until", "prepare_official", "prepare_subset"
        )
        stale = set(re.findall(r"output: data/(.*)/manifest\.parquet", said))
        of_dvc = run(copy, "dvc", "status", DVC)
    finally:
        file.write_text(before)
    assert {"tiny-imagenet", "tiny-imagenet100"} == stale
    assert "prepare_official@tiny-imagenet:" in of_dvc and "prepare_subset@tiny-imagenet100:" in of_dvc
    assert "prepare_official@tiny-cifar10:" not in of_dvc


def test_the_data_part_of_the_study_paper_runs(copy):
    study = "config/paper/params.yaml"
    names = [*load_study(ROOT / study).data]
    assert {"imagenet", "imagenet100", "coco", "voc", "pets"} <= set(names)
    targets = [f"data/{name}/manifest.parquet" for name in names] + [f"results/data/{name}.json" for name in names]
    snakemake = ("snakemake", "--cores", "2", "--configfile", study)
    run(copy, *snakemake, "--", *targets)
    # ImageNet is read where it lies, in a tar of tars.
    assert not [path for path in (copy / "data/imagenet").rglob("*") if path.suffix.lower() in (".jpeg", ".tar")]
    assert "Nothing to be done" in run(copy, *snakemake, "--dry-run", "--", *targets)
    assert "images are as listed" in run(copy, "scfs", "data", "verify", "imagenet")
