"""How calls are drawn among the models of a mix."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import inferload as il
from inferload.plan.arrivals.schedule import STRATA

X = torch.zeros(1)


def mix(*weights: float, inputs: tuple[int, ...] = (2, 3)) -> object:
    models = {
        f"m{number}": (lambda x: x, [X] * inputs[number], weight)
        for number, weight in enumerate(weights)
    }
    return il.Mix(models).target()


def owners(order: np.ndarray) -> np.ndarray:
    return (order >= 2).astype(int)  # the first model has inputs 0 and 1


def test_each_stretch_of_calls_has_each_model_as_often_as_its_weight_says():
    order = owners(mix(3, 1).order(5, None, 0))
    for start in range(0, 6400, STRATA):
        assert abs(int(order[start : start + STRATA].sum()) - STRATA / 4) <= 1


def test_a_rare_model_has_its_share_and_its_chance_in_every_stretch():
    order = owners(mix(999, 1).order(5, None, 0))
    # of 1,024 stretches some 65 have one; which ones is drawn
    found = order.reshape(-1, STRATA).sum(axis=1)
    assert set(found) == {0, 1}
    assert abs(int(found.sum()) - 65.5) < 4 * 65.5**0.5


def test_the_place_of_a_model_within_a_stretch_is_drawn():
    order = owners(mix(1, 1).order(5, None, 0)).reshape(-1, STRATA)
    by_place = order.mean(axis=0)
    assert np.abs(by_place - 0.5).max() < 5 * 0.5 / len(order) ** 0.5


def test_a_models_own_inputs_come_in_turn_and_the_seed_decides():
    target = mix(1, 1)
    order = target.order(5, None, 7)
    own = order[order >= 2]
    assert (np.bincount(own - 2, minlength=3) - len(own) / 3 < 2).all()
    assert (target.order(5, None, 7) == order).all()
    assert (target.order(5, None, 8) != order).any()
    assert len(target.order(5, 10, 7)) >= 10
    assert (target.order(5, 10, 7)[:10] == order[:10]).all()


def test_warm_up_calls_go_over_all_models():
    assert mix(1, 1).warmup_order(5)[:6] == [0, 2, 1, 3, 0, 4]


@pytest.mark.parametrize(
    ("models", "sentence"),
    [
        ({}, "a mix has no models"),
        ({"a": (lambda x: x, [X])}, r"a in a mix must be \(model, inputs, weight\)"),
        ({"a": (lambda x: x, [X], 0)}, "the weight of a is 0"),
        ({"a": (lambda x: x, [], 1)}, "a: there are no inputs"),
        ({"a": (3, [X], 1)}, "a: a int is no model"),
    ],
)
def test_a_mix_that_cannot_be_run_is_refused_by_the_name_of_its_model(models, sentence):
    with pytest.raises(il.PlanError, match=sentence):
        il.Mix(models).target()
