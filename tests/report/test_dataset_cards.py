"""The data on the page, drawn from results that were written by hand."""

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from fake_results import FakeResults, inspection_of
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle
from PIL import Image

from scfs import paths
from scfs.config.report import FIGURES
from scfs.config.study import Study, parse_study
from scfs.errors import ScfsError
from scfs.io.dataset_stats import ClassCounts, DatasetStats, Sample, SplitStats
from scfs.report import canvas, page
from scfs.report.dataset_cards import (
    BOX,
    CELL,
    GAP,
    HEADING,
    LABEL,
    compose_contact,
    compose_histogram,
    dataset_cards,
    read_stats,
)
from scfs.report.embed import inline_svg


def of(height: int, width: int, name: str = "", boxes: list[list[float]] | None = None) -> Sample:
    pixels = np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)
    return Sample(pixels, name, None if boxes is None else np.array(boxes, float).reshape(-1, 4))


def split(name: str, *samples: Sample, **changes: object) -> SplitStats:
    return SplitStats.model_validate({**inspection_of(name, **changes), "samples": samples})


def data(*splits: SplitStats, **changes: object) -> DatasetStats:
    values = {"dataset": "mine", "identity": "0" * 16, "stage_version": 1, "between": ()}
    return DatasetStats(**{**values, "splits": splits, **changes})


def contact(stats: DatasetStats) -> bytes:
    with canvas.style():
        return canvas.saved(compose_contact(stats), "png", dpi=144)


@pytest.fixture
def found() -> DatasetStats:
    """A split of labelled images, 14 of them in two rows, and one of images with boxes."""
    labelled = split("train", *(of(48, 96, f"class {n}") for n in range(14)))
    objects = {"names": ["cat", "dog"], "counts": [7, 0]}
    pictures = of(40, 20, "", [[1, 2, 11, 22]]), of(96, 96, "", [])
    boxed = split("val", *pictures, classes=None, objects=objects)
    between = {"splits": ("train", "val"), "number": 2, "pairs": (("a.png", "b.png"), ("a.png", "c.png"))}
    return data(labelled, boxed, between=(between,))


def test_images_stand_in_their_own_pixels_on_a_transparent_ground(found: DatasetStats) -> None:
    picture = np.asarray(Image.open(io.BytesIO(contact(found))))
    step = CELL + LABEL + GAP
    top = 2 * HEADING + 2 * step
    assert picture.shape == (top + CELL + GAP, 12 * (CELL + GAP) - GAP, 4)
    for row, column, number in ((0, 0, 0), (0, 11, 11), (1, 1, 13)):
        x, y = column * (CELL + GAP), HEADING + row * step + (96 - 48) // 2
        assert np.array_equal(picture[y : y + 48, x : x + 96, :3], found.splits[0].samples[number].pixels)
    # 40 x 20 pixels are doubled and stand in the middle of their cell; no box comes near the lower right quarter.
    doubled = found.splits[1].samples[0].pixels.repeat(2, axis=0).repeat(2, axis=1)
    y, x = top + (96 - 80) // 2, (96 - 40) // 2
    assert np.array_equal(picture[y + 48 : y + 80, x + 24 : x + 40, :3], doubled[48:, 24:])
    assert picture[HEADING + step :, 2 * (CELL + GAP) :, 3][: CELL + LABEL].max() == 0  # no third image
    assert contact(found) == contact(found)


def test_boxes_stand_where_the_enlarged_image_has_them(found: DatasetStats) -> None:
    with canvas.style():
        (axes,) = compose_contact(found).axes
    boxes = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    assert [to_rgb(box.get_edgecolor()) for box in boxes] == [(0, 0, 0), to_rgb(BOX)]
    left, top = (96 - 40) / 2, 2 * HEADING + 2 * (CELL + LABEL + GAP) + (96 - 80) / 2
    for box in boxes:
        assert (box.get_x(), box.get_y()) == (left + 2 * 1, top + 2 * 2)
        assert (box.get_width(), box.get_height()) == (2 * 10, 2 * 20)


def test_splits_and_classes_are_named_in_a_colour_for_both_themes(found: DatasetStats) -> None:
    with canvas.style():
        (axes,) = compose_contact(found).axes
    texts = [text.get_text() for text in axes.texts]
    assert texts[0] == "train: 14 of 5,250 images" and texts[-1] == "val: 2 of 5,250 images"
    assert texts[1:-1] == [f"class {number}" for number in range(14)]
    assert {text.get_color() for text in axes.texts} == {canvas.EITHER_THEME}


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in FIGURES.values():
        monkeypatch.setattr(kind, "draw", lambda *_: b'<svg viewBox="0 0 1 1"></svg>')


def section_of_data(study: Study) -> str:
    page.write_report(study, Path("report.html"))
    return Path("report.html").read_text().partition('<section id="data">')[2].partition("</section>")[0]


