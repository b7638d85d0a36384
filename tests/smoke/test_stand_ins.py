"""Studies on data sets with boxes: rehearsed, planned, and prepared again when what they are made from has changed."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from pycocotools.coco import COCO
from repository import ROOT, command_environment

from scfs import paths
from scfs.config.data import ImageFolders
from scfs.config.data_source import SMALL_IMAGES
from scfs.config.study import Study, load_study, parse_study
from scfs.costs.plan import Images
from scfs.data.opening import open_detection_split
from scfs.data.prepare import prepare
from scfs.data.sources.coco_json import load_coco
from scfs.errors import ScfsError
from scfs.pipeline import jobs as stages
from scfs.pipeline import sync
from scfs.smoke.rehearsal import set_up, small_study
from scfs.smoke.stand_ins import COCO_CATEGORIES, VOC_CLASSES, write_stand_ins
from scfs.weights.initial import read_initial

VALUES: dict[str, Any] = {
    "study": "boxes",
    "data": {
        "coco": {
            "source": "coco",
            "splits": {"train": {"images": "coco/train2017", "annotations": "coco/annotations/instances_train2017.json"},
                       "val": {"images": "coco/val2017", "annotations": "coco/annotations/instances_val2017.json"}},
            "images": {"train": 118287},
        },
        "voc": {
            "source": "voc",
            "splits": {"train": [f"VOCdevkit/VOC{year}/ImageSets/Main/trainval.txt" for year in (2007, 2012)],
                       "test": ["VOCdevkit/VOC2007/ImageSets/Main/test.txt"]},
        },
        "three": {"source": "voc", "splits": {"all": ["a/ImageSets/Main/x.txt"]}, "classes": ["b", "c & d", "a"]},
    },
    "pretrain": {"split": "train", "backbone": "narrow_resnet18"},
    "runs": {"on-coco": {"dataset": "coco"}, "on-voc": {"dataset": "voc"}},
    "figures": {"curves": {"kind": "curves"}},
}  # fmt: skip


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """The rehearsal's study in a folder with its stand-ins, and nothing else but the code."""
    monkeypatch.chdir(tmp_path)
    for name in ("scfs", "workflow", "Snakefile"):
        Path(name).symlink_to(ROOT / name)
    Path("s.yaml").write_text(yaml.safe_dump(VALUES))
    Path("params.yaml").write_text(yaml.safe_dump(small_study(load_study(Path("s.yaml")))))
    made = load_study(Path("params.yaml"))
    write_stand_ins(Path(), made)
    return made


def prepare_all(study: Study) -> None:
    for name, config in study.data.items():
        prepare(name, config, paths.data_folder(name))


def test_stand_ins_are_sound_data_sets(small: Study) -> None:
    prepare_all(small)
    classes = {"coco": tuple(COCO_CATEGORIES.values()), "voc": VOC_CLASSES, "three": ("b", "c & d", "a")}
    for name, config in small.data.items():
        for split in config.splits:
            opened = open_detection_split(paths.manifest(name), split)
            assert len(opened.images) == SMALL_IMAGES and opened.images.classes == classes[name]
            theirs = COCO(str(opened.annotations))
            assert all(theirs.getImgIds(catIds=[category]) for category in theirs.getCatIds())


def test_their_masks_fill_their_boxes_and_some_objects_do_not_count(small: Study) -> None:
    prepare_all(small)
    path = open_detection_split(paths.manifest("coco"), "val").annotations
    theirs = COCO(str(path))
    for one in theirs.anns.values():
        left, top, width, height = one["bbox"]
        inside = theirs.annToMask(one)[top : top + height, left : left + width]
        assert inside.sum() == pytest.approx(one["area"], rel=0.2) and inside.sum() == theirs.annToMask(one).sum()
    assert [one.iscrowd for one in load_coco(path).annotations].count(1) == 1
    assert list(load_coco(path).categories) == [1, 18, 90]
    voc = load_coco(open_detection_split(paths.manifest("voc"), "test").annotations)
    assert [one.difficult for one in voc.annotations].count(1) == SMALL_IMAGES
    assert len(VOC_CLASSES) == 20 and list(VOC_CLASSES) == sorted(VOC_CLASSES)


