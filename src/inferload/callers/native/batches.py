"""How native callers put requests together, as the extension has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from types import ModuleType

    from inferload.callers.batching.work import BatchWork
    from inferload.targets.inputs.joined import Group


def gather_plan(extension: ModuleType, work: BatchWork) -> Any:
    """``GatherPlan`` of gathering.h, from what Python callers go by."""
    joining = work.joining
    plan = extension.GatherPlan()
    plan.groups = [_group(extension, work, group) for group in joining.groups]
    plan.group_of, plan.ends_of = [*joining.group_of], [*joining.ends_of]
    plan.items_of, plan.elements_of = [*joining.items_of], [*joining.elements_of]
    plan.sources = [[*parts] for parts in work.sources]
    plan.into = [[[*parts] for parts in shapes] for shapes in work.into]
    plan.examples = [work.examples.get(shape, []) for shape in range(joining.shapes)]
    plan.before = bool(work.copies)
    return plan


def _group(extension: ModuleType, work: BatchWork, group: Group) -> Any:
    parts = work.into[0][group.first]
    pads = [
        torch.tensor([] if pad is None else [pad]).to(part.dtype)
        for pad, part in zip(group.pads, parts, strict=True)
    ]
    joins = group.joins.ravel().tolist()
    return extension.GatherGroup(
        joins, len(group.ends), group.first, [*group.sizes], pads, group.by_entry
    )
