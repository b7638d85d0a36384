"""Features of a folder of one's own, streamed to a file: `scfs embed`, and `scfs.embed` from Python.

Blocks of images are written as they come, into a hidden folder beside the file, and joined at the end: a command that
was stopped goes on where it was, and several processes write side by side. A feature has the same bits either way.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from scfs.data.image_set import ImageSet
from scfs.data.sources.folders import image_folder
from scfs.errors import ScfsError
from scfs.evaluation.encoder import load_frozen
from scfs.evaluation.features import BLOCK, FEATURE, own_features, split_rows, square_view, stream
from scfs.io.atomic import write_json, write_with
from scfs.io.parquet import read_parquet
from scfs.io.progress import log
from scfs.io.results import sha256_of
from scfs.runtime import collectives
from scfs.weights.catalogue import find_weights

ENDINGS = (".parquet", ".npy")


def embed(
    weights: str | Path,
    folder: str | Path,
    out: str | Path | None = None,
    *,
    layers: Sequence[str] = (FEATURE,),
    size: int | None = None,
    encoder: str = "teacher",
    backbone: str | None = None,
    share: tuple[int, int] = (1, 1),
    device: str = "auto",
    workers: int = 0,
) -> pa.Table | None:
    """Compute the features of all images of a folder, by centre crops.

    Args:
        weights: see `scfs.load`, as are `encoder` and `backbone`.
        folder: images, with or without class folders.
        out: file to write: .parquet (columns `path` and one of lists of float32 for each of `layers`), or .npy (float32
            (n, C) of one layer; the paths stand in a .json beside it). None: return the table.
        layers: pooled maps; `feature` is the image's own: pooled layer4, or a ViT's [CLS].
        size: side of the images in pixels; None: that of the training.
        share: (i, n): the i-th of n shares of the images, in the order of their paths, from 1.
        device: auto, cpu or cuda.
        workers: processes that decode images; 0 decodes in this one.

    Raises:
        ScfsError: weights, images or an argument do not allow it; nothing is left at `out`.
    """
    out = None if out is None else Path(out)
    if out is not None and (out.suffix not in ENDINGS or (out.suffix == ".npy" and len(layers) != 1)):
        raise ScfsError(f"{out}: allowed are {' and '.join(ENDINGS)}; .npy holds one layer")
    if not 1 <= share[0] <= share[1]:
        raise ScfsError(f"share {share[0]}/{share[1]}: allowed are 1/{share[1]} to {share[1]}/{share[1]}")
    model, frozen = load_frozen(weights, encoder, backbone, device, workers)
    size = size or model.size
    known = (FEATURE, *model.backbone.channels)
    if unknown := [layer for layer in layers if layer not in known]:
        raise ScfsError(f"layer {unknown[0]!r}: not among {', '.join(known)}")
    with collectives.process_group(frozen.device):
        images = image_folder(Path(folder))
        rows = np.array_split(np.arange(len(images)), share[1])[share[0] - 1]
        blocks = split_rows(rows, BLOCK)
        show = square_view(size)
        if out is None:
            found = stream(frozen, images, layers, show, blocks, "features of")
            return pa.concat_tables(_table(images, block, part) for block, part in zip(blocks, found, strict=True))
        about: dict[str, object] = {
            "weights": sha256_of(find_weights(str(weights))[0]),
            "encoder": encoder,
            "images": images.digest,
            "layers": list(layers),
            "size": size,
            "share": list(share),
        }
        parts = _begun(out, about)
        left = collectives.broadcast_object([n for n in range(len(blocks)) if not _part(parts, n).exists()])
        if len(left) < len(blocks):
            log(f"{out}: {len(blocks) - len(left)} of {len(blocks)} blocks of {BLOCK} images are done already")
        own = own_features(frozen, images, layers, show, [blocks[n] for n in left], "features of")
        for n, features in zip(collectives.round_robin(left), own, strict=True):
            table = _table(images, blocks[n], features)
            write_with(_part(parts, n), partial(pq.write_table, table))
        collectives.barrier()
        if collectives.is_first():
            _join(out, [_part(parts, n) for n in range(len(blocks))], layers, len(rows))
            shutil.rmtree(parts)
            log(f"{out}: features of {len(rows)} images")
    return None


def _part(parts: Path, number: int) -> Path:
    return parts / f"{number}.parquet"


def _begun(out: Path, about: dict[str, object]) -> Path:
    """Return the folder of finished blocks; those of another command are removed."""
    parts = out.with_name(f".{out.name}.parts")
    if collectives.is_first():
        note = parts / "about.json"
        if not note.exists() or json.loads(note.read_text()) != about:
            shutil.rmtree(parts, ignore_errors=True)
            write_json(note, about)
    collectives.barrier()
    return parts


def _table(images: ImageSet, rows: np.ndarray, features: Mapping[str, Tensor]) -> pa.Table:
    """Join the paths of some rows and their features, layer -> (n, C), to columns."""
    columns = {"path": images.table["path"].take(rows)}
    for layer, values in features.items():
        flat = pa.array(values.to("cpu", torch.float32).flatten().numpy())
        columns[layer] = pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    return pa.table(columns)


def _join(out: Path, parts: Sequence[Path], layers: Sequence[str], images: int) -> None:
    """Write the file of all blocks, one in memory at a time."""
    if out.suffix == ".parquet":
        write_with(out, lambda file: _join_tables(file, parts))
        return
    names: list[str] = []

    def write(file: BinaryIO) -> None:
        for number, part in enumerate(parts):
            table = read_parquet(part)
            names.extend(table["path"].to_pylist())
            values = np.stack(table[layers[0]].combine_chunks().to_numpy(zero_copy_only=False))
            if not number:
                header = {"descr": "<f4", "fortran_order": False, "shape": (images, values.shape[1])}
                np.lib.format.write_array_header_1_0(file, header)
            file.write(values.astype("<f4").tobytes())

    write_with(out, write)
    write_json(out.with_suffix(".json"), names)


def _join_tables(file: BinaryIO, parts: Sequence[Path]) -> None:
    with pq.ParquetWriter(file, pq.read_schema(parts[0])) as writer:
        for part in parts:
            writer.write_table(read_parquet(part))
