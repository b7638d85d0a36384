import json

import numpy as np
import pytest

from scfs.data.coco_rle import decode_mask, encode_mask, load_masks
from scfs.data.coco_writer import coco_text
from scfs.data.scenes.compose import Scene, SceneObject
from scfs.data.scenes.files import SceneFile
from scfs.errors import ScfsError


def mask_of(*rows):
    return np.array([[character == "#" for character in row] for row in rows])


def test_run_lengths_go_down_the_columns_background_first():
    assert encode_mask(mask_of(".#.", "##.")) == {"size": [2, 3], "counts": [1, 3, 2]}
    assert encode_mask(mask_of("#.", "..")) == {"size": [2, 2], "counts": [0, 1, 3]}
    assert encode_mask(mask_of(".#", ".#")) == {"size": [2, 2], "counts": [2, 2]}


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_masks_survive_the_round_trip(share):
    mask = np.random.default_rng(1).random((7, 5)) < share
    rle = encode_mask(mask)
    assert sum(rle["counts"]) == mask.size
    np.testing.assert_array_equal(decode_mask(rle), mask)


def test_file_is_coco(tmp_path):
    path = tmp_path / "val.json"
    first, second = mask_of("....", ".##.", "..#."), mask_of("#...", "#...", "....")
    scenes = (
        Scene(first, (SceneObject(1, first), SceneObject(0, np.zeros_like(first)))),
        Scene(first, (SceneObject(0, first), SceneObject(0, second))),
    )
    objects = [SceneFile("", b"", b"", scene).annotated[-1] for scene in scenes]
    images = ((f"val/{number}.png", 4, 3, of_image) for number, of_image in enumerate(objects))
    path.write_text(coco_text("a test", ("shirt", "bag"), images))
    coco = json.loads(path.read_text())
    assert coco["categories"] == [{"id": 1, "name": "shirt"}, {"id": 2, "name": "bag"}]
    assert coco["images"][0] == {"id": 1, "file_name": "val/0.png", "width": 4, "height": 3}
    assert coco["annotations"][0] == {
        "id": 1,
        "image_id": 1,
        "category_id": 2,
        "iscrowd": 0,
        "bbox": [1, 1, 2, 2],
        "area": 3,
        "segmentation": encode_mask(first),
    }
    assert [(item["id"], item["image_id"]) for item in coco["annotations"]] == [(1, 1), (2, 2), (3, 2)]
    masks = load_masks(path)
    np.testing.assert_array_equal(masks["val/0.png"], first)
    np.testing.assert_array_equal(masks["val/1.png"], first | second)


def test_missing_annotations(tmp_path):
    with pytest.raises(ScfsError, match=r"absent\.json: cannot be read: No such file"):
        load_masks(tmp_path / "absent.json")


@pytest.mark.parametrize("text", ["{", "[]", '{"images": []}'])
def test_not_coco(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ScfsError, match=r"a\.json: not COCO JSON"):
        load_masks(tmp_path / "a.json")


ROUND = mask_of("....", ".##.", ".##.")
POLYGON = [[1, 1, 3, 1, 3, 3, 1, 3]]
COMPRESSED = {"size": [3, 4], "counts": "42102"}


@pytest.mark.parametrize("segmentation", [encode_mask(ROUND), COMPRESSED, POLYGON, [*POLYGON, [1, 1, 3, 1, 3, 3]]])
def test_masks_of_any_kind_are_read(tmp_path, segmentation):
    images = [{"id": 1, "file_name": "x.jpg", "width": 4, "height": 3}]
    items = [{"image_id": 1, "segmentation": segmentation}, {"image_id": 1, "segmentation": []}]
    (tmp_path / "a.json").write_text(json.dumps({"images": images, "annotations": items}))
    np.testing.assert_array_equal(load_masks(tmp_path / "a.json")["x.jpg"], ROUND)


@pytest.mark.parametrize(
    "segmentation", [[[0, 0]], ["x"], {"size": [3, 4], "counts": "zz"}, {"size": [9, 9], "counts": [81]}, 7]
)
def test_masks_that_are_none_are_one_line(tmp_path, segmentation):
    images = [{"id": 1, "file_name": "x.jpg", "width": 4, "height": 3}]
    (tmp_path / "a.json").write_text(
        json.dumps({"images": images, "annotations": [{"image_id": 1, "segmentation": segmentation}]})
    )
    with pytest.raises(ScfsError, match=r"a\.json: not COCO JSON with masks"):
        load_masks(tmp_path / "a.json")
