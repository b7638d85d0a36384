"""torch.compile over the backbones: the same training, under an identity of its own.

Here with all of torch.compile but its code generator, which takes six minutes for the three graphs of a small ResNet
on this kind of machine and gave the same to 4e-14 of the largest number (docs/notes/performance.md).
"""

from functools import partialmethod
from pathlib import Path

import pytest
import ranks
import torch
from test_step import batch
from typer.testing import CliRunner

from scfs.cli.app import app
from scfs.config.pretrain import Pretrain
from scfs.data.sources.folders import image_folder
from scfs.errors import ScfsError
from scfs.runtime.world import World
from scfs.training import pretrain as stage
from scfs.training.loop import Pretraining

CPU = torch.device("cpu")


@pytest.mark.parametrize("backbone", ["narrow_resnet18", "narrow_vit_8"])
def test_what_is_traced_trains_as_what_is_not(backbone: str, tiny: Pretrain, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = Pretrain.model_validate(tiny.model_dump() | {"backbone": backbone})
    compiled = ranks.traced_alone(monkeypatch.setattr)
    found = []
    for compiles in (False, True):
        training = Pretraining(tiny, 4, CPU, "fp64", "", compile=compiles)
        terms = [training.train_step(batch([1, 2, 3, 4, 5, 6], step)) for step in range(2)]
        found.append([*terms, training.model.state_dict()])
    assert len(compiled) == 3  # the student's two sizes and the teacher's one, whole; no step makes more
    for one, other in zip(*found, strict=True):
        assert list(one) == list(other)
        for name, value in one.items():
            torch.testing.assert_close(value, other[name], rtol=1e-10, atol=1e-10)


@pytest.mark.end_to_end
def test_by_two_processes_as_by_one(noise_folder: Path, tmp_path: Path) -> None:
    codes, errors = ranks.end(ranks.start("compile", tmp_path, noise_folder, 2))
    assert codes == [0, 0], errors
    expected = ranks.trained("scfs", noise_folder)
    for rank in range(2):
        torch.testing.assert_close(torch.load(tmp_path / f"compile-{rank}.pt"), expected, rtol=1e-9, atol=1e-12)


def test_it_is_another_run(tiny: Pretrain, noise_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    identities: list[str] = []

    def noted(self: Pretraining, settings: Pretrain, steps: int, device: object, precision: str, name: str, *_) -> None:
        identities.append(name)
        raise ScfsError("enough")

    monkeypatch.setattr(Pretraining, "__init__", noted)
    files = {"weights": tmp_path / "w", "result": tmp_path / "r", "folder": tmp_path / "run"}
    untrained = tiny.model_copy(update={"epochs": 0})
    for settings, options in (
        *(
            (tiny, options)
            for options in ({}, {"compile": True}, {"activation_checkpointing": True}, {"side_stream": True})
        ),
        *((untrained, options) for options in ({}, {"compile": True})),
    ):
        with pytest.raises(ScfsError, match="enough"):
            stage.pretrain("tiny", settings, image_folder(noise_folder), **files, device="cpu", **options)
    plain, compile, activation_checkpointing, side_stream, random, random_compile = identities
    assert plain == activation_checkpointing == side_stream != compile
    assert random == random_compile


def test_several_processes_compile_on_gpus_alone(
    tiny: Pretrain, noise_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "find_world", lambda: World(0, 2))
    with pytest.raises(ScfsError, match="--compile by several processes needs GPUs"):
        stage.pretrain(
            "tiny", tiny, image_folder(noise_folder), weights=tmp_path, result=tmp_path, device="cpu", compile=True
        )


def test_not_together_with_recompute(noise_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["pretrain", str(noise_folder), "--activation-checkpointing", "--compile"])
    assert (
        str(done.exception)
        == "pretrain: --activation-checkpointing and --compile do not go together; allowed: one of them"
    )
    assert not list(tmp_path.iterdir())


def test_a_failing_compiler_is_one_line(
    tiny: Pretrain, noise_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> None:
        raise RuntimeError("no compiler here\nand more")

    monkeypatch.setattr(torch.nn.Module, "compile", partialmethod(torch.nn.Module.compile, backend=failing))
    files = {"weights": tmp_path / "w", "result": tmp_path / "r", "folder": tmp_path / "run"}
    with pytest.raises(
        ScfsError, match=r"--compile: torch.compile fails: RuntimeError: no compiler here; allowed: without"
    ):
        stage.pretrain("tiny", tiny, image_folder(noise_folder), **files, device="cpu", compile=True)
    assert not files["weights"].exists() and not files["result"].exists()
