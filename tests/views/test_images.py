import numpy as np
import pytest
import torch
import torchvision.transforms.functional as F
from image_samples import natural_images, painting, photograph
from PIL import Image
from torchvision.transforms import InterpolationMode

from scfs.views import images
from scfs.views.images import crop_resize, normalize, resize_crop


def resize_difference(image: np.ndarray, box: tuple[int, int, int, int], size: int) -> np.ndarray:
    expected = F.resized_crop(Image.fromarray(image), *box, [size, size], InterpolationMode.BICUBIC)
    return np.abs(crop_resize(image, box, size).astype(int) - np.asarray(expected))


def test_crop_resize_is_pils():
    """Where Pillow 13 resamples the columns first (tall boxes), its rounding differs more; older ones never did."""
    rng = np.random.default_rng(0)
    differences = {"tall": [], "wide": []}
    for image in natural_images():
        for size in (32, 96, 224):
            for _ in range(8):
                height, width = rng.integers(20, 350, 2)
                top, left = rng.integers(0, image.shape[0] - height + 1), rng.integers(0, image.shape[1] - width + 1)
                difference = resize_difference(image, (int(top), int(left), int(height), int(width)), size)
                differences["tall" if height > width else "wide"].append(difference.ravel())
    wide, both = np.concatenate(differences["wide"]), np.concatenate(differences["wide"] + differences["tall"])
    assert wide.mean() < 0.02 and wide.max() <= 2
    assert both.mean() < 0.15 and np.percentile(both, 99.9) <= 2


def test_crop_resize_of_extreme_boxes():
    image = photograph()
    assert resize_difference(image, (0, 0, 1, 1), 32).max() == 0
    assert resize_difference(image, (599, 511, 1, 1), 5).max() == 0
    assert resize_difference(image, (10, 20, 64, 64), 64).max() == 0
    assert resize_difference(image, (0, 0, 600, 512), 1).max() <= 1


def test_crop_resize_writes_into_out():
    batch = np.full((3, 16, 16, 3), 7, np.uint8)
    image, box = photograph(), (5, 6, 100, 120)
    result = crop_resize(image, box, 16, batch[1])
    assert result is not None and np.shares_memory(result, batch)
    np.testing.assert_array_equal(batch[1], crop_resize(image, box, 16))
    assert (batch[[0, 2]] == 7).all()


@pytest.mark.parametrize(("resize", "crop"), [(256, 224), (96, 96), (33, 20)])
@pytest.mark.parametrize("size", [(375, 500), (500, 333), (96, 96), (61, 300), (20, 21)])
def test_resize_crop_is_torchvisions(size, resize, crop):
    image = painting(4, *size)
    ours = resize_crop(image, resize, crop)
    theirs = F.center_crop(F.resize(Image.fromarray(image), resize, InterpolationMode.BICUBIC), [crop, crop])
    assert ours.shape == (crop, crop, 3) and ours.flags.c_contiguous
    assert np.abs(ours.astype(int) - np.asarray(theirs)).mean() < 0.3


def test_normalize_is_torchvisions():
    batch = np.stack([crop_resize(image, (0, 0, 300, 300), 48) for image in natural_images()])
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    theirs = torch.stack([F.normalize(F.to_tensor(image), mean, std) for image in batch])
    ours = normalize(torch.from_numpy(batch))
    assert ours.shape == (4, 3, 48, 48) and ours.dtype == torch.float32
    assert ours.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
    half = normalize(torch.from_numpy(batch), torch.bfloat16)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), theirs, rtol=2**-8, atol=1e-6)


def test_the_statistics_are_copied_to_a_device_once(monkeypatch):
    batch = torch.from_numpy(painting(0, 40, 50)[None])
    mean, std = (torch.tensor(values) * 255 for values in (images.IMAGENET_MEAN, images.IMAGENET_STD))
    expected = ((batch.float() - mean) / std).permute(0, 3, 1, 2)
    assert torch.equal(images.normalize(batch), expected)
    monkeypatch.setattr(torch, "tensor", None)
    assert torch.equal(images.normalize(batch), expected)
    assert torch.equal(images.normalize(batch, torch.bfloat16), expected.to(torch.bfloat16))
