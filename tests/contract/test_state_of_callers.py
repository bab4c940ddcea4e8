"""What callers take over from the thread that starts a run, and give back."""

from __future__ import annotations

import pytest
import torch

import inferload as il
from support import models

BOTH = ["threads", pytest.param("native", marks=pytest.mark.native)]


@pytest.mark.parametrize("executor", BOTH)
@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("grad", [False, True])
def test_the_state_of_the_calling_thread_crosses_to_callers(executor, grad, inference, autocast):
    # inference_mode turns grad mode off, unless it is turned on again within
    model = models.for_executor(models.ExpectsState(grad, inference, autocast), executor)
    with (
        torch.inference_mode(inference),
        torch.set_grad_enabled(grad),
        torch.autocast("cpu", torch.bfloat16, enabled=autocast),
    ):
        result = il.run(
            model, [torch.ones(2, 2)], load=il.ClosedLoop(callers=2), calls=20, executor=executor
        )
    assert result.summary.completed_calls == 20
    assert result.spec.autocast == ("cpu:bfloat16" if autocast else "off")


@pytest.mark.parametrize("cache", [False, True])
def test_the_autocast_cache_flag_and_the_default_device_cross(cache):
    seen = set()
    before = torch.is_autocast_cache_enabled()

    def look(_):
        seen.add((torch.is_autocast_cache_enabled(), torch.get_default_device().type))

    try:
        torch.set_autocast_cache_enabled(cache)
        with torch.device("meta"):
            il.run(look, [torch.zeros(1, device="cpu")], calls=4)
    finally:
        torch.set_autocast_cache_enabled(before)
    assert seen == {(cache, "meta")}


@pytest.mark.native
def test_dispatch_keys_cross_to_native_and_python_callers():
    # with the autograd keys excluded no graph is recorded, whatever the grad mode says
    class Recorded(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = x * 2
            if y.requires_grad:
                raise RuntimeError("the autograd key was not excluded")
            return y

    x = torch.ones(1, requires_grad=True)
    for executor in ("threads", "native"):
        model = models.for_executor(Recorded(), executor)
        with pytest.raises(il.CallError):
            il.run(model, [x], calls=2, executor=executor)
        with torch._C._AutoDispatchBelowAutograd():
            assert len(il.run(model, [x], calls=5, executor=executor).log) == 5


@pytest.mark.parametrize("executor", BOTH)
def test_intra_op_threads_are_set_for_the_calls_and_restored(executor):
    class Threads(torch.nn.Module):
        @torch.jit.ignore
        def look(self, x):
            if torch.get_num_threads() != 3:
                raise RuntimeError("other intra-op threads than asked for")
            return x

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.look(x)

    before = torch.get_num_threads()
    model = models.for_executor(Threads(), executor)
    result = il.run(model, [torch.zeros(1)], calls=20, threads_per_call=3, executor=executor)
    assert result.spec.threads_per_call == 3
    assert torch.get_num_threads() == before
    with pytest.raises(il.CallError, match="other intra-op threads"):
        il.run(model, [torch.zeros(1)], calls=20, threads_per_call=2, executor=executor)
    assert torch.get_num_threads() == before


def test_intra_op_threads_that_a_model_sets_are_those_that_are_told():
    class SetsItsOwn(torch.nn.Module):
        def forward(self, x):
            torch.set_num_threads(1)
            return x

    result = il.run(SetsItsOwn(), [torch.zeros(1)], calls=20, threads_per_call=2)
    (process,) = result.processes
    assert (process.threads, process.threads_set) == ((1,), (2,))
    assert "threads-not-in-force" in [one.code for one in result.warnings]
    assert "2 intra-op threads asked for, 1 in force" in " ".join(str(result).split())
