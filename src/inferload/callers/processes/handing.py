"""A model on its way from one process to another: its weights in memory that both share."""

from __future__ import annotations

import io
import itertools
import resource
import textwrap
import warnings
from dataclasses import dataclass, field, replace
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch.multiprocessing  # teaches the pickler to share tensors
from torch import Tensor

from inferload.callers.processes.weights import adopt, weights_of
from inferload.errors import PlanError
from inferload.log.failures import exception_words
from inferload.log.reasons import reason_of
from inferload.targets.as_target import import_spec
from inferload.targets.kinds.by_size import BySizeTarget
from inferload.targets.kinds.exported import AotiTarget, ExportedTarget
from inferload.targets.kinds.known_types import learn_types
from inferload.targets.kinds.mixed import Member, MixedTarget
from inferload.targets.kinds.script import ScriptTarget, load_script

if TYPE_CHECKING:
    from inferload.callers.python.thread_state import PortableState
    from inferload.targets.base import Target
    from inferload.targets.inputs.call_input import CallInput

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

    A mix is sent as its ``members``, a model of several sizes as its ``programs``.

    ``weights`` are shared: the receiver's own take their place where they have the same name,
    shape and dtype. ``unsent`` says why a target must be rebuilt, where it would have been sent.
    ``copied``: some of its tensors share no memory.
    ``given`` is ``None`` where the inputs must be had from where the model comes from.
    """

    given: tuple[CallInput, ...] | None
    state: PortableState
    target: Target | None = None
    file: Path | None = None
    name: str | None = None
    form: str | None = None
    weights: dict[str, Tensor] = field(default_factory=dict)
    unsent: str | None = None
    copied: bool = False
    members: tuple[HandedMember, ...] = ()
    programs: dict[int, Handed] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parcel:
    """Pickles, each of which may fail alone: that of a ``Handed`` without inputs, and the inputs.

    ``whole`` is ``None`` where the model comes from its spec. ``apart``: inputs do not.
    ``copied``: there are tensors in ``whole`` whose memory cannot be shared.
    """

    state: PortableState
    whole: bytes | None
    given: bytes | None
    apart: bool = False
    copied: bool = False


def handed(
    target: Target,
    given: tuple[CallInput, ...],
    state: PortableState,
    *,
    spec: str | None,
    scratch: Path,
    apart: bool = False,
) -> bytes:
    """The bytes that make the same target in one other process; call it again for each.

    ``spec``: where target and inputs come from, if it is words that the other process has as well;
    ``apart``: the inputs do not come from there.

    Raises:
        PlanError: something cannot be pickled, and there is no spec string to have it from.
    """
    copied = False
    try:
        whole, copied = _dumped_or_copied(_packed(target, state, scratch))
    except PlanError:
        raise
    except Exception as error:
        unsent = _reason(error)
        if spec is None:
            raise PlanError(
                f"{target.name} cannot be pickled for other processes ({unsent}), and was not "
                "given by a spec string that they could rebuild it from: define it at the top "
                "level of a module, or give il.run 'path/file.py:name' in its place"
            ) from error
        weights = weights_of(target)
        whole = _dumped(
            Handed(given=None, state=state, name=target.name, weights=weights, unsent=unsent)
        )
    apart |= spec is None
    own = None if isinstance(target, MixedTarget) else _inputs(given, apart=apart)
    return _dumped(_Parcel(state=state, whole=whole, given=own, apart=apart, copied=copied))


def _inputs(given: tuple[CallInput, ...], *, apart: bool) -> bytes | None:
    """Inputs as they are sent; ``None`` if they cannot be, and can be had where they come from."""
    try:
        return _dumped(given)
    except PlanError:
        raise
    except Exception as error:
        if not apart:
            return None
        raise PlanError(
            f"the inputs cannot be pickled for other processes ({_reason(error)}): give tensors "
            "and plain containers, or the model as 'path/file.py:name' and let inputs() in that "
            "file make them"
        ) from error


def _reason(error: Exception) -> str:
    return textwrap.shorten(exception_words(error), 300, placeholder=" ...")


def _packed(
    target: Target,
    state: PortableState,
    scratch: Path,
) -> Handed:
    common: dict[str, Any] = {"given": None, "state": state, "name": target.name}
    if isinstance(target, MixedTarget):
        members = [
            HandedMember(
                name=one.name,
                model=replace(_packed(one.target, state, scratch), given=one.given),
                weight=one.weight,
                callers=one.callers,
            )
            for one in target.members
        ]
        return Handed(given=None, state=state, members=tuple(members))
    if isinstance(target, BySizeTarget):
        programs = {size: _packed(one, state, scratch) for size, one in target.programs.items()}
        return Handed(**common, programs=programs)
    if isinstance(target, ScriptTarget | ExportedTarget) or (
        isinstance(target, AotiTarget) and target.path is not None
    ):
        file = _file_of(target, scratch)
        return Handed(**common, file=file, form=target.form, weights=weights_of(target))
    return Handed(**common, target=target)


def handed_by_spec(given: tuple[CallInput, ...], state: PortableState) -> bytes:
    """The bytes that make a process load the model by the spec that it has.

    ``given``: none if the spec has inputs as well.

    Raises:
        PlanError: the inputs cannot be pickled.
    """
    own = _inputs(given, apart=True) if given else None
    return _dumped(_Parcel(state=state, whole=None, given=own, apart=True))


class _Pickler(ForkingPickler):
    """Shares the memory of tensors, but for quantised ones: what torch makes of those is broken."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.has_copied = False

    def reducer_override(self, value: Any) -> Any:
        """How a value is pickled."""
        if not isinstance(value, Tensor) or not value.is_quantized:
            return NotImplemented
        self.has_copied = True
        content = io.BytesIO()
        torch.save(value.detach(), content)
        return _from_bytes, (content.getvalue(),)


