"""`scfs evaluate WEIGHTS`: own labels, beside random and public weights and the most frequent class."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_encoder import make_weights

import scfs
from scfs.cli import app
from scfs.errors import ScfsError
from scfs.evaluation.during_training import HELD_OUT
from scfs.weights import catalogue

COLOURS = {"blue": 2, "red": 0}


def write(folder: Path, numbers: dict[str, int], seed: int = 0) -> Path:
    """Noise with more of one colour; half of those called red are as blue as the others."""
    random = np.random.default_rng(seed)
    for name, number in numbers.items():
        (folder / name).mkdir(parents=True)
        for index in range(number):
            pixels = random.integers(0, 100, (40, 40, 3), np.uint8)
            pixels[..., COLOURS.get(name, 1) if index % 2 or name == "blue" else 2] += 150
            Image.fromarray(pixels).save(folder / name / f"{index:02}.png")
    return folder


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return str(make_weights(tmp_path / "mine.safetensors"))


def evaluate(weights: str, *options: str) -> None:
    app(["evaluate", weights, *options, "--threads", "1", "--workers", "0"], standalone_mode=False)


def test_numbers_are_those_of_a_plain_computation_and_stand_beside_what_they_are_worth(
    weights: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train, test = (
        write(tmp_path / "train", {"blue": 20, "red": 16}),
        write(tmp_path / "test", {"blue": 6, "red": 10}, 1),
    )
    evaluate(weights, "--train", str(train), "--test", str(test), "--out", "result")
    record = json.loads(Path("result.json").read_text())
    model = scfs.load(weights)
    features, labels = [], []
    for folder in (train, test):
        files = sorted(folder.rglob("*.png"))
        features.append(model(torch.stack([model.transform(file) for file in files])).numpy())
        labels.append([file.parent.name for file in files])
    unit = [one.astype(np.float64) / np.linalg.norm(one.astype(np.float64), axis=1, keepdims=True) for one in features]
    similarity = unit[1] @ unit[0].T
    nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :20]
    weight = np.exp(np.take_along_axis(similarity, nearest, 1) / 0.07)
    red = np.array(labels[0])[nearest] == "red"
    said = np.where((weight * red).sum(1) > (weight * ~red).sum(1), "red", "blue")
    assert record["rows"][0]["knn"] == pytest.approx(100 * (said == labels[1]).mean())
    expected = [[sum((said == b) & (np.array(labels[1]) == a)) for b in ("blue", "red")] for a in ("blue", "red")]
    assert record["confusion"] == np.array(expected).tolist()
    assert record["majority"] == 37.5 and record["classes"] == ["blue", "red"]
    assert [row["name"] for row in record["rows"]] == ["mine, trained by scfs", "random weights"]
    page = Path("result.html").read_text()
    assert "Always the most" in page and "37.5 %" in page and "src=" not in page and "href=" not in page
    assert "random weights" in capsys.readouterr().out


def test_a_tenth_is_held_out_of_one_folder(weights: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "photos", {"blue": 40, "red": 40})
    evaluate(weights, "--train", str(folder))
    record = json.loads(Path("mine-evaluation.json").read_text())
    numbers = [record["splits"][split]["images"] for split in ("train", "test")]
    assert scfs.evaluate(weights, folder) == record
    assert sum(numbers) == 80 and numbers[1] == pytest.approx(80 / HELD_OUT, abs=6)


def test_public_weights_at_hand_stand_beside(weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = next(entry for entry in catalogue.catalogue().values() if entry.format == "torchvision")
    known = entry.model_copy(update={"backbone": "resnet18", "file": "them.pth", "sha256": "unknown", "size": None})
    monkeypatch.setattr("scfs.evaluation.own_labels.catalogue", lambda: {"them": known})
    monkeypatch.setattr(catalogue, "catalogue", lambda: {"them": known})
    from torchvision.models import resnet18

    Path("weights/downloads").mkdir(parents=True)
    torch.save(resnet18().state_dict(), "weights/downloads/them.pth")
    folder = write(tmp_path / "photos", {"blue": 30, "red": 30})
    evaluate(str(make_weights(tmp_path / "r18", "resnet18")), "--train", str(folder))
    names = [row["name"] for row in json.loads(Path("r18-evaluation.json").read_text())["rows"]]
    assert names[:2] == ["mine, trained by scfs", "random weights"] and names[2].startswith("them (")


@pytest.mark.parametrize(
    ("train", "test", "line"),
    [
        ({"": 3}, None, "no class sub-folders, and labels are needed here"),
        ({"blue": 30}, None, "a single class, 'blue'"),
        ({"blue": 1, "red": 1}, None, "2 images, too few to hold a tenth out"),
        ({"blue": 5, "red": 5}, {"": 3}, "no class sub-folders, and labels are needed here"),
    ],
)
def test_bad_input(weights: str, tmp_path: Path, train: dict[str, int], test: dict[str, int] | None, line: str) -> None:
    options = ["--train", str(write(tmp_path / "train", train))]
    if test:
        options += ["--test", str(write(tmp_path / "test", test))]
    with pytest.raises(ScfsError, match=line):
        evaluate(weights, *options)
    assert not list(tmp_path.glob("*evaluation*"))


def test_a_class_that_train_lacks_is_said_and_one_that_test_lacks_has_no_number(
    weights: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train, test = write(tmp_path / "train", {"blue": 9, "red": 9}), write(tmp_path / "test", {"red": 4, "white": 2})
    evaluate(weights, "--train", str(train), "--test", str(test))
    assert "2 images of split test have labels that split train lacks" in capsys.readouterr().err
    assert "<td>–</td>" in Path("mine-evaluation.html").read_text()


def test_the_study_and_own_weights_do_not_mix(weights: str, tmp_path: Path) -> None:
    with pytest.raises(ScfsError, match=r"give --train DIR \(labelled images\), or --run RUN of the study"):
        evaluate(weights)
    with pytest.raises(ScfsError, match="options for WEIGHTS do not apply"):
        app(["evaluate", "knn", "--run", "small", "--train", "x"], standalone_mode=False)
