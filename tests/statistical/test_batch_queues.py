"""Dynamic batching in counted time: its definition, and queues with known answers."""

from __future__ import annotations

from math import comb, factorial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import inferload as il
from inferload.callers.python.executor import ThreadsExecutor
from support.batch_queue import Served, served
from support.virtual_time import VirtualClock

US, MS = 1_000, 1_000_000


def run_of(load, service_ns, batching=None, shapes=(1,), **options):
    """A run in counted time of a model that takes ``service_ns(size)``; each shape is a group."""
    clock = VirtualClock()

    def model(x: torch.Tensor) -> torch.Tensor:
        clock.sleep(service_ns(len(x)))
        return x

    given = {"warmup_calls": 0, "warmup": "fixed", "executor": ThreadsExecutor(clock)}
    inputs = [torch.zeros(1, size) for size in shapes]
    return il.run(model, inputs, load=load, batching=batching, **given | options)


def batches_of(log: il.CallLog) -> list[tuple[int, ...]]:
    number = log.batches["batch"]
    return [tuple(np.flatnonzero(number == one).tolist()) for one in range(number.max() + 1)]


def by_definition(log: il.CallLog, **how) -> list[Served]:
    return served(log.scheduled_ns.tolist(), log.input.tolist(), **how)


def check_same(log: il.CallLog, expected: list[Served]) -> None:
    assert batches_of(log) == [one.members for one in expected]
    for one in expected:
        members = list(one.members)
        assert set(log.started_ns[members].tolist()) == {one.began}
        assert set(log.finished_ns[members].tolist()) == {one.ended}
        assert set(log.batches["batch_size"][members].tolist()) == {len(members)}
        held_from = np.maximum(log.scheduled_ns[members], one.free)
        held = np.maximum(max(one.ready, one.free) - held_from, 0)
        assert log.stages["hold_ns"][members].tolist() == held.tolist()
        assert not log.stages["late_ns"][members].any()
        assert (log.instance_ns[members] == log.queue_ns[members] - held).all()


@settings(max_examples=40, deadline=None)
@given(
    times=st.lists(st.integers(0, 60), min_size=1, max_size=60),
    shapes=st.integers(1, 3),
    instances=st.integers(1, 3),
    most=st.integers(1, 6),
    delay=st.integers(0, 9),
    seed=st.integers(0, 99),
)
def test_batches_are_those_of_the_definition(times, shapes, instances, most, delay, seed):
    """With ties, replays, several groups, and instances that are busy or free."""
    took = lambda size: (3 + 2 * size) * MS  # noqa: E731
    result = run_of(
        il.OpenLoop.replay(np.array(sorted(times)) / 1e3, callers=instances),
        took,
        il.Batching(max_batch=most, max_delay_s=delay / 1e3),
        shapes=range(1, shapes + 1),
        seed=seed,
    )
    check_same(
        result.log,
        by_definition(
            result.log,
            instances=instances,
            most=most,
            delay=delay * MS,
            service=lambda _, size: took(size),
        ),
    )


@pytest.mark.slow
@pytest.mark.parametrize(("most", "delay_ms", "instances"), [(8, 0, 1), (8, 3, 2), (64, 5, 4)])
def test_a_long_run_is_as_the_definition_has_it(most, delay_ms, instances):
    took = lambda size: 4 * MS + size * 100 * US  # noqa: E731
    result = run_of(
        il.OpenLoop.poisson(rate_per_s=900 * instances, callers=instances, seed=3),
        took,
        il.Batching(max_batch=most, max_delay_s=delay_ms / 1e3),
        calls=20_000,
    )
    expected = by_definition(
        result.log,
        instances=instances,
        most=most,
        delay=delay_ms * MS,
        service=lambda _, size: took(size),
    )
    check_same(result.log, expected)
    found = result.summary.batches
    assert found.batches == len(expected)
    assert found.mean_size == pytest.approx(20_000 / len(expected))
    assert dict(found.sizes) == {
        size: sum(len(one.members) == size for one in expected)
        for size in {len(one.members) for one in expected}
    }


