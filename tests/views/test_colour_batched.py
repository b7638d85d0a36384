"""The batched colour held to PIL's results, and to those of the CPU's pipeline, with the same augmentation parameters."""

import numpy as np
import pil_reference
import pytest
import torch
from image_samples import natural_images, small_images
from PIL import Image
from test_equivalence import statistics

from scfs.config.pretrain import Views
from scfs.errors import ScfsError
from scfs.views import colour, colour_batched
from scfs.views.augmentation import augmentation_parameters
from scfs.views.colour_batched import augment_batch, device_parameters, half_kernels, resolve_colour
from scfs.views.images import IMAGENET_MEAN, IMAGENET_STD, crop_resize, imagenet_statistics, normalize
from scfs.views.loader import ViewBatches, batches

CPU = torch.device("cpu")


def batched(crops: np.ndarray, rows: np.ndarray, views: Views) -> np.ndarray:
    """(n, S, S, 3) augmented crops in pixels, from what goes to the network."""
    made = augment_batch(torch.from_numpy(crops), torch.from_numpy(device_parameters(rows, views.sigma[1])))
    pixels = made.permute(0, 2, 3, 1) * (torch.tensor(IMAGENET_STD) * 255) + torch.tensor(IMAGENET_MEAN) * 255
    assert (pixels - pixels.round()).abs().max() < 1e-3
    return pixels.round().to(torch.uint8).numpy()


def cropped(views: Views, slots, size: int, epochs: int) -> tuple[np.ndarray, np.ndarray]:
    """Crops of the sample images, without colour, and their augmentation parameters."""
    crops, rows = [], []
    for epoch in range(epochs):
        for index, image in enumerate(natural_images()):
            table = augmentation_parameters(0, epoch, [index], [image.shape[:2]], views)[0]
            for row in table[list(slots)]:
                box = tuple(int(row[name]) for name in ("top", "left", "height", "width"))
                crops.append(crop_resize(image, box, size))
                rows.append(row)
    return np.stack(crops), np.array(rows, rows[0].dtype)


@pytest.mark.parametrize(("slots", "size", "epochs"), [((0, 1), 224, 3), (range(2, 10), 96, 3), (range(2, 6), 32, 6)])
def test_the_three_pipelines_agree(slots, size, epochs):
    """The bounds are those of test_equivalence.py, there kept by the CPU's pipeline."""
    views = Views()
    crops, rows = cropped(views, slots, size, epochs)
    ours = batched(crops, rows, views)
    pil = np.stack([np.asarray(pil_reference.augment(Image.fromarray(c), row)) for c, row in zip(crops, rows)])
    cpu = crops.copy()
    for crop, row in zip(cpu, rows):
        colour.augment(crop, row)
    for name, other in (("PIL", pil), ("CPU", cpu)):
        difference = np.abs(ours.astype(int) - other)
        ratios = np.mean([statistics(crop.astype(float)) for crop in ours], 0)
        ratios /= np.mean([statistics(crop.astype(float)) for crop in other], 0)
        print(
            f"\n{size} px, {len(crops)} views, {name}: mean {difference.mean():.4f}, "
            f"p99 {np.percentile(difference, 99):.0f}, max {difference.max()}, ratios {np.round(ratios, 5)}"
        )
        assert difference.mean() <= 0.1 and np.percentile(difference, 99) <= 1
        assert (np.abs(ratios - 1) <= 0.0005).all()


OFF = {"flip": 0, "jitter": 0, "grey": 0, "blur": (0, 0, 0), "solarize": 0}
SWITCHES = {
    "nothing": (OFF, 0),
    "flip": (OFF | {"flip": 1}, 0),
    "grey": (OFF | {"grey": 1}, 0),
    "solarize": (OFF | {"solarize": 1}, 0),
    "blur": (OFF | {"blur": (1, 1, 1)}, 0.005),
    "wide blur": (OFF | {"blur": (1, 1, 1), "sigma": (1.0, 4.0)}, 0.005),
    "jitter": (OFF | {"jitter": 1}, 0.02),
    "far jitter": (OFF | {"jitter": 1, "hue": 0.5, "brightness": 0.9, "contrast": 0.9, "saturation": 0.9}, 0.05),
    "all": ({"flip": 1, "jitter": 1, "grey": 0, "blur": (1, 1, 1), "solarize": 1}, 0.02),
}


@pytest.mark.parametrize("name", SWITCHES)
def test_each_operation_is_pils(name):
    settings, bound = SWITCHES[name]
    views = Views(**settings)
    crops, rows = cropped(views, range(10), 64, 2)
    pil = np.stack([np.asarray(pil_reference.augment(Image.fromarray(c), row)) for c, row in zip(crops, rows)])
    assert np.abs(batched(crops, rows, views).astype(int) - pil).mean() <= bound


