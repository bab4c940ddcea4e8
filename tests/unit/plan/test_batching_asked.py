"""Batches and clients as they are asked for, in Python and in words."""

from __future__ import annotations

import numpy as np
import pytest

import inferload as il
from inferload.errors import PlanError
from inferload.plan.arrivals.clients import clients_drawn
from inferload.plan.arrivals.load_words import load_from_text
from inferload.plan.batching import batching_from_text
from inferload.plan.options import RunOptions
from inferload.records.batches import EVERY_ARGUMENT


def test_words_say_what_the_object_does():
    found = batching_from_text(64, "2ms", "input_ids=0,labels=-100", "1,8, 64")
    assert found == il.Batching(
        max_batch=64,
        max_delay_s=0.002,
        pad={"input_ids": 0.0, "labels": -100.0},
        sizes_allowed=(1, 8, 64),
    )
    assert batching_from_text(8, "0", "0.5", None).told.pad == {EVERY_ARGUMENT: 0.5}
    assert batching_from_text(8, "0ms", None, None).max_delay_s == 0
    assert batching_from_text(None, None, None, None) is None
    assert il.Batching(max_batch=8, sizes_allowed=(8, 1, 8)).told.sizes_allowed == (1, 8)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((None, "2ms", None, None), "--max-delay '2ms' is of batches: give --max-batch"),
        ((None, None, "0", None), "--batch-pad '0' is of batches"),
        ((None, None, None, "1,2"), "--batch-sizes-allowed '1,2' is of batches"),
        ((8, "soon", None, None), "duration 'soon' is not understood"),
        ((8, None, "x", None), "--batch-pad 'x' is not understood: give a number"),
        ((8, None, "=0", None), "--batch-pad '=0' is not understood"),
        ((8, None, "nan", None), "--batch-pad 'nan' is not understood"),
        ((8, None, None, "1,b"), "--batch-sizes-allowed '1,b' is not understood"),
        ((8, None, None, "0"), "a size of sizes_allowed is 0"),
        ((0, None, None, None), "max_batch is 0: it must be a whole number from 1 to 65,536"),
    ],
)
def test_what_is_not_understood_is_said(given: tuple, words: str):
    with pytest.raises(PlanError, match=words):
        batching_from_text(*given)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: il.Batching(max_batch=8, pad=float("nan")), "pad is nan for"),
        (
            lambda: il.Batching(max_batch=8, max_delay_s=-1),
            "max_delay_s is -1: it must be 0 or more",
        ),
        (lambda: il.Batching(max_batch=8, pad="0"), "pad is '0' for \\*: it must be a number"),
        (lambda: il.Batching(max_batch=8, pad={"ids": None}), "pad is None for ids"),
        (lambda: il.ClosedLoop(clients=0), "clients is 0: it must be a whole number from 1"),
        (lambda: il.ClosedLoop(think_s=1), "think_s=1 is the time of clients: say how many"),
        (lambda: il.ClosedLoop(clients=2, think_s=1, think="x"), "think 'x' is unknown: choose"),
        (lambda: il.ClosedLoop(clients=3).clients_of(0, 4, 0), "3 clients are fewer than 4 queues"),
    ],
)
def test_what_cannot_be_is_refused(make, words: str):
    with pytest.raises(PlanError, match=words):
        make()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "give clients \\(--clients 256\\), or a rate"),
        ({"load": il.OpenLoop.poisson(9), "fresh_inputs": True}, "leave fresh_inputs"),
    ],
)
def test_batches_of_requests_that_are_never_due_together_are_refused(options, words: str):
    with pytest.raises(PlanError, match=words):
        RunOptions(batching=il.Batching(max_batch=2), **options).check_batching()


def test_clients_are_shared_among_processes():
    load = il.ClosedLoop(clients=7, think_s=0.1)
    found = [load.clients_of(number, 3, seed=5) for number in range(3)]
    assert [one.count for one in found] == [3, 2, 2]
    assert not np.array_equal(found[0].think_ns, found[1].think_ns)
    assert il.ClosedLoop().clients_of(0, 3, 0) is None


def test_first_requests_come_as_they_would_later_on():
    constant = clients_drawn(4, 0.1, "constant", 0)
    assert constant.first_ns.tolist() == [0, 25_000_000, 50_000_000, 75_000_000]
    assert constant.think_ns.tolist() == [100_000_000]
    drawn = clients_drawn(10_000, 0.1, "exponential", 0)
    assert (np.diff(drawn.first_ns) >= 0).all()
    assert drawn.first_ns.mean() == pytest.approx(1e8, rel=0.04)  # 1 % is one deviation
    assert drawn.mean_think_s(100_000) == pytest.approx(0.1, rel=0.02)
    whole, part = drawn.think_ns, drawn.think_ns[:10]
    assert drawn.mean_think_s(65_546) == pytest.approx((whole.sum() + part.sum()) / 65_546e9)
    assert not clients_drawn(4, 0, "exponential", 0).first_ns.any()


def test_clients_in_words():
    found = load_from_text(None, None, 4, 0, 256, "50ms")
    assert found == il.ClosedLoop(callers=4, clients=256, think_s=0.05)
    assert str(found) == "closed loop, 256 clients, think time exponential 50 ms"
    assert load_from_text(None, None, 1, 0, 2, "constant:1s").think == "constant"
    assert str(load_from_text(None, None, 1, 0, 1)) == "closed loop, 1 client"
    with pytest.raises(PlanError, match="--clients 8\\) ask again when they are answered"):
        load_from_text(None, 5.0, 1, 0, 8)
    with pytest.raises(PlanError, match="--think '1s' is the time of clients: give --clients"):
        load_from_text(None, None, 1, 0, None, "1s")
    with pytest.raises(PlanError, match="think 'often' is unknown"):
        load_from_text(None, None, 1, 0, 8, "often:1s")
