"""What tells one model from another of the same name, as far as it is quick to see."""

from __future__ import annotations

import hashlib
import platform
import zipfile
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from inferload.records.figures import Fingerprint
from inferload.targets.kinds.cuda_graphs import GraphTarget
from inferload.targets.kinds.exported import AotiTarget, ExportedTarget
from inferload.targets.kinds.mixed import MixedTarget
from inferload.targets.kinds.python import CallableTarget
from inferload.targets.kinds.script import ScriptTarget
from inferload.targets.outputs.flat import WRAPPED
from inferload.targets.remote.target import RemoteTarget

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import CodeType

    from inferload.records.spec import ModelShare
    from inferload.targets.base import Target

# So many values of a tensor, at equal distances, stand for all of them.
VALUES = 64
# What stands before the names of a module that torch.compile, or we, have wrapped.
_WRAPPED = ("_orig_mod.", f"{WRAPPED}.")


def fingerprint_of(target: Target) -> Fingerprint | None:
    """Of a model in any form; ``None`` where there is nothing to tell it by. It never raises."""
    try:
        return _found(target)
    except Exception:  # noqa: BLE001 - a model's own state_dict may raise anything
        return None


def shares_of(target: Target) -> tuple[ModelShare, ...]:
    """What a result keeps of the models of a mix; none of a single one."""
    shares = target.shares()
    if not isinstance(target, MixedTarget):
        return shares
    return tuple(
        replace(share, fingerprint=fingerprint_of(member.target))
        for share, member in zip(shares, target.members, strict=True)
    )


def _found(target: Target) -> Fingerprint | None:  # noqa: PLR0911 - one a form
    if isinstance(target, MixedTarget | RemoteTarget):
        return None  # each of its models has one; of a server nobody can tell
    if isinstance(target, GraphTarget):
        return _found(target.inner)
    if isinstance(target, AotiTarget):
        if target.program is not None:
            return _of_weights(target.program.state_dict)
        return None if target.path is None else _of_package(target.path)
    if isinstance(target, ExportedTarget):
        return _of_weights(target.program.state_dict)
    if isinstance(target, CallableTarget) and not target.modules():
        return _of_function(target.python_callable())
    own: dict[str, Any] = {}
    for module in target.modules():
        own |= module.state_dict()
    if not own and isinstance(target, ScriptTarget):  # frozen: its weights are constants
        constants = target.module.code_with_constants[1].const_mapping
        return _of_weights(constants, of="constants")
    return _of_weights(own)


def _of_weights(named: Mapping[str, Any], of: str = "weights") -> Fingerprint:
    layout, values, count = hashlib.sha256(), hashlib.sha256(), 0
    for name, tensor in sorted(named.items()):
        if not isinstance(tensor, torch.Tensor):
            continue
        own = name
        for prefix in _WRAPPED:
            own = own.removeprefix(prefix)
        layout.update(f"{own} {tuple(tensor.shape)} {tensor.dtype};".encode())
        count += tensor.numel()
        values.update(_some_values(tensor))
    return Fingerprint(
        of=of,
        values_held=count,
        layout=layout.hexdigest()[:16],
        content=values.hexdigest()[:16],
    )


def values_of(tree: Any) -> str:
    """A hash of what the tensors and arrays in a nested container hold, by some of their values."""
    found = hashlib.sha256()
    for leaf in pytree.tree_leaves(tree):
        if isinstance(leaf, np.ndarray) and leaf.dtype.kind in "biufc":
            found.update(np.ascontiguousarray(leaf.flat[:: max(leaf.size // VALUES, 1)]).tobytes())
        elif isinstance(leaf, torch.Tensor):
            found.update(_some_values(leaf))
    return found.hexdigest()[:16]


def _some_values(tensor: torch.Tensor) -> bytes:
    """The bits of some of its values, which are the same on every device."""
    try:
        flat = tensor.detach().reshape(-1)[:: max(tensor.numel() // VALUES, 1)]
        found: bytes = flat.contiguous().cpu().view(torch.uint8).numpy().tobytes()
    except (RuntimeError, NotImplementedError, TypeError):  # sparse, quantised, without storage
        return b""
    return found


def _of_package(path: Path) -> Fingerprint:
    """Of a compiled package its bytes, by the checksums of its archive."""
    with zipfile.ZipFile(path) as archive:
        sums = sorted((one.CRC, one.file_size) for one in archive.infolist())
    return Fingerprint(of="package", content=hashlib.sha256(repr(sums).encode()).hexdigest()[:16])


def _of_function(function: Any) -> Fingerprint | None:
    """Of a module's method the module; of another function its code."""
    owner = getattr(function, "__self__", None)
    if isinstance(owner, torch.nn.Module):
        return _of_weights(owner.state_dict())
    code = getattr(function, "__code__", None)
    if code is None:
        return None
    # byte code is another in each version of Python
    of = f"code, Python {'.'.join(platform.python_version_tuple()[:2])}"
    return Fingerprint(of=of, content=hashlib.sha256(_code_of(code)).hexdigest()[:16])


def _code_of(code: CodeType) -> bytes:
    inner = [one for one in code.co_consts if hasattr(one, "co_code")]
    plain = [one for one in code.co_consts if not hasattr(one, "co_code")]
    own = code.co_code + repr((plain, code.co_names)).encode()
    return own + b"".join(map(_code_of, inner))
