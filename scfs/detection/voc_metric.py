"""VOC's metric of 2007 (AP over 11 recalls), by Detectron2's PascalVOCDetectionEvaluator."""

import scfs.detection.compat  # isort: skip  # noqa: F401

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import torch
from detectron2.data import MetadataCatalog
from detectron2.evaluation import PascalVOCDetectionEvaluator
from detectron2.evaluation.pascal_voc_evaluation import voc_eval
from detectron2.structures import Instances

from scfs.detection.data import DetectionSplit, Record
from scfs.detection.devkit import SPLIT, class_name, image_name, is_left_out
from scfs.detection.metric import AP, RECALLS, Scores
from scfs.errors import ScfsError

THRESHOLDS = range(50, 100, 5)
"""IoU thresholds in percent."""


class VocMetric(PascalVOCDetectionEvaluator):
    """Detectron2's evaluator, which also tells the classes' AP and precision.

    Classes of which no object counts are left out of the mean; Detectron2 takes their AP for 0.

    Args:
        split: the test split.
        devkit: folder where `scfs.detection.devkit.write_devkit` has written it, or will have before `scores`.

    Raises:
        ScfsError: no object of the split counts.
    """

    def __init__(self, split: DetectionSplit, devkit: Path) -> None:
        counted = sorted({item["category_id"] for item in split.objects if not is_left_out(item)})
        if not counted:
            raise ScfsError(f"{split.source}: all objects are difficult: there is nothing to measure")
        name = f"{split.name}:voc:{devkit.resolve()}"
        names = [class_name(split.classes[number]) for number in counted]
        MetadataCatalog.get(name).set(thing_classes=names, dirname=str(devkit), split=SPLIT, year=2007)
        super().__init__(name)
        self._classes = split.classes
        self._counted = counted
        self.reset()

    def process(self, inputs: list[Record], outputs: list[Record]) -> None:
        """Take the model's inputs and outputs."""
        for image, output in zip(inputs, outputs, strict=True):
            instances = output["instances"].to("cpu")
            is_class = instances.pred_classes[:, None] == torch.tensor(self._counted)
            counts = is_class.any(1)
            renumbered = Instances(
                instances.image_size,
                pred_boxes=instances.pred_boxes[counts],
                scores=instances.scores[counts],
                pred_classes=is_class[counts].int().argmax(1),
            )
            super().process([{"image_id": image_name(image["image_id"])}], [{"instances": renumbered}])

    def predictions(self) -> dict[int, list[str]]:
        """Return the lines of VOC's result files by class."""
        return dict(self._predictions)

    def add_predictions(self, predictions: dict[int, list[str]]) -> None:
        """Add the predictions of another process."""
        for number, lines in predictions.items():
            self._predictions[number].extend(lines)

    def scores(self) -> Scores:
        """Compute AP; over all classes it is Detectron2's, for each class it comes from the same files once more."""
        results = self.evaluate()["bbox"]
        values = {ours: float(results[theirs]) for theirs, ours in AP.items()}
        per_class: dict[str, dict[str, float | None]] = {name: dict.fromkeys(AP.values()) for name in self._classes}
        precision = np.full((len(self._classes), len(RECALLS)), np.nan)
        for place, number in enumerate(self._counted):
            ap, precision[number] = self._class_scores(place)
            per_class[self._classes[number]] = {"ap": float(np.mean(list(ap.values()))), "ap50": ap[50], "ap75": ap[75]}
        return Scores(values, per_class, {"precision": precision})

    def _class_scores(self, place: int) -> tuple[dict[int, float], npt.NDArray[np.float64]]:
        """Compute a class's AP by threshold, and its precision over RECALLS at the first threshold."""
        ap, curves = {}, {}
        with TemporaryDirectory() as folder:
            Path(folder, f"{self._class_names[place]}.txt").write_text("\n".join(self._predictions.get(place, [])))
            for threshold in THRESHOLDS:
                recall, precision, of_class = voc_eval(
                    f"{folder}/{{}}.txt",
                    self._anno_file_template,
                    self._image_set_path,
                    self._class_names[place],
                    ovthresh=threshold / 100,
                    use_07_metric=True,
                )
                ap[threshold], curves[threshold] = float(of_class * 100), (recall, precision)
        return ap, sampled(*curves[THRESHOLDS[0]])


def sampled(recall: npt.NDArray[np.float64], precision: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the greatest precision at each of RECALLS or beyond, 0 where it is not reached: (101,)."""
    return np.array([precision[recall >= wanted].max(initial=0.0) for wanted in RECALLS])
