"""`scfs search`: the page's maps, computed by a real browser, beside Eq. 6 of the network's own."""

import base64
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from browser import PROGRAM, Browser
from PIL import Image
from test_encoder import make_weights

import scfs
from scfs.cli import app
from scfs.errors import ScfsError
from scfs.evaluation import search_page
from scfs.model.search import attention_map

NUMBER, SIDE = 7, 96


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    make_weights(Path("mine.safetensors"))
    Path("photos").mkdir()
    for number in range(NUMBER):
        pixels = np.random.default_rng(number).integers(0, 255, (12, 12, 3), np.uint8)
        Image.fromarray(pixels).resize((SIDE, SIDE)).save(f"photos/<b>{number}.png")  # a name is text, not markup
    search("--size", f"{SIDE}")
    return tmp_path / "search.html"


def search(*options: str) -> None:
    app(["search", "mine.safetensors", "photos", *options, "--threads", "1", "--workers", "0"], standalone_mode=False)


def maps() -> torch.Tensor:
    model = scfs.load("mine.safetensors")
    model.size = SIDE
    images = [model.transform(f"photos/<b>{number}.png") for number in range(NUMBER)]
    return model.layers(torch.stack(images))["layer3"]


@pytest.mark.skipif(
    PROGRAM is None,
    reason="a real browser opens the page, and this machine has none: apt-get install chromium, as .ci/run does",
)
def test_a_rectangle_is_searched_as_eq_6_says(page: Path, tmp_path: Path) -> None:
    own = maps()
    query = own[2, :, 1:4, 0:3].mean((1, 2))  # of 6 x 6 places
    exact = attention_map(query.expand(NUMBER, 1, -1), own)[:, 0].flatten(1)
    with Browser(tmp_path / "profile") as browser:
        browser.open(page)
        assert (
            "http" not in page.read_text() and browser.evaluate("document.querySelectorAll('figure').length") == NUMBER
        )
        error = browser.evaluate("data.error")
        assert 0 < error < 0.03
        found = np.array(browser.evaluate("search(2, [0, 1/6, 0.5, 4/6]).map(map => Array.from(map))"))
        np.testing.assert_allclose(found, exact.numpy(), rtol=0, atol=2 * error)
        # By hand: from a place in the first row and column to one in the fourth row.
        x, y, w, h = browser.evaluate("(r => [r.x, r.y, r.width, r.height])(figures[2].frame.getBoundingClientRect())")
        browser.drag((x + 1, y + h / 6), (x + w / 4, y + h / 2), (x + w / 2, y + h * 4 / 6))
        shown = browser.evaluate("[...document.querySelectorAll('figcaption')].map(one => one.textContent)")
        assert shown[0].endswith(" <b>2.png") and sorted(one.split()[1] for one in shown) == [
            f"<b>{n}.png" for n in range(NUMBER)
        ]
        best = {one.split()[1]: float(one.split()[0]) for one in shown}
        assert [best[f"<b>{n}.png"] for n in range(NUMBER)] == pytest.approx(
            exact.max(1).values.tolist(), abs=2 * error
        )
        others = [float(one.split()[0]) for one in shown[1:]]
        assert others == sorted(others, reverse=True)
        # The address is a link to what is shown.
        fragment = browser.evaluate("location.hash")
        browser.open(page, fragment)
        assert browser.evaluate("[...document.querySelectorAll('figcaption')].map(one => one.textContent)") == shown


def test_what_the_page_holds_gives_eq_6(page: Path) -> None:
    """Without a browser: the bytes and norms on the page, put together as its script does."""
    own, held = maps(), json.loads(page.read_text().split('id="data">')[1].split("</script>")[0])
    keys = np.frombuffer(base64.b64decode(held["keys"]), np.int8).reshape(NUMBER, 36, held["depth"]).astype(float)
    norms = np.frombuffer(base64.b64decode(held["norms"]), "<f4").reshape(NUMBER, 36)
    np.testing.assert_allclose(norms, own.norm(dim=1).flatten(1).numpy(), rtol=1e-4)
    query = (keys[4] * norms[4][:, None]).mean(0)
    found = keys @ (query / np.linalg.norm(query)) * held["scale"]
    exact = attention_map(own[4].mean((1, 2)).expand(NUMBER, 1, -1), own).flatten(1).numpy()
    np.testing.assert_allclose(found, exact, rtol=0, atol=2 * held["error"])
    assert exact.max() - exact.min() > 10 * held["error"]


def test_a_sample_of_a_larger_folder(
    page: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(search_page, "MOST", 3)
    search("--out", "few.html")
    assert "3 of 7 images, at even distances, come onto the page" in capsys.readouterr().err
    assert "3 of 7 images of photos" in Path("few.html").read_text()


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--layer", "layer9"], "--layer layer9: not among layer1, layer2"),
        (["--out", "page.pdf"], "page.pdf: allowed is a name that ends in .html"),
    ],
)
def test_bad_input(page: Path, options: list[str], line: str) -> None:
    with pytest.raises(ScfsError, match=line):
        search(*options)


def test_a_page_that_would_be_too_large(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_page, "LARGEST", 1000)
    with pytest.raises(ScfsError, match=r"large.html: would have 0 MB, at most 0 are allowed: lower --size"):
        search("--out", "large.html")
    assert not Path("large.html").exists()
