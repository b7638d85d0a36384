"""Members of archives: what the libraries that wrote them say, and every attack and every cut as one line."""

import gzip
import io
import re
import stat
import struct
import subprocess
import sys
import tarfile
import tracemalloc
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from scfs.data.archives.members import members
from scfs.errors import ScfsError

FILES = {"one/a.jpg": b"a" * 1000, "one/b.jpg": b"b" * 512, "two/c.txt": b"", "d.jpg": bytes(range(256)) * 9}
KINDS = ("set.tar", "set.tar.gz", "set.tgz", "set.zip")


def info(name: str, content: bytes = b"", **values) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.size = len(content)
    for key, value in values.items():
        setattr(made, key, value)
    return made


def tar(entries: Iterable[tuple[tarfile.TarInfo, bytes]], format: int = tarfile.GNU_FORMAT) -> bytes:
    """A tar of exactly these headers and contents."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format) as archive:
        for header, content in entries:
            archive.addfile(header, io.BytesIO(content))
    return file.getvalue()


def tar_of(files: dict[str, bytes]) -> bytes:
    return tar((info(name, content), content) for name, content in files.items())


def zip_of(files: Iterable[tuple[str | zipfile.ZipInfo, bytes]], kind: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", kind) as archive:
        for name, content in files:
            archive.writestr(name, content)
    return file.getvalue()


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def archive(folder: Path, name: str, files: dict[str, bytes] = FILES) -> Path:
    if name.endswith(".zip"):
        return written(folder / name, zip_of(files.items()))
    content = tar_of(files)
    return written(folder / name, content if name.endswith(".tar") else gzip.compress(content))


def contents(path: Path, **options) -> dict[str, bytes]:
    return {member.name: member.read() for member in members(path, **options)}


def problem(path: Path, **options) -> str:
    """What is said about a bad archive; one line that begins with its path."""
    with pytest.raises(ScfsError) as error:
        contents(path, **options)
    line = str(error.value)
    assert line.startswith(f"{path}: ") and "\n" not in line
    return line.removeprefix(f"{path}: ")


@pytest.mark.parametrize("name", KINDS)
def test_files_in_their_order(name: str, tmp_path: Path) -> None:
    path = archive(tmp_path, name)
    assert list(contents(path).items()) == list(FILES.items())
    sizes = [(member.name, member.size, member.archive) for member in members(path)]  # without reading any
    assert sizes == [(name, len(content), path) for name, content in FILES.items()]


@pytest.mark.parametrize("name", KINDS)
def test_offsets_are_where_the_bytes_lie(name: str, tmp_path: Path) -> None:
    path = archive(tmp_path, name)
    whole = path.read_bytes()
    for member in members(path):
        if name in ("set.tar", "set.zip"):
            assert member.offset is not None
            assert whole[member.offset : member.offset + member.size] == FILES[member.name]
        else:
            assert member.offset is None


def test_a_compressed_zip_has_no_offsets(tmp_path: Path) -> None:
    path = written(tmp_path / "set.zip", zip_of(FILES.items(), zipfile.ZIP_DEFLATED))
    assert contents(path) == FILES
    assert {member.offset for member in members(path)} == {None}


def test_a_zip_behind_other_bytes(tmp_path: Path) -> None:
    path = written(tmp_path / "set.zip", b"self-extracting" + zip_of(FILES.items()))
    whole = path.read_bytes()
    assert contents(path) == FILES
    for member in members(path):
        assert whole[member.offset : member.offset + member.size] == FILES[member.name]


def test_one_file_in_a_gz(tmp_path: Path) -> None:
    content = b"idx" * 700_000
    path = written(tmp_path / "t10k-images-idx3-ubyte.gz", gzip.compress(content[:1_000_000]) + gzip.compress(content))
    [member] = members(path)
    assert (member.name, member.size, member.offset) == ("t10k-images-idx3-ubyte", 1_000_000 + len(content), None)
    assert contents(path) == {"t10k-images-idx3-ubyte": content[:1_000_000] + content}
    assert problem(path, limit=1_000_000).endswith("more than 1000000 bytes in all up to here")


def test_a_member_of_a_zip_without_a_name_is_one_line(tmp_path: Path) -> None:
    content = zip_of([("x", b"1")]).replace(b"x", b"\0")
    assert "a control character in its name" in problem(written(tmp_path / "a.zip", content))
    nameless = zipfile.ZipInfo("x")
    nameless.filename = ""
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive, archive.open(nameless, "w") as file:
        file.write(b"1")
    assert "has no name" in problem(tmp_path / "b.zip")


@pytest.mark.parametrize("name", ["set.tar", "set.tar.gz", "set.zip"])
def test_tars_inside(name: str, tmp_path: Path) -> None:
    inner = {"n01/n01_1.JPEG": b"x" * 700, "n01/n01_2.JPEG": b"y" * 512, "n02/n02_1.JPEG": b"", "list.txt": b"hello"}
    deeper = tar_of({"z": b"z"})
    files = {
        "n01.tar": tar_of({"n01_1.JPEG": b"x" * 700, "n01_2.JPEG": b"y" * 512}),
        "./n02.tar": tar_of({"./n02_1.JPEG": b"", "deeper.tar": deeper}),
        "list.txt": b"hello",
    }
    path = archive(tmp_path, name, files)
    assert contents(path, nested=True) == inner | {"n02/deeper.tar": deeper}
    assert contents(path) == {key.removeprefix("./"): content for key, content in files.items()}
    assert [member.name for member in members(path, nested=True)][:2] == ["n01/n01_1.JPEG", "n01/n01_2.JPEG"]
    if name == "set.tar":
        whole = path.read_bytes()
        for member in members(path, nested=True):
            assert (
                whole[member.offset : member.offset + member.size] == (inner | {"n02/deeper.tar": deeper})[member.name]
            )


def test_names_are_normalised_and_folders_passed_over(tmp_path: Path) -> None:
    folder = info("./images/", type=tarfile.DIRTYPE)
    long = "images/" + "/".join(["x" * 100] * 8)  # longer than a plain header takes
    entries = [(folder, b""), (folder, b""), (info("./images//ä 1.jpg", b"1"), b"1"), (info(long, b"2"), b"2")]
    for format in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        path = written(tmp_path / "set.tar", tar(entries, format))
        assert contents(path) == {"images/ä 1.jpg": b"1", long: b"2"}


BAD_NAMES = {
    "/etc/passwd": "an absolute path",
    "C:/x": "an absolute path",
    "../x": "leaves its folder",
    "a/../../x": "leaves its folder",
    "a/../x": "leaves its folder",
    "a\\..\\x": "a backslash in its name",
    "a\nb": "a control character in its name",
    "a\x1b[2Jb": "a control character in its name",
    "y" * 256: "its name is too long",
    "ä" * 128: "its name is too long",
    "/".join(["y" * 200] * 6): "its name is too long",
    ".": "has no name",
}


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize("kind", KINDS)
def test_names_that_are_refused(kind: str, name: str, tmp_path: Path) -> None:
    assert problem(archive(tmp_path, kind, {"fine": b"1", name: b"2"})).endswith(f": {BAD_NAMES[name]}")


@pytest.mark.parametrize("name", ["../up", "/abs"])
def test_names_of_folders_and_inside_tars_are_refused(name: str, tmp_path: Path) -> None:
    path = written(tmp_path / "set.tar", tar([(info(name, type=tarfile.DIRTYPE), b"")]))
    assert repr(name) in problem(path)
    path = archive(tmp_path, "set.tar", {"n01.tar": tar_of({name: b"1"})})
    assert repr(f"n01/{name}") in problem(path, nested=True)


def test_a_nul_in_a_name(tmp_path: Path) -> None:
    header = info("x", b"1", pax_headers={"path": "fine.jpg\0.exe"})
    assert "a control character" in problem(written(tmp_path / "a.tar", tar([(header, b"1")], tarfile.PAX_FORMAT)))
    content = zip_of([("fine.jpg_.exe", b"1")]).replace(b"fine.jpg_.exe", b"fine.jpg\0.exe")
    assert "a control character" in problem(written(tmp_path / "a.zip", content))


def test_a_name_that_is_not_in_utf8(tmp_path: Path) -> None:
    path = written(tmp_path / "a.tar", tar_of({"x_.jpg": b"1"}).replace(b"x_.jpg", b"x\xff.jpg"))
    assert "checksum" in problem(path) or "header" in problem(path)  # the header's sum no longer fits
    content = tar([(info("x\udcff.jpg", b"1"), b"1")])
    assert problem(written(path, content)).endswith("its name is not in UTF-8")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (tarfile.SYMTYPE, "a link"),
        (tarfile.LNKTYPE, "a link"),
        (tarfile.CHRTYPE, "a device"),
        (tarfile.BLKTYPE, "a device"),
        (tarfile.FIFOTYPE, "a device"),
        (tarfile.GNUTYPE_SPARSE, "a sparse file"),
        (b"Z", "a member of the unknown type b'Z'"),
    ],
)
@pytest.mark.parametrize("ending", [".tar", ".tgz"])
def test_kinds_of_members_that_are_refused(ending: str, kind: bytes, message: str, tmp_path: Path) -> None:
    content = tar([(info("x", type=kind, linkname="/etc/passwd"), b"")])
    path = written(tmp_path / f"set{ending}", content if ending == ".tar" else gzip.compress(content))
    assert problem(path) == f"'x': {message}"


@pytest.mark.parametrize("mode", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFDIR])
def test_links_and_devices_in_a_zip(mode: int, tmp_path: Path) -> None:
    made = zipfile.ZipInfo("x")
    made.external_attr = (mode | 0o644) << 16
    what = "a link" if mode == stat.S_IFLNK else "neither a file nor a folder"
    assert problem(written(tmp_path / "set.zip", zip_of([(made, b"/etc/passwd")]))) == f"'x': {what}"


def test_folders_and_plain_modes_of_a_zip(tmp_path: Path) -> None:
    folder, file = zipfile.ZipInfo("d/"), zipfile.ZipInfo("d/x")
    folder.external_attr, file.external_attr = (stat.S_IFDIR | 0o755) << 16, (stat.S_IFREG | 0o644) << 16
    assert contents(written(tmp_path / "set.zip", zip_of([(folder, b""), (file, b"1")]))) == {"d/x": b"1"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names_that_come_twice(kind: str, tmp_path: Path) -> None:
    assert problem(archive(tmp_path, kind, {"a/x": b"1", "./a//x": b"2"})) == "'./a//x': comes twice"
    assert problem(archive(tmp_path, kind, {"a/x": b"1", "a": b"2"})) == "'a': is a folder, too"
    assert problem(archive(tmp_path, kind, {"a": b"1", "a/b/x": b"2"})) == "'a/b/x': 'a' is a file, too"


def test_names_of_inner_tars_that_come_twice(tmp_path: Path) -> None:
    one = tar_of({"x": b"1"})
    path = archive(tmp_path, "set.tar", {"a.tar": one, "./a.tar": one})
    assert problem(path, nested=True) == "'./a.tar': comes twice"
    assert "'a' is a file, too" in problem(archive(tmp_path, "set.tar", {"a.tar": one, "a/x": b"2"}), nested=True)
    twice = tar([(info("x", b"1"), b"1"), (info("x", b"2"), b"2")])
    assert problem(archive(tmp_path, "set.tar", {"a.tar": twice}), nested=True) == "'a/x': comes twice"
    assert set(contents(archive(tmp_path, "set.tar", {"a.tar": one, "b.tar": one}), nested=True)) == {"a/x", "b/x"}


@pytest.mark.parametrize("kind", KINDS)
def test_more_bytes_than_the_limit(kind: str, tmp_path: Path) -> None:
    total = sum(map(len, FILES.values()))
    path = archive(tmp_path, kind)
    assert contents(path, limit=total) == FILES
    assert problem(path, limit=total - 1) == f"'d.jpg': more than {total - 1} bytes in all up to here"
    inner = archive(tmp_path, "nested.tar", {"a.tar": tar_of(FILES), "b.tar": tar_of(FILES)})
    assert len(contents(inner, nested=True, limit=2 * total)) == 8
    assert "'b/d.jpg': more than" in problem(inner, nested=True, limit=2 * total - 1)


def test_a_bomb_is_refused_before_it_is_read(tmp_path: Path) -> None:
    header = info("zeros", size=1 << 50).tobuf(tarfile.GNU_FORMAT)
    path = written(tmp_path / "bomb.tgz", gzip.compress(header + bytes(1 << 20)))
    assert problem(path, limit=1 << 30) == f"'zeros': more than {1 << 30} bytes in all up to here"


@pytest.mark.parametrize("kind", ["set.tar", "set.tar.gz", "set.zip"])
@pytest.mark.parametrize("read", [True, False])
def test_cut_anywhere(kind: str, read: bool, tmp_path: Path) -> None:
    files = {"a/x": b"1" * 100, "y": b"2" * 512, "z": b"3" * 700}
    whole = archive(tmp_path, kind, files).read_bytes()
    # A tar's end is its first block of zeros; whatever fills it up after that may be missing.
    end = whole.index(b"3" * 700) + 1024 + 512 if kind == "set.tar" else len(whole)
    for length in range(0, end, 1 if kind == "set.zip" else 7):
        path = written(tmp_path / kind, whole[:length])
        with pytest.raises(ScfsError) as error:
            for member in members(path):
                assert not read or member.read() == files[member.name]
        assert str(error.value).startswith(str(path)), length
    assert contents(written(tmp_path / kind, whole[:end])) == files


def test_cut_between_two_members(tmp_path: Path) -> None:
    whole = tar_of({"x": b"1" * 512, "y": b"2" * 512})
    assert problem(written(tmp_path / "set.tar", whole[:1024])) == "ends too early"
    assert problem(written(tmp_path / "set.tgz", gzip.compress(whole[:1024]))) == "ends too early"
    inner = {"a.tar": whole[:1024], "b": b"1"}
    assert problem(archive(tmp_path, "set.tar", inner), nested=True) == "'a.tar': ends too early"


@pytest.mark.parametrize("ending", [".tar", ".tgz"])
def test_a_broken_header_is_not_the_end(ending: str, tmp_path: Path) -> None:
    whole = bytearray(tar_of({"x": b"1" * 512, "y": b"2" * 512}))
    whole[1024] ^= 1  # the second header's name
    path = written(tmp_path / f"set{ending}", bytes(whole) if ending == ".tar" else gzip.compress(whole))
    assert problem(path) == "a broken header: bad checksum"


@pytest.mark.parametrize("place", [-1, -6, 300])
def test_a_gzip_that_does_not_fit_its_checksum(place: int, tmp_path: Path) -> None:
    noise = bytes(value * 7919 % 251 for value in range(3000))
    for name, content in (("set.tgz", tar_of({"x": noise})), ("x.gz", noise)):
        whole = bytearray(gzip.compress(content))
        whole[place] ^= 0x10
        assert problem(written(tmp_path / name, bytes(whole)))


@pytest.mark.parametrize("kind", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_that_does_not_fit_its_checksum(kind: int, tmp_path: Path) -> None:
    whole = bytearray(zip_of([("x", bytes(value * 7919 % 251 for value in range(300)))], kind))
    whole[100] ^= 0x10
    assert problem(written(tmp_path / "set.zip", bytes(whole))).startswith("'x': ")


def test_a_zip_that_hides_its_size(tmp_path: Path) -> None:
    """A megabyte of zeros that says it is ten bytes."""
    whole = zip_of([("x", bytes(1 << 20))], zipfile.ZIP_DEFLATED)
    lying = whole.replace(struct.pack("<L", 1 << 20), struct.pack("<L", 10))
    assert "'x': " in problem(written(tmp_path / "set.zip", lying), limit=100)


def test_an_encrypted_zip(tmp_path: Path) -> None:
    whole = bytearray(zip_of([("x", b"1")]))
    whole[whole.index(b"PK\x01\x02") + 8] |= 1
    assert problem(written(tmp_path / "set.zip", bytes(whole))) == "'x': encrypted"


def test_a_zip_whose_two_headers_differ(tmp_path: Path) -> None:
    whole = zip_of([("x.jpg", b"1")])
    assert "'x.jpg': " in problem(written(tmp_path / "set.zip", whole.replace(b"x.jpg", b"y.jpg", 1)))
    assert "a broken header" in problem(written(tmp_path / "set.zip", whole.replace(b"PK\x03\x04", b"PK\x03\x05", 1)))


def long_header(kind: bytes, size: int) -> bytes:
    """A header that says that `size` bytes of header follow, in a tar that is long enough for all of them."""
    return info("././@LongLink", size=size, type=kind).tobuf(tarfile.GNU_FORMAT) + bytes(1 << 20)


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_headers_that_would_fill_the_memory(kind: bytes, tmp_path: Path) -> None:
    for size in (20_000, 8 << 30, -512):
        first = tar_of({"fine": b"1" * 512})[:1024]
        path = written(tmp_path / "set.tar", first + long_header(kind, size))
        said = problem(path)  # a negative size is a broken header for some of Python's patched versions
        assert (
            said.startswith("a broken header: ") if size < 0 else said == "a member's header has more than 16384 bytes"
        )


def test_headers_that_would_never_end(tmp_path: Path) -> None:
    """tarfile reads a sparse file's map for as long as it says, and follows headers until a member comes."""
    sparse = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "x", "GNU.sparse.realsize": "9"}
    begun = b"999999999\n" + b"0\n" * 251
    whole = tar([(info("x", begun, pax_headers=sparse), begun)], tarfile.PAX_FORMAT)
    whole = whole[: whole.index(begun) + 512]
    assert problem(written(tmp_path / "set.tar", whole + b"0\n" * 512)).endswith("ends too early")
    assert "header has more than" in problem(written(tmp_path / "set.tar", whole + b"0\n" * 51200))
    chain = (info("x", size=0, type=tarfile.XHDTYPE).tobuf(tarfile.GNU_FORMAT)) * 2000
    assert "header" in problem(written(tmp_path / "set.tar", chain))
    back = info("x", b"1" * 512, pax_headers={"size": "-1024"})  # the next header would be this one
    assert "broken header" in problem(written(tmp_path / "set.tar", tar([(back, b"1" * 512)], tarfile.PAX_FORMAT)))


