import re
from pathlib import Path

import numpy as np
import pytest
from fake_results import GARMENTS, FakeResults
from matplotlib.figure import Figure

from scfs import paths
from scfs.config.study import Study
from scfs.errors import ScfsError
from scfs.report import canvas
from scfs.report.figures import write_figure
from scfs.report.figures.precision_recall import BEST, MOST_PANELS, WORST, panels_of
from scfs.report.plot_styles import LIGHT, UNTRAINED_LIGHT


def arrays_file(run: str) -> Path:
    return paths.result(run, "coco").with_suffix(".npz")


def changed(run: str, **changes: np.ndarray | None) -> None:
    np.savez(arrays_file(run), **{**dict(np.load(arrays_file(run))), **changes})


def composed(study: Study) -> Figure:
    with canvas.style():
        return study.figures["curves"].compose(study)


def test_a_panel_per_class_with_a_line_per_configuration(detection: Study) -> None:
    figure = composed(detection)
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


def test_seeds_share_the_line_of_their_mean(detection: Study) -> None:
    changed("scfs-1", precision=np.full((4, 101), 0.2))
    figure = composed(detection)
    own = np.load(arrays_file("scfs"))["precision"][0]
    assert np.allclose(figure.axes[0].get_lines()[4].get_ydata(), (own + 0.2) / 2)
    caption = detection.figures["curves"].caption
    assert "mean of their precisions" in caption and f"more than {MOST_PANELS} classes" in caption
    assert f"the {BEST} best and {WORST} worst" in caption


def test_words_of_the_curves_are_text(detection: Study) -> None:
    write_figure(detection, "curves", Path("c.svg"))
    words = re.findall(r"<text[^>]*>([^<]*)</text>", Path("c.svg").read_text())
    assert {"trouser", "recall", "precision", "boxes", "masks", "Scratch", "DINO", "SCFS"} <= set(words)


def constant(average: list[float]) -> tuple[list[str], np.ndarray]:
    """Names of classes, and a constant precision of each."""
    return [f"c{index}" for index in range(len(average))], np.repeat(np.array(average)[:, None], 101, axis=1)


def test_of_many_classes_the_mean_the_best_and_the_worst_have_panels() -> None:
    names, one = constant((np.arange(80) / 100).tolist())
    _, other = constant((np.arange(80)[::-1] / 400).tolist())
    panels = panels_of(names, [one, other])
    titles = ["mean of 80 classes", "c79", "c78", "c77", "c76", "c4", "c3", "c2", "c1", "c0"]
    assert [title for title, _ in panels] == titles
    assert panels[0][1] == list(range(80)) and panels[1][1] == [79]
    for number, shown in ((20, 20), (21, 10)):
        names, precision = constant([0.5] * number)
        assert len(panels_of(names, [precision])) == shown


def test_a_class_without_objects_has_no_panel(detection: Study) -> None:
    names, precision = constant([0.5, -1, 0.4])
    assert [title for title, _ in panels_of(names, [precision])] == ["c0", "c2"]
    names, precision = constant([-1.0, *[0.5] * 80])
    assert panels_of(names, [precision])[0][0] == "mean of 80 classes"
    for run in detection.runs:
        changed(run, precision=np.full((4, 101), -1.0))
    with pytest.raises(ScfsError, match=r"random/coco\.npz: precision: no class has objects"):
        write_figure(detection, "curves", Path("c.svg"))


def test_without_masks_there_are_lines_of_boxes_alone(fake: FakeResults, detection: Study) -> None:
    for run in detection.runs:
        fake.detections(run, "coco", masks=False)
    write_figure(detection, "curves", Path("c.svg"))
    assert "masks" not in Path("c.svg").read_text() and "dasharray" not in Path("c.svg").read_text()


def test_curves_that_do_not_fit_are_named(detection: Study) -> None:
    changed("dino", precision=np.zeros((3, 101)))
    with pytest.raises(ScfsError, match=r"dino/coco\.npz: .*precision has the shape \(3, 101\), not \(4, 101\)"):
        write_figure(detection, "curves", Path("c.svg"))
    changed("dino", precision=np.zeros((4, 101)), classes=np.array(list("abcd")))
    with pytest.raises(
        ScfsError, match=r"dino/coco\.npz: shows other images or classes .* \(classes\): run the stage detection"
    ):
        write_figure(detection, "curves", Path("c.svg"))
