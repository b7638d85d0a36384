"""Starts the processes of a training, and what each of them does in a test.

Run as a program, with what torchrun would have put into the environment: `ranks.py TASK FOLDER [ARGUMENTS]`.
"""

import copy
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from tiny import TINY, shallow_backbones
from torch import Tensor, nn

from scfs.config.pretrain import Pretrain
from scfs.data.sources.folders import image_folder
from scfs.errors import ScfsError
from scfs.model.ops.batch_norm import synchronize_batch_norm
from scfs.runtime import collectives
from scfs.runtime.gradient_allreduce import GradientAllReduce
from scfs.training import pretrain as stage
from scfs.training.loop import Labels, Pretraining
from scfs.views.loader import ViewBatches

CPU = torch.device("cpu")
STEPS = 3
"""The first one warms up from a rate of zero; the second one has other centres, and moves the weights; the third sees them."""
CASES: dict[str, dict[str, Any]] = {
    "scfs": {},
    "dino": {"method": "dino"},
    "dino_ml": {"method": "dino_ml"},
    "roi_crop": {"method": "roi_crop"},
    "both views": {"preset": "paper", "method": "roi_crop"},
    "parts": {"accumulate": 2, "batch": 6},
    "without local crops": {"views": {"global_size": 32, "local_number": 0}},
    "vit": {"backbone": "narrow_vit_8", "drop_path": 0.3},
    "supervised": {"method": "supervised"},
}
NORMS = {"2d": (nn.BatchNorm2d, (5, 3, 4, 4)), "1d": (nn.BatchNorm1d, (7, 3))}


def cases(size: int) -> list[str]:
    """Cases that `size` processes train: two of them all, and more of them what is shared in another way by each."""
    return list(CASES) if size <= 2 else ["scfs", "parts"]


def settings(case: str) -> Pretrain:
    small = {"global_scale": (0.1, 0.3), "local_scale": (0.05, 0.1)}  # so that some crops do not overlap
    values = TINY | {"batch": 7} | CASES[case]  # neither two nor three processes have equal shares
    return Pretrain.model_validate(values | {"views": {**values["views"], **small}})


def untrained(case: str, steps_per_epoch: int, **how: bool) -> Pretraining:
    """A case before its first step; for the supervised one the images' rows give labels of three classes.

    `how`: see Pretraining.
    """
    chosen = settings(case)
    labels = Labels(torch.arange(24) % 3, 3) if chosen.method == "supervised" else None
    return Pretraining(chosen, steps_per_epoch, CPU, "fp64", "", labels, **how)


def trained(case: str, images: Path, **how: bool) -> tuple[list[dict[str, float]], dict[str, Tensor]]:
    """Terms of each step, and the whole state at the end, in float64."""
    chosen = settings(case)
    data = stage.view_batches(image_folder(images), chosen, collectives.world())
    training = untrained(case, data.steps_per_epoch, **how)
    terms = [training.train_step(data[step]) for step in range(STEPS)]
    return [{name: term.item() for name, term in step.items()} for step in terms], training.model.state_dict()


def norm_of_whole(name: str, part: Callable[[int], slice]) -> dict[str, Tensor]:
    """Output, gradients and buffers of two steps of a BatchNorm, of which this process sees a part."""
    kind, shape = NORMS[name]
    generator = torch.Generator().manual_seed(1)
    model = synchronize_batch_norm(nn.Sequential(kind(3, momentum=0.2)), CPU).double()
    norm = model[0]
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, -2.0, 0.3])), norm.bias.copy_(torch.tensor([0.0, 1.0, -1.0]))
    found: dict[str, Tensor] = {}
    for step in range(2):
        whole, weights = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
        x = (1000.0 + whole[part(len(whole))]).requires_grad_()
        y = model(x)
        model.zero_grad()
        (y.tanh() * weights[part(len(whole))]).sum().backward()
        found |= {f"y{step}": y.detach(), f"dx{step}": x.grad}
        found |= {f"{key}{step}": collectives.all_reduce(value.grad) for key, value in norm.named_parameters()}
    return found | {key: value.clone() for key, value in norm.state_dict().items()} | {"eval": model.eval()(whole)}


def check_norms(out: Path) -> None:
    found = {name: norm_of_whole(name, collectives.world().shard) for name in NORMS}
    torch.save(found, out / f"norms-{collectives.world().rank}.pt")


