"""The stages of fine-tuning from files to files: grid, choice, final training, refusals."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tuned import small

from scfs import paths
from scfs.config.finetune import FineTune
from scfs.data.opening import open_split
from scfs.errors import ScfsError
from scfs.evaluation.finetune import job, stage
from scfs.evaluation.finetune.crops import CropBatches
from scfs.io.results import sha256_of

GRID: dict[str, Any] = {"lr": [0.05, 0.2], "weight_decay": [0.0, 0.001], "validation": 0.3}
DIVERGING = 1e38

Files = tuple[Path, Path]


@pytest.fixture
def files(workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    """Weights and manifest, for a current folder of its own."""
    monkeypatch.chdir(tmp_path)
    return workplace / paths.weights("toy"), workplace / paths.manifest("colours")


def tune(protocol: FineTune, files: Files, part: str, **options: Any) -> dict[str, Any]:
    out = Path(f"{part}.json")
    stage.finetune(protocol, "transfer", "toy", *files, out, part=part, **{"threads": 1, "device": "cpu", **options})
    result: dict[str, Any] = json.loads(out.read_text())
    return result


def finish(protocol: FineTune, files: Files, **options: Any) -> dict[str, Any]:
    parts = [Path(f"{part}.json") for part in protocol.parts]
    out = Path("result.json")
    stage.finetune(protocol, "transfer", "toy", *files, out, parts=parts, **{"threads": 1, "device": "cpu", **options})
    result: dict[str, Any] = json.loads(out.read_text())
    return result


def test_a_grid_from_cells_to_the_result(files: Files, capfd: pytest.CaptureFixture[str]) -> None:
    protocol = small(**GRID)
    cells = {part: tune(protocol, files, part) for part in protocol.parts}
    train, val = (open_split(files[1], split) for split in ("train", "val"))
    common = {
        "run": "toy",
        "evaluation": "finetune",
        "protocol": protocol.model_dump(mode="json"),
        "weights": {"sha256": sha256_of(files[0]), "identity": "0123456789abcdef"},
        "settings": {"backbone": "narrow_resnet18", "seed": 0},
        "labelled": {"images": 42, "digest": train.digest, "validation": 12},
        "stage_version": 1,
        "torch_threads": 1,
        "precision": "fp32",
        "dataset": {
            "name": "colours",
            "splits": {images.split: {"images": len(images), "digest": images.digest} for images in (train, val)},
        },
    }
    for (part, cell), (lr, weight_decay) in zip(cells.items(), protocol.grid.values(), strict=True):
        values = cell.pop("values")
        assert cell == {**common, "part": part, "lr": lr, "weight_decay": weight_decay}
        assert values["top5"] == 100 and values["top1"] == values["mean_per_class"]  # 3 equal classes
        assert values["top1"] * 12 / 100 == pytest.approx(round(values["top1"] * 12 / 100))
        cell["values"] = values
    said = capfd.readouterr().err
    assert "30 images of 3 classes, batch 12, 6 steps = 2.4 passes, peak lr 0.00234375, weight decay 0.02" in said

    result = finish(protocol, files)
    values, chosen, shown = result.pop("values"), result.pop("chosen"), result.pop("cells")
    assert result == common
    assert set(values) == {"top1", "top5", "mean_per_class"}
    assert shown == {
        part: {"lr": c["lr"], "weight_decay": c["weight_decay"], **c["values"]} for part, c in cells.items()
    }
    best = max(cells.values(), key=lambda cell: (cell["values"]["top1"], -cell["lr"], -cell["weight_decay"]))
    assert chosen == {"lr": best["lr"], "weight_decay": best["weight_decay"]}
    said = capfd.readouterr().err
    assert "final: 42 images of 3 classes, batch 12, 6 steps = 1.7 passes" in said
    assert f"warning: the chosen lr = {chosen['lr']:g} is at the edge of the grid [0.05, 0.2]" in said
    occasion = json.loads(Path("result.run.json").read_text())
    assert (occasion["device"], occasion["processes"], occasion["workers"]) == ("cpu", 1, 0)


def test_repetition_gives_the_same_bytes(files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    protocol = small(**{**GRID, "weight_decay": [0.0], "precision": "auto"}, labels={"share": 0.6})
    for workers in (0, 1):
        (tmp_path / str(workers)).mkdir()
        monkeypatch.chdir(tmp_path / str(workers))
        for part in protocol.parts:
            tune(protocol, files, part, workers=workers)
        finish(protocol, files, workers=workers)
    for name in ("lr0-wd0.json", "lr1-wd0.json", "result.json"):
        assert (tmp_path / "0" / name).read_bytes() == (tmp_path / "1" / name).read_bytes()


def test_a_finished_training_leaves_its_outcome_and_no_state(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    protocol = small(lr=[0.1, 0.2])
    tune(protocol, files, "lr0-wd0")
    before = Path("lr0-wd0.json").read_bytes()
    (folder,) = Path("runs").iterdir()
    assert folder.name.startswith("toy-transfer-lr0-wd0-") and {p.name for p in folder.iterdir()} == {
        "lock",
        "outcome.json",
    }
    monkeypatch.setattr(job, "FineTuning", None)
    tune(protocol, files, "lr0-wd0")
    assert Path("lr0-wd0.json").read_bytes() == before
    tune(small(lr=[0.1, 0.3, 0.4], metric="mean_per_class"), files, "lr0-wd0")  # the rest of the grid does not matter
    for other in ({"seed": 1}, {"steps": 7}, {"scale": [0.1, 1.0]}, {"validation": 0.2}, {"labels": {"share": 0.9}}):
        with pytest.raises(TypeError, match="NoneType"):
            tune(small(lr=[0.1, 0.2], **other), files, "lr0-wd0")


def test_checkpoints_of_another_training_are_refused_with_what_differs(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "run_folder", lambda name, identity: Path("runs/mine"))
    get = CropBatches.__getitem__

    def then_terminate(self: CropBatches, index: int) -> Any:
        signal.raise_signal(signal.SIGTERM)
        return get(self, index)

    with monkeypatch.context() as patch, pytest.raises(ScfsError, match="stopped by SIGTERM at step 1 of 6"):
        patch.setattr(CropBatches, "__getitem__", then_terminate)
        tune(small(lr=[0.1, 0.2]), files, "lr0-wd0")
    differing = (
        r"made with lr = 0\.1 and not 0\.3, protocol\.seed = 0 and not 1, .*; go back to the old values, or remove"
    )
    with pytest.raises(ScfsError, match=differing):
        tune(small(lr=[0.3, 0.2], seed=1), files, "lr0-wd0")


def test_what_can_be_learnt_is_learnt_and_the_better_rate_chosen(
    files: Files, capfd: pytest.CaptureFixture[str]
) -> None:
    protocol = small(lr=[1e-6, 0.3, DIVERGING], steps=24, validation=0.3, scale=[0.5, 1.0])
    for part in protocol.parts:
        tune(protocol, files, part)
    result = finish(protocol, files)
    assert result["chosen"] == {"lr": 0.3, "weight_decay": 0.0} and result["values"]["top1"] >= 90
    assert result["cells"]["lr1-wd0"]["top1"] >= 90 > result["cells"]["lr0-wd0"]["top1"]
    assert "at the edge" not in capfd.readouterr().err


def test_a_cell_that_diverges_is_a_result(files: Files, capfd: pytest.CaptureFixture[str]) -> None:
    protocol = small(lr=[DIVERGING, 0.01])
    cell = tune(protocol, files, "lr0-wd0")
    assert cell["values"] == {} and cell["diverged"]["step"] == 1 and cell["diverged"]["loss"] in ("nan", "inf")
    assert 0 < cell["diverged"]["lr"] < DIVERGING * 12 / 256
    assert "toy, transfer, lr0-wd0: training diverged at step 1: loss " in capfd.readouterr().err
    tune(protocol, files, "lr1-wd0")
    result = finish(protocol, files)
    assert result["chosen"]["lr"] == 0.01
    assert result["cells"]["lr0-wd0"] == {"lr": DIVERGING, "weight_decay": 0.0, "diverged": cell["diverged"]}


def test_where_all_diverge_there_is_no_result(files: Files) -> None:
    protocol = small(lr=[DIVERGING, 2e38])
    for part in protocol.parts:
        tune(protocol, files, part)
    with pytest.raises(ScfsError, match=r"lr = \[1e\+38, 2e\+38\]: all 2 trainings of the grid diverged: give lower"):
        finish(protocol, files)
    line = (
        r"toy, transfer: the final training, lr 1e\+38, weight decay 0, diverged at step 1: loss (nan|inf): give lower"
    )
    for _ in range(2):  # its outcome is kept, too
        with pytest.raises(ScfsError, match=line):
            finish(small(lr=[DIVERGING]), files)
    assert not Path("result.json").exists()


def cell(lr: float, weight_decay: float, top1: float, mean_per_class: float = 0.0) -> dict[str, float]:
    return {"lr": lr, "weight_decay": weight_decay, "top1": top1, "top5": 100.0, "mean_per_class": mean_per_class}


@pytest.mark.parametrize(
    ("cells", "metric", "chosen", "edges"),
    [
        ([(1, 0, 50), (2, 0, 60), (3, 0, 55)], "top1", (2, 0), []),
        ([(3, 0, 60), (2, 1, 60), (2, 0.5, 60)], "top1", (2, 0.5), []),  # of equals the lower rate, then decay
        ([(1, 0, 50, 9), (2, 0, 60, 8), (3, 0, 55, 7)], "mean_per_class", (1, 0), ["lr = 1"]),
        ([(3, 1, 60)], "top1", (3, 1), ["lr = 3", "weight_decay = 1"]),
        ([(2, 1, 60), (2, 0, 50)], "top1", (2, 1), ["weight_decay = 1"]),
        ([(2, 0, 60)], "top1", (2, 0), []),  # nothing lies below no decay
    ],
)
def test_choice(
    cells: list[tuple[float, ...]],
    metric: str,
    chosen: tuple[float, float],
    edges: list[str],
    capfd: pytest.CaptureFixture[str],
) -> None:
    protocol = small(lr=[1, 2, 3], weight_decay=[0, 0.5, 1], metric=metric)
    diverged = {"lr": 0.5, "weight_decay": 0.0, "diverged": {}}
    assert stage.choose(protocol, {str(i): cell(*c) for i, c in enumerate(cells)} | {"d": diverged}) == chosen
    warnings = [line for line in capfd.readouterr().err.splitlines() if line.startswith("warning")]
    assert len(warnings) == len(edges)
    for line, edge in zip(warnings, edges, strict=True):
        assert f"the chosen {edge} is at the edge of the grid" in line


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda found: found["protocol"].update(steps=7), r"of protocol.steps = 7, but here it is 6: run the stage tune of"),
        (lambda found: found["weights"].update(sha256="0"), r"of weights.sha256 = '0', but here it is '\w+'"),
        (lambda found: found["labelled"].update(digest="0"), r"of labelled.digest = '0', but here"),
        (lambda found: found["dataset"]["splits"]["val"].update(digest="0"), r"of dataset.splits.val.digest = '0', but"),
        (lambda found: found.update(part="lr0-wd0"), r"of part = 'lr0-wd0', but here it is 'lr1-wd0'"),
        (lambda found: found.update(stage_version=0), r"of stage_version = 0, but here it is 1"),
        (lambda found: found.update(run="other"), r"of run = 'other'"),
        (lambda found: found.clear(), r"of run = None"),
    ],
)  # fmt: skip
def test_cells_of_something_else_are_refused(
    files: Files, monkeypatch: pytest.MonkeyPatch, change: Callable[[dict[str, Any]], None], line: str
) -> None:
    monkeypatch.setattr(job.FineTuning, "run", lambda *_: None)
    protocol = small(lr=[0.1, 0.2])
    cells = [tune(protocol, files, part) for part in protocol.parts]
    change(cells[1])
    Path("lr1-wd0.json").write_text(json.dumps(cells[1]))
    with pytest.raises(ScfsError, match=rf"^lr1-wd0\.json: {line}"):
        finish(protocol, files)
    assert not Path("result.json").exists()


def test_bad_input_is_one_line_and_leaves_nothing(files: Files, tmp_path: Path) -> None:
    grid = small(lr=[0.1, 0.2])
    with pytest.raises(ScfsError, match=r"lr0-wd0\.json: missing: the stage tune of lr0-wd0 writes it"):
        finish(grid, files)
    for text, line in (
        ("{", "not a readable JSON file: "),
        ("[]", "not a result of the stage tune of lr0-wd0: a JSON"),
    ):
        Path("lr0-wd0.json").write_text(text)
        with pytest.raises(ScfsError, match=rf"lr0-wd0\.json: {line}"):
            finish(grid, files)
    Path("lr0-wd0.json").unlink()
    for protocol, part, line in (
        (grid, "lr2-wd0", r"transfer: grid point 'lr2-wd0': not among lr0-wd0, lr1-wd0$"),
        (small(), "lr0-wd0", r"transfer: grid point 'lr0-wd0': there is no grid"),
        (small(lr=[0.1, 0.2], weights="student"), "lr0-wd0", r"toy\.safetensors: holds no tensors named student"),
        (small(lr=[0.1, 0.2], train="absent"), "lr0-wd0", r"split = 'absent': not among"),
        (small(lr=[0.1, 0.2], precision="bf16", crop=16), "lr0-wd0", r"precision = bf16 with crops of 16 pixels"),
    ):
        with pytest.raises(ScfsError, match=line):
            tune(protocol, files, part)
    with pytest.raises(ScfsError, match=r"nowhere: no such weights file"):
        finish(small(), (Path("nowhere"), files[1]))
    with pytest.raises(ScfsError, match=r"gpu: not among auto, cpu, cuda"):
        finish(small(), files, device="gpu")
    assert not list(tmp_path.rglob("*.json"))
