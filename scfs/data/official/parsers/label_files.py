"""Label files inside official archives: found, decoded, and every line and number checked."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scfs.data.archives.members import members
from scfs.errors import ScfsError, refusing


@dataclass(frozen=True)
class LabelFile:
    """A file of labels or of names."""

    source: str
    """Archive and member, for messages."""
    content: bytes

    def rows(self, columns: int) -> Iterator[tuple[str, list[str]]]:
        """Yield the lines of a text that are not empty, each with its place for messages.

        Args:
            columns: fields of a line, separated by white space; the last one may hold some.

        Raises:
            ScfsError: the text is not UTF-8, has no lines, or one has fewer or more fields.
        """
        with refusing(f"{self.source}: not UTF-8 text", UnicodeDecodeError):
            lines = self.content.decode().splitlines()
        if not any(line.strip() for line in lines):
            raise ScfsError(f"{self.source}: is empty")
        for number, line in enumerate(lines, start=1):
            fields = line.split(maxsplit=columns - 1)
            if fields:
                place = f"{self.source}: line {number} = {line.strip()!r}"
                if len(fields) != columns:
                    raise ScfsError(f"{place}: {columns} fields are expected")
                yield place, [*fields[:-1], fields[-1].strip()]

    def names(self) -> tuple[str, ...]:
        """Read a text with the name of a class on each line.

        Raises:
            ScfsError: see `rows`.
        """
        return tuple(name for _, (name,) in self.rows(1))

    def table(self) -> dict[str, tuple[str, str]]:
        """Read a text of two columns: the second one by the first, with its place for messages.

        Raises:
            ScfsError: see `rows`; or two lines begin with the same field.
        """
        found: dict[str, tuple[str, str]] = {}
        for place, (key, value) in self.rows(2):
            if key in found:
                raise ScfsError(f"{place}: {key!r} appears twice")
            found[key] = place, value
        return found


def read_label_files(archive: Path, names: Collection[str]) -> dict[str, LabelFile]:
    """Read members of an archive, by name.

    Raises:
        ScfsError: one is missing.
    """
    found: dict[str, LabelFile] = {}
    for member in members(archive):
        if member.name in names:
            found[member.name] = LabelFile(f"{archive}: {member.name}", member.read())
            if len(found) == len(names):
                break
    for name in names:
        if name not in found:
            raise ScfsError(f"{archive}: no file {name} in it: the layout is not the official archive's")
    return found


def number_within(value: Any, least: int, most: int, place: str) -> int:
    """Return a whole number of a label file: digits of a text, or a number of a struct.

    Raises:
        ScfsError: it is none, or beyond the limits.
    """
    if isinstance(value, str):
        whole = value.isascii() and value.isdecimal()
    else:
        whole = isinstance(value, int | float) and float(value).is_integer()
    if not (whole and least <= int(value) <= most):
        raise ScfsError(f"{place}: {value!r} must be a number from {least} to {most}")
    return int(value)


def class_folders(classes: Sequence[str], source: str) -> tuple[str, ...]:
    """Name the classes' folders: as the classes, with a hyphen for each slash (`F/A-18`, `T-shirt/top`).

    Raises:
        ScfsError: there is no class, two have the same folder, or one's would be hidden or have no name.
    """
    if not classes:
        raise ScfsError(f"{source}: no classes in it")
    folders = tuple(name.replace("/", "-") for name in classes)
    seen: dict[str, str] = {}
    for name, folder in zip(classes, folders):
        if not folder or folder.startswith("."):
            raise ScfsError(f"{source}: class {name!r} cannot be the name of a folder")
        if folder in seen:
            raise ScfsError(f"{source}: classes {seen[folder]!r} and {name!r} have the same folder, {folder}")
        seen[folder] = name
    return folders
