"""Rendezvous of the processes of a SLURM step or of one machine: a key-value store that the first process opens.

torchrun brings its own store. Without it nobody has chosen a port, and no port can be reserved: another job may use it,
and after a requeue the previous store may still be open. So all processes try the same few ports, which are computed
from the job's name, and a store is accepted only if it contains the name of this start of this job.
"""

import os
import signal
import socket
import time
import zlib
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from threading import Thread

import torch.distributed as dist

from scfs.errors import ScfsError, refusing
from scfs.runtime.stop_signals import signal_when_gone
from scfs.runtime.world import LOOPBACK, Rendezvous, World

PORTS = range(10_000, 32_000)
"""Ports below those that Linux assigns by itself (from 32768)."""
CANDIDATES = 8
TIMEOUT = 900.0
"""Seconds until the first process must have opened its store: its node may have to fetch a container first."""
CONNECT_TIMEOUT = timedelta(seconds=3)
KEY_TIMEOUT = timedelta(minutes=30)
"""Longest wait for a key of the store, as torch's default for a process group."""


def candidate_ports(at: Rendezvous) -> list[int]:
    """Return the ports to try, in order, the same in all processes."""
    return [PORTS[zlib.crc32(f"{at.name}/{number}".encode()) % len(PORTS)] for number in range(CANDIDATES)]


def rendezvous(world: World, timeout: float = TIMEOUT) -> dist.Store:
    """Open or find the key-value store that all processes share.

    Args:
        world: this process's place; its `rendezvous` is None if torchrun started it.
        timeout: seconds to look for the first process's store.

    Raises:
        ScfsError: no port is free, the first process does not open its store in time, or torchrun has ended.
    """
    if world.rendezvous is None:
        follow_torchrun(os.environ)
        return next(dist.rendezvous("env://", world.rank, world.size))[0]
    return _open(world.rendezvous) if world.rank == 0 else _find(world.rendezvous, timeout)


def follow_torchrun(environment: Mapping[str, str]) -> None:
    """Refuse to wait for a torchrun that has ended, and stop when it ends: killed, it ends no process of its own.

    Its store was open before it started this process.
    """
    if environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        address, port = environment["MASTER_ADDR"], environment["MASTER_PORT"]
        with refusing(f"torchrun cannot be reached at {address}, port {port}; it may have ended", OSError):
            socket.create_connection((address, int(port)), 60).close()
        signal_when_gone(os.getppid(), signal.SIGTERM)  # which saves a training


def _open(at: Rendezvous) -> dist.Store:
    ports = candidate_ports(at)
    for port in ports:
        try:
            # Torch's server listens on every network; processes of one node need none.
            host, fd = "0.0.0.0", None
            if at.host == LOOPBACK:
                host, fd = LOOPBACK, socket.create_server((LOOPBACK, port)).detach()
            store = dist.TCPStore(host, port, None, True, KEY_TIMEOUT, wait_for_workers=False, master_listen_fd=fd)
        except (OSError, RuntimeError):  # the port is taken
            continue
        store.set(at.name, "here")
        return store
    raise ScfsError(f"{at.host}: none of the ports {ports} is free for job {at.name}")


def _find(at: Rendezvous, timeout: float) -> dist.Store:
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        for port in candidate_ports(at):
            store = _connect(at, port)
            if store is not None:
                store.set_timeout(KEY_TIMEOUT)
                return store
        time.sleep(0.5)
    raise ScfsError(f"{at.host}: the first process of job {at.name} was not found in {timeout:g} s")


def _connect(at: Rendezvous, port: int) -> dist.Store | None:
    """Connect to the job's store; None if something else or nothing listens on the port.

    Runs in a thread that may be left behind: torch waits for ever for a server that accepts and then says nothing.
    """
    try:  # where nobody listens, torch's client would retry for seconds
        socket.create_connection((at.host, port), CONNECT_TIMEOUT.total_seconds()).close()
    except OSError:
        return None
    found: list[dist.Store] = []

    def connect() -> None:
        with suppress(RuntimeError):  # not a store
            store = dist.TCPStore(at.host, port, None, False, CONNECT_TIMEOUT, wait_for_workers=False)
            if store.check([at.name]):
                found.append(store)

    thread = Thread(target=connect, name=f"port {port}", daemon=True)
    thread.start()
    thread.join(2 * CONNECT_TIMEOUT.total_seconds())
    return found[0] if found else None
