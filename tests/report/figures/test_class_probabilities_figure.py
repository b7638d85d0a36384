import io
from pathlib import Path

import numpy as np
import pytest
from fake_results import STUDY, FakeResults
from PIL import Image

from scfs import paths
from scfs.config.study import Study, parse_study
from scfs.errors import ScfsError
from scfs.report import figures
from scfs.report.plot_styles import LIGHT


def arrays(true: str = "shirt", number: int = 2) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {
        "rows": np.arange(number),
        "views": random.integers(0, 256, (number, 48, 48, 3), dtype=np.uint8),
        "crops": random.integers(0, 256, (number, 16, 16, 3), dtype=np.uint8),
        "attention": random.random((number, 3, 3), dtype=np.float32),
        "top_classes": np.array([[["shirt", "coat", "bag"]] * 3] * number),
        "top_probabilities": np.array([[[0.7, 0.2, 0.1]] * 3] * number, np.float32),
        "true_classes": np.array([true] * number),
    }


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.chdir(tmp_path)
    runs = {"scfs": {}, "labels": {"method": "supervised"}}
    shown = {"fig1": {"kind": "class_probabilities", "evaluation": "fig1", "runs": ["labels"]}}
    evaluate = {"fig1": {"kind": "class_probabilities", "dataset": "scenes"}}
    made = parse_study({**STUDY, "runs": runs, "evaluate": evaluate, "tables": {}, "figures": shown})
    fake = FakeResults(made)
    fake.pretrain("labels")
    fake.evaluation("labels", "fig1", {"top1_original": 90.0})
    np.savez(paths.result("labels", "fig1").with_suffix(".npz"), **arrays())
    return made


def test_same_results_same_bytes(study: Study) -> None:
    for name in ("a.png", "b.png"):
        figures.write_figure(study, "fig1", Path(name))
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()
    assert "Software" not in Image.open("a.png").info


def blue(drawing: bytes) -> int:
    """Pixels in the colour of the image's own class."""
    pixels = np.asarray(Image.open(io.BytesIO(drawing)).convert("RGB")).astype(int)
    own = np.array([int(LIGHT[0][i : i + 2], 16) for i in (1, 3, 5)])
    return int((np.abs(pixels - own).max(2) < 3).sum())


def test_a_row_per_image_and_the_own_class_in_colour(study: Study) -> None:
    two = study.figures["fig1"].draw(study)
    path = paths.result("labels", "fig1").with_suffix(".npz")
    np.savez(path, **arrays(number=4))
    four = study.figures["fig1"].draw(study)
    assert Image.open(io.BytesIO(four)).height > 1.8 * Image.open(io.BytesIO(two)).height
    assert blue(four) > 1.8 * blue(two) > 0
    np.savez(path, **arrays(true="bag"))  # a seventh of the length
    assert 0.1 < blue(study.figures["fig1"].draw(study)) / blue(two) < 0.2


def test_no_arrays_or_those_of_other_weights_are_errors(study: Study) -> None:
    path = paths.result("labels", "fig1")
    before = path.read_text()
    path.write_text(before.replace('"sha256": "', '"sha256": "f'))
    with pytest.raises(ScfsError, match=r"labels/fig1\.json: measured on weights .*: run the stage class_prob"):
        study.figures["fig1"].draw(study)
    path.write_text(before)
    path.with_suffix(".npz").unlink()
    with pytest.raises(
        ScfsError, match=r"labels/fig1\.npz: missing: the stage class_probabilities of run labels writes it"
    ):
        study.figures["fig1"].draw(study)
