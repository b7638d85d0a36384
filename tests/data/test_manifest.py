"""The manifest's checksums: no flipped bit goes unnoticed, and manifests from before there were any open as they are."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny_boxes import write_image

from scfs.config.data import ImageFolders
from scfs.data.manifest import load_split
from scfs.data.opening import open_split
from scfs.data.prepare import prepare
from scfs.data.verify import verify
from scfs.errors import ScfsError

FLIPS = 250


@pytest.fixture
def config(tmp_path: Path) -> ImageFolders:
    for name in ("cat/a", "cat/b", "dog/ä"):
        write_image(tmp_path / "photos" / f"{name}.png", 6 + len(name), 5)
    return ImageFolders(source="folder", splits={"train": str(tmp_path / "photos"), "val": str(tmp_path / "photos")})


@pytest.fixture
def manifest(tmp_path: Path, config: ImageFolders) -> Path:
    prepare("mine", config, tmp_path / "data")
    return tmp_path / "data" / "manifest.parquet"


def rewritten(manifest: Path, table: pa.Table | None = None, **metadata: bytes | None) -> None:
    """Write a manifest as it was before there were checksums, with another table or other metadata."""
    table = pq.read_table(manifest) if table is None else table
    changed = {
        **(table.schema.metadata or {}),
        b"sha256": None,
        **{key.encode(): value for key, value in metadata.items()},
    }
    kept = {key: value for key, value in changed.items() if value is not None}
    pq.write_table(table.replace_schema_metadata(kept), manifest, compression="zstd")


def content(manifest: Path) -> list[Any]:
    return [
        (images.paths, images.hashes, images.digest, images.classes, images.root, images.widths.tolist())
        for images in (load_split(manifest, split) for split in ("train", "val"))
    ]


def test_flipped_bits_are_noticed(manifest: Path) -> None:
    whole, sound = manifest.read_bytes(), content(manifest)
    noticed = 0
    for bit in np.random.default_rng(1).permutation(len(whole) * 8)[:FLIPS].tolist():
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        manifest.write_bytes(damaged)
        try:
            assert content(manifest) == sound, f"bit {bit} changes the set"
        except ScfsError as error:
            assert str(manifest) in str(error) and "\n" not in str(error)
            noticed += 1
    assert noticed > FLIPS // 2, "some bits belong to fields that nobody reads"


@pytest.mark.parametrize("length", [0, 3, 0.5, -1])
def test_a_manifest_that_was_cut_off(manifest: Path, length: float) -> None:
    whole = manifest.read_bytes()
    manifest.write_bytes(whole[: int(length * len(whole)) if length == 0.5 else int(length)])
    with pytest.raises(
        ScfsError, match=r"manifest\.parquet: damaged, or not a Parquet file: .*run `scfs prepare data`"
    ):
        load_split(manifest, "train")


def test_damaged_pages_are_found_by_their_own_checksums(manifest: Path) -> None:
    column = pq.ParquetFile(manifest).metadata.row_group(0).column(0)
    damaged = bytearray(manifest.read_bytes())
    damaged[column.data_page_offset + column.total_compressed_size // 2] ^= 1
    manifest.write_bytes(damaged)
    with pytest.raises(ScfsError, match=r"damaged"):
        load_split(manifest, "train")


def test_a_manifest_of_before_opens_as_it_is_and_it_is_said_once(
    manifest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sound = content(manifest)
    rewritten(manifest)
    capsys.readouterr()
    assert content(manifest) == sound
    assert verify(manifest).sound
    assert capsys.readouterr().err.count("made before manifests had checksums") == 1


def test_a_manifest_of_before_stays_if_it_is_made_again_as_it_is(manifest: Path, config: ImageFolders) -> None:
    """Else DVC would see another file, and repeat all that was made from it."""
    new = manifest.read_bytes()
    rewritten(manifest)
    old = manifest.read_bytes()
    prepare("mine", config, manifest.parent)
    assert manifest.read_bytes() == old != new
    prepare("other", config, manifest.parent)
    assert b"sha256" in pq.read_schema(manifest).metadata


@pytest.mark.parametrize("path", ["/etc/a.png", "../a.png", "cat/../../a.png", "cat/.."])
def test_paths_stay_below_their_root(manifest: Path, path: str) -> None:
    table = pq.read_table(manifest)
    paths = [path, *table["path"].to_pylist()[1:]]
    rewritten(manifest, table.set_column(0, table.schema.field("path"), [paths]))
    with pytest.raises(ScfsError, match=r"manifest\.parquet: damaged: column path leaves the folder of the images"):
        open_split(manifest, "train")


@pytest.mark.parametrize(
    "about", [b"{", b"\xff", b"[]", b"{}", b'{"splits": [], "name": 1}', b'{"splits": {"train": {}}, "name": "x"}']
)
def test_descriptions_that_are_none(manifest: Path, about: bytes) -> None:
    rewritten(manifest, scfs=about)
    with pytest.raises(ScfsError, match=r"damaged: its description is not one of a data set"):
        load_split(manifest, "train")


def test_other_tables_are_no_manifests(manifest: Path) -> None:
    table = pq.read_table(manifest)
    for other in (table.drop_columns("label"), table.set_column(1, "width", table["width"].cast(pa.int64()))):
        rewritten(manifest, other)
        with pytest.raises(ScfsError, match="not a manifest: run `scfs prepare data`"):
            load_split(manifest, "train")
    rewritten(manifest, table, sha257=b"x")
    with pytest.raises(ScfsError, match="not a manifest"):
        load_split(manifest, "train")


def test_the_digest_does_not_depend_on_how_the_file_is_cut(tmp_path: Path, manifest: Path) -> None:
    table = pq.read_table(manifest)
    sound = content(manifest)
    pq.write_table(table, manifest, row_group_size=2, use_dictionary=False)
    assert content(manifest) == sound
    assert json.loads(table.schema.metadata[b"scfs"])["name"] == "mine"
