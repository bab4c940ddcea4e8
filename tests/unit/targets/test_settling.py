"""What a call returned before its work was done, brought to its end."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading

import pytest
import torch
import torch.distributed as dist
from torch.distributed import _functional_collectives as collectives
from torch.distributed._functional_collectives import AsyncCollectiveTensor

import inferload as il
from inferload.targets.outputs.settling import settled
from inferload.targets.outputs.unfinished import Answering, kind_of


async def coroutine(x: int) -> int:
    await asyncio.sleep(0)
    return x + 1


async def stream(x: int):
    yield x
    yield x + 1


def generator(x: int):
    yield from (x, x + 1)


def later(x: int) -> torch.futures.Future:
    found: torch.futures.Future = torch.futures.Future()
    threading.Timer(0.001, lambda: found.set_result(x + 1)).start()
    return found


def of_threads(x: int) -> concurrent.futures.Future:
    return concurrent.futures.ThreadPoolExecutor(1).submit(int.__add__, x, 1)


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda x: x + 1, 2),
        (coroutine, 2),
        (stream, [1, 2]),
        (generator, [1, 2]),
        (iter([1, 2]).__iter__, [1, 2]),
        (later, 2),
        (of_threads, 2),
    ],
    ids=["value", "coroutine", "stream", "generator", "iterator", "torch", "threads"],
)
def test_whatever_is_returned_is_brought_to_its_end(call, expected):
    output = call(1) if call.__name__ != "__iter__" else call()
    assert settled(output, "model") == expected


def test_a_coroutine_is_brought_to_its_end_where_a_loop_runs_already():
    async def cell():
        return settled(coroutine(1), "model"), asyncio.get_running_loop() is not None

    assert asyncio.run(cell()) == (2, True)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (coroutine, (False, True)),
        (stream, (True, True)),
        (generator, (True, False)),
        (later, (False, False)),
    ],
    ids=["coroutine", "stream", "generator", "function"],
)
def test_definitions_say_what_calls_return(function, expected):
    found = Answering.of(function)
    assert (found.in_pieces, found.asynchronous) == expected
    assert found.later == any(expected)


def test_tensors_and_plain_values_are_whole():
    for value in (torch.ones(1), 1, "words", [torch.ones(1)], {"a": 1}, None):
        assert kind_of(value) is None


@pytest.fixture
def group():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield dist.group.WORLD
    dist.destroy_process_group()


@pytest.mark.parametrize("nested", [False, True])
def test_a_collective_that_is_under_way_is_waited_for_within_the_call(group, nested, monkeypatch):
    waited = []
    wait = AsyncCollectiveTensor.wait
    monkeypatch.setattr(
        AsyncCollectiveTensor, "wait", lambda self: (waited.append(1), wait(self))[1]
    )

    def reduces(x):
        found = collectives.all_reduce(x, "sum", group)
        return {"sum": found} if nested else found

    result = il.run(reduces, [torch.ones(3)], calls=20, warmup_calls=2)
    assert result.summary.completed_calls == 20
    assert len(waited) >= 22  # each warm-up call and each other one
