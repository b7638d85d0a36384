"""A data source from outside the package: one module, found by SCFS_PLUGINS, that everything takes what it needs from."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from repository import ROOT, toy_environment

STUDY: dict[str, Any] = {
    "study": "striped",
    "data": {"lines": {"source": "stripes", "splits": {"train": 3, "val": 2}, "listing": "stripes.txt"}},
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
from scfs.smoke.rehearsal import small_study

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
found["small"] = small_study(study)["data"]["lines"]
found["boxes"] = study.data["lines"].has_boxes
Path("bad.yaml").write_text(Path("params.yaml").read_text().replace("train: 3", "train: 0"))
try:
    load_study(Path("bad.yaml"))
except ScfsError as error:
    found["bad"] = str(error)
Path("found.json").write_text(json.dumps(found))
"""


def run(folder: Path, program: str, *toys: str) -> subprocess.CompletedProcess[str]:
    command = ["warm-python", "-c", program]
    environment = toy_environment(*toys, warm=True)
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "stripes.txt").touch()
    (tmp_path / "scfs").symlink_to(ROOT / "scfs")  # the plan looks for the files of code that jobs depend on
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(STUDY))
    return tmp_path


def test_everything_takes_a_source_from_its_module(folder: Path) -> None:
    done = run(folder, PROGRAM, "source")
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
        "small": {"source": "stripes", "splits": {"train": 8, "val": 8}, "listing": "stripes.txt"},
        "boxes": False,
        "job": "prepare",
        "bad": "bad.yaml: data.lines.splits.train = 0: Input should be greater than or equal to 1",
    }


def test_without_its_module_it_is_an_unknown_source(folder: Path) -> None:
    program = "from pathlib import Path; from scfs.config.study import load_study; load_study(Path('params.yaml'))"
    said = run(folder, program).stderr.splitlines()[-1]
    assert "params.yaml: data.lines.source = 'stripes': not among 'garment-scenes', 'photo-scenes', 'folder'" in said
