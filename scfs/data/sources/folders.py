"""Images of one's own: a folder of files, flat (no labels) or with one sub-folder per class."""

import os
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import groupby, islice
from pathlib import Path
from statistics import median
from typing import Self

import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from scfs.config.data import MAX_PIXELS, ImageFolders, OwnImages
from scfs.data.image_set import ROWS, ImageSet, warn_of_new_labels, with_labels
from scfs.data.manifest import MANIFEST, ManifestSplit, write_manifest
from scfs.data.sources.image_probe import DAMAGED, FORMAT_OF, ProbedImage, probe_image
from scfs.data.sources.published_lists import read_class_list
from scfs.data.sources.registry import PREPARE
from scfs.errors import ScfsError, is_utf8, refusing
from scfs.io.files import read_regular, walk
from scfs.io.ordered_map import ordered_map
from scfs.io.progress import log, track

ENDINGS = tuple(FORMAT_OF)
SHOWN = 8
"""Endings of files that are left out, of which the number is said: the most frequent ones."""
SURVEYED = 200
"""Number of images whose headers `survey` reads at most."""
SKIP = "; the setting unreadable: skip (of `scfs pretrain FOLDER`: --unreadable skip) leaves such images out"
PROBED = ROWS.append(pa.field("odd", pa.string()))
"""Columns of images that were looked at: ROWS, and what was noted, with semicolons between; manifests count it."""


@PREPARE.add("folder")
def prepare_folders(name: str, config: ImageFolders, folder: Path) -> None:
    """Open every image of the folders, and write the manifest.

    Raises:
        ScfsError: see `list_images`, `read_rows` and `read_class_list`.
    """
    only = read_class_list(config.class_list) if config.class_list else None
    listings = {split: list_images(Path(place), only) for split, place in config.splits.items()}
    classes = tuple(sorted({name for listing in listings.values() for name in listing.classes}))
    listed = []
    for split, listing in listings.items():
        if number := config.images_per_class.get(split):
            listing = listing.first(number)
        rows, unreadable = read_rows(listing, classes, config)
        listed.append(ManifestSplit(split, str(listing.folder), rows, classes if listing.classes else (), unreadable))
    write_manifest(folder / MANIFEST, name, config, listed)


@dataclass(frozen=True)
class FolderListing:
    """Images and classes of a folder, before any file is opened."""

    folder: Path
    """Absolute."""
    paths: tuple[str, ...]
    """Images relative to the folder, sorted."""
    classes: tuple[str, ...]
    """Names of the sub-folders, sorted; empty if the folder is flat."""

    def first(self, number: int) -> Self:
        """Keep so many images of each class, or of a flat folder in all: the first by name."""
        of_classes = groupby(self.paths, lambda path: path.partition("/")[0] if self.classes else "")
        return replace(self, paths=tuple(path for _, paths in of_classes for path in islice(paths, number)))


def list_images(folder: Path, only: Collection[str] | None = None) -> FolderListing:
    """Find the images of a folder; hidden files and folders, and files with other endings, are ignored.

    Args:
        folder: where they are.
        only: sub-folders to look into, all of which must be there with images, and nothing else; None: everywhere.

    Raises:
        ScfsError: no such folder, no images in it, or images both beside and inside sub-folders.
    """
    if not folder.is_dir():
        raise ScfsError(f"{folder}: no such folder")
    folder, wanted = folder.resolve(), sorted(only or ())
    if not is_utf8(f"{folder}"):
        raise ScfsError(f"{f'{folder}'!a}: names of folders must be in UTF-8")
    missing = [name for name in wanted if not (folder / name).is_dir()]
    if missing:
        number = f"{len(missing)} of the {len(wanted)}"
        raise ScfsError(f"{folder}: no sub-folder {missing[0]!r}: {number} of the class list are missing")
    others: Counter[str] = Counter()
    found = (path for below in wanted or [""] for path in _walk(folder, below, others))
    paths = sorted(track(found, f"listing {folder}", "images"))
    seen = sorted({path.partition("/")[0] for path in paths if "/" in path})
    flat = [path for path in paths if "/" not in path]
    empty = [folder / name for name in wanted if name not in seen] or [folder] * (not paths)
    endings = ", ".join(f"{number} {ending!a}" for ending, number in others.most_common(SHOWN))
    left_out = f"; {others.total()} files of other endings are left out: {endings}" if others else ""
    if empty:
        raise ScfsError(f"{empty[0]}: no images in it (looked for {', '.join(ENDINGS)}{left_out})")
    if left_out:
        log(f"{folder}{left_out}")
    if seen and flat:
        raise ScfsError(
            f"{folder}: images both beside the sub-folders ({flat[0]}) and inside ({seen[0]}): "
            "either none has a class, or all have"
        )
    return FolderListing(folder, tuple(paths), tuple(seen))