def test_every_colour_survives_the_hue():
    """Against PIL, over a lattice of all colours: what truncation at the codes' edges would break."""
    levels = np.r_[0:256:15, 1, 2, 127, 128, 254].astype(np.uint8)
    lattice = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(1, -1, 3)
    side = int(np.sqrt(lattice.shape[1]))
    square = np.ascontiguousarray(lattice[:, : side * side].reshape(1, side, side, 3))
    views = Views(**(OFF | {"jitter": 1, "brightness": 0, "contrast": 0, "saturation": 0, "hue": 0.3}))
    for seed in range(4):
        rows = augmentation_parameters(seed, 0, [0], [(64, 64)], views)[0, :1]
        made = augment_batch(torch.from_numpy(square), torch.from_numpy(device_parameters(rows, 2.0)))
        ours = made.permute(0, 2, 3, 1) * (torch.tensor(IMAGENET_STD) * 255) + torch.tensor(IMAGENET_MEAN) * 255
        theirs = np.asarray(pil_reference.augment(Image.fromarray(square[0]), rows[0])).astype(int)
        difference = np.abs(ours[0].round().numpy() - theirs)
        assert (difference > 0).mean() < 0.002


def test_kernels_are_the_extended_boxes():
    sigmas = np.random.default_rng(0).uniform(0.1, 3.5, 50)
    for sigma, half in zip(sigmas, half_kernels(sigmas, 3.5)):
        kernel = colour.extended_box(sigma / np.sqrt(3))
        radius = len(kernel) // 2
        assert half[: radius + 1] == pytest.approx(kernel[radius:], abs=1e-7)
        assert not half[radius + 1 :].any()
    assert half_kernels(np.array(0.0), 2.0).tolist() == [1, 0, 0]


def test_a_batch_without_augmentation_is_normalized():
    views = Views(**OFF)
    crops, rows = cropped(views, (0, 1), 48, 1)
    made = augment_batch(torch.from_numpy(crops), torch.from_numpy(device_parameters(rows, 2.0)), torch.float64)
    expected = normalize(torch.from_numpy(crops), torch.float64)
    assert made.dtype == torch.float64 and made.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(made, expected, atol=1e-6)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("local_number", [0, 3])
def test_the_loader_leaves_colour_to_the_device(workers, local_number):
    views = Views(global_size=32, local_size=16, local_number=local_number)
    on_cpu = ViewBatches(small_images(11), views, 4, 2, 5)
    on_device = ViewBatches(small_images(11), views, 4, 2, 5, colour="device")
    for a, b in zip(batches(on_cpu, 0, workers), batches(on_device, 0, workers), strict=True):
        assert a.colour is None and b.colour is not None
        assert torch.equal(a.rows, b.rows) and torch.equal(a.crop_boxes, b.crop_boxes)
        assert b.colour.shape[:2] == (2 + local_number, 4)
        for part in b.parts(2):
            assert part.colour is not None and part.colour.shape[:2] == (2 + local_number, 2)
        assert torch.equal(torch.cat([part.colour for part in b.parts(2)], 1), b.colour)
        views_of = [(a.global_crops, b.global_crops, b.colour[:2])]
        if local_number:
            views_of.append((a.local_crops, b.local_crops, b.colour[2:]))
        for theirs, ours, numbers in views_of:
            difference = augment_batch(ours, numbers.flatten(0, 1)) - normalize(theirs)
            assert difference.abs().mean() < 0.1 / 58


def test_it_is_one_graph_for_the_compiler():
    """What a GPU's compiler gets; here torch runs the traced graph itself."""
    views = Views()
    crops, rows = cropped(views, (0, 1, 2), 48, 1)
    given = (
        torch.from_numpy(crops),
        torch.from_numpy(device_parameters(rows, 2.0)),
        *imagenet_statistics(CPU),
        torch.float32,
    )
    traced = torch.compile(colour_batched._augment, dynamic=False, fullgraph=True, backend="aot_eager")
    assert torch.allclose(traced(*given), colour_batched._augment(*given), atol=1e-6)


def test_without_a_compiler_it_goes_on_and_says_so(monkeypatch, capfd):
    def failing(*arguments):
        raise torch._dynamo.exc.TorchDynamoException("no compiler\nand why")

    monkeypatch.setattr(torch, "compile", lambda function, **_: failing)
    augmentation = colour_batched._augmentation.__wrapped__("cuda")
    views = Views()
    crops, rows = cropped(views, (0, 1), 48, 1)
    given = (
        torch.from_numpy(crops),
        torch.from_numpy(device_parameters(rows, 2.0)),
        *imagenet_statistics(CPU),
        torch.float32,
    )
    for _ in range(2):
        assert torch.equal(augmentation(*given), colour_batched._augment(*given))
    said = capfd.readouterr().err
    assert said.count("colour on the device is not compiled, which is slower: no compiler\n") == 1


def test_where_colour_is_made():
    cuda = torch.device("cuda")
    assert [resolve_colour("auto", device) for device in (CPU, cuda)] == ["cpu", "device"]
    assert [resolve_colour(name, CPU) for name in ("cpu", "device")] == ["cpu", "device"]
    assert resolve_colour("cpu", cuda) == "cpu"
    with pytest.raises(ScfsError, match="--colour gpu: not among auto, cpu, device"):
        resolve_colour("gpu", CPU)
