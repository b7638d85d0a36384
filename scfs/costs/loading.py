"""Seconds of a core for the views of an image: from the benchmarks' history, or measured in a few seconds."""

import json
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
from PIL import Image

from scfs.config.pretrain import Views
from scfs.data.sources.folders import image_folder
from scfs.io.progress import log
from scfs.views.colour_batched import Colour
from scfs.views.loader import ViewBatches

HISTORY = Path("results/benchmarks")
COMPARISONS: dict[Colour, str] = {"cpu": "loader", "device": "loader-crops"}
"""Comparisons of benchmarks/registry.py: the paper's views of images of 500 x 375."""
IMAGES, ROUNDS = 8, 5
QUALITY = 97
"""JPEG quality that gives files of about 110 kB, as ImageNet's."""


def cpu_seconds(views: Views, colour: Colour) -> tuple[float, str]:
    """Return the seconds of one core per image of 500 x 375 pixels, and where the number comes from."""
    if views == Views():
        for path in sorted(HISTORY.glob("*.json"), reverse=True):
            found = json.loads(path.read_text())["found"].get(COMPARISONS[colour])
            if found:
                return float(found["ours_seconds"]["middle"]), f"measured: {path}"
    return measured(views, colour), "measured now"


def measured(views: Views, colour: Colour) -> float:
    """Measure the CPU time per image in seconds: the median of some batches of painted images."""
    log("measuring what a core needs for an image")
    rng = np.random.default_rng(0)
    with TemporaryDirectory() as folder:
        for index in range(IMAGES):
            octaves = (rng.normal(size=(2**k, 2**k, 3)) * 2.0 ** (8 - k) for k in range(2, 9))
            pixels = 120 + sum(cv2.resize(octave, (500, 375), interpolation=cv2.INTER_CUBIC) for octave in octaves)
            image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
            image.save(Path(folder) / f"{index}.jpg", quality=QUALITY)
        data = ViewBatches(image_folder(Path(folder)), views, IMAGES, ROUNDS + 1, 0, colour=colour)
        seconds = []
        for step in range(ROUNDS + 1):
            started = time.process_time()
            data[step]
            seconds.append(time.process_time() - started)
    return statistics.median(seconds[1:]) / IMAGES
