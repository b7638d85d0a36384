import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pil_reference
import pyarrow as pa
import pytest
import torch
from image_samples import MemoryImages, encoded, painting, small_images
from repository import ROOT, command_environment

from scfs.config.pretrain import Views
from scfs.data.decoding import decode
from scfs.data.image_set import ROWS, ImageSet
from scfs.errors import ScfsError
from scfs.runtime.philox import permutation
from scfs.views import loader
from scfs.views.augmentation import augmentation_parameters
from scfs.views.loader import Batch, ViewBatches, batches

VIEWS = Views(global_size=16, local_size=8, local_number=3)


def dataset(number: int = 11, batch: int = 4, epochs: int = 3, views: Views = VIEWS, seed: int = 5) -> ViewBatches:
    return ViewBatches(small_images(number), views, batch, epochs, seed)


def assert_same(a: Batch, b: Batch) -> None:
    assert a.step == b.step
    for one, other in zip(a[1:], b[1:], strict=True):
        assert (one is None and other is None) or torch.equal(one, other)


@pytest.mark.parametrize("colour", ["cpu", "device"])
def test_crops_are_turned_as_their_parameters_say(colour: str) -> None:
    plain = {"global_size": 16, "local_size": 8, "local_number": 1, "flip": 0, "jitter": 0, "grey": 0, "solarize": 0}
    plain |= {"blur": (0, 0, 0)}

    def crops(**turns: float) -> tuple[np.ndarray, np.ndarray]:
        data = dataset(views=Views(**plain, **turns))  # type: ignore[arg-type]
        data.colour = colour  # type: ignore[assignment]
        return data[0].global_crops.numpy(), data[0].local_crops.numpy()  # type: ignore[union-attr]

    for before, flipped, turned in zip(crops(), crops(vertical_flip=1), crops(rotate90=1), strict=True):
        assert (flipped == before[:, ::-1]).all() and (turned == np.rot90(before, axes=(1, 2))).all()


def test_images_on_disk_give_the_same_batches(tmp_path):
    memory, rows = small_images(11), []
    for index, path in enumerate(memory.paths):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(memory.files[index])
        sizes = {"width": int(memory.widths[index]), "height": int(memory.heights[index])}
        rows.append({"path": path, **sizes, "sha256": bytes(32)})
    images = ImageSet.of("sample", "pretrain", tmp_path, (), pa.Table.from_pylist(rows, ROWS))
    on_disk = ViewBatches(images, VIEWS, 4, 3, 5)
    assert_same(on_disk[2], dataset()[2])
    (tmp_path / memory.paths[int(on_disk[2].rows[1])]).unlink()
    with pytest.raises(ScfsError, match=r"images/pretrain/\d{5}\.png: cannot be read: No such file"):
        list(batches(on_disk, 2, 1))


