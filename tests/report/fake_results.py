"""A study whose results are written by hand: what the other stages would leave, in the format that they leave it in."""

import json
import math
from typing import Any

import numpy as np

from scfs import paths
from scfs.config.identity import prepare_identity
from scfs.config.study import Study

PROTOTYPES = 512
STUDY: dict[str, Any] = {
    "study": "fake",
    "scale": "Garment scenes of 96 x 96 pixels, not ImageNet.",
    "data": {
        "scenes": {
            "source": "garment-scenes",
            "splits": {"pretrain": {"scenes": 500}, "train": {"scenes": 300}, "val": {"scenes": 200, "part": "test"}},
        }
    },
    "pretrain": {
        "dataset": "scenes",
        "backbone": "narrow_resnet18",
        "epochs": 4,
        "batch": 64,
        "head": {"prototypes": PROTOTYPES},
        "optimizer": {"warmup_epochs": 1},
    },
    "runs": {"random": {"epochs": 0, "optimizer": {"warmup_epochs": 0}}, "dino": {"method": "dino"}, "scfs": {}},
    "evaluate": {
        "knn": {"kind": "knn", "dataset": "scenes"},
        "quick": {"kind": "linear_cached", "dataset": "scenes"},
        "layers": {"kind": "layers", "dataset": "scenes"},
        "attention": {"kind": "attention", "dataset": "scenes"},
    },
    "tables": {
        "main": {
            "title": "DINO and SCFS",
            "columns": [
                {"label": "k-NN", "evaluation": "knn", "value": "top1", "paper": "knn"},
                {"label": "linear, cached features", "evaluation": "quick", "value": "top1", "paper": "lp"},
                {"label": "attention score", "evaluation": "attention", "value": "score"},
            ],
            "rows": [
                {"label": "random weights", "runs": ["random"]},
                {"label": "DINO", "runs": ["dino"], "paper": {"table": "table7", "row": "DINO"}},
                {"label": "SCFS", "runs": ["scfs"], "paper": {"table": "table7", "row": "SCFS"}},
            ],
        }
    },
    "figures": {
        "curves": {"kind": "curves"},
        "attention": {"kind": "attention", "evaluation": "attention"},
        "layers": {"kind": "layers", "evaluation": "layers"},
    },
}
VALUES: dict[str, dict[str, dict[str, float]]] = {
    "random": {
        "knn": {"top1": 29.44, "top5": 80.0},
        "quick": {"top1": 22.31, "top1_sd": 0.21},
        "layers": {"layer2": 24.1, "layer3": 26.6, "layer4": 29.4},
        "attention": {"score": 1.013, "score_sd": 0.3, "pointing": 18.0, "images": 200},
    },
    "dino": {
        "knn": {"top1": 24.71, "top5": 79.0},
        "quick": {"top1": 23.92, "top1_sd": 0.35},
        "layers": {"layer2": 23.0, "layer3": 25.2, "layer4": 24.7},
        "attention": {"score": 1.212, "score_sd": 0.4, "pointing": 31.5, "images": 200},
    },
    "scfs": {
        "knn": {"top1": 26.03, "top5": 81.0},
        "quick": {"top1": 34.68, "top1_sd": 0.18},
        "layers": {"layer2": 27.3, "layer3": 28.8, "layer4": 26.0},
        "attention": {"score": 1.678, "score_sd": 0.5, "pointing": 47.5, "images": 200},
    },
}
DETECTION: dict[str, Any] = {
    **{key: STUDY[key] for key in ("study", "data", "pretrain")},
    "runs": {"random": STUDY["runs"]["random"], "dino": {"method": "dino"}, "scfs": {}, "scfs-1": {"seed": 1}},
    "evaluate": {
        "coco": {"kind": "detection", "dataset": "scenes", "recipe": "coco_mask_rcnn_fpn_1x"},
        "voc": {
            "kind": "detection",
            "dataset": "scenes",
            "recipe": "voc_faster_rcnn_c4",
            "trials": 3,
            "small_machine": {"iterations": 1200, "short_side": 96},
        },
        "tune": {"kind": "finetune", "dataset": "scenes", "epochs": 3},
    },
    "tables": {
        "voc": {
            "title": "VOC",
            "columns": [
                {"label": "AP", "evaluation": "voc", "value": "ap", "paper": "ap"},
                {"label": "AP50", "evaluation": "voc", "value": "ap50", "paper": "ap50"},
                {"label": "sd of AP", "evaluation": "voc", "value": "ap_sd"},
            ],
            "rows": [
                {"label": "Scratch", "runs": ["random"], "paper": {"table": "table3", "row": "Scratch"}},
                {"label": "DINO", "runs": ["dino"], "paper": {"table": "table3", "row": "DINO"}},
                {"label": "SCFS", "runs": ["scfs"], "paper": {"table": "table3", "row": "SCFS"}},
            ],
        },
        "coco": {
            "title": "COCO",
            "columns": [
                {"label": "box AP", "evaluation": "coco", "value": "box_ap", "paper": "1x_apb"},
                {"label": "mask AP50", "evaluation": "coco", "value": "mask_ap50", "paper": "1x_aps50"},
            ],
            "rows": [{"label": "SCFS", "runs": ["scfs"], "paper": {"table": "table4", "row": "SCFS"}}],
        },
        "tune": {
            "title": "Transfer",
            "columns": [{"label": "CIFAR-10", "evaluation": "tune", "value": "top1", "paper": "cifar10"}],
            "rows": [{"label": "SCFS", "runs": ["scfs"], "paper": {"table": "table5", "row": "SCFS"}}],
        },
    },
    "figures": {
        "found": {"kind": "detections", "evaluation": "coco"},
        "curves": {"kind": "precision_recall", "evaluation": "coco"},
    },
}
"""A study of evaluations that train; two seeds of SCFS."""
DETECTION_VALUES: dict[str, dict[str, float]] = {
    "coco": {"box_ap": 40.46, "box_ap50": 61.8, "mask_ap": 36.7, "mask_ap50": 58.84},
    "voc": {"ap": 57.44, "ap50": 83.04, "ap75": 63.6, "ap_sd": 0.217, "ap50_sd": 0.1, "ap75_sd": 0.2},
    "tune": {"top1": 97.81, "top5": 99.9, "mean_per_class": 97.8},
}
TRAINED: dict[str, dict[str, Any]] = {
    "finetune": {"chosen": {"lr": 0.0032, "weight_decay": 1e-5}, "cells": []},
    "detection": {"resolved": {"iterations": 90000, "images_per_batch": 16, "lr": 0.02}},
}
"""What evaluations that train record of it."""
WARNING = "step 120: it may not be learning: the data loss is 0.995 ln K, the rank is 3.1, 9.2 at the start"


