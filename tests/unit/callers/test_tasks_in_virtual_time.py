"""Callers that are tasks of one event loop, in simulated time: known answers."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

import inferload as il
from support.virtual_loop import simulated_tasks
from support.virtual_time import replayed

MS = 1_000_000


def sleeping(*gaps_ms: float):
    def of(clock):
        del clock

        async def answer(_):
            for gap in gaps_ms:
                await asyncio.sleep(gap / 1e3)

        return answer

    return of


def streaming(*gaps_ms: float):
    def of(clock):
        del clock

        async def answer(_):
            for gap in gaps_ms:
                await asyncio.sleep(gap / 1e3)
                yield "token"

        return answer

    return of


def near(values, expected_ms: float) -> bool:
    """Within what a loop's clock of floating seconds can tell apart."""
    return bool((np.abs(np.asarray(values) - expected_ms * MS) <= 1000).all())


def test_tasks_of_a_loop_call_side_by_side():
    result = simulated_tasks(sleeping(10), il.ClosedLoop(callers=8), calls=80)
    assert near(result.log.service_ns, 10)
    assert result.log.finished_ns.max() == pytest.approx(100 * MS, abs=MS)
    assert sorted(np.bincount(result.log.caller)) == [10] * 8
    assert result.spec.executor == "async"


def test_pieces_at_scripted_times_are_stamped_exactly():
    log = simulated_tasks(streaming(20, 5, 5), il.ClosedLoop(callers=4), calls=12).log
    assert near(log.duration_ns("first_piece_ns"), 20)
    assert near(log.piece_times.gaps_ns(), 5)
    assert near(log.service_ns, 30)
    assert (log.pieces == 3).all()


def test_pieces_before_an_exception_are_kept():
    def of(clock):
        del clock

        async def breaks(_):
            for piece in range(4):
                await asyncio.sleep(0.001)
                if piece == 3:
                    raise ValueError("lost the rest")
                yield piece

        return breaks

    load = il.ClosedLoop(callers=2)
    log = simulated_tasks(of, load, calls=6, on_error="record").log
    assert not log.completed.any()
    assert (log.pieces == 3).all()


@pytest.mark.parametrize("callers", [1, 3])
def test_an_open_loop_keeps_its_due_times_and_its_queue_is_that_of_the_replay(callers):
    load = il.OpenLoop.poisson(200 * callers, callers=callers, seed=4)
    result = simulated_tasks(sleeping(4), load, calls=400)
    log = result.log
    order = np.argsort(log.scheduled_ns, kind="stable")
    started = replayed(log.scheduled_ns[order], np.full(400, 4 * MS), callers)
    assert np.abs(log.started_ns[order] - started).max() < 0.001 * MS * 400
    assert (log.scheduled_ns == np.sort(load.schedule(400, None).times_ns)).all()


def test_a_call_that_takes_too_long_is_cancelled_and_the_others_go_on():
    cancelled = []

    def of(clock):
        numbers = iter(range(1000))

        async def stalls(_):
            slow = next(numbers) % 5 == 4
            try:
                await asyncio.sleep(60 if slow else 0.01)
            except asyncio.CancelledError:
                cancelled.append(clock.now_ns())
                raise

        return stalls

    result = simulated_tasks(
        of, il.ClosedLoop(callers=2), calls=50, timeout_s=0.5, on_error="record"
    )
    failed = ~result.log.completed
    assert failed.sum() == len(cancelled) == 10
    assert near(result.log.service_ns[failed], 500)
    (failure,) = result.log.errors
    assert failure.type == "TimedOut"
    assert failure.message == "had not returned after 0.5 s, and was cancelled"


def test_a_call_that_is_cancelled_ends_a_run_that_stops_at_errors():
    with pytest.raises(il.CallError, match=r"TimedOut: had not returned after 0\.2 s") as error:
        simulated_tasks(sleeping(1000), il.ClosedLoop(), calls=5, timeout_s=0.2)
    assert error.value.result.status == "failed"


def test_of_a_closed_loop_of_coroutines_that_never_wait_every_task_has_its_turn():
    def of(clock):
        async def steps(_):
            clock._time_ns += MS

        return steps

    log = simulated_tasks(of, il.ClosedLoop(callers=4), duration_s=1.0).log
    assert min(np.bincount(log.caller, minlength=4)) > 20


def test_clients_think_and_wait_for_the_tasks_that_serve_them():
    """Twelve clients of two tasks: all are served in 60 ms, of which each thinks for 30."""
    load = il.ClosedLoop(callers=2, clients=12, think_s=0.03, think="constant")
    result = simulated_tasks(sleeping(10), load, calls=300)
    assert near(result.log.service_ns, 10)
    settled = result.log.rows(result.log.started_ns > 200 * MS)
    assert near(settled.response_ns, 30)
    assert result.summary.throughput_calls_per_s.value == pytest.approx(200, rel=0.02)
    assert set(result.log.caller.tolist()) == {0, 1}
