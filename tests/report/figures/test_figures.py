import io
import re
from pathlib import Path

import numpy as np
import pytest
from fake_results import STUDY, FakeResults
from PIL import Image

from scfs import paths
from scfs.config.study import Study, parse_study
from scfs.errors import ScfsError
from scfs.report.figures import write_figure
from scfs.report.plot_styles import LIGHT


def drawn_text(path: Path) -> list[str]:
    """The words of an SVG, which is why text is kept as text."""
    return re.findall(r"<text[^>]*>([^<]*)</text>", path.read_text())


def test_curves_show_every_term_of_every_trained_run(study: Study) -> None:
    write_figure(study, "curves", Path("curves.svg"))
    text = drawn_text(Path("curves.svg"))
    panels = [
        "Total loss",
        "Data loss / ln K",
        "Teacher entropy / ln K",
        "Learning rate",
        "Loss of layer2",
        "Loss of layer3",
        "Loss of layer4",
    ]
    assert [word for word in text if word in panels] == panels
    assert text.count("ln K") == 2
    assert {"DINO", "SCFS"} <= set(text)
    assert "random weights" not in text
    svg = Path("curves.svg").read_text()
    assert LIGHT[0] in svg
    assert LIGHT[1] in svg


def test_a_supervised_run_has_curves_of_its_own_terms(fake: FakeResults, study: Study) -> None:
    more = {**STUDY["runs"], "labels": {"method": "supervised", "views": {"local_number": 0}}}
    with_labels = parse_study({**STUDY, "runs": more})
    fake.study = with_labels
    fake.pretrain("labels")
    write_figure(with_labels, "curves", Path("curves.svg"))
    text = drawn_text(Path("curves.svg"))
    assert {"accuracy", "labels", "Teacher entropy / ln K"} <= set(text)


def test_data_loss_is_drawn_as_a_share_of_ln_k(fake: FakeResults, study: Study) -> None:
    from scfs.report.figures.curves import _curve
    from scfs.report.results import read_result

    curve = _curve(read_result(study, "scfs", "pretrain"))
    assert curve["data_over_ln_k"][0] == pytest.approx(1.0)
    assert curve["entropy_over_ln_k"][0] == pytest.approx(0.9)
    assert _curve(read_result(study, "random", "pretrain")) == {}


def test_a_study_of_random_weights_alone_has_a_figure_that_says_so(fake: FakeResults) -> None:
    figures = {"curves": {"kind": "curves"}}
    study = parse_study({**STUDY, "runs": {"random": STUDY["runs"]["random"]}, "tables": {}, "figures": figures})
    fake.pretrain("random")
    write_figure(study, "curves", Path("curves.svg"))
    assert drawn_text(Path("curves.svg")) == ["No run of this study was trained."]


def test_layers_show_a_number_on_every_bar(study: Study) -> None:
    write_figure(study, "layers", Path("layers.svg"))
    text = drawn_text(Path("layers.svg"))
    assert {"layer2", "layer3", "layer4", "random weights", "DINO", "SCFS", "k-NN top-1 in % (k = 20)"} <= set(text)
    assert {"24.1", "26.6", "29.4", "23.0", "25.2", "24.7", "27.3", "28.8", "26.0"} <= set(text)


def test_seeds_share_a_bar_with_a_whisker(seeded: Study) -> None:
    write_figure(seeded, "layers", Path("layers.svg"))
    text = drawn_text(Path("layers.svg"))
    assert "28.3" not in text
    assert text.count("SCFS") == 1


def test_same_results_same_bytes(study: Study) -> None:
    for figure, name in (("curves", "c.svg"), ("layers", "l.svg"), ("attention", "a.png")):
        write_figure(study, figure, Path(name))
        write_figure(study, figure, Path("again") / name)
        assert Path(name).read_bytes() == (Path("again") / name).read_bytes()
    assert b"<dc:date>" not in Path("c.svg").read_bytes()
    assert "Software" not in Image.open("a.png").info


def cells(drawing: bytes, columns: int, rows: int) -> list[list[np.ndarray]]:
    """Cut the picture into its cells; inexact at the borders, so only the middles are used."""
    pixels = np.asarray(Image.open(io.BytesIO(drawing)).convert("RGB")).astype(int)
    top = round(pixels.shape[0] * 0.3 / (0.3 + rows * 1.69))
    parts = [np.array_split(band, columns, axis=1) for band in np.array_split(pixels[top:], rows)]
    return [[cell[20:-40, 20:-20] for cell in band] for band in parts]


