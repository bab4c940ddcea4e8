"""A model and its inputs on the devices that were asked for, and what is known of these."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import torch

from inferload.device_errors import in_short
from inferload.device_figures import DeviceInfo, DeviceMemory
from inferload.errors import PlanError
from inferload.executors.base import exception_words
from inferload.executors.thread_state import ThreadState
from inferload.input_copies import copied
from inferload.inputs import described, owned, tensors_of
from inferload.targets.exported import AotiTarget, ExportedTarget
from inferload.targets.mixed import MixedTarget
from inferload.unfinished import check_returned

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from inferload.inputs import CallInput
    from inferload.targets.base import Target


T = TypeVar("T")
# A device that has nothing to do says so within some 20 us.
LEAST_LEFT_S = 100e-6


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
            check_returned(target.callable_for(number)(*own.args, **own.kwargs), target.name)
        except PlanError:
            raise
        except (RuntimeError, ValueError) as error:
            where = ", ".join(sorted(map(str, others)))
            raise PlanError(
                f"{target.name} is on {home} and input {number} ({described(one)}) on {where}, and "
                f"a call with it fails ({exception_words(error).splitlines()[0]}): move the input, "
                f"or let --device {home} do it"
            ) from error


def works_elsewhere(
    target: Target,
    own: Sequence[CallInput],
    devices: Sequence[torch.device],
    patience_s: float | None,
) -> bool:
    """Whether a call goes on working on a device when the stream that it was made on has finished.

    Made with the first input of each model, on streams of its own and with nothing else at work.
    """

    def look() -> bool:
        streams = [torch.Stream(device) for device in devices]
        modules = [torch.get_device_module(device) for device in devices]
        for stream in reversed(streams):
            torch.accelerator.set_stream(stream)
        calls = target.calls_of(0, own)
        left_s, took_s = 0.0, 0.0
        for number in [share.first_input for share in target.shares()] or [0]:
            for _ in range(2):  # the first one may compile, tune and allocate
                for module, device in zip(modules, devices, strict=True):
                    module.synchronize(device)
                began = time.perf_counter()
                check_returned(calls[number](), target.name)
                for stream in streams:
                    stream.synchronize()
                took_s = time.perf_counter() - began
                began = time.perf_counter()
                for module, device in zip(modules, devices, strict=True):
                    module.synchronize(device)
                left_s = time.perf_counter() - began
            if left_s > max(0.1 * took_s, LEAST_LEFT_S):
                return True
        return False

    return bool(_tried(look, patience_s))


def _tried(look: Callable[[], T], patience_s: float | None) -> T | None:
    """What a call of the target shows, made in a thread like a caller's.

    ``None`` where it raises or does not return: the callers' own calls will say so.
    """
    state, found = ThreadState.of_this_thread(), []

    def run() -> None:
        with suppress(BaseException), state.taken_over():
            found.append(look())

    thread = threading.Thread(target=state.context.copy().run, args=(run,), daemon=True)
    thread.start()
    thread.join(patience_s)
    return found[0] if found else None


def in_use(
    target: Target, given: Sequence[CallInput], patience_s: float | None
) -> tuple[torch.device, ...]:
    """The devices other than the CPU that calls have work on, as far as can be known.

    What a function does inside cannot be seen: where it has neither weights nor inputs on a device,
    that of its output counts.
    """
    found = target.devices(given)
    if found or target.form != "callable" or not torch.accelerator.is_available():
        return tuple(sorted(found, key=str))

    def look() -> set[torch.device]:
        output = target.calls_of(0, given)[0]()
        check_returned(output, target.name)
        return {tensor.device for tensor in tensors_of(output)} - {torch.device("cpu")}

    return tuple(sorted(_tried(look, patience_s) or set(), key=str))


def info_of(device: torch.device) -> DeviceInfo:
    """What is known of a device."""
    module = torch.get_device_module(device)
    name = str(getattr(module, "get_device_name", lambda _: device.type)(device))
    uuid, memory = None, None
    if hasattr(module, "get_device_properties"):
        properties = module.get_device_properties(device)
        found = getattr(properties, "uuid", None)
        uuid = None if found is None else str(found)
        memory = getattr(properties, "total_memory", None)
    return DeviceInfo(device=str(device), name=name, uuid=uuid, memory_bytes=memory)


def settle(device: torch.device) -> None:
    """Wait until a device has done all of this process's work, or is known to have failed."""
    try:
        torch.get_device_module(device).synchronize(device)
    except RuntimeError:
        return  # a call raised it already


def forget_peaks(device: torch.device) -> None:
    """Start looking for the peak of allocated memory anew."""
    reset = getattr(torch.get_device_module(device), "reset_peak_memory_stats", None)
    if reset is not None:
        reset(device)


def memory_of(device: torch.device) -> DeviceMemory:
    """The peaks of what this process's allocator has taken of a device."""
    module = torch.get_device_module(device)
    peaks: list[int | None] = []
    for name in ("max_memory_allocated", "max_memory_reserved"):
        ask = getattr(module, name, None)
        peaks.append(None if ask is None else int(ask(device)))
    return DeviceMemory(
        device=str(device), peak_allocated_bytes=peaks[0], peak_reserved_bytes=peaks[1]
    )
