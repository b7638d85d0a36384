import io
from pathlib import Path

import numpy as np
import pytest
from fake_results import DETECTION, GARMENTS, FakeResults
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from scfs import paths
from scfs.config.study import Study, parse_study
from scfs.errors import ScfsError
from scfs.report import canvas
from scfs.report.figures import write_figure
from scfs.report.figures.detections import MOST_BOXES
from scfs.report.plot_styles import DARK


def arrays_file(run: str) -> Path:
    return paths.result(run, "coco").with_suffix(".npz")


def changed(run: str, **changes: np.ndarray | None) -> None:
    arrays = {**dict(np.load(arrays_file(run))), **changes}
    np.savez(arrays_file(run), **{name: values for name, values in arrays.items() if values is not None})


def composed(study: Study) -> Figure:
    with canvas.style():
        return study.figures["found"].compose(study)


@pytest.mark.parametrize(("figure", "name"), [("found", "f.png"), ("curves", "c.svg")])
def test_same_results_same_bytes(detection: Study, figure: str, name: str) -> None:
    for folder in ("a", "b"):
        write_figure(detection, figure, Path(folder) / name)
    assert (Path("a") / name).read_bytes() == (Path("b") / name).read_bytes()
    assert detection.figures[figure].format == Path(name).suffix[1:]


def test_every_image_stands_beside_what_each_configuration_found(detection: Study) -> None:
    figure = composed(detection)
    assert len(figure.axes) == 3 * (1 + 3)  # images; truth, random weights, DINO, SCFS (two seeds)
    assert [axes.get_title() for axes in figure.axes[:4]] == ["ground truth", "Scratch", "DINO", "SCFS"]
    arrays = np.load(arrays_file("scfs"))
    for number in range(3):
        for axes in figure.axes[4 * number : 4 * number + 4]:
            assert np.array_equal(axes.images[0].get_array(), arrays[f"image_{number}"])


def test_boxes_have_names_found_ones_scores_and_classes_their_colours(detection: Study) -> None:
    arrays = np.load(arrays_file("scfs"))
    figure = composed(detection)
    truth, found = figure.axes[8], figure.axes[11]
    names = [canvas.shortened(GARMENTS[index], 20) for index in arrays["truth_classes_2"]]
    assert [text.get_text() for text in truth.texts] == names[::-1]
    scores = [f"{score:.2f}" for score in arrays["found_scores_2"]]
    said = [f"{name} {score}" for name, score in zip(names, scores, strict=True)]
    assert [text.get_text() for text in found.texts] == said[::-1]  # the surest one on top
    edges = [patch for patch in found.patches if isinstance(patch, Rectangle)][1::2]
    colours = [to_rgb(DARK[index]) for index in arrays["found_classes_2"]]
    assert [tuple(edge.get_edgecolor()[:3]) for edge in edges] == colours[::-1]
    left, top, right, bottom = arrays["found_boxes_2"][0]
    assert (*edges[-1].get_xy(), edges[-1].get_width(), edges[-1].get_height()) == pytest.approx(
        (left, top, right - left, bottom - top)
    )
    (*_, mask) = found.collections
    inside = np.stack(np.nonzero(arrays["found_masks_2"][0])[::-1], axis=1)
    outline = mask.get_paths()[0].get_extents()
    assert outline.x0 == pytest.approx(inside[:, 0].min(), abs=1) and outline.y1 == pytest.approx(
        inside[:, 1].max(), abs=1
    )
    assert len(found.collections) == 3


def test_of_a_crowd_the_surest_boxes_are_drawn_and_an_empty_picture_says_so(detection: Study) -> None:
    many = MOST_BOXES + 5
    boxes = np.tile(np.array([[10, 10, 40, 40]], np.float32), (many, 1))
    found = {"found_boxes_0": boxes, "found_classes_0": np.zeros(many, int), "found_masks_0": None}
    changed("dino", **found, found_scores_0=np.linspace(0.9, 0.1, many))
    empty = {"found_boxes_0": boxes[:0], "found_classes_0": np.zeros(0, int), "found_scores_0": np.zeros(0)}
    changed("random", **empty, found_masks_0=np.zeros((0, 96, 96), bool))
    figure = composed(detection)
    assert f"up to {MOST_BOXES} of the surest" in detection.figures["found"].caption
    assert len(figure.axes[2].texts) == MOST_BOXES and figure.axes[2].texts[-1].get_text().endswith(" 0.90")
    assert [text.get_text() for text in figure.axes[1].texts] == ["nothing"]


