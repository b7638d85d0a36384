"""Arrays of a detection evaluation: test images with their true and found objects, and precision over recall."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count, takewhile
from zipfile import BadZipFile

import numpy as np
from numpy.lib.npyio import NpzFile

from scfs import paths
from scfs.config.study import Study
from scfs.errors import ScfsError
from scfs.report.results import read_result


@dataclass(frozen=True)
class Objects:
    """Objects in an image, true or found, N of them."""

    boxes: np.ndarray
    """Corners x0 y0 x1 y1 in pixels, (N, 4) float."""
    classes: np.ndarray
    """Indices of their classes (N,)."""
    scores: np.ndarray | None
    """Scores between 0 and 1 (N,) of found objects; true ones have none."""
    masks: np.ndarray | None
    """(N, H, W) bool, where the data have masks."""

    def taken(self, places: np.ndarray) -> "Objects":
        """Those at `places` (indices), in that order."""
        scores, masks = (None if values is None else values[places] for values in (self.scores, self.masks))
        return Objects(self.boxes[places], self.classes[places], scores, masks)


@dataclass(frozen=True)
class Picture:
    """A test image with what is in it and what was found."""

    pixels: np.ndarray
    """(H, W, 3) uint8."""
    truth: Objects
    found: Objects


@dataclass(frozen=True)
class Detected:
    """What an evaluation keeps of its detections on some test images."""

    classes: tuple[str, ...]
    """Names of all K classes."""
    pictures: tuple[Picture, ...]
    """The images, in the evaluation's order."""


@dataclass(frozen=True)
class Curves:
    """Precision over recall at IoU 0.5, interpolated as COCO does it, by class; -1 for a class without objects."""

    classes: tuple[str, ...]
    """Names of all K classes."""
    recall: np.ndarray
    """(R,), rising from 0 to 1."""
    boxes: np.ndarray
    """Precision of the boxes (K, R)."""
    masks: np.ndarray | None
    """Precision of the masks (K, R), where the data have masks."""


def read_detected(study: Study, run: str, evaluation: str) -> Detected:
    """Read a run's detections.

    Raises:
        ScfsError: as read_result; or the arrays are missing, damaged or do not fit together.
    """
    with _arrays(study, run, evaluation) as arrays:
        classes = _names(arrays)
        numbers = takewhile(lambda number: f"image_{number}" in arrays, count())
        pictures = [_picture(arrays, number, len(classes)) for number in numbers]
        if not pictures:
            raise ValueError("holds no images")
        return Detected(classes, tuple(pictures))


def read_curves(study: Study, run: str, evaluation: str) -> Curves:
    """Read a run's precision over recall.

    Raises:
        ScfsError: as read_detected.
    """
    with _arrays(study, run, evaluation) as arrays:
        classes, recall = _names(arrays), arrays["recall"]
        boxes = arrays["precision"]
        masks = arrays.get("mask_precision")
        for name, precision in (("precision", boxes), ("mask_precision", masks)):
            if precision is not None and precision.shape != (len(classes), len(recall)):
                raise ValueError(f"{name} has the shape {precision.shape}, not {(len(classes), len(recall))}")
        return Curves(classes, recall, boxes, masks)


@contextmanager
def _arrays(study: Study, run: str, evaluation: str) -> Iterator[NpzFile]:
    """The arrays beside a result, which was written with them: refuses those of other weights."""
    read_result(study, run, evaluation)
    path = paths.result(run, evaluation).with_suffix(".npz")
    kind = study.evaluate[evaluation].kind
    if not path.is_file():
        raise ScfsError(f"{path}: missing: the stage {kind} of run {run} writes it")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            yield arrays
    except (OSError, EOFError, KeyError, ValueError, BadZipFile) as error:
        reason = error.args[0] if error.args else type(error).__name__
        raise ScfsError(f"{path}: not the arrays of a {kind}: {reason}") from None


def _names(arrays: NpzFile) -> tuple[str, ...]:
    return tuple(map(str, arrays["classes"]))


def _picture(arrays: NpzFile, index: int, number: int) -> Picture:
    pixels = arrays[f"image_{index}"]
    if pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(f"image_{index} has the shape {pixels.shape}, not (H, W, 3)")
    truth, found = (_objects(arrays, side, index, pixels.shape[:2], number) for side in ("truth", "found"))
    return Picture(pixels, truth, found)


def _objects(arrays: NpzFile, side: str, index: int, size: tuple[int, ...], number: int) -> Objects:
    """True or found objects of an image of `size` (H, W); `number` is that of all classes."""
    boxes, classes = arrays[f"{side}_boxes_{index}"].reshape(-1, 4), arrays[f"{side}_classes_{index}"]
    scores = arrays[f"found_scores_{index}"] if side == "found" else None
    name = f"{side}_masks_{index}"
    masks = arrays.get(name)
    wanted = {
        "classes": (classes, (len(boxes),)),
        "scores": (scores, (len(boxes),)),
        "masks": (masks, (len(boxes), *size)),
    }
    for what, (values, shape) in wanted.items():
        if values is not None and values.shape != shape:
            raise ValueError(f"{side}_{what}_{index} has the shape {values.shape}, not {shape}")
    whole = classes.dtype.kind in "iu" or not classes.size
    if not whole or any(not 0 <= one < number for one in classes):
        raise ValueError(f"{side}_classes_{index} = {classes.tolist()}: allowed are 0 to {number - 1}")
    return Objects(boxes, classes.astype(int), scores, masks)
