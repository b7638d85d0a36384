import numpy as np
import pytest
from PIL import Image

from scfs.config.scenes import SceneSplit
from scfs.data.scenes import compose as compose_module
from scfs.data.scenes.compose import CANVAS, compose, resize
from scfs.data.scenes.fashion_mnist import load_garments

ONE = SceneSplit(scenes=50)
FOUR = SceneSplit(scenes=50, garments=(4, 4))


def many(split, name="train", seed=0):
    return [compose(split, name, seed, index) for index in range(split.scenes)]


def changed(split, **settings):
    return SceneSplit.model_validate(split.model_dump() | settings)


def test_a_scene_depends_on_seed_split_and_index_alone():
    last = compose(ONE, "train", 0, 7)
    np.testing.assert_array_equal(last.pixels, many(ONE)[7].pixels)
    np.testing.assert_array_equal(last.pixels, compose(SceneSplit(scenes=8), "train", 0, 7).pixels)
    for other in (compose(ONE, "train", 1, 7), compose(ONE, "val", 0, 7), compose(ONE, "train", 0, 8)):
        assert (other.pixels != last.pixels).mean() > 0.5


def test_negative_and_large_seeds_are_seeds():
    first, second = compose(ONE, "train", -1, 0), compose(ONE, "train", 2**70 + 1, 0)
    assert (first.pixels != second.pixels).any()


def test_one_garment_of_the_right_size_within_the_canvas():
    sides = []
    for scene in many(ONE):
        (garment,) = scene.objects
        assert scene.pixels.shape == garment.mask.shape == (CANVAS, CANVAS)
        assert scene.pixels.dtype == np.uint8
        rows, columns = (np.flatnonzero(garment.mask.any(axis=axis)) for axis in (1, 0))
        sides.append(max(np.ptp(rows), np.ptp(columns)) + 1)
    assert 24 < min(sides) < 45 < max(sides) <= 64


def test_all_classes_occur():
    assert {scene.objects[0].label for scene in many(ONE)} == set(range(7))
    assert {scene.objects[0].label for scene in many(SceneSplit(scenes=30, classes="held-out"))} == set(range(3))


@pytest.mark.parametrize("split", [ONE, FOUR])
def test_masks_tell_garments_from_background(split):
    for scene in many(changed(split, fragments=(0, 0))):
        inside = np.logical_or.reduce([item.mask for item in scene.objects])
        near = inside.copy()
        for axis in (0, 1, 0, 1, 0, 1):  # a garment's soft edge is up to three pixels wide
            near |= np.roll(near, 1, axis) | np.roll(near, -1, axis)
        background = scene.pixels[~near]
        assert background.min() >= 96
        assert background.max() <= 159
        assert background.std() == pytest.approx(18.5, abs=0.7)
        garment = scene.pixels[inside].astype(int)
        assert ((garment < 96) | (garment > 159)).mean() > 0.05


def test_fragments_lie_behind_and_are_not_objects():
    counts = []
    for scene, plain in zip(many(ONE), many(changed(ONE, fragments=(0, 0))), strict=True):
        assert len(scene.objects) == 1
        outside = scene.pixels[~scene.objects[0].mask]
        counts.append(((outside < 90) | (outside > 165)).sum())
        assert plain.objects[0].label == scene.objects[0].label
    assert min(counts) < 100 < max(counts)


def test_garments_come_from_the_split_own_part_and_group(monkeypatch):
    asked = []

    def recorded(part, group):
        asked.append((part, group))
        return load_garments(part, group)

    monkeypatch.setattr(compose_module, "load_garments", recorded)
    many(SceneSplit(scenes=5, part="test", classes="held-out"))
    assert set(asked) == {("test", "held-out")}


def test_visible_parts_of_several_garments_do_not_overlap():
    hidden = 0
    for scene in many(FOUR):
        masks = np.stack([item.mask for item in scene.objects])
        assert masks.shape[0] == 4
        assert masks.sum(axis=0).max() == 1
        assert masks.sum(axis=(1, 2)).min() > 50
        hidden += masks[0].sum() < masks[-1].sum()
    assert hidden > 30  # the one at the back loses most


def test_number_of_garments_covers_its_range():
    assert {len(scene.objects) for scene in many(SceneSplit(scenes=40, garments=(2, 4)))} == {2, 3, 4}


def test_sides_bound_the_garments():
    for scene in many(changed(ONE, side=(90, 96))):
        rows, columns = (np.flatnonzero(scene.objects[0].mask.any(axis=axis)) for axis in (1, 0))
        assert 75 < max(np.ptp(rows), np.ptp(columns)) + 1 <= 96


def test_a_flat_background_changes_nothing_else():
    for noisy, flat in zip(many(ONE), many(changed(ONE, background="flat")), strict=True):
        inside = noisy.objects[0].mask
        np.testing.assert_array_equal(flat.objects[0].mask, inside)
        core = inside.copy()
        for axis in (0, 1, 0, 1, 0, 1):  # within the soft edge, where the background shows through
            core &= np.roll(core, 1, axis) & np.roll(core, -1, axis)
        np.testing.assert_array_equal(flat.pixels[core], noisy.pixels[core])
        assert (flat.pixels == compose_module.FLAT).mean() > 0.3


def test_equal_grey_makes_all_garments_alike_in_mean_and_contrast():
    measured = []
    for layers in load_garments("train", "seen").layers[:300]:
        levels, coverage = compose_module.equalised(layers)
        np.testing.assert_array_equal(coverage, layers[1])
        assert not levels[coverage == 0].any()
        inside, before = levels[coverage > 0].astype(int), layers[0][coverage > 0]
        measured.append((inside.mean(), inside.std()))
        # Brighter stays brighter: the texture is the garment's.
        assert (np.diff(inside[np.argsort(before, kind="stable")]) >= 0).all()
    means, deviations = np.array(measured).T
    assert np.abs(means - compose_module.EQUAL_MEAN).max() < 8
    assert np.abs(deviations - compose_module.EQUAL_DEVIATION).mean() < 4  # clipping takes contrast from some


def test_equal_grey_of_one_grey_level_is_flat():
    layers = np.stack([np.full((28, 28), 200), np.full((28, 28), 255)]).astype(np.uint8)
    assert (compose_module.equalised(layers)[0] == compose_module.EQUAL_MEAN).all()


def test_equal_grey_changes_grey_levels_and_no_shape():
    equal = many(changed(ONE, equal_grey=True))
    for scene, other in zip(many(ONE), equal, strict=True):
        np.testing.assert_array_equal(scene.objects[0].mask, other.objects[0].mask)
    spread = [np.std([scene.pixels[scene.objects[0].mask].mean() for scene in some]) for some in (many(ONE), equal)]
    assert spread[1] < spread[0] / 5


@pytest.mark.parametrize("key", ["garments", "side", "fragments"])
def test_limits_in_the_wrong_order_are_refused(key):
    with pytest.raises(ValueError, match=f"(?s){key}.* must be .low, high. with low <= high"):
        changed(ONE, **{key: (60, 50)})


@pytest.mark.parametrize("old, new", [(28, 36), (28, 64), (9, 24), (14, 14)])
def test_resize_is_bilinear(old, new):
    image = np.random.default_rng(0).integers(0, 256, (old, old), np.uint8)
    expected = np.asarray(Image.fromarray(image).resize((new, new), Image.Resampling.BILINEAR), np.int32)
    assert np.abs(resize(image, new).astype(np.int32) - expected).max() <= 2
