"""What is advised exists, is right for the model and for who asks, and does what it promises."""

from __future__ import annotations

import ast
import inspect
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import result_of

import inferload as il
from inferload.callers.local.executors import executor_for
from inferload.callers.local.warnings_before import warnings_before
from inferload.cli.app import VERBS, command_of
from inferload.log.calls import CallLog
from inferload.machine.disturbances import Disturbances
from inferload.records.figures import ProcessFigures
from inferload.runs.checks import advice
from inferload.runs.checks import result as checks
from inferload.runs.checks.findings import Findings
from inferload.stats.summary import judged, summarize
from inferload.targets.as_target import as_target
from inferload.targets.forms import as_form

SOURCE = Path(inspect.getfile(il)).parent
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
# Of others: docker, cpupower, torchrun, git and pytest's own.
OF_OTHERS = {
    "--shm-size", "--governor", "--nproc-per-node", "--nnodes", "--rdzv-endpoint",
    "--inferload-json", "--inferload-compare", "--inferload-gate", "--inferload-against",
    "--inferload-time-limit", "--unshallow", "--exclude-libs",
}  # fmt: skip


def flags_of_all_verbs() -> set[str]:
    found = set()
    for verb in VERBS:
        for one in command_of(verb).params:
            found |= {*one.opts, *one.secondary_opts}
    return found


def strings_of(path: Path) -> list[str]:
    """The texts of a module that somebody may read: all but docstrings."""
    tree = ast.parse(path.read_text())
    documented = [one for one in ast.walk(tree) if isinstance(one, ast.Expr)]
    docstrings = {id(one.value) for one in documented}
    return [
        one.value
        for one in ast.walk(tree)
        if isinstance(one, ast.Constant)
        and isinstance(one.value, str)
        and id(one) not in docstrings
    ]


def test_every_flag_that_any_sentence_names_is_one():
    known = flags_of_all_verbs() | OF_OTHERS
    for path in SOURCE.rglob("*.py"):
        for text in strings_of(path):
            for flag in FLAG.findall(text):
                in_a_sentence = " " in text and "var(" not in text
                assert flag in known or not in_a_sentence, (path.name, text)


def test_what_stands_for_a_flag_in_python_is_an_argument_of_a_function():
    functions = (il.run, il.sweep, il.find_max_rate, il.tune, il.compare)
    known = {name for one in functions for name in inspect.signature(one).parameters}
    for flag, (alone, with_value) in advice._ARGUMENTS.items():
        assert f"--{flag}" in flags_of_all_verbs()
        name = re.match(r"\w+", with_value)[0]
        of_loads = {"callers", "clients", "think_s"}
        assert name in known | of_loads | {"forms", "resolution", "cores"}, flag
        assert "--" not in alone


def log_of(response_ns: np.ndarray) -> CallLog:
    count = len(response_ns)
    scheduled = np.arange(count, dtype=np.int64) * 10**9
    return CallLog(
        scheduled_ns=scheduled,
        started_ns=scheduled + 1000,
        finished_ns=scheduled + 1000 + response_ns.astype(np.int64),
        caller=np.zeros(count, np.int32),
        input=np.zeros(count, np.int32),
        error=np.full(count, -1, np.int32),
    )


def alone(count: int, seed: int) -> np.ndarray:
    """Calls that know nothing of each other."""
    return 1e6 * np.random.default_rng([1, seed]).lognormal(0, 0.3, count)


def alike(count: int, seed: int) -> np.ndarray:
    """AR(1) of 0.9: calls near each other are alike."""
    noise = np.random.default_rng([3, seed]).normal(0, 1, count)
    value, values = 0.0, np.empty(count)
    for place in range(count):
        value = 0.9 * value + math.sqrt(1 - 0.81) * noise[place]
        values[place] = value
    return 1e6 * np.exp(0.3 * values)


def queued(count: int, seed: int) -> np.ndarray:
    """M/M/1 at half of its rate (Lindley)."""
    generator = np.random.default_rng([2, seed])
    between, served = generator.exponential(2e7, count), generator.exponential(1e7, count)
    walk = np.concatenate([[0.0], np.cumsum(served[:-1] - between[1:])])
    return walk - np.minimum.accumulate(np.minimum(walk, 0)) + served


