"""A page to search one's own images by drawing a rectangle on one of them: `scfs search WEIGHTS FOLDER`.

The page computes Eq. 6 in the browser. Its query is the mean of the layer's map inside the rectangle (a training's is
the pooled map of a crop that went through the network by itself). So that the page stays small, a position's feature is
divided by its norm, projected onto the `WIDTH` directions that keep most of all features, and stored in bytes.
"""

import base64
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from scfs.data.sources.folders import image_folder
from scfs.errors import ScfsError
from scfs.evaluation.encoder import load_frozen
from scfs.evaluation.features import batches_of, evenly_spaced, shown_batches, square_view
from scfs.evaluation.neighbour_page import check_page, picture_of
from scfs.io.atomic import write_text
from scfs.io.progress import log
from scfs.io.templates import filled_in
from scfs.model.search import attention_map

PAGE = Path(__file__).with_name("search_page.html.j2")
WIDTH = 48
"""Numbers of a position on the page."""
MOST = 400
"""Images on the page."""
LARGEST = 50 * 2**20
"""Bytes of the page at most."""
SIDE = 160
"""Least side in pixels at which images are shown to the network: the maps of a smaller image have few positions."""
THUMBNAIL = 160
LEVELS = 127
"""A byte's levels on either side of 0."""


def write_search(
    weights: str,
    folder: Path,
    out: Path,
    *,
    layer: str = "layer3",
    size: int | None = None,
    encoder: str = "teacher",
    backbone: str | None = None,
    device: str = "auto",
    workers: int = 0,
) -> None:
    """Write the page, which needs no other file.

    Args:
        weights: see `scfs.load`, as are `encoder` and `backbone`.
        folder: images; of a larger folder than `MOST`, some at even distances.
        out: the page, .html.
        layer: whose maps are searched.
        size: side of the images in pixels; None: that of the training, at least `SIDE`.
        device: auto, cpu or cuda.
        workers: processes that decode images.

    Raises:
        ScfsError: weights, images or an argument do not allow it, or the page would be too large; nothing is written.
    """
    check_page(out)
    model, frozen = load_frozen(weights, encoder, backbone, device, workers)
    if layer not in model.backbone.channels:
        raise ScfsError(f"--layer {layer}: not among {', '.join(model.backbone.channels)}")
    side = size or max(SIDE, model.size)
    images = image_folder(folder)
    rows = evenly_spaced(images, MOST)
    if len(rows) < len(images):
        log(f"{folder}: {len(rows)} of {len(images)} images, at even distances, come onto the page")
    maps, pictures = [], []
    batches = batches_of(rows)
    for batch in shown_batches(images, batches, square_view(side), workers, "maps of"):
        maps.append(frozen.maps(batch)[layer].cpu())
        pictures += [picture_of(view, THUMBNAIL) for view in batch.numpy()]
    reduced = reduce_maps(torch.cat(maps))
    values = {"layer": layer, "source": model.source, "folder": f"{folder}", "images": len(images), "side": side}
    data = {"pictures": pictures, "paths": [images.paths[row] for row in rows], **reduced}
    page = filled_in(PAGE, **values, data=data)
    if len(page) > LARGEST:
        raise ScfsError(f"{out}: would have {len(page) >> 20} MB, at most {LARGEST >> 20} are allowed: lower --size")
    write_text(out, page)
    log(f"{out}: {len(rows)} images; its maps differ from the network's by {reduced['error']:.3f} at most")


def reduce_maps(maps: Tensor) -> dict[str, Any]:
    """Reduce the maps of images (n, C, H, W) to what the page computes with.

    Returns:
        `height`, `width`, `depth`; `scale` of a byte; base64 of `keys`, (n, H * W, depth) int8, and of the positions'
        `norms`, (n, H * W) float32; `error`, the largest difference of Eq. 6 for queries of a quarter of each image.
    """
    n, C, H, W = maps.shape
    norms = torch.linalg.vector_norm(maps, dim=1).clamp_min(1e-12)
    unit = (maps / norms.unsqueeze(1)).flatten(2).transpose(1, 2)  # n, H*W, C
    rows = unit.flatten(0, 1).double()
    directions = torch.linalg.eigh(rows.T @ rows).eigenvectors[:, -min(WIDTH, C) :]
    projected = (rows @ directions).float()
    scale = float(projected.abs().max()) / LEVELS
    keys = (projected / scale).round().to(torch.int8).view(n, H * W, -1)
    error = _largest_error(maps, norms, keys.float() * scale)
    return {
        "height": H,
        "width": W,
        "depth": keys.shape[2],
        "scale": scale,
        "keys": _base64(keys.numpy()),
        "norms": _base64(norms.flatten(1).numpy().astype("<f4")),
        "error": error,
    }


def _largest_error(maps: Tensor, norms: Tensor, keys: Tensor) -> float:
    """Compare the page's maps with Eq. 6 of the network's own, for the top left quarter of some images as queries."""
    n, _, H, W = maps.shape
    height, width = max(1, H // 2), max(1, W // 2)
    inside = torch.zeros(H, W, dtype=torch.bool)
    inside[:height, :width] = True
    worst = 0.0
    for image in evenly_spaced_numbers(n):
        query = maps[image, :, :height, :width].mean((1, 2))
        exact = attention_map(query.expand(n, 1, -1), maps).flatten(1)
        own = (keys[image] * norms[image].flatten().unsqueeze(1))[inside.flatten()].mean(0)
        found = keys @ F.normalize(own, dim=0)
        worst = max(worst, float((found - exact).abs().max()))
    return worst


def evenly_spaced_numbers(n: int, most: int = 16) -> list[int]:
    """Choose numbers below n at even distances."""
    return (np.arange(min(n, most)) * n // min(n, most)).tolist()


def _base64(values: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()
