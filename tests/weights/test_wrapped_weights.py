"""State dicts within checkpoints of other training codes: unwrapped, or the line says which option does it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from layouts import network, save, without_classifier

from scfs.config.identity import identity
from scfs.config.pretrain import Imported
from scfs.errors import ScfsError
from scfs.io.results import sha256_of
from scfs.weights import import_weights
from scfs.weights.store import load_weights

pytestmark = pytest.mark.usefixtures("narrow")
State = dict[str, Any]


def under(prefix: str, state: State) -> State:
    return {f"{prefix}{name}": value for name, value in state.items()}


STATE_OF_SGD = {"state": {0: {"momentum_buffer": torch.zeros(2)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
HYPER = {"epoch": 3, "global_step": 12, "optimizer": STATE_OF_SGD, "args": {"lr": 0.1}, "loss": torch.tensor(0.5)}
MLP = {"fc.0.weight": torch.ones(8, 8), "fc.0.bias": torch.ones(8), "fc.2.weight": torch.ones(4, 8)}
QUEUE = {"module.queue": torch.ones(4, 9), "module.queue_ptr": torch.zeros(1, dtype=torch.int64)}


def moco(a: State, b: State) -> State:
    state = {**under("module.encoder_q.", {**a, **MLP}), **under("module.encoder_k.", {**b, **MLP}), **QUEUE}
    return {"epoch": 200, "arch": "resnet18", "state_dict": state, "optimizer": STATE_OF_SGD}


WRAPPED = {
    "plain": (lambda a, b: a, {}),
    "DistributedDataParallel": (lambda a, b: under("module.", a), {}),
    "torch.compile": (lambda a, b: under("_orig_mod.", a), {}),
    "state_dict": (lambda a, b: {"state_dict": a, **HYPER}, {}),
    "torchvision's references": (
        lambda a, b: {"model": under("module.", a), "optimizer": STATE_OF_SGD, "epoch": 1},
        {},
    ),
    "teacher": (lambda a, b: {"teacher": under("module.backbone.", a)}, {}),
    "deeper": (lambda a, b: {"checkpoint": {"model_state": under("net.trunk.", a)}}, {}),
    "Lightning": (lambda a, b: {"state_dict": under("model.", a), "pytorch-lightning_version": "2.0", **HYPER}, {}),
    "Lightning with a metric": (
        lambda a, b: {"state_dict": {**under("model.", a), "criterion.weight": torch.ones(3)}, "epoch": 1},
        {"ignore": ("criterion.",)},
    ),
    "a head": (lambda a, b: {"state_dict": {**a, **MLP}}, {"ignore": ("fc.",)}),
    "two encoders": (lambda a, b: {"teacher": a, "student": b}, {"prefix": "teacher"}),
    "averaged too": (lambda a, b: {"model": b, "model_ema": under("module.", a)}, {"prefix": "model_ema.module."}),
    "MoCo": (moco, {"prefix": "state_dict.module.encoder_q", "ignore": ("fc.",)}),
}


def imported(path: Path, out: Path, **more: Any) -> State:
    settings = Imported(weights=str(path), format="torchvision", backbone="resnet18", **more)
    import_weights.import_weights(path, "torchvision", out, "theirs", settings)
    return load_weights(out, "teacher.backbone.")[0]


@pytest.fixture(scope="module")
def states() -> tuple[State, State]:
    with pytest.MonkeyPatch.context():
        made = [without_classifier(network("resnet18", seed=seed)).state_dict() for seed in (1, 2)]
    return made[0], made[1]


@pytest.mark.parametrize("layout", WRAPPED)
def test_the_network_is_found(layout: str, states: tuple[State, State], tmp_path: Path) -> None:
    make, options = WRAPPED[layout]
    found = imported(save(tmp_path / "w.pth", make(*states)), tmp_path / "out.safetensors", **options)
    assert found.keys() == states[0].keys() and all(torch.equal(found[name], states[0][name]) for name in found)


def test_the_classifier_comes_too(tmp_path: Path) -> None:
    state = network("resnet18").state_dict()
    save(tmp_path / "w.pth", {"state_dict": under("module.", state)})
    imported(tmp_path / "w.pth", tmp_path / "out.safetensors")
    assert torch.equal(
        load_weights(tmp_path / "out.safetensors", "teacher.classifier.")[0]["weight"], state["fc.weight"]
    )


@pytest.mark.parametrize(
    ("make", "options", "said"),
    [
        (
            WRAPPED["two encoders"][0],
            {},
            r"prefix = '': 2 networks; give one of \['student.', 'teacher.'\] \(--prefix, or `prefix` of the run\)",
        ),
        (moco, {}, r"2 networks; give one of \['state_dict.module.encoder_k.', 'state_dict.module.encoder_q.'\]"),
        (
            moco,
            {"prefix": "module.encoder_q"},
            r"prefix = 'module.encoder_q': 0 networks; give one of \['state_dict.mod",
        ),
        (
            moco,
            {"prefix": "state_dict.module.encoder_q"},
            r"does not fit resnet18: 3 keys \('fc.0.weight', .*\) unknown: --ignore BEGINNING \(or `ignore` of the run\)",
        ),
        (WRAPPED["Lightning with a metric"][0], {}, r"1 key \('criterion.weight'\) unknown: --ignore BEGINNING"),
        (lambda a, b: a, {"ignore": ("layer4.",)}, r"does not fit resnet18: \d+ keys .* missing$"),
        (lambda a, b: a, {"prefix": "teacher"}, r"prefix = 'teacher': 0 networks; give one of \[''\]"),
        (lambda a, b: HYPER, {}, r"does not fit resnet18: \d+ keys .* missing"),
        (lambda a, b: {"epoch": 1}, {}, r"does not fit resnet18: .*1 key \('epoch'\) unknown"),
    ],
)
def test_else_the_line_names_the_option(
    make: Any, options: State, said: str, states: tuple[State, State], tmp_path: Path
) -> None:
    save(tmp_path / "w.pth", make(*states))
    with pytest.raises(ScfsError, match=said) as error:
        imported(tmp_path / "w.pth", tmp_path / "out.safetensors", **options)
    assert "\n" not in str(error.value) and not (tmp_path / "out.safetensors").exists()


def test_another_network_in_a_wrapping_is_named(tmp_path: Path) -> None:
    save(tmp_path / "w.pth", {"state_dict": network("resnet34").state_dict(), "epoch": 1})
    with pytest.raises(ScfsError, match=r"does not fit resnet18: .*its keys are those of resnet34"):
        imported(tmp_path / "w.pth", tmp_path / "out.safetensors")


def test_options_count_for_the_identity_only_where_given(states: tuple[State, State], tmp_path: Path) -> None:
    path, out = save(tmp_path / "w.pth", states[0]), tmp_path / "out.safetensors"
    imported(path, out)
    parameters = {"imported": {"backbone": "resnet18", "format": "torchvision"}}
    plain = identity("pretrain", parameters, {"file": sha256_of(path)})
    assert load_weights(out, "")[1].identity == plain
    imported(path, out, ignore=("fc.",))
    assert load_weights(out, "")[1].identity != plain


def test_a_dictionary_that_holds_itself_is_one_line(tmp_path: Path) -> None:
    content: State = {"a": {"weight": torch.zeros(1)}}
    content["a"]["again"] = content
    save(tmp_path / "w.pth", content)
    with pytest.raises(ScfsError, match="does not fit resnet18"):
        imported(tmp_path / "w.pth", tmp_path / "out.safetensors")