@pytest.mark.parametrize("name", KINDS)
def test_another_format_than_the_name_says(name: str, tmp_path: Path) -> None:
    contents_by_kind = {kind: archive(tmp_path, kind).read_bytes() for kind in KINDS}
    others = [content for kind, content in contents_by_kind.items() if kind.split(".", 1)[1] != name.split(".", 1)[1]]
    for content in [b"", b"<html>not found</html>", bytes(300), *(others if name in ("set.tar", "set.zip") else [])]:
        line = problem(written(tmp_path / name, content))
        assert "not a" in line.lower() or "too early" in line or "end-of-stream" in line


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    assert problem(tmp_path / "none.tar") == "No such file or directory"
    assert problem(tmp_path / "none.7z").startswith("No such file")
    assert "not among .tar, .tar.gz, .tgz, .zip, .gz" in problem(written(tmp_path / "set.7z", b"1"))
    (tmp_path / "folder.tar").mkdir()
    assert problem(tmp_path / "folder.tar") == "Is a directory"


@pytest.mark.parametrize("name", KINDS)
def test_a_member_that_the_iteration_has_left(name: str, tmp_path: Path) -> None:
    """Its own bytes or an error: never those of another."""
    path = archive(tmp_path, name)
    stream = members(path)
    first = next(stream)
    next(stream)
    if name == "set.tar" or name == "set.zip":
        assert first.read() == FILES["one/a.jpg"]
    else:
        with pytest.raises(ScfsError, match=re.escape("'one/a.jpg': can be read only once")):
            first.read()
    stream.close()
    with pytest.raises(ScfsError, match=re.escape("'one/a.jpg'")):
        first.read()


