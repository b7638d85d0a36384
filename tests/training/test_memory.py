"""Memory of a step: hand-made sums, what a real step keeps on the CPU, and out of memory in one line."""

from pathlib import Path

import pytest
import torch

from scfs.config.pretrain import Pretrain
from scfs.data.sources.folders import image_folder
from scfs.errors import ScfsError
from scfs.model.methods import Crops, build_method
from scfs.training import memory, pretrain
from scfs.training.memory import StepMemory, step_memory


def whole(tiny: Pretrain, **values: object) -> Pretrain:
    return Pretrain.model_validate({**tiny.model_dump(mode="json"), "precision": "fp32", **values})


def test_states_are_those_of_the_parameters(tiny: Pretrain) -> None:
    model = build_method(tiny)
    student = sum(value.nbytes for value in model.student.state_dict().values())
    trained = sum(p.nbytes for p in model.student.parameters() if p.requires_grad)
    found = step_memory(whole(tiny))
    centres = sum(value.nbytes for name, value in model.state_dict().items() if "center" in name)
    assert (found.weights, found.teacher, found.optimizer) == (student, student + centres, 2 * trained)
    assert found.heads == student - sum(value.nbytes for value in model.student.backbone.state_dict().values())
    assert found.of(3) == found.weights + found.teacher + found.optimizer + 3 * found.activations
    recomputed, half = step_memory(whole(tiny), checkpointing=True), step_memory(whole(tiny, precision="bf16"))
    assert 0 < recomputed.activations < found.activations and recomputed.optimizer == found.optimizer
    assert half.activations == pytest.approx(memory.HALF * found.activations, rel=0.01)


def test_the_peak_is_of_tensors_that_live_at_once() -> None:
    x, weight = torch.ones(10, 4), torch.ones(4, 4)
    with memory._Peak([x, weight]) as counted:
        y = x @ weight  # 160 bytes
        z = (y + 1).sum()  # 160 for a moment, and 4
        del y
        views = [x[:2], z[None]]  # none of their own
        z.add_(1)
    assert (counted.peak, counted.live) == (324, 4) and views


def test_activations_are_about_those_of_a_real_step(tiny: Pretrain) -> None:
    settings, images = whole(tiny, method="dino"), 16
    model, views = build_method(settings).train(), settings.views
    crops = [torch.rand(n * images, 3, side, side) for n, side in ((2, views.global_size), (2, views.local_size))]
    with memory._Peak(model.state_dict().values()) as counted:
        crops = [crop.clone() for crop in crops]
        model(Crops(*crops), 0.04)["loss"].backward()
    # On the CPU scfs/model/ops lays out the patches of narrow convolutions, which a GPU's do not: 1.4 times as much.
    assert 1 < counted.peak / images / step_memory(settings).activations < 1.6


def test_the_largest_part_divides_the_batch_and_leaves_room() -> None:
    found = StepMemory(weights=10, heads=5, teacher=10, optimizer=20, activations=10)
    assert [found.largest_part(12, size / memory.USABLE) for size in (49, 51, 79.9, 80.1, 101, 1000)] == [
        0,
        1,
        3,
        4,
        6,
        12,
    ]
    assert found.largest_part(12, 80.1 / memory.USABLE, processes=3) == 12


def test_out_of_memory_is_one_line_that_says_what_fits(
    tiny: Pretrain, noise_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a GPU would say it; no GPU has."""

    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(pretrain, "train", full)
    fits = step_memory(whole(tiny)).of(3)
    monkeypatch.setattr(pretrain, "device_memory", lambda device: fits / memory.USABLE + 1)
    files = {"weights": tmp_path / "w", "result": tmp_path / "r.json", "folder": tmp_path / "run"}
    with pytest.raises(ScfsError, match=r"^tiny: out of memory: .* of the batch's 6 images 3 fit at a time") as caught:
        pretrain.pretrain("tiny", tiny, image_folder(noise_folder), **files, device="cpu")
    assert "accumulate=N" in str(caught.value) and "--activation-checkpointing" in str(caught.value)
    assert "\n" not in str(caught.value)
