"""The loader's benchmark measures two loaders of the same views."""

import io
import random

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import loader, photographs
from benchmarks.reference_loader import MultiCrop, ReferenceImages, load
from scfs.config.pretrain import Views
from scfs.views.images import normalize
from scfs.views.loader import ViewBatches

DRAWS = 120


@pytest.fixture(scope="module")
def files() -> list[bytes]:
    return photographs.jpegs((200, 150), 20_000)


def test_photographs_are_cut_to_size_and_bytes(files):
    assert len(files) == 2 * len(photographs.photographs()) >= 2
    for data in files:
        image = Image.open(io.BytesIO(data))
        assert image.format == "JPEG" and image.size == (200, 150) and image.mode == "RGB"
        assert 5_000 < len(data) < 40_000
    assert len(set(files)) == len(files)


def test_the_reference_gives_what_the_authors_loader_gives(files):
    views = ReferenceImages(files, 3)[0]
    assert [view.shape for view in views] == [(3, 224, 224)] * 2 + [(3, 96, 96)] * 8
    assert all(view.dtype == torch.float32 for view in views)
    least, most = (
        torch.tensor([(value - m) / s for m, s in zip((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))])
        for value in (0, 1)
    )
    for view in views:
        assert (view.amin((1, 2)) >= least - 1e-6).all() and (view.amax((1, 2)) <= most + 1e-6).all()


def statistics(view: torch.Tensor) -> list[float]:
    """Mean, contrast, gradient and saturation of a normalised view (3, S, S)."""
    view = view.double()
    gradient = view.diff(dim=1).abs().mean() + view.diff(dim=2).abs().mean()
    return [view.mean().item(), view.std().item(), gradient.item(), (view.amax(0) - view.amin(0)).mean().item()]


def test_both_draw_from_the_same_distribution(files, monkeypatch):
    """Means over draws of both agree within their standard errors, for each kind of view."""
    monkeypatch.setattr(loader, "files", lambda size: (files[0],))
    monkeypatch.setitem(loader.SIZES, "imagenet", ((200, 150), 20_000))
    random.seed(0)
    torch.manual_seed(0)
    draw, image = MultiCrop(local_number=1), load(files[0])
    theirs = np.array([[statistics(view) for view in draw(image)] for _ in range(DRAWS)])
    data = ViewBatches(loader.Photographs("imagenet", DRAWS), Views(local_number=1), DRAWS, 1, 0)  # type: ignore[arg-type]
    batch = data[0]
    assert batch.local_crops is not None
    ours_global = normalize(batch.global_crops).unflatten(0, (2, DRAWS))
    views = [*ours_global, normalize(batch.local_crops)]
    ours = np.array([[statistics(crop) for crop in view] for view in views]).swapaxes(0, 1)
    error = np.sqrt(ours.var(0) / DRAWS + theirs.var(0) / DRAWS)
    assert (np.abs(ours.mean(0) - theirs.mean(0)) < 4 * error).all()


def test_a_pair_counts_images(monkeypatch, files):
    monkeypatch.setattr(loader, "files", lambda size: tuple(files))
    monkeypatch.setitem(loader.SIZES, "imagenet", ((200, 150), 20_000))
    monkeypatch.setattr(loader, "BATCH", 2)
    for workers in (0, 1):
        pair = loader.pair(True, torch.device("cpu"), "imagenet", workers)
        assert pair.items == 2
        pair.ours()
        pair.reference()