class FakeResults:
    """Writes results of a study below the working folder."""

    def __init__(self, study: Study) -> None:
        self.study = study
        for dataset in study.data:
            self.inspection(dataset)

    def write(self, run: str, values: dict[str, dict[str, float]]) -> None:
        """Everything that the stages leave for one run."""
        self.pretrain(run)
        for evaluation, measured in values.items():
            self.evaluation(run, evaluation, measured)
            if self.study.evaluate[evaluation].kind == "attention":
                self.maps(run, evaluation)
            if self.study.evaluate[evaluation].kind == "detection":
                self.detections(run, evaluation)

    def inspection(self, dataset: str, **changes: Any) -> None:
        """What the stage inspect leaves; `changes` are made to its JSON."""
        splits = list(self.study.data[dataset].splits)
        found = {
            "dataset": dataset,
            "identity": prepare_identity(self.study, dataset),
            "stage_version": 1,
            "splits": [inspection_of(split) for split in splits],
            "between": [{"splits": splits[:2], "number": 0, "pairs": []}],
        }
        path = paths.inspection(dataset)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({**found, **changes}))
        arrays = {}
        for split in splits:
            arrays[f"{split}/names"] = np.array(["cat"])
            arrays[f"{split}/image_0"] = np.full((2, 3, 3), 200, np.uint8)
        np.savez(path.with_suffix(".npz"), **arrays)

    def pretrain(self, run: str, warnings: tuple[str, ...] = ()) -> None:
        settings = self.study.run(run)
        result = {
            "run": run,
            "values": {},
            "curve": curve_of(settings.epochs, settings.method, len(run)),
            "ln_k": math.log(7 if settings.method == "supervised" else PROTOTYPES),
            "warnings": list(warnings),
            "settings": settings.model_dump(mode="json"),
            "dataset": {"name": "scenes", "split": "pretrain", "images": 500, "digest": "d1" * 32},
            "identity": f"{run:x<16}"[:16],
            "weights": {"sha256": run.encode().hex().ljust(64, "0")},
            "stage_version": 1,
            "torch_threads": 1,
        }
        occasion = {"seconds": 60.0 * len(run), "device": "cpu", "precision": "bf16", "images_per_second": 96.4}
        self._store(run, "pretrain", result, {**occasion, "data_wait_share": 0.012})

    def evaluation(self, run: str, evaluation: str, values: dict[str, float]) -> None:
        protocol = self.study.evaluate[evaluation]
        result = {
            "run": run,
            "evaluation": protocol.kind,
            "values": values,
            "protocol": protocol.model_dump(mode="json"),
            "dataset": {"name": "scenes", "splits": {"val": {"images": 2000, "digest": "e2" * 32}}},
            "weights": {"sha256": run.encode().hex().ljust(64, "0"), "identity": f"{run:x<16}"[:16]},
            "settings": {},
            "stage_version": 1,
            **TRAINED.get(protocol.kind, {}),
        }
        self._store(run, evaluation, result, {"seconds": 7.5})

    def part(self, run: str, evaluation: str, part: str, seconds: float) -> None:
        """What a training that is a job of its own leaves."""
        self._store(run, f"{evaluation}/{part}", {"run": run, "part": part}, {"seconds": seconds})

    def detections(self, run: str, evaluation: str, **options: Any) -> None:
        path = paths.result(run, evaluation).with_suffix(".npz")
        np.savez(path, **detection_arrays(len(run), **options))

    def maps(self, run: str, evaluation: str, masks: bool = True) -> None:
        path = paths.result(run, evaluation).with_suffix(".npz")
        np.savez(path, **attention_arrays(len(run), masks))

    def _store(self, run: str, name: str, result: dict[str, Any], occasion: dict[str, Any]) -> None:
        path = paths.result(run, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result))
        common = {
            "finished": "2025-11-23T07:12:40+00:00",
            "host": "buildhost",
            "cpus": 2,
            "git": "f" * 40,
            "lock_sha256": "a" * 64,
        }
        path.with_suffix(".run.json").write_text(json.dumps({**common, **occasion}))


