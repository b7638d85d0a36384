"""Several processes (gloo, real ones) share an evaluation, and come to the bytes of a single one."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import evaluate_ranks
import pytest
import torch
import yaml

from scfs import paths
from scfs.data.opening import open_split

pytestmark = pytest.mark.end_to_end

SIZES = (2, 3)
PASSES = {"knn": (1, 1), "layers": (1, 1), "linear": (2, 1), "linear_cached": (1, 1), "linear_cached, swept": (1, 1)}
"""How often each image of the train and of the test split is looked at."""


def everything(size: int, folder: Path, out: Path) -> Path:
    codes, errors = evaluate_ranks.end(evaluate_ranks.start("all", folder, out, size))
    assert codes == [0] * size, errors
    assert errors[0] and not any(errors[1:])
    return out


@pytest.fixture(scope="module")
def alone(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return everything(1, prepared, tmp_path_factory.mktemp("of-1"))


@pytest.fixture(scope="module", params=SIZES)
def meeting(request: pytest.FixtureRequest, prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return everything(request.param, prepared, tmp_path_factory.mktemp(f"of-{request.param}"))


def found(folder: Path, name: str) -> list[dict[str, Any]]:
    return [torch.load(path) for path in sorted(folder.glob(f"{name}-?.pt"))]


def test_results_have_the_same_bytes_and_the_first_process_writes_them(alone: Path, meeting: Path) -> None:
    expected = {path.name: path.read_bytes() for path in (alone / "rank0").iterdir() if ".run." not in path.name}
    assert len(expected) == len(evaluate_ranks.PROTOCOLS) + 2  # arrays of two kinds
    for name, content in expected.items():
        assert (meeting / "rank0" / name).read_bytes() == content, name
    assert not list(meeting.glob("rank[1-9]"))
    size = len(found(meeting, "features"))
    assert size in SIZES and json.loads((meeting / "rank0" / "knn.run.json").read_text())["processes"] == size
    values = {name: json.loads(expected[f"{name}.json"])["values"] for name in ("knn", "linear", "attention")}
    assert 0 < values["knn"]["top1"] < values["knn"]["top5"] < 100 and 0 < values["linear"]["best_top1"] < 100
    assert values["attention"]["images"] == 16  # all that have a mask


def test_features_are_equal_bit_by_bit_on_all_processes(alone: Path, meeting: Path) -> None:
    (expected,) = found(alone, "features")
    for of_rank in found(meeting, "features"):
        for layer, value in expected["features"].items():
            assert torch.equal(of_rank["features"][layer], value)


def test_classifiers_are_equal_bit_by_bit(alone: Path, meeting: Path) -> None:
    for name in (name for name in evaluate_ranks.PROTOCOLS if name.startswith("linear")):
        (expected,) = found(alone, name)
        everyone = found(meeting, name)
        trained = [each for of_rank in everyone for each in of_rank["trained"]]
        assert len(trained) == len(expected["trained"]) == (8 if "swept" in name else 1)
        assert ("swept" in name) == all(of_rank["trained"] for of_rank in everyone)
        # By rate; of one rate, the classifiers that are reported stand before those that choose.
        for one, other in zip(*(sorted(each, key=lambda of: of[0]) for each in (expected["trained"], trained))):
            assert all(torch.equal(a, b) for a, b in zip(one[1:], other[1:], strict=True)), name
            assert not torch.equal(one[1], torch.zeros_like(one[1]))


def test_every_image_is_read_by_one_process(meeting: Path, workplace: Path) -> None:
    for name, passes in PASSES.items():
        shares = [Counter(of_rank["read"]) for of_rank in found(meeting, name)]
        expected: Counter[str] = Counter()
        for split, times in zip(("train", "val"), passes, strict=True):
            images = open_split(paths.manifest(evaluate_ranks.PROTOCOLS[name]["dataset"]), split)
            expected.update({f"{split}/{path}": times for path in images.paths})
        together: Counter[str] = Counter()
        for share in shares:
            assert share
            together += share
        assert together == expected, name
    # 16 images of val in blocks of 13: of three processes the last has none, and then waits for the others.
    with_tests = [any(path.startswith("val/") for path in of_rank["read"]) for of_rank in found(meeting, "knn")]
    assert with_tests == [True, True, False][: len(with_tests)]


def test_an_image_that_one_process_cannot_read_ends_all_with_one_line(prepared: Path, tmp_path: Path) -> None:
    codes, errors = evaluate_ranks.end(evaluate_ranks.start("bad image", prepared, tmp_path, 2))
    assert codes == [1, 1] and "".join(errors).count("scfs: ") == 1
    assert "red/13.png: not a readable image" in "".join(errors) and "Traceback" not in "".join(errors)
    assert not list(tmp_path.iterdir())


def test_processes_that_would_measure_different_things_are_refused(prepared: Path, tmp_path: Path) -> None:
    codes, errors = evaluate_ranks.end(evaluate_ranks.start("other protocol", prepared, tmp_path, 2))
    assert codes == [1, 1] and "".join(errors).count("scfs: ") == 1
    assert "scfs: identity of the evaluation (protocol, weights, manifest, threads, device): " in "".join(errors)
    assert not list(tmp_path.iterdir())


def test_command_line_under_torchrun_and_as_a_local_job_writes_what_it_writes_alone(
    prepared: Path, tmp_path: Path
) -> None:
    study = {
        "study": "small",
        "data": {"colours": {"source": "folder", "splits": {"train": "colours/train", "val": "colours/val"}}},
        "pretrain": {"dataset": "colours", "split": "train", "backbone": "narrow_resnet18", "epochs": 0},
        "runs": {"toy": {}},
        "evaluate": {"linear": {**evaluate_ranks.PROTOCOLS["linear"], "dataset": "colours"}},
        "tables": {},
    }
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(study))
    for name in ("data", paths.weights("toy").parts[0]):
        (tmp_path / name).symlink_to(prepared / name)
    command = ["scfs.cli", "evaluate", "linear", "--run", "toy", "--device", "cpu", "--workers", "1"]
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "--"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    local = {"SCFS_LAUNCH_EXECUTOR": "local", "SCFS_LAUNCH_PROCESSES_PER_NODE": "2", "SCFS_LAUNCH_STAGES": "[evaluate]"}
    contents = []
    for words, launch in (([*command], {}), ([*torchrun, *command], {}), ([*command], local)):
        done = subprocess.run(
            [sys.executable, "-m", *words],
            cwd=tmp_path, env=environment | launch, capture_output=True, text=True, timeout=200,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("2 processes share the images") == (0 if not contents else 1)
        contents.append((tmp_path / paths.result("toy", "linear")).read_bytes())
        (tmp_path / paths.result("toy", "linear")).unlink()
    assert contents[0] == contents[1] == contents[2]