def test_without_masks_there_are_boxes_alone(fake: FakeResults, detection: Study) -> None:
    for run in detection.runs:
        fake.detections(run, "coco", masks=False)
    figure = composed(detection)
    assert all(axes.patches and not axes.collections for axes in figure.axes)


def test_long_names_are_shortened_and_mathematics_is_not_read(fake: FakeResults, detection: Study) -> None:
    for run in detection.runs:
        fake.detections(run, "coco", classes=("a name that fills the whole of the picture", "$x^{", "c", "d"))
    words = {text.get_text() for axes in composed(detection).axes for text in axes.texts}
    assert any(word.startswith("a name that fills t…") for word in words)
    for figure in detection.figures.values():
        assert figure.draw(detection)


def test_the_picture_keeps_the_images_proportions(fake: FakeResults, detection: Study) -> None:
    for size in ((48, 96), (120, 60)):
        for run in detection.runs:
            fake.detections(run, "coco", size=size)
        figure = composed(detection)
        with canvas.style():
            figure.canvas.draw()
        width, height = figure.get_size_inches()
        for axes in figure.axes:
            place = axes.get_position()
            assert (place.height * height) / (place.width * width) == pytest.approx(size[0] / size[1], rel=0.01)
            assert 0 <= place.x0 < place.x1 <= 1 + 1e-9 and 0 <= place.y0 < place.y1 < 1


def test_the_ground_is_transparent_so_that_any_page_may_lie_below(detection: Study) -> None:
    drawing = Image.open(io.BytesIO(detection.figures["found"].draw(detection)))
    alpha = np.asarray(drawing.convert("RGBA"))[..., 3]
    assert alpha[0, 0] == 0 and 0.5 < (alpha == 255).mean() < 0.95
    assert "Software" not in drawing.info


@pytest.mark.parametrize("kind", ["detections", "precision_recall"])
def test_another_kind_of_evaluation_is_refused(kind: str) -> None:
    figures = {"f": {"kind": kind, "evaluation": "tune"}}
    message = rf"figures\.f: evaluation 'tune' is of the kind finetune: a figure of the kind {kind} shows detection"
    with pytest.raises(ScfsError, match=message):
        parse_study({**DETECTION, "figures": figures})


@pytest.mark.parametrize("name", ["found", "curves"])
def test_missing_damaged_and_stale_arrays_are_named(detection: Study, name: str) -> None:
    arrays_file("dino").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(ScfsError, match=r"dino/coco\.npz: not the arrays of a detection: "):
        write_figure(detection, name, Path("x"))
    arrays_file("dino").unlink()
    with pytest.raises(ScfsError, match=r"dino/coco\.npz: missing: the stage detection of run dino writes it"):
        write_figure(detection, name, Path("x"))
    result = paths.result("dino", "coco")
    result.write_text(result.read_text().replace('"sha256": "', '"sha256": "f'))
    with pytest.raises(ScfsError, match=r"dino/coco\.json: measured on weights .*: run the stage detection"):
        write_figure(detection, name, Path("x"))
    assert not Path("x").exists()


@pytest.mark.parametrize(
    ("run", "changes", "told"),
    [
        ("random", {"image_0": None}, "holds no images"),
        ("random", {"truth_boxes_1": None}, "truth_boxes_1 is missing"),
        ("random", {"image_1": np.zeros((4, 4), np.uint8)}, r"image_1 has the shape \(4, 4\), not \(any, any, 3\)"),
        ("dino", {"found_scores_1": np.zeros(9)}, r"found_scores_1 has the shape \(9,\), not \(2,\)"),
        (
            "random",
            {"truth_masks_1": np.zeros((2, 5, 5), bool)},
            r"truth_masks_1 has the shape \(2, 5, 5\), not \(2, 96, 96\)",
        ),
        ("dino", {"found_classes_1": np.array([0, 4])}, r"found_classes_1 = \[0, 4\]: allowed are 0 to 3"),
        ("random", {"truth_classes_1": np.array(["a", "b"])}, r"truth_classes_1 = \['a', 'b'\]: allowed are 0 to 3"),
        ("dino", {"image_0": np.zeros((96, 96, 3), np.uint8)}, r"shows other images or classes .* \(image_0\): run"),
    ],
)
def test_arrays_that_do_not_fit_are_named(
    detection: Study, run: str, changes: dict[str, np.ndarray | None], told: str
) -> None:
    for one in detection.runs if "image_1" in changes else [run]:
        changed(one, **changes)
    with pytest.raises(ScfsError, match=rf"{run}/coco\.npz: .*{told}"):
        detection.figures["found"].draw(detection)
