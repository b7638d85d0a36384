"""Signs without labels: their definitions, the alarm's rule, and that a training is the same with and without them."""

import json
import math
from pathlib import Path

import pytest
import torch
from test_resume import train

from scfs.config.pretrain import Pretrain
from scfs.training import signs
from scfs.training.metrics import is_recorded

LN_K = math.log(64)


def test_effective_rank_is_its_definition() -> None:
    generator = torch.Generator().manual_seed(0)
    for shape in ((20, 7), (7, 20)):
        features = torch.randn(shape, generator=generator)
        values = torch.linalg.svdvals(features.double())
        shares = values / values.sum() + 1e-7
        assert signs.effective_rank(features) == pytest.approx(float((-(shares * shares.log()).sum()).exp()), rel=1e-6)
    assert signs.effective_rank(torch.eye(8)[[0, 1, 2, 2]]) == pytest.approx(2.96, abs=0.02)
    assert signs.effective_rank(torch.ones(9, 4)) == pytest.approx(1, abs=1e-3)
    assert signs.effective_rank(torch.zeros(9, 4)) == pytest.approx(1, abs=1e-3)


def test_feature_deviation_is_1_if_features_point_everywhere_and_0_if_all_are_one() -> None:
    features = torch.randn(4000, 16, generator=torch.Generator().manual_seed(0))
    assert signs.feature_deviation(features) == pytest.approx(1, abs=0.01)
    assert signs.feature_deviation(features[:1].expand(50, 16)) == pytest.approx(0, abs=1e-6)


def test_recorded_steps_follow_from_the_step_alone() -> None:
    recorded = [step for step in range(100) if is_recorded(step, 47)]
    assert recorded == [19, 39, 46, 66, 86, 93]


def test_every_measurement_takes_as_many_crops() -> None:
    """Else the rank would rise and fall with their number."""
    for images, parts, expected in ((32, 1, 256), (12, 2, 264), (4, 1, 160), (512, 1, 1024)):
        found = signs.Signs(47, images, parts)
        sizes = []
        for step in range(100):
            for _ in range(parts):
                found.observe(torch.eye(2 * images // parts), torch.ones(2 * images // parts, 4) / 4)
            if is_recorded(step, 47):
                sizes.append(sum(map(len, found.state_dict()["_features"])))
        assert set(sizes) == {expected}, (images, sizes)


def run(loss: float, mean: float, single: float, rank: float) -> list[tuple[int, dict[str, float]]]:
    """Scalars of 1000 steps; the three entropies as fractions of ln K; the rank was 10 at the start."""
    values = {"loss_data": loss * LN_K, "entropy_of_mean": mean * LN_K, "teacher_entropy": single * LN_K, "rank": rank}
    return [(step, {**values, "rank": rank if step > 19 else 10.0}) for step in range(19, 1000, 20)]


@pytest.mark.parametrize(
    ("scalars", "expected"),
    [
        (run(0.8, 0.9, 0.5, 30), []),
        (run(0.995, 0.9, 0.5, 30), []),  # features were seen to improve there
        (run(0.8, 0.9, 0.001, 30), []),  # low entropy of single images is sharpness
        (run(0.995, 0.9, 0.98, 5), ["0.995 ln K", "rank is 5.0, 10.0 at the start"]),
        (run(0.5, 0.001, 0.001, 5), ["mean output's entropy", "rank"]),
        (run(1.0, 1.0, 0.9999, 30), ["ln K", "centre takes all"]),
    ],
)
def test_two_of_three_signs_that_hold_for_5_percent_of_the_steps_are_an_alarm(scalars: list, expected: list) -> None:
    alarm = signs.first_alarm(scalars, LN_K, 1000, learns_from=200)
    if not expected:
        assert alarm is None
        return
    assert alarm is not None and alarm[0] == 279  # the first recorded step 5 % after that of 219
    for part, said in zip(expected, alarm[1], strict=True):
        assert part in said


def test_signs_that_pass_and_scalars_without_them_are_no_alarm() -> None:
    scalars = run(0.995, 0.9, 0.5, 5)
    broken = [(step, {**values, "loss_data": 0.0} if step % 60 == 19 else values) for step, values in scalars]
    assert signs.first_alarm(broken, LN_K, 1000) is None
    assert signs.first_alarm([(step, {"loss_data": LN_K}) for step, _ in scalars], LN_K, 1000) is None


def test_probes_between_recorded_steps_change_nothing() -> None:
    scalars = run(0.995, 0.9, 0.5, 5)
    probed = sorted([*scalars, *((step + 1, {"probe_knn": 50.0}) for step, _ in scalars)], key=lambda row: row[0])
    alarm = signs.first_alarm(scalars, LN_K, 1000)
    assert alarm is not None and signs.first_alarm(probed, LN_K, 1000) == alarm


def test_a_training_has_the_same_bits_with_and_without_signs_and_warns_once(
    tiny: Pretrain, noise_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LOSS_AT_LN_K", "CENTRE_DOMINATES"):
        monkeypatch.setattr(signs, name, 0.0)
    train(tiny, noise_folder, tmp_path / "with")
    (warning,) = json.loads((tmp_path / "with" / "r.json").read_text())["warnings"]
    assert warning.startswith(
        "step 12: it may not be learning: the data loss is "
    )  # frozen for one epoch of four steps
    assert "lower loss.teacher_temperature (now [0.04, 0.07]) and raise optimizer.freeze_last_layer (now 1)" in warning
    monkeypatch.setattr(signs.Signs, "observe", lambda *_: None)
    monkeypatch.setattr(signs.Signs, "measure", lambda *_: None)
    train(tiny, noise_folder, tmp_path / "without")
    weights = [(tmp_path / case / "w.safetensors").read_bytes() for case in ("with", "without")]
    assert weights[0] == weights[1]


def test_the_advice_names_the_two_settings_of_each_kind(tiny: Pretrain) -> None:
    plain = tiny.model_copy(update={"head": tiny.head.model_copy(update={"batch_norm": False})})
    assert signs.advice(plain, ["the data loss"]).endswith("and set head.batch_norm=true")
    assert signs.advice(tiny, ["the mean output's entropy"]).endswith("and lower loss.center_momentum (now 0.9)")
