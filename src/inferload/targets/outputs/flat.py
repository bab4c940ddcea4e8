"""A module that returns the tensors of another one's output, for what takes nothing else."""

from __future__ import annotations

import inspect
from typing import Any

import torch

from inferload.targets.outputs.comparing import tensors_in

#: Under which name the wrapper has the module: no name that a model's own parts have.
WRAPPED = "_flat_mod"


def returning_tensors(module: torch.nn.Module) -> torch.nn.Module:
    """The module with its own signature, returning a tuple of all tensors of its output.

    For ``torch.jit.trace`` and ``torch.export``, which take no outputs of classes of others, such
    as the caches of language models.
    """

    class ReturningTensors(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            setattr(self, WRAPPED, module)

        def forward(self, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, ...]:
            found = tuple(tensors_in(getattr(self, WRAPPED)(*args, **kwargs)))
            if not found:  # a graph of it would compute nothing
                raise TypeError("it returns no tensors")
            return found

    signature = inspect.signature(module.forward)
    itself = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    ReturningTensors.forward.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[itself, *signature.parameters.values()],
        return_annotation=inspect.Signature.empty,
    )
    return ReturningTensors().train(module.training)
