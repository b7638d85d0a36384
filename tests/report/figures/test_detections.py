import io
import re
from pathlib import Path

import numpy as np
import pytest
from fake_results import DETECTION, GARMENTS, FakeResults
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle
from PIL import Image

from scfs import paths
from scfs.config.study import Study, parse_study
from scfs.errors import ScfsError
from scfs.report import page
from scfs.report.figures import DRAWINGS, canvas, detections, precision_recall, write_figure
from scfs.report.figures.detection_arrays import Curves, Objects, read_curves, read_detected
from scfs.report.figures.detections import COLOURS, MOST_OBJECTS, SHOWN_SCORE, chosen, class_colours, ink_on
from scfs.report.figures.precision_recall import panels_of
from scfs.report.figures.series import LIGHT, UNTRAINED_LIGHT


def arrays_file(run: str) -> Path:
    return paths.result(run, "coco").with_suffix(".npz")


def changed(run: str, **changes: np.ndarray | None) -> None:
    arrays = {**dict(np.load(arrays_file(run))), **changes}
    np.savez(arrays_file(run), **{name: values for name, values in arrays.items() if values is not None})


def of(number: int, scores: list[float] | None = None) -> Objects:
    """Objects of rising size."""
    boxes = np.array([[0, 0, side, side] for side in range(1, number + 1)], float).reshape(-1, 4)
    return Objects(boxes, np.zeros(number, int), None if scores is None else np.array(scores), None)


@pytest.mark.parametrize(("figure", "name"), [("found", "f.png"), ("curves", "c.svg")])
def test_same_results_same_bytes(detection: Study, figure: str, name: str) -> None:
    for folder in ("a", "b"):
        write_figure(detection, figure, Path(folder) / name)
    assert (Path("a") / name).read_bytes() == (Path("b") / name).read_bytes()
    assert paths.figure("x", figure, detection.figures[figure].kind).suffix == Path(name).suffix


def test_every_image_stands_beside_what_each_configuration_found(detection: Study) -> None:
    with canvas.style():
        figure = detections.compose(detection, detection.figures["found"])
    assert len(figure.axes) == 3 * (1 + 3)  # images; truth, random weights, DINO, SCFS (two seeds)
    headings = [text.get_text() for text in figure.texts if text.get_weight() == "bold"]
    assert headings == ["ground truth", "Scratch", "DINO", "SCFS"]
    said = [text.get_text() for text in figure.texts if text.get_weight() != "bold"]
    assert said[::4] == ["1 object", "2 objects", "3 objects"]
    assert said[1] == "none found: greatest score 0.30" and said[5] == "1 found" and said[9] == "2 found"


def test_boxes_have_names_found_ones_scores_and_classes_their_colours(detection: Study) -> None:
    arrays = np.load(arrays_file("scfs"))
    with canvas.style():
        figure = detections.compose(detection, detection.figures["found"])
    truth, found = figure.axes[8], figure.axes[11]
    true_names = [GARMENTS[index] for index in arrays["truth_classes_2"]]
    assert sorted(text.get_text() for text in truth.texts) == sorted(true_names)
    scores = [f"{score:.2f}" for score in arrays["found_scores_2"] if score >= SHOWN_SCORE]
    assert [text.get_text() for text in found.texts] == [
        f"{name} {score}" for name, score in zip(true_names, scores, strict=False)
    ]
    detected = [read_detected(detection, run, "coco") for run in ("random", "dino", "scfs")]
    colours = class_colours(detected)
    edges = [patch for patch in found.patches if isinstance(patch, Rectangle) and not patch.get_fill()]
    drawn = {tuple(patch.get_edgecolor()[:3]) for patch in edges if patch.get_linewidth() < 2}
    assert drawn == {to_rgb(colours[index]) for index in arrays["found_classes_2"][:2]}
    surest = edges[-1]
    left, top, right, bottom = arrays["found_boxes_2"][0]
    assert (*surest.get_xy(), surest.get_width(), surest.get_height()) == pytest.approx(
        (left, top, right - left, bottom - top)
    )
    assert len(found.images) == 1 + 2  # the image and two masks
    tint = found.images[-1].get_array()
    assert np.array_equal(tint[..., 3] > 0, arrays["found_masks_2"][0])


def test_without_masks_there_are_boxes_alone(fake: FakeResults, detection: Study) -> None:
    for run in detection.runs:
        fake.detections(run, "coco", masks=False)
    with canvas.style():
        assert all(len(axes.images) == 1 for axes in detections.compose(detection, detection.figures["found"]).axes)
    write_figure(detection, "curves", Path("c.svg"))
    assert "masks" not in Path("c.svg").read_text() and "dasharray" not in Path("c.svg").read_text()


