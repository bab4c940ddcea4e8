"""A model, or several, in words that any process understands."""

from __future__ import annotations

from dataclasses import dataclass

#: In what way calls may record gradients.
GRAD_MODES = ("inference", "no", "on")
#: What a model can be turned into.
FORMS = ("eager", "compile", "script", "export", "aoti", "cudagraph")


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
    outputs of another form are held against the eager model's.
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
