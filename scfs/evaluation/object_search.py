"""What crops find of an object in their image (Eq. 5 and 6), by how much of the object they show.

Each crop's pooled feature searches the map of the clean view; the map is held against the object's mask.
"""

from functools import partial

import numpy as np

from scfs.config.evaluation import ObjectSearch
from scfs.config.pretrain import Views
from scfs.errors import ScfsError
from scfs.evaluation.attention import open_masks, score, upsampled, view_of_mask
from scfs.evaluation.features import FrozenEncoder, batches_of, clean_view, shown_batches
from scfs.evaluation.result import EvaluationResult, evaluates
from scfs.model.search import attention_map
from scfs.runtime import collectives
from scfs.views.augmentation import GLOBAL_NUMBER, augmentation_parameters
from scfs.views.images import Pixels, crop_resize

Boxes = list[tuple[int, int, int, int]]
"""Top, left, height and width of crops, in pixels."""


def drawn_boxes(row: int, size: tuple[int, int], protocol: ObjectSearch) -> Boxes:
    """Draw the crops of an image of some height and width, as pre-training draws local crops: N boxes."""
    views = Views(local_number=protocol.crops, local_size=protocol.local_size, local_scale=protocol.local_scale)
    drawn = augmentation_parameters(protocol.seed, 0, [row], [size], views)[0, GLOBAL_NUMBER:]
    return [(int(crop["top"]), int(crop["left"]), int(crop["height"]), int(crop["width"])) for crop in drawn]


def drawn_crops(image: Pixels, row: int, protocol: ObjectSearch) -> Pixels:
    """Cut the drawn crops out of an image (H, W, 3) and resize them: (N, s, s, 3)."""
    boxes = drawn_boxes(row, image.shape[:2], protocol)
    return np.stack([crop_resize(image, box, protocol.local_size) for box in boxes])


def object_shares(mask: np.ndarray, boxes: Boxes) -> np.ndarray:
    """Compute the share of each box that the object of a mask (H, W) covers, (N,)."""
    return np.array([mask[top : top + height, left : left + width].mean() for top, left, height, width in boxes])


@evaluates(ObjectSearch)
def evaluate(protocol: ObjectSearch, encoder: FrozenEncoder) -> EvaluationResult:
    """Search with the crops of every image of the test split that has an object mask within its clean view.

    Values, for each quarter of `protocol.quarters`: `crops_...`, their number; `<layer>_score_...` and, in percent,
    `<layer>_pointing_...`, means over these crops; see `scfs.evaluation.attention.score`.

    Raises:
        ScfsError: no image has a mask; or see `open_masks`.
    """
    test, masks = open_masks(protocol.dataset, protocol.test)
    rows = np.array([row for row, path in enumerate(test.paths) if path in masks], dtype=np.int64)
    if not len(rows):
        raise ScfsError(f"object_search: data set {test.name}, split {test.split}: no image has an object mask")
    batches = collectives.round_robin(batches_of(rows))
    views = shown_batches(test, batches, clean_view(protocol), encoder.workers, "object search on")
    draw = partial(drawn_crops, protocol=protocol)
    crops = shown_batches(test, batches, draw, encoder.workers, "their crops on")
    own = []
    for batch, of_images, of_crops in zip(batches, views, crops, strict=True):
        maps = encoder.maps(of_images)
        queries = encoder.features(of_crops.flatten(0, 1), protocol.layers)
        A = [
            attention_map(queries[layer].unflatten(0, (-1, protocol.crops)), maps[layer]).cpu().numpy()
            for layer in protocol.layers
        ]
        own.append(
            [
                measured
                for place, row in enumerate(batch.tolist())
                for measured in _measured(protocol, row, masks[test.paths[row]], [of_layer[place] for of_layer in A])
            ]
        )
    of_all = [of_crop for of_batch in collectives.gather_round_robin(own) for of_crop in of_batch]
    return EvaluationResult(values=_means(protocol, np.array(of_all, dtype=np.float64)), splits=(test,), arrays={})


def _measured(protocol: ObjectSearch, row: int, mask: np.ndarray, A: list[np.ndarray]) -> list[list[float]]:
    """List of each crop of an image the object's share of it, and each layer's score and pointing.

    Args:
        protocol: which crops.
        row: of the image.
        mask: the object's pixels in the image, (H, W) bool.
        A: each layer's maps of the crops, (N, h, w).
    """
    viewed = view_of_mask(mask, protocol.resize, protocol.crop)
    if not viewed.any():
        return []
    shares = object_shares(mask, drawn_boxes(row, (mask.shape[0], mask.shape[1]), protocol))
    wide = [upsampled(maps, protocol.crop) for maps in A]
    scores = [[value for maps in wide for value in score(maps[crop], viewed)] for crop in range(len(shares))]
    return [[share, *map(float, of_crop)] for share, of_crop in zip(shares.tolist(), scores, strict=True)]


def _means(protocol: ObjectSearch, measured: np.ndarray) -> dict[str, float]:
    """Average what `_measured` lists of all crops over those of each quarter."""
    quarter_of = np.searchsorted(protocol.quarters, 100 * measured[:, 0], side="right") - 1
    values = {}
    for place, quarter in enumerate(protocol.quarters):
        of_quarter = measured[quarter_of == place, 1:]
        values[f"crops_{quarter}"] = float(len(of_quarter))
        for layer, (mean_score, pointed) in zip(
            protocol.layers, of_quarter.mean(0).reshape(-1, 2) if len(of_quarter) else ()
        ):
            values |= {
                f"{layer}_score_{quarter}": float(mean_score),
                f"{layer}_pointing_{quarter}": float(100 * pointed),
            }
    return values
