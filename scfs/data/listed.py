"""Images that annotations name: opened as those of folders are, and compared with what the annotations say of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from scfs.data.folders import probes
from scfs.data.images import ImageRows
from scfs.errors import ScfsError
from scfs.progress import track


def read_listed(folder: Path, sizes: Mapping[str, tuple[int, int]], source: str) -> ImageRows:
    """Open every image, in the order of their paths; others in the folder are ignored.

    Args:
        folder: where they are.
        sizes: (width, height) in pixels as annotated, by path within the folder.
        source: what names the images, for messages.

    Raises:
        ScfsError: no such folder; or images are missing, cannot be decoded, or have another size: how many, the first.
    """
    if not folder.is_dir():
        raise ScfsError(f"{folder}: no such folder")
    paths = sorted(sizes)
    require_files(folder, paths, f"images that {source} names")
    rows = ImageRows()
    broken, others = [], []
    for path, probe in probes(folder, paths):
        if probe.problem is not None:
            broken.append(f"{path} ({probe.problem})")
        elif (probe.width, probe.height) != sizes[path]:
            said = "{} x {} pixels".format(*sizes[path])
            others.append(f"{path} ({probe.width} x {probe.height} pixels, annotated as {said})")
        rows.add(path, probe.width, probe.height, probe.sha256)
    for found, what in ((broken, "cannot be decoded"), (others, f"have another size than {source} says")):
        if found:
            raise ScfsError(f"{folder}: {len(found)} of {len(paths)} images {what}, the first is {found[0]}")
    return rows


def require_files(folder: Path, paths: Sequence[str], what: str) -> None:
    """Refuse files that are missing.

    Args:
        folder: where they should be.
        paths: within the folder.
        what: they are, for messages.

    Raises:
        ScfsError: how many are missing, and the first.
    """
    looked = track(paths, f"looking into {folder}", "files")
    missing = [path for path in looked if not (folder / path).is_file()]
    if missing:
        raise ScfsError(f"{folder}: {len(missing)} of {len(paths)} {what} are missing, the first is {missing[0]!r}")
