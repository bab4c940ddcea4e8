"""What calls do to their inputs, over executors and processes; and first calls."""

from __future__ import annotations

import asyncio
import gc
import threading
import warnings
from pathlib import Path

import pytest
import torch

import inferload as il
from inferload.callers.python.executor import ThreadsExecutor
from inferload.errors import PlanError
from inferload.records.endings import CallError
from inferload.report.text.reproduce import reproduction
from support.virtual_time import VirtualClock

MODELS = """
import asyncio, threading, time, torch

class Cache:
    def __init__(self):
        self.layers = [torch.zeros(1, 6, 2)]

class Decodes(torch.nn.Module):
    def forward(self, ids, past=None):
        past.layers[0] = torch.cat([past.layers[0], torch.ones(1, 1, 2)], 1)
        return ids + past.layers[0].shape[1]

class Starts(torch.nn.Module):
    building = False
    made = None
    def forward(self, x):
        if Starts.building:
            raise RuntimeError("a second first call beside the first")
        if Starts.made is None:
            Starts.building = True
            time.sleep(0.05)
            Starts.made = torch.ones(1)
            Starts.building = False
        return x + Starts.made

class Waits(torch.nn.Module):
    async def forward(self, x):
        return x

class Streams(torch.nn.Module):
    def forward(self, x):
        return map(abs, [x])

def decodes(): return Decodes()
def starts(): return Starts()
def lazy(): return torch.nn.Sequential(*[torch.nn.LazyLinear(64) for _ in range(4)])
def waits(): return Waits()
def streams(): return Streams()
def inputs(): return [{"ids": torch.zeros(2, 4), "past": Cache()}]
"""


@pytest.fixture
def models(tmp_path: Path) -> str:
    path = tmp_path / "mine.py"
    path.write_text(MODELS)
    return str(path)


def codes(result: il.RunResult) -> list[str]:
    return [one.code for one in result.warnings]


class Cache:
    def __init__(self) -> None:
        self.layers = [torch.zeros(1, 6, 2)]


def decode(ids, past):
    past.layers[0] = torch.cat([past.layers[0], torch.ones(1, 1, 2)], 1)
    return past.layers[0].shape[1]


@pytest.mark.parametrize("verify", [False, True])
@pytest.mark.parametrize("callers", [1, 3])
def test_an_input_that_grows_is_each_callers_own_and_told(callers, verify):
    cache = Cache()
    result = il.run(
        decode,
        [{"ids": torch.zeros(1), "past": cache}],
        load=il.ClosedLoop(callers=callers),
        calls=30,
        warmup_calls=2,
        verify=verify,
    )
    assert cache.layers[0].shape == (1, 6, 2)
    (told,) = [one for one in result.warnings if one.code == "input-changes"]
    assert "input 0 changes from call to call: argument 'past' (Cache) grew" in told.message
    assert ".layers[0] was 1x6x2 and is 1x" in told.message
    assert "fresh_inputs=True" in told.hint


@pytest.mark.multiprocess
def test_an_input_that_grows_in_several_processes_is_told_once(models):
    result = il.run(f"{models}:decodes", processes=2, calls=40, load=il.ClosedLoop(callers=2))
    assert codes(result).count("input-changes") == 1
    fresh = il.run(f"{models}:decodes", processes=2, calls=40, fresh_inputs=True)
    assert "input-changes" not in codes(fresh)
    assert fresh.spec.fresh_inputs