def hint_of(values: np.ndarray, **spec: object) -> str | None:
    """What is advised where p99 is not quoted, of a run that ended as ``spec`` says."""
    log = log_of(values)
    own = {"calls": None, "duration_s": None, "executor": "native", "form": "script"} | spec
    found = Findings(
        spec=replace(result_of().spec, **own),
        summary=summarize(log, (1, 1)),
        steady=judged(log),
        disturbances=Disturbances(),
        made_calls=len(log),
    )
    hints = {one.code: one.hint for one in checks.warnings_after(found)}
    return hints.get("too-few-calls")


@pytest.mark.parametrize(
    ("calls", "count"), [(alone, 150), (alone, 900), (alike, 500), (alike, 900), (queued, 3000)]
)
@pytest.mark.parametrize("end", ["calls", "duration_s"])
def test_who_follows_the_hint_for_too_few_calls_can_quote_the_quantile(calls, count, end):
    """In nine of ten seeds; a run for a time makes as many calls a second as before."""
    tried = quoted = 0
    for seed in range(20):
        hint = hint_of(calls(count, seed), **{end: count})  # a call a second
        if hint is None:
            continue  # it was quoted
        told = re.match(r"--(calls|duration) (\d+)(s?)", hint)
        found = summarize(log_of(calls(int(told[2]), 1000 + seed)), (1, 1)).response_ms
        tried += 1
        quoted += found.p99 is not None
    assert tried >= 10
    assert quoted >= 0.9 * tried


def test_of_calls_that_are_alike_the_way_that_goes_on_until_it_can_quote_is_named():
    assert "--precision" not in hint_of(alone(500, 0), calls=500)
    hint = hint_of(alike(500, 0), calls=500)
    assert hint.endswith("or --precision 20%, which goes on until it can be quoted")
    assert advice.in_python(hint).endswith("or precision=0.2, which goes on until it can be quoted")
    assert "--precision" not in hint_of(alike(500, 0), calls=500, ranks=2, processes=2)
    limited = hint_of(alike(500, 0), precision=0.01, time_limit_s=4.0)
    assert re.fullmatch(r"--time-limit \d+s \(calls near each other are alike\)", limited)
    assert hint_of(alone(500, 0), drain_s=1.0) == "a longer replay"


@pytest.mark.parametrize("end", [{"calls": 10**6}, {"duration_s": 3600.0}])
def test_a_run_that_was_ended_early_is_to_be_longer_than_it_was_and_not_than_was_asked_for(end):
    told = re.match(r"--(?:calls|duration) (\d+)", hint_of(alone(500, 0), **end))  # a call a second
    assert 1000 <= int(told[1]) <= 2500


def test_no_form_is_advised_that_cannot_be_called_with_such_inputs():
    class Graph:
        def __init__(self):
            self.x = torch.ones(2)

    def what_may_become(inputs):
        model = torch.nn.Module()
        model.forward = lambda given: given.x if isinstance(given, Graph) else given
        return il.run(model, inputs, calls=3).spec.may_become

    assert {"compile", "aoti"} <= set(what_may_become([torch.ones(2)]))
    assert set(what_may_become([Graph()])) & {"compile", "aoti", "script", "export"} == {"compile"}


@pytest.mark.parametrize("processes", [1, 2, 3, 8])
@pytest.mark.parametrize("callers", [1, 2, 5])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("usable", [1.5, 2.0, 4.0])
def test_who_follows_the_hint_against_too_many_threads_has_a_core_for_each(
    processes, callers, threads, usable
):
    spec = replace(
        result_of().spec, callers=callers * processes, processes=processes,
        threads_per_call=threads,
    )  # fmt: skip

    def said(one: il.RunSpec) -> list[il.RunWarning]:
        found = warnings_before(one, (), usable_cores=usable, on_device=False)
        return [warning for warning in found if warning.code == "oversubscribed"]

    for warning in said(spec):
        told = dict(re.findall(r"--([a-z-]+) (\d+)", warning.hint))
        count = int(told.get("processes", processes))
        better = replace(
            spec,
            processes=count,
            callers=count * int(told["callers"]),
            threads_per_call=int(told["threads-per-call"]),
        )
        assert not said(better)


