"""From the words of a command line to a target, its inputs, and the state that callers run in."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import torch

from inferload.errors import PlanError
from inferload.plan.model import GRAD_MODES, MemberSource, ModelSource
from inferload.plan.server import Server, is_url
from inferload.targets.as_target import (
    as_target,
    inputs_from_spec,
    is_spec,
    model_from_spec,
)
from inferload.targets.forms import as_form
from inferload.targets.inputs.given import as_call_inputs, inputs_from_text
from inferload.targets.inputs.stacking import stacked
from inferload.targets.kinds.mixed import Member, MixedTarget
from inferload.targets.placing import Placement, placed
from inferload.targets.remote.address import Address
from inferload.targets.remote.target import RemoteTarget

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from inferload.targets.base import Target
    from inferload.targets.inputs.call_input import CallInput


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
    timeout_s: float | None = None,
) -> Loaded:
    """Load the model that a command line names, in the form it asks for, or all models of a mix.

    ``given``: inputs that are at hand; else those of the command line, or of the model's file.
    ``timeout_s`` bounds how long a model may take to change its form.

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
        return _loaded(whole, source, announce, scratch, given, placement, timeout_s)
    members, load_s = [], 0.0
    for one in source.members:
        try:
            found = _loaded(one, source, announce, scratch, None, placement, timeout_s)
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
    one: MemberSource,
    source: ModelSource,
    announce: Callable[[str], None],
    scratch: Path | None,
    given: tuple[CallInput, ...] | None,
    placement: Placement,
    timeout_s: float | None,
) -> Loaded:
    if is_url(one.spec):
        Address.of(one.spec)  # which may hold a secret, and is then not to be repeated
    announce(f"loading {one.spec}")
    if one.input_texts:
        given = inputs_from_text(one.input_texts, source.seed)
    began = time.perf_counter()
    found: object
    own_inputs: tuple[CallInput, ...] | None
    if is_url(one.spec):
        found = _at(one.spec, source.server)
        own_inputs = None if source.inputs_of is None else inputs_from_spec(source.inputs_of)
    else:
        with torch.inference_mode(mode=False):  # parameters made within stay what they are
            found, own_inputs = model_from_spec(one.spec)
    load_s = time.perf_counter() - began
    given = given or own_inputs
    if given is None:
        raise PlanError(f"there are no inputs for {one.spec}: {_ways_to_inputs(one.spec)}")
    if isinstance(found, torch.nn.Module) and not isinstance(found, torch.jit.ScriptModule):
        with suppress(NotImplementedError):  # of what torch.export made, which has no modes
            found.eval()
    if source.batch_size is not None and not source.members:
        given = stacked(given, source.batch_size)
    # a model is converted where it is going to run
    target, given = placed(as_target(found), given, placement)
    if one.form not in {None, "eager"}:
        announce(f"turning the model into the form {one.form}")
    with grad_mode(source.grad):
        target = as_form(
            target,
            one.form,
            given,
            folder=scratch,
            mode=one.mode,
            compare=source.compare,
            timeout_s=timeout_s,
            batching=source.batching,
        )
    return Loaded(target=target, given=given, load_s=load_s)


def _ways_to_inputs(spec: str) -> str:
    """What to do where a model has no inputs."""
    if is_url(spec):
        return (
            "give tensors (--inputs 1x16:int64:0..30000), bodies (--inputs FILE.jsonl, one a "
            "line), or texts (--inputs text:100..200, so many words)"
        )
    return "give some (--inputs 1x3x224x224:float32), or define inputs() in the model's file"


def _at(url: str, how: Server | None) -> RemoteTarget:
    """The model behind a URL, asked as the command line says."""
    return RemoteTarget(Server(url) if how is None else replace(how, url=url))


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
            available = torch.accelerator.is_available()
            accelerator = torch.accelerator.current_accelerator() if available else None
            if accelerator is not None:
                stack.enter_context(torch.autocast(accelerator.type, dtype))
        yield


def grad_mode(grad: str | None) -> AbstractContextManager[Any]:
    """One of ``GRAD_MODES`` as the command line asks for it; ``None``: as it is.

    A model is built before it is entered: parameters made in inference mode stay what they are.

    Raises:
        PlanError: there is no such mode.
    """
    if grad is None:
        return nullcontext()
    modes = {"inference": torch.inference_mode, "no": torch.no_grad, "on": torch.enable_grad}
    if grad not in modes:
        raise PlanError(f"grad {grad!r} is unknown: choose {', '.join(GRAD_MODES)}")
    return cast("AbstractContextManager[Any]", modes[grad]())