@pytest.mark.native
def test_native_callers_that_write_to_their_inputs_are_told():
    class Writes(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.add_(1)

    x = torch.zeros(4)
    result = il.run(torch.jit.script(Writes()), [x], executor="native", calls=20)
    assert "input-changes" in codes(result)
    assert x.sum() == 0


def test_inputs_that_callers_share_are_looked_at_as_well():
    x = torch.zeros(4)
    result = il.run(lambda x: x.add_(1), [x], calls=20, share_inputs=True)
    assert "input-changes" in codes(result)


def test_inputs_that_stay_as_they_are_are_not_told():
    given = [{"ids": torch.full((2,), float("nan")), "past": Cache()}, {"ids": 1, "past": None}]
    result = il.run(lambda ids, past: ids, given, load=il.ClosedLoop(callers=3), calls=60)
    assert "input-changes" not in codes(result)


@pytest.mark.parametrize(
    "load",
    [il.ClosedLoop(callers=3), il.OpenLoop.constant(rate_per_s=2000, callers=3)],
    ids=["closed", "open"],
)
def test_with_fresh_inputs_every_call_finds_its_input_as_it_was_given(load):
    cache, lengths = Cache(), []

    def model(ids, past):
        lengths.append((float(ids.sum()), decode(ids, past)))
        ids.add_(1)

    given = [{"ids": torch.full((1,), float(n)), "past": cache} for n in range(3)]
    result = il.run(model, given, load=load, calls=60, warmup_calls=2, fresh_inputs=True)
    assert {length for _, length in lengths} == {7}
    assert {first for first, _ in lengths} == {0, 1, 2}
    assert "input-changes" not in codes(result)
    assert "a fresh copy for each call" in " ".join(str(result).split())
    assert "fresh_inputs=True" in reproduction(result)


class Slow(torch.Tensor):
    """A caller takes 20 ms of a simulated clock to copy it."""

    clock, copies = None, 0

    def detach(self):
        Slow.copies += 1
        if threading.current_thread().name.startswith("caller-"):
            Slow.clock.sleep(20_000_000)
        return super().detach()


@pytest.mark.parametrize("warmup_calls", [0, 2])
def test_the_copy_is_made_outside_of_the_stamps_of_a_call(warmup_calls):
    x = torch.zeros(2).as_subclass(Slow)
    Slow.clock, Slow.copies = VirtualClock(), 0
    result = il.run(
        lambda x: Slow.clock.sleep(1_000_000),
        [x],
        calls=10,
        fresh_inputs=True,
        warmup_calls=warmup_calls,
        executor=ThreadsExecutor(Slow.clock),
    )
    assert Slow.copies >= 10
    assert set(result.set_up.first_ten_ms) <= {1.0}
    assert set(result.log.service_ns) == {1_000_000}
    # the copies were made meanwhile
    assert result.summary.duration_s >= 10 * 0.001 + 9 * 0.02


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"share_inputs": True}, "leave one of them out"),
        ({"transfers": True}, "leave fresh_inputs"),
        ({"executor": "native"}, "use --executor threads"),
    ],
)
def test_fresh_inputs_are_refused_where_they_cannot_be_had(options, words):
    with pytest.raises(PlanError, match=words):
        il.run(lambda x: x, [torch.zeros(1)], calls=5, fresh_inputs=True, **options)


def test_fresh_inputs_of_what_runs_natively_are_made_by_python_callers():
    result = il.run(torch.jit.script(torch.nn.ReLU()), ["2x2"], calls=20, fresh_inputs=True)
    assert result.spec.executor == "threads"
    assert "python-callers" in codes(result)


@pytest.mark.parametrize("warmup_calls", [1, 10])
def test_the_first_call_is_made_alone(models, warmup_calls):
    load = il.ClosedLoop(callers=8)
    spec = f"{models}:starts"
    result = il.run(spec, ["4x4"], load=load, calls=80, warmup_calls=warmup_calls)
    assert result.summary.completed_calls == 80
    assert result.set_up.first_call_ms >= 50


@pytest.mark.parametrize("warmup_calls", [0, 3])
def test_lazy_parameters_are_made_by_one_caller(models, warmup_calls):
    load = il.ClosedLoop(callers=8)
    result = il.run(f"{models}:lazy", ["2x64"], load=load, calls=80, warmup_calls=warmup_calls)
    assert result.summary.completed_calls == 80
    assert result.set_up.first_call_ms is not None
    assert ("lazy-parameters" in codes(result)) == (warmup_calls == 0)