def pinned(cores: int, smt: int, callers: int, machines: dict[str, object]) -> list[str]:
    shared = tuple(range(cores * smt))
    one = ProcessFigures(
        process=0, pid=1, callers=callers, completed_calls=1, failed_calls=0,
        throughput_calls_per_s=1.0, p50_ms=None, p99_ms=None, cpus=(shared,) * callers,
        threads=(1,) * callers,
    )  # fmt: skip
    log = log_of(alone(2000, 0))
    found = Findings(
        spec=replace(
            result_of().spec, pin="cores", callers=2 * callers, processes=2, ranks=2,
            threads_per_call=1,
        ),
        summary=summarize(log, (1, 1)), steady=judged(log), disturbances=Disturbances(),
        made_calls=len(log), processes=(one, replace(one, process=1)), machines=machines,
    )  # fmt: skip
    return [w.hint for w in checks.warnings_after(found) if w.code == "cores-shared"]


def test_callers_that_share_cores_are_told_how_many_have_each_its_own():
    plain = {"a": {"cores": 8, "physical_cores": 8}}
    assert pinned(4, 1, 6, plain) == ["--callers 4 gives each its own"]
    # both hardware threads of a core go to one caller
    assert pinned(4, 2, 6, {"a": {"cores": 16, "physical_cores": 8}}) == [
        "--callers 4 gives each its own"
    ]
    # cores of one number on two machines are not shared
    assert pinned(4, 1, 1, plain) == []


class Net(torch.nn.Linear):
    """A module that may become anything."""


class HasAProgram(torch.nn.Module):
    """A module with TorchScript within, which torch.export does not take."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = torch.jit.script(torch.nn.Linear(4, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x)


def quantised() -> torch.nn.Module:
    model = torch.nn.Sequential(torch.nn.Linear(4, 4)).eval()
    return torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear})


INPUTS = [il.CallInput((torch.zeros(1, 4),))]
MAY_BE_A_PACKAGE = {
    "a module": (lambda: Net(4, 4), True),
    "a module turned into another form": (lambda: as_form(Net(4, 4), "export", INPUTS), True),
    "a function": (lambda: torch.sin, False),
    "a method of a module": (lambda: Net(4, 4).forward, False),
    "a script": (lambda: torch.jit.script(Net(4, 4)), False),
    "a program": (lambda: torch.export.export(Net(4, 4), (torch.zeros(1, 4),)), True),
    "a compiled module": (lambda: torch.compile(Net(4, 4)), False),
    "a module with a program within": (HasAProgram, False),
    "a quantised module": (quantised, False),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:torch.quantize:UserWarning")
@pytest.mark.parametrize(("make", "may"), MAY_BE_A_PACKAGE.values(), ids=MAY_BE_A_PACKAGE)
def test_a_package_is_advised_only_of_what_may_become_one(make, may):
    target = as_target(make())
    assert ("aoti" in target.may_become) == may
    spec = replace(
        result_of().spec, executor="threads", form=target.form, may_become=target.may_become,
        callers=4,
    )  # fmt: skip
    said = advice.without_gil(spec)
    assert said.startswith("--form aoti") == may
    assert said.endswith("the GIL") or said == (
        "processes, with a GIL each (--processes 4 --callers 1)"
    )
    if not target.runs_natively:
        with pytest.raises(il.PlanError, match="native callers run") as refused:
            executor_for(target, "native", lambda _: None)
        assert ("--form aoti" in str(refused.value)) == may


def test_native_callers_need_no_advice_and_one_caller_alone_has_nobody_to_leave():
    spec = replace(result_of().spec, executor="native", may_become=("aoti",), callers=4)
    assert advice.without_gil(spec) is None
    alone = replace(spec, executor="threads", may_become=(), callers=1)
    assert advice.without_gil(alone) is None
    mix = il.Mix({"f": (torch.sin, [torch.zeros(1)], 1.0), "m": (Net(4, 4), INPUTS, 1.0)})
    found = il.run(mix, calls=20)
    assert "an AOTInductor package of m (form" in advice.without_gil(found.spec)


def test_hints_of_a_run_in_python_name_its_arguments():
    load = il.OpenLoop.constant(2000, callers=2)
    result = il.run(lambda x: x, [torch.zeros(1)], load=load, calls=40, threads_per_call=64)
    hints = {one.code: one.hint for one in result.warnings}
    assert hints["too-few-calls"].startswith("calls=")
    assert hints["oversubscribed"].startswith("threads_per_call=")
    assert not FLAG.search(" ".join(hints.values()))
