"""Processes that share batches of images in shards: each reads the images of its share, and no byte more."""

import os
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from image_samples import MemoryImages, small_images

from scfs.config.pretrain import Views
from scfs.data import image_set
from scfs.data.image_set import PLACES, ROWS, ImageSet
from scfs.data.official.shards import ShardWriter
from scfs.runtime.philox import permutation
from scfs.runtime.world import World
from scfs.views.loader import ViewBatches

VIEWS = Views(global_size=16, local_size=8, local_number=2)
NUMBER, BATCH, SEED = 23, 10, 5


@pytest.fixture
def memory() -> MemoryImages:
    return small_images(NUMBER)


@pytest.fixture
def sharded(memory: MemoryImages, tmp_path: Path) -> ImageSet:
    """The images in three tars."""
    rows = []
    for shard in range(3):
        writer = ShardWriter(tmp_path / "shards" / f"train-{shard:05d}.tar", tmp_path / "part")
        for row in range(NUMBER)[shard * 8 : shard * 8 + 8]:
            place = writer.add(memory.paths[row], memory.files[row])
            sizes = {"width": int(memory.widths[row]), "height": int(memory.heights[row])}
            rows.append({"path": memory.paths[row], **sizes, "sha256": bytes(32), **place._asdict()})
        writer.close()
    table = pa.Table.from_pylist(rows, pa.schema([*ROWS, *PLACES]))
    return ImageSet.of("sample", "train", tmp_path / "shards", (), table)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    """Every read of a shard: file, offset and bytes; every shard is opened for reading at random."""
    found: list[tuple[str, int, int]] = []
    advised: dict[int, int] = {}
    pread, fadvise = os.pread, os.posix_fadvise

    def counting_pread(descriptor: int, size: int, offset: int) -> bytes:
        assert advised[descriptor] == os.POSIX_FADV_RANDOM
        found.append((Path(f"/proc/self/fd/{descriptor}").readlink().name, offset, size))
        return pread(descriptor, size, offset)

    def noting_fadvise(descriptor: int, offset: int, length: int, advice: int) -> None:
        assert (offset, length) == (0, 0)
        advised[descriptor] = advice
        fadvise(descriptor, offset, length, advice)

    image_set.close_files()
    monkeypatch.setattr(os, "pread", counting_pread)
    monkeypatch.setattr(os, "posix_fadvise", noting_fadvise)
    return found


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("parts", [1, 2])
def test_a_process_reads_only_the_images_of_its_share(
    sharded: ImageSet, memory: MemoryImages, reads: list[tuple[str, int, int]], size: int, parts: int
) -> None:
    whole = ViewBatches(memory, VIEWS, BATCH, 2, SEED, parts)
    for step in range(len(whole)):
        read_by_all: Counter[int] = Counter()
        for rank in range(size):
            reads.clear()
            share = ViewBatches(sharded, VIEWS, BATCH, 2, SEED, parts, World(rank, size))[step]
            assert reads == [sharded.place(row) for row in share.rows.tolist()]  # once each, and whole
            for index, row in enumerate(share.rows.tolist()):
                place = whole[step].rows.tolist().index(row)
                assert torch.equal(share.global_crops[index], whole[step].global_crops[place])
            read_by_all.update(share.rows.tolist())
        epoch, place = divmod(step, NUMBER // BATCH)
        expected = permutation(SEED, epoch, NUMBER)[place * BATCH : (place + 1) * BATCH]
        assert read_by_all == Counter(expected.tolist())
