"""How the processes of a SLURM step or of one machine find each other: a store that the first of them keeps.

torchrun brings a store of its own. Here nobody has chosen a port, and none can be reserved: another job may hold any of
them, and after a requeue the last store may still be there. So all try the same few ports, which follow from the job's
number, and a store counts only if it says that it is this start of this job.
"""

import socket
import time
import zlib
from contextlib import suppress
from datetime import timedelta
from threading import Thread

import torch.distributed as dist

from scfs.errors import ScfsError
from scfs.runtime.world import Meeting, World

PORTS = range(10_000, 32_000)
"""Below those that Linux gives out by itself (from 32768)."""
CANDIDATES = 8
PATIENCE = 900.0
"""Seconds until the first process must have opened its store: a container may have to be fetched on its node."""
CONNECTING = timedelta(seconds=3)
WAITING = timedelta(minutes=30)
"""For a key, as torch's default for a process group."""


def candidates(meeting: Meeting) -> list[int]:
    """Ports to try, in order; the same in all processes."""
    return [PORTS[zlib.crc32(f"{meeting.name}/{number}".encode()) % len(PORTS)] for number in range(CANDIDATES)]


def meet(world: World, patience: float = PATIENCE) -> dist.Store:
    """The store that all processes of `world` share.

    Args:
        world: this process's place, with a meeting unless torchrun has told where.
        patience: seconds to look for the first process's store.

    Raises:
        ScfsError: no port is free, or the first process does not open its store in time.
    """
    if world.meeting is None:
        return next(dist.rendezvous("env://", world.rank, world.size))[0]
    return _open(world.meeting) if world.rank == 0 else _find(world.meeting, patience)


def _open(meeting: Meeting) -> dist.Store:
    ports = candidates(meeting)
    for port in ports:
        try:
            store = dist.TCPStore("0.0.0.0", port, None, True, WAITING, wait_for_workers=False)
        except RuntimeError:  # the port is taken
            continue
        store.set(meeting.name, "here")
        return store
    raise ScfsError(f"{meeting.host}: none of the ports {ports} is free for job {meeting.name}")


def _find(meeting: Meeting, patience: float) -> dist.Store:
    end = time.monotonic() + patience
    while time.monotonic() < end:
        for port in candidates(meeting):
            store = _store_at(meeting, port)
            if store is not None:
                store.set_timeout(WAITING)
                return store
        time.sleep(0.5)
    raise ScfsError(f"{meeting.host}: the first process of job {meeting.name} was not found in {patience:g} s")


def _store_at(meeting: Meeting, port: int) -> dist.Store | None:
    """The job's store, if it is what listens there.

    In a thread that may be left behind: torch waits for ever for a stranger who accepts and then says nothing.
    """
    try:  # torch's client would try again for seconds where nobody listens yet
        socket.create_connection((meeting.host, port), CONNECTING.total_seconds()).close()
    except OSError:
        return None
    found: list[dist.Store] = []

    def connect() -> None:
        with suppress(RuntimeError):  # no store
            store = dist.TCPStore(meeting.host, port, None, False, CONNECTING, wait_for_workers=False)
            if store.check([meeting.name]):
                found.append(store)

    thread = Thread(target=connect, name=f"port {port}", daemon=True)
    thread.start()
    thread.join(2 * CONNECTING.total_seconds())
    return found[0] if found else None
