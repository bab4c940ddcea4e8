"""Classes of inputs that torch has to take apart before a model is exported with them."""

from __future__ import annotations

import importlib
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from torch.utils import _pytree as pytree

from inferload.errors import PlanError
from inferload.targets.outputs.comparing import tensors_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from inferload.targets.inputs.call_input import CallInput

# Who registers the classes of a module, as they do not do by themselves.
_REGISTERED_BY = {
    "transformers.cache_utils": (
        "transformers.integrations.executorch",
        "register_dynamic_cache_export_support",
    ),
}


def learn_types(inputs: Sequence[CallInput]) -> None:
    """Register classes of inputs by the functions that their own packages have for it."""
    for module in {type(leaf).__module__ for _, _, leaf in _unknown(inputs)}:
        if module in _REGISTERED_BY:
            where, name = _REGISTERED_BY[module]
            with suppress(ImportError, AttributeError):
                getattr(importlib.import_module(where), name)()


def check_types_known(inputs: Sequence[CallInput], form: str) -> None:
    """Refuse objects that hold tensors and are of classes that torch does not take apart.

    Raises:
        PlanError: naming the argument and its class.
    """
    for number, argument, leaf in _unknown(inputs):
        kind = f"{type(leaf).__module__}.{type(leaf).__qualname__}"
        register = (
            ""
            if form == "script"
            else "register the class with torch.utils._pytree.register_pytree_node in the model's "
            "file, "
        )
        raise PlanError(
            f"input {number}, argument {argument!r} is a {kind}, which the form {form!r} cannot "
            f"take apart into tensors: {register}leave the argument out, or --form compile"
        )


def with_inputs(forms: tuple[str, ...], inputs: Sequence[CallInput]) -> tuple[str, ...]:
    """Those forms that can be called with such inputs, as far as their classes say."""
    kinds = {type(leaf).__module__ for _, _, leaf in _unknown(inputs)}
    if kinds <= set(_REGISTERED_BY):
        return forms
    return tuple(one for one in forms if one not in {"script", "export", "aoti"})


def _unknown(inputs: Sequence[CallInput]) -> Iterator[tuple[int, str, Any]]:
    """What holds tensors and is no container that torch knows: input, argument, object."""
    for number, one in enumerate(inputs):
        arguments = {str(place): value for place, value in enumerate(one.args)} | dict(one.kwargs)
        for name, value in arguments.items():
            for leaf in pytree.tree_leaves(value):
                inner = [] if not hasattr(leaf, "__dict__") else tensors_in(leaf)
                if inner and inner[0] is not leaf:
                    yield number, name, leaf
