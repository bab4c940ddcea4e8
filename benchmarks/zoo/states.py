"""Models that remember calls, write to what they are given, or are in training mode."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from catalogue import row
from layers import pairs

if TYPE_CHECKING:
    from catalogue import Made

GROUP = "state"


class Counter(nn.Module):
    """Count calls in a buffer."""

    count: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add the number of calls so far."""
        self.count += 1
        return x + self.count


class Silent(Counter):
    """Count calls, and tell nobody."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Give the same whatever the count."""
        self.count += 1
        return x * 2


class PythonCounter(nn.Module):
    """Count calls in an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add the number of calls so far."""
        self.calls += 1
        return x + self.calls


class RunningStatistics(nn.Module):
    """Batch normalization that goes on learning, whatever the mode."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalize by the batch."""
        return nn.functional.batch_norm(
            x, self.norm.running_mean, self.norm.running_var, training=True
        )


class WritesInput(nn.Module):
    """Write to the argument."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """In place."""
        return x.mul_(1.01)


class Buffered(nn.Module):
    """Write into one output buffer, and give it."""

    out: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(16, 4)
        self.register_buffer("out", torch.zeros(2, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Give the buffer."""
        self.out.copy_(self.linear(x))
        return self.out


class Recurrent(nn.Module):
    """Keep the hidden state from call to call."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(16, 16)
        self.hidden: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """One step."""
        self.hidden = self.cell(x, self.hidden)
        return self.hidden


class Remembers(nn.Module):
    """Keep answers it has given."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[int, torch.Tensor] = {}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Positions of a length, made once."""
        length = x.shape[1]
        if length not in self.kept:
            self.kept[length] = torch.arange(length, dtype=x.dtype)
        return x + self.kept[length]


@row(GROUP)
def counter_in_a_buffer() -> Made:
    """Build it."""
    return Counter(), pairs(2, 16)


@row(GROUP)
def silent_counter() -> Made:
    """Build it."""
    return Silent(), pairs(2, 16)


@row(GROUP)
def counter_in_python() -> Made:
    """Build it."""
    return PythonCounter(), pairs(2, 16)


@row(GROUP)
def batch_norm_training() -> Made:
    """Build it."""
    return RunningStatistics(), pairs(4, 16)


@row(GROUP)
def writes_its_input() -> Made:
    """Build it."""
    return WritesInput(), pairs(2, 16)


@row(GROUP)
def one_output_buffer() -> Made:
    """Build it."""
    return Buffered(), pairs(2, 16)


@row(GROUP)
def hidden_state_kept() -> Made:
    """Build it."""
    return Recurrent(), pairs(2, 16)


@row(GROUP)
def remembers_positions() -> Made:
    """Build it."""
    return Remembers(), pairs(2, 16)
