"""Batches in shared memory that is used again, and never while somebody looks at it."""

import pytest
import torch
from image_samples import small_images

from scfs.config.pretrain import Views
from scfs.views import shared_memory
from scfs.views.loader import Batch, ViewBatches, batches
from scfs.views.shared_memory import BufferPool
from scfs.views.workers import PREFETCH_FACTOR

VIEWS = Views(global_size=16, local_size=8, local_number=3)


def filled(pool: BufferPool, number: int, step: int = 0) -> list[torch.Tensor]:
    """What arrives for a step whose buffer was given out; its first tensor is all `number`."""
    ((_, buffer),) = pool.assign([step])
    assert buffer is not None
    pool.buffers[buffer][0].fill_(number)
    return shared_memory.receive(pool.number, buffer)


def test_a_buffer_is_taken_from_its_choice_until_its_batch_is_let_go():
    pool = BufferPool([(2, 3), (4,)], 2)
    first = filled(pool, 1)
    assert [tensor.shape for tensor in first] == [(2, 3), (4,)]
    assert all(tensor.is_shared() for tensor in first)
    second = filled(pool, 2)
    assert next(pool.assign([7])) == (7, None)
    assert (first[0] == 1).all() and (second[0] == 2).all()
    del first
    (buffer,) = (buffer for _, buffer in pool.assign([8]))
    assert buffer == 0
    assert next(pool.assign([9])) == (9, None)  # on its way
    pool.receive(buffer)
    assert next(pool.assign([10])) == (10, 0)


@pytest.mark.parametrize("keep", [lambda x: x[:1], lambda x: x.flatten(), lambda x: x.numpy(), lambda x: x[0, 0]])
def test_any_view_keeps_the_buffer(keep):
    pool = BufferPool([(2, 3)], 1)
    tensors = filled(pool, 5)
    kept = keep(tensors[0])
    del tensors
    assert next(pool.assign([1])) == (1, None)
    assert (kept == 5).all()
    del kept
    assert next(pool.assign([2])) == (2, 0)


def addresses(stream) -> tuple[list[int], list[int]]:
    """Steps, and where each batch's global crops are."""
    steps, places = [], []
    for batch in stream:
        steps.append(batch.step)
        places.append(batch.global_crops.data_ptr())
    return steps, places


def test_a_trainer_that_lets_go_meets_the_same_memory_again():
    data = ViewBatches(small_images(8), VIEWS, 4, 20, 0)
    steps, places = addresses(batches(data, 3, 2))
    assert steps == list(range(3, 40))
    assert len(set(places)) <= PREFETCH_FACTOR * 2 + 3


def test_a_trainer_that_keeps_everything_gets_every_batch_whole():
    data = ViewBatches(small_images(8), VIEWS, 4, 20, 0)
    kept = list(batches(data, 0, 2))
    assert len({batch.global_crops.data_ptr() for batch in kept}) == 40
    for batch in kept:
        assert torch.equal(batch.global_crops, data[batch.step].global_crops)
        assert batch.local_crops is not None and torch.equal(batch.local_crops, data[batch.step].local_crops)


class InPlace(ViewBatches):
    """Says in the batch's rows whether its crops are where they should be."""

    def __getitem__(self, step: int) -> Batch:
        batch = super().__getitem__(step)
        in_place = self.memory is not None and batch.global_crops.data_ptr() == self.memory[0].data_ptr()
        return batch._replace(rows=torch.full_like(batch.rows, in_place))


def test_workers_write_into_the_pool():
    for batch in batches(InPlace(small_images(8), VIEWS, 4, 6, 0), 0, 1):
        assert batch.rows.all()