@pytest.mark.parametrize("form", ["export", "script"])
def test_a_lazy_model_makes_its_parameters_before_it_is_converted(models, form):
    result = il.run(f"{models}:lazy", ["2x64"], form=form, executor="threads", calls=20)
    assert result.spec.form == form
    module = torch.nn.Sequential(torch.nn.LazyLinear(4)).eval()
    assert il.run(module, ["2x64"], form=form, executor="threads", calls=20).spec.form == form


def test_without_warm_up_calls_no_call_is_made_before_the_start(models):
    made = []
    result = il.run(made.append, [torch.zeros(1)], calls=7, warmup_calls=0)
    assert len(made) == 7
    assert result.set_up.first_call_ms is None


def test_the_first_calls_of_all_models_of_a_mix_are_made_alone():
    inside: list[int] = []
    together = set()

    def model(x, made=set()):  # noqa: B006 - what the first call of each leaves
        inside.append(1)
        if float(x) not in made:
            threading.Event().wait(0.02)
            together.add(len(inside))
            made.add(float(x))
        inside.pop()

    mix = il.Mix({f"m{n}": (model, [torch.tensor(float(n))], 1.0) for n in range(3)})
    il.run(mix, load=il.ClosedLoop(callers=6), calls=30)
    assert together == {1}


@pytest.mark.parametrize("on_error", ["stop", "record"])
def test_a_first_call_that_raises_is_told_as_any_other(on_error):
    def model(x):
        raise ValueError("no")

    def run():
        load = il.ClosedLoop(callers=4)
        return il.run(model, [torch.zeros(1)], load=load, calls=8, on_error=on_error)

    if on_error == "record":
        assert run().summary.failed_calls == 8
        return
    with pytest.raises(CallError, match="in caller 0 on input 0 while warming up") as caught:
        run()
    assert (caught.value.caller, caught.value.input) == (0, 0)
    assert "test_calls_and_inputs.py" in caught.value.place


async def coroutine(x):
    return x


def generator(x):
    yield x


class Hidden(torch.nn.Module):
    def forward(self, x):
        return coroutine(x)


@pytest.mark.parametrize(
    "options", [{}, {"warmup_calls": 0}, {"on_error": "record"}, {"verify": True}]
)
@pytest.mark.parametrize(
    ("model", "words"),
    [
        (Hidden(), r"returns a coroutine, which nobody awaits here: .*--executor async"),
        (lambda x: coroutine(x), "returns a coroutine"),  # noqa: PLW0108
        (lambda x: torch.nn.Linear(2, 2), "returns a module and computes nothing"),
        (lambda x: {"boxes": [abs(one) for one in x], "more": generator(x)}, "holds a generator"),
        (lambda x: (x, [torch.futures.Future()]), "holds a future"),
    ],
    ids=["hidden", "lambda", "module", "generator", "future"],
)
def test_calls_that_do_no_work_are_refused_before_they_are_counted(model, words, options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(PlanError, match=words):
            il.run(model, [torch.zeros(1)], load=il.ClosedLoop(callers=2), calls=10, **options)
        gc.collect()  # a coroutine that is never awaited says so now


def test_a_function_that_runs_a_coroutine_to_its_end_is_a_model():
    result = il.run(lambda x: asyncio.run(coroutine(x)), [torch.zeros(1)], calls=5, verify=True)
    assert result.summary.completed_calls == 5


@pytest.mark.multiprocess
@pytest.mark.parametrize("warmup_calls", [0, 2])
def test_answers_that_come_later_come_in_other_processes_too(models, warmup_calls):
    given = {"processes": 2, "calls": 10, "warmup_calls": warmup_calls}
    assert il.run(f"{models}:waits", ["2x2"], **given).spec.executor == "async"
    if warmup_calls:
        assert (il.run(f"{models}:streams", ["2x2"], **given).log.pieces == 1).all()
        return
    with pytest.raises(PlanError, match="returned an iterator, and no warm-up call did"):
        il.run(f"{models}:streams", ["2x2"], **given)
