import io
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

import numpy as np
import pytest
from image_samples import encoded, painting
from PIL import Image

from scfs.config.data import MAX_PIXELS
from scfs.data import decoding
from scfs.data.decoding import decode
from scfs.data.sources.image_probe import _in_flight, probe_image
from scfs.errors import ScfsError


def pil(data: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(data)).convert("RGB"))


def assert_decodes_like_pil(data: bytes) -> None:
    pixels = decode(data, "x")
    assert pixels.dtype == np.uint8 and pixels.flags.c_contiguous and pixels.flags.writeable
    np.testing.assert_array_equal(pixels, pil(data))


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


@pytest.mark.parametrize("size", [(375, 500), (61, 33), (8, 8), (1, 1)])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
def test_colour_jpeg_is_pils_to_the_bit(size, subsampling):
    for quality, progressive in ((30, False), (90, False), (90, True)):
        data = encoded(painting(3, *size), "JPEG", subsampling=subsampling, quality=quality, progressive=progressive)
        assert decoding._decode_jpeg(data, MAX_PIXELS) is not None
        assert_decodes_like_pil(data)


def test_other_jpeg():
    image = Image.fromarray(painting(3, 60, 80))
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees: PIL does not turn it, nor do we
    for data in (
        encoded(image.convert("L"), "JPEG"),
        encoded(image.convert("CMYK"), "JPEG"),
        encoded(image, "JPEG", exif=exif),
        encoded(image, "JPEG", keep_rgb=True),
        encoded(image, "JPEG") + b"trailing bytes",
    ):
        assert_decodes_like_pil(data)


@pytest.mark.filterwarnings("ignore:Palette images with Transparency")
def test_png_is_pils_to_the_bit():
    image = Image.fromarray(painting(3, 61, 33))
    plain = [encoded(image), encoded(image.convert("L")), encoded(image, optimize=True), encoded(image.resize((1, 1)))]
    for data in plain:
        assert decoding._decode_plain_png(data, MAX_PIXELS) is not None
    transparent = image.copy()
    transparent.putalpha(image.convert("L"))
    other = [
        encoded(image.quantize(16)),
        encoded(transparent),
        encoded(transparent.convert("LA")),
        encoded(transparent.quantize(16)),
        encoded(image.convert("1")),
        encoded(image, transparency=(1, 2, 3)),
        encoded(image.convert("L"), transparency=5),
        encoded(image, dpi=(72, 72)),
        plain[0][:33] + chunk(b"gAMA", struct.pack(">I", 20000)) + plain[0][33:],
    ]
    for data in plain + other:
        assert_decodes_like_pil(data)


def test_other_formats():
    image = Image.fromarray(painting(3, 20, 30))
    for kind in ("BMP", "GIF", "WEBP", "TIFF", "PPM"):
        assert_decodes_like_pil(encoded(image, kind))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_damaged_files_fail_or_decode_as_with_pil(kind, damage, capfd):
    rng = np.random.default_rng(0)
    whole = encoded(painting(3, 40, 50), kind)
    failed = 0
    for _ in range(120):
        data = bytearray(whole)
        if damage == "cut":
            data = data[: rng.integers(len(data))]
        else:
            data[rng.integers(len(data))] ^= 1 << rng.integers(8)
        try:
            expected = pil(bytes(data))
        except Exception:
            failed += 1
            with pytest.raises(ScfsError, match=r"^data/a\.jpg: not a readable image: "):
                decode(bytes(data), "data/a.jpg")
        else:
            np.testing.assert_array_equal(decode(bytes(data), "x"), expected)
    assert failed > (80 if damage == "cut" or kind == "PNG" else 1)


def test_errors_are_one_line_and_repeatable():
    for data in (b"", b"not an image at all", encoded(painting(3, 40, 50), "JPEG")[:700]):
        messages = set()
        for _ in range(2):
            with pytest.raises(ScfsError, match=r"^folder/b\.png: not a readable image: ") as caught:
                decode(data, "folder/b.png")
            messages.add(str(caught.value))
        assert len(messages) == 1 and "\n" not in messages.pop()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "WEBP", "TIFF"])
def test_an_image_above_the_limit_of_pixels_is_not_decoded(kind, monkeypatch):
    data = encoded(painting(3, 30, 30), kind)
    assert decode(data, "x", 900).shape == (30, 30, 3)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", None)
    with pytest.raises(ScfsError, match=r"^bomb: .*: 30 x 30 pixels by its header, at most 899 are .*max_pixels"):
        decode(data, "bomb", 899)


def test_a_header_of_more_pixels_than_pillow_opens():
    data = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">2I5B", 1 << 16, 1 << 16, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", b"")
    )
    with pytest.raises(ScfsError, match=r"^bomb: .*: more than 268,435,456 pixels by its header, at most 134,217,728"):
        decode(data, "bomb")