def test_shapes_and_types():
    data = dataset()
    assert len(data) == 3 * (11 // 4)
    batch = data[0]
    assert batch.step == 0
    assert batch.rows.shape == (4,) and batch.rows.dtype == torch.int64
    assert batch.global_crops.shape == (2 * 4, 16, 16, 3) and batch.global_crops.dtype == torch.uint8
    assert batch.local_crops is not None
    assert batch.local_crops.shape == (3 * 4, 8, 8, 3) and batch.local_crops.dtype == torch.uint8
    assert batch.global_crops.is_contiguous() and batch.local_crops.is_contiguous()
    with pytest.raises(IndexError):
        data[6]
    with pytest.raises(IndexError):
        data[-1]


def test_crops_are_the_tables_in_crop_major_order():
    data = dataset()
    batch = data[3]  # second step of the second epoch
    assert batch.rows.tolist() == permutation(5, 1, 11)[4:8].tolist()
    for place, row in enumerate(batch.rows.tolist()):
        image = decode(data.images.read(row), "")
        table = augmentation_parameters(5, 1, [row], [image.shape[:2]], VIEWS)[0]
        for slot, parameters in enumerate(table):
            size = 16 if slot < 2 else 8
            crop = batch.global_crops[slot * 4 + place] if slot < 2 else batch.local_crops[(slot - 2) * 4 + place]
            difference = np.abs(crop.numpy().astype(int) - pil_reference.view(image, parameters, size))
            assert difference.mean() < 1, (row, slot)


def test_epochs_are_permutations_without_their_remainder():
    data = dataset()
    rows = torch.stack([data[step].rows for step in range(len(data))])
    for epoch in range(3):
        seen = rows[2 * epoch : 2 * epoch + 2].flatten().tolist()
        assert seen == permutation(5, epoch, 11)[:8].tolist()
        assert len(set(seen)) == 8
    assert len({tuple(order.tolist()) for order in rows}) == 6


def test_an_image_looks_different_in_every_epoch_and_with_every_seed():
    one_batch = dataset(number=4, epochs=2)
    order = [batch.rows.argsort() for batch in (one_batch[0], one_batch[1])]
    first, second = (one_batch[epoch].global_crops[order[epoch]] for epoch in (0, 1))
    assert all(not torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(one_batch[0].global_crops, dataset(number=4, epochs=2, seed=6)[0].global_crops)


def test_any_order_of_access_gives_the_same_batches():
    forwards = [dataset()[step] for step in range(6)]
    data = dataset()
    for step in (5, 0, 3, 3, 1, 4, 2):
        assert_same(data[step], forwards[step])


@pytest.mark.parametrize("local_number", [0, 3])
def test_workers_and_resuming_change_no_pixel(local_number):
    views = VIEWS.model_copy(update={"local_number": local_number})
    alone = list(batches(dataset(views=views), 0, 0))
    assert [batch.step for batch in alone] == list(range(6))
    assert (alone[0].local_crops is None) == (local_number == 0)
    for a, b in zip(alone, batches(dataset(views=views), 0, 2), strict=True):
        assert_same(a, b)
    for start, workers in ((1, 0), (4, 2)):
        resumed = list(batches(dataset(views=views), start, workers))
        assert len(resumed) == 6 - start
        for a, b in zip(alone[start:], resumed, strict=True):
            assert_same(a, b)
    assert list(batches(dataset(views=views), 6, 0)) == []


def test_neither_global_generator_is_used():
    torch.manual_seed(0)
    np.random.seed(0)
    before = torch.get_rng_state(), pickle.dumps(np.random.get_state())
    for workers in (0, 1):
        for _ in batches(dataset(), 4, workers):
            pass
    assert torch.equal(torch.get_rng_state(), before[0])
    assert pickle.dumps(np.random.get_state()) == before[1]


def test_fewer_images_than_a_batch():
    with pytest.raises(ScfsError, match=r"^data set 'sample', split 'pretrain': 3 images, fewer than a batch of 4$"):
        dataset(number=3)
    assert len(dataset(number=4)) == 3


def broken(kind: str) -> ViewBatches:
    data = dataset()
    row = int(permutation(5, 0, 11)[5])  # in step 1
    if kind == "truncated":
        data.images.files[row] = data.images.files[row][:-40]
    else:
        data.images.files[row] = encoded(painting(0, 9, 10))
    return data


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("truncated", r"^data/sample/images/pretrain/\d{5}\.png: not a readable image: [^\n]+$"),
        (
            "resized",
            r"^data/sample/images/pretrain/\d{5}\.png: 9x10 pixels, but \d+x\d+ when the data were prepared: .*$",
        ),
    ],
)
def test_an_images_error_arrives_as_one_line(kind, message, workers):
    received = []
    with pytest.raises(ScfsError, match=message) as caught:
        for batch in batches(broken(kind), 0, workers):
            received.append(batch.step)
    assert received == [0]
    assert "Traceback" not in str(caught.value)
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_leaving_the_loop_stops_the_workers(error):
    with pytest.raises(error):
        for batch in batches(dataset(epochs=100), 0, 2):
            assert len(multiprocessing.active_children()) == 2
            if batch.step == 3:
                raise error
    assert not multiprocessing.active_children()


class Reporting(ViewBatches):
    """Tells from inside a worker what it runs with."""

    def __getitem__(self, step: int) -> Batch:
        threads = [torch.get_num_threads(), cv2.getNumThreads()]
        ignored = [signal.getsignal(number) is signal.SIG_IGN for number in (signal.SIGINT, signal.SIGTERM)]
        shared = loader._allocate((1, 1, 2, 2, 3)).is_shared()
        return Batch(step, torch.tensor([*threads, *ignored, shared], dtype=torch.int64), torch.empty(0), None)