def _from_bytes(content: bytes) -> Tensor:
    with warnings.catch_warnings():  # of quantised tensors, which torch is going to give up
        warnings.simplefilter("ignore")
        found: Tensor = torch.load(io.BytesIO(content), weights_only=True)
    return found


def _dumped(found: object) -> bytes:
    return _dumped_or_copied(found)[0]


def _dumped_or_copied(found: object) -> tuple[bytes, bool]:
    """The pickle of a thing, and whether some tensors of it share no memory."""
    # each tensor in shared memory is a descriptor, until every process has it
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        content = io.BytesIO()
        pickler = _Pickler(content)
        pickler.dump(found)
        return content.getvalue(), pickler.has_copied
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


def received(content: bytes, spec: str | None) -> tuple[Handed, Target | None]:
    """Read what :func:`handed` made; no target if it is to be had from ``spec``.

    Raises:
        PlanError: what was handed over cannot be read, or loaded, and there is no spec.
    """
    found = _unpickled(content, spec)
    if not (found.target or found.file or found.members or found.programs):
        return found, None
    try:
        return found, _target_of(found)
    except PlanError as error:
        if spec is None:
            raise
        return replace(found, unsent=reason_of(error.__cause__ or error)), None


def _target_of(found: Handed) -> Target:
    if found.target is not None:
        return found.target
    if found.members:
        return MixedTarget(
            [
                Member(
                    name=one.name,
                    target=_target_of(one.model),
                    given=one.model.given or (),
                    weight=one.weight,
                    callers=one.callers,
                )
                for one in found.members
            ]
        )
    if found.programs:
        programs = {size: _target_of(one) for size, one in found.programs.items()}
        return BySizeTarget(programs, found.name)
    learn_types(found.given or ())
    target = _from_file(found)
    target.name = found.name or target.name
    adopt(target, found.weights)
    return target


def _from_file(found: Handed) -> Target:
    try:
        if found.form == "script" and found.file is not None:
            return load_script(found.file)
        if found.form == "export" and found.file is not None:
            return ExportedTarget(torch.export.load(found.file), found.name)
        return AotiTarget(found.file)
    except Exception as error:
        raise PlanError(
            f"{found.name} was saved for other processes and cannot be loaded there "
            f"({_reason(error)}): give 'path/file.py:name' in its place, which each of them calls"
        ) from error


def _unpickled(content: bytes, spec: str | None) -> Handed:
    if spec is not None:
        import_spec(spec)  # its classes go by the name of its module
    parcel: _Parcel = ForkingPickler.loads(content)
    if parcel.whole is None:
        found = Handed(given=None, state=parcel.state)
    else:
        try:
            found = ForkingPickler.loads(parcel.whole)
        except Exception as error:
            if spec is None:
                raise PlanError(
                    f"the model cannot be unpickled in another process ({_reason(error)}): "
                    "define it at the top level of a module, or give 'path/file.py:name' in its "
                    "place"
                ) from error
            found = Handed(given=None, state=parcel.state, unsent=_reason(error))
    if parcel.given is not None:
        found = replace(found, given=_loaded(parcel))
    return replace(found, copied=parcel.copied)


def _loaded(parcel: _Parcel) -> tuple[CallInput, ...] | None:
    try:
        given: tuple[CallInput, ...] = ForkingPickler.loads(parcel.given or b"")
    except Exception as error:
        if not parcel.apart:
            return None
        raise PlanError(
            f"the inputs cannot be unpickled in another process ({_reason(error)}): give tensors "
            "and plain containers, or the model as 'path/file.py:name' and let inputs() in that "
            "file make them"
        ) from error
    return given
