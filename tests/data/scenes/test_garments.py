import gzip
import hashlib
import importlib.util
import lzma
import re
from pathlib import Path

import numpy as np
import pytest

from scfs.data.scenes import fashion_mnist
from scfs.data.scenes.fashion_mnist import FOLDER, GROUPS, NAMES, class_names, load_garments
from scfs.errors import ScfsError

ORIGINALS = Path("/usr/share/datasets/fashion-mnist")
TOOL = Path(__file__).parents[3] / "tools" / "embed_fashion_mnist.py"


def content(name):
    return lzma.decompress((FOLDER / f"{name}.xz").read_bytes())


def image_hashes(part):
    images = np.frombuffer(content(f"{part}-images-idx3-ubyte"), np.uint8, offset=16).reshape(-1, 784)
    return [hashlib.sha256(image).digest() for image in images]


def test_subset_is_small_licensed_and_as_its_readme_says():
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 6_000_000
    assert "MIT License" in (FOLDER / "LICENSE").read_text()
    table = re.findall(r"^\| `(\S+)` \| ([\d,]+) \| `(\w{64})` \|$", (FOLDER / "README.md").read_text(), re.MULTILINE)
    assert len(table) == 4
    for name, count, sha256 in table:
        assert hashlib.sha256(content(name)).hexdigest() == sha256
        assert int.from_bytes(content(name)[4:8], "big") == int(count.replace(",", ""))


def test_train_and_test_part_have_no_image_in_common():
    train, test = image_hashes("train"), image_hashes("t10k")
    assert len(set(train)) == len(train) == 8500
    assert len(set(test)) == len(test) == 3000
    assert not set(train) & set(test)


@pytest.mark.parametrize("part, per_class", [("train", 850), ("test", 300)])
def test_groups_divide_the_classes_and_are_balanced(part, per_class):
    seen, held_out = load_garments(part, "seen"), load_garments(part, "held-out")
    assert class_names("held-out") == ("Pullover", "Sandal", "Bag")
    assert [*class_names("seen"), *class_names("held-out")] == [
        NAMES[c] for c in (*GROUPS["seen"], *GROUPS["held-out"])
    ]
    assert np.bincount(seen.labels).tolist() == [per_class] * 7
    assert np.bincount(held_out.labels).tolist() == [per_class] * 3


def test_labels_follow_the_original_classes():
    original = np.frombuffer(content("t10k-labels-idx1-ubyte"), np.uint8, offset=8)
    bags = load_garments("test", "held-out")
    images = np.frombuffer(content("t10k-images-idx3-ubyte"), np.uint8, offset=16).reshape(-1, 28, 28)[original == 8]
    levels, coverage = bags.layers[bags.labels == 2].swapaxes(0, 1)
    np.testing.assert_array_equal(levels, images & coverage)


def test_silhouette_is_filled_and_holds_every_cloth_pixel():
    image = np.zeros((1, 28, 28), np.uint8)
    image[0, 5:15, 5:15] = 200
    image[0, 8:10, 8:10] = 0
    image[0, 20, 20] = fashion_mnist.FAINTEST - 1
    expected = np.zeros((28, 28), np.uint8)
    expected[5:15, 5:15] = 255
    np.testing.assert_array_equal(fashion_mnist.silhouettes(image)[0], expected)


def test_damaged_subset_is_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.setattr(fashion_mnist, "FOLDER", tmp_path)
    (tmp_path / "train-images-idx3-ubyte.xz").write_bytes(b"not xz")
    with pytest.raises(ScfsError, match=r"train-images-idx3-ubyte\.xz: the embedded garments are missing or damaged"):
        load_garments.__wrapped__("train", "seen")


@pytest.mark.skipif(not ORIGINALS.is_dir(), reason="needs the originals: apt-get install dataset-fashion-mnist")
def test_tool_makes_the_committed_subset():
    spec = importlib.util.spec_from_file_location("embed_fashion_mnist", TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    readme = (FOLDER / "README.md").read_text()
    for part, number in tool.IMAGES_PER_CLASS.items():
        names = f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte"
        originals = [(ORIGINALS / f"{name}.gz").read_bytes() for name in names]
        made = tool.subset(*map(gzip.decompress, originals), number)
        assert made == tuple(content(name) for name in names)
        for name, original in zip(names, originals, strict=True):
            assert f"| `{name}.gz` | `{hashlib.sha256(original).hexdigest()}` |" in readme
