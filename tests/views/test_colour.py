"""Each colour operation held to PIL's."""

import cv2
import numpy as np
import pil_reference
import pytest
import torchvision.transforms.functional as F
from image_samples import natural_images
from PIL import Image, ImageFilter, ImageOps

from scfs.config.pretrain import Views
from scfs.views import colour
from scfs.views.augmentation import augmentation_parameters
from scfs.views.images import crop_resize


def crops(size: int = 96) -> list[np.ndarray]:
    return [crop_resize(image, (20, 30, 300, 300), size) for image in natural_images()]


def grey_crops() -> list[np.ndarray]:
    return [np.asarray(Image.fromarray(crop).convert("L").convert("RGB")).copy() for crop in crops()]


def differences(ours, pils, values, of: list[np.ndarray]) -> np.ndarray:
    """Signed differences of an operation to PIL's over images and parameter values."""
    found = []
    for pixels in of:
        for value in values:
            result = pixels.copy()
            ours(result, value)
            found.append(result.astype(int) - np.asarray(pils(Image.fromarray(pixels), value)))
    return np.concatenate([difference.ravel() for difference in found])


# Drawn, as in a training: for some round sigmas sums end on exactly one half, where PIL and OpenCV round apart.
SIGMAS = np.random.default_rng(0).uniform(0.1, 2, 20).tolist()
NEARLY_EXACT = {
    "brightness": (colour.brighten, F.adjust_brightness, np.linspace(0.6, 1.4, 23)),
    "contrast": (colour.change_contrast, F.adjust_contrast, np.linspace(0.6, 1.4, 23)),
    "saturation": (colour.saturate, F.adjust_saturation, np.linspace(0.8, 1.2, 23)),
    "blur": (colour.blur, lambda image, s: image.filter(ImageFilter.GaussianBlur(s)), SIGMAS),
}


@pytest.mark.parametrize("name", NEARLY_EXACT)
@pytest.mark.parametrize("of", [crops, grey_crops])
def test_operations_that_are_pils_but_for_rare_steps_of_one(name, of):
    difference = differences(*NEARLY_EXACT[name], of())
    assert np.abs(difference).max() <= 1
    assert (difference != 0).mean() < 0.005


@pytest.mark.parametrize("factor", [0.0, 1.0, 2.0])
def test_blends_at_their_ends(factor):
    for name in ("brightness", "contrast", "saturation"):
        ours, pils, _ = NEARLY_EXACT[name]
        assert np.abs(differences(ours, pils, [factor], crops())).max() <= 1
        if factor == 1.0:
            assert not differences(ours, lambda image, _: image, [factor], crops()).any()


def test_hue():
    difference = np.abs(differences(colour.shift_hue, F.adjust_hue, np.linspace(-0.1, 0.1, 21), crops()))
    assert difference.mean() < 0.01
    assert (difference != 0).mean() < 0.005
    far = np.abs(differences(colour.shift_hue, F.adjust_hue, [-0.5, -0.3, 0.3, 0.5], crops()))
    assert far.mean() < 0.01


def test_hue_leaves_grey_alone():
    difference = differences(colour.shift_hue, lambda image, _: image, np.linspace(-0.1, 0.1, 5), grey_crops())
    assert not difference.any()


def test_solarize_is_pils():
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, 2)
    assert not differences(lambda x, _: colour.solarize(x), lambda x, _: ImageOps.solarize(x), [None], [ramp]).any()


def test_blur_of_crops_smaller_than_the_kernel():
    tiny = [np.ascontiguousarray(crop[:height, :height]) for crop in crops() for height in (1, 2, 3)]
    assert np.abs(differences(*NEARLY_EXACT["blur"][:2], [0.0, *SIGMAS], tiny)).max() <= 1


@pytest.mark.parametrize("of", [crops, grey_crops])
def test_augment_follows_the_table(of):
    """Every operation alone and all together, in the order of the row: as the PIL reference."""
    switches = {
        "flip": Views(flip=1, jitter=0, grey=0, blur=(0, 0, 0), solarize=0),
        "jitter": Views(flip=0, jitter=1, grey=0, blur=(0, 0, 0), solarize=0),
        "grey": Views(flip=0, jitter=0, grey=1, blur=(0, 0, 0), solarize=0),
        "blur": Views(flip=0, jitter=0, grey=0, blur=(1, 1, 1), solarize=0),
        "solarize": Views(flip=0, jitter=0, grey=0, blur=(0, 0, 0), solarize=1),
        "all": Views(flip=1, jitter=1, grey=0, blur=(1, 1, 1), solarize=1),
    }
    bounds = {"flip": 0, "solarize": 0, "blur": 0.005, "grey": 0.01, "jitter": 0.05, "all": 0.05}
    for name, views in switches.items():
        for index, pixels in enumerate(of()):
            for row in augmentation_parameters(0, 0, [index], [pixels.shape[:2]], views)[0]:
                ours = pixels.copy()
                colour.augment(ours, row)
                theirs = np.asarray(pil_reference.augment(Image.fromarray(pixels), row))
                assert np.abs(ours.astype(int) - theirs).mean() <= bounds[name], name


def test_grey_images_stay_grey_and_unbiased():
    """The embedded data are grey: rounding instead of truncating would darken half of their values by 1."""
    differences_to_pil = []
    for index, pixels in enumerate(grey_crops()):
        for row in augmentation_parameters(1, 0, [index], [pixels.shape[:2]], Views(local_number=20))[0]:
            ours = pixels.copy()
            colour.augment(ours, row)
            assert (ours == ours[..., :1]).all()
            differences_to_pil.append(
                ours.astype(int) - np.asarray(pil_reference.augment(Image.fromarray(pixels), row))
            )
    found = np.concatenate([difference.ravel() for difference in differences_to_pil])
    assert np.abs(found).mean() < 0.01 and np.abs(found).max() <= 3


def test_augment_works_in_place_within_a_batch():
    batch = np.stack(crops())
    before = batch.copy()
    row = augmentation_parameters(0, 0, [0], [(96, 96)], Views(flip=1, jitter=1, grey=1, solarize=1))[0, 1]
    colour.augment(batch[1], row)
    assert (batch[1] != before[1]).any()
    assert (batch[[0, 2, 3]] == before[[0, 2, 3]]).all()


def test_augment_refuses_what_opencv_would_copy():
    row = augmentation_parameters(0, 0, [0], [(96, 96)], Views())[0, 0]
    with pytest.raises(ValueError, match="contiguous"):
        colour.augment(crops()[0][:, :48], row)


def test_opencv_uses_one_thread():
    assert cv2.getNumThreads() == 1