def inspection_of(split: str, **changes: Any) -> dict[str, Any]:
    """Numbers of a split of 5,000 cats and 250 dogs."""
    side = {"least": 96, "median": 96.0, "greatest": 96}
    numbers = {
        "split": split,
        "images": 5250,
        "digest": "0123456789abcdef" * 4,
        "left_out": 0,
        "classes": {"names": ["cat", "dog"], "counts": [5000, 250]},
        "objects": None,
        "width": side,
        "height": side,
        "duplicates": {"number": 0, "pairs": []},
    }
    return {**numbers, **changes}


def curve_of(epochs: int, method: str, seed: int) -> dict[str, list[float]]:
    """Curves that fall from ln K, as the monitor records them; {} without epochs."""
    if not epochs:
        return {}
    ln_k, epoch = math.log(PROTOTYPES), list(range(1, epochs + 1))
    falling = [ln_k * (0.62 + 0.38 * math.exp(-(e - 1) / (2 + 0.5 * seed))) for e in epoch]
    curve: dict[str, list[float]] = {
        "epoch": epoch,
        "step": [8 * e for e in epoch],
        "loss": falling,
        "loss_data": falling,
    }
    if method == "supervised":
        return {**curve, "accuracy": [10.0 * e for e in epoch], "lr": [0.1] * epochs}
    curve["teacher_entropy"] = [0.9 * value for value in falling]
    curve["center_norm"] = [math.sqrt(e) for e in epoch]
    if method == "scfs":
        for index, layer in enumerate(("layer2", "layer3", "layer4")):
            curve[f"loss_{layer}_global"] = [5.5 * math.exp(-e / 20) + 0.1 * index for e in epoch]
            curve[f"loss_{layer}_search"] = [5.0 * math.exp(-e / 15) + 0.1 * index for e in epoch]
        curve["loss"] = [data + 9.0 * math.exp(-e / 18) for data, e in zip(falling, epoch)]
    curve["lr"] = [0.05 * (1 + math.cos(math.pi * e / epochs)) for e in epoch]
    return curve