def test_attention_has_a_row_per_image_and_a_column_per_run(study: Study) -> None:
    grid = cells(study.figures["attention"].draw(study), columns=6, rows=2)
    for view, object_, _jigsaw, random, dino, scfs in grid:
        assert np.ptp(view, axis=2).max() == 0  # a grey photograph
        assert np.ptp(object_, axis=2).max() > 100  # with a coloured outline around the object
        for overlay in (random, dino, scfs):
            assert np.ptp(overlay, axis=2).mean() > 20
        assert not np.array_equal(random, scfs)


def test_without_masks_there_is_no_object_column(fake: FakeResults, study: Study) -> None:
    with_masks = Image.open(io.BytesIO(study.figures["attention"].draw(study)))
    for run in study.runs:
        fake.maps(run, "attention", masks=False)
    without = Image.open(io.BytesIO(study.figures["attention"].draw(study)))
    assert without.width / with_masks.width == pytest.approx(5 / 6, abs=0.01)
    assert without.height == with_masks.height


def test_a_run_without_maps_is_left_out(study: Study) -> None:
    wide = Image.open(io.BytesIO(study.figures["attention"].draw(study))).width
    paths.result("random", "attention").with_suffix(".npz").unlink()
    assert Image.open(io.BytesIO(study.figures["attention"].draw(study))).width / wide == pytest.approx(5 / 6, abs=0.01)


def test_no_maps_at_all_is_an_error_that_names_a_file(study: Study) -> None:
    for run in study.runs:
        paths.result(run, "attention").with_suffix(".npz").unlink()
    with pytest.raises(
        ScfsError, match=r"results/runs/random/attention\.npz: missing: the stage attention of run random writes it"
    ):
        write_figure(study, "attention", Path("a.png"))
    assert not Path("a.png").exists()


def test_maps_of_other_images_are_refused(study: Study) -> None:
    path = paths.result("scfs", "attention").with_suffix(".npz")
    arrays = dict(np.load(path))
    np.savez(path, **{**arrays, "views": arrays["views"] + 1})
    with pytest.raises(ScfsError, match=r"scfs/attention\.npz: shows other images"):
        study.figures["attention"].draw(study)


def test_maps_of_other_weights_are_refused(study: Study) -> None:
    path = paths.result("dino", "attention")
    path.write_text(path.read_text().replace('"sha256": "', '"sha256": "f'))
    with pytest.raises(
        ScfsError, match=r"dino/attention\.json: measured on weights .*: run the stage attention of this"
    ):
        study.figures["attention"].draw(study)


def test_a_figure_of_another_kind_of_evaluation_is_refused() -> None:
    wrong = {"layers": {"kind": "layers", "evaluation": "knn"}}
    with pytest.raises(ScfsError, match=r"figures\.layers: evaluation 'knn' is of the kind knn"):
        parse_study({**STUDY, "figures": wrong})


def test_a_figure_shows_the_runs_that_it_names(study: Study) -> None:
    some = parse_study({**STUDY, "figures": {"layers": {"kind": "layers", "evaluation": "layers", "runs": ["scfs"]}}})
    write_figure(some, "layers", Path("layers.svg"))
    text = drawn_text(Path("layers.svg"))
    assert "SCFS" in text and "DINO" not in text
    assert LIGHT[1] in Path("layers.svg").read_text(), "a run keeps its colour in every figure"


SWEEP = {
    "kind": "sweep",
    "evaluation": "knn",
    "value": "top1",
    "axis": "local crops",
    "points": {"SCFS": [{"x": 2, "runs": ["dino"]}, {"x": 8, "runs": ["dino", "scfs"]}]},
}


def test_a_sweep_has_a_point_for_each_setting(study: Study) -> None:
    sweep = parse_study({**STUDY, "figures": {"fig5": SWEEP}})
    write_figure(sweep, "fig5", Path("sweep.svg"))
    text = drawn_text(Path("sweep.svg"))
    assert {"2", "8", "local crops", "SCFS", "knn top1 in %"} <= set(text)


@pytest.mark.parametrize("key", ["value", "axis", "points", "evaluation"])
def test_an_incomplete_sweep_is_refused(key: str) -> None:
    figure = {name: value for name, value in SWEEP.items() if name != key}
    with pytest.raises(ScfsError, match=r"figures\.fig5"):
        parse_study({**STUDY, "figures": {"fig5": figure}})
