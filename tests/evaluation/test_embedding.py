"""`scfs embed`: features of a folder in a file, equal to a model's own, in shares, and resumed."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from test_encoder import make_weights

import scfs
from scfs.cli import app
from scfs.errors import ScfsError
from scfs.evaluation import embedding, features


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return make_weights(tmp_path / "weights.safetensors")


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Eleven images in blocks of four, which forward passes see together."""
    for module, name in ((embedding, "BLOCK"), (features, "FORWARD_BATCH")):
        monkeypatch.setattr(module, name, 4)
    (tmp_path / "photos").mkdir()
    for number in range(11):
        pixels = np.random.default_rng(number).integers(0, 255, (50, 60 + number, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"photos/{number:02}.png")
    return tmp_path / "photos"


def values(table: object, layer: str = "feature") -> np.ndarray:
    return np.stack(table[layer].combine_chunks().to_numpy(zero_copy_only=False))  # type: ignore[index]


def test_features_are_the_models(weights: Path, photos: Path, tmp_path: Path) -> None:
    scfs.embed(weights, photos, tmp_path / "f.parquet", layers=["feature", "layer2"])
    table = pq.read_table(tmp_path / "f.parquet")
    assert table.column_names == ["path", "feature", "layer2"]
    assert table["path"].to_pylist() == [f"{number:02}.png" for number in range(11)]
    model = scfs.load(weights)
    images = torch.stack([model.transform(photos / name) for name in table["path"].to_pylist()])
    np.testing.assert_allclose(values(table), model(images).numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        values(table, "layer2"), model.layers(images)["layer2"].mean((2, 3)), rtol=1e-4, atol=1e-5
    )
    assert scfs.embed(weights, photos, layers=["feature", "layer2"]).equals(table)
    assert not list(tmp_path.glob(".*"))


def test_npy_has_the_same_numbers_and_the_paths_beside(weights: Path, photos: Path, tmp_path: Path) -> None:
    scfs.embed(weights, photos, tmp_path / "f.npy")
    assert np.array_equal(np.load(tmp_path / "f.npy"), values(scfs.embed(weights, photos)))
    assert '"00.png"' in (tmp_path / "f.json").read_text()


def test_shares_are_all_of_them_once(weights: Path, photos: Path) -> None:
    tables = [scfs.embed(weights, photos, share=(i, 3)) for i in (1, 2, 3)]
    assert [len(table) for table in tables] == [4, 4, 3]
    whole = scfs.embed(weights, photos)
    assert [path for table in tables for path in table["path"].to_pylist()] == whole["path"].to_pylist()
    np.testing.assert_allclose(np.concatenate([values(table) for table in tables]), values(whole), rtol=1e-4, atol=1e-5)


def test_it_goes_on_where_it_was_stopped(
    weights: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, whole, computed = tmp_path / "f.parquet", scfs.embed(weights, photos), []
    own = embedding.own_features

    def stopped(*arguments: object) -> object:
        for number, block in enumerate(own(*arguments)):
            if number == 2:
                raise KeyboardInterrupt
            yield block

    monkeypatch.setattr(embedding, "own_features", stopped)
    with pytest.raises(KeyboardInterrupt):
        scfs.embed(weights, photos, out)
    assert not out.exists()
    monkeypatch.setattr(embedding, "own_features", lambda *a: (computed.append(0) or block for block in own(*a)))
    scfs.embed(weights, photos, out)
    assert len(computed) == 1 and "2 of 3 blocks" in capsys.readouterr().err
    assert pq.read_table(out).equals(whole)
    # Blocks of another command, or of other images, are not taken.
    monkeypatch.setattr(embedding, "own_features", stopped)
    with pytest.raises(KeyboardInterrupt):
        scfs.embed(weights, photos, out, size=32)
    monkeypatch.setattr(embedding, "own_features", own)
    scfs.embed(weights, photos, out)
    assert pq.read_table(out).equals(whole)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"out": "f.csv"}, "f.csv: allowed are .parquet and .npy; .npy holds one layer"),
        (
            {"out": "f.npy", "layers": ["layer2", "layer3"]},
            "f.npy: allowed are .parquet and .npy; .npy holds one layer",
        ),
        ({"layers": ["layer7"]}, "layer 'layer7': not among feature, layer1, layer2"),
        ({"share": (4, 3)}, "share 4/3: allowed are 1/3 to 3/3"),
        ({"folder": "nowhere"}, "nowhere: no such folder"),
        ({"weights": "none.safetensors"}, "none.safetensors: no such weights file"),
    ],
)
def test_bad_input(weights: Path, photos: Path, arguments: dict[str, object], line: str) -> None:
    with pytest.raises(ScfsError) as error:
        scfs.embed(**{"weights": weights, "folder": photos, **arguments})  # type: ignore[arg-type]
    assert str(error.value).startswith(line)


def test_the_command(weights: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    out = str(tmp_path / "f.parquet")
    app(
        ["embed", str(weights), str(photos), "--out", out, "--layer", "layer3", "--threads", "1"], standalone_mode=False
    )
    assert pq.read_table(out).column_names == ["path", "layer3"]
    with pytest.raises(ScfsError, match="--share 2: allowed are 1/N to N/N"):
        app(["embed", str(weights), str(photos), "--out", out, "--share", "2"], standalone_mode=False)