def test_long_names_are_shortened_and_mathematics_is_not_read(fake: FakeResults, detection: Study) -> None:
    for run in detection.runs:
        fake.detections(run, "coco", classes=("a name that fills the whole of the picture", "$x^{", "c", "d"))
    with canvas.style():
        figure = detections.compose(detection, detection.figures["found"])
    words = {text.get_text() for axes in figure.axes for text in axes.texts}
    assert any(re.match(r"a name that.*…", word) for word in words)
    for name in ("found", "curves"):
        assert DRAWINGS[detection.figures[name].kind](detection, detection.figures[name])


def test_many_configurations_stand_in_blocks_of_like_size(fake: FakeResults, detection: Study) -> None:
    runs = {f"e{epochs}": {"epochs": epochs} for epochs in range(1, 5)}
    fake.study = parse_study({**DETECTION, "runs": runs, "tables": {}})
    for run in runs:
        fake.pretrain(run)
        fake.evaluation(run, "coco", {})
        fake.detections(run, "coco")
    with canvas.style():
        figure = detections.compose(fake.study, fake.study.figures["found"])
    headings = [text.get_text() for text in figure.texts if text.get_weight() == "bold"]
    assert headings == ["ground truth", "e1", "e2", "ground truth", "e3", "e4"]
    assert len(figure.axes) == 2 * 3 * 3


def test_the_picture_keeps_the_images_proportions(fake: FakeResults, detection: Study) -> None:
    for size in ((48, 96), (120, 60)):
        for run in detection.runs:
            fake.detections(run, "coco", size=size)
        with canvas.style():
            figure = detections.compose(detection, detection.figures["found"])
        width, height = figure.get_size_inches()
        for axes in figure.axes:
            place = axes.get_position()
            assert (place.height * height) / (place.width * width) == pytest.approx(size[0] / size[1])
            assert 0 <= place.x0 < place.x1 <= 1 + 1e-9 and 0 < place.y0 < place.y1 < 1


def test_the_ground_is_transparent_so_that_any_page_may_lie_below(detection: Study) -> None:
    drawing = Image.open(io.BytesIO(detections.draw_detections(detection, detection.figures["found"])))
    alpha = np.asarray(drawing.convert("RGBA"))[..., 3]
    assert alpha[0, 0] == 0 and 0.5 < (alpha == 255).mean() < 0.95
    assert "Software" not in drawing.info


def test_of_a_crowd_the_largest_and_the_surest_are_drawn() -> None:
    drawn, said = chosen(of(30))
    assert (len(drawn.boxes), said) == (MOST_OBJECTS, f"{MOST_OBJECTS} largest of 30 objects")
    assert drawn.boxes[:, 2].tolist() == list(range(30, 30 - MOST_OBJECTS, -1))
    drawn, said = chosen(of(4, [0.2, 0.9, SHOWN_SCORE, 0.6]))
    assert (drawn.scores.tolist(), said) == ([0.9, 0.6, SHOWN_SCORE], "3 found")
    drawn, said = chosen(of(20, [0.9] * 20))
    assert (len(drawn.boxes), said) == (MOST_OBJECTS, f"{MOST_OBJECTS} surest of 20 found")
    assert chosen(of(0))[1] == "0 objects"
    assert chosen(of(0, []))[1] == "none found"
    assert chosen(of(1, [0.4]))[1] == "none found: greatest score 0.40"


def test_text_on_every_colour_has_a_contrast_of_four_and_a_half() -> None:
    for colour in COLOURS:
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in to_rgb(colour)]
        light = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
        contrast = (light + 0.05) / 0.05 if ink_on(colour) == "#000000" else 1.05 / (light + 0.05)
        assert contrast >= 4.5, colour


def test_a_panel_per_class_with_a_line_per_configuration(detection: Study) -> None:
    with canvas.style():
        figure = precision_recall.compose(detection, detection.figures["curves"])
    panels = [axes for axes in figure.axes if axes.get_lines()]
    assert [axes.get_title(loc="left") for axes in panels[:3]] == list(GARMENTS[:3])
    assert panels[3].get_title(loc="left").startswith("ankle boot")
    assert len(panels) == 4
    for axes in panels:
        lines = [(line.get_color(), line.get_linestyle()) for line in axes.get_lines()]
        assert lines == [(colour, kind) for colour in (UNTRAINED_LIGHT, LIGHT[0], LIGHT[1]) for kind in ("-", "--")]
    arrays = np.load(arrays_file("dino"))
    assert np.array_equal(panels[1].get_lines()[2].get_ydata(), arrays["precision"][1])
    assert np.array_equal(panels[1].get_lines()[3].get_ydata(), arrays["mask_precision"][1])
    box, mask = 100 * arrays["precision"][1].mean(), 100 * arrays["mask_precision"][1].mean()
    assert panels[1].texts[1].get_text() == f"{box:.1f} / {mask:.1f}"


