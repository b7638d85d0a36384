"""Images of one's own: a folder of files, flat (no labels) or with one sub-folder per class."""

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa

from scfs.config.data import MAX_PIXELS, ImageFolders, OwnImages
from scfs.data.image_set import ROWS, ImageSet, with_labels
from scfs.data.manifest import MANIFEST, ManifestSplit, write_manifest
from scfs.data.sources.image_probe import FORMAT_OF, ProbedImage, probe_image
from scfs.data.sources.published_lists import read_class_list
from scfs.data.sources.registry import PREPARE
from scfs.errors import ScfsError
from scfs.io.ordered_map import ordered_map
from scfs.io.progress import log, track

ENDINGS = tuple(FORMAT_OF)


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
    missing = [name for name in wanted if not (folder / name).is_dir()]
    if missing:
        number = f"{len(missing)} of the {len(wanted)}"
        raise ScfsError(f"{folder}: no sub-folder {missing[0]!r}: {number} of the class list are missing")
    found = (path for below in wanted or [""] for path in _walk(folder, below))
    paths = sorted(track(found, f"listing {folder}", "images"))
    seen = sorted({path.partition("/")[0] for path in paths if "/" in path})
    flat = [path for path in paths if "/" not in path]
    empty = [folder / name for name in wanted if name not in seen] or [folder] * (not paths)
    if empty:
        raise ScfsError(f"{empty[0]}: no images in it (looked for {', '.join(ENDINGS)})")
    if seen and flat:
        raise ScfsError(
            f"{folder}: images both beside the sub-folders ({flat[0]}) and inside ({seen[0]}): "
            "either none has a class, or all have"
        )
    return FolderListing(folder, tuple(paths), tuple(seen))


def _walk(folder: Path, below: str = "") -> Iterator[str]:
    """Yield the paths of all images below a folder, relative, with forward slashes; links are followed."""
    for place, folders, files in os.walk(folder / below, onerror=_cannot_list, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if name.lower().endswith(ENDINGS) and not name.startswith("."):
                path = Path(place, name).relative_to(folder).as_posix()
                try:
                    path.encode()
                except UnicodeEncodeError:
                    raise ScfsError(f"{folder}: {path!a}: file names must be in UTF-8") from None
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
        ScfsError: an image cannot be decoded and is not to be left out; or none can.
    """
    rows, problems = probed_rows(folder, paths, config.max_pixels)
    place = place or f"{folder}"
    if isinstance(config, ImageFolders):
        hint = "the setting unreadable: skip (of `scfs pretrain FOLDER`: --unreadable skip) leaves such images out"
        require_readable(place, problems, len(paths), config.unreadable, hint)
    else:
        require_readable(place, problems, len(paths))
    return rows, len(problems)


def require_readable(
    place: str, problems: Sequence[str], images: int, unreadable: Literal["error", "skip"] = "error", hint: str = ""
) -> None:
    """Refuse images that cannot be decoded, or say that they are left out.

    Args:
        place: where they are, for messages.
        problems: each image with its problem, as text.
        images: number of images with those that can be decoded.
        unreadable: "skip" leaves them out.
        hint: end of the refusal.

    Raises:
        ScfsError: there are some and `unreadable` is "error"; or there are no others.
    """
    if problems:
        found = f"{place}: {len(problems)} of {images} images cannot be decoded, the first is {problems[0]}"
        if unreadable == "error":
            raise ScfsError("; ".join(filter(None, (found, hint))))
        if len(problems) == images:
            raise ScfsError(f"{found}: nothing is left")
        log(f"{found}; left out")


def probed_rows(folder: Path, paths: Sequence[str], max_pixels: int = MAX_PIXELS) -> tuple[pa.Table, list[str]]:
    """Open files of a folder, in order, and show how far that is.

    Returns:
        Rows (scfs.data.image_set.ROWS) of those that can be decoded, without labels; and each of the others with its
        problem, as text.
    """
    rows, problems = [], []
    found = ordered_map(paths, lambda path: _probe(folder / path, max_pixels), lambda path: 0)
    for path, probe in track(found, f"{folder}", "images", len(paths)):
        if probe.problem is None:
            rows.append({"path": path, **probe._asdict()})
        else:
            problems.append(f"{path} ({probe.problem})")
    return pa.Table.from_pylist(rows, ROWS), problems


def _probe(path: Path, max_pixels: int) -> ProbedImage:
    try:
        content = path.read_bytes()
    except OSError as error:
        return ProbedImage(0, 0, b"", str(error))
    return probe_image(content, max_pixels=max_pixels)


def image_folder(folder: Path, config: ImageFolders | None = None) -> ImageSet:
    """Read all images of a folder, without a manifest; labelled if it holds one sub-folder per class.

    Args:
        folder: where they are.
        config: which images are taken, but for its folders; None: the defaults.

    Raises:
        ScfsError: see `list_images` and `read_rows`.
    """
    listing = list_images(folder)
    rows, _ = read_rows(listing, listing.classes, config or ImageFolders(source="folder", splits={"all": ""}))
    return ImageSet.of(str(folder), "all", listing.folder, listing.classes, rows)
