import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from scfs import paths
from scfs.config.data import Coco
from scfs.config.evaluation import Attention
from scfs.data.coco_rle import load_masks
from scfs.data.opening import open_split
from scfs.data.prepare import prepare
from scfs.errors import ScfsError
from scfs.evaluation.attention import evaluate, jigsaw, score, search, upsampled, view_of_mask
from scfs.evaluation.features import FrozenEncoder
from scfs.model.backbones.resnet import pooled
from scfs.views.images import crop_resize, normalize, resize_crop

PROTOCOL = Attention(
    kind="attention", dataset="scenes", resize=96, crop=80, local_crop=64, layer="layer3", figure_images=3
)


def half_mask() -> np.ndarray:
    mask = np.zeros((8, 8), dtype=bool)
    mask[2:6, 2:6] = True
    return mask


def test_score_of_a_uniform_map_is_one() -> None:
    assert score(np.full((8, 8), 0.3, dtype=np.float32), half_mask())[0] == pytest.approx(1.0)
    assert score(np.full((8, 8), -0.3, dtype=np.float32), half_mask())[0] == 1.0


def test_score_is_the_share_of_mass_over_the_share_of_area() -> None:
    mask = half_mask()
    inside = np.where(mask, 0.7, -0.5).astype(np.float32)
    assert score(inside, mask) == (pytest.approx(4.0), True)
    assert score(-inside, mask) == (pytest.approx(0.0), False)
    mixed = np.where(mask, 0.6, 0.2).astype(np.float32)
    assert score(mixed, mask)[0] == pytest.approx(16 * 0.6 / (16 * 0.6 + 48 * 0.2) / 0.25)


def test_pointing_looks_at_the_maximum_alone() -> None:
    attention = np.where(half_mask(), 0.6, 0.1).astype(np.float32)
    attention[0, 7] = 0.61
    assert score(attention, half_mask())[1] is False


def test_jigsaw_cuts_the_four_quarters_in_reading_order() -> None:
    view = np.zeros((8, 8, 3), dtype=np.uint8)
    view[:4, 4:], view[4:, :4], view[4:, 4:] = 50, 100, 150
    assert jigsaw(view, 4).tolist() == [np.full((4, 4, 3), value).tolist() for value in (0, 50, 100, 150)]
    assert jigsaw(view, 6).shape == (4, 6, 6, 3)
    odd = np.arange(7, dtype=np.uint8)[:, None, None].repeat(7, 1).repeat(3, 2)
    assert jigsaw(odd, 3)[2, :, 0, 0].tolist() == [4, 5, 6]


@pytest.mark.parametrize(
    ("height", "width", "resize", "crop"), [(96, 96, 96, 80), (60, 97, 50, 41), (121, 64, 100, 90)]
)
def test_mask_goes_through_the_views_geometry(height: int, width: int, resize: int, crop: int) -> None:
    y, x = np.mgrid[:height, :width]
    mask = (y - 0.4 * height) ** 2 + (x - 0.55 * width) ** 2 < (0.3 * min(height, width)) ** 2
    view = resize_crop(np.repeat(mask[..., None] * np.uint8(255), 3, axis=2), resize, crop)[..., 0] > 127
    ours = view_of_mask(mask, resize, crop)
    assert ours.shape == (crop, crop)
    centres = [np.array(np.nonzero(m)).mean(axis=1) for m in (ours, view)]
    np.testing.assert_allclose(centres[0], centres[1], atol=0.15)
    assert (ours & view).sum() / (ours | view).sum() > 0.97


def test_upsampling_keeps_the_mean_and_the_place() -> None:
    small = np.zeros((1, 3, 3), dtype=np.float32)
    small[0, 0, 2] = 1.0
    wide = upsampled(small, 9)
    assert wide.shape == (1, 9, 9)
    assert wide[0, 1, 7] == 1.0 and wide[0, 1, 4] == 0.0
    assert wide.mean() > 0.1


def test_maps_are_cosines_of_each_piece_with_its_own_view(workplace: Path, encoder: FrozenEncoder) -> None:
    images = open_split(paths.manifest("scenes"), "val")
    (found,) = search(PROTOCOL, encoder, images, [np.array([1, 4])])
    for index in range(2):
        view = found["views"][index]
        feature_map = encoder.backbone(normalize(torch.from_numpy(view)[None]))["layer3"][0].double().numpy()
        features = []
        for piece, (top, left) in enumerate([(0, 0), (0, 40), (40, 0), (40, 40)]):
            local = crop_resize(view, (top, left, 40, 40), 64)
            features.append(
                pooled(encoder.backbone(normalize(torch.from_numpy(local)[None]))["layer3"])[0].double().numpy()
            )
            expected = cosines(features[piece], feature_map)
            np.testing.assert_allclose(found["maps"][index, piece], expected, atol=1e-4)
        np.testing.assert_allclose(found["mean_map"][index], cosines(np.mean(features, axis=0), feature_map), atol=1e-4)


