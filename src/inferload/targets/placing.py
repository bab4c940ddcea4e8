"""A model and its inputs on the devices that were asked for, and what is known of these."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from inferload.errors import PlanError
from inferload.log.failures import exception_words, in_short
from inferload.targets.inputs.call_input import described, owned, tensors_of
from inferload.targets.inputs.copies import copied
from inferload.targets.kinds.exported import AotiTarget, ExportedTarget
from inferload.targets.kinds.mixed import MixedTarget
from inferload.targets.outputs.settling import settled
from inferload.targets.remote.target import RemoteTarget

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferload.targets.base import Target
    from inferload.targets.inputs.call_input import CallInput


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """The device that a model and its inputs are put on, and whether calls copy their inputs."""

    device: str | None = None
    transfers: bool = False


def device_of(text: str) -> torch.device:
    """The device of a name such as ``"cuda:1"``; without a number, the first one.

    Raises:
        PlanError: torch knows no such device, or it is not there.
    """
    try:
        device = torch.device(text)
    except (RuntimeError, ValueError):
        raise PlanError(f"device {text!r} is unknown to torch: give cpu, cuda or cuda:1") from None
    if device.type == "cpu":
        return torch.device("cpu")
    try:
        module = torch.get_device_module(device)
        count = int(module.device_count())
    except (RuntimeError, AttributeError):
        count = 0
    index = device.index or 0
    if index < count:
        return torch.device(device.type, index)
    if not count:
        built = ", which is built without CUDA" if not torch.version.cuda else ""
        raise PlanError(
            f"there is no device {text}: torch {torch.__version__}{built} sees no {device.type} "
            "device here (a driver, or CUDA_VISIBLE_DEVICES?)"
        )
    names = ", ".join(f"{device.type}:{number}" for number in range(count))
    raise PlanError(f"there is no device {text}: this machine has {names}")


def moved(target: Target, device: torch.device) -> Target:
    """The target on a device; a module is moved in place, as ``module.to(device)`` does it.

    Raises:
        PlanError: it does not fit there, or cannot be moved.
    """
    if isinstance(target, RemoteTarget):
        raise PlanError(
            f"{target.name} is where its server has put it: leave device (--device) out"
        )
    try:
        if isinstance(target, AotiTarget):
            target.use_device(device)
        elif isinstance(target, ExportedTarget):
            return target.on(device)
        for module in target.modules():
            module.to(device)
    except PlanError:
        raise
    except Exception as error:
        raise PlanError(
            f"{target.name} cannot be moved to {device}: {in_short(exception_words(error))}"
        ) from error
    return target


def moved_input(one: CallInput, device: torch.device) -> CallInput:
    """An input whose tensors are on a device; what is there already stays as it is.

    Raises:
        PlanError: it does not fit there.
    """
    try:
        args, kwargs, _ = copied(
            tuple(one.args), dict(one.kwargs), lambda tensor: tensor.to(device)
        )
    except RuntimeError as error:
        raise PlanError(
            f"input {described(one)} cannot be moved to {device}: "
            f"{in_short(exception_words(error))}"
        ) from error
    return replace(one, args=args, kwargs=kwargs)


def home_of(target: Target) -> torch.device | None:
    """The one device other than the CPU that a target's weights are on, if there is one."""
    found = {t.device for m in target.modules() for t in (*m.parameters(), *m.buffers())}
    return found.pop() if len(found) == 1 and not is_cpu(*found) else None


def is_cpu(device: torch.device) -> bool:
    """Whether it is the CPU."""
    return device.type == "cpu"


def placed(
    target: Target, given: Sequence[CallInput], placement: Placement
) -> tuple[Target, tuple[CallInput, ...]]:
    """A target and its inputs on a device; with transfers, inputs where the weights are.

    Raises:
        PlanError: the device is not there, or they cannot be moved to it.
    """
    if isinstance(target, MixedTarget):
        members = []
        for one in target.members:
            own, inputs = placed(one.target, one.given, placement)
            members.append(replace(one, target=own, given=inputs))
        target = MixedTarget(members)
        return target, target.given
    where = None if placement.device is None else device_of(placement.device)
    if where is not None:
        target = moved(target, where)
    elif placement.transfers:
        where = home_of(target)
    if where is None:
        return target, tuple(given)
    return target, tuple(moved_input(one, where) for one in given)


def check_same_device(target: Target, bound: Sequence[CallInput]) -> None:
    """Refuse inputs on another device than the weights, if a call with them fails.

    A model may well move its inputs itself.

    Raises:
        PlanError: naming the input, and both devices.
    """
    home = home_of(target)
    if home is None:
        return
    for number, one in enumerate(bound):
        others = {t.device for t in tensors_of((one.args, dict(one.kwargs)))} - {home}
        if not others:
            continue
        own = owned(one)
        try:
            settled(target.callable_for(number)(*own.args, **own.kwargs), target.name)
        except PlanError:
            raise
        except (RuntimeError, ValueError) as error:
            where = ", ".join(sorted(map(str, others)))
            raise PlanError(
                f"{target.name} is on {home} and input {number} ({described(one)}) on {where}, and "
                f"a call with it fails ({exception_words(error).splitlines()[0]}): move the input, "
                f"or let --device {home} do it"
            ) from error
