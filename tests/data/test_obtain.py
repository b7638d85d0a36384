"""Archives of a set: taken as they are, fetched, or a line that says how to get them; and what the command prints."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scfs.config.base import parse
from scfs.data import catalogue as module
from scfs.data.catalogue import Catalogue, catalogue
from scfs.data.holdings import describe, list_all
from scfs.data.obtain import obtain
from scfs.errors import ScfsError

CONTENT = b"an archive" * 200


def archive(file: str, content: bytes = CONTENT, **values: Any) -> dict[str, Any]:
    sha256 = hashlib.sha256(content).hexdigest()
    return {"file": file, "size": len(content), "md5": None, "sha256": sha256, "by_hand": "the authors"} | values


def official(**values: Any) -> dict[str, Any]:
    base: dict[str, Any] = {"title": "Toys", "task": "classification", "metric": "top1", "classes": 2}
    return base | {"splits": {"train": 1234, "test": 7}, "licence": "MIT", "citation": "Nobody, 2020"} | values


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source.tar").write_bytes(CONTENT)
    return tmp_path / "source.tar"


@pytest.fixture
def folder(source: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the archives of two made-up sets belong."""
    toys = official(
        archives={
            "images": archive("images.tar", urls=["file:///none/images.tar", source.as_uri()]),
            "labels": archive("labels.mat", b"labels", size=None),
        }
    )
    few = official(
        task="detection", metric=None, uses=["toys"], notes="Few.", archives={"list": archive("l.txt", b"l")}
    )
    made: Catalogue = parse(Catalogue, {"sets": {"toys": toys, "few": few}}, "test")
    monkeypatch.setattr(module, "catalogue", lambda: made.sets)
    monkeypatch.setattr("scfs.data.holdings.catalogue", lambda: made.sets)
    return source.parent / "archives"


def test_fetched_or_taken_as_it_is(folder: Path, source: Path) -> None:
    (folder / "toys").mkdir(parents=True)
    (folder / "toys" / "labels.mat").write_bytes(b"labels")
    assert obtain("toys", folder) == {"images": folder / "toys/images.tar", "labels": folder / "toys/labels.mat"}
    assert (folder / "toys/images.tar").read_bytes() == CONTENT
    source.unlink()
    obtain("toys", folder)
    (folder / "few").mkdir()
    (folder / "few" / "l.txt").write_bytes(b"l")
    assert set(obtain("few", folder)) == {"images", "labels", "list"}
    (folder / "toys" / "images.tar").write_bytes(CONTENT[:-1])
    with pytest.raises(ScfsError, match=r"images\.tar: not the file of the catalogue: remove it .* it has 1999 bytes"):
        obtain("toys", folder)


def test_what_has_to_be_got_by_hand(folder: Path, source: Path) -> None:
    with pytest.raises(ScfsError, match=r"labels\.mat: no such file; .* by hand: the authors; put it there"):
        obtain("toys", folder)
    source.unlink()
    (folder / "toys" / "images.tar").unlink()
    with pytest.raises(ScfsError, match=r"put it at .*toys/images\.tar; by hand: the authors"):
        obtain("toys", folder)


def test_the_list_of_sets(folder: Path) -> None:
    (folder / "toys").mkdir(parents=True)
    (folder / "toys" / ".images.tar.part").write_bytes(CONTENT[:1500])
    (folder / "toys" / "labels.mat").write_bytes(b"any size")
    (folder / "few").mkdir()
    (folder / "few" / "l.txt").write_bytes(b"longer")
    assert list_all(folder).splitlines() == [
        f"archives are looked for in {folder}/<set>",
        "",
        "set   images  archives  bytes                         not there",
        "toys  1,241   1 of 2    8 bytes of 1.95 KiB and more  images (unfinished: 1.46 KiB fetched)",
        "few   1,241   1 of 3    8 bytes of 1.95 KiB and more  images (unfinished: 1.46 KiB fetched), "
        "list (another size: 6 bytes)",
    ]


def test_all_that_is_known_of_a_set(folder: Path) -> None:
    (folder / "few").mkdir(parents=True)
    (folder / "few" / "l.txt").write_bytes(b"l")
    assert describe("few", folder).splitlines() == [
        "set       few: Toys",
        "task      detection of 2 classes, average precision",
        "splits    train 1,234, test 7 images",
        "licence   MIT",
        "citation  Nobody, 2020",
        "space     1.95 KiB and more for the archives; their images as files or shards: about as much again",
        "uses      the archives of toys",
        "notes     Few.",
        "",
        "archives",
        f"  images: {folder}/toys/images.tar, missing",
        "    size     2000 bytes",
        f"    SHA-256  {hashlib.sha256(CONTENT).hexdigest()}",
        "    from     file:///none/images.tar",
        f"    from     {(folder.parent / 'source.tar').as_uri()}",
        "    by hand  the authors",
        f"  labels: {folder}/toys/labels.mat, missing",
        "    size     not known",
        f"    SHA-256  {hashlib.sha256(b'labels').hexdigest()}",
        "    by hand  the authors",
        f"  list: {folder}/few/l.txt, there",
        "    size     1 bytes",
        f"    SHA-256  {hashlib.sha256(b'l').hexdigest()}",
        "    by hand  the authors",
    ]


def scfs(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """The command, in a process that says whether torch was imported."""
    program = (
        "import sys\nfrom scfs.cli import main\ntry:\n    main()\nfinally:\n"
        "    print('torch' in sys.modules, file=sys.stderr)\n"
    )
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, cwd=folder, env=os.environ, capture_output=True, text=True, check=False)


def test_the_commands(tmp_path: Path) -> None:
    (tmp_path / "elsewhere" / "cifar10").mkdir(parents=True)
    size = catalogue()["cifar10"].archives["binary"].size
    with (tmp_path / "elsewhere" / "cifar10" / "cifar-10-binary.tar.gz").open("wb") as file:
        file.truncate(size)
    done = scfs("data", "list", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "False\n")
    assert "datasets/archives/<set>" in done.stdout and len(done.stdout.splitlines()) == 3 + len(catalogue())
    done = scfs("data", "list", "--archives", "elsewhere", folder=tmp_path)
    assert "cifar10 60,000 1 of 1 162 MiB of 162 MiB -" in [" ".join(line.split()) for line in done.stdout.splitlines()]
    done = scfs("data", "info", "cars", folder=tmp_path)
    assert done.stderr == "False\n"
    assert "  test_labels: datasets/archives/cars/cars_test_annos_withlabels.mat, missing\n" in done.stdout
    done = scfs("data", "info", "mnist", folder=tmp_path)
    assert done.returncode == 1 and done.stderr.startswith("scfs: scfs/data/catalogue.yaml: no data set 'mnist'")
