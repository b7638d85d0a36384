"""`scfs neighbours`: a page of the most similar images, in the order of a plain computation."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_encoder import make_weights

import scfs
from scfs.cli import app
from scfs.errors import ScfsError
from scfs.evaluation import neighbour_page


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    make_weights(Path("mine.safetensors"))
    Path("photos").mkdir()
    for number in range(14):
        pixels = np.random.default_rng(number).integers(0, 20 * number + 5, (50, 60, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(f"photos/{number:02}.png")
    Image.fromarray(pixels[:, ::-1]).save("asked.png")
    return tmp_path


def neighbours(*options: str) -> list[list[str]]:
    """Write the page, and return what is on it: the path of each query, and its neighbours' with their cosines."""
    app(
        ["neighbours", "mine.safetensors", "photos", *options, "--threads", "1", "--workers", "0"],
        standalone_mode=False,
    )
    page = Path("neighbours.html").read_text()
    assert "http" not in page and page.count("data:image/jpeg;base64,") == page.count("<img")
    rows = page.split('<div class="row">')[1:]
    return [re.findall(r"<figcaption>(.*?)</figcaption>", row) for row in rows]


def test_each_image_of_the_folder_with_those_like_it(photos: Path) -> None:
    found = neighbours()
    model, names = scfs.load("mine.safetensors"), [f"{number:02}.png" for number in range(14)]
    features = model(torch.stack([model.transform(f"photos/{name}") for name in names])).double()
    unit = torch.nn.functional.normalize(features, dim=1)
    alike = unit @ unit.T - 2 * torch.eye(14)
    assert [row[0] for row in found] == names
    for row, values in zip(found, alike, strict=True):
        best = values.sort(descending=True).indices[: neighbour_page.NEIGHBOURS].tolist()
        assert row[1:] == [f"{values[index]:.3f} {names[index]}" for index in best]


def test_a_query_from_elsewhere(photos: Path) -> None:
    found = neighbours("--query", "asked.png", "--query", "photos/03.png")
    assert [row[0] for row in found] == ["asked.png", "photos/03.png"]
    assert found[1][1] == "1.000 03.png" and len(found[0]) == 1 + neighbour_page.NEIGHBOURS


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--query", "none.png"], "none.png: no such image"),
        (["--query", "mine.safetensors"], "mine.safetensors: not a readable image"),
        (["--out", "page.pdf"], "page.pdf: allowed is a name that ends in .html"),
    ],
)
def test_bad_input(photos: Path, options: list[str], line: str) -> None:
    with pytest.raises(ScfsError, match=line):
        neighbours(*options)
    assert not Path("neighbours.html").exists() and not Path("page.pdf").exists()
