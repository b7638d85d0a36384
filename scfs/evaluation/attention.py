"""Search attention maps (Eq. 6) of clean views, as in the paper's Fig. 3, and their overlap with the object.

Fig. 3: four local images are the 2 x 2 jigsaw of the global one; each one's pooled map searches the global image's map,
and so does the mean of the four.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F

from scfs import paths
from scfs.config.evaluation import Attention
from scfs.config.scenes import SCENES
from scfs.data.coco_rle import load_masks
from scfs.data.manifest import ImageSet, describe
from scfs.data.opening import open_detection_split, open_split
from scfs.errors import ScfsError
from scfs.evaluation.features import FrozenEncoder, batches_of, clean_view, evenly_spaced, joined, shown_batches
from scfs.evaluation.result import EvaluationResult, evaluates
from scfs.model.search import attention_map
from scfs.runtime import collectives
from scfs.views.images import crop_resize

PIECES = 4


Searched = dict[str, np.ndarray]
"""Arrays of B images: `rows` (B,); `views` (B, S, S, 3) uint8; `pieces` of the jigsaw (B, 4, s, s, 3) uint8, top left,
top right, bottom left, bottom right; `maps`, the attention A of each piece's feature, cosines (B, 4, H, W) float32, and
`mean_map` that of the pieces' mean feature (B, H, W)."""


def jigsaw(view: np.ndarray, size: int) -> np.ndarray:
    """Cut a view (S, S, 3) into 2 x 2 pieces, each resized to `size`: (4, size, size, 3)."""
    half = len(view) // 2
    starts = (0, len(view) - half)
    return np.stack([crop_resize(view, (top, left, half, half), size) for top in starts for left in starts])


def search(
    protocol: Attention, encoder: FrozenEncoder, images: ImageSet, batches: Sequence[np.ndarray]
) -> Iterator[Searched]:
    """Let the pieces search their own view's map, for each batch of rows."""
    shown = shown_batches(images, batches, clean_view(protocol), encoder.workers, "attention on")
    for batch, views in zip(batches, shown, strict=True):
        pieces = torch.from_numpy(np.stack([jigsaw(view, protocol.local_crop) for view in views.numpy()]))
        queries = encoder.features(pieces.flatten(0, 1), [protocol.layer])[protocol.layer].unflatten(0, (-1, PIECES))
        queries = torch.cat([queries, queries.mean(1, keepdim=True)], dim=1)
        A = attention_map(queries, encoder.maps(views)[protocol.layer]).cpu().numpy()
        shown_as = {"rows": batch, "views": views.numpy(), "pieces": pieces.numpy()}
        yield {**shown_as, "maps": A[:, :PIECES], "mean_map": A[:, PIECES]}


def view_of_mask(mask: np.ndarray, resize: int, crop: int) -> np.ndarray:
    """Bring a mask (H, W) into the frame of the clean view, (crop, crop), taking the nearest pixel."""
    return mask[np.ix_(*(_nearest_pixels(side, min(mask.shape), resize, crop) for side in mask.shape))]


def _nearest_pixels(side: int, shorter: int, resize: int, crop: int) -> np.ndarray:
    """Find the pixels of a side that the view's fall on after resizing `shorter` to `resize` and cropping, (crop,)."""
    resized = resize * side // shorter
    first = round((resized - crop) / 2)
    return ((first + np.arange(crop) + 0.5) * side / resized).astype(np.int64)


def upsampled(maps: np.ndarray, size: int) -> np.ndarray:
    """Bring maps (B, H, W) to (B, size, size), bilinear, pixel centres aligned and not the corners."""
    wide = F.interpolate(torch.from_numpy(maps)[:, None], size=(size, size), mode="bilinear", align_corners=False)
    return wide[:, 0].numpy()


def score(attention: np.ndarray, mask: np.ndarray) -> tuple[float, bool]:
    """Score a map by its overlap with an object.

    Args:
        attention: A at the view's pixels, (S, S).
        mask: the object's pixels, (S, S) bool, at least one.

    Returns:
        The share of the mass of max(A, 0) inside the mask, divided by the mask's share of the area: 1 is no better than
        a uniform map (a map without mass counts as one). And whether the maximum of A, the first one in reading order,
        lies inside the mask.
    """
    mass = np.maximum(attention, 0).astype(np.float64)
    inside = mass[mask].sum() / mass.sum() / mask.mean() if mass.any() else 1.0
    return float(inside), bool(mask.flat[attention.argmax()])


def _scores(
    protocol: Attention, encoder: FrozenEncoder, images: ImageSet, masks: dict[str, np.ndarray]
) -> dict[str, float]:
    """Compute the values over all images with a mask; an object that the centre crop leaves out cannot be scored."""
    rows = np.array([row for row, path in enumerate(images.paths) if path in masks], dtype=np.int64)
    batches = collectives.round_robin(batches_of(rows))
    own = []
    for found in search(protocol, encoder, images, batches):
        viewed = [view_of_mask(masks[images.paths[row]], protocol.resize, protocol.crop) for row in found["rows"]]
        maps = upsampled(found["mean_map"], protocol.crop)
        own.append([score(attention, mask) for attention, mask in zip(maps, viewed, strict=True) if mask.any()])
    scored = [of_image for of_batch in collectives.gather_round_robin(own) for of_image in of_batch]
    values = {"images": float(len(scored))}
    if scored:
        scores, pointed = np.array(scored, dtype=np.float64).T
        values |= {"score": float(scores.mean()), "score_sd": float(scores.std())}
        values["pointing"] = float(100 * pointed.mean())
    return values


def _figure(
    protocol: Attention, encoder: FrozenEncoder, images: ImageSet, masks: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Make the figure's arrays for some images."""
    rows = evenly_spaced(images, protocol.figure_images)
    arrays = joined(search(protocol, encoder, images, batches_of(rows)))
    if masks:
        empty = np.zeros((protocol.crop, protocol.crop), dtype=bool)
        shown = [masks.get(images.paths[row]) for row in rows]
        arrays["masks"] = np.stack(
            [empty if mask is None else view_of_mask(mask, protocol.resize, protocol.crop) for mask in shown]
        )
    return arrays


def open_masks(dataset: str, split: str) -> tuple[ImageSet, dict[str, np.ndarray]]:
    """Open a split with the masks of its objects by the images' paths, none if the data have none.

    Scenes always have masks, data sets in COCO's format may have them.

    Raises:
        ScfsError: a mask has another size than its image.
    """
    manifest = paths.manifest(dataset)
    images, about = open_split(manifest, split), describe(manifest)
    annotated = about["source"] in SCENES or "boxes" in about["splits"][split]
    masks = load_masks(open_detection_split(manifest, split).annotations) if annotated else {}
    for row, path in enumerate(images.paths if masks else ()):
        if masks[path].shape != (images.heights[row], images.widths[row]):
            raise ScfsError(f"{images.where(row)}: its mask is upright, the image as stored is not: turn the image")
    return images, masks


@evaluates(Attention)
def evaluate(protocol: Attention, encoder: FrozenEncoder) -> EvaluationResult:
    """Search with every image of the test split that has an object mask; without masks only the figure is made.

    Values: `images` scored; and if there are any, `score` (mean over images) and `score_sd` (spread over images),
    `pointing` (share in percent whose maximum lies inside the mask); see `score`.
    """
    test, masks = open_masks(protocol.dataset, protocol.test)
    values = _scores(protocol, encoder, test, masks)
    return EvaluationResult(values=values, splits=(test,), arrays=_figure(protocol, encoder, test, masks))