def test_a_tar_of_138_gigabytes(tmp_path: Path) -> None:
    """As large as ImageNet's: holes in a file take no room, and reading headers takes no memory."""
    size = 138 << 30
    with (tmp_path / "train.tar").open("wb") as file:
        file.write(info("n01.tar", size=size, type=tarfile.REGTYPE).tobuf(tarfile.GNU_FORMAT))
        file.write(info("x.JPEG", size=size - 4096).tobuf(tarfile.GNU_FORMAT))
        file.seek(512 + size - 3584)
        file.write(tar_of({"y.JPEG": b"y" * 5})[:2048])
        file.seek(512 + size)
        file.write(tar_of({"z": b"last"}))
    tracemalloc.start()
    found = {member.name: (member.size, member.offset) for member in members(tmp_path / "train.tar", nested=True)}
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found == {
        "n01/x.JPEG": (size - 4096, 1024),
        "n01/y.JPEG": (5, size - 3072 + 512),
        "z": (4, 512 + size + 512),
    }
    assert peak < 1 << 20


@pytest.mark.parametrize("name", ["set.tar", "set.tgz"])
def test_many_members_take_little_memory(name: str, tmp_path: Path) -> None:
    whole = tar_of({f"{number:05}": b"" for number in range(12000)})
    path = written(tmp_path / name, whole if name == "set.tar" else gzip.compress(whole))
    # In a process of its own: where many objects live, as after other tests, Python collects cycles of dead ones rarely.
    code = (
        "import sys, tracemalloc; from pathlib import Path; from scfs.data.archives.members import members\n"
        "for _ in members(Path(sys.argv[1])): pass\n"  # what is imported only then is no part of it
        "tracemalloc.start(); print(sum(1 for _ in members(Path(sys.argv[1]))), tracemalloc.get_traced_memory()[1])"
    )
    said = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True).stdout
    number, peak = map(int, said.split())
    assert number == 12000
    assert peak / 12000 < 500  # the name and its place in a set; a TarInfo alone has 800 and more
