"""Turn an eager model into another form, and check that it still computes the same."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import torch

from inferload.errors import PlanError
from inferload.log.failures import in_brief
from inferload.log.reasons import way_round, with_type
from inferload.plan.model import FORMS
from inferload.targets.argument_changes import parameters_of
from inferload.targets.as_target import as_target
from inferload.targets.conversion.exporting import exported, packaged
from inferload.targets.conversion.quiet import quiet
from inferload.targets.conversion.recording import recording_nothing
from inferload.targets.conversion.scripting import scripted
from inferload.targets.conversion.time_limit import at_most
from inferload.targets.inputs.call_input import owned
from inferload.targets.inputs.joined import MOST_REPEATED
from inferload.targets.inputs.joining import joining_of
from inferload.targets.kinds.by_size import BySizeTarget
from inferload.targets.kinds.cuda_graphs import GraphTarget
from inferload.targets.kinds.exported import ExportedTarget
from inferload.targets.kinds.known_types import check_types_known, learn_types
from inferload.targets.kinds.python import CallableTarget, CompiledTarget, ModuleTarget
from inferload.targets.kinds.script import ScriptTarget
from inferload.targets.outputs.same_outputs import Eager, compared
from inferload.targets.remote.target import RemoteTarget

# Of so many inputs of other shapes a batch is tried.
_MOST_UNLIKE = 4

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from inferload.records.batches import BatchSpec
    from inferload.targets.base import Target
    from inferload.targets.inputs.call_input import CallInput


def _check_answers_at_once(target: Target, form: str) -> None:
    """Refuse to turn a model into a form that cannot wait, or give pieces.

    Raises:
        PlanError: saying what it does.
    """
    if isinstance(target, RemoteTarget):
        raise PlanError(
            f"{target.name} has the form that its server gave it: leave the form (--form) out, and "
            "compare servers that differ in it"
        )
    if target.asynchronous or (target.answers_in_pieces and form != "compile"):
        what = "is asynchronous" if target.asynchronous else "answers in pieces"
        raise PlanError(
            f"{target.name} {what}, which nothing in the form {form!r} can: turn what it calls "
            "into that form in its own code (as examples/generate.py compiles its step), and leave "
            "the form out"
        )


def as_form(
    model: object,
    form: str | None,
    inputs: Sequence[CallInput],
    name: str | None = None,
    *,
    folder: Path | None = None,
    mode: str | None = None,
    compare: bool = True,
    timeout_s: float | None = None,
    batching: BatchSpec | None = None,
) -> Target:
    """Turn an eager model into ``form``; without one, and as ``"eager"``, take it as it is.

    Inputs that differ in a dimension make that dimension dynamic. The converted model must give
    the outputs of the eager one on every input, unless ``compare`` is false. ``folder``: where to
    keep a package that is made; a temporary folder of its own if not given. ``mode`` is
    ``torch.compile``'s. ``timeout_s`` bounds all of it, in the main thread. CUDA graphs are
    captured, and compared, when callers have inputs of their own. With ``batching`` it takes
    batches of the inputs, too; a program or package is made for each of the sizes allowed.

    Raises:
        PlanError: the form is unknown, the model cannot be turned into it in time, or computes
            something else once converted.
    """
    _check_words(form, mode)
    target = as_target(model, name)
    if form in {None, "eager", target.form}:
        return target
    _check_answers_at_once(target, str(form))
    if isinstance(target, CompiledTarget) and isinstance(target.original, torch.nn.Module):
        target = ModuleTarget(target.original, target.name)  # torch converts what was compiled
    if form == "cudagraph" and isinstance(target, ModuleTarget | CallableTarget | ScriptTarget):
        return GraphTarget(target, compare=compare)
    _check_can_become(target, str(form))
    if form in {"script", "export", "aoti"}:
        if form != "script":
            learn_types(inputs)
        check_types_known(inputs, str(form))
    with at_most(timeout_s, f"turning {target.name} into {form!r}"):
        turned = partial(_turned, target, str(form), folder=folder, mode=mode, compare=compare)
        if batching is None:
            return turned(inputs)
        # no batch of one alone: what is made is to take others, too
        whole = replace(batching, max_batch=max(batching.max_batch, MOST_REPEATED))
        joining = joining_of(
            inputs, whole, target.owner_of, lambda number: parameters_of(target, number)
        )
        numbers = joining.unlike(_MOST_UNLIKE)
        if batching.sizes_allowed and form in {"export", "aoti"}:  # whose sizes are fixed
            return BySizeTarget(
                {
                    size: turned([joining.repeated(number, size) for number in numbers])
                    for size in batching.sizes_allowed
                }
            )
        return turned([*inputs, *(joining.repeated(number) for number in numbers)])


def _check_words(form: str | None, mode: str | None) -> None:
    if form is not None and form not in FORMS:
        raise PlanError(f"form {form!r} is unknown: choose {', '.join(FORMS)}")
    if mode is not None and form != "compile":
        raise PlanError(f"mode {mode!r} is one of torch.compile: it goes with --form compile")


def _check_can_become(target: Target, form: str) -> None:
    if isinstance(target, ModuleTarget) or (form == "aoti" and isinstance(target, ExportedTarget)):
        return
    if type(target) is CallableTarget:
        if form == "compile":
            return
        raise PlanError(
            f"{target.name} is a function or another callable, and only an nn.Module can be turned "
            f"into {form!r}: call it in the forward() of a module, or --form compile"
        )
    raise PlanError(
        f"{target.name} is in the form {target.form!r} already: only an eager nn.Module can be "
        f"turned into {form!r}; give that one, or leave the form out"
    )


def _turned(
    target: Target,
    form: str,
    inputs: Sequence[CallInput],
    *,
    folder: Path | None,
    mode: str | None,
    compare: bool,
) -> Target:
    with quiet(form):
        with recording_nothing():
            # also a model that is not compared is called first: it may still lack its weights
            eager = Eager(target.name, target.python_callable(), inputs[0], _module_of(target))
        started = time.perf_counter()
        try:
            converted = _converted(target, form, inputs, folder, mode)
            converted.conversion_s = time.perf_counter() - started
            converted.may_become = tuple(one for one in target.may_become if one != form)
            calls = [partial(_first_timed, converted, one) for one in inputs]
            if not compare:
                return converted
            # called as callers will: some forms work in one mode and not in another
            converted.notes = (*converted.notes, *compared(eager, form, calls, inputs))
            if form == "compile":  # which compiles in its first calls
                converted.conversion_s = time.perf_counter() - started
        except PlanError:
            raise
        except (Exception, SystemExit) as error:
            raise PlanError(
                f"{target.name} cannot be turned into {form!r}: "
                f"{with_type(type(error).__name__, in_brief(str(error)))}"
                f"{_way_round(target, error)}"
            ) from error
        return converted


def _way_round(target: Target, error: BaseException) -> str:
    weights = [one for module in target.modules() for one in module.parameters()]
    if any(one.is_inference() for one in weights) and "inference tensor" in str(error):
        return "; its weights were made in inference mode: build the model outside of it"
    return way_round(f"{type(error).__name__}: {error}")


def _module_of(target: Target) -> torch.nn.Module | None:
    return target.module if isinstance(target, ModuleTarget) else None


def _converted(
    target: Target,
    form: str,
    inputs: Sequence[CallInput],
    folder: Path | None,
    mode: str | None,
) -> Target:
    if form == "compile":
        return _compiled(target, mode, inputs)
    module = _module_of(target)
    if form == "script" and module is not None:
        return scripted(module, inputs, target.name)
    with recording_nothing(), torch.no_grad():
        if isinstance(target, ExportedTarget):
            return packaged(target.program, inputs, target.name, folder)
        if module is None:
            raise AssertionError("what cannot be converted has been refused")
        made = exported(module, inputs, target.name)
        if form == "aoti":
            return packaged(made.program, inputs, target.name, folder)
    # would be saved with it, and not all of it could be loaded; torch 2.6's setter refuses None
    made.program._example_inputs = None  # noqa: SLF001
    return made


def _compiled(target: Target, mode: str | None, inputs: Sequence[CallInput]) -> CompiledTarget:
    from torch._inductor import list_mode_options  # takes a while to import

    known = list_mode_options()
    if mode is not None and mode not in known:
        raise PlanError(f"torch.compile has no mode {mode!r}: choose {', '.join(known)}")
    given = _module_of(target) or target.python_callable()
    made = CompiledTarget(torch.compile(given, mode=mode), target.name)
    made.check_usable(inputs)
    return made


def _first_timed(converted: Target, one: CallInput) -> object:
    own = owned(one)
    started = time.perf_counter()
    output = converted.python_callable()(*own.args, **own.kwargs)
    if converted.first_call_ms is None:
        converted.first_call_ms = (time.perf_counter() - started) * 1e3
    return output
