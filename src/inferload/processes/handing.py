"""A model on its way from one process to another: its weights in memory that both share."""

from __future__ import annotations

import itertools
import resource
from dataclasses import dataclass, field
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.multiprocessing  # teaches the pickler to share tensors
from torch import Tensor

from inferload.errors import PlanError
from inferload.executors.base import exception_words
from inferload.targets.exported import AotiTarget, ExportedTarget
from inferload.targets.known_types import learn_types
from inferload.targets.load import import_spec
from inferload.targets.mixed import Member, MixedTarget
from inferload.targets.script import ScriptTarget, load_script

if TYPE_CHECKING:
    from inferload.executors.thread_state import PortableState
    from inferload.inputs import CallInput
    from inferload.targets.base import Target

_numbers = itertools.count()


@dataclass(frozen=True, slots=True, kw_only=True)
class HandedMember:
    """One model of a mix as it is sent."""

    name: str
    model: Handed
    weight: float
    callers: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Handed:
    """A target as it is sent: pickled whole, as a file of its form, or to be rebuilt from its spec.

    A mix is sent as its ``members``.

    ``weights`` are shared: the receiver's own take their place where they have the same name,
    shape and dtype. ``unpicklable`` says why a target must be rebuilt.
    """

    given: tuple[CallInput, ...]
    state: PortableState
    target: Target | None = None
    file: Path | None = None
    name: str | None = None
    form: str | None = None
    weights: dict[str, Tensor] = field(default_factory=dict)
    unpicklable: str | None = None
    members: tuple[HandedMember, ...] = ()


def handed(
    target: Target,
    given: tuple[CallInput, ...],
    state: PortableState,
    *,
    spec: str | None,
    scratch: Path,
) -> bytes:
    """The bytes that make the same target in one other process; call it again for each.

    Raises:
        PlanError: it cannot be pickled, and there is no spec string to rebuild it from.
    """
    try:
        return _dumped(_packed(target, given, state, scratch))
    except PlanError:
        raise
    except Exception as error:
        reason = exception_words(error).splitlines()[0]
        if spec is None:
            raise PlanError(
                f"{target.name} cannot be pickled for other processes ({reason}), and was not "
                "given by a spec string that they could rebuild it from: define it at the top "
                "level of a module, or give il.run 'path/file.py:name' in its place"
            ) from error
        return _dumped(
            Handed(
                given=given,
                state=state,
                name=target.name,
                weights=weights_of(target),
                unpicklable=reason,
            )
        )


def _packed(
    target: Target,
    given: tuple[CallInput, ...],
    state: PortableState,
    scratch: Path,
) -> Handed:
    common: dict[str, Any] = {"given": given, "state": state, "name": target.name}
    if isinstance(target, MixedTarget):
        members = [
            HandedMember(
                name=one.name,
                model=_packed(one.target, one.given, state, scratch),
                weight=one.weight,
                callers=one.callers,
            )
            for one in target.members
        ]
        return Handed(given=(), state=state, members=tuple(members))
    if isinstance(target, ScriptTarget | ExportedTarget) or (
        isinstance(target, AotiTarget) and target.path is not None
    ):
        file = _file_of(target, scratch)
        return Handed(**common, file=file, form=target.form, weights=weights_of(target))
    return Handed(**common, target=target)


def handed_by_spec(given: tuple[CallInput, ...], state: PortableState) -> bytes:
    """The bytes that make a process load the model by the spec that it has."""
    return _dumped(Handed(given=given, state=state))


def _dumped(found: Handed) -> bytes:
    # each tensor in shared memory is a descriptor, until every process has it
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        return bytes(ForkingPickler.dumps(found))
    except RuntimeError as error:
        if "shared memory" in str(error) or "No space left" in str(error):
            raise PlanError(
                f"there is not enough shared memory for the weights ({error}): make /dev/shm "
                "larger (docker run --shm-size), or run one process"
            ) from error
        raise


def _file_of(target: ScriptTarget | ExportedTarget | AotiTarget, scratch: Path) -> Path:
    """Save a target in the file format of its form; once, however often it is handed over."""
    if isinstance(target, AotiTarget):
        return Path(target.path or "")
    file: Path | None = getattr(target, "saved_as", None)
    if file is None or not file.exists():  # it went with the folder of an earlier run
        suffix = ".pt" if isinstance(target, ScriptTarget) else ".pt2"
        file = scratch / f"model-{next(_numbers)}{suffix}"
        if isinstance(target, ScriptTarget):
            torch.jit.save(target.module, file)
        else:
            torch.export.save(target.program, file)
        target.saved_as = file
    return file


def received(found: Handed) -> Target:
    """The target that another process handed over."""
    if found.target is not None:
        return found.target
    if found.members:
        return MixedTarget(
            [
                Member(
                    name=one.name,
                    target=received(one.model),
                    given=one.model.given,
                    weight=one.weight,
                    callers=one.callers,
                )
                for one in found.members
            ]
        )
    learn_types(found.given)
    target: Target
    if found.form == "script" and found.file is not None:
        target = load_script(found.file)
    elif found.form == "export" and found.file is not None:
        target = ExportedTarget(torch.export.load(found.file), found.name)
    else:
        target = AotiTarget(found.file)
    target.name = found.name or target.name
    adopt(target, found.weights)
    return target


def unpickled(content: bytes, spec: str | None) -> Handed:
    """Read what :func:`handed` made.

    Raises:
        PlanError: a class or function of it is not to be found in this process.
    """
    if spec is not None:
        import_spec(spec)  # its classes go by the name of its module
    try:
        found: Handed = ForkingPickler.loads(content)
    except Exception as error:
        raise PlanError(
            f"the model cannot be unpickled in another process ({exception_words(error)}): "
            "define it at the top level of a module, or give 'path/file.py:name' in its place"
        ) from error
    return found


def weights_of(target: Target) -> dict[str, Tensor]:
    """The parameters and buffers of a target on the CPU, moved to shared memory."""
    return {
        name: tensor.detach().share_memory_()
        for module in target.modules()
        for name, tensor in _named(module).items()
        if tensor.device.type == "cpu"
    }


def adopt(target: Target, weights: dict[str, Tensor]) -> int:
    """Let a target's own weights be the shared ones; how many there were."""
    adopted = 0
    for module in target.modules():
        for name, own in _named(module).items():
            shared = weights.get(name)
            if shared is not None and shared.shape == own.shape and shared.dtype == own.dtype:
                own.data = shared
                adopted += 1
    return adopted


def own_weights(target: Target) -> None:
    """Copy the weights of a target to memory of this process, near the cores that it runs on."""
    for module in target.modules():
        for tensor in _named(module).values():
            tensor.data = tensor.data.clone()


def _named(module: torch.nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}
