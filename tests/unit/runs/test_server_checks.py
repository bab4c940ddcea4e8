"""What is doubtful about a run that asked a server."""

from __future__ import annotations

from dataclasses import replace

import pytest

import inferload as il
from inferload.records.figures import CpuUse
from inferload.records.server import ServerFigures, ServerSpec
from inferload.runs.checks.findings import Findings
from inferload.runs.checks.servers import reopened, sender

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
