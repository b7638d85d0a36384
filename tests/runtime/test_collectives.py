"""Who a process is, and collectives where it is alone."""

import pytest
import torch
from torch import nn

from scfs.errors import ScfsError
from scfs.model.ops.batch_norm import synchronize_batch_norm
from scfs.runtime import collectives
from scfs.runtime.gradient_allreduce import GradientAllReduce
from scfs.runtime.world import Rendezvous, World, find_world

ADDRESS = {"MASTER_ADDR": "here", "MASTER_PORT": "1"}
TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
SRUN = {"SLURM_PROCID": "5", "SLURM_STEP_NUM_TASKS": "6", "SLURM_LOCALID": "2", "SLURM_NTASKS": "6"}
SRUN |= {"SLURM_JOB_ID": "77", "SLURM_STEP_ID": "0", "SLURM_STEP_NODELIST": "gpu[07-08,11]"}
LOCAL = {"SUBMITIT_LOCAL_GLOBALID": "1", "SUBMITIT_LOCAL_NTASKS": "2", "SUBMITIT_LOCAL_LOCALID": "1"}
LOCAL |= {"SUBMITIT_LOCAL_JOB_ID": "123"}


def test_the_world_is_found_in_the_environment() -> None:
    assert find_world({}) == World(0, 1, 0, 1)
    assert find_world(TORCHRUN | ADDRESS) == World(3, 4, 1, 2)
    assert find_world(SRUN | ADDRESS) == World(5, 6, 2, 1)
    assert find_world(SRUN | TORCHRUN | ADDRESS) == World(3, 4, 1, 2)  # torchrun inside a SLURM job
    assert find_world({"SLURM_PROCID": "0", "SLURM_NTASKS": "6", "SLURM_LOCALID": "0"}) == World()  # its batch script
    assert find_world(SRUN | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}) == World()
    assert find_world(LOCAL) == World(1, 2, 1, 2, Rendezvous("127.0.0.1", "123"))


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("n1", "n1"), ("n[1-2]", "n1"), ("gpu[07-08,11]", "gpu07"), ("a1,a2", "a1"), ("n[1,3]-ib,m4", "n1-ib")],
)
def test_processes_of_srun_meet_on_the_first_node_anew_after_each_requeue(nodes: str, first: str) -> None:
    found = find_world(SRUN | {"SLURM_STEP_NODELIST": nodes})
    assert found == World(5, 6, 2, 1, Rendezvous(first, "77.0.0"))
    near = find_world(SRUN | {"SLURM_STEP_NODELIST": nodes, "SLURM_STEP_NUM_NODES": "1"})
    assert near.rendezvous is not None and near.rendezvous.host == "127.0.0.1", "one node needs no network"
    again = find_world(SRUN | {"SLURM_STEP_NODELIST": nodes, "SLURM_RESTART_COUNT": "2"})
    assert again.rendezvous == Rendezvous(first, "77.0.2")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"RANK": "4"}, "RANK=4: with WORLD_SIZE=4 only 0 to 3 are allowed"),
        ({"RANK": "one"}, "RANK='one': not a whole number"),
        ({"LOCAL_RANK": None}, "LOCAL_RANK is not set"),
        ({"MASTER_PORT": None}, "WORLD_SIZE=4, but MASTER_PORT is not set: start the processes with torchrun"),
    ],
)
def test_a_contradictory_environment_is_one_line(change: dict[str, str | None], message: str) -> None:
    environment = {key: value for key, value in (TORCHRUN | ADDRESS | change).items() if value is not None}
    with pytest.raises(ScfsError, match=message.replace("(", r"\(")):
        find_world(environment)


def test_parts_are_consecutive_whole_and_nearly_equal() -> None:
    for images in range(1, 20):
        for size in range(1, images + 1):
            parts = [range(images)[World(rank, size).shard(images)] for rank in range(size)]
            assert [row for part in parts for row in part] == list(range(images))
            assert {len(part) for part in parts} <= {images // size, -(-images // size)}


def test_collectives_of_a_process_that_is_alone_change_nothing() -> None:
    with collectives.process_group(torch.device("cpu")) as world:
        assert world == World() and collectives.is_first()
        assert not torch.distributed.is_initialized()
        tensor = torch.randn(3)
        assert collectives.all_reduce(tensor) is tensor
        assert torch.equal(collectives.all_gather(tensor), tensor[None])
        values = {"loss": tensor[0]}
        assert collectives.all_reduce_weighted(values, 0.5) is values  # alone, the weight is 1
        assert collectives.all_reduce_max(3, False) == (3, False)
        assert collectives.broadcast_object(values) is values
        parameter = nn.Parameter(tensor.clone())
        with GradientAllReduce([parameter]).during_backward():
            (parameter * tensor).sum().backward()
        assert torch.equal(parameter.grad, tensor)
        collectives.check_same("anything", object())
        collectives.barrier()
        model = nn.Sequential(nn.BatchNorm2d(3))
        assert type(synchronize_batch_norm(model, torch.device("cpu"))[0]) is nn.BatchNorm2d
