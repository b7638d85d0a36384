"""The whole of Fashion-MNIST, as Debian's package dataset-fashion-mnist has it: 70,000 images, for real."""

import gzip
import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scfs.config.data import Official
from scfs.data.opening import open_split
from scfs.data.prepare import prepare
from scfs.data.scenes.fashion_mnist import NAMES

pytestmark = pytest.mark.end_to_end

PACKAGE = Path("/usr/share/datasets/fashion-mnist")


@pytest.mark.skipif(not PACKAGE.is_dir(), reason="Debian's package dataset-fashion-mnist is not installed")
def test_seventy_thousand_images(tmp_path):
    shutil.copytree(PACKAGE, tmp_path / "archives" / "fashion_mnist")
    config = Official(source="official", entry="fashion_mnist", archives=f"{tmp_path}/archives", layout="shards")
    prepare("fashion", config, tmp_path / "fashion")
    for split, prefix, number in (("train", "train", 60_000), ("test", "t10k", 10_000)):
        with gzip.open(PACKAGE / f"{prefix}-images-idx3-ubyte.gz") as file:
            pixels = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28)
        with gzip.open(PACKAGE / f"{prefix}-labels-idx1-ubyte.gz") as file:
            labels = np.frombuffer(file.read(), np.uint8, offset=8)
        images = open_split(tmp_path / "fashion" / "manifest.parquet", split)
        assert images.classes == NAMES and len(images) == number == len(pixels)
        index = np.array([int(Path(path).stem) for path in images.paths])
        np.testing.assert_array_equal(images.require_labels(), labels[index])
        assert sorted(index.tolist()) == list(range(number))
        for row in range(0, number, 97):
            with Image.open(io.BytesIO(images.read(row))) as image:
                np.testing.assert_array_equal(np.asarray(image), pixels[index[row]])
