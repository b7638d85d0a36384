"""A data source from outside the package: one module, found by SCFS_PLUGINS, that everything takes what it needs from."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from repository import ROOT, command_environment

PLUGIN = '''
"""Stripes: images of one colour, made when they are prepared, and again when they are gone."""

import io
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from PIL import Image
from pydantic import Field

from scfs.config.data import DataSource, data_source
from scfs.data.image_set import ImageRows
from scfs.data.manifest import MANIFEST, ManifestSplit, write_manifest
from scfs.data.sources.folders import probed_rows
from scfs.data.sources.registry import PREPARE, RESTORE


@data_source
class Stripes(DataSource):
    """Images of stripes."""

    source: Literal["stripes"]
    splits: dict[str, Annotated[int, Field(ge=1)]]
    """Number of images by split."""
    listing: str = "stripes.txt"
    """A file that makes the manifest stale."""

    @property
    def known_images(self):
        return self.splits

    def inputs(self):
        return [Path(self.listing)]

    def small(self, name, complete):
        return self.model_copy(update={"splits": dict.fromkeys(self.splits, 2)})


def write(folder, split, number):
    (folder / split).mkdir(parents=True, exist_ok=True)
    paths = [f"{index}.png" for index in range(number)]
    for index, path in enumerate(paths):
        pixels = np.full((8, 8, 3), 9 * index, np.uint8)
        pixels[::2] = 255
        Image.fromarray(pixels).save(folder / split / path)
    return paths


@PREPARE.add("stripes")
def prepare_stripes(name, config, folder):
    listed = []
    for split, number in config.splits.items():
        rows, problems = probed_rows(folder / split, write(folder, split, number))
        listed.append(ManifestSplit(split, split, rows))
    write_manifest(folder / MANIFEST, name, config, listed)


@RESTORE.add("stripes")
def restore_stripes(manifest, images, table, about):
    if not images.root.is_dir():
        write(manifest.parent, images.split, len(images))
'''
STUDY: dict[str, Any] = {
    "study": "striped",
    "data": {"lines": {"source": "stripes", "splits": {"train": 3, "val": 2}}},
    "pretrain": {"dataset": "lines", "split": "train", "backbone": "narrow_resnet18"},
    "runs": {"striped": {}},
    "evaluate": {"knn": {"kind": "knn", "dataset": "lines", "resize": 8, "crop": 8}},
}
PROGRAM = """
import json, shutil, sys
from pathlib import Path
from scfs import paths
from scfs.cli.app import main
from scfs.config.study import load_study, params_schema
from scfs.costs.plan import Images
from scfs.data.opening import open_split
from scfs.errors import ScfsError
from scfs.pipeline.jobs import prepare
from scfs.smoke.rehearsal import read_files, smoke_files

def scfs(*arguments):
    sys.argv = ["scfs", *arguments]
    try:
        main()
    except SystemExit as end:
        assert not end.code

study = load_study(Path("params.yaml"))
known = Images(study)
found = {"planned": known.number("lines", "train"), "notes": list(known.notes)}
scfs("plan")
scfs("prepare", "lines")
images = open_split(paths.manifest("lines"), "train")
content = images.read(1).hex()
shutil.rmtree(images.root)
found |= {"images": len(images), "restored": open_split(paths.manifest("lines"), "train").read(1).hex() == content}
found["schema"] = "Stripes" in params_schema()["$defs"]
found["inputs"] = list(map(str, study.data["lines"].inputs()))
found["job"] = prepare(study, "lines").stage
(small,) = smoke_files(read_files(Path("params.yaml"))).values()
found["small"] = small["data"]["lines"]
found["boxes"] = study.data["lines"].has_boxes
Path("bad.yaml").write_text(Path("params.yaml").read_text().replace("train: 3", "train: 0"))
try:
    load_study(Path("bad.yaml"))
except ScfsError as error:
    found["bad"] = str(error)
Path("found.json").write_text(json.dumps(found))
"""


def run(folder: Path, program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    given = command_environment(ROOT) | environment
    given["PYTHONPATH"] += f"{os.pathsep}{folder}"
    command = [sys.executable, "-c", program]
    return subprocess.run(command, cwd=folder, env=given, capture_output=True, text=True, check=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "stripes.py").write_text(PLUGIN)
    (tmp_path / "stripes.txt").touch()
    (tmp_path / "scfs").symlink_to(ROOT / "scfs")  # the plan looks for the files of code that jobs depend on
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(STUDY))
    return tmp_path


def test_everything_takes_a_source_from_its_module(folder: Path) -> None:
    done = run(folder, PROGRAM, SCFS_PLUGINS="stripes")
    assert done.returncode == 0, done.stderr
    assert "lines/train: 3 images, as the study says (not prepared yet)" in done.stdout
    found = json.loads((folder / "found.json").read_text())
    assert found == {
        "planned": 3,
        "notes": ["lines/train: 3 images, as the study says (not prepared yet)"],
        "images": 3,
        "restored": True,
        "schema": True,
        "inputs": ["stripes.txt"],
        "small": {"source": "stripes", "splits": {"train": 2, "val": 2}},
        "boxes": False,
        "job": "prepare",
        "bad": "bad.yaml: data.lines.splits.train = 0: Input should be greater than or equal to 1",
    }


def test_without_its_module_it_is_an_unknown_source(folder: Path) -> None:
    program = "from pathlib import Path; from scfs.config.study import load_study; load_study(Path('params.yaml'))"
    said = run(folder, program).stderr.splitlines()[-1]
    assert "params.yaml: data.lines.source = 'stripes': not among 'garment-scenes', 'folder', 'table'" in said