def test_seeds_share_the_line_of_their_mean(detection: Study) -> None:
    changed("scfs-1", precision=np.full((4, 101), 0.2))
    with canvas.style():
        figure = precision_recall.compose(detection, detection.figures["curves"])
    own = np.load(arrays_file("scfs"))["precision"][0]
    assert np.allclose(figure.axes[0].get_lines()[4].get_ydata(), (own + 0.2) / 2)
    assert "mean of their precisions" in page.CAPTIONS["precision_recall"]


def test_words_of_the_curves_are_text(detection: Study) -> None:
    write_figure(detection, "curves", Path("c.svg"))
    words = re.findall(r"<text[^>]*>([^<]*)</text>", Path("c.svg").read_text())
    assert {"trouser", "recall", "precision", "boxes", "masks", "Scratch", "DINO", "SCFS"} <= set(words)


def curves(average: list[float]) -> Curves:
    """Constant precision of each class."""
    boxes = np.repeat(np.array(average)[:, None], 101, axis=1)
    return Curves(tuple(f"c{index}" for index in range(len(average))), np.linspace(0, 1, 101), boxes, None)


def test_of_many_classes_the_mean_the_best_and_the_worst_have_panels() -> None:
    one, other = np.arange(80) / 100, np.arange(80)[::-1] / 400
    panels = panels_of([curves(one.tolist()), curves(other.tolist())])
    titles = ["mean of 80 classes", "c79", "c78", "c77", "c76", "c4", "c3", "c2", "c1", "c0"]
    assert [panel.title for panel in panels] == titles
    assert panels[0].classes == tuple(range(80))
    assert len(panels_of([curves([0.5] * 20)])) == 20
    assert len(panels_of([curves([0.5] * 21)])) == 10


def test_a_class_without_objects_has_no_panel(detection: Study) -> None:
    assert [panel.title for panel in panels_of([curves([0.5, -1, 0.4])])] == ["c0", "c2"]
    assert panels_of([curves([-1.0, *[0.5] * 80])])[0].title == "mean of 80 classes"
    for run in detection.runs:
        changed(run, precision=np.full((4, 101), -1.0))
    with pytest.raises(ScfsError, match=r"random/coco\.npz: precision: no class has objects"):
        write_figure(detection, "curves", Path("c.svg"))


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
    ("changes", "told"),
    [
        ({"image_0": None}, "holds no images"),
        ({"truth_boxes_1": None}, "truth_boxes_1 is not a file in the archive"),
        ({"image_1": np.zeros((4, 4), np.uint8)}, r"image_1 has the shape \(4, 4\), not \(H, W, 3\)"),
        ({"found_scores_1": np.zeros(9)}, r"found_scores_1 has the shape \(9,\), not \(2,\)"),
        ({"truth_masks_1": np.zeros((2, 5, 5), bool)}, r"truth_masks_1 has the shape \(2, 5, 5\), not \(2, 96, 96\)"),
        ({"found_classes_1": np.array([0, 4])}, r"found_classes_1 = \[0, 4\]: allowed are 0 to 3"),
        ({"truth_classes_1": np.array(["a", "b"])}, r"truth_classes_1 = \['a', 'b'\]: allowed are 0 to 3"),
        ({"image_0": np.zeros((96, 96, 3), np.uint8)}, "shows other images than the first run's"),
    ],
)
def test_arrays_that_do_not_fit_are_named(detection: Study, changes: dict[str, np.ndarray | None], told: str) -> None:
    changed("dino", **changes)
    with pytest.raises(ScfsError, match=rf"dino/coco\.npz: .*{told}"):
        detections.draw_detections(detection, detection.figures["found"])


def test_curves_that_do_not_fit_are_named(detection: Study) -> None:
    changed("dino", precision=np.zeros((3, 101)))
    with pytest.raises(ScfsError, match=r"dino/coco\.npz: .*precision has the shape \(3, 101\), not \(4, 101\)"):
        read_curves(detection, "dino", "coco")
    changed("dino", precision=np.zeros((4, 101)), classes=np.array(list("abcd")))
    with pytest.raises(ScfsError, match=r"dino/coco\.npz: shows other classes than the first run's"):
        write_figure(detection, "curves", Path("c.svg"))