def test_numbers_are_written_out(
    study: Study, found: DatasetStats, undrawn: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes, repeated = {"least": 32, "median": 500.5, "greatest": 4288}, {"number": 1200, "pairs": ()}
    unlabelled = split("x", classes=None, width=sizes, left_out=3, duplicates=repeated)
    card = {"stats": data(*found.splits, unlabelled, between=found.between), "pictures": []}
    monkeypatch.setattr(page, "dataset_cards", lambda study: [card])
    section = section_of_data(study)
    rows = [re.findall(r"<t[hd][^>]*>(?:<code>)?([^<]*)", row) for row in section.split("<tr>")[1:]]
    names = ["", "images", "classes", "per class", "width", "height", "duplicates", "left out", "digest"]
    train, val, other = (dict(zip(names, row, strict=True)) for row in rows[1:])
    assert rows[0] == names and "mine: 2 images are both in train and in val, such as a.png = b.png</p>" in section
    assert (train["classes"], train["per class"], train["width"]) == ("2", "250 – 5,000 images", "96")
    assert (val["classes"], val["per class"]) == ("2", "0 – 7 objects")
    assert other["width"] == "32 – 500.5 – 4,288" and other["classes"] == other["per class"] == "–"
    assert (other["left out"], other["duplicates"], other["digest"]) == ("3", "1,200", "0123456789ab")


def test_shared_images_are_a_warning_on_the_page(fake: FakeResults, study: Study, undrawn: None) -> None:
    assert "Warning" not in section_of_data(study)
    fake.inspection("scenes", between=[{"splits": ["train", "val"], "number": 1, "pairs": [["<i>.png", "b.png"]]}])
    line = "scenes: 1 image is both in train and in val, such as &lt;i&gt;.png = b.png</p>"
    assert f'<p class="shared"><strong>Warning:</strong> {line}' in section_of_data(study)


def test_up_to_forty_classes_are_bars_and_more_a_falling_curve() -> None:
    few = ClassCounts(names=("$a$", "b", "c"), counts=(3, 0, 9))
    many = ClassCounts(names=tuple(f"name {n}" for n in range(50)), counts=tuple(range(10, 60)))
    stats = data(split("train", classes=few), split("none", classes=None), split("val", classes=None, objects=many))
    with canvas.style():
        bars, curve = compose_histogram(stats).axes
    assert [label.get_text() for label in bars.get_yticklabels()] == ["$a$", "b", "c"]
    assert [patch.get_width() for patch in bars.patches if isinstance(patch, Rectangle)] == [3, 0, 9]
    assert [text.get_text() for text in bars.texts] == ["3", "0", "9"]
    (line,) = curve.lines
    assert list(line.get_ydata()) == list(range(59, 9, -1))
    assert curve.get_xlabel() == "50 classes: from name 49 (59)\nto name 0 (10)"
    assert [axes.get_title(loc="left") for axes in (bars, curve)] == [
        "train: images per class",
        "val: objects per class",
    ]


def test_the_histogram_has_the_colours_that_the_page_replaces(found: DatasetStats) -> None:
    with canvas.style():
        drawn = [canvas.saved(compose_histogram(found), "svg") for _ in range(2)]
    assert drawn[0] == drawn[1]
    html = inline_svg(drawn[0], "data", "classes")
    assert not re.search(r"(?:fill|stroke): #(?!ffffff)", html)
    assert compose_histogram(data(split("all", classes=None))) is None


def test_a_study_shows_all_its_data_sets_in_the_order_of_their_splits(study: Study) -> None:
    (card,) = dataset_cards(study)
    assert card["stats"].dataset == "scenes" and [split.split for split in card["stats"].splits] == [
        "pretrain",
        "train",
        "val",
    ]


def test_results_that_are_missing_damaged_or_of_other_settings_are_one_line(fake: FakeResults) -> None:
    path = paths.inspection("scenes")
    values = fake.study.model_dump(mode="json", include={"study", "data", "pretrain", "runs"})
    values["data"]["scenes"]["seed"] = 7
    with pytest.raises(
        ScfsError, match=r"scenes\.json: of other settings than the study's data\.scenes: run the stages"
    ):
        read_stats(parse_study(values), "scenes")
    found = json.loads(path.read_text())
    del found["between"]
    path.write_text(json.dumps(found))
    with pytest.raises(
        ScfsError, match=r"scenes\.json or scenes\.npz: not what the stage inspect writes: between: Field required"
    ):
        read_stats(fake.study, "scenes")
    path.with_suffix(".npz").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(ScfsError, match=r"scenes\.json or scenes\.npz: not what the stage inspect writes: "):
        read_stats(fake.study, "scenes")
    path.with_suffix(".npz").unlink()
    with pytest.raises(ScfsError, match=r"scenes\.npz: missing: the stage inspect of data set scenes writes it"):
        read_stats(fake.study, "scenes")
