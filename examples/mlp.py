"""A small classifier that needs nothing but torch.

inferload run examples/mlp.py --form script --callers 2
"""

from __future__ import annotations

import torch


def model() -> torch.nn.Module:
    """Four layers, 64 features in, 10 classes out."""
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(64, 256),
        torch.nn.ReLU(),
        torch.nn.Linear(256, 256),
        torch.nn.ReLU(),
        torch.nn.Linear(256, 10),
        torch.nn.Softmax(dim=-1),
    ).eval()


def inputs() -> list[torch.Tensor]:
    """Eight single samples of shape ``(1, 64)``."""
    return list(torch.randn(8, 1, 64, generator=torch.Generator().manual_seed(1)))
