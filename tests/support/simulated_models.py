"""Models whose work is on the simulated device; as a file they are a MODEL of the command line."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))  # when it is loaded as path/file.py:name
from support import simulated_device

SIM = simulated_device.load()
WORK_NS = 5_000_000


class Busy(torch.nn.Module):
    """Keeps its stream for a while; twice its input, so that outputs can be verified."""

    def __init__(self, ns: int = WORK_NS) -> None:
        super().__init__()
        self.factor = torch.nn.Parameter(torch.full((1,), 2.0))
        self.ns = ns

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.ops.sim.work(x * self.factor, self.ns)


class WritesIntoItsInput(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.add_(1) * 1


class FailsOnNegative(torch.nn.Module):
    """The device fails, some time later, on an input below zero."""

    def forward(self, x: torch.Tensor, below: bool) -> torch.Tensor:
        if below:
            return torch.ops.sim.fail(torch.ops.sim.work(x, 2_000_000))
        return torch.ops.sim.work(x, 2_000_000)


class RaisesOnNegative(torch.nn.Module):
    """Raises on an input below zero, with work left on its stream."""

    def forward(self, x: torch.Tensor, below: bool) -> torch.Tensor:
        if below:
            left = torch.ops.sim.work(x, 60_000_000)
            if left.numel() > 0:  # TorchScript leaves out what nobody looks at
                raise ValueError("an input below zero")
        return torch.ops.sim.work(x, 1_000_000)


class Hog(torch.nn.Module):
    """Takes as many bytes as it is told."""

    def forward(self, x: torch.Tensor, size: int) -> torch.Tensor:
        return torch.zeros(size, dtype=torch.uint8, device=x.device)[:4] + x[:4]


class Aside(torch.nn.Module):
    """Works on a stream of its own, which nobody is told to wait for."""

    def __init__(self, ns: int) -> None:
        super().__init__()
        self.ns = ns

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.sim.stream(torch.Stream(x.device)):
            return torch.ops.sim.work(x, self.ns)


class OnTwo(torch.nn.Module):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.ops.sim.work(x, 2_000_000), torch.ops.sim.work(y, 12_000_000)


class MovesItsInput(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.factor = torch.nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.to(self.factor.device) * self.factor


def model() -> torch.nn.Module:
    return Busy()


def inputs() -> list[torch.Tensor]:
    return [torch.full((2, 4), float(number)) for number in range(3)]
