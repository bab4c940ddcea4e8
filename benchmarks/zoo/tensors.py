"""Kinds of tensors: complex, sparse, nested, of other types, sizes and strides."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from catalogue import row
from layers import pairs

if TYPE_CHECKING:
    from catalogue import Made

GROUP = "tensors"


class Fourier(nn.Module):
    """Give complex numbers."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Filter nothing."""
        found: torch.Tensor = torch.fft.rfft(x)
        return found


class ComplexWeights(nn.Module):
    """Complex weights and outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(16, 16, dtype=torch.complex64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Take complex numbers."""
        return x @ self.weight


class SparseWeights(nn.Module):
    """A graph's adjacency as a sparse buffer."""

    weight: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", (torch.rand(16, 16) > 0.8).float().to_sparse())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Take ``(n, 16)``."""
        found: torch.Tensor = torch.sparse.mm(self.weight, x.t())
        return found


class SparseArgument(nn.Module):
    """A sparse tensor among the inputs."""

    def forward(self, graph: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Sum over neighbours."""
        found: torch.Tensor = torch.sparse.mm(graph, x)
        return found


class SparseOut(nn.Module):
    """Give a sparse tensor."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Drop what is negative."""
        return torch.relu(x).to_sparse()


class JaggedOut(nn.Module):
    """Give a nested tensor."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Two sequences."""
        both: torch.Tensor = torch.nested.nested_tensor([x, x[:1]], layout=torch.jagged)
        return both


class JaggedIn(nn.Module):
    """Take a nested tensor."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scale."""
        return x * 2


class Shifted(nn.Module):
    """Plain work on whatever is given."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scale and shift."""
        return torch.tanh(x * 2 + 1)


@row(GROUP)
def complex_out() -> Made:
    """Build it."""
    return Fourier(), pairs(2, 16)


@row(GROUP)
def complex_weights() -> Made:
    """Build it."""
    return ComplexWeights(), [x.to(torch.complex64) for x in pairs(2, 16)]


@row(GROUP)
def sparse_weights() -> Made:
    """Build it."""
    return SparseWeights(), pairs(4, 16)


@row(GROUP)
def sparse_in() -> Made:
    """Build it."""
    graph = (torch.rand(16, 16) > 0.8).float().to_sparse()
    return SparseArgument(), [(graph, x) for x in pairs(16, 4)]


@row(GROUP)
def sparse_csr_in() -> Made:
    """Build it."""
    graph = (torch.rand(16, 16) > 0.8).float().to_sparse_csr()
    return SparseArgument(), [(graph, x) for x in pairs(16, 4)]


@row(GROUP)
def sparse_out() -> Made:
    """Build it."""
    return SparseOut(), pairs(4, 16)


@row(GROUP)
def jagged_out() -> Made:
    """Build it."""
    return JaggedOut(), pairs(3, 4)


@row(GROUP)
def jagged_in() -> Made:
    """Build it."""
    return JaggedIn(), [
        torch.nested.nested_tensor([torch.randn(3, 4), torch.randn(2, 4)], layout=torch.jagged)
        for _ in range(2)
    ]


@row(GROUP)
def non_contiguous() -> Made:
    """A transposed view, and an expanded one."""
    return Shifted(), [torch.randn(16, 2).t(), torch.randn(1, 16).expand(2, 16)]


@row(GROUP)
def zero_size_batch() -> Made:
    """No sample at all."""
    return Shifted(), [torch.randn(0, 16)]


@row(GROUP)
def integers_in() -> Made:
    """Whole numbers of small types, and truth values."""
    return Shifted(), [torch.randint(0, 255, (2, 16)).to(torch.uint8) for _ in range(2)]


@row(GROUP)
def one_and_more() -> Made:
    """A batch of one, then of four."""
    return nn.Linear(16, 4), [torch.randn(1, 16), torch.randn(4, 16)]


@row(GROUP)
def dtypes_differ() -> Made:
    """float32 in one input, float64 in the other."""
    return Shifted(), [torch.randn(2, 16), torch.randn(2, 16).double()]
