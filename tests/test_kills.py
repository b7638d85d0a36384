"""SIGKILL at any moment of a command: given again it ends with the bytes of an undisturbed one, and nothing is left.

In CI each kind once, by warm programs; `make soak` kills real ones, each SCFS_SOAK times, 100 in all by default. With an
even seed every process of the command is killed, with an odd one the first alone, whose children have to end by themselves.
"""

import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soak
import yaml
from PIL import Image
from repository import ROOT, command_environment, copy_folder

pytestmark = pytest.mark.end_to_end

PYTHON = "warm-python"
"""A warm process has another parent than it seems, so none can see it die: `two processes` has an even seed in CI."""
IMAGES, TESTED = 30, 3
SMALL_SETTINGS = {
    "optimizer.warmup_epochs": 1,
    **{"views.global_size": 32, "views.local_size": 16, "views.local_number": 2},
    **{"head.hidden": 16, "head.bottleneck": 8, "head.prototypes": 24},
    **{"search_head.width": 8, "search_head.hidden": 16, "search_head.output": 8},
}
PRETRAIN = ["pretrain", "photos", "--out", "out", "--backbone", "toy_net", "--epochs", "3", "--batch", "10"]
PRETRAIN += ["--threads", "1", "--workers", "1"]
PRETRAIN += [word for key, value in SMALL_SETTINGS.items() for word in ("--set", f"{key}={value}")]
TORCHRUN = [PYTHON, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "--", "scfs.cli"]
KINDS = {
    "prepare folder": ["scfs", "prepare", "photos"],
    "prepare coco": ["scfs", "prepare", "boxes"],
    "one process": ["scfs", *PRETRAIN],
    "two processes": [*TORCHRUN, *PRETRAIN],
    "detect": ["scfs", "detect", "det", "trial-0", "--run", "r"],
}
BEFORE = {
    "detect": [
        ["prepare", "photos"],
        ["prepare", "boxes"],
        ["pretrain", "--run", "r"],
        ["convert", "--run", "r", "--to", "detectron2"],
    ]
}
CI = [("prepare folder", 1), ("prepare coco", 2), ("one process", 3), ("two processes", 4), ("detect", 5)]
DETECTION = {
    **{"kind": "detection", "recipe": "voc_faster_rcnn_c4", "dataset": "boxes", "images_per_batch": 2},
    "figure_images": 1,
    "small_machine": {
        **{"iterations": 5, "short_side": 48, "rpn_batch": 16, "roi_batch": 8, "proposals": 4, "precise_bn": 2}
    },
}
GRACE = 60
"""Seconds in which the children of a killed process have to end."""
CHANGING = r"tfevents|\.run\.json$|^(out/state|runs)/|^tmp/"
"""Files that differ between equal executions: times, and what belongs to one execution."""


def write_inputs(folder: Path) -> None:
    """Write images in two folders, their boxes and masks, and a study."""
    images, boxes = [], []
    for number in range(IMAGES):
        name, generator = f"{'ab'[number % 2]}/{number}.jpg", np.random.default_rng(number)
        path = folder / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (72, 96, 3), dtype=np.uint8)).save(path)
        images.append({"id": number, "file_name": name, "width": 96, "height": 72})
        (x, y), (width, height) = generator.integers(0, 40, 2).tolist(), generator.integers(12, 30, 2).tolist()
        boxes.append(
            {"id": number + 1, "image_id": number, "category_id": number % 2 + 1, "iscrowd": 0, "area": width * height,
             "bbox": [x, y, width, height], "segmentation": [[x, y, x + width, y, x + width, y + height]]}
        )  # fmt: skip
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    for split, number in (("train", IMAGES), ("val", TESTED)):
        content = {"images": images[:number], "annotations": boxes[:number], "categories": categories}
        (folder / f"{split}.json").write_text(json.dumps(content))
    splits = {split: {"images": "photos", "annotations": f"{split}.json"} for split in ("train", "val")}
    study = {
        "study": "kills",
        "data": {
            "photos": {"source": "folder", "splits": {"train": "photos"}},
            "boxes": {"source": "coco", "splits": splits},
        },
        "pretrain": {"dataset": "photos", "split": "train", "backbone": "narrow_resnet18"},
        "runs": {"r": {"epochs": 0}},
        "evaluate": {"det": DETECTION},
        "convert": ["detectron2"],
    }
    (folder / "params.yaml").write_text(yaml.safe_dump(study))
    (folder / "tmp").mkdir()


