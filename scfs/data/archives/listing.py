"""Text for a terminal: facts of the official data sets, and which of their archives are there."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from scfs.config.official_sets import Archive, RequiredArchive, catalogue, official_set, required_archives
from scfs.io.text_table import aligned

UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def list_all(folder: Path) -> str:
    """List all sets, one on a line: images, archives that are there, their size, and what is missing."""
    rows = [("set", "images", "archives", "bytes", "not there")]
    for name, official in catalogue().items():
        items = list(required_archives(name, folder))
        there = [item for item in items if state(item) == "there"]
        missing = [_role(item) for item in items if item not in there]
        bytes_there = _sum(item.path.stat().st_size for item in there)
        rows.append(
            (
                name,
                f"{sum(official.splits.values()):,}",
                f"{len(there)} of {len(items)}",
                f"{bytes_there} of {_total(items)}",
                ", ".join(missing) or "-",
            )
        )
    return f"archives are looked for in {folder}/<set>\n\n{_columns(rows)}"


def describe(name: str, folder: Path) -> str:
    """Describe a set as the catalogue does, where its archives come from, and whether they are there.

    Raises:
        ScfsError: there is no such set.
    """
    official = official_set(name)
    items = list(required_archives(name, folder))
    metric = {"top1": "top-1 accuracy", "mean_per_class": "mean accuracy per class", None: "average precision"}
    facts = [
        ("set", f"{name}: {official.title}"),
        ("task", f"{official.task} of {official.classes} classes, {metric[official.metric]}"),
        ("splits", ", ".join(f"{split} {number:,}" for split, number in official.splits.items()) + " images"),
        ("licence", official.licence),
        ("citation", official.citation),
        ("space", f"{_total(items)} for the archives; their images as files or shards: about as much again"),
    ]
    if official.uses:
        facts.append(("uses", f"the archives of {', '.join(official.uses)}"))
    if official.notes:
        facts.append(("notes", official.notes))
    archives = [f"{item.role}: {item.path}, {state(item)}\n{_columns(_origin(item.archive), '    ')}" for item in items]
    return "\n".join([_columns(facts), "", "archives", *(f"  {text}" for text in archives)])


def state(item: RequiredArchive) -> str:
    """Say if an archive is there, by its size alone: `there`, `missing`, `unfinished` or `another size`."""
    sizes = {item.archive.size, *(version.size for version in item.archive.also)}
    if item.path.is_file():
        size = item.path.stat().st_size
        return "there" if size in sizes or None in sizes else f"another size: {size} bytes"
    part = item.path.with_name(f".{item.path.name}.part")
    return f"unfinished: {_text(part.stat().st_size)} fetched" if part.is_file() else "missing"


def _origin(archive: Archive) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("size", "not known" if archive.size is None else f"{archive.size} bytes")]
    rows += [(kind, value) for kind, value in (("MD5", archive.md5), ("SHA-256", archive.sha256)) if value]
    rows += [("or SHA-256", f"{version.sha256}, {version.size} bytes") for version in archive.also]
    rows += [("from", url) for url in archive.urls]
    return rows + ([("by hand", archive.by_hand)] if archive.by_hand else [])


def _role(item: RequiredArchive) -> str:
    found = state(item)
    return item.role if found == "missing" else f"{item.role} ({found})"


def _total(items: Iterable[RequiredArchive]) -> str:
    return _sum(item.archive.size for item in items)


def _sum(sizes: Iterable[int | None]) -> str:
    """Add up sizes, and say so if not all are known."""
    sizes = list(sizes)
    return _text(sum(size for size in sizes if size is not None)) + (" and more" if None in sizes else "")


def _text(size: float) -> str:
    """Write a number of bytes with a unit."""
    unit = 0
    while size >= 1000 and unit < len(UNITS) - 1:
        size, unit = size / 1024, unit + 1
    return f"{size:.0f} {UNITS[unit]}" if size >= 100 else f"{size:.3g} {UNITS[unit]}"


def _columns(rows: Sequence[Sequence[str]], indent: str = "") -> str:
    """Lay out rows as columns that all stand to the left."""
    return "\n".join(indent + line.rstrip() for line in aligned(rows, left=range(len(rows[0]))))
