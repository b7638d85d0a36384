"""torch.compile over the backbones: the same training, under an identity of its own."""

from functools import partial

import pytest
import torch
from test_step import crops

from scfs.config.pretrain import Pretrain
from scfs.data.folders import image_folder
from scfs.errors import ScfsError
from scfs.training import pretrain as stage
from scfs.training.loop import Training
from scfs.views.loader import Batch


def test_what_is_traced_trains_as_what_is_not(tiny: Pretrain, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of torch.compile but its code generator, which needs a compiler and minutes."""
    compile_module = torch.nn.Module.compile
    calls: list[str] = []

    def traced(module: torch.nn.Module, **options: object) -> None:
        calls.append(type(module).__name__)
        compile_module(module, backend="aot_eager", **options)

    monkeypatch.setattr(torch.nn.Module, "compile", traced)
    views, rows = tiny.views, torch.arange(6)
    batch = Batch(0, rows, crops(rows, 2, views.global_size), crops(rows, 2, views.local_size))
    found = []
    for compiled in (False, True):
        training = Training(tiny, 4, torch.device("cpu"), "fp64", "", compiled=compiled)
        terms = [training.train_step(batch) for _ in range(2)]
        found.append((terms, training.model.state_dict()))
    assert calls == ["Backbone", "Backbone"]  # the student's and the teacher's
    (terms, state), (other_terms, other_state) = found
    assert list(state) == list(other_state)
    close = partial(torch.testing.assert_close, rtol=1e-10, atol=1e-10)
    for one, other in zip([*terms, state], [*other_terms, other_state], strict=True):
        for name, value in one.items():
            close(value, other[name])


def test_it_is_another_run_and_no_recomputing_one(tiny, noise_folder, tmp_path, monkeypatch) -> None:
    identities: list[str] = []

    def noted(
        self: Training, settings: Pretrain, steps: int, device: object, precision: str, identity: str, *_
    ) -> None:
        identities.append(identity)
        raise ScfsError("enough")

    monkeypatch.setattr(Training, "__init__", noted)
    run = partial(
        stage.pretrain, "tiny", tiny, image_folder(noise_folder), weights=tmp_path / "w", result=tmp_path / "r"
    )
    for options in ({}, {"compiled": True}, {"recompute": True}):
        with pytest.raises(ScfsError, match="enough"):
            run(folder=tmp_path / "run", device="cpu", **options)
    plain, compiled, recompute = identities
    assert plain == recompute != compiled
    with pytest.raises(ScfsError, match="--recompute and --compile cannot be combined"):
        run(folder=tmp_path / "run", device="cpu", compiled=True, recompute=True)
