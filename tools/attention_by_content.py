"""Search attention by what the searching piece shows: run after the study mini's table `main`.

For every fourth test scene, each piece of the 2 x 2 jigsaw searches its view (the study's evaluation `attention`); its
map's score is averaged by the share of the piece that the garment covers. Prints one line per method.
"""

from pathlib import Path

import numpy as np
import torch

from scfs import paths
from scfs.config.evaluation import Attention
from scfs.config.study import load_study
from scfs.data.coco_rle import load_masks
from scfs.data.opening import open_split
from scfs.evaluation.attention import PIECES, score, search, upsampled, view_of_mask
from scfs.evaluation.features import FrozenEncoder
from scfs.weights.store import load_backbone

EVERY, QUARTERS = 4, 4


def main() -> None:
    """Measure the runs of the study's three rows."""
    torch.set_num_threads(1)
    study = load_study(Path("config/mini/params.yaml"))
    protocol = study.evaluate["attention"]
    assert isinstance(protocol, Attention)
    images = open_split(paths.manifest(protocol.dataset), protocol.test)
    masks = load_masks(paths.annotations(protocol.dataset, protocol.test))
    for row in study.tables["main"].rows:
        scores: list[list[float]] = [[] for _ in range(QUARTERS)]
        for run in row.runs:
            encoder = FrozenEncoder(load_backbone(paths.weights(run))[0], torch.device("cpu"))
            for found in search(protocol, encoder, images, np.arange(0, len(images), EVERY)):
                for image, maps in zip(found["rows"], found["maps"], strict=True):
                    mask = view_of_mask(masks[images.paths[image]], protocol.resize, protocol.crop)
                    half = len(mask) // 2
                    for piece, attention in zip(range(PIECES), upsampled(maps, protocol.crop), strict=True):
                        top, left = (half * place for place in divmod(piece, 2))
                        share = mask[top : top + half, left : left + half].mean()
                        scores[min(int(share * QUARTERS), QUARTERS - 1)].append(score(attention, mask)[0])
        print(row.label, [f"{np.mean(part):.3f} of {len(part)}" for part in scores if part])


if __name__ == "__main__":
    main()
