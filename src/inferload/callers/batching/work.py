"""How the callers of a job put requests together: prepared before any caller starts."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from inferload.callers.batching.tensors import Tensors, parts_in, put_together
from inferload.errors import PlanError
from inferload.log.failures import exception_text, in_brief
from inferload.targets.argument_changes import parameters_of
from inferload.targets.inputs.call_input import CallInput, described
from inferload.targets.inputs.joining import is_channels_last, joining_of
from inferload.targets.kinds.by_size import BySizeTarget
from inferload.targets.outputs.splitting import answers_by_entry, taken_apart
from inferload.targets.outputs.unfinished import check_returned
from inferload.units import NS_PER_S, count_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import torch

    from inferload.callers.device_work import Copies
    from inferload.records.batches import BatchSpec
    from inferload.targets.base import Target
    from inferload.targets.inputs.joined import Group, Joining

# Of each group so many shapes behind dimension 0 are called before the start line, spread over all.
_ENDS_WARMED = 4
_SIZES_WARMED = 12
# And so many shapes in all.
MOST_WARMED = 48
# Graphs that a caller captures, each of them with memory of its own.
MOST_GRAPHS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchWork:
    """How callers put requests together.

    ``target`` is called with one of ``inputs[caller]``, of which there is one for each shape, by
    its number. ``into[caller][shape]`` are the tensors that the parts of requests are put together
    in, ``sources[input]`` these parts; with transfers they are pinned, and
    ``copies[caller][shape]`` says where they are copied to. ``examples``: inputs that make a batch
    of a shape, of the shapes that are called before the start line, in the order in which they
    are.
    """

    spec: BatchSpec
    target: Target
    joining: Joining
    inputs: Sequence[Sequence[CallInput]]
    into: Sequence[Sequence[Sequence[torch.Tensor]]]
    sources: Sequence[Sequence[torch.Tensor]]
    copies: Sequence[Sequence[Copies]]
    examples: dict[int, list[int]]

    @property
    def max_delay_ns(self) -> int:
        """How long a batch is held back for more requests."""
        return round(self.spec.max_delay_s * NS_PER_S)

    @property
    def most_of(self) -> list[int]:
        """How many requests of each group make a batch full."""
        return [group.most for group in self.joining.groups]


def batch_work(
    target: Target, given: Sequence[CallInput], spec: BatchSpec, callers: int, *, transfers: bool
) -> BatchWork:
    """Make what so many callers need to put these inputs together, and check it.

    Raises:
        PlanError: an input cannot be put together with others, a shape does not fit the target, or
            what it answers cannot be taken apart.
    """
    spec = _with_sizes(spec, target)
    joining = joining_of(given, spec, target.owner_of, lambda number: parameters_of(target, number))
    graphs = len(spec.sizes_allowed) * sum(len(group.ends) for group in joining.groups)
    if "cudagraph" in target.form and graphs > MOST_GRAPHS:
        raise PlanError(
            f"each caller would capture {graphs:,} CUDA graphs, one for each size and shape: allow "
            "fewer sizes (--batch-sizes-allowed 1,8,64), or give inputs of fewer shapes"
        )
    owners = [joining.group_of_shape(number).owner for number in range(joining.shapes)]
    tensors = [Tensors(joining) for _ in range(callers)]
    own = [[one.input(number) for number in range(joining.shapes)] for one in tensors]
    called = target.for_shapes(own[0], owners)
    called.notes = target.notes
    examples = _examples(joining)
    sources: list[list[torch.Tensor]] = [[_source(p) for p in parts] for parts in joining.parts_of]
    for one in tensors:
        for shape in reversed(examples):
            members = [sources[member] for member in examples[shape]]
            _put_all(joining.group_of_shape(shape), members, one.parts(shape))
    for shape in examples:
        _bind(called, shape, own[0][shape], joining)
    joining = _checked(called, own[0], joining, examples)
    _prepare(called, own[0], joining, examples)
    target.first_call_ms = called.first_call_ms
    called.open(own, transfers=True)  # what they read is written to before each call
    reads = [
        [
            parts_in(joining.group_of_shape(number), called.read_by_calls(caller, number, one))
            for number, one in enumerate(inputs)
        ]
        for caller, inputs in enumerate(own)
    ]
    into: list[list[list[torch.Tensor]]] = reads
    copies: list[list[Copies]] = []
    if transfers:
        sources = [[part.cpu().pin_memory() for part in parts] for parts in sources]
        pinned = [Tensors(joining, pinned=True) for _ in range(callers)]
        into = [[one.parts(number) for number in range(joining.shapes)] for one in pinned]
        copies = [
            [list(zip(*pair, strict=True)) for pair in zip(host, device, strict=True)]
            for host, device in zip(into, reads, strict=True)
        ]
    return BatchWork(
        spec=replace(spec, elements_per_input=joining.elements_of),
        target=called,
        joining=joining,
        inputs=own,
        into=into,
        sources=sources,
        copies=copies,
        examples=examples,
    )


def _prepare(
    target: Target, inputs: Sequence[CallInput], joining: Joining, shapes: Iterable[int]
) -> None:
    """Prepare each model with shapes that it will be called in."""
    by_owner: dict[int, list[CallInput]] = {}
    for shape in shapes:
        by_owner.setdefault(joining.group_of_shape(shape).owner, []).append(inputs[shape])
    for owner, own in by_owner.items():
        target.model_of(owner).prepare(own)


def _with_sizes(spec: BatchSpec, target: Target) -> BatchSpec:
    """With the sizes that there are programs for; of graphs, which are captured, powers of two."""
    if isinstance(target, BySizeTarget):
        own = [
            size for size in target.sizes if size in spec.sizes_allowed or not spec.sizes_allowed
        ]
        if not own:
            raise PlanError(
                f"{target.name} has programs for {', '.join(map(str, target.sizes))} items, and "
                f"{', '.join(map(str, spec.sizes_allowed))} were allowed: allow one that there is"
            )
        return replace(spec, sizes_allowed=tuple(own))
    if "cudagraph" not in target.form or spec.sizes_allowed:
        return spec
    sizes, size = [], 1
    while size < spec.max_batch:
        sizes.append(size)
        size *= 2
    return replace(spec, sizes_allowed=(*sizes, spec.max_batch))


def _source(part: torch.Tensor) -> torch.Tensor:
    """A part as it lies in memory in the end, item by item."""
    part = part.detach()
    return part if is_channels_last(part) else part.contiguous()


def _put_all(
    group: Group, members: Sequence[Sequence[torch.Tensor]], into: Sequence[torch.Tensor]
) -> None:
    for place, one in enumerate(into):
        put_together([parts[place] for parts in members], one, group.pads[place])


def _examples(joining: Joining) -> dict[int, list[int]]:
    """Inputs that make a batch of a shape, of some shapes of each group, the largest first."""
    found: list[list[tuple[int, list[int]]]] = []
    for number, group in enumerate(joining.groups):
        of_ends: dict[int, int] = {}
        for one, own in enumerate(joining.group_of):
            if own == number:
                of_ends.setdefault(joining.ends_of[one], one)
        ends = sorted(of_ends)
        chosen = [ends[n] for n in _spread(len(ends), _ENDS_WARMED)]
        own_examples = []
        for size in _sizes_warmed(group):
            for shape in reversed(chosen):
                member = of_ends[shape]
                count = max(size // joining.items_of[member], 1)
                if count * joining.items_of[member] <= group.sizes[-1]:
                    members = [member] * min(count, group.most)
                    own_examples.append((joining.shape_of(members), members))
        found.append(own_examples)
    # groups in turn, so that each model of a mix has its turn
    turns = range(max(map(len, found)))
    ordered = [one for turn in turns for own in found for one in own[turn : turn + 1]]
    return dict(ordered[:MOST_WARMED])


def _sizes_warmed(group: Group) -> list[int]:
    """The sizes of a group that are called first, the largest first."""
    return [group.sizes[place] for place in reversed(_spread(len(group.sizes), _SIZES_WARMED))]


def _spread(count: int, most: int) -> list[int]:
    """So many places at most, evenly spread, the first and the last among them."""
    if count <= most:
        return [*range(count)]
    return [round(n * (count - 1) / (most - 1)) for n in range(most)]


def _bind(target: Target, shape: int, one: CallInput, joining: Joining) -> None:
    try:
        target.bind(shape, one)
    except PlanError as error:
        size, _ = joining.group_of_shape(shape).shape(shape)
        told = str(error).replace(
            f"input {shape}", f"a batch of {count_text(size, 'item')} ({described(one)})"
        )
        told = told.replace("; run inputs of such sizes apart", "")
        raise PlanError(
            f"{told}: allow the sizes that the model takes (--batch-sizes-allowed), or make its "
            "dimension 0 dynamic"
        ) from error


def _checked(
    target: Target,
    inputs: Sequence[CallInput],
    joining: Joining,
    examples: dict[int, list[int]],
) -> Joining:
    """Call each group with one request and with some, and take apart what comes back.

    Raises:
        PlanError: it raised, or what it answered cannot be taken apart.
    """
    groups = []
    for group in joining.groups:
        own = [(shape, members) for shape, members in reversed(examples.items())
               if joining.group_of_shape(shape).first == group.first]  # fmt: skip
        several = [one for one in own if len(one[1]) > 1]
        made = dict([*own[:1], *several[:1]])
        outputs = {shape: _called(target, inputs, joining, shape) for shape in made}
        sizes = {group.shape(shape)[0]: output for shape, output in outputs.items()}
        by_entry = bool(sizes) and answers_by_entry(sizes)
        for shape, members in made.items():
            counts, size = [joining.items_of[one] for one in members], group.shape(shape)[0]
            taken_apart(outputs[shape], counts, size, target.name, by_entry=by_entry)
        groups.append(replace(group, by_entry=by_entry))
    return replace(joining, groups=tuple(groups))


def _called(target: Target, inputs: Sequence[CallInput], joining: Joining, shape: int) -> Any:
    one, size = inputs[shape], joining.group_of_shape(shape).shape(shape)[0]
    began = time.perf_counter()
    try:
        output: Any = target.callable_for(shape)(*one.args, **one.kwargs)
    except Exception as error:
        raise PlanError(
            f"{target.name} raised when it was called with a batch of {count_text(size, 'item')} "
            f"({described(one)}): {type(error).__name__}: {in_brief(exception_text(error))}"
        ) from error
    if target.first_call_ms is None:
        target.first_call_ms = (time.perf_counter() - began) * 1e3
    check_returned(output, target.name)
    return output