def start(words: list[str], folder: Path, warm: bool) -> subprocess.Popen[bytes]:
    python = PYTHON if warm else sys.executable
    words = [python if word == PYTHON else word for word in words]
    environment = command_environment(ROOT, warm) | {"SCFS_SAVE_EVERY": "0", "PYTHON_EXEC": python}
    environment["PYTHONPATH"] += f"{os.pathsep}{ROOT / 'tests'}"
    environment |= {"SCFS_PLUGINS": "toys.backbone_and_method", "TMPDIR": str(folder / "tmp")}
    with (folder.parent / f"{folder.name}.txt").open("ab") as said:
        return subprocess.Popen(words, cwd=folder, env=environment, stdout=said, stderr=said, start_new_session=True)


def said(folder: Path) -> str:
    return (folder.parent / f"{folder.name}.txt").read_text(errors="replace")[-3000:]


def finish(words: list[str], folder: Path, warm: bool = True) -> float:
    """Leave a command alone; returns its seconds."""
    process, started = start(words, folder, warm), time.monotonic()
    assert process.wait(300) == 0, said(folder)
    return time.monotonic() - started


def processes(folder: Path) -> list[int]:
    """All that work in the folder: the processes of its command, whoever their parent is by now."""
    found = []
    for link in Path("/proc").glob("[0-9]*/cwd"):
        try:
            if link.readlink() == folder:
                found.append(int(link.parts[2]))
        except OSError:  # it has ended
            continue
    return found


def lingering(folder: Path) -> list[int]:
    """Wait for processes that are about to end; returns those that do not."""
    end = time.monotonic() + GRACE
    while processes(folder) and time.monotonic() < end:
        time.sleep(0.02)
    return processes(folder)


def killed(words: list[str], folder: Path, moment: float, whole: bool) -> bool:
    """Start a command and kill it; False if it ended before."""
    process = start(words, folder, warm=not soak.TRIES)
    try:
        process.wait(moment)
        return False
    except subprocess.TimeoutExpired:
        process.kill()
    while whole and (left := processes(folder)):
        for pid in left:
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                continue
    process.wait()
    return True


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def names(folder: Path) -> list[str]:
    """All files but those of each execution, without hashes."""
    found = [name for name in files(folder) if not re.search("tfevents|^tmp/", name)]
    return sorted(re.sub(r"-[0-9a-f]{16}", "", name) for name in found)


def outcome(folder: Path) -> dict[str, str]:
    found = [name for name in files(folder) if not re.search(CHANGING, name)]
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in found}


@dataclass(frozen=True)
class Undisturbed:
    """A command that was left alone."""

    before: Path
    """Copy of the folder as it was before the command."""
    folder: Path
    """Where the command works, undisturbed or not: manifests name it."""
    seconds: float
    outcome: dict[str, str]
    names: list[str]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Undisturbed]:
    """By kind; each runs once."""

    @cache
    def of(kind: str) -> Undisturbed:
        before, folder = (tmp_path_factory.mktemp("kills") / name for name in ("before", "work"))
        folder.mkdir()
        write_inputs(folder)
        for words in BEFORE.get(kind, []):
            finish(["scfs", *words], folder)
        copy_folder(folder, before)
        seconds = finish(KINDS[kind], folder, warm=not soak.TRIES)
        return Undisturbed(before, folder, seconds, outcome(folder), names(folder))

    return of


@pytest.mark.parametrize(
    ("kind", "seed"),
    [pytest.param(*case, marks=[pytest.mark.detectron2] * (case[0] == "detect")) for case in soak.cases(KINDS, CI)],
)
def test_nothing_is_lost_and_nothing_is_left(kind: str, seed: int, undisturbed: Callable[[str], Undisturbed]) -> None:
    alone = undisturbed(kind)
    draw, folder = random.Random(f"{kind} {seed}"), alone.folder
    for _ in range(10):
        shutil.rmtree(folder)
        copy_folder(alone.before, folder)
        moment = draw.uniform(0, alone.seconds)
        if killed(KINDS[kind], folder, moment, whole=seed % 2 == 0):
            break
    else:
        raise AssertionError(f"ends within {alone.seconds} s")
    when = f"killed after {moment:.2f} of {alone.seconds:.2f} s"
    assert not lingering(folder), f"{when}: its children live on\n{said(folder)}"
    left = sorted(set(names(folder)) - set(alone.names))
    finish(KINDS[kind], folder)
    assert outcome(folder) == alone.outcome, f"{when}\n{said(folder)}"
    assert names(folder) == alone.names, f"{when}\n{said(folder)}"
    assert not lingering(folder), when
    soak.note(kind, seed, moment=round(moment, 2), of=round(alone.seconds, 2), whole=seed % 2 == 0, left=left)
