"""Callers that are tasks of one event loop."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
import time
from contextlib import suppress

import pytest
import torch

import inferload as il
from inferload.callers.tasks.loops import loop_name, new_loop


def run(model, **options):
    given = {"calls": 30, "warmup_calls": 2, "load": il.ClosedLoop(callers=3)}
    return il.run(model, [torch.zeros(1)], **given | options)


async def adds(x):
    await asyncio.sleep(0)
    return x + 1


async def tells(x):
    for piece in range(3):
        await asyncio.sleep(0)
        yield x + piece


class Asynchronous(torch.nn.Module):
    async def forward(self, x):
        return x + 1


class Streams(torch.nn.Module):
    def forward(self, x):
        yield x


class Called:
    async def __call__(self, x):
        return x + 1


def hidden(x):
    return tells(x)


def hides_coroutine(x):
    return adds(x)


async def returns_pieces(x):
    return tells(x)


@pytest.mark.parametrize(
    "model",
    [adds, tells, Asynchronous(), Called(), Called().__call__],
    ids=["coroutine", "generator", "module", "object", "method"],
)
def test_coroutines_are_called_by_tasks_without_being_asked_for(model):
    result = run(model)
    assert result.spec.executor == "async"
    assert result.log.calls_made == 30
    assert result.environment["event_loop"] == loop_name()


@pytest.mark.parametrize("model", [tells, hidden, returns_pieces], ids=["says", "hides", "awaits"])
@pytest.mark.parametrize(
    "load", [il.ClosedLoop(callers=2), il.OpenLoop.constant(2000, callers=2)], ids=["loop", "rate"]
)
def test_asynchronous_generators_are_used_up(model, load):
    assert (run(model, executor="async", load=load).log.pieces == 3).all()


@pytest.mark.parametrize("model", [adds, tells], ids=["coroutine", "generator"])
def test_what_threads_and_native_callers_do_not_await_is_refused_with_the_way_round(model):
    for executor in ("threads", "native"):
        with pytest.raises(il.PlanError, match=r"is asynchronous.*use the executor async"):
            run(model, executor=executor)


def test_a_coroutine_that_only_its_call_shows_is_refused_by_threads_with_the_way_round():
    with pytest.raises(il.PlanError, match=r"returns a coroutine, which nobody awaits.*--exec"):
        run(hides_coroutine)
    assert run(hides_coroutine, executor="async", verify=True).verification.compared == 30


@pytest.mark.parametrize("what", ["value", "generator", "future", "torch future", "task"])
def test_tasks_bring_whatever_is_returned_to_its_end(what):
    pool = concurrent.futures.ThreadPoolExecutor(1)

    def torch_future(x):
        found = torch.futures.Future()
        threading.Timer(0.001, lambda: found.set_result(x + 1)).start()
        return found

    model = {
        "value": lambda x: x + 1,
        "generator": lambda x: iter([x, x + 1]),
        "future": lambda x: pool.submit(torch.add, x, 1),
        "torch future": torch_future,
        "task": lambda x: asyncio.ensure_future(adds(x)),
    }[what]
    log = run(model, executor="async").log
    assert log.completed.all()
    assert bool(log.answers) == (what == "generator")


def test_outputs_of_coroutines_are_compared_with_those_computed_alone():
    assert run(adds, verify=True).verification.compared == 30
    assert run(tells, verify=True).verification.differing == 0
    shared = {"rows": 0}

    async def mixes(x):
        shared["rows"] = row = shared["rows"] + 1
        await asyncio.sleep(0)
        return x + (shared["rows"] != row)

    assert run(mixes, verify=True, load=il.ClosedLoop(callers=4)).verification.differing


def test_a_run_within_a_running_loop_as_in_a_notebook_is_like_any_other():
    async def cell():
        return run(adds, verify=True)

    assert asyncio.run(cell()).verification.compared == 30


def test_an_exception_ends_the_run_or_is_recorded():
    async def fails(x):
        await asyncio.sleep(0)
        raise ValueError("bad row")

    with pytest.raises(il.CallError, match="ValueError: bad row"):
        run(fails, warmup_calls=0)
    result = run(fails, on_error="record", warmup_calls=0)
    assert result.summary.failed_calls == 30


def test_grad_mode_and_context_are_those_of_who_runs():
    seen = []

    async def looks(x):
        seen.append((torch.is_inference_mode_enabled(), torch.get_num_threads()))
        return x

    with torch.inference_mode():
        run(looks, threads_per_call=1)
    assert set(seen) == {(True, 1)}


@pytest.fixture
def quick_beats(monkeypatch):
    """So many that a busy machine has enough of them."""
    monkeypatch.setattr("inferload.callers.tasks.lag.BEAT_NS", 2_000_000)


def test_a_loop_that_calls_hold_up_is_warned_about(quick_beats):
    async def blocks(x):
        time.sleep(0.005)  # noqa: ASYNC251 - which is what is to be found
        await asyncio.sleep(0)
        return x

    load = il.ClosedLoop(callers=2)
    found = {one.code: one for one in run(blocks, duration_s=1.0, calls=None, load=load).warnings}
    assert "calls hold it up, and all others wait" in found["loop-blocked"].message
    assert "asyncio.to_thread" in found["loop-blocked"].hint


def test_batches_are_refused_with_the_way_round():
    with pytest.raises(il.PlanError, match=r"one request at a time.*leave max_batch"):
        run(
            adds,
            load=il.OpenLoop.constant(100, callers=2),
            batching=il.Batching(max_batch=4),
        )


def test_fresh_inputs_are_given_to_coroutines_too():
    async def writes(x):
        x += 1
        return x

    assert run(writes, fresh_inputs=True, verify=True).verification.differing == 0


def test_what_a_model_leaves_in_the_loop_is_ended_with_it():
    left = []

    async def leaves(x):
        left.append(asyncio.ensure_future(asyncio.sleep(1000)))
        return x

    run(leaves)
    assert all(task.cancelled() for task in left)


def test_a_call_that_will_not_be_cancelled_is_given_up_and_leaves_nothing_behind():
    ended = threading.Event()

    async def stubborn(_):
        try:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(1000)
            await asyncio.sleep(1000)
        finally:
            ended.set()

    with pytest.raises(il.CallError, match="had not returned to caller 0") as error:
        run(stubborn, warmup_calls=0, timeout_s=0.05, load=il.ClosedLoop())
    assert error.value.result.status == "timed out"
    assert ended.wait(5)


@pytest.mark.multiprocess
def test_processes_have_a_loop_each(tmp_path):
    (tmp_path / "served.py").write_text(
        "import asyncio, torch\n"
        "async def model(x):\n    await asyncio.sleep(0.005)\n    yield 1\n    yield 2\n"
        "def inputs():\n    return [torch.zeros(1)]\n"
    )
    result = il.run(
        f"{tmp_path}/served.py:model",
        load=il.OpenLoop.poisson(400, callers=3),
        processes=2,
        calls=80,
        warmup_calls=2,
    )
    assert (result.log.pieces == 2).all()
    assert {one.pid for one in result.processes}.isdisjoint({os.getpid()})
    assert result.spec.executor == "async"


def test_uvloop_is_taken_where_it_is_installed(monkeypatch):
    class Own(asyncio.SelectorEventLoop):
        pass

    fake = type("uvloop", (), {"new_event_loop": Own, "__version__": "9"})
    monkeypatch.setitem(__import__("sys").modules, "uvloop", fake)
    loop = new_loop()
    loop.close()
    assert isinstance(loop, Own)
    assert loop_name() == "uvloop 9"


def test_a_loop_that_is_never_idle_still_knows_that_it_is_held_up(quick_beats):
    async def computes(x):
        time.sleep(0.01)  # noqa: ASYNC251 - more than there is time for
        return x

    load = il.OpenLoop.constant(400, callers=1, drain_s=0.0)
    result = run(computes, load=load, calls=None, duration_s=1.0)
    assert "loop-blocked" in [one.code for one in result.warnings]


class OnlyIterable:
    """As a StreamingResponse: nothing is computed before it is asked for."""

    def __aiter__(self):
        return tells(torch.zeros(1))


def test_what_is_only_asynchronously_iterable_is_used_up_too():
    assert (run(lambda x: OnlyIterable(), executor="async").log.pieces == 3).all()
    with pytest.raises(il.PlanError, match="an asynchronous generator, which nobody awaits"):
        run(lambda x: OnlyIterable())


@pytest.mark.parametrize("form", ["compile", "export", "script", "aoti", "cudagraph"])
def test_forms_that_cannot_wait_are_refused_with_the_way_round(form):
    with pytest.raises(
        il.PlanError, match=r"is asynchronous, which nothing in the form .*own code"
    ):
        run(Asynchronous(), form=form)
    if form != "compile":
        with pytest.raises(il.PlanError, match="answers in pieces, which nothing in the form"):
            run(Streams(), form=form)
