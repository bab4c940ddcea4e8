"""What benchmarks take away from a run, to see what it costs, is there to be taken away."""

from __future__ import annotations

from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_each_part_that_python_callers_on_a_device_are_measured_without(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import gpu_apart

    for enter in gpu_apart.variants().values():
        with enter():
            pass


@pytest.mark.parametrize("stamped", [False, True])
def test_threads_by_hand_make_calls(sim, monkeypatch: pytest.MonkeyPatch, stamped: bool):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import torch

    import gpu_by_hand

    with torch.inference_mode():
        model, x = gpu_by_hand.linears(1, 8, "sim"), torch.ones(1, 8, device="sim")
        assert gpu_by_hand.by_hand(model, x, 0.2, 2, stamped=stamped) > 1