def check_oracle() -> None:
    """The cases of tests/model/test_modes.py with no and with several crops, their three images cut over the processes."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "model"))
    import test_modes

    part = collectives.world().shard(test_modes.B)

    class Shared(test_modes.Case):
        def ours(self) -> dict[str, float]:
            def own(maps: dict[str, Tensor] | None) -> dict[str, Tensor] | None:
                cut = lambda m: m.unflatten(0, (-1, test_modes.B))[:, part].flatten(0, 1)  # noqa: E731
                return None if maps is None else {layer: cut(m) for layer, m in maps.items()}

            model = synchronize_batch_norm(copy.deepcopy(self.model), CPU)
            model.world_fraction = (part.stop - part.start) / test_modes.B
            boxes = None if self.boxes is None else tuple(of_box[:, :, part] for of_box in self.boxes)
            maps = own(self.student_global), own(self.student_local), own(self.teacher_global)
            terms = model.losses(test_modes.BatchMaps(*maps), test_modes.TAU_PRIME, boxes)
            model.update_center()
            for name, center in model.named_buffers(recurse=False):
                self.model.get_buffer(name).copy_(center)
            return {
                name: term.item() for name, term in collectives.all_reduce_weighted(terms, model.world_fraction).items()
            }

    test_modes.Case = Shared
    for case in (case for case in test_modes.CASES if case[2] != 1):
        test_modes.test_losses_and_centers_equal_the_nested_loops(*case)


def check_collectives() -> None:
    """What each collective gives, of three tensors that differ between the processes."""
    world = collectives.world()
    ranks = torch.arange(world.size)
    own = torch.tensor([float(world.rank), 1.0])
    assert collectives.all_reduce(own).tolist() == [ranks.sum().item(), world.size] and own[0] == world.rank
    assert collectives.all_gather(own)[:, 0].tolist() == ranks.tolist()
    assert collectives.all_reduce_weighted({"a": own[0], "b": own[1]}, 0.5)["b"] == world.size / 2
    assert collectives.all_reduce_max(world.rank, -world.rank) == (world.size - 1, 0)
    assert collectives.broadcast_object(f"of {world.rank}") == "of 0"
    check_gradient_sums()
    collectives.check_same("answer", 42)
    try:
        collectives.check_same("rank", world.rank)
    except ScfsError as error:
        assert "rank: 0 on process 0, but 1 on process 1" in str(error)
    else:
        raise AssertionError("ranks differ, and nobody said so")


def check_gradient_sums() -> None:
    """Of a layer that is used twice, one that is not used, a frozen one and a bias, in buckets of any size."""
    rank, size = collectives.world().rank, collectives.world().size
    for bucket in (1, 100, 10**6):
        torch.manual_seed(0)
        conv = nn.Conv2d(3, 3, 2, padding=1).to(memory_format=torch.channels_last)
        unused, frozen = nn.Linear(2, 2), nn.Linear(2, 2).requires_grad_(False)
        x = torch.randn(size, 3, 5, 5)
        (conv(conv(x)) ** 2).sum().backward()
        wanted = [parameter.grad.clone() for parameter in conv.parameters()]
        sums = GradientAllReduce([*unused.parameters(), *conv.parameters(), *frozen.parameters()], bucket)
        for step in range(3):
            conv.zero_grad()
            if step == 1:  # a part of the batch before the last one
                (conv(conv(x[rank : rank + 1])) ** 2).sum().backward()
            if step == 2:  # one that fails on all processes leaves nothing behind
                with suppress(ZeroDivisionError), sums.during_backward():
                    raise ZeroDivisionError
            with sums.during_backward():
                (conv(conv(x[rank : rank + 1])) ** 2).sum().backward()
                # The last bucket waits for a layer without gradients, unless it is in the only one.
                assert len(sums._begun) == (0 if bucket == 10**6 else 2)
            for parameter, whole in zip(conv.parameters(), wanted, strict=True):
                torch.testing.assert_close(parameter.grad, whole * (2 if step == 1 else 1))
                same = collectives.all_gather(parameter.grad)
                assert torch.equal(same, same[:1].expand_as(same)) and parameter.grad.stride() == parameter.stride()
        assert unused.weight.grad is None and frozen.weight.grad is None


def together(out: Path, images: Path) -> None:
    """All that can be compared in one meeting of the processes; each writes what it has found."""
    with collectives.process_group(CPU) as world:
        check_collectives()
        check_norms(out)
        if world.size == 2:  # slow loops, and three images
            check_oracle()
        for case in cases(world.size):
            torch.save(trained(case, images), out / f"{case}-{world.rank}.pt")


def traced_alone(change: Callable[..., None]) -> list[str]:
    """Have torch.compile trace and differentiate, but generate no code; returns a line for each graph it will make."""
    compile_module, compiled = nn.Module.compile, []
    backend = torch._dynamo.lookup_backend("aot_eager")

    def graph(*given: Any, **options: Any) -> Any:
        compiled.append("graph")
        return backend(*given, **options)

    def traced(module: nn.Module, **options: Any) -> None:
        compile_module(module, backend=graph, **options)

    change(nn.Module, "compile", traced)
    return compiled


def compiled(out: Path, images: Path) -> None:
    """The case scfs with what is traced of its backbones."""
    compiled = traced_alone(setattr)
    with collectives.process_group(CPU) as world:
        torch.save(trained("scfs", images, compile=True), out / f"compile-{world.rank}.pt")
        assert len(compiled) == 3, compiled


def whole_stage(out: Path, images: Path, **options: Any) -> None:
    """The stage itself, in float64."""
    stage.resolve_precision = lambda *_: "fp64"
    slow = TINY["optimizer"] | {"lr": 0.05, "min_lr": 0}  # at 2.0 every step multiplies rounding errors by ten
    chosen = Pretrain.model_validate(TINY | {"epochs": 5, "optimizer": slow} | options)
    stage.pretrain("tiny", chosen, image_folder(images), weights=out / "w.safetensors", result=out / "r.json",
                   folder=out / "run", device="cpu", save_every=0)  # fmt: skip


def with_a_bad_image(out: Path, images: Path) -> None:
    """One process alone cannot read its part of step 5."""
    get, rank = ViewBatches.__getitem__, int(os.environ["RANK"])

    def failing(self: ViewBatches, step: int) -> Any:
        if rank == 1 and step == 5:
            raise ScfsError("x.png: not a readable image")
        return get(self, step)

    ViewBatches.__getitem__ = failing  # type: ignore[method-assign]
    whole_stage(out, images)


def messages(out: Path, images: Path) -> None:
    """Every collective of a step of each case, in float32: kind and bytes that each process gives."""
    shallow_backbones()
    with collectives.process_group(CPU) as world:
        noted: dict[str, list[tuple[str, int]]] = {}
        all_reduce, all_gather = dist.all_reduce, dist.all_gather
        for case in CASES:
            chosen = settings(case)
            data = stage.view_batches(image_folder(images), chosen, world)
            labels = Labels(torch.arange(24) % 3, 3) if chosen.method == "supervised" else None
            training, seen = (
                Pretraining(chosen, data.steps_per_epoch, CPU, "fp32", "", labels),
                noted.setdefault(case, []),
            )

            def reduce(tensor: Tensor, *, seen: list[tuple[str, int]] = seen, **how: Any) -> Any:
                seen.append(("all_reduce", tensor.numel() * tensor.element_size()))
                return all_reduce(tensor, **how)

            def gather(everyone: list[Tensor], tensor: Tensor, seen: list[tuple[str, int]] = seen) -> Any:
                seen.append(("all_gather", tensor.numel() * tensor.element_size()))
                return all_gather(everyone, tensor)

            dist.all_reduce, dist.all_gather = reduce, gather
            training.train_step(data[0])
        torch.save(noted, out / f"messages-{world.rank}.pt")


def start(task: str, out: Path, images: Path, size: int) -> list[subprocess.Popen[str]]:
    """Start `size` processes that meet on this machine."""
    from warm import warm_programs  # not where this file is the program

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])  # pytest's own place may be there
    common = os.environ | {"OMP_NUM_THREADS": "1", "WORLD_SIZE": str(size), "PYTHONPATH": path}
    common |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    command = [str(warm_programs() / "warm-python"), __file__, task, str(out), str(images)]
    return [
        subprocess.Popen(
            command, env=common | {"RANK": str(rank), "LOCAL_RANK": str(rank)}, stderr=subprocess.PIPE, text=True
        )
        for rank in range(size)
    ]


def end(processes: list[subprocess.Popen[str]], timeout: float = 600) -> tuple[list[int], str]:
    """Wait for all: their exit codes, and what they wrote on stderr together."""
    try:
        ends = time.monotonic() + timeout
        errors = [process.communicate(timeout=max(1, ends - time.monotonic()))[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], "".join(errors)


if __name__ == "__main__":
    torch.set_num_threads(1)
    try:
        tasks: dict[str, Callable[..., None]] = {"together": together, "stage": whole_stage, "bad": with_a_bad_image}
        tasks |= {"messages": messages, "compile": compiled}
        if sys.argv[1] != "messages":  # which are compared with those of the plan
            shallow_backbones()
        tasks[sys.argv[1]](*map(Path, sys.argv[2:]))
    except ScfsError as failure:
        sys.exit(f"scfs: {failure}")
