"""Processes find each other by a job's name, past taken ports and the stores of other jobs."""

import socket
import threading

import pytest

from scfs.errors import ScfsError
from scfs.runtime.rendezvous import CANDIDATES, PORTS, candidate_ports, rendezvous
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


def test_a_first_process_that_does_not_come_is_one_line() -> None:
    with pytest.raises(ScfsError, match=r"127.0.0.1: the first process of job nobody.0 was not found in 1 s"):
        rendezvous(world(1, "nobody.0"), timeout=1)
