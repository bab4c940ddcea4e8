"""Two hosts with a network between them and clocks that differ: network and time namespaces."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

import inferload as il
from support.forks import Forked, Forks
from support.gates import PATIENCE_S, until
from support.program import IMPATIENT

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.multiprocess,
    pytest.mark.skipif(
        not hasattr(os, "geteuid") or os.geteuid() != 0 or shutil.which("ip") is None,
        reason="only root may make network namespaces, with iproute2",
    ),
]

MODEL = """
import os
import pathlib
import time

import torch


class Waits(torch.nn.Module):
    calls = 0

    def forward(self, x):
        time.sleep(0.002)
        self.calls += 1
        if self.calls == 20:
            pathlib.Path(f"{__file__}.calls." + os.environ["RANK"]).touch()
        return x


def model():
    return Waits()


def inputs():
    return [torch.zeros(1)]
"""
# How far the clock of the second host is ahead of the first one's.
AHEAD_S = 1000


class Host:
    """A network namespace with an address, a name, and perhaps a clock of its own."""

    def __init__(self, number: int, ahead_s: int) -> None:
        self.namespace = f"inferload-{os.getpid()}-{number}"
        self.link = f"il{os.getpid() % 100_000}-{number}"
        self.address = f"10.99.0.{number + 1}"
        self.number = number
        self.ahead_s = ahead_s
        self.forks = Forks(within=self.command())

    def command(self, *words: str) -> list[str]:
        """A command on this host."""
        own = ["--uts"]
        if self.ahead_s:
            own += ["--time", "--monotonic", str(self.ahead_s)]
        set_name = f'hostname host-{self.number}; exec "$@"'
        return [
            *("ip", "netns", "exec", self.namespace),
            *("unshare", *own, "sh", "-c", set_name, "sh", *words),
        ]

    def start(self, *words: str, really: bool) -> subprocess.Popen[str]:
        """Start a program of Python on this host, or fork it where one has imported torch."""
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        if really:
            return subprocess.Popen(self.command(sys.executable, *words), **streams)
        return Forked([sys.executable, *words], forks=self.forks, **streams)

    def kill_all(self) -> None:
        """End everything on this host."""
        self.forks.end()
        found = ip("netns", "pids", self.namespace, check=False).split()
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)


def ip(*words: str, check: bool = True) -> str:
    done = subprocess.run(["ip", *words], check=check, capture_output=True, text=True)
    return done.stdout


@pytest.fixture
def hosts() -> Iterator[list[Host]]:
    found = [Host(0, 0), Host(1, AHEAD_S)]
    try:
        names = "".join(f"{one.address} host-{one.number}\n" for one in found)
        for one in found:
            # where `ip netns exec` looks for an /etc/hosts of the namespace's own
            own_names = Path("/etc/netns", one.namespace, "hosts")
            own_names.parent.mkdir(parents=True)
            own_names.write_text("127.0.0.1 localhost\n" + names)
            ip("netns", "add", one.namespace)
        ip("link", "add", found[0].link, "type", "veth", "peer", "name", found[1].link)
        for one in found:
            ip("link", "set", one.link, "netns", one.namespace)
            ip("-n", one.namespace, "addr", "add", f"{one.address}/24", "dev", one.link)
            ip("-n", one.namespace, "link", "set", one.link, "up")
            ip("-n", one.namespace, "link", "set", "lo", "up")
        yield found
    finally:
        for one in found:
            one.kill_all()
            ip("netns", "del", one.namespace, check=False)
            shutil.rmtree(Path("/etc/netns", one.namespace), ignore_errors=True)


def started(
    hosts: list[Host], *words: object, rendezvous: str = "static", really: bool = False
) -> list[subprocess.Popen[str]]:
    """Two ranks on each host, which find each other in one of the two ways of docs/cluster.md."""
    meet = ["--master-addr", hosts[0].address, "--master-port", "29500"]
    if rendezvous == "c10d":
        meet = ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"{hosts[0].address}:29500"]
    return [
        host.start(
            *("-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "2"),
            *("--node-rank", str(host.number), *meet, IMPATIENT, "run", *map(str, words)),
            really=really,
        )
        for host in hosts
    ]


@pytest.fixture
def model(tmp_path: Path) -> str:
    path = tmp_path / "mine.py"
    path.write_text(MODEL)
    return f"{path}:model"


@pytest.mark.parametrize("rendezvous", ["static", "c10d"])
def test_hosts_whose_clocks_differ_start_together(rendezvous, hosts, model, tmp_path):
    path = tmp_path / "r.json"
    words = (model, "--duration", "2s", "--json", path)
    both = started(hosts, *words, rendezvous=rendezvous, really=rendezvous == "c10d")
    said = [one.communicate(timeout=120)[1] for one in both]
    assert [one.returncode for one in both] == [0, 0], said
    result = il.load_result(path)
    # with c10d it is not said beforehand which host has the first ranks
    first, second = result.ranks[0].host, result.ranks[2].host
    assert {first, second} == {"host-0", "host-1"}
    assert [one.host for one in result.ranks] == [first, first, second, second]
    assert [one.late_ms for one in result.ranks] == [0.0] * 4
    # one's own clock is known exactly; one that is not known within 10 ms is told of
    errors = [one.clock_error_ms for one in result.ranks]
    assert errors[:2] == [0.0, 0.0]
    assert 0 < errors[2] == errors[3]
    assert ("clock-unsure" in [one.code for one in result.warnings]) == (errors[2] > 10)
    # clocks are 1,000 s apart; all ranks begin at the line and end two seconds later
    error_ns = errors[2] * 1e6
    assert min(one.start_late_ms for one in result.ranks) >= -errors[2]
    for rank in range(4):
        own = result.log.process == rank
        assert result.log.finished_ns[own].max() >= 2e9 - error_ns
        assert np.count_nonzero(result.log.started_ns[own] > 2e9 + error_ns) <= 1


def test_a_host_that_is_cut_off_is_lost_and_the_other_one_goes_on(hosts, model, tmp_path):
    path = tmp_path / "r.json"
    both = started(hosts, model, "--duration", "5s", "--json", path)
    called = [Path(f"{model.removesuffix(':model')}.calls.{rank}") for rank in range(4)]
    until(lambda: all(one.exists() for one in called))
    ip("-n", hosts[1].namespace, "link", "set", hosts[1].link, "down")
    _, said = both[0].communicate(timeout=PATIENCE_S)
    assert re.search(r"rank 2 \(host-1\) was not heard of for \d+ s, and 1 more were lost", said)
    result = il.load_result(path)
    assert result.status == "rank lost"
    assert [one.lost is None for one in result.ranks] == [True, True, False, False]
    # nobody has stopped the first host's ranks: theirs is a whole run
    assert result.summary.from_s + result.summary.duration_s > 4.5
    for rank in range(2):
        assert result.log.finished_ns[result.log.process == rank].max() >= 5e9
    hosts[1].kill_all()
    both[1].communicate(timeout=PATIENCE_S)
