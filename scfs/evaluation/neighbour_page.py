"""A page of nearest neighbours among one's own images: `scfs neighbours WEIGHTS FOLDER`."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from scfs.data.decoding import decode
from scfs.data.image_set import ImageSet
from scfs.data.sources.folders import image_folder
from scfs.errors import ScfsError, reading
from scfs.evaluation.encoder import load_frozen
from scfs.evaluation.features import FEATURE, FrozenEncoder, evenly_spaced, extract, square_view
from scfs.evaluation.knn import nearest
from scfs.io.atomic import write_text
from scfs.io.files import read_regular
from scfs.io.progress import log
from scfs.io.templates import filled_in
from scfs.runtime import collectives
from scfs.views.workers import read_image

PAGE = Path(__file__).with_name("neighbour_page.html.j2")
QUERIES, NEIGHBOURS = 24, 8
"""Images of the folder that are looked up if none is given, at even distances; and neighbours of each."""
THUMBNAIL = 112
"""Longer side of a picture on the page, in pixels."""


def write_neighbours(
    weights: str,
    folder: Path,
    out: Path,
    *,
    queries: Sequence[Path] = (),
    size: int | None = None,
    encoder: str = "teacher",
    backbone: str | None = None,
    device: str = "auto",
    workers: int = 0,
) -> None:
    """Write a page that holds, for each query, the images of a folder with the most similar features.

    Args:
        weights: see `scfs.load`, as are `encoder` and `backbone`.
        folder: images among which is looked.
        out: the page, .html; it needs no other file.
        queries: images that are looked up; none: some of the folder, each without itself.
        size: side of the images in pixels; None: that of the training.
        device: auto, cpu or cuda.
        workers: processes that decode images.

    Raises:
        ScfsError: weights, images or a query do not allow it; nothing is written.
    """
    check_page(out)
    model, frozen = load_frozen(weights, encoder, backbone, device, workers)
    side = size or model.size
    with collectives.process_group(frozen.device):
        images = image_folder(folder)
        own = evenly_spaced(images, QUERIES).tolist()
        asked = [(f"{path}", _decoded(path)) for path in queries]
        asked = asked or [(images.paths[row], read_image(images, row)) for row in own]
        features = extract(frozen, images, [FEATURE], square_view(side))[FEATURE]
        found = _features(frozen, [image for _, image in asked], side) if queries else features[own]
        similarities, rows = nearest(features, found, min(NEIGHBOURS + 1, len(images)), frozen.device)
        if not collectives.is_first():
            return
        looked_up = []
        for (name, image), alike, near in zip(asked, similarities.tolist(), rows.tolist(), strict=True):
            others = [(row, cosine) for row, cosine in zip(near, alike, strict=True) if images.paths[row] != name]
            shown = [_shown(images, row, cosine) for row, cosine in others[:NEIGHBOURS]]
            looked_up.append({"path": name, "picture": picture_of(image), "neighbours": shown})
        write_text(out, filled_in(PAGE, source=model.source, folder=f"{folder}", images=len(images), queries=looked_up))
        log(f"{out}: {len(looked_up)} images and their neighbours among {len(images)}")


def check_page(out: Path) -> None:
    """Raise ScfsError unless the name of a page says that it is one."""
    if out.suffix != ".html":
        raise ScfsError(f"{out}: allowed is a name that ends in .html")


def _decoded(path: Path) -> np.ndarray:
    """Decode a query's file.

    Raises:
        ScfsError: it cannot be read or decoded.
    """
    if not path.is_file():
        raise ScfsError(f"{path}: no such image")
    with reading(path):
        return decode(read_regular(path), f"{path}")


def _features(encoder: FrozenEncoder, images: Sequence[np.ndarray], side: int) -> Tensor:
    views = (torch.from_numpy(square_view(side)(image, 0)[None]) for image in images)
    return torch.cat([encoder.features(view, [FEATURE])[FEATURE].cpu() for view in views])


def _shown(images: ImageSet, row: int, cosine: float) -> dict[str, Any]:
    return {"path": images.paths[row], "cosine": cosine, "picture": picture_of(read_image(images, row))}


def picture_of(pixels: np.ndarray, side: int = THUMBNAIL) -> str:
    """Make a small picture, its longer side at most `side` pixels, as a data URI."""
    image, buffer = Image.fromarray(pixels), io.BytesIO()
    image.thumbnail((side, side))
    image.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
