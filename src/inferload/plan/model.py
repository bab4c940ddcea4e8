"""A model, or several, in words that any process understands."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from inferload.files import is_file
from inferload.plan.server import Server, is_url

if TYPE_CHECKING:
    from collections.abc import Collection

    from inferload.records.batches import BatchSpec

#: In what way calls may record gradients.
GRAD_MODES = ("inference", "no", "on")
#: What a model can be turned into.
FORMS = ("eager", "compile", "script", "export", "aoti", "cudagraph")

#: What files of models end in.
MODEL_FILES = (".py", ".pt", ".pth", ".ts", ".pt2")


def spec_parts(spec: str, folder: Path = Path()) -> tuple[str, str | None]:
    """The file or module that a spec names, and the name in it; ``None`` if it names a file alone.

    What is there in ``folder`` is a file, whatever colons its name has.

    >>> spec_parts("serving/model.py:net"), spec_parts("package.module:net"), spec_parts("net.pt2")
    (('serving/model.py', 'net'), ('package.module', 'net'), ('net.pt2', None))
    """
    if is_url(spec):
        return spec, None
    where, colon, name = spec.rpartition(":")
    is_name = colon and "/" not in name and not name.endswith(MODEL_FILES)
    if not is_name or is_file(folder / spec):
        return spec, None
    return where, name


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberSource:
    """One model of a mix, in words."""

    name: str
    spec: str
    weight: float
    form: str | None = None
    input_texts: tuple[str, ...] = ()
    callers: int | None = None
    mode: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSource:
    """A model in words that any process understands, as the command line has them.

    ``spec`` is ``MODEL``, or the run file of a mix, whose models are ``members``. ``mode`` is
    ``torch.compile``'s. ``batch_size``: the items of each input, stacked along dimension 0.
    ``grad`` is one of ``GRAD_MODES``, and ``None`` the calling thread's. ``compare``: whether the
    outputs of another form are held against the eager model's. ``batching``: how requests are put
    together, where they are. ``server``: how servers are asked that specs name by a URL.
    ``inputs_of``: the spec of the model whose inputs are taken, where others are not given.
    """

    spec: str
    members: tuple[MemberSource, ...] = ()
    input_texts: tuple[str, ...] = ()
    form: str | None = None
    autocast: str | None = None
    seed: int = 0
    mode: str | None = None
    batch_size: int | None = None
    grad: str | None = None
    compare: bool = True
    batching: BatchSpec | None = None
    server: Server | None = None
    inputs_of: str | None = None


def or_a_native_form(may_become: Collection[str]) -> str:
    """The forms that native callers take, of those that a model may be turned into."""
    ways = [f"--form {one}" for one in ("script", "aoti") if one in may_become]
    return f", or try {' or '.join(ways)}" if ways else ""