def _walk(folder: Path, below: str, others: Counter[str]) -> Iterator[str]:
    """Yield the paths of all images below a folder, relative, with forward slashes; count others by their endings."""
    for place, folders, files in walk(folder / below, _cannot_list):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in (name for name in files if not name.startswith(".")):
            if not name.lower().endswith(ENDINGS):
                others[Path(name).suffix.lower()] += 1
            else:
                path = Path(place, name).relative_to(folder).as_posix()
                if not is_utf8(path):
                    raise ScfsError(f"{folder}: {path!a}: file names must be in UTF-8")
                yield path


def _cannot_list(error: OSError) -> None:
    raise ScfsError(f"{error.filename}: cannot be read: {error.strerror}") from None


def read_rows(listing: FolderListing, classes: Sequence[str], config: ImageFolders) -> tuple[pa.Table, int]:
    """Open every image of a listing.

    Args:
        listing: of the folder.
        classes: names by label, the listing's sub-folders among them.
        config: which images are taken.

    Returns:
        Rows, with labels unless the folder is flat, and the number of images left out.

    Raises:
        ScfsError: see `sound_rows`.
    """
    rows, left_out = sound_rows(listing.folder, listing.paths, config)
    if listing.classes:
        label = {name: number for number, name in enumerate(classes)}
        rows = with_labels(rows, [label[path.partition("/")[0]] for path in rows["path"].to_pylist()])
    return rows, left_out


def sound_rows(folder: Path, paths: Sequence[str], config: OwnImages, place: str = "") -> tuple[pa.Table, int]:
    """Open files of a folder, in order, and hold them to the settings of their data set.

    Args:
        folder: where they are.
        paths: within the folder.
        config: which images are taken.
        place: names the images for messages; by default the folder.

    Returns:
        Rows as of `probed_rows`, and the number of images left out.

    Raises:
        ScfsError: an image cannot be decoded and is not to be left out; or none can; or too many are damaged.
    """
    rows, problems = probed_rows(folder, paths, config.max_pixels)
    place = place or f"{folder}"
    require_readable(place, problems, len(paths), config.unreadable if isinstance(config, ImageFolders) else None)
    damaged = rows["path"].filter(pc.match_substring(rows["odd"], DAMAGED))
    if damaged:
        found = f"{place}: {len(damaged)} of {len(paths)} images are {DAMAGED}, in part grey, the first is {damaged[0]}"
        if len(damaged) > config.damaged * len(paths):
            allowed = f"a share of {config.damaged} is allowed (the setting damaged; `scfs pretrain FOLDER`: --damaged)"
            raise ScfsError(f"{found}: {allowed}")
        log(f"warning: {found}")
    return rows, len(problems)


def require_readable(place: str, problems: Sequence[str], images: int, unreadable: str | None) -> None:
    """Refuse images that cannot be decoded, or say that they are left out.

    Args:
        place: where they are, for messages.
        problems: each image with its problem, as text.
        images: number of images with those that can be decoded.
        unreadable: the setting, "error" or "skip", which leaves them out; None: the source has none.

    Raises:
        ScfsError: there are some and `unreadable` is not "skip"; or there are no others.
    """
    if problems:
        found = f"{place}: {len(problems)} of {images} images cannot be decoded, the first is {problems[0]}"
        if unreadable != "skip":
            raise ScfsError(found + (SKIP if unreadable else ""))
        if len(problems) == images:
            raise ScfsError(f"{found}: nothing is left")
        log(f"{found}; left out")


def probed_rows(folder: Path, paths: Sequence[str], max_pixels: int = MAX_PIXELS) -> tuple[pa.Table, list[str]]:
    """Open files of a folder, in order, and show how far that is.

    Returns:
        Rows (`PROBED`) of those that can be decoded, without labels; and each of the others with its
        problem, as text.
    """
    rows, problems = [], []
    found = ordered_map(paths, lambda path: probe_file(folder / path, max_pixels), lambda path: 0)
    for path, probe in track(found, f"{folder}", "images", len(paths)):
        if probe.problem is None:
            rows.append({"path": path, **probe._asdict(), "odd": "; ".join(probe.notes) or None})
        else:
            problems.append(f"{path} ({probe.problem})")
    return pa.Table.from_pylist(rows, PROBED), problems


