"""The whole method on one page: steps of SCFS (Song et al., ICCV 2023) on the images of a folder, or on noise.

Run `python examples/minimal.py [FOLDER]`. B images, N local crops; crops are crop-major: all images of the first crop,
then all of the second. Schedules are left out. tests/test_example_minimal.py holds `step` to one of `scfs pretrain`.
"""

import copy
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import v2

from scfs.config import pretrain
from scfs.model.backbones.resnet import Backbone
from scfs.model.heads import ProjectionHead, SearchHead

B, TAU, TAU_TEACHER, LAYERS = 8, 0.1, 0.04, ("layer2", "layer3", "layer4")  # images; temperatures; V_L of Eq. 10


def view(size: int, scale: tuple[float, float], blur: float, solarize: float) -> v2.Compose:
    """Make the random augmentation of one crop."""
    crop = [v2.RandomResizedCrop(size, scale, interpolation=v2.InterpolationMode.BICUBIC), v2.RandomHorizontalFlip()]
    colour = [v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.2, 0.1)], 0.8), v2.RandomGrayscale(0.2)]
    change = [v2.RandomApply([v2.GaussianBlur(9, (0.1, 2.0))], blur), v2.RandomSolarize(0.5, solarize)]
    pixels = v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    return v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True), *crop, *colour, *change, pixels])


def contrast(P: Tensor, outputs: Tensor) -> Tensor:
    """Cross-entropy of the teacher's probabilities P' with the student's softmax (Eq. 1), mean over the images."""
    return -(P * F.log_softmax(outputs / TAU, dim=-1)).sum(-1).mean()


class Scfs:
    """Student, teacher, centres of the teacher's outputs, and the optimiser."""

    def __init__(self, name: str, head: pretrain.ProjectionHead, search_head: pretrain.SearchHead, lr: float) -> None:
        backbone = Backbone(name)
        heads: dict[str, nn.Module] = {"head": ProjectionHead(backbone.channels["layer4"], head)}
        heads |= {layer: SearchHead(backbone.channels[layer], search_head) for layer in LAYERS}
        self.student = nn.ModuleDict({"backbone": backbone, **heads})
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.centers = dict.fromkeys(heads, torch.zeros(1))
        matrices, vectors = ([p for p in self.student.parameters() if (p.ndim > 1) == i] for i in (True, False))
        self.optimizer = torch.optim.SGD(vectors, lr=lr, momentum=0.9)
        self.optimizer.add_param_group({"params": matrices, "weight_decay": 1e-4})

    def losses(self, x: Tensor, x_local: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss of crops (2*B, 3, S, S) and (N*B, 3, s, s), and the teacher's outputs for the centres."""
        student, teacher, n = self.student, self.teacher, len(x) // 2
        with torch.no_grad():
            maps_t = teacher["backbone"](x)
            outputs_t = {layer: teacher[layer](maps_t[layer]) for layer in LAYERS}
            outputs_t["head"] = teacher["head"](maps_t["layer4"].mean((2, 3)))
            P = {k: F.softmax((v - self.centers[k]) / TAU_TEACHER, dim=-1).split(n) for k, v in outputs_t.items()}
        maps, maps_local = student["backbone"](x), student["backbone"](x_local)
        features = torch.cat([m["layer4"].mean((2, 3)) for m in (maps, maps_local)])
        first, second, *local = student["head"](features).split(n)
        terms = [contrast(P["head"][1], first), contrast(P["head"][0], second)]  # Eq. 2
        terms += [contrast(P_g, outputs) for outputs in local for P_g in P["head"]]  # Eq. 3
        loss = torch.stack(terms).mean()  # Eq. 4
        for layer in LAYERS:
            first, second = student[layer](maps[layer]).split(n)
            loss = loss + 0.5 * (contrast(P[layer][1], first) + contrast(P[layer][0], second)) / 2  # Eq. 2, on a layer
            with torch.no_grad():
                F_g = maps_t[layer][:n]  # the first global crop is searched
                f_l = maps_local[layer].mean((2, 3)).unflatten(0, (-1, n))[..., None, None]  # Eq. 5: queries
                A = F.cosine_similarity(f_l, F_g[None], dim=2)[:, :, None]  # Eq. 6: attention, (N, B, 1, H, W)
                F_lg = (A * F_g).flatten(0, 1)  # Eq. 7: what each local crop finds
                P_lg = F.softmax(teacher[layer](F_lg) / TAU_TEACHER, dim=-1)  # Eq. 8
            loss = loss + 0.5 * contrast(P_lg, student[layer](maps_local[layer]))  # Eq. 9-11
        return loss, outputs_t

    def step(self, x: Tensor, x_local: Tensor, momentum: float = 0.996) -> float:
        """Do one optimiser step; returns its loss."""
        self.optimizer.zero_grad()
        loss, outputs_t = self.losses(x, x_local)
        torch.autograd.backward(loss)
        for grad in [p.grad for p in self.student.parameters() if p.grad is not None]:
            grad.mul_((3 / (grad.norm() + 1e-6)).clamp(max=1))  # each parameter's gradient is clipped on its own
        self.optimizer.step()
        for p_t, p in zip(self.teacher.parameters(), self.student.parameters()):
            p_t.data.lerp_(p.data, 1 - momentum)  # the teacher is the student's moving average
        self.centers = {k: 0.9 * self.centers[k] + 0.1 * v.mean(0) for k, v in outputs_t.items()}
        return loss.item()


if __name__ == "__main__":
    views = [view(96, (0.25, 1.0), blur=1.0, solarize=0.0), view(96, (0.25, 1.0), blur=0.1, solarize=0.2)]
    views_local = [view(64, (0.05, 0.25), blur=0.5, solarize=0.0)] * 4
    files = sorted(path for folder in sys.argv[1:] for path in Path(folder).rglob("*.*"))
    images = [Image.open(path).convert("RGB") for path in files[: 4 * B]] or list(torch.rand(4 * B, 3, 128, 128))
    scfs = Scfs("narrow_resnet18", pretrain.ProjectionHead(prototypes=1024), pretrain.SearchHead(), lr=0.1 * B / 256)
    for b in range(0, len(images) - B + 1, B):
        x, x_local = (torch.stack([v(i) for v in kind for i in images[b : b + B]]) for kind in (views, views_local))
        print(f"step {b // B}: loss {scfs.step(x, x_local):.4f}")