def attention_arrays(sharpness: int, masks: bool = True, number: int = 2, size: int = 96) -> dict[str, np.ndarray]:
    """Grey noise with one bright ellipse each, its mask, its jigsaw and a blob of a map around it."""
    noise = np.random.default_rng(0).integers(100, 156, (number, size, size, 1)).repeat(3, axis=3)
    y, x = np.mgrid[:size, :size] / size
    centres = [(0.35 + 0.3 * (i % 2), 0.3 + 0.4 * i / number) for i in range(number)]
    inside = np.stack([((y - top) / 0.26) ** 2 + ((x - left) / 0.18) ** 2 < 1 for top, left in centres])
    views = np.where(inside[..., None], noise // 3 + 150, noise).astype(np.uint8)
    half = size // 2
    pieces = np.stack(
        [views[:, top : top + half, left : left + half] for top in (0, half) for left in (0, half)], axis=1
    )
    v, u = (np.mgrid[:6, :6] + 0.5) / 6
    maps = [np.exp(-sharpness * 2 * ((v - top) ** 2 + (u - left) ** 2)) - 0.2 for top, left in centres]
    arrays = {
        "rows": np.arange(number),
        "views": views,
        "pieces": pieces,
        "mean_map": np.stack(maps).astype(np.float32),
    }
    return {**arrays, **({"masks": inside} if masks else {})}


GARMENTS = ("trouser", "pullover", "sandal", "ankle boot with a long name")


def detection_arrays(
    strength: int,
    masks: bool = True,
    classes: tuple[str, ...] = GARMENTS,
    size: tuple[int, int] = (96, 96),
    number: int = 3,
    most: int = 3,
) -> dict[str, np.ndarray]:
    """Grey noise with bright ellipses; found are those of them that `strength` allows, somewhat beside their places."""
    random = np.random.default_rng(0)
    height, width = size
    y, x = np.mgrid[:height, :width]
    arrays: dict[str, np.ndarray] = {"classes": np.array(classes), "recall": np.linspace(0, 1, 101)}
    for image in range(number):
        pixels = random.integers(90, 150, (height, width, 1)).repeat(3, axis=2)
        boxes, inside = [], []
        for _ in range(1 + image % most):
            half = np.array([width, height]) * random.uniform(0.1, 0.22, 2)
            middle = half + (np.array([width, height]) - 2 * half) * random.random(2)
            boxes.append([*(middle - half), *(middle + half)])
            inside.append(((x - middle[0]) / half[0]) ** 2 + ((y - middle[1]) / half[1]) ** 2 < 1)
            pixels = np.where(inside[-1][..., None], pixels // 3 + 160, pixels)
        places = random.integers(0, len(classes), len(boxes))
        shift = np.random.default_rng(strength).normal(0, 0.02 * width, (len(boxes), 4))
        arrays |= {
            f"image_{image}": pixels.astype(np.uint8),
            f"truth_boxes_{image}": np.array(boxes, np.float32),
            f"truth_classes_{image}": places,
            f"found_boxes_{image}": (np.array(boxes) + shift).clip(0, max(size)).astype(np.float32),
            f"found_classes_{image}": places,
            f"found_scores_{image}": np.linspace(0.97, 0.3, len(boxes) + 1)[1:].astype(np.float32),
        }
        if masks:
            arrays |= {f"truth_masks_{image}": np.array(inside), f"found_masks_{image}": np.roll(inside, 2, axis=2)}
    level = np.linspace(0.9, 0.3, len(classes))[:, None] + 0.01 * strength
    falling = np.where(arrays["recall"] < level, 1 - 0.5 * arrays["recall"] ** 2, 0.0)
    return {**arrays, "precision": falling, **({"mask_precision": 0.9 * falling} if masks else {})}
