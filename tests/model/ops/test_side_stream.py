"""The teacher on a stream of its own: the order of what a GPU would be told, and the same training on a CPU."""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

from scfs.config.pretrain import Pretrain
from scfs.model.methods import Crops, build_method
from scfs.model.ops.side_stream import SideStream
from scfs.training.loop import Pretraining

SETTINGS = {
    "dataset": "noise",
    "backbone": "narrow_resnet18",
    "views": {"global_size": 32, "local_size": 16, "local_number": 2},
    "head": {"hidden": 16, "bottleneck": 8, "prototypes": 24},
    "search_head": {"width": 8, "hidden": 16, "output": 8},
}


class Stream:
    """A GPU's, as far as it is used; notes who waits for whom."""

    def __init__(self, name: str, noted: list[str]) -> None:
        self.name, self.noted = name, noted

    def wait_stream(self, other: "Stream") -> None:
        self.noted.append(f"{self.name} waits for {other.name}")


class MapOfAGpu:
    device = torch.device("cuda")

    def __init__(self, noted: list[str]) -> None:
        self.noted = noted

    def record_stream(self, stream: Stream) -> None:
        self.noted.append(f"map is used on {stream.name}")


def test_each_stream_waits_for_the_other_once(monkeypatch: pytest.MonkeyPatch) -> None:
    noted: list[str] = []
    on = [Stream("main", noted)]

    @contextmanager
    def stream(chosen: Stream):
        on.append(chosen)
        yield
        on.pop()

    streams = SimpleNamespace(Stream=lambda: Stream("own", noted), stream=stream, current_stream=lambda: on[-1])
    monkeypatch.setattr(torch, "get_device_module", lambda device: streams)
    side_stream = SideStream(torch.device("cuda"))
    with side_stream.run():
        noted.append(f"teacher on {on[-1].name}")
    noted.append(f"student on {on[-1].name}")
    side_stream.join([MapOfAGpu(noted)])
    assert noted == [
        *("own waits for main", "teacher on own", "student on main", "main waits for own", "map is used on main"),
    ]


@pytest.mark.parametrize(
    "name",
    ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here"))],
)
def test_nothing_differs(name: str) -> None:
    device = torch.device(name)
    model = build_method(Pretrain.model_validate(SETTINGS)).double().to(device)
    draw = torch.manual_seed(0)
    crops = [torch.randn(4, 3, s, s, dtype=torch.float64, generator=draw).to(device) for s in (32, 16)]
    found, noted = [], []

    class Noted(SideStream):
        def run(self):
            noted.append("work")
            return super().run()

        def join(self, made):
            noted.append(f"join {len(made)} maps")
            super().join(made)

    for side_stream in (None, Noted(device)):
        model.side_stream = side_stream
        model.zero_grad()
        terms = model(Crops(*crops), 0.04)
        terms["loss"].backward()
        found.append([*terms.values(), *(p.grad for p in model.student.parameters() if p.grad is not None)])
    assert noted == ["work", "join 4 maps"]
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0 if name == "cpu" else 1e-12)


def test_the_training_asks_for_it() -> None:
    settings = Pretrain.model_validate(SETTINGS)
    for side_stream in (False, True):
        training = Pretraining(settings, 1, torch.device("cpu"), "fp32", "", side_stream=side_stream)
        assert isinstance(training.model.side_stream, SideStream) == side_stream
