"""What bounds a run, by effects and figures that are given."""

from __future__ import annotations

import pytest

from inferload.studies.explain.bounds import bound_of
from inferload.studies.explain.facts import Facts
from inferload.studies.records.explanation import Effect, Operator, PerCall, Traced, Work


def effect(name, ratio, *, claimed=None):
    return Effect(
        name=name,
        what=name,
        ratio=ratio,
        low=ratio * 0.98,
        high=ratio * 1.02,
        claimed=abs(ratio - 1) > 0.02 if claimed is None else claimed,
    )


def used(
    cores=2.0, *, usable=2.0, idle=None, system=0.02, faults=0.0, calls_per_s=100.0, busy=None
):
    return PerCall(
        cores=cores,
        usable_cores=usable,
        idle_cores=usable - cores if idle is None else idle,
        system_share=system,
        faults=faults,
        waits=1.0,
        calls_per_s=calls_per_s,
        device_busy=busy,
    )


def traced(operators=(), outside=0.1, times=10.0):
    return Traced(calls=100, slowed=0.9, operators=tuple(operators), times=times, outside=outside)


def bound(*, callers=4, threads=1, effects=None, **more):
    """The answer for a run whose changes have the effects given."""
    more.setdefault("used", used())
    ratios = {"callers-one": 0.5, "callers-twice": 1.0, "batch": 1.0} | (effects or {})
    own = {name: effect(name, ratio) for name, ratio in ratios.items() if ratio is not None}
    return bound_of(Facts(callers=callers, threads=threads, effects=own, **more))


def test_one_caller_that_makes_as_much_as_four_while_threads_wait_for_the_gil():
    found = bound(
        effects={"callers-one": 0.98, "processes": 1.9}, used=used(1.0), waits_for_gil=True
    )
    assert found.word == "gil"
    assert found.says == (
        "The GIL bounds it: one caller makes 98% of what 4 make, with 1.0 of 2 cores at work; "
        "processes make +90%."
    )


@pytest.mark.parametrize(("waits", "word"), [(None, "gil"), (True, "gil"), (False, "lock")])
def test_processes_tell_of_the_gil_unless_no_thread_waited_for_it(waits, word):
    effects = {"callers-one": 0.98, "processes": 1.9}
    found = bound(effects=effects, used=used(1.0), waits_for_gil=waits)
    assert found.word == word


def test_of_one_caller_two_that_make_no_more_show_the_gil():
    effects = {"callers-one": None, "callers-twice": 1.02}
    found = bound(callers=1, effects=effects, used=used(1.0), waits_for_gil=True)
    assert found.word == "gil"
    assert "two callers make 102% of what one makes" in found.says


@pytest.mark.parametrize(
    ("processes", "where"), [(1.9, "in this process"), (1.0, "outside of the process")]
)
def test_one_at_a_time_that_waits_is_a_lock_here_or_elsewhere(processes, where):
    found = bound(effects={"callers-one": 1.0, "processes": processes}, used=used(0.01))
    assert found.word == "lock"
    assert where in found.says


def test_native_callers_have_no_gil_to_wait_for():
    found = bound(effects={"callers-one": 0.98}, used=used(1.0), python=False, waits_for_gil=True)
    assert found.word == "lock"


def test_two_at_a_time_is_a_pool_of_two():
    effects = {"callers-one": 0.5, "callers-half": 1.0}
    found = bound(callers=4, effects=effects, used=used(0.05))
    assert found.word == "lock"
    assert "about 2 calls" in found.says


def test_calls_that_wait_make_more_with_more_callers_on_idle_cores():
    found = bound(effects={"callers-one": 0.25, "callers-twice": 2.0}, used=used(0.04))
    assert found.word == "waiting"
    assert "computes for 1% of the time" in found.says
    assert "+100%" in found.says


def test_one_caller_that_computes_all_the_time_is_too_few():
    effects = {"callers-one": None, "callers-twice": 1.95}
    found = bound(callers=1, effects=effects, used=used(1.0))
    assert found.word == "callers"


