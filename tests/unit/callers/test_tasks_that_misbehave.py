"""Coroutines that do to their task or their loop what no model should: it is told, never silent."""

from __future__ import annotations

import asyncio
import time
from itertools import count

import pytest
import torch

import inferload as il


def run(model, **options):
    given = {"calls": 100, "warmup_calls": 1, "load": il.ClosedLoop(callers=2)}
    return il.run(model, [torch.zeros(1)], **given | options)


@pytest.mark.parametrize("on_error", ["stop", "record"])
@pytest.mark.parametrize(
    "load", [il.ClosedLoop(callers=2), il.OpenLoop.constant(2000, callers=2)], ids=["loop", "rate"]
)
def test_a_call_that_cancels_its_own_task_ends_the_run_with_an_error(load, on_error):
    numbers = count()

    async def cancels(_):
        if next(numbers) == 30:
            asyncio.current_task().cancel()

    with pytest.raises(il.PlanError, match="cancelled the task that it was made in"):
        run(cancels, load=load, on_error=on_error)


@pytest.mark.parametrize("ending", [KeyboardInterrupt, SystemExit, "stop"])
def test_a_model_that_ends_its_loop_ends_the_run_with_what_ended_it(ending):
    numbers = count()

    async def ends(_):
        async def raises():
            raise ending

        if next(numbers) == 30:
            if ending == "stop":
                asyncio.get_running_loop().stop()
            else:
                left.append(asyncio.ensure_future(raises()))
        await asyncio.sleep(0.001)

    left = []
    word = "RuntimeError" if ending == "stop" else ending.__name__
    with pytest.raises(il.PlanError, match=f"ended the event loop that it was called in: {word}"):
        run(ends, on_error="record")


def test_tasks_that_will_not_be_cancelled_do_not_keep_the_run():
    async def leaves(_):
        async def stays():
            while True:
                try:
                    await asyncio.sleep(1000)
                except asyncio.CancelledError:  # noqa: PERF203 - as some do
                    continue

        left.append(asyncio.ensure_future(stays()))

    left = []
    assert run(leaves, calls=3, load=il.ClosedLoop()).summary.completed_calls == 3


def test_a_call_that_returns_after_its_time_has_failed_all_the_same():
    async def swallows(_):
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            await asyncio.sleep(0)

    async def blocks(_):
        time.sleep(0.06)  # noqa: ASYNC251 - which nothing can cancel

    for model in (swallows, blocks):
        result = run(
            model, calls=3, load=il.ClosedLoop(), timeout_s=0.05, on_error="record", warmup_calls=0
        )
        assert result.summary.failed_calls == 3
        assert result.log.errors[0].type == "TimedOut"


def test_calls_that_become_slow_keep_all_callers_busy():
    """Ranges of rows that tasks took while calls were fast are shared alike by all of them."""
    numbers = count()

    async def cold(_):
        if next(numbers) > 3000:
            await asyncio.sleep(0.005)

    log = run(cold, calls=4000, load=il.ClosedLoop(callers=16)).log
    slow = log.rows(log.service_ns > 4_000_000)
    made = [int((slow.caller == caller).sum()) for caller in range(16)]
    assert sum(made) >= 900
    assert max(made) < 3 * min(made)