def test_a_split_has_as_many_devkits_as_the_study_has(small: Study) -> None:
    prepare_all(small)
    images = open_detection_split(paths.manifest("voc"), "train").images
    assert {path.split("/")[0] for path in images.paths} == {"train-0", "train-1"}


def test_numbers_of_images_are_planned_as_for_folders(small: Study) -> None:
    images = Images(load_study(Path("s.yaml")))
    assert images.number("coco", "train") == 118287 and images.number("voc", "train") == 0
    assert "coco/train: 118,287 images, as the study says (not prepared yet)" in images.notes
    assert "voc/train: number of images unknown before `scfs prepare voc`: counted as 0" in images.notes
    prepare_all(small)
    assert Images(small).number("voc", "train") == Images(small).number("coco", "val") == SMALL_IMAGES


def test_what_a_data_set_is_made_from(small: Study, tmp_path: Path) -> None:
    sources = {name: list(map(str, config.inputs())) for name, config in small.data.items()}
    assert sorted(sources["coco"]) == [f"datasets/coco/{name}" for name in ("train", "train.json", "val", "val.json")]
    lists = ["test-0/ImageSets/Main/test.txt", *(f"train-{number}/ImageSets/Main/train.txt" for number in range(2))]
    assert sorted(sources["voc"]) == [f"datasets/voc/{file}" for file in lists]
    (tmp_path / "photos" / "b").mkdir(parents=True)
    (tmp_path / "photos" / "a").mkdir()
    (tmp_path / "photos" / "c.jpg").touch()
    folders = ImageFolders(source="folder", splits={"x": "photos", "y": "absent"})
    assert list(map(str, folders.inputs())) == ["photos", "photos/a", "photos/b"]
    assert load_study(Path("s.yaml")).data["coco"].inputs() == [], "what is missing is the command's to say"


def test_snakemake_watches_it_and_dvc_does_not(small: Study) -> None:
    command = ["warm-python", str(ROOT / "tests" / "workflow" / "job_graph.py")]
    run = subprocess.run(command, env=command_environment(ROOT, warm=True), capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    inputs = {job["wildcards"]["dataset"]: job["input"] for job in json.loads(run.stdout) if job["rule"] == "prepare"}
    assert inputs == {name: list(map(str, config.inputs())) for name, config in small.data.items()}
    assert stages.prepare(small, "coco").inputs == stages.prepare(small, "voc").inputs == ()


@pytest.mark.parametrize(
    ("name", "changed"), [("coco", "datasets/coco/val.json"), ("voc", "datasets/voc/test-0/ImageSets/Main/test.txt")]
)
def test_sync_leaves_changed_annotations_to_snakemake(small: Study, name: str, changed: str) -> None:
    prepare_all(small)
    jobs = [job for job in stages.jobs(small) if job.stage == "prepare"]
    sync._refuse_changed_sources(small, jobs)
    os.utime(changed, (4e9, 4e9))
    with pytest.raises(ScfsError, match=rf"data\.{name}: {changed} has changed after data/{name}/manifest\.parquet"):
        sync._refuse_changed_sources(small, jobs)


def test_two_rehearsals_have_the_same_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(VALUES))
    monkeypatch.chdir(tmp_path)
    found = []
    for _ in range(2):
        folder = set_up(Path("s.yaml"))
        found.append({path: path.read_bytes() for path in (folder / "datasets").rglob("*") if path.is_file()})
    assert found[0] == found[1] and len(found[0]) > 3 * SMALL_IMAGES


def test_weights_to_start_from_are_replaced_unless_a_run_makes_them(tmp_path: Path) -> None:
    inits = {"on-coco": "theirs/r18.pth", "on-voc": "checkpoints/on-coco.safetensors"}
    runs = {run: {**VALUES["runs"][run], "init": file} for run, file in inits.items()}
    small = small_study(parse_study({**VALUES, "runs": runs}))
    assert small["runs"]["on-voc"]["init"] == inits["on-voc"]
    file = small["runs"]["on-coco"]["init"]
    write_stand_ins(tmp_path, parse_study(small))
    assert read_initial(tmp_path / file, "narrow_resnet18").tensors