def cosines(query: np.ndarray, feature_map: np.ndarray) -> np.ndarray:
    height, width = feature_map.shape[1:]
    out = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            key = feature_map[:, y, x]
            out[y, x] = sum(query * key) / np.sqrt(sum(query**2) * sum(key**2))
    return out


def test_values_are_means_over_all_images_with_masks(workplace: Path, encoder: FrozenEncoder) -> None:
    measured = evaluate(PROTOCOL, encoder)
    images = open_split(paths.manifest("scenes"), "val")
    masks = load_masks(paths.annotations("scenes", "val"))
    (found,) = search(PROTOCOL, encoder, images, [np.arange(len(images))])
    scored = [
        score(upsampled(found["mean_map"][row : row + 1], 80)[0], view_of_mask(masks[images.paths[row]], 96, 80))
        for row in range(len(images))
    ]
    scores = [each for each, _ in scored]
    assert measured.values == {
        "images": len(images),
        "score": pytest.approx(np.mean(scores)),
        "score_sd": pytest.approx(np.std(scores)),
        "pointing": pytest.approx(100 * np.mean([inside for _, inside in scored])),
    }
    arrays = measured.arrays
    assert arrays["rows"].tolist() == [0, 5, 10]
    assert {name: array.shape for name, array in arrays.items()} == {
        "rows": (3,),
        "views": (3, 80, 80, 3),
        "pieces": (3, 4, 64, 64, 3),
        "maps": (3, 4, 5, 5),
        "mean_map": (3, 5, 5),
        "masks": (3, 80, 80),
    }
    np.testing.assert_array_equal(arrays["views"], found["views"][[0, 5, 10]])
    np.testing.assert_array_equal(arrays["masks"][1], view_of_mask(masks[images.paths[5]], 96, 80))


def test_masks_of_scenes_are_made_again(workplace: Path, encoder: FrozenEncoder) -> None:
    before = evaluate(PROTOCOL, encoder)
    paths.annotations("scenes", "val").unlink()
    again = evaluate(PROTOCOL, encoder)
    assert again.values == before.values and "masks" in again.arrays


def prepare_boxed(area: dict[str, int], **exif: Image.Exif) -> None:
    """Prepare one photograph of 48 x 40 pixels with a rectangular mask; upright, it is of 40 x 48 if EXIF turns it."""
    width, height = (40, 48) if exif else (48, 40)
    Path("photos").mkdir()
    pixels = np.random.default_rng(1).integers(0, 256, (40, 48, 3), np.uint8)
    Image.fromarray(pixels).save("photos/0.jpg", **exif)
    item = {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "bbox": [10, 5, 20, 15], **area}
    item["segmentation"] = [[10, 5, 30, 5, 30, 20, 10, 20]]
    images = [{"id": 1, "file_name": "0.jpg", "width": width, "height": height}]
    content = {"images": images, "annotations": [item], "categories": [{"id": 1, "name": "red"}]}
    Path("val.json").write_text(json.dumps(content))
    split = {"images": "photos", "annotations": "val.json"}
    prepare("boxed", Coco.model_validate({"source": "coco", "splits": {"val": split}}), paths.data_folder("boxed"))


BOXED = PROTOCOL.model_copy(update={"dataset": "boxed", "resize": 40, "crop": 36})


@pytest.mark.parametrize("area", [{"area": 300}, {}])  # without it the annotations are repaired, and lie elsewhere
def test_masks_of_a_coco_set_are_those_of_its_annotations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoder: FrozenEncoder, area: dict[str, int]
) -> None:
    monkeypatch.chdir(tmp_path)
    prepare_boxed(area)
    measured = evaluate(BOXED, encoder)
    assert measured.values["images"] == 1
    inside = np.zeros((40, 48), bool)
    inside[5:20, 10:30] = True
    np.testing.assert_array_equal(measured.arrays["masks"][0], view_of_mask(inside, 40, 36))


def test_masks_that_are_turned_against_their_image_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoder: FrozenEncoder
) -> None:
    monkeypatch.chdir(tmp_path)
    turned = Image.Exif()
    turned[0x0112] = 6
    prepare_boxed({"area": 300}, exif=turned)
    with pytest.raises(ScfsError, match=r"0\.jpg: its mask is upright, the image as stored is not: turn the image"):
        evaluate(BOXED, encoder)


def test_without_masks_there_is_only_the_figure(workplace: Path, encoder: FrozenEncoder) -> None:
    protocol = PROTOCOL.model_copy(update={"dataset": "colours", "resize": 40, "crop": 36})
    measured = evaluate(protocol, encoder)
    assert measured.values == {"images": 0}
    assert "masks" not in measured.arrays and measured.arrays["views"].shape == (3, 36, 36, 3)
