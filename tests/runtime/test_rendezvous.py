"""Processes find each other by a job's name, past taken ports and the stores of other jobs."""

import os
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

from scfs.errors import ScfsError
from scfs.runtime.rendezvous import CANDIDATES, PORTS, candidate_ports, follow_torchrun, rendezvous
from scfs.runtime.stop_signals import stop_signals
from scfs.runtime.world import Rendezvous, World


def world(rank: int, name: str) -> World:
    return World(rank, 2, rank, 1, Rendezvous("127.0.0.1", name))


def test_ports_follow_from_the_job_and_differ_after_a_requeue() -> None:
    first, again = (candidate_ports(Rendezvous("n1", name)) for name in ("77.0.0", "77.0.1"))
    assert first == candidate_ports(Rendezvous("n2", "77.0.0")) and len(first) == CANDIDATES
    assert not set(first) & set(again) and all(port in PORTS for port in first + again)


def test_a_taken_port_and_another_jobs_store_are_passed_by(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first candidate is taken by a stranger, the second by another job's store."""
    name = "test_rendezvous.0"
    ports = candidate_ports(Rendezvous("127.0.0.1", name))
    foreign = Rendezvous("127.0.0.1", "another.0")
    with socket.create_server(("0.0.0.0", ports[0])):
        monkeypatch.setattr(
            "scfs.runtime.rendezvous.candidate_ports", lambda at: ports[1:2] if at == foreign else ports
        )
        stranger = rendezvous(World(0, 2, rendezvous=foreign))
        found = []
        other = threading.Thread(target=lambda: found.append(rendezvous(world(1, name))))
        other.start()
        store = rendezvous(world(0, name))
        store.set("from 0", "hello")
        other.join(60)
        assert found and found[0].get("from 0") == b"hello" and not stranger.check(["from 0"])


def listening_addresses(port: int) -> set[str]:
    """Addresses of this machine on which someone listens on a port, in hexadecimal digits."""
    lines = [
        line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
    ]
    places = [local.split(":") for _, local, _, state, *_ in lines if state == "0A"]
    return {address for address, number in places if int(number, 16) == port}


def test_the_store_of_one_node_listens_on_its_loopback_address_alone() -> None:
    store = rendezvous(world(0, "loopback.0"))
    assert listening_addresses(store.port) == {"0100007F"}  # type: ignore[attr-defined]
    far = rendezvous(World(0, 2, rendezvous=Rendezvous("some-node", "far.0")))
    assert listening_addresses(far.port) - {"0100007F"}  # type: ignore[attr-defined]


def test_a_torchrun_that_has_ended_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    for name, value in {
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }.items():
        monkeypatch.setenv(name, str(value))
    with pytest.raises(
        ScfsError, match=rf"^torchrun cannot be reached at 127\.0\.0\.1, port {port}; it may have ended: .*refused"
    ):
        rendezvous(World(1, 2))


def test_a_process_stops_when_its_torchrun_is_gone_in_whatever_way(monkeypatch: pytest.MonkeyPatch) -> None:
    torchrun = subprocess.Popen(["sleep", "100"])
    monkeypatch.setattr(os, "getppid", lambda: torchrun.pid)
    with socket.create_server(("127.0.0.1", 0)) as server, stop_signals() as received:
        here = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(server.getsockname()[1])}
        follow_torchrun({"TORCHELASTIC_USE_AGENT_STORE": "True", **here})
        assert not received
        torchrun.kill()
        torchrun.wait()
        end = time.monotonic() + 10
        while not received and time.monotonic() < end:
            time.sleep(0.001)
    assert received == [signal.SIGTERM]


def test_a_first_process_that_does_not_come_is_one_line() -> None:
    with pytest.raises(ScfsError, match=r"127.0.0.1: the first process of job nobody.0 was not found in 1 s"):
        rendezvous(world(1, "nobody.0"), timeout=1)