LEVELS = np.arange(600).reshape(20, 30) * 100
DEEP = {
    "x-ray.png": (encoded(Image.fromarray(LEVELS.astype(np.uint16))), r"I;16"),
    "microscope.tif": (encoded(Image.fromarray(LEVELS.astype(np.uint16)), "TIFF"), r"I;16"),
    "heights.tif": (encoded(Image.fromarray(LEVELS.astype(np.int32)), "TIFF"), r"I"),
    "float.tif": (encoded(Image.fromarray(LEVELS.astype(np.float32)), "TIFF"), r"F"),
}


@pytest.mark.parametrize("name", DEEP)
def test_grey_of_more_than_8_bits_is_refused_and_not_made_white(name):
    data, mode = DEEP[name]
    expected = rf"^{name}: .*: grey of more than 8 bits \(Pillow's mode {mode}\): convert it to RGB or grey of 8 bits, "
    with pytest.raises(ScfsError, match=expected):
        decode(data, name)
    assert "convert it to RGB" in probe_image(data).problem


def test_colours_of_16_bits_are_scaled():
    rows = np.insert(
        np.array([[[65535, 32768, 0], [257, 0, 40000]]], ">u2").view(np.uint8).reshape(1, -1), 0, 0, axis=1
    )
    header = chunk(b"IHDR", struct.pack(">2I5B", 2, 1, 16, 2, 0, 0, 0))
    data = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows.tobytes())) + chunk(b"IEND", b"")
    assert decode(data, "x").tolist() == [[[255, 128, 0], [1, 0, 156]]]


def tiff(pixels: np.ndarray) -> bytes:
    """A TIFF of 8 bits and any number of channels, in one strip, from pixels (H, W, C)."""
    height, width, channels = pixels.shape
    entries = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8)]
    entries += [(277, 3, 1, channels), (278, 4, 1, height), (279, 4, 1, pixels.size)]
    table = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return struct.pack("<2sHI", b"II", 42, 8 + pixels.size) + pixels.tobytes() + table + bytes(4)


def test_a_tiff_of_more_channels_or_pages_than_an_image_has():
    assert decode(tiff(painting(3, 20, 30)[:, :, :1]), "grey").shape == (20, 30, 3)
    for channels in (5, 12):
        data = tiff(np.zeros((20, 30, channels), np.uint8))
        expected = (
            "a TIFF that Pillow cannot read, perhaps of more than four channels: convert it to RGB or grey of 8 bits"
        )
        assert probe_image(data).problem == expected
        with pytest.raises(ScfsError, match=f"^scan: not a readable image: {expected}$"):
            decode(data, "scan")
    page = Image.fromarray(painting(3, 20, 30))
    assert probe_image(encoded(page, "TIFF", save_all=True, append_images=[page])).problem.startswith(
        "a TIFF of several"
    )


def test_a_turned_tiff_has_the_size_that_it_is_decoded_to():
    data = encoded(Image.fromarray(painting(3, 20, 30)), "TIFF", tiffinfo={274: 6})
    probe = probe_image(data)
    assert (probe.height, probe.width) == decode(data, "x").shape[:2] == (30, 20)


@pytest.mark.parametrize("kind", ["zTXt", "iTXt", "iCCP"])
def test_long_texts_of_a_png(kind, monkeypatch):
    body = {"zTXt": b"workflow\0\0", "iTXt": b"workflow\0\1\0\0\0", "iCCP": b"profile\0\0"}[kind]
    image = encoded(painting(3, 20, 30))
    text = chunk(kind.encode(), body + zlib.compress(bytes(2_000_000)))
    data = image[:33] + text + image[33:]
    np.testing.assert_array_equal(decode(data, "x"), decode(image, "x"))
    monkeypatch.setattr("PIL.PngImagePlugin.MAX_TEXT_CHUNK", 1 << 20)
    with pytest.raises(ScfsError, match=r"^x: .*: holds texts of more than 64 MiB beside the pixels: save it without"):
        decode(data, "x")


def test_no_more_pixels_are_decoded_at_a_time_than_the_budget():
    lock, held, passed = Lock(), 0, []

    def work(pixels: int) -> None:
        nonlocal held
        with _in_flight(pixels):
            with lock:
                held += min(pixels, MAX_PIXELS)
                passed.append(held)
            with lock:
                held -= min(pixels, MAX_PIXELS)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, [1, 4_000_000, 100_000_000, MAX_PIXELS, 2 * MAX_PIXELS] * 80))
    assert len(passed) == 400 and max(passed) == MAX_PIXELS
    with pytest.raises(ZeroDivisionError), _in_flight(2 * MAX_PIXELS):
        1 / 0  # noqa: B018
    with _in_flight(MAX_PIXELS):
        pass
