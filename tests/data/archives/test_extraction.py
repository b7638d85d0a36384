"""Extraction: whole files, nothing outside, and an interrupted one goes on to the same end."""

import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from scfs.data.archives import extraction
from scfs.data.archives.extraction import extract
from scfs.data.archives.members import Member, members
from scfs.errors import ScfsError

FILES = {f"images/{number:02}.jpg": bytes([number]) * (number * 700) for number in range(20)} | {"list.txt": b"01\n"}


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    with zipfile.ZipFile(tmp_path / "set.zip", "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in FILES.items():
            file.writestr(name, content)
    return tmp_path / "set.zip"


def all_of(archive: Path) -> Iterator[tuple[str, Member]]:
    for member in members(archive):
        yield member.name, member


def below(folder: Path) -> dict[str, bytes]:
    """What is below a folder, but for the lock."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name != ".extracting.lock"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_all_files_and_no_others(archive: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data" / "set"
    assert extract(lambda: all_of(archive), folder) == len(FILES)
    assert below(folder) == FILES
    (folder / "mine.txt").write_text("mine")
    assert extract(lambda: all_of(archive), folder) == 0
    assert below(folder) == FILES | {"mine.txt": b"mine"}


def test_chosen_files_under_other_paths(archive: Path, tmp_path: Path) -> None:
    def chosen() -> Iterator[tuple[str, Member]]:
        return ((f"train/{member.name}", member) for member in members(archive) if member.name.endswith("1.jpg"))

    assert extract(chosen, tmp_path / "set") == 2
    assert set(below(tmp_path / "set")) == {"train/images/01.jpg", "train/images/11.jpg"}


@pytest.mark.parametrize("compared", [0, 1 << 26])
def test_what_differs_is_written_again(
    compared: int, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extraction, "COMPARED", compared)
    folder = tmp_path / "set"
    extract(lambda: all_of(archive), folder)
    (folder / "images/03.jpg").write_bytes(bytes(3 * 700))  # as after a power cut: its size, but zeros
    (folder / "images/04.jpg").write_bytes(b"short")
    (folder / "images/05.jpg").unlink()
    (folder / ".extracting").write_bytes(b"half")
    written = extract(lambda: all_of(archive), folder)
    assert written == (3 if compared else len(FILES) - 1)  # nothing is there to compare in an empty file
    assert below(folder) == FILES


def test_killed_at_any_file_it_goes_on(archive: Path, tmp_path: Path) -> None:
    """In another process, which ends without cleaning up at the n-th piece that it would write."""
    program = """
import os, sys
from pathlib import Path
from scfs.data.archives.members import Member, members
from scfs.data.archives.extraction import extract
left = int(sys.argv[3])
pieces = Member.pieces
def dying(self):
    global left
    for piece in pieces(self):
        left -= 1
        if left < 0:
            os._exit(9)
        yield piece[: len(piece) // 2]
        yield piece[len(piece) // 2 :]
Member.pieces = dying
extract(lambda: ((member.name, member) for member in members(Path(sys.argv[1]))), Path(sys.argv[2]))
"""
    folder = tmp_path / "set"
    for left in (0, 3, 19):
        before = len(below(folder)) if folder.exists() else 0
        command = [sys.executable, "-c", program, str(archive), str(folder), str(left)]
        assert subprocess.run(command, check=False, env=os.environ).returncode == 9
        found = below(folder)
        found.pop(".extracting", None)
        assert found.items() <= FILES.items() and len(found) >= before
    assert 0 < len(found) < len(FILES)
    assert extract(lambda: all_of(archive), folder) == len(FILES) - len(found)
    assert below(folder) == FILES


def test_a_bad_archive_writes_nothing(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "set.tar", "w") as file:
        for name in ("fine.jpg", "../outside.jpg"):
            header = tarfile.TarInfo(name)
            header.size = 1
            file.addfile(header, io.BytesIO(b"1"))
    with pytest.raises(ScfsError, match="leaves its folder"):
        extract(lambda: all_of(tmp_path / "set.tar"), tmp_path / "a" / "set")
    assert below(tmp_path / "a") == {} and not (tmp_path / "a" / "outside.jpg").exists()


@pytest.mark.parametrize("path", ["../x", "/x", "", ".", "a//b", "a\\b", "a/../b"])
def test_paths_that_are_refused(path: str, archive: Path, tmp_path: Path) -> None:
    [first, *_] = members(archive)
    with pytest.raises(ScfsError, match=re.escape(f"{path!r} ({archive}: 'images/00.jpg'): not a path below it")):
        extract(lambda: [("fine", first), (path, first)], tmp_path / "set")
    with pytest.raises(ScfsError, match=r"'fine' .*: comes twice"):
        extract(lambda: [("fine", first), ("fine", first)], tmp_path / "set")
    assert below(tmp_path / "set") == {}


def test_too_little_space_is_said_before(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needed = sum(-(-len(content) // 4096) * 4096 for content in FILES.values())
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=needed - 1))
    with pytest.raises(ScfsError, match=r"set: 0\.00 GiB have to be written, 0\.00 GiB are free"):
        extract(lambda: all_of(archive), tmp_path / "set")
    assert below(tmp_path / "set") == {}
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=needed))
    assert extract(lambda: all_of(archive), tmp_path / "set") == len(FILES)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=0))
    assert extract(lambda: all_of(archive), tmp_path / "set") == 0  # what is there needs none


def test_what_cannot_be_written_is_one_line(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "set").write_text("a file")
    with pytest.raises(ScfsError, match=r"set: could not be written: File exists"):
        extract(lambda: all_of(archive), tmp_path / "set")
    (tmp_path / "other" / "list.txt").mkdir(parents=True)
    with pytest.raises(ScfsError, match="could not be written: Is a directory"):
        extract(lambda: all_of(archive), tmp_path / "other")
