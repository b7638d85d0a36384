"""Parts of the test archives: packing of members, and small image, text and .mat files."""

import gzip
import io
import tarfile
import zipfile
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy.io import savemat


@dataclass
class Archive:
    name: str
    """Of the official file; its ending says how members are packed."""
    members: dict
    """Content by name, in order: bytes, or the members of an inner tar."""
    folders: bool = True
    """Whether a tar or zip has members for folders, too."""


def write(archives, folder):
    """Write archives and give their paths by role."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {role: folder / archive.name for role, archive in archives.items()}
    for role, archive in archives.items():
        paths[role].write_bytes(packed(archive))
    return paths


def packed(archive):
    if archive.name.endswith(".zip"):
        return zipped(archive.members, archive.folders)
    if archive.name.endswith((".tar.gz", ".tgz")):
        return gzip.compress(tarred(archive.members, archive.folders), mtime=0)
    if archive.name.endswith(".tar"):
        return tarred(archive.members, archive.folders)
    (content,) = archive.members.values()
    return gzip.compress(content, mtime=0) if archive.name.endswith(".gz") else content


def parents(names):
    """Folders of members, each before what it holds."""
    found = {}
    for name in names:
        parts = name.split("/")[:-1]
        found.update(dict.fromkeys("/".join(parts[: depth + 1]) for depth in range(len(parts))))
    return list(found)


def tarred(members, folders):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as file:
        for folder in parents(members) if folders else []:
            info = tarfile.TarInfo(folder)
            info.type, info.mode = tarfile.DIRTYPE, 0o755
            file.addfile(info)
        for name, content in members.items():
            data = tarred(content, False) if isinstance(content, dict) else content
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def zipped(members, folders):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        for folder in parents(members) if folders else []:
            file.writestr(zipfile.ZipInfo(f"{folder}/"), b"")
        for name, content in members.items():
            file.writestr(zipfile.ZipInfo(name), content)
    return stream.getvalue()


def picture(seed, file_format="JPEG", mode="RGB", size=(24, 20)):
    """An image file whose pixels depend on the seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(stream, file_format)
    return stream.getvalue()


def text(*lines):
    return "".join(f"{line}\n" for line in lines).encode()


def structs(variable, fields, rows, column=False):
    """A .mat file with a struct array."""
    array = np.zeros(len(rows), dtype=[(field, object) for field in fields])
    for number, row in enumerate(rows):
        array[number] = row
    return mat(**{variable: array[:, None] if column else array[None]})


def mat(**variables):
    stream = io.BytesIO()
    savemat(stream, variables)
    return stream.getvalue()


def taken(records):
    """(split, path, label, bytes) of all records, each read while the iteration stands at it."""
    return [(record.split, record.path, record.label, record.read()) for record in records]
