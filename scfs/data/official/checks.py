"""Checks of a prepared official data set as a whole: numbers, labels, what is in two places, what is odd.

Official sets are exact, so that another number of images is an error. The same image in two splits is not: such images
are known in the field's sets and belong to the published numbers (Barz and Denzler, "Do we train on test data?",
J. Imaging 2020, count near and exact duplicates between the splits of CIFAR). They are counted and named. Only where a
split lies wholly in another one were the archives mixed up.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from scfs.errors import ScfsError
from scfs.io.progress import log

Tables = Mapping[str, pa.Table]
"""Rows (scfs.data.official.journal) by split, sorted by path."""


def check_numbers(name: str, tables: Tables, expected: Mapping[str, int], classes: Sequence[str]) -> None:
    """Compare a data set with its published numbers.

    Args:
        name: of the data set, for messages.
        tables: rows.
        expected: images by split; a split without a number is not counted.
        classes: names by label; which of them a split has no images of, is logged as a warning; none: there are no
            labels.

    Raises:
        ScfsError: splits or numbers of images are others, paths appear twice, or labels are missing.
    """
    for split in [*expected, *tables]:
        if split not in tables or (expected and split not in expected):
            raise ScfsError(f"{name}: splits {sorted(tables)} in the archives, {sorted(expected)} are expected")
    for split, table in tables.items():
        found, wanted = len(table), expected.get(split, len(table))
        if found != wanted:
            raise ScfsError(f"{name}: {found} images of split {split} in the archives, {wanted} are expected")
        times = pc.value_counts(table["path"])
        twice = times.filter(pc.greater(times.field("counts"), 1)).field("values")
        if len(twice):
            raise ScfsError(f"{name}: split {split}: {twice[0]} comes twice")
        if classes and table["label"].null_count:
            raise ScfsError(f"{name}: split {split}: {table['label'].null_count} images without a label")
        absent = sorted(set(range(len(classes))) - set(pc.unique(table["label"]).to_pylist()))
        if absent:
            number = f"{len(absent)} of the {len(classes)} classes"
            log(f"warning: {name}: split {split} has no image of {number}, the first is {classes[absent[0]]!r}")


def report(name: str, tables: Tables) -> dict[str, Any]:
    """Report on a data set, for report.json; warnings are logged, too.

    Raises:
        ScfsError: see `shared_images`.
    """
    splits = {split: split_report(name, split, table) for split, table in tables.items()}
    return {"splits": splits, "shared": shared_images(name, tables)}


def shared_images(name: str, tables: Tables) -> list[dict[str, Any]]:
    """Count images whose bytes are in two splits, with the first pair of paths; also logged as a warning.

    Raises:
        ScfsError: all images of a split are in another one.
    """
    found = []
    for first, second in combinations(tables, 2):
        ours, theirs = (_readable(tables[split]) for split in (first, second))
        both = _common(theirs, ours)
        if not len(both):
            continue
        partner = ours.filter(pc.equal(ours["sha256"], both["sha256"][0]))["path"][0].as_py()
        pair = [partner, both["path"][0].as_py()]
        for inner, outer, rows, others in ((second, first, theirs, ours), (first, second, ours, theirs)):
            if len(_common(rows, others)) == len(rows):
                raise ScfsError(f"{name}: all images of split {inner} are in split {outer}: the archives are mixed up")
        number = f"{len(both)} images of split {second} are also in split {first}"
        log(f"warning: {name}: {number}, the first are {pair[1]} and {pair[0]}")
        found.append({"splits": [first, second], "images": len(both), "first": pair})
    return found


def _common(rows: pa.Table, others: pa.Table) -> pa.Table:
    """Return those of the rows whose images are among the others' too."""
    return rows.filter(pc.is_in(rows["sha256"], value_set=pc.unique(others["sha256"])))


def split_report(name: str, split: str, table: pa.Table) -> dict[str, Any]:
    """Report on a split: its number of images, repeated, odd and unreadable ones."""
    readable = _readable(table)
    repeated = len(readable) - pc.count_distinct(readable["sha256"]).as_py()
    if repeated:
        log(f"warning: {name}: {repeated} images of split {split} repeat others of it")
    odd = dict(_pairs(readable, "odd"))
    if odd:
        path, what = next(iter(odd.items()))
        log(f"{name}: split {split}: {len(odd)} odd images, the first is {path} ({what}); they are taken as they are")
    return {"images": len(readable), "repeated": repeated, "odd": odd, "unreadable": dict(_pairs(table, "problem"))}


def _readable(table: pa.Table) -> pa.Table:
    return table.filter(pc.is_null(table["problem"]))


def _pairs(table: pa.Table, column: str) -> Iterator[tuple[str, str]]:
    """Yield the paths of the rows that have a text in the column, and the text."""
    kept = table.filter(pc.is_valid(table[column]))
    return zip(kept["path"].to_pylist(), kept[column].to_pylist())
