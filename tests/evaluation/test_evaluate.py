"""Each kind of evaluation, from files to files."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter

from scfs import paths
from scfs.config.protocol import Evaluation
from scfs.data.manifest import ImageSet
from scfs.data.opening import open_split
from scfs.errors import ScfsError
from scfs.evaluation import result as opening
from scfs.evaluation.run import EVALUATE, evaluate
from scfs.io.atomic import write_json
from scfs.io.results import sha256_of
from scfs.weights.store import load_weights, save_weights

SMALL: dict[str, Any] = {"dataset": "colours", "resize": 36, "crop": 32}
FAST_PROBE: dict[str, Any] = {**SMALL, "batch": 12, "lr": 0.3}
PROTOCOLS: dict[str, dict[str, Any]] = {
    "knn": {**SMALL, "k": [3, 5], "report_k": 5},
    "layers": {**SMALL, "k": [3, 5], "report_k": 3},
    "linear_cached": {**FAST_PROBE, "epochs": 20},
    "linear": {**FAST_PROBE, "epochs": 6},
    "attention": {**SMALL, "dataset": "scenes", "local_crop": 32, "figure_images": 2},
    "class_probabilities": {**SMALL, "local_size": 32, "crops": 2, "figure_images": 2},
    "object_search": {**SMALL, "dataset": "scenes", "local_size": 32, "local_scale": [0.02, 0.2], "crops": 12},
}
VALUES = {
    "knn": {"top1", "top5", "top1_k3", "top5_k3", "top1_k5", "top5_k5"},
    "layers": {"layer2", "layer3", "layer4"},
    "linear_cached": {"top1", "top1_sd", "best_top1"},
    "linear": {"top1", "top1_sd", "best_top1"},
    "attention": {"images", "score", "score_sd", "pointing"},
    "class_probabilities": {
        f"{measure}_{sample}"
        for measure in ("probability", "top1")
        for sample in ("original", "over_augmented", "searched")
    },
    "object_search": {
        f"{name}_{quarter}"
        for name in ("crops", *(f"layer{number}_{value}" for number in (2, 3, 4) for value in ("score", "pointing")))
        for quarter in (0, 25, 50, 75)
    },
}


def run(kind: str, out: Path, *, workers: int = 0, **changes: Any) -> dict[str, Any]:
    protocol = TypeAdapter(Evaluation).validate_python({"kind": kind, **PROTOCOLS[kind], **changes})
    evaluate(protocol, paths.weights("toy"), "toy", out, threads=1, device="cpu", workers=workers)
    result: dict[str, Any] = json.loads(out.read_text())
    return result


def test_every_kind_is_tried_here() -> None:
    assert set(PROTOCOLS) == set(EVALUATE)


@pytest.mark.parametrize("kind", sorted(PROTOCOLS))
def test_result_says_what_was_measured_on_what(kind: str, workplace: Path, tmp_path: Path) -> None:
    result = run(kind, tmp_path / f"{kind}.json")
    assert result["run"] == "toy" and result["evaluation"] == kind
    assert set(result["values"]) == VALUES[kind]
    assert all(np.isfinite(value) for value in result["values"].values())
    assert result["protocol"]["kind"] == kind and result["protocol"]["crop"] == 32
    assert result["weights"] == {"sha256": sha256_of(paths.weights("toy")), "identity": "0123456789abcdef"}
    assert result["settings"]["backbone"] == "narrow_resnet18"
    dataset = PROTOCOLS[kind]["dataset"]
    images = open_split(paths.manifest(dataset), "val")
    assert result["dataset"]["name"] == dataset
    assert result["dataset"]["splits"]["val"] == {"images": len(images), "digest": images.digest}
    assert json.loads((tmp_path / f"{kind}.run.json").read_text())["device"] == "cpu"


@pytest.mark.parametrize("kind", sorted(PROTOCOLS))
def test_repetition_gives_the_same_bytes(kind: str, workplace: Path, tmp_path: Path) -> None:
    for name, workers in (("a", 0), ("b", 1)):
        run(kind, tmp_path / f"{name}.json", workers=workers)
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert (tmp_path / "a.npz").exists() == (kind in ("attention", "class_probabilities"))
    if (tmp_path / "a.npz").exists():
        assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


@pytest.mark.parametrize("kind", ["knn", "linear_cached", "linear"])
def test_colours_are_told_apart(kind: str, workplace: Path, tmp_path: Path) -> None:
    assert run(kind, tmp_path / "out.json")["values"]["top1"] >= 90


def test_layers_agree_with_knn_where_they_overlap(workplace: Path, tmp_path: Path) -> None:
    hard: dict[str, Any] = {"dataset": "scenes", "k": [1, 2, 4, 7]}
    by_k = run("knn", tmp_path / "knn.json", report_k=7, **hard)["values"]
    assert by_k["top1"] == by_k["top1_k7"]
    assert len({by_k[f"top1_k{k}"] for k in hard["k"]}) > 1
    for k in hard["k"]:
        by_layer = run("layers", tmp_path / "layers.json", layers=["layer4"], report_k=k, **hard)["values"]
        assert by_layer == {"layer4": by_k[f"top1_k{k}"]}


def test_seeds_are_listed_and_averaged(workplace: Path, tmp_path: Path) -> None:
    result = run("linear_cached", tmp_path / "out.json", seeds=[4, 5], epochs=2)
    assert [each["seed"] for each in result["seeds"]] == [4, 5]
    assert result["values"]["top1"] == pytest.approx(np.mean([each["top1"] for each in result["seeds"]]))
    alone = run("linear_cached", tmp_path / "alone.json", seeds=[5], epochs=2)
    assert alone["seeds"][0] == result["seeds"][1]


@pytest.mark.parametrize(
    ("kind", "changes", "words"),
    [
        ("knn", {"k": [5, 99]}, ["k = 99", "42 images", "colours/train"]),
        ("layers", {"test": "unlabelled"}, ["unlabelled", "label"]),
        ("linear", {"train": "unlabelled"}, ["unlabelled", "label"]),
        ("linear_cached", {"train": "unlabelled"}, ["unlabelled", "label"]),
        ("attention", {"dataset": "absent"}, ["absent"]),
        ("linear_cached", {"cls_blocks": 4}, ["cls_blocks = 4", "narrow_resnet18 has no [CLS]", "allowed: 1"]),
        ("linear", {"cls_blocks": 2}, ["cls_blocks = 2", "narrow_resnet18 has no [CLS]", "allowed: 1"]),
        ("class_probabilities", {"test": "unlabelled"}, ["unlabelled", "label"]),
        ("class_probabilities", {"dataset": "scenes"}, ["data set scenes, split val", "must have the classes"]),
        ("knn", {"weights": "student"}, ["toy.safetensors", "student.backbone"]),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    kind: str, changes: dict[str, Any], words: list[str], workplace: Path, tmp_path: Path
) -> None:
    with pytest.raises(ScfsError) as caught:
        run(kind, tmp_path / "out.json", **changes)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert not list(tmp_path.iterdir())


DAMAGED: list[tuple[str, float, str]] = [
    ("backbone.layer4.1.conv2.weight", float("nan"), "'layer4.1.conv2.weight' has numbers that are not finite"),
    ("backbone.bn1.running_var", float("inf"), "'bn1.running_var' has numbers that are not finite"),
    ("backbone.bn1.running_var", -1e6, "narrow_resnet18: its features (layer1) are not finite"),
    ("backbone.layer2.0.conv1.weight", 3e38, "narrow_resnet18: its features (layer2) are not finite"),
    ("classifier.weight", float("nan"), "'classifier.weight' has numbers that are not finite"),
]


@pytest.mark.parametrize("kind", sorted(PROTOCOLS))
def test_numbers_that_are_not_finite_are_refused(
    kind: str, workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors, about = load_weights(paths.weights("toy"), "")
    for name, number, said in DAMAGED:
        changed = tensors[f"teacher.{name}"].clone()
        changed.view(-1)[:] = number
        damaged = tmp_path / "damaged.safetensors"
        save_weights(damaged, {**tensors, f"teacher.{name}": changed}, about)
        monkeypatch.setattr(paths, "weights", lambda run, damaged=damaged: damaged)
        with pytest.raises(ScfsError) as caught:
            run(kind, tmp_path / "out.json")
        assert said in str(caught.value)
        assert list(tmp_path.iterdir()) == [damaged]


@pytest.mark.parametrize("kind", ["linear", "linear_cached"])
def test_classifiers_that_diverge_are_one_line(kind: str, workplace: Path, tmp_path: Path) -> None:
    with pytest.raises(ScfsError, match=r"lr = 1e\+38: the classifiers diverged: give a lower rate"):
        run(kind, tmp_path / "out.json", lr=1e38, epochs=2)
    assert not list(tmp_path.iterdir())


def test_a_value_that_is_not_finite_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ScfsError, match=r"evaluation: top1 = nan: not a finite number"):
        opening.EvaluationResult(values={"top1": float("nan")}, splits=())
    with pytest.raises(ScfsError, match=r"out.json: not written: Out of range float values are not JSON compliant"):
        write_json(tmp_path / "out.json", {"values": {"top1": float("inf")}})
    assert not list(tmp_path.iterdir())


def test_missing_weights_are_named(workplace: Path, tmp_path: Path) -> None:
    protocol = TypeAdapter(Evaluation).validate_python({"kind": "knn", **PROTOCOLS["knn"]})
    with pytest.raises(ScfsError, match=r"nowhere\.safetensors: no such weights file"):
        evaluate(protocol, Path("nowhere.safetensors"), "toy", tmp_path / "out.json", threads=1, device="cpu")
    with pytest.raises(ScfsError, match=r"gpu: not among auto, cpu, cuda"):
        evaluate(protocol, paths.weights("toy"), "toy", tmp_path / "out.json", threads=1, device="gpu")


def test_splits_of_different_classes_are_refused(
    workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def open_with_other_classes(manifest: Path, split: str) -> ImageSet:
        images = open_split(manifest, split)
        return replace(images, classes=("blue", "green", "pink")) if split == "val" else images

    monkeypatch.setattr(opening, "open_split", open_with_other_classes)
    with pytest.raises(ScfsError, match=r"splits 'train' and 'val' must have the same classes.*pink"):
        run("knn", tmp_path / "out.json")


def test_an_unreadable_image_is_one_line_from_a_worker_too(
    workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = ImageSet.read
    monkeypatch.setattr(ImageSet, "read", lambda images, row: read(images, row)[: 60 if row == 3 else None])
    for workers in (0, 1):
        with pytest.raises(ScfsError, match=r"^\S+\.png: not a readable image") as caught:
            run("knn", tmp_path / "out.json", workers=workers)
        assert "Traceback" not in str(caught.value)
