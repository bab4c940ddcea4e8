"""What the callers of a lane call, and with what: inputs copied, or put together in batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from inferload.callers.batching.work import batch_work
from inferload.callers.device_work import DeviceWork, pinned_copies
from inferload.callers.local.devices import in_use, settle, works_elsewhere
from inferload.errors import PlanError
from inferload.records.figures import RunWarning
from inferload.targets.argument_changes import as_it_was
from inferload.targets.conversion.time_limit import at_most
from inferload.targets.inputs.call_input import owned, tensors_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferload.callers.batching.work import BatchWork
    from inferload.callers.device_work import Copies
    from inferload.plan.options import RunOptions
    from inferload.targets.base import Target
    from inferload.targets.inputs.call_input import CallInput

_ELSEWHERE = RunWarning(
    code="other-streams",
    message=(
        "the target works on other streams than its caller's, and goes on when that has finished: "
        "every call waits for all work on the device, that of other callers too"
    ),
    hint="have the caller's stream wait for the others (wait_stream) before the call returns",
)
# Inputs that callers share are kept as they were, to be compared with, if they have no more.
MOST_KEPT_BYTES = 2**28


@dataclass(frozen=True, slots=True, kw_only=True)
class Called:
    """``target`` is called with ``inputs[caller]``.

    ``given``: what these were, to be compared with; ``warmup_order``: which of them warm-up calls
    take. With ``batching`` there is one for each shape of a batch.
    """

    target: Target
    inputs: Sequence[Sequence[CallInput]]
    given: Sequence[CallInput]
    warmup_order: Sequence[int]
    device_work: DeviceWork | None
    batching: BatchWork | None = None


def called_by(
    target: Target, bound: Sequence[CallInput], options: RunOptions, callers: int
) -> Called:
    """Prepare the target, and make what each caller has of its own.

    Raises:
        PlanError: the target failed, or an input does not fit.
    """
    if options.batching is not None:
        if target.answers_in_pieces:
            raise PlanError(
                f"{target.name} answers in pieces, and the requests of a batch are answered "
                "together: leave max_batch (--max-batch) out, or name a function that returns "
                "list(model(x)). Requests that join and leave between pieces (continuous batching) "
                "are a server's own, and not measured here"
            )
        with at_most(options.timeout_s, f"preparing {target.name}"):
            batching = batch_work(
                target, bound, options.batching.told, callers, transfers=options.transfers
            )
        return Called(
            target=batching.target,
            inputs=batching.inputs,
            given=(),
            warmup_order=[*batching.examples],
            device_work=_device_work(batching.target, batching.inputs, options, batching),
            batching=batching,
        )
    # copies for calls are made of inputs that no call sees
    shared = options.share_inputs or options.fresh_inputs
    with at_most(options.timeout_s, f"preparing {target.name}"):
        target.prepare(bound if options.share_inputs else [owned(one) for one in bound])
    own = [bound if shared else [owned(one) for one in bound] for _ in range(callers)]
    given = () if options.fresh_inputs else _as_they_were(bound, own[0], options)
    target.open(own, transfers=options.transfers)
    seen = [[owned(one) for one in bound]] if options.fresh_inputs else own
    return Called(
        target=target,
        inputs=own,
        given=given,
        warmup_order=target.warmup_order(len(bound)),
        device_work=_device_work(target, seen, options),
    )


def _as_they_were(
    bound: Sequence[CallInput], own: Sequence[CallInput], options: RunOptions
) -> Sequence[CallInput]:
    """The inputs as calls will not see them, to be compared with; none where that is too much."""
    if not options.share_inputs:
        return [as_it_was(*both) for both in zip(bound, own, strict=True)]
    tensors = [t for one in bound for t in tensors_of((one.args, dict(one.kwargs)))]
    size_bytes = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    if size_bytes > MOST_KEPT_BYTES:
        return ()
    copies = [owned(one) for one in bound]
    return [as_it_was(*both) for both in zip(copies, bound, strict=True)]


def _device_work(
    target: Target,
    own: Sequence[Sequence[CallInput]],
    options: RunOptions,
    batching: BatchWork | None = None,
) -> DeviceWork | None:
    """How callers use the devices that their calls have work on, if any.

    Raises:
        PlanError: transfers were asked for, and everything is on the CPU.
    """
    patience_s = None if options.timeout_s is None else 2 * options.timeout_s
    examples = own[0] if batching is None else [own[0][shape] for shape in batching.examples]
    devices = in_use(target, examples, patience_s)
    if not devices:
        if options.transfers:
            raise PlanError(
                f"transfers are copies between host and device, and {target.name} and its inputs "
                "are on the CPU: give a device, or leave transfers out"
            )
        return None
    copies: Sequence[Sequence[Copies]] = [] if batching is None else batching.copies
    if options.transfers and batching is None:
        copies = [
            [
                pinned_copies(
                    (tuple(one.args), dict(one.kwargs)),
                    (tuple(read.args), dict(read.kwargs)),
                )
                for number, one in enumerate(inputs)
                for read in [target.read_by_calls(caller, number, one)]
            ]
            for caller, inputs in enumerate(own)
        ]
    for device in devices:  # inputs and graphs are ready before callers use them in other streams
        settle(device)
    elsewhere = works_elsewhere(target, own[0], devices, patience_s)
    if elsewhere:
        target.notes = (*target.notes, _ELSEWHERE)
    return DeviceWork(
        devices=devices,
        own_streams=options.streams == "per-caller",
        by_event=options.completion == "event",
        whole_devices=elsewhere,
        copies_in=copies,
        seed=options.seed,
    )
