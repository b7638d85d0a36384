"""Every mode and preset against nested loops written from the equations, in float64 (loss_oracle.py).

The golden file covers the official SCFS step alone; this covers Table 7's other rows, the other preset, and both.
"""

from collections.abc import Callable

import loss_oracle as oracle
import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.ops import roi_align

from scfs.config.pretrain import Pretrain
from scfs.model.backbones.base import Network
from scfs.model.methods.scfs import SCFS, BatchMaps, Encoder
from scfs.model.roi_crop import local_boxes, spatial_scale
from scfs.views.images import crop_resize

B, SIZE = 3, 64
LAYERS = ("layer3", "layer4")
CHANNELS = {"layer3": 5, "layer4": 6}
SIDES = {"layer3": (4, 2), "layer4": (3, 2)}  # of the global and the local maps
TAU, TAU_PRIME = 0.1, 0.05
CASES = [
    (method, preset, crops)
    for method in ("dino", "dino_ml", "scfs", "roi_crop")
    for preset in ("official", "paper")
    for crops in (0, 1, 3)
    if method != "roi_crop" or crops
]


def settings(method: str, preset: str, crops: int) -> Pretrain:
    return Pretrain.model_validate(
        {
            "dataset": "none",
            "method": method,
            "preset": preset,
            "layers": LAYERS,
            "views": {"local_number": crops},
            "head": {"hidden": 8, "bottleneck": 4, "prototypes": 7},
            "search_head": {"width": 4, "hidden": 6, "output": 5},
            "loss": {"student_temperature": TAU},
        }
    )


def random_crop_boxes(crops: int) -> Tensor:
    """Global crops on the left, local ones anywhere: some do not overlap, some only with one of the two."""
    rng = np.random.default_rng(crops)
    rows = [[(*rng.integers(0, 30, 2), *rng.integers(30, 60, 2), rng.integers(2)) for _ in range(B)] for _ in range(2)]
    rows += [[(*rng.integers(0, 90, 2), *rng.integers(8, 30, 2), 0) for _ in range(B)] for _ in range(crops)]
    return torch.tensor(rows, dtype=torch.int32)


def network(channels: dict[str, int]) -> Network:
    """A backbone that is never called."""
    backbone = Network()
    backbone.channels = channels
    return backbone


class Case:
    """Random maps, heads and centres, and our losses on them."""

    def __init__(self, method: str, preset: str, crops: int) -> None:
        torch.manual_seed(crops)
        self.crops = crops
        chosen = settings(method, preset, crops)
        self.model = SCFS(network(CHANNELS), chosen).double()
        for parameter in self.model.teacher.parameters():
            if parameter.requires_grad is False and parameter.ndim > 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
        self.model.get_buffer("center").normal_()
        for layer in self.model.layers:
            self.model.get_buffer(f"{layer}_center").normal_(std=0.1)
        self.student_global, self.teacher_global = self.maps(2, 0), self.maps(2, 0)
        self.student_local = self.maps(crops, 1) if crops else None
        self.boxes = local_boxes(random_crop_boxes(crops), self.model.preset.searched_views, SIZE) if crops else None
        if self.boxes is not None:
            self.boxes = self.boxes[0].double(), self.boxes[1]
        # Heads see BatchNorm statistics of the call, and change buffers that no loss here depends on.
        self.logits = [
            self.model.student.head(m["layer4"].mean((2, 3))) for m in (self.student_global, self.student_local) if m
        ]
        self.teacher_logits = self.model.teacher.head(self.teacher_global["layer4"].mean((2, 3)))

    def maps(self, crops: int, which: int) -> dict[str, Tensor]:
        shape = {layer: (crops * B, CHANNELS[layer], SIDES[layer][which], SIDES[layer][which]) for layer in LAYERS}
        return {layer: torch.randn(shape[layer], dtype=torch.float64) for layer in LAYERS}

    def head(self, encoder: Encoder, layer: str) -> Callable[[np.ndarray], np.ndarray]:
        return lambda maps: encoder.layer_head(layer)(torch.from_numpy(np.asarray(maps))).detach().numpy()

    def ours(self) -> dict[str, float]:
        maps = BatchMaps(self.student_global, self.student_local, self.teacher_global)
        terms = self.model.losses(maps, TAU_PRIME, self.boxes)
        self.model.update_center()
        return {name: term.item() for name, term in terms.items()}


def plain(tensor: Tensor) -> np.ndarray:
    return tensor.detach().numpy()


