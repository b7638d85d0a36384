"""Images of one's own that a table names: CSV or Parquet with a column `path` and, if there are labels, `label`."""

import csv
import io
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from scfs.config.data import ImageTable
from scfs.data.image_set import with_labels
from scfs.data.manifest import MANIFEST, ManifestSplit, write_manifest
from scfs.data.sources.folders import sound_rows
from scfs.data.sources.registry import PREPARE
from scfs.errors import ScfsError, reading, refusing
from scfs.io.parquet import read_parquet
from scfs.io.progress import log

Columns = list[tuple[str, Sequence[Any]]]
"""Names of a table's columns and their cells; a name may stand there twice."""


@PREPARE.add("table")
def prepare_tables(name: str, config: ImageTable, folder: Path) -> None:
    """Open every image that the tables name, and write the manifest.

    A label is an index into the sorted names that all tables have.

    Raises:
        ScfsError: see `read_table`; or an image is missing or cannot be decoded (how many, and the first).
    """
    tables = {split: read_table(Path(file)) for split, file in config.splits.items()}
    classes = tuple(sorted({name for _, names in tables.values() for name in names or ()}))
    label = {name: number for number, name in enumerate(classes)}
    listed = []
    for split, (paths, names) in tables.items():
        root = Path(config.splits[split]).resolve().parent
        rows, _ = sound_rows(root, paths, config, config.splits[split])
        if names is not None:
            rows = with_labels(rows, [label[name] for name in names])
        listed.append(ManifestSplit(split, str(root), rows, classes if names else ()))
    write_manifest(folder / MANIFEST, name, config, listed)


def read_table(file: Path) -> tuple[list[str], list[str] | None]:
    """Read the paths of images, absolute or relative to the table's folder, and their labels; None without that column.

    Paths and labels are text: nothing is taken for a number or a date.

    Raises:
        ScfsError: it cannot be read, is neither CSV in UTF-8 nor Parquet, lacks `path`, has no rows, one of the two
            columns twice, or a cell in them that is empty or no text; or it names an image twice.
    """
    read = READERS.get(file.suffix)
    if read is None:
        raise ScfsError(f"{file}: a table of images ends in {' or '.join(READERS)}")
    with reading(file):
        columns = [(name.strip(), cells) for name, cells in read(file)]
    names = [name for name, _ in columns]
    for name in ("path", "label"):
        if names.count(name) > 1:
            raise ScfsError(f"{file}: column {name!r} stands there {names.count(name)} times: allowed is once")
    found = {name: _texts(file, name, cells) for name, cells in columns if name in ("path", "label")}
    if "path" not in found:
        raise ScfsError(f"{file}: has no column 'path': its columns are {names}")
    if not found["path"]:
        raise ScfsError(f"{file}: has no rows")
    path, times = Counter(found["path"]).most_common(1)[0]
    if times > 1:
        raise ScfsError(f"{file}: {path!r} stands there {times} times: allowed is once")
    if "label" not in found and len(names) > 1:
        log(f"warning: {file}: its images have no labels, as no column is named 'label': its columns are {names}")
    return found["path"], found.get("label")


def _read_csv(file: Path) -> Columns:
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = error.object.count(b"\n", 0, error.start)
        raise ScfsError(f"{file}: row {row} (0 is the header): not UTF-8 text: save the table as UTF-8") from None
    # After a header such as `path, label`, blanks belong to the commas.
    spaced = ", " in text.partition("\n")[0]
    with refusing(f"{file}: not a table", csv.Error):
        rows = list(filter(None, csv.reader(io.StringIO(text, newline=""), strict=True, skipinitialspace=spaced)))
    for row, cells in enumerate(rows):
        if len(cells) != len(rows[0]):
            raise ScfsError(f"{file}: row {row}: {len(cells)} cells, and the header has {len(rows[0])}")
    return [(column[0], column[1:]) for column in zip(*rows)]


def _read_parquet(file: Path) -> Columns:
    with refusing(f"{file}: not a table", pa.ArrowException):
        table = read_parquet(file)
    return list(zip(table.column_names, table.columns, strict=True))


READERS: dict[str, Callable[[Path], Columns]] = {".csv": _read_csv, ".parquet": _read_parquet}
"""Readers by the ending of the table's name."""


def _texts(file: Path, name: str, cells: Sequence[Any]) -> list[str]:
    """Return a column as text: whole numbers are good labels too.

    Others are not: 1 and 1.0, true and True, or the same day in two formats would be two labels.
    """
    if isinstance(cells, pa.ChunkedArray):
        kind = cells.type.value_type if pa.types.is_dictionary(cells.type) else cells.type
        if not any(right(kind) for right in (pa.types.is_string, pa.types.is_large_string, pa.types.is_integer)):
            raise ScfsError(f"{file}: column {name!r} is of the type {kind}: text or whole numbers are expected")
        with refusing(f"{file}: column {name!r}: not UTF-8 text", pa.ArrowInvalid):
            cells.validate(full=True)
        cells = cells.to_pylist()
    values = ["" if value is None else str(value) for value in cells]
    for row, value in enumerate(values, start=1):
        if not value.strip() or "\0" in value:
            problem = f"= {value!r}: NUL is not allowed" if "\0" in value else "is empty"
            raise ScfsError(f"{file}: row {row}: {name} {problem}")
    return values
