"""What is doubtful about a run that asked a server."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import inferload as il
from inferload.log.failures import CallFailure
from inferload.records.figures import CpuUse
from inferload.records.server import Reached, ServerFigures, ServerSeen, ServerSpec
from inferload.report.text.servers import is_here
from inferload.runs.checks.findings import Findings
from inferload.runs.checks.servers import reopened, sender
from inferload.runs.server_result import _figures
from inferload.stats.failures import failure_figures

ASKED = ServerSpec(url="http://a/x", protocol="plain HTTP", http="HTTP/1.1", connections="kept")


@pytest.fixture(scope="module")
def plain() -> il.RunResult:
    return il.run(lambda x: x, [(1,)], calls=20)


def found(plain: il.RunResult, cpu_s: float, lag_ms: float = 0.0, **more) -> Findings:
    """A sender that was on cores for so many of 10 s."""
    use = CpuUse(times_s=(0.0, 10.0), cpu_s=(0.0, cpu_s))
    return Findings(
        spec=replace(plain.spec, servers=(more.pop("asked", ASKED),), processes=2),
        summary=plain.summary,
        steady=plain.steady,
        disturbances=None,
        made_calls=20,
        loop_lag_ms=(lag_ms, lag_ms),
        processes=[replace(one, cpu=use) for one in plain.processes],
        **more,
    )


@pytest.mark.parametrize(("cpu_s", "lag_ms", "told"), [(5, 0, 0), (9, 0, 1), (5, 3, 1)])
def test_a_sender_that_is_busy_is_told(plain, cpu_s, lag_ms, told):
    warnings = list(sender(found(plain, cpu_s, lag_ms)))
    assert len(warnings) == told
    for code, message, hint in warnings:
        assert code == "sender-busy"
        assert f"{cpu_s * 10}% of the time" in message
        assert "--processes 4" in hint


@pytest.mark.parametrize(
    ("law", "open_loop", "told"), [(0.17, False, 1), (0.97, False, 0), (0.17, True, 0)]
)
def test_callers_that_stood_in_line_to_send_are_told(plain, law, open_loop, told):
    busy = found(plain, 9.9)
    busy = replace(
        busy,
        spec=replace(busy.spec, drain_s=1.0 if open_loop else None),
        summary=replace(busy.summary, littles_law=law),
    )
    ((_, message, _),) = sender(busy)
    assert ("stood in line to send for 83% of it" in message) == bool(told)


def test_a_model_here_has_no_sender(plain):
    local = found(plain, 9.9)
    assert not list(sender(replace(local, spec=replace(local.spec, servers=()))))


@pytest.mark.parametrize(
    ("connections", "opened", "told"), [("kept", 0, 0), ("kept", 3, 1), ("new", 30, 0)]
)
def test_connections_that_a_server_closes_are_told(plain, connections, opened, told):
    asked = replace(ASKED, connections=connections)
    seen = [ServerFigures(opened_before=2, opened=opened)]
    warnings = list(reopened(found(plain, 1.0, asked=asked, servers=seen)))
    assert [code for code, *_ in warnings] == ["connections-reopened"] * told


def test_the_busiest_of_several_senders_is_told(plain):
    busy = found(plain, 2.0)
    (one,) = busy.processes
    other = replace(one, cpu=CpuUse(times_s=(0.0, 10.0), cpu_s=(0.0, 9.5)))
    ((_, message, _),) = sender(replace(busy, processes=[one, other, one]))
    assert "95% of the time" in message


@pytest.mark.parametrize(
    ("address", "here"),
    [("127.0.0.1:80", True), ("[::1]:80", True), ("10.0.0.7:80", False), (None, False)],
)
def test_a_server_on_this_machine_is_told(address, here):
    reached = None if address is None else Reached(address=address, resolve_ms=1, connect_ms=1)
    assert is_here(ServerFigures(reached=reached)) is here


def test_what_processes_saw_of_a_server_is_one_thing():
    own = [
        ServerSeen(opened_before=2, opened=3, opened_ms=(1.0, 3.0), resolved_ms=(0.5, 0.5),
                   opened_max_ms=9.0),
        ServerSeen(opened_before=2, opened=1, opened_ms=(2.0,), resolved_ms=(0.1,),
                   opened_max_ms=2.0, software="x"),
    ]  # fmt: skip
    seen = _figures(own)
    assert (seen.opened_before, seen.opened, seen.software) == (4, 4, "x")
    assert (seen.open_p50_ms, seen.open_max_ms, seen.resolve_p50_ms) == (2.0, 9.0, 0.5)


def test_failures_of_a_sample_stand_for_all_of_them():
    log = SimpleNamespace(
        error=np.array([-1, 0, 1, 0]),
        finished_ns=np.array([1, 4, 3, 2]) * 10**9,
        errors=(CallFailure(type="A", message="first"), CallFailure(type="B", message="b")),
        tally=object(),
        calls_failed=30,
    )
    first, second = failure_figures(log)
    assert (first.type, first.calls, first.first_s, first.last_s) == ("A", 20, 2.0, 4.0)
    assert (second.type, second.calls, second.sampled) == ("B", 10, True)