def probe_file(path: Path, max_pixels: int) -> ProbedImage:
    """Look at an image file, see `probe_image`; one that cannot be read has that as its problem."""
    try:
        content = read_regular(path)
    except OSError as error:
        return ProbedImage(0, 0, b"", error.strerror or str(error))
    return probe_image(content, max_pixels=max_pixels)


def survey(places: Sequence[Path]) -> tuple[int, int]:
    """Count the images of folders, and look at the headers of some.

    Returns:
        Number of images, and the median of their shorter sides in pixels; zeros if there are none, or no such folder.

    Raises:
        ScfsError: see `list_places`.
    """
    listing, sides = list_places([place for place in places if place.exists()], Counter()), []
    for path in listing[:: len(listing) // SURVEYED + 1]:
        with suppress(OSError, Image.DecompressionBombError), Image.open(path) as image:
            sides.append(min(image.size))
    return len(listing), round(median(sides or [0]))


def list_places(places: Sequence[Path], others: Counter[str]) -> list[Path]:
    """List the images of folders, and of text files with the path of an image or a folder per line, each once, sorted.

    Args:
        places: folders and text files; the lines of one are relative to its folder.
        others: counts files of other endings in the folders.

    Raises:
        ScfsError: no such folder, a text file is not UTF-8, or a line is neither an image nor a folder.
    """
    named: list[Path] = []
    for place in places:
        with refusing(f"{place}: not UTF-8 text", UnicodeDecodeError):
            lines = place.read_text(encoding="utf-8").splitlines() if place.is_file() else []
        named += [place.parent / line.strip() for line in lines if line.strip()] if place.is_file() else [place]
    found: set[Path] = set()
    for place in named:
        if place.is_dir():
            found |= {place.resolve() / path for path in _walk(place, "", others)}
        elif place in places or place.suffix.lower() not in ENDINGS:
            raise ScfsError(f"{place}: no such folder" if place in places else f"{place}: no folder and no image")
        else:
            found.add(place.resolve())
    return sorted(found)


def image_folder(places: Path | Sequence[Path], config: ImageFolders | None = None) -> ImageSet:
    """Read all images of folders, without a manifest; labelled if there is one with one sub-folder per class.

    Args:
        places: a folder, or see `list_places`.
        config: which images are taken, but for its folders; None: the defaults.

    Raises:
        ScfsError: see `list_images`, `list_places` and `read_rows`.
    """
    places = [places] if isinstance(places, Path) else places
    if len(places) == 1 and not places[0].is_file():
        listing = list_images(places[0])
    else:
        others: Counter[str] = Counter()
        paths = list_places(places, others)
        shown = f"{', '.join(map(str, places))}: {len(paths)} images"
        log(f"{shown}; {others.total()} files of other endings are left out")
        if not paths:
            raise ScfsError(f"{shown} (looked for {', '.join(ENDINGS)})")
        root = Path(os.path.commonpath([path.parent for path in paths]))
        listing = FolderListing(root, tuple(path.relative_to(root).as_posix() for path in paths), ())
    rows, _ = read_rows(listing, listing.classes, config or ImageFolders(source="folder", splits={"all": ""}))
    return ImageSet.of(", ".join(map(str, places)), "all", listing.folder, listing.classes, rows.select(ROWS.names))


def labelled_folders(train: Path, test: Path) -> tuple[ImageSet, ImageSet]:
    """Read all images of two folders with one sub-folder per class; their labels count the classes of both.

    Raises:
        ScfsError: see `list_images` and `read_rows`; or a folder has no classes, or there is only one.
    """
    listings = {"train": list_images(train), "test": list_images(test)}
    for listing in listings.values():
        if not listing.classes:
            raise ScfsError(f"{listing.folder}: no class sub-folders, and labels are needed here: one for each class")
    classes = tuple(sorted({name for listing in listings.values() for name in listing.classes}))
    if len(classes) < 2:
        raise ScfsError(f"{train}: a single class, {classes[0]!r}: there is nothing to tell apart")
    config = ImageFolders(source="folder", splits={"all": ""})
    rows = {split: read_rows(listing, classes, config)[0] for split, listing in listings.items()}
    warn_of_new_labels(f"{test}", {split: (rows[split], classes) for split in rows})
    made = (
        ImageSet.of(f"{listing.folder}", split, listing.folder, classes, rows[split].select(ROWS.names))
        for split, listing in listings.items()
    )
    return next(made), next(made)
