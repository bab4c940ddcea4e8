"""Weights that all processes of a model share, and copies of them near their cores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.multiprocessing  # teaches the pickler to share tensors
from torch import Tensor

if TYPE_CHECKING:
    from inferload.targets.base import Target


def weights_of(target: Target) -> dict[str, Tensor]:
    """The parameters and buffers of a target on the CPU, moved to shared memory."""
    return {
        name: tensor.detach().share_memory_()
        for module in target.modules()
        for name, tensor in _named(module).items()
        if tensor.device.type == "cpu" and _is_plain(tensor)
    }


def _is_plain(tensor: Tensor) -> bool:
    """Whether its memory can be shared: not that of a quantised, a sparse or a custom tensor."""
    # by its type: in inference mode many a custom tensor cannot be detached
    own = type(tensor) is Tensor or issubclass(type(tensor), torch.nn.Parameter)
    return own and tensor.layout is torch.strided and not tensor.is_quantized


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
