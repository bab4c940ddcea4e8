"""What a run in this process was asked to be and, where that was left open, what was chosen."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from inferload.callers.python.thread_state import ThreadState
from inferload.errors import PlanError
from inferload.plan.arrivals.loads import ClosedLoop
from inferload.records.spec import AND, RunSpec
from inferload.stats.limits.limit import limits_given
from inferload.targets.fingerprint import fingerprint_of, shares_of
from inferload.targets.inputs.call_input import described
from inferload.targets.inputs.pairs import inputs_of_recording
from inferload.targets.kinds.known_types import with_inputs

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from inferload.callers.local.lane import LocalLane
    from inferload.plan.arrivals.loads import OpenLoop
    from inferload.plan.options import RunOptions
    from inferload.records.batches import BatchSpec
    from inferload.targets.base import Target
    from inferload.targets.inputs.call_input import CallInput


def spec_of(
    target: Target,
    given: Sequence[CallInput],
    options: RunOptions,
    lanes: Sequence[LocalLane],
    threads_per_call: int,
) -> RunSpec:
    """The spec of callers that are prepared, on the CPU."""
    state, load = ThreadState.of_this_thread(), options.load
    shares = shares_of(target)
    return RunSpec.telling(
        options.told(),
        target=target.name,
        form=target.form,
        executor=AND.join(dict.fromkeys(lane.executor.name for lane in lanes)),
        load=str(load),
        callers=load.callers,
        rate_per_s=getattr(load, "rate_per_s", None),
        drain_s=options.load.drain_s,
        warmup=options.warmup or "fixed",
        threads_per_call=threads_per_call,
        inputs=tuple(described(one) for one in given),
        items_per_input=tuple(target.items_of(n, one) for n, one in enumerate(given)),
        servers=target.servers(),
        drawn=tuple(dict.fromkeys(one.drawn for one in given if one.drawn)),
        grad_mode=state.grad_mode,
        autocast=state.autocast_mode,
        models=shares,
        may_become=with_inputs(target.may_become, given),
        asked_form=options.form,
        arrivals=getattr(load, "arrivals", None),
        burstiness=getattr(load, "burstiness", None),
        load_seed=getattr(load, "seed", None),
        load_stages=load.stages,
        recording=load.recording,
        paired=inputs_of_recording(given, load.recording, of_a_mix=bool(shares)) is not None,
        limits=tuple(one.written for one in limits_given(options.limit)),
        **_of_clients(load),
        batching=_batches_of(lanes),
        fingerprint=fingerprint_of(target),
    )


def _of_clients(load: ClosedLoop | OpenLoop) -> dict[str, Any]:
    if not isinstance(load, ClosedLoop) or load.clients is None:
        return {}
    return {"clients": load.clients, "think_s": load.think_s, "think": load.think}


def _batches_of(lanes: Sequence[LocalLane]) -> BatchSpec | None:
    """How requests are put together; of several queues the inputs of one after another."""
    works = [lane.job.batching for lane in lanes if lane.job.batching is not None]
    if not works:
        return None
    elements = [one for work in works for one in work.spec.elements_per_input]
    return replace(works[0].spec, elements_per_input=tuple(elements))


def with_devices(
    spec: RunSpec,
    lanes: Sequence[LocalLane],
    devices: Sequence[torch.device],
    options: RunOptions,
) -> RunSpec:
    """With what there is to say of the devices that calls have work on.

    Raises:
        PlanError: there are none, and it was asked how they are used.
    """
    if not devices and (options.streams != "per-caller" or options.completion != "sync"):
        raise PlanError(
            f"streams and completion are those of calls on a device, and {spec.target} and its "
            "inputs are on the CPU: give a device, or leave them out"
        )
    works = [lane.job.device_work for lane in lanes]
    work = next((one for one in works if one is not None), None)
    if work is None:
        return spec
    return replace(
        spec,
        devices=tuple(map(str, devices)),
        streams=options.streams if work.own_streams else "shared",
        completion="event" if work.by_event else "sync",
        transfers=work.transfers,
    )
