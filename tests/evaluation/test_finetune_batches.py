"""Batches of fine-tuning: one stream of permutations, cut by hand here."""

import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from tuned import batch_of, small

from scfs import paths
from scfs.config.pretrain import Views
from scfs.data.decoding import decode
from scfs.data.manifest import ImageSet
from scfs.data.opening import open_split
from scfs.errors import ScfsError
from scfs.evaluation.finetune.crops import CropBatches
from scfs.runtime.philox import permutation
from scfs.runtime.world import World
from scfs.views.augmentation import augmentation_parameters
from scfs.views.images import crop_resize


@pytest.fixture
def images(workplace: Path) -> ImageSet:
    return open_split(paths.manifest("colours"), "train")  # 42


def stream(n: int, seed: int, passes: int) -> list[tuple[int, int]]:
    """(pass, row) of every place."""
    return [(epoch, row) for epoch in range(passes) for row in permutation(seed, epoch, n).tolist()]


@pytest.mark.parametrize("batch", [12, 100])
def test_batches_are_cut_from_the_joined_permutations(images: ImageSet, batch: int) -> None:
    data = CropBatches(images, small(batch=batch, seed=3, steps=5, scale=[0.2, 0.9]))
    places = stream(42, 3, 12)
    assert data.steps == 5
    views = Views(global_scale=(0.2, 0.9), local_number=0)
    for step in (0, 3, 4):
        made = data[step]
        assert made.pixels.shape == (batch, 32, 32, 3)
        for index, (epoch, row) in list(enumerate(places[step * batch : (step + 1) * batch]))[:: batch // 12]:
            assert made.labels[index] == images.require_labels()[row]
            size = np.array([[images.heights[row], images.widths[row]]])
            drawn = augmentation_parameters(3, epoch, [row], size, views)[0, 0]
            box = tuple(int(drawn[name]) for name in ("top", "left", "height", "width"))
            view = crop_resize(decode(images.read(row), "image"), box, 32)  # type: ignore[arg-type]
            assert np.array_equal(made.pixels[index].numpy(), view[:, ::-1] if drawn["flip"] else view)


def test_every_image_counts_and_the_last_batch_is_filled_up(images: ImageSet) -> None:
    for epochs, batch, steps in ((2, 12, 7), (1, 12, 4), (3, 100, 2)):
        data = CropBatches(images, small(steps=None, epochs=epochs, batch=batch))
        assert data.steps == steps
        seen = Counter(row for _, row in stream(42, 0, 9)[: steps * batch])
        assert set(seen) == set(range(42)) and min(seen.values()) >= epochs
        labels = torch.cat([data[step].labels for step in range(steps)])
        counted = np.bincount(images.require_labels(), weights=[seen[row] for row in range(42)])
        assert labels.bincount().tolist() == counted.tolist()


def test_a_batch_does_not_depend_on_those_before_it(images: ImageSet) -> None:
    protocol = small(batch=30)
    straight = CropBatches(images, protocol)
    batches = [straight[step] for step in range(6)]
    for step in (4, 1, 5, 1):
        other = pickle.loads(pickle.dumps(CropBatches(images, protocol)))[step]  # as a worker gets it
        assert torch.equal(other.pixels, batches[step].pixels) and torch.equal(other.labels, batches[step].labels)


def test_parts_are_pieces_of_the_batch(images: ImageSet) -> None:
    (whole,), parts = (
        batch_of(CropBatches(images, small(batch=20)), 3),
        batch_of(CropBatches(images, small(batch=20, accumulate=4)), 3),
    )
    assert [len(part.labels) for part in parts] == [5] * 4
    assert torch.equal(torch.cat([part.pixels for part in parts]), whole.pixels)
    assert torch.equal(torch.cat([part.labels for part in parts]), whole.labels)


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("size", [2, 3])
def test_processes_share_every_part_of_a_batch(images: ImageSet, accumulate: int, size: int) -> None:
    protocol = small(batch=20, accumulate=accumulate)
    whole = batch_of(CropBatches(images, protocol), 2)
    shares = [batch_of(CropBatches(images, protocol, World(rank, size)), 2) for rank in range(size)]
    for index, part in enumerate(whole):
        assert torch.equal(torch.cat([share[index].pixels for share in shares]), part.pixels)
        assert torch.equal(torch.cat([share[index].labels for share in shares]), part.labels)
        assert len({len(share[index].labels) for share in shares}) <= 2


def test_a_part_needs_an_image_for_every_process(images: ImageSet) -> None:
    with pytest.raises(ScfsError, match=r"batch / accumulate = 6 images, fewer than the 7 processes"):
        CropBatches(images, small(accumulate=2), World(0, 7))