def test_cores_that_all_compute_are_the_bound_with_what_they_reach():
    work = Work(operators=5, flops=1e9, bytes=1e6, peak_flops_per_s=2e11, peak_bytes_per_s=4e10)
    found = bound(work=work)
    assert found.word == "compute"
    assert found.says == (
        "The cores bound it: 2.0 of 2 cores are at work, and twice the callers make the same; "
        "calls compute 50% of what a matrix product reaches here."
    )


def test_calls_that_move_most_of_what_a_copy_does_are_bound_by_memory():
    work = Work(operators=1, flops=0, bytes=3e8, peak_flops_per_s=2e11, peak_bytes_per_s=4e10)
    found = bound(work=work)
    assert found.word == "memory"
    assert "75% of what a copy" in found.says


def test_what_stays_in_caches_is_no_traffic_of_memory():
    work = Work(operators=1, flops=0, bytes=3e9, peak_flops_per_s=2e11, peak_bytes_per_s=4e10)
    assert bound(work=work).word == "compute"


def test_memory_that_is_given_back_is_the_bound_where_keeping_it_makes_more():
    effects = {"memory-kept": 3.0, "jemalloc": 1.3}
    found = bound(effects=effects, used=used(system=0.8, faults=11_719.0))
    assert found.word == "allocation"
    assert "with memory-kept it makes +200%" in found.says
    assert "11,719 pages" in found.says


def test_an_allocator_that_is_a_little_faster_is_no_bound():
    effects = {"jemalloc": 1.14}
    assert bound(effects=effects).word == "compute"


def test_more_threads_than_cores_where_one_a_call_makes_more():
    found = bound(threads=2, effects={"threads-1": 1.3})
    assert found.word == "threads"
    assert "4 x 2 = 8 threads of calls on 2 cores" in found.says


def test_many_small_operators_that_take_as_long_for_twice_the_items():
    work = Work(operators=1000, flops=0, bytes=1e5, peak_flops_per_s=2e11, peak_bytes_per_s=4e10)
    found = bound(
        callers=1,
        effects={"callers-one": None, "callers-twice": 0.8, "batch": 1.97, "form-script": 1.3},
        used=used(1.0, calls_per_s=150.0),
        work=work,
        traced=traced(times=5000.0),
        waits_for_gil=True,
    )
    assert found.word == "launches"
    assert "a call has 1,000 of them" in found.says
    assert "form-script +30%" in found.says


def test_a_call_that_costs_the_same_whatever_it_holds():
    found = bound(effects={"batch": 1.8})
    assert found.word == "calls"
    assert "+80% items" in found.says


def test_cores_that_others_have_are_not_idle():
    """One caller makes as much as four where another program has the second core."""
    found = bound(effects={"callers-one": 1.0}, used=used(1.0, idle=0.0), waits_for_gil=True)
    assert found.word == "unknown"
    assert "Other programs, or the machine's owner, had 1.0 of 2 cores meanwhile." in found.says


def test_what_was_not_found_is_said_so():
    found = bound(effects={"callers-one": 0.6, "callers-twice": 1.05}, used=used(1.2))
    assert found.word == "unknown"


def on_device(**more):
    more.setdefault("used", used(0.5, busy=0.3))
    return bound(on_device=True, **more)


def test_a_busy_device_is_the_bound_however_long_calls_are_issued():
    found = on_device(used=used(1.0, busy=0.97), effects={"form-cudagraph": 0.85})
    assert found.word == "device"
    assert "busy for 97%" in found.says


def test_graphs_that_make_more_show_launches():
    found = on_device(effects={"form-cudagraph": 2.5})
    assert found.word == "launches"
    assert "+150%" in found.says


def test_calls_that_make_more_without_copies_are_bound_by_these():
    assert on_device(effects={"transfers-off": 1.6}).word == "transfers"


def test_bringing_values_to_the_host_is_seen_in_the_trace():
    item = Operator(name="aten::_local_scalar_dense", self_ms=0.5, times=10, share=0.4)
    found = on_device(traced=traced([item]))
    assert found.word == "sync"


def test_a_change_within_noise_is_no_reason():
    noisy = {"memory-kept": effect("memory-kept", 1.5, claimed=False)}
    facts = Facts(callers=1, threads=1, used=used(system=0.9), effects=noisy)
    assert bound_of(facts).word == "compute"
