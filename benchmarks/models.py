"""Models that benchmarks name by a spec string."""

from __future__ import annotations

import torch

LARGE_BYTES = 500_000_000


def small() -> torch.nn.Module:
    """Many small operators: what Python costs shows."""
    layers = [torch.nn.Sequential(torch.nn.Linear(32, 32), torch.nn.ReLU()) for _ in range(20)]
    return torch.nn.Sequential(*layers).eval()


class Large(torch.nn.Module):
    """500 MB of weights, of which each call reads the next stretch."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(LARGE_BYTES // 4), requires_grad=False)
        self.weight.data.normal_()
        self.place = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Take ``(1, 32)``, give a number."""
        self.place = (self.place + 32 * 10_000) % (len(self.weight) - 32 * 10_000)
        stretch = self.weight[self.place : self.place + 32 * 10_000].view(-1, 32)
        return (stretch * x).sum()


def large() -> torch.nn.Module:
    """The large model."""
    return Large()


def inputs() -> list[torch.Tensor]:
    """One input for either."""
    return [torch.ones(1, 32)]
