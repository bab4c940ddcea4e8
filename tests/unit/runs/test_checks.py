"""Each warning: what gives rise to it, and that nothing else does."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import psutil
import pytest
from conftest import result_of

import inferload as il
from inferload.log.calls import CallLog
from inferload.machine import hardware as machine
from inferload.machine.disturbances import Disturbances
from inferload.runs.checks import result as checks
from inferload.runs.checks.findings import Findings
from inferload.stats.summary import judged, summarize


def log_of(response_ms: np.ndarray, gap_ms: float = 10.0, late_ms: float = 0.0) -> CallLog:
    count = len(response_ms)
    scheduled = (np.arange(count) * gap_ms * 1e6).astype(np.int64)
    started = scheduled + int(late_ms * 1e6)
    return CallLog(
        scheduled_ns=scheduled,
        started_ns=started,
        finished_ns=started + (response_ms * 1e6).astype(np.int64),
        caller=np.zeros(count, np.int32),
        input=np.zeros(count, np.int32),
        error=np.full(count, -1, np.int32),
        open_loop=late_ms > 0,
    )


QUIET = 5.0 + np.arange(2000) % 7 / 100
NOISE = np.random.default_rng(0).normal(5, 0.5, 4000)
NOISY = log_of(NOISE, late_ms=1e-5)


def found(
    *,
    log: CallLog | None = None,
    disturbances: Disturbances | None = None,
    spec: dict[str, object] | None = None,
    unfinished: int = 0,
    **given: object,
) -> set[str]:
    told = warnings_of(
        log=log, disturbances=disturbances, spec=spec, unfinished=unfinished, **given
    )
    assert all(one.message and one.hint for one in told)
    return {one.code for one in told}


def warnings_of(
    *,
    log: CallLog | None = None,
    disturbances: Disturbances | None = None,
    spec: dict[str, object] | None = None,
    unfinished: int = 0,
    **given: object,
) -> list[il.RunWarning]:
    base = result_of()
    calls = log if log is not None else log_of(QUIET, late_ms=1e-5)
    findings = Findings(
        spec=replace(
            base.spec,
            **{"executor": "native", "form": "script", "drain_s": 30.0 if calls.open_loop else None}
            | (spec or {}),
        ),
        summary=summarize(calls, (1, 1), unfinished=unfinished),
        steady=judged(calls),
        disturbances=disturbances or Disturbances(),
        made_calls=len(calls),
        **given,
    )
    return checks.warnings_after(findings)


def test_a_quiet_open_loop_has_no_warnings():
    assert found() == set()


@pytest.mark.parametrize(
    ("code", "given"),
    [
        ("closed-loop-tail", {"log": log_of(QUIET)}),
        ("too-few-calls", {"log": log_of(QUIET[:999], late_ms=1e-5)}),
        ("unsteady", {"log": log_of(QUIET * np.linspace(1, 1.2, 2000), late_ms=1e-5)}),
        ("unfinished", {"unfinished": 3}),
        ("not-precise", {"log": NOISY, "spec": {"precision": 1e-5}}),
        ("calls-lost", {"spec": {"calls": 2001}}),
        ("floor", {"floor_ms": 0.26}),
        ("late", {"log": log_of(QUIET, late_ms=0.06)}),
        ("gil", {"spec": {"form": "eager"}, "disturbances": Disturbances(gil_wait_ms=1.1)}),
        ("gc", {"disturbances": Disturbances(gc_pauses=1, gc_longest_ms=1.2, gc_total_ms=1.2)}),
        ("run-queue", {"run_delay_s": 0.21}),
        ("throttled", {"disturbances": Disturbances(throttled_s=0.1)}),
        ("steal", {"disturbances": Disturbances(steal_fraction=0.006)}),
        ("disk-full", {"disk_full": True}),
        ("log-full", {"log_was_full": True}),
        ("outputs-differ", {"verification": il.Verification(compared=9, differing=1, caller=0)}),
        ("not-verified", {"verification": il.Verification(compared=0, differing=0, reason="no")}),
    ],
)
def test_each_threshold_has_its_warning_and_no_other(code, given):
    # a drift is a correlation, and so leaves fewer calls that count
    assert found(**given) - ({"too-few-calls"} if code == "unsteady" else set()) == {code}


@pytest.mark.parametrize(
    "given",
    [
        {"floor_ms": 0.24},
        {"spec": {"precision": 0.4}},
        {"log": log_of(QUIET, late_ms=0.04)},
        {"spec": {"form": "eager"}, "disturbances": Disturbances(gil_wait_ms=0.9)},
        {"disturbances": Disturbances(gc_pauses=1, gc_longest_ms=0.4, gc_total_ms=0.4)},
        {"run_delay_s": 0.19},
        {"disturbances": Disturbances(throttled_s=0.0, steal_fraction=0.004)},
    ],
)
def test_below_its_threshold_there_is_none(given):
    assert found(**given) == set()


def hint_of(code: str, **given: object) -> str:
    return next(one.hint for one in warnings_of(**given) if one.code == code)


def said_of(code: str, **given: object) -> str:
    return next(one.message for one in warnings_of(**given) if one.code == code)


def test_a_run_that_ended_before_its_figures_were_precise_says_what_helps():
    given = {"spec": {"precision": 1e-5, "time_limit_s": 60.0}}
    assert hint_of("not-precise", log=NOISY, **given).startswith("a longer --time-limit")
    assert "it was ended because" not in said_of("not-precise", log=NOISY, **given)
    unknown = said_of("not-precise", log=log_of(QUIET[:30], late_ms=1e-5), **given)
    assert "p99 not known, throughput not known" in unknown


@pytest.mark.parametrize(
    ("log", "last"),
    [
        (log_of(NOISE, late_ms=1e-5), "the calls still due widened them"),
        (log_of(NOISE), "the last calls of its callers widened them"),
    ],
    ids=["open", "closed"],
)
def test_figures_that_the_last_calls_made_wider_than_asked_are_told_with_both_widths(log, last):
    spec = {"precision": 0.01, "time_limit_s": 60.0}
    given = {"log": log, "spec": spec, "widths_when_ended": {"p99": 0.0085, "throughput": 0.0011}}
    said = said_of("not-precise", **given)
    assert re.search(r"not within 1\.00%: p99 \+/- [1-9]\d*\.\d%, throughput \+/- ", said)
    assert f"it was ended because they were (p99 +/- 0.9%, throughput +/- 0.1%), and {last}" in said
    assert hint_of("not-precise", **given).startswith("a smaller --precision leaves room")


@pytest.mark.parametrize(
    ("threads", "threads_set", "says", "hint"),
    [
        ((1,), (2,), "and its caller had 1: the model sets it itself", "torch.set_num_threads"),
        ((2, 1), (2, 2), "and 1 of 2 callers had 1: the model sets it itself", "or --threads-per"),
        ((1,), (1,), "and its caller had 1", "an environment variable"),
        ((1,), (), "and its caller had 1", "an environment variable"),  # native, or an older result
        ((2, 0), (2, 0), None, None),  # one never began
    ],
)
def test_threads_that_are_not_in_force_are_told_with_who_set_them(threads, threads_set, says, hint):
    process = il.ProcessFigures(
        process=0, pid=1, callers=len(threads), completed_calls=1, failed_calls=0,
        throughput_calls_per_s=1.0, p50_ms=None, p99_ms=None, threads=threads,
        threads_set=threads_set,
    )  # fmt: skip
    told = warnings_of(spec={"threads_per_call": 2}, processes=(process,))
    found = [one for one in told if one.code == "threads-not-in-force"]
    assert [one.message.endswith(says or "") for one in found] == [True] * (says is not None)
    assert all(hint in one.hint for one in found)


@pytest.fixture
def cpus(tmp_path, monkeypatch):
    """Writes what the system says of the governor of each core."""
    monkeypatch.setattr(machine, "CPUS", tmp_path)
    own = sorted(psutil.Process().cpu_affinity())

    def write(*governors: str) -> None:
        for number, governor in zip(own, [*governors, *[governors[-1]] * len(own)], strict=False):
            folder = tmp_path / f"cpu{number}" / "cpufreq"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "scaling_governor").write_text(f"{governor}\n")

    return write


def test_the_governor_is_that_of_the_cores_that_callers_may_use(cpus):
    assert machine.governor() is None
    cpus("performance")
    assert machine.governor() == "performance"
    if len(psutil.Process().cpu_affinity()) > 1:
        cpus("powersave", "performance")
        assert machine.governor() == "performance, powersave"


def test_a_governor_that_changes_the_clock_is_a_warning(cpus):
    cpus("powersave")
    result = result_of()
    assert result.environment["governor"] == "powersave"
    (said,) = [one.message for one in result.warnings if one.code == "governor"]
    assert said == "the CPU governor is 'powersave': the clock follows the load"
    cpus("performance")
    assert "governor" not in [one.code for one in result_of().warnings]


def test_turbo_is_a_warning_where_it_is_on(monkeypatch):
    for state, warned in ((True, True), (False, False), (None, False)):
        monkeypatch.setattr("inferload.callers.local.environment.turbo", lambda state=state: state)
        assert ("turbo" in [one.code for one in result_of().warnings]) == warned


def of_machines(**machines: dict[str, object]) -> list[str]:
    """What is said of machines, whatever the one is like on which it is said."""
    given = Findings(
        spec=result_of().spec,
        summary=summarize(log_of(QUIET), (1, 1)),
        steady=judged(log_of(QUIET)),
        disturbances=Disturbances(),
        made_calls=len(QUIET),
        machines=machines,
    )
    both = {"governor", "turbo"}
    return [one.message for one in checks.warnings_after(given) if one.code in both]


def test_governor_and_turbo_are_those_of_the_callers_machines_by_name(cpus, monkeypatch):
    cpus("powersave")
    monkeypatch.setattr("inferload.callers.local.environment.turbo", lambda: True)
    well = {"governor": "performance", "turbo": False}
    assert of_machines(a=well, b=well | {"governor": None, "turbo": None}) == []
    slow = {"governor": "powersave", "turbo": True}
    assert of_machines(a=well, b=slow, c=slow) == [
        "the CPU governor of b, c is 'powersave': the clock follows the load",
        "turbo is on of b, c: the clock depends on heat and on how many cores are busy",
    ]
    many = {f"h{number}": slow for number in range(9)}
    assert of_machines(**many)[0].startswith("the CPU governor of h0, h1, h2, h3 and 5 more is")


def test_python_callers_that_hold_the_gil_are_found():
    def busy(x):
        return sum(range(500_000))  # in C, which never lets go of the GIL

    result = result_of_callable(busy, calls=100)
    message = next(one.message for one in result.warnings if one.code == "gil")
    assert "waited" in message


def test_garbage_collection_within_the_run_is_found():
    import gc

    result = result_of_callable(lambda _: gc.collect(), calls=20, callers=1)
    message = next(one.message for one in result.warnings if one.code == "gc")
    # a call of collect() returns at once while another thread collects
    assert int(re.search(r"ran (\d+) times", message)[1]) >= 10


def result_of_callable(function, calls: int = 400, callers: int = 2) -> il.RunResult:
    import torch

    load = il.ClosedLoop(callers=callers)
    return il.run(function, [torch.zeros(1)], load=load, calls=calls, warmup_calls=0)
