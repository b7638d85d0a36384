import os
import socket

import pytest

from scfs.io import files
from scfs.io.files import read_regular, walk


def listed(folder):
    return sorted(os.path.relpath(f"{place}/{name}", folder) for place, _, names in walk(folder) for name in names)


def test_links_are_followed_but_never_in_circles(tmp_path):
    folder, other = tmp_path / "set", tmp_path / "other"
    (folder / "a" / "deep").mkdir(parents=True)
    other.mkdir()
    for path in (folder / "a/1.png", folder / "a/deep/2.png", other / "3.png"):
        path.write_bytes(b"")
    (folder / "a/latest").symlink_to(".")
    (folder / "a/deep/up").symlink_to(folder)
    (folder / "b").symlink_to(other)
    (other / "back").symlink_to(folder / "a")  # seen from b, and leads to b from nowhere
    (other / "self").symlink_to(other)
    (folder / "gone").symlink_to("nowhere")
    a = ["1.png", "deep/2.png"]
    assert listed(folder) == sorted([*(f"a/{x}" for x in a), *(f"b/back/{x}" for x in a), "b/3.png", "gone"])


def test_two_links_to_the_own_folder_end_soon(tmp_path):
    (tmp_path / "1.png").write_bytes(b"")
    for name in ("x", "y", "z"):
        (tmp_path / name).symlink_to(tmp_path)
    assert listed(tmp_path) == ["1.png"]


def test_only_regular_files_are_read(tmp_path, monkeypatch):
    (tmp_path / "1").write_bytes(b"12")
    (tmp_path / "link").symlink_to("1")
    assert read_regular(tmp_path / "link") == b"12"
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(f"{tmp_path}/socket")
    for name in ("pipe", "device", "socket", "."):
        with pytest.raises(OSError, match="not a regular file"):
            read_regular(tmp_path / name)
    monkeypatch.setattr(files, "MOST_BYTES", 1)
    with pytest.raises(OSError, match="2 bytes, at most 1 are read"):
        read_regular(tmp_path / "1")