def test_bulk_service_of_a_full_house_is_known():
    """M/D^[b]/1 far beyond what it can serve: every batch is full, and serves b / s."""
    result = run_of(
        il.OpenLoop.poisson(rate_per_s=4000, seed=1),
        lambda _: 10 * MS,
        il.Batching(max_batch=16),
        calls=8_000,
    )
    sizes = dict(result.summary.batches.sizes)
    assert sizes[16] >= 0.99 * sum(sizes.values())
    assert result.summary.overload.served_per_s == pytest.approx(1600, rel=0.01)


def test_a_batch_of_any_size_has_what_came_during_the_one_before():
    """M/D^[inf]/1 without a delay: each batch has what came during the one before it.

    That is a Poisson number of mean a = rate s, or 1 if none came: a + exp(-a) in the mean.
    """
    rate, service_s = 300.0, 0.01
    result = run_of(
        il.OpenLoop.poisson(rate_per_s=rate, seed=5),
        lambda _: 10 * MS,
        il.Batching(max_batch=4096),
        calls=60_000,
    )
    arrivals = rate * service_s
    # 60,000 requests are 19,700 batches, of a variance of 3: 0.06 in 3 deviations are 2 %
    assert result.summary.batches.mean_size == pytest.approx(arrivals + np.exp(-arrivals), rel=0.02)


@pytest.mark.parametrize("think", ["exponential", "constant"])
def test_clients_of_one_server_are_the_machine_repair_queue(think):
    """M/D/1//N with think time is known to lie between its bounds; with one client it is exact."""
    result = run_of(
        il.ClosedLoop(clients=1, think_s=0.03, think=think), lambda _: 10 * MS, calls=4_000
    )
    # one client: a cycle of 40 ms; exponential times have a deviation of 30 ms / sqrt(4000): 1.2 %
    assert result.summary.throughput_calls_per_s.value == pytest.approx(25, rel=0.04)
    assert result.summary.littles_law == pytest.approx(1, abs=0.01)
    assert not result.summary.queue_ms.max


def test_exponential_clients_of_many_exponential_servers_are_erlangs_engset_queue():
    """M/M/c//N (Engset, with waiting): the throughput of 12 clients and 3 servers."""
    clients, servers, think_s, service_s = 12, 3, 0.03, 0.01
    draws = iter(np.random.default_rng(1).exponential(service_s * 1e9, 60_000).astype(int).tolist())
    result = run_of(
        il.ClosedLoop(clients=clients, callers=servers, think_s=think_s),
        lambda _: next(draws),
        calls=40_000,
    )
    ratio = service_s / think_s

    def waiting(n: int) -> float:
        more = max(n - servers, 0)
        return factorial(servers + more) / factorial(servers) / servers**more

    weights = [comb(clients, n) * ratio**n * waiting(n) for n in range(clients + 1)]
    total = sum(weights)
    busy = sum(min(n, servers) * weight for n, weight in enumerate(weights)) / total
    found = result.summary.throughput_calls_per_s
    assert found.value == pytest.approx(busy / service_s, rel=0.02)
    assert result.summary.littles_law == pytest.approx(1, abs=0.005)
    assert result.summary.completed_calls == 40_000


def test_batches_of_clients_have_exact_counts_and_no_one_waits_twice():
    """40 clients without think time: every request follows the answer to the one before it."""
    result = run_of(
        il.ClosedLoop(clients=40, callers=2),
        lambda size: (1 + size) * MS,
        il.Batching(max_batch=8, max_delay_s=0.005),
        calls=1_003,
    )
    log = result.log
    assert len(log) == result.summary.completed_calls == 1_003
    assert np.array_equal(np.sort(log.scheduled_ns), log.scheduled_ns)
    due, answered = log.scheduled_ns[40:], np.sort(log.finished_ns)[: 1_003 - 40]
    assert not log.scheduled_ns[:40].any()
    assert due.tolist() == answered.tolist()
    in_flight = [
        int(((log.scheduled_ns <= time) & (log.finished_ns > time)).sum())
        for time in np.unique(log.finished_ns)[:-10].tolist()
    ]
    assert max(in_flight) <= 40