@pytest.mark.parametrize(("method", "preset", "crops"), CASES)
def test_losses_and_centers_equal_the_nested_loops(method: str, preset: str, crops: int) -> None:
    case = Case(method, preset, crops)
    model = case.model
    center = plain(model.get_buffer("center").clone())[0]
    layer_centers = {layer: plain(model.get_buffer(f"{layer}_center").clone())[0] for layer in model.layers}
    ours = case.ours()

    logits, teacher_logits = plain(torch.cat(case.logits)), plain(case.teacher_logits)
    data = oracle.data_loss(logits, teacher_logits, center, TAU, TAU_PRIME, B, crops, preset)
    assert ours["loss_data"] == pytest.approx(data, rel=1e-9)
    terms = []
    for layer in model.layers:
        boxes = overlap = None
        if method == "roi_crop" and case.boxes is not None:
            boxes, overlap = plain(case.boxes[0].transpose(0, 1)), plain(case.boxes[1].transpose(0, 1))
        arguments = (
            method, preset, case.head(model.student, layer), case.head(model.teacher, layer),
            plain(case.student_global[layer]),
            None if case.student_local is None else plain(case.student_local[layer]),
            plain(case.teacher_global[layer]), layer_centers[layer], TAU, TAU_PRIME, B, crops,
        )  # fmt: skip
        terms.append(
            oracle.layer_terms(*arguments, boxes=boxes, overlap=overlap, spatial_scale=spatial_scale("resnet50", layer))
        )
        assert ours[f"loss_{layer}_global"] == pytest.approx(terms[-1][0], rel=1e-9), layer
        assert ours[f"loss_{layer}_search"] == pytest.approx(terms[-1][1], rel=1e-9, abs=1e-12), layer
        outputs = case.head(model.teacher, layer)(plain(case.teacher_global[layer]))
        moved = oracle.updated_center(layer_centers[layer], outputs, 0.9)
        assert plain(model.get_buffer(f"{layer}_center"))[0] == pytest.approx(np.asarray(moved), rel=1e-9)
    assert ours["loss"] == pytest.approx(oracle.total(method, preset, data, terms), rel=1e-9)
    moved = oracle.updated_center(center, teacher_logits, 0.9)
    assert plain(model.get_buffer("center"))[0] == pytest.approx(np.asarray(moved), rel=1e-9)


def test_the_modes_differ() -> None:
    """What the comparison above compares is not the same number under several names."""
    totals = {case: Case(*case).ours()["loss"] for case in CASES if case[2]}
    assert len({round(value, 9) for value in totals.values()}) == len(totals)


@pytest.mark.parametrize("method", ["scfs", "roi_crop", "dino_ml"])
@pytest.mark.parametrize("preset", ["official", "paper"])
def test_gradients_reach_every_head_of_the_student_and_nothing_of_the_teacher(method: str, preset: str) -> None:
    case = Case(method, preset, 3)
    for maps in (case.student_global, case.student_local or {}):
        for feature_map in maps.values():
            feature_map.requires_grad_()
    maps = BatchMaps(case.student_global, case.student_local, case.teacher_global)
    terms = case.model.losses(maps, TAU_PRIME, case.boxes)
    terms["loss"].backward()
    for layer in LAYERS:
        assert case.student_local is not None
        gradient = case.student_local[layer].grad
        assert gradient is not None and gradient.abs().max() > 1e-9, layer
        assert case.model.student.layer_head(layer).conv1.weight.grad is not None
    assert all(parameter.grad is None for parameter in case.model.teacher.parameters())


def test_boxes_of_local_crops_by_hand() -> None:
    #                 top left height width flip; one image, two global crops, three local ones
    rows = [(0, 0, 100, 200, 0), (50, 100, 100, 100, 1), (10, 20, 40, 60, 0), (60, 150, 20, 100, 0), (0, 0, 10, 10, 0)]
    boxes, overlaps = local_boxes(torch.tensor(rows)[:, None], views=2, size=50)
    assert boxes[0, 0, 0].tolist() == [5.0, 5.0, 20.0, 25.0]  # x by 50 / 200, y by 50 / 100
    assert boxes[1, 0, 0].tolist() == [37.5, 30.0, 50.0, 40.0]  # clipped on the right
    assert boxes[1, 1, 0].tolist() == [0.0, 5.0, 25.0, 15.0]  # left half, mirrored from the right one
    assert overlaps[:, :, 0].tolist() == [[True, False], [True, True], [True, False]]


@pytest.mark.parametrize("flip", [0, 1])
def test_a_box_shows_in_the_global_crop_what_the_local_crop_shows(flip: int) -> None:
    """The boxes against pixels: a smooth picture, cropped both ways."""
    y, x = np.mgrid[0:120, 0:160]
    picture = np.stack([x, y, (x + y) / 2], -1).astype(np.uint8)
    rows = [(10, 20, 100, 120, flip), (0, 0, 10, 10, 0), (30, 60, 40, 40, 0)]
    view = crop_resize(picture, rows[0][:4], 60)
    view = view[:, ::-1] if flip else view
    boxes, _ = local_boxes(torch.tensor(rows)[:, None], views=1, size=60)
    region = torch.cat([torch.zeros(1, 1), boxes[0, 0]], dim=1)
    seen = roi_align(torch.from_numpy(view.copy()).permute(2, 0, 1)[None].float(), region, 5, aligned=True)
    expected = crop_resize(picture, rows[2][:4], 5)
    expected = expected[:, ::-1] if flip else expected
    assert np.abs(seen[0].permute(1, 2, 0).numpy() - expected).max() < 2
