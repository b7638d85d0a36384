"""Fetching from mirrors that cut, lie, ignore ranges, refuse or are dead, over HTTP on this machine."""

import hashlib
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from scfs.errors import ScfsError
from scfs.io.download import check_published, digest, fetch

CONTENT = bytes(value * 7919 % 251 for value in range(100_000))
KNOWN = partial(
    check_published, size=len(CONTENT), sha256=hashlib.sha256(CONTENT).hexdigest(), md5=hashlib.md5(CONTENT).hexdigest()
)

Answer = Callable[["Server", int], None]
"""Answers a request for the bytes from a position on."""


class Server(BaseHTTPRequestHandler):
    """Every path has answers, given one after the other; the last one again and again."""

    answers: dict[str, list[Answer]] = {}
    asked: list[tuple[str, int]] = []

    def do_GET(self) -> None:
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        self.asked.append((self.path, start))
        waiting = self.answers[self.path]
        (waiting.pop(0) if len(waiting) > 1 else waiting[0])(self, start)

    def log_message(self, *arguments: Any) -> None:
        pass

    def send(self, status: int, headers: dict[str, object], content: bytes = b"") -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, str(value))
        self.end_headers()
        self.wfile.write(content)


def whole(content: bytes = CONTENT, cut: int | None = None) -> Answer:
    """As a good server answers, but for a connection that is lost after `cut` bytes."""

    def answer(server: Server, start: int) -> None:
        headers: dict[str, object] = {"Content-Length": len(content) - start}
        if start >= len(content):
            server.send(416, {"Content-Range": f"bytes */{len(content)}"})
        elif start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            server.send(206, headers, content[start:][:cut])
        else:
            server.send(200, headers, content[:cut])

    return answer


def without_ranges(cut: int | None = None) -> Answer:
    return lambda server, start: server.send(200, {"Content-Length": len(CONTENT)}, CONTENT[:cut])


def status(code: int) -> Answer:
    return lambda server, start: server.send(code, {"Content-Length": 0})


def other_range(server: Server, start: int) -> None:
    server.send(206, {"Content-Range": "bytes 5-9/10", "Content-Length": 5}, b"56789")


def chunked(cut: bool) -> Answer:
    """Without a length: the end of the chunks is the end."""

    def answer(server: Server, start: int) -> None:
        server.protocol_version = "HTTP/1.1"
        body = b"%x\r\n%s\r\n" % (len(CONTENT), CONTENT)
        server.send(200, {"Transfer-Encoding": "chunked", "Connection": "close"}, body + (b"" if cut else b"0\r\n\r\n"))

    return answer


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """Give a path its answers: the URL."""
    monkeypatch.setattr(Server, "answers", {})
    monkeypatch.setattr(Server, "asked", [])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()

    def at(*answers: Answer) -> str:
        path = f"/{len(Server.answers)}"
        Server.answers[path] = list(answers)
        return f"http://127.0.0.1:{server.server_port}{path}"

    yield at
    server.shutdown()
    server.server_close()


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that are slept, without sleeping."""
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    return slept


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "archives" / "set.tar"


def beside(path: Path) -> list[str]:
    """Files in the folder, but for the lock."""
    return sorted(file.name for file in path.parent.iterdir() if file.suffix != ".lock")


def dead() -> str:
    """URL of a port that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/x"


def starts() -> list[int]:
    return [start for _, start in Server.asked]


