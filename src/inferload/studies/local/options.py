"""Options of a study's runs, by the names that ``il.run`` has for them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from inferload.errors import PlanError
from inferload.plan.option_table import OPTIONS
from inferload.plan.options import RunOptions
from inferload.plan.server import is_served
from inferload.runs.run import names_of_devices

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferload.plan.arrivals.loads import ClosedLoop, OpenLoop
    from inferload.targets.base import Target
    from inferload.targets.inputs.call_input import CallInput

# What a study sets itself.
_ITS_OWN = {"trace", "form", "mode", "batch_size", "limit"}


def options_of(options: dict[str, Any], load: ClosedLoop | OpenLoop, model: object) -> RunOptions:
    """Options by the names that ``il.run`` has for them.

    Raises:
        PlanError: there is no such option.
    """
    known = {row.name for row in OPTIONS} - _ITS_OWN | {"device"}
    for name in options:
        if name not in known:
            raise PlanError(f"there is no option {name!r}: choose of {', '.join(sorted(known))}")
    own = dict(options)
    devices = names_of_devices(own.pop("device", None))
    return RunOptions(load=load, devices=devices, of_server=is_served(model), **own)


def fingerprint(target: Target, given: Sequence[CallInput]) -> list[str]:
    """What tells one state of a model and its inputs from another, as far as it is quick to see.

    Of weights the names and shapes, of inputs what they hold.
    """
    weights, content = hashlib.sha256(), hashlib.sha256()
    for module in target.modules():
        for name, tensor in module.state_dict().items():
            if isinstance(tensor, torch.Tensor):
                weights.update(f"{name} {tuple(tensor.shape)} {tensor.dtype};".encode())
    for one in given:
        for leaf in pytree.tree_leaves((one.args, dict(one.kwargs))):
            text = str(leaf)
            if isinstance(leaf, torch.Tensor):
                text = f"{tuple(leaf.shape)} {leaf.dtype} {float(leaf.detach().double().sum())}"
            content.update(f"{text};".encode())
    asked = [f"{one.url} {one.connections} {one.headers} {one.body}" for one in target.servers()]
    return [weights.hexdigest()[:16], content.hexdigest()[:16], *asked]


def as_written(options: dict[str, Any]) -> dict[str, Any]:
    """Options as they are written into a file."""
    return {
        name: value if isinstance(value, int | float | str | bool | None) else str(value)
        for name, value in options.items()
    }
