"""Trials put together: mean and standard deviation by hand, and refusals."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from small_detector import OUT, protocol

from scfs.detection.aggregate import aggregate
from scfs.errors import ScfsError

pytestmark = pytest.mark.detectron2

VALUES = {"ap": [10.0, 20.0, 60.0], "ap50": [1.0, 2.0, 3.0], "ap75": [5.0, 5.0, 5.0]}
VOC = protocol("voc_faster_rcnn_c4", trials=3)


@pytest.fixture
def parts(tmp_path: Path) -> list[Path]:
    """Three trials as `detect` writes them, with seeds and values of their own."""
    paths = []
    for number in range(3):
        path = tmp_path / f"trial-{number}.json"
        values = {name: of_trials[number] for name, of_trials in VALUES.items()}
        path.write_text(
            json.dumps(
                {
                    **{"run": "some-run", "evaluation": "detection", "part": path.stem, "seed": number},
                    **{"values": values, "protocol": VOC.model_dump(mode="json"), "stage_version": 1},
                    **{"dataset": {"name": "boxed", "splits": {"val": {"digest": "d"}}}, "torch_threads": 1},
                    **{"weights": {"sha256": "a", "identity": "b"}, "resolved": {"lr": 0.02}},
                    "per_class": {"dog": {"ap": float(number)}, "cat": {"ap": None}},
                }
            )
        )
        path.with_suffix(".npz").write_bytes(b"of trial %d" % number)
        paths.append(path)
    return paths


def changed(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_mean_and_standard_deviation_by_hand(parts: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "voc.json"
    aggregate(VOC, "voc", "some-run", parts, out)
    result = json.loads(out.read_text())
    # Deviations of 10, 20, 60 from 30: squares 400, 100, 900; their sum over n - 1 = 2 is 700.
    expected = {"ap": 30, "ap50": 2, "ap75": 5, "ap_sd": 700**0.5, "ap50_sd": 1, "ap75_sd": 0}
    assert result["values"] == pytest.approx(expected) and result["values"].keys() == set(VOC.values())
    assert [trial["seed"] for trial in result["trials"]] == [0, 1, 2]
    assert result["trials"][2]["values"] == {"ap": 60.0, "ap50": 3.0, "ap75": 5.0}
    assert result["per_class"] == {"dog": {"ap": 1.0}, "cat": {"ap": None}}
    assert result["weights"] == {"sha256": "a", "identity": "b"} and result["protocol"] == VOC.model_dump(mode="json")
    assert "part" not in result and "seed" not in result
    assert out.with_suffix(".npz").read_bytes() == b"of trial 0"
    before = out.read_bytes()
    aggregate(VOC, "voc", "some-run", parts, out)
    assert out.read_bytes() == before


def test_one_trial_is_its_own_mean(finished: Path, tmp_path: Path) -> None:
    for file in (finished / OUT).parent.iterdir():
        shutil.copy(file, tmp_path)
    aggregate(protocol(), "coco", "some-run", [tmp_path / OUT.name], tmp_path / "coco.json")
    result, trial = (json.loads((tmp_path / name).read_text()) for name in ("coco.json", OUT.name))
    assert list(result["values"]) == sorted(protocol().values()) and result["values"] == trial["values"]
    assert result["per_class"] == trial["per_class"]
    assert (tmp_path / "coco.npz").read_bytes() == (tmp_path / OUT.name).with_suffix(".npz").read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": {"sha256": "x", "identity": "b"}}, r"weights.sha256 = 'x', but 'a' is wanted"),
        (
            {"dataset": {"name": "boxed", "splits": {"val": {"digest": "e"}}}},
            r"dataset.splits.val.digest = 'e', but 'd'",
        ),
        ({"protocol": {**VOC.model_dump(mode="json"), "seed": 4}}, r"protocol.seed = 4, but 0 is wanted"),
        ({"run": "another"}, r"run = 'another', but 'some-run' is wanted"),
        ({"torch_threads": 2}, r"torch_threads = 2, but 1 is wanted"),
        ({"part": "trial-0"}, r"part = 'trial-0', but 'trial-1' is wanted"),
    ],
)
def test_trials_of_different_things_are_refused(
    change: dict[str, Any], message: str, parts: list[Path], tmp_path: Path
) -> None:
    changed(parts[1], **change)
    with pytest.raises(ScfsError, match=rf"trial-1.json: measured with {message}.*run the stage detect"):
        aggregate(VOC, "voc", "some-run", parts, tmp_path / "voc.json")
    assert not (tmp_path / "voc.json").exists() and not (tmp_path / "voc.npz").exists()


def test_what_is_missing_or_damaged_is_one_line(parts: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "voc.json"
    with pytest.raises(ScfsError, match="2 trials of evaluation voc, 3 were expected"):
        aggregate(VOC, "voc", "some-run", parts[:2], out)
    parts[0].with_suffix(".npz").unlink()
    with pytest.raises(ScfsError, match=r"trial-0.npz: missing"):
        aggregate(VOC, "voc", "some-run", parts, out)
    parts[2].write_text("{}")
    with pytest.raises(ScfsError, match=r"trial-2.json: not the result of a trial"):
        aggregate(VOC, "voc", "some-run", parts, out)
    parts[1].unlink()
    with pytest.raises(ScfsError, match=r"trial-1.json: missing"):
        aggregate(VOC, "voc", "some-run", parts, out)
    assert not out.exists()