def test_a_connection_that_is_cut_again_and_again(
    serve: Callable[..., str], path: Path, pauses: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    """Every attempt brings something, so that there may be more of them than `attempts`."""
    assert fetch([serve(whole(cut=13_000))], path, KNOWN, attempts=2)
    assert path.read_bytes() == CONTENT and beside(path) == ["set.tar"]
    assert starts() == list(range(0, 100_000, 13_000))
    assert pauses == [2.0] * 7
    said = capsys.readouterr().err
    assert "set.tar: ended after 13000 of 100000 bytes; trying again in 2 s" in said
    assert "set.tar: going on after 13000 bytes" in said


def test_a_server_that_ignores_ranges(serve: Callable[..., str], path: Path, pauses: list[float]) -> None:
    assert fetch([serve(without_ranges(cut=50_000), without_ranges(cut=20_000), without_ranges())], path, KNOWN)
    assert path.read_bytes() == CONTENT and starts() == [0, 50_000, 20_000]


def test_no_progress_is_given_up(serve: Callable[..., str], path: Path, pauses: list[float]) -> None:
    url = serve(without_ranges(cut=50_000))
    with pytest.raises(ScfsError) as error:
        fetch([url], path, KNOWN, attempts=4, wait=3)
    assert str(error.value) == f"{url}: ended after 50000 of 100000 bytes; start again to go on, or put it at {path}"
    assert pauses == [3, 3, 6, 12] and beside(path) == [".set.tar.part"]


def test_the_pauses_end_at_a_minute(path: Path, pauses: list[float]) -> None:
    with pytest.raises(ScfsError, match="Connection refused; start again to go on"):
        fetch([dead()], path, KNOWN, attempts=8)
    assert pauses == [2, 4, 8, 16, 32, 60, 60]


def test_the_next_mirror(serve: Callable[..., str], path: Path, pauses: list[float]) -> None:
    """A dead one, one that has not got the file, one with another file, one that cuts; then a good one goes on."""
    urls = [dead(), serve(status(404)), serve(whole(b"other" * 10)), serve(whole(cut=70_000)), serve(whole())]
    assert fetch(urls, path, KNOWN)
    assert path.read_bytes() == CONTENT and beside(path) == ["set.tar"]
    assert Server.asked == [("/0", 0), ("/1", 0), ("/2", 0), ("/3", 70_000)] and pauses == []


def test_only_what_may_pass_is_tried_again(serve: Callable[..., str], path: Path, pauses: list[float]) -> None:
    busy = serve(status(503), status(429), whole())
    assert fetch([serve(status(403)), busy], path, KNOWN)
    assert [asked for asked, _ in Server.asked] == ["/1", "/0", "/0", "/0"] and path.read_bytes() == CONTENT


def test_all_reasons_in_one_line(serve: Callable[..., str], path: Path, pauses: list[float], tmp_path: Path) -> None:
    urls = [serve(status(404)), serve(whole(b"other")), (tmp_path / "none").as_uri()]
    with pytest.raises(ScfsError) as error:
        fetch(urls, path, KNOWN)
    assert str(error.value) == (
        f"{urls[0]}: could not be fetched: 404 Not Found; "
        f"{urls[1]}: fetched, but not the file of the catalogue; not kept: "
        "it has 5 bytes, the catalogue says 100000; "
        f"{urls[2]}: could not be fetched: [Errno 2] No such file or directory: '{tmp_path / 'none'}'; or put it at {path}"
    )
    assert pauses == [] and beside(path) == []


def test_a_beginning_of_another_file_is_thrown_away(serve: Callable[..., str], path: Path, pauses: list[float]) -> None:
    path.parent.mkdir()
    path.with_name(".set.tar.part").write_bytes(b"x" * 60_000)
    assert fetch([serve(whole())], path, KNOWN)
    assert path.read_bytes() == CONTENT and starts() == [60_000, 0]


@pytest.mark.parametrize("length", [100_000, 100_001])
def test_a_range_that_begins_at_the_end(
    length: int, serve: Callable[..., str], path: Path, pauses: list[float]
) -> None:
    path.parent.mkdir()
    path.with_name(".set.tar.part").write_bytes((CONTENT + b"x")[:length])
    assert fetch([serve(whole())], path, KNOWN)
    assert path.read_bytes() == CONTENT and starts() == ([100_000] if length == 100_000 else [100_001, 0])


def test_another_range_than_asked_for(serve: Callable[..., str], path: Path, pauses: list[float]) -> None:
    path.parent.mkdir()
    path.with_name(".set.tar.part").write_bytes(CONTENT[:100])
    with pytest.raises(ScfsError, match=re.escape("asked for bytes 100-, offered bytes 5-9/10")):
        fetch([serve(other_range)], path, KNOWN)
    assert path.with_name(".set.tar.part").read_bytes() == CONTENT[:100]


def test_an_answer_without_a_length(serve: Callable[..., str], path: Path, pauses: list[float]) -> None:
    assert fetch([serve(chunked(cut=True), chunked(cut=False))], path, KNOWN)
    assert path.read_bytes() == CONTENT and len(starts()) == 2


def test_a_file_on_this_machine(path: Path, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(CONTENT)
    assert fetch([(tmp_path / "source").as_uri()], path, KNOWN)
    assert path.read_bytes() == CONTENT
    assert not fetch([], path, KNOWN)
    path.write_bytes(CONTENT[:-1] + b"x")
    with pytest.raises(
        ScfsError, match=r"set\.tar: not the file of the catalogue: remove it .*: its SHA-256 is \w{64},"
    ):
        fetch([], path, KNOWN)
    path.unlink()
    with pytest.raises(ScfsError, match=r"set\.tar: no such file, and there is nowhere to fetch it from"):
        fetch([], path, KNOWN)


def test_no_room_is_said_before(serve: Callable[..., str], path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(path.parent.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=len(CONTENT) - 1))
    with pytest.raises(ScfsError, match=r"archives: 0\.00 GiB have to be written, 0\.00 GiB are free"):
        fetch([serve(whole())], path, KNOWN)
    assert beside(path) == []


def test_a_folder_that_cannot_be_made(path: Path) -> None:
    path.parent.write_text("a file")
    with pytest.raises(ScfsError, match=r"set\.tar\.lock: could not be written: File exists"):
        fetch([dead()], path, KNOWN)


def test_two_at_once_fetch_it_once(serve: Callable[..., str], path: Path) -> None:
    go = threading.Event()

    def slow(server: Server, start: int) -> None:
        go.wait(10)
        whole()(server, start)

    url = serve(slow)
    threads = [threading.Thread(target=fetch, args=([url], path, KNOWN)) for _ in range(3)]
    for thread in threads:
        thread.start()
    go.set()
    for thread in threads:
        thread.join()
    assert path.read_bytes() == CONTENT and len(starts()) == 1


def test_killed_it_goes_on(serve: Callable[..., str], path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process is killed when 40,000 bytes have been written."""
    program = """
import os, sys
from pathlib import Path
from scfs.io import download
download.PIECE = 10_000
def dying(items, *_, **__):
    for number, item in enumerate(items):
        if number == 4:
            os.kill(os.getpid(), 9)
        yield item
        # what the file object still holds would be lost, as bytes that have not arrived yet
download.track = dying
download.fetch([sys.argv[1]], Path(sys.argv[2]), lambda path: None)
"""
    url = serve(whole())
    done = subprocess.run([sys.executable, "-c", program, url, str(path)], check=False, env=os.environ)
    assert done.returncode == -9 and not path.exists()
    arrived = path.with_name(".set.tar.part").stat().st_size
    assert 0 < arrived <= 40_000
    assert fetch([url], path, KNOWN)
    assert path.read_bytes() == CONTENT and starts() == [0, arrived]


def test_what_is_published(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    # RFC 1321, A.5, and FIPS 180-2, B.1
    md5 = "900150983cd24fb0d6963f7d28e17f72"
    sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert (digest(path, "md5"), digest(path, "sha256")) == (md5, sha256)
    for known in ((None,), (3, sha256, md5), (None, sha256[:8])):
        check_published(path, *known)
    for known, line in (
        ((4,), "it has 3 bytes, the catalogue says 4"),
        ((None, "0" * 64), f"its SHA-256 is {sha256}, the catalogue says {'0' * 64}"),
        ((3, None, "0" * 32), f"its MD5 is {md5}, the catalogue says {'0' * 32}"),
    ):
        with pytest.raises(ScfsError) as error:
            check_published(path, *known)
        assert str(error.value) == line
