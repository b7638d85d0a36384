"""Fetching: whole or not at all, resumed, checked; and the shipped catalogue says only what is known."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pytest

from scfs.config.base import parse
from scfs.config.pretrain import Imported
from scfs.config.weight_formats import FORMATS
from scfs.errors import ScfsError
from scfs.io import download as fetching
from scfs.weights.catalogue import Catalogue, PublicWeights, catalogue, fetch

CONTENT = bytes(range(256)) * 500
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(BaseHTTPRequestHandler):
    """Gives CONTENT, ranges of it if `ranges`, and breaks off after `breaks` bytes if that is set."""

    ranges, breaks = True, None
    asked: list[str | None] = []

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.asked.append(wanted)
        if self.path != "/w.pth":
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.ranges else 0
        if start >= len(CONTENT):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(CONTENT)}")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        self.wfile.write(CONTENT[start : self.breaks])

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(Server, "asked", [])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def entry(url: str, **values: Any) -> PublicWeights:
    base = {"url": url, "file": "w.pth", "sha256": SHA256, "size": len(CONTENT), "licence": "none", "citation": "none"}
    base |= {"format": "torchvision", "backbone": "resnet18", "encoders": ["teacher"]}
    made: PublicWeights = parse(PublicWeights, base | values, "test")
    return made


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def test_fetched_once_and_then_checked(address: str, tmp_path: Path) -> None:
    wanted = entry(f"{address}/w.pth")
    assert fetch(wanted, tmp_path).read_bytes() == CONTENT
    assert files(tmp_path) == ["w.pth"]
    fetch(wanted, tmp_path)
    assert len(Server.asked) == 1
    (tmp_path / "w.pth").write_bytes(CONTENT[:-1])
    with pytest.raises(ScfsError, match=r"w\.pth: not the file of the catalogue: remove it .* it has 127999 bytes"):
        fetch(wanted, tmp_path)


@pytest.mark.parametrize("ranges", [True, False])
def test_what_broke_off_goes_on(address: str, ranges: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = entry(f"{address}/w.pth")
    monkeypatch.setattr(fetching, "PIECE", 1000)
    monkeypatch.setattr(Server, "breaks", 50_000)
    with pytest.raises(ScfsError, match=r"/w\.pth: (ended after 50000 of 128000 bytes|could not be fetched)") as error:
        fetch(wanted, tmp_path)
    assert "start again to go on" in str(error.value) and files(tmp_path) == [".w.pth.part"]
    monkeypatch.setattr(Server, "breaks", None)
    monkeypatch.setattr(Server, "ranges", ranges)
    assert fetch(wanted, tmp_path).read_bytes() == CONTENT
    assert Server.asked == [None, "bytes=50000-"] and files(tmp_path) == ["w.pth"]


def test_all_of_it_was_there_but_not_renamed(address: str, tmp_path: Path) -> None:
    (tmp_path / ".w.pth.part").write_bytes(CONTENT)
    assert fetch(entry(f"{address}/w.pth"), tmp_path).read_bytes() == CONTENT
    assert files(tmp_path) == ["w.pth"]


@pytest.mark.parametrize("values", [{"sha256": "0123abcd"}, {"sha256": "f" * 64}, {"size": 5, "sha256": "unknown"}])
def test_another_file_is_not_kept(address: str, values: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ScfsError, match=r"not the file of the catalogue; not kept: its? .*, the catalogue says"):
        fetch(entry(f"{address}/w.pth", **values), tmp_path)
    assert files(tmp_path) == []


def test_a_documented_prefix_and_an_unknown_hash(
    address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "source"
    source.write_bytes(CONTENT)
    fetch(entry(source.as_uri(), sha256=SHA256[:8]), tmp_path / "a")
    assert "warning" not in capsys.readouterr().err
    fetch(entry(source.as_uri(), sha256="unknown", size=None), tmp_path / "b")
    assert f"the catalogue does not know its SHA-256; it is {SHA256}" in capsys.readouterr().err


def test_what_cannot_be_fetched_is_one_line(address: str, tmp_path: Path) -> None:
    with pytest.raises(ScfsError, match=r"/no\.pth: could not be fetched: 404 .*put it at .*w\.pth"):
        fetch(entry(f"{address}/no.pth"), tmp_path)
    with pytest.raises(ScfsError, match=r"could not be fetched: .*put it at .*w\.pth"):
        fetch(entry("http://127.0.0.1:9/w.pth"), tmp_path)
    with pytest.raises(ScfsError, match="could not be fetched"):
        fetch(entry((tmp_path / "none").as_uri()), tmp_path)
    by_hand = entry("by hand: ask the authors")
    with pytest.raises(ScfsError, match=r"w\.pth: no such file; .* by hand: ask the authors; put it there"):
        fetch(by_hand, tmp_path)
    assert files(tmp_path) == []
    (tmp_path / "w.pth").write_bytes(CONTENT)
    assert fetch(by_hand, tmp_path) == tmp_path / "w.pth"


def test_the_shipped_catalogue() -> None:
    entries = catalogue()
    assert {"torchvision-resnet50", "dino-resnet50", "dino-resnet50-full", "dino-vit-s16"} <= entries.keys()
    for name, known in entries.items():
        assert urlparse(known.url).scheme == "https" and known.url.endswith(f"/{known.file}"), name
        assert FORMATS[known.format].imports and known.licence in ("BSD-3-Clause", "Apache-2.0"), name
        if known.format == "torchvision":  # the digits that torchvision itself checks
            assert known.file.endswith(f"-{known.sha256}.pth"), name
        if known.backbone.startswith("resnet"):
            Imported(weights=name, backbone=known.backbone)
    assert entries["torchvision-resnet50"].sha256 == "0676ba61"  # 76.13% top-1, and not the newer 80.86%


def test_the_catalogue_is_strict() -> None:
    good = entry("https://example.org/w.pth").model_dump(mode="json")
    twice = {"entries": {"a": good, "b": good}}
    for values, message in (
        (twice, r"file must not repeat: \['w\.pth'\]"),
        ({"entries": {"a": good | {"sha": "1"}}}, "unknown key 'entries.a.sha'"),
        ({"entries": {"a": good | {"sha256": None}}}, r"entries\.a\.sha256"),
        ({"entries": {"a": good | {"file": "../w.pth"}}}, r"entries\.a\.file"),
        ({"entries": {"a": good | {"url": "ftp://example.org/w.pth"}}}, r"entries\.a\.url"),
    ):
        with pytest.raises(ScfsError, match=message):
            parse(Catalogue, values, "catalogue.yaml")
