"""Habits of models: chance, hooks, control flow, tied weights, gradients, functions."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from catalogue import row
from layers import pairs

if TYPE_CHECKING:
    from catalogue import Made

GROUP = "habits"


class Sampler(nn.Module):
    """A variational autoencoder: draws from what its encoder says."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(16, 8), nn.Linear(4, 16)

    def forward(self, x: torch.Tensor) -> Any:
        """Give the sample and what it was drawn from."""
        mean, log = self.encoder(x).chunk(2, dim=-1)
        return self.decoder(mean + torch.randn_like(mean) * torch.exp(log / 2)), mean


class Dropout(nn.Module):
    """Dropout that is on in eval mode (Monte Carlo dropout)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Drop."""
        return nn.functional.dropout(x, 0.5, training=True)


class Branches(nn.Module):
    """What is done depends on the values."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Two ways."""
        if x.sum() > 0:
            return x * 2
        return x - 1


class Loop(nn.Module):
    """As many turns as a value says."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Halve until it is small."""
        while x.abs().max() > 1:
            x = x / 2
        return x


class Selected(nn.Module):
    """An output whose size depends on the values."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """What is positive."""
        return x[x > 0]


class Tied(nn.Module):
    """One weight for embedding and head."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(50, 16), nn.Linear(16, 50, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Logits."""
        logits: torch.Tensor = self.head(self.embedding(ids))
        return logits


class Forces(nn.Module):
    """Energies and their gradients, as models of molecules give them."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 1))

    def forward(self, x: torch.Tensor) -> Any:
        """Energy and forces."""
        with torch.enable_grad():
            x = x.clone().requires_grad_()
            energy = self.net(x).sum()
            (slope,) = torch.autograd.grad(energy, x)
        return energy.detach(), -slope


class Scaled(nn.Module):
    """Call other modules through plain Python."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleDict({"a": nn.Linear(16, 16), "b": nn.Linear(16, 16)})
        self.scales = {"a": math.sqrt(2), "b": 0.5}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """In order of names."""
        for name in sorted(self.parts):
            x = self.parts[name](x) * self.scales[name]
        return x


class ThroughNumpy(nn.Module):
    """Work partly done by numpy."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Sort by numpy."""
        import numpy as np

        return torch.from_numpy(np.sort(x.numpy()))


class Cube(torch.autograd.Function):
    """An autograd function of the user's own."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:  # noqa: ARG004 - torch's signature
        """Cube."""
        return x**3

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> torch.Tensor:  # noqa: ARG004
        """Never called here."""
        return grads[0]


class OwnFunction(nn.Module):
    """Call it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Cube."""
        cubed: torch.Tensor = Cube.apply(x)
        return cubed


class OwnCall(nn.Module):
    """A module that overrides ``__call__``."""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Not forward."""
        return x * 3


class Stacked(nn.Module):
    """A function of ensembles: vmap over copies of weights."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 16, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """All copies at once."""
        stacked: torch.Tensor = torch.vmap(lambda weight: x @ weight)(self.weight)
        return stacked


def double(x: torch.Tensor) -> torch.Tensor:
    """Work as a plain function."""
    return torch.tanh(x) * 2


class Generates(nn.Module):
    """A loop over a model's own outputs, as ``generate`` is."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Tied()

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Four more ids."""
        for _ in range(4):
            following = self.net(ids)[:, -1:].argmax(-1)
            ids = torch.cat([ids, following], 1)
        return ids


@row(GROUP)
def sampler() -> Made:
    """Two answers to one question."""
    return Sampler(), pairs(2, 16)


@row(GROUP)
def dropout_in_eval() -> Made:
    """Two answers to one question."""
    return Dropout(), pairs(2, 16)


@row(GROUP)
def branches() -> Made:
    """One input for each way."""
    return Branches(), [torch.ones(2, 16), -torch.ones(2, 16)]


@row(GROUP)
def loop() -> Made:
    """Other numbers of turns."""
    return Loop(), [torch.ones(2, 16) * 5, torch.ones(2, 16) * 50]


@row(GROUP)
def selected() -> Made:
    """Other sizes of outputs."""
    return Selected(), pairs(2, 16)


@row(GROUP)
def tied_weights() -> Made:
    """One weight twice."""
    return Tied(), [torch.randint(0, 50, (2, 6)) for _ in range(2)]


@row(GROUP)
def generates() -> Made:
    """Longer by four."""
    return Generates(), [torch.randint(0, 50, (2, 6)) for _ in range(2)]


@row(GROUP, flags=("--grad", "on"))
def forces() -> Made:
    """It needs gradients in its forward."""
    return Forces(), pairs(5, 3)


@row(GROUP)
def module_dict() -> Made:
    """Plain Python around modules."""
    return Scaled(), pairs(2, 16)


@row(GROUP)
def forward_hook() -> Made:
    """A hook that changes the output."""
    module = nn.Linear(16, 4)
    module.register_forward_hook(lambda _module, _args, output: output * 2)
    return module, pairs(2, 16)


@row(GROUP)
def forward_pre_hook() -> Made:
    """A hook that changes the input."""
    module = nn.Sequential(nn.Linear(16, 4))
    module[0].register_forward_pre_hook(lambda _module, args: (args[0] + 1,))
    return module, pairs(2, 16)


@row(GROUP)
def through_numpy() -> Made:
    """Partly not torch's."""
    return ThroughNumpy(), pairs(2, 16)


@row(GROUP)
def autograd_function() -> Made:
    """An operator in Python."""
    return OwnFunction(), pairs(2, 16)


@row(GROUP)
def own_call() -> Made:
    """There is no forward."""
    return OwnCall(), pairs(2, 16)


@row(GROUP)
def vmapped() -> Made:
    """An ensemble."""
    return Stacked(), pairs(2, 16)


@row(GROUP)
def function() -> Made:
    """A plain function."""
    return double, pairs(2, 16)


@row(GROUP)
def partial_of_a_model() -> Made:
    """A module with an argument given beforehand."""
    return partial(nn.MultiheadAttention(16, 2), need_weights=False), [
        (x, x, x) for x in pairs(6, 2, 16)
    ]


@row(GROUP)
def bound_method() -> Made:
    """A method other than forward."""
    module = nn.TransformerEncoderLayer(16, 2, 32).eval()
    return module.forward, pairs(6, 2, 16)


@row(GROUP)
def lambda_of_a_model() -> Made:
    """A lambda around a module."""
    module = nn.Linear(16, 4).eval()
    return lambda x: module(x).softmax(-1), pairs(2, 16)


@row(GROUP)
def data_parallel() -> Made:
    """As checkpoints of training are."""
    return nn.DataParallel(nn.Linear(16, 4)), pairs(2, 16)