def test_workers_use_one_thread_leave_signals_to_the_main_process_and_share_memory():
    data = Reporting(small_images(8), VIEWS, 4, 1, 0)
    for batch in batches(data, 0, 2):
        assert batch.rows.tolist() == [1, 1, 1, 1, 1]
    assert not loader._allocate((1, 1, 2, 2, 3)).is_shared()


class Dying(ViewBatches):
    def __getitem__(self, step: int) -> Batch:
        if step == 1:
            signal.raise_signal(signal.SIGKILL)
        return super().__getitem__(step)


def test_a_killed_worker_is_one_clear_line():
    data = Dying(small_images(8), VIEWS, 4, 1, 0)
    with pytest.raises(
        ScfsError,
        match=r"^a loader worker died, most likely for want of memory: .*: take fewer loader workers or none \(--workers 0\)",
    ):
        list(batches(data, 0, 1))


MAIN_PROCESS = """
import multiprocessing, os, signal, sys, time
from torch.utils.data._utils import worker
from image_samples import small_images
from scfs.config.pretrain import Views
from scfs.views.loader import ViewBatches, batches

os.setsid()  # the warm process leads a group of many
worker.MP_STATUS_CHECK_INTERVAL = 0.2  # torch's workers ask every 5 seconds whether their main process is there
asked = []
signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
data = ViewBatches(small_images(8), Views(global_size=16, local_size=8, local_number=1), 4, 50, 0)
done = 0
for batch in batches(data, 0, 1):
    done += 1
    if done == 1:
        print(os.getpid(), multiprocessing.active_children()[0].pid, flush=True)
        deadline = time.monotonic() + 60
        while not asked and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.3)  # for a worker that dies to be noticed
print(done, len(asked), len(multiprocessing.active_children()), flush=True)
"""


def start_main_process() -> tuple[subprocess.Popen[str], int, int]:
    """A process with one worker, which waits for SIGTERM at its first batch: its client, its own id and the worker's."""
    environment = command_environment(ROOT, warm=True)
    environment["PYTHONPATH"] += f"{os.pathsep}{Path(__file__).parent}"
    client = subprocess.Popen(["warm-python", "-c", MAIN_PROCESS], env=environment, text=True, stdout=subprocess.PIPE)
    assert client.stdout is not None
    main, worker = map(int, client.stdout.readline().split())
    return client, main, worker


def is_gone(process: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True  # ended; its new parent, who may be anyone, has not asked yet
        except OSError:
            return True
        time.sleep(0.01)
    return False


def test_sigterm_to_the_process_group_leaves_the_main_process_its_worker():
    client, main, worker = start_main_process()
    os.killpg(main, signal.SIGTERM)
    said, _ = client.communicate(timeout=60)
    assert client.returncode == 0
    assert said.split() == ["100", "1", "0"]  # all batches, one signal, no worker
    assert is_gone(worker, 1)


def test_a_worker_ends_with_a_killed_main_process():
    client, main, worker = start_main_process()
    os.kill(main, signal.SIGKILL)
    client.communicate()
    os.kill(worker, signal.SIGTERM)  # as whoever cleans up would try
    assert is_gone(worker, 30)


AN_ERROR_OF_THE_TRAINER = """
from image_samples import small_images
from scfs.config.pretrain import Views
from scfs.views.loader import ViewBatches, batches

data = ViewBatches(small_images(8), Views(global_size=16, local_size=8, local_number=1), 4, 50, 0)
stream = batches(data, 0, 1)
next(stream)
raise MemoryError("of the trainer")
"""


def test_an_error_nobody_catches_ends_the_process_and_its_worker():
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-c", AN_ERROR_OF_THE_TRAINER]
    ended = subprocess.run(command, env=environment, text=True, capture_output=True, timeout=60)
    assert ended.returncode == 1
    assert ended.stderr.strip().endswith("MemoryError: of the trainer")


def test_other_errors_keep_their_type():
    class Buggy(ViewBatches):
        def __getitem__(self, step: int) -> Batch:
            raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        list(batches(Buggy(MemoryImages([b""], [(1, 1)]), VIEWS, 1, 1, 0), 0, 0))
