"""From the words of a command line to a target, its inputs, and the state that callers run in."""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from inferload.batches import stacked
from inferload.devices import Placement, placed
from inferload.errors import PlanError
from inferload.executors.base import exception_words
from inferload.inputs import as_call_inputs, inputs_from_text, owned
from inferload.model_source import MemberSource, ModelSource
from inferload.plan import makes_parameters
from inferload.targets.forms import as_form
from inferload.targets.load import as_target, is_spec, model_from_spec
from inferload.targets.mixed import Member, MixedTarget

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from inferload.inputs import CallInput
    from inferload.targets.base import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A target with its inputs, and how long its model took to load."""

    target: Target
    given: tuple[CallInput, ...]
    load_s: float


def load(
    source: ModelSource,
    announce: Callable[[str], None],
    scratch: Path | None = None,
    given: tuple[CallInput, ...] | None = None,
    placement: Placement = Placement(),  # noqa: B008 - it is frozen
) -> Loaded:
    """Load the model that a command line names, in the form it asks for, or all models of a mix.

    ``given``: inputs that are at hand; else those of the command line, or of the model's file.

    Raises:
        PlanError: a model or its inputs cannot be had.
    """
    if not source.members:
        whole = MemberSource(
            name="",
            spec=source.spec,
            weight=1.0,
            form=source.form,
            input_texts=source.input_texts,
            mode=source.mode,
        )
        return _loaded(whole, source.seed, announce, scratch, given, placement, source.batch_size)
    members, load_s = [], 0.0
    for one in source.members:
        try:
            found = _loaded(one, source.seed, announce, scratch, None, placement)
        except PlanError as error:
            raise PlanError(f"{one.name}: {error}") from error
        load_s += found.load_s
        members.append(
            Member(
                name=one.name,
                target=found.target,
                given=found.given,
                weight=one.weight,
                callers=one.callers,
            )
        )
    mixed = MixedTarget(members)
    return Loaded(target=mixed, given=mixed.given, load_s=load_s)


def _loaded(
    source: MemberSource,
    seed: int,
    announce: Callable[[str], None],
    scratch: Path | None,
    given: tuple[CallInput, ...] | None,
    placement: Placement,
    batch_size: int | None = None,
) -> Loaded:
    announce(f"loading {source.spec}")
    if source.input_texts:
        given = inputs_from_text(source.input_texts, seed)
    began = time.perf_counter()
    found, own_inputs = model_from_spec(source.spec)
    load_s = time.perf_counter() - began
    given = given or own_inputs
    if given is None:
        raise PlanError(
            f"there are no inputs for {source.spec}: give some (--inputs 1x3x224x224:float32), or "
            "define inputs() in the model's file"
        )
    if isinstance(found, torch.nn.Module) and not isinstance(found, torch.jit.ScriptModule):
        found.eval()
    if batch_size is not None:
        given = stacked(given, batch_size)
    # a model is converted where it is going to run
    found, given = placed(as_target(found), given, placement)
    if source.form not in {None, "eager"}:
        announce(f"turning the model into the form {source.form}")
    make_parameters(found, given, source.form)
    target = as_form(found, source.form, given, folder=scratch, mode=source.mode)
    return Loaded(target=target, given=given, load_s=load_s)


def make_parameters(target: Target, given: Sequence[CallInput], form: str | None) -> None:
    """Call a lazy model once before it is converted: no other form holds parameters to be made.

    Raises:
        PlanError: the call failed.
    """
    if form in {None, "eager", "compile"} or not given or not makes_parameters(target):
        return
    own = owned(given[0])
    try:
        with torch.no_grad():
            target.python_callable()(*own.args, **own.kwargs)
    except Exception as error:
        raise PlanError(
            f"{target.name} makes parameters in its first call, and that fails on input 0: "
            f"{exception_words(error).splitlines()[0]}"
        ) from error


def target_and_inputs(model: object, inputs: object) -> tuple[Target, tuple[CallInput, ...]]:
    """A model and its inputs as ``il.run`` takes them; of a spec string those of its file.

    Raises:
        PlanError: it is no model, or there are no inputs.
    """
    if isinstance(model, str) and is_spec(model):
        given = None if inputs is None else as_call_inputs(inputs)
        found = load(ModelSource(spec=model), lambda _: None, given=given)
        return found.target, found.given
    return as_target(model), as_call_inputs(inputs)


@contextmanager
def calling_state(autocast: str | None) -> Iterator[None]:
    """Autocast as the command line asks for it; entered before a model changes its form.

    Raises:
        PlanError: there is no such autocast.
    """
    with ExitStack() as stack:
        if autocast is not None:
            dtype = getattr(torch, autocast, None)
            if dtype not in {torch.bfloat16, torch.float16}:
                raise PlanError(f"autocast to {autocast!r} is unknown: choose bfloat16 or float16")
            stack.enter_context(torch.autocast("cpu", dtype))
            accelerator = torch.accelerator.current_accelerator()
            if accelerator is not None:
                stack.enter_context(torch.autocast(accelerator.type, dtype))
        yield
