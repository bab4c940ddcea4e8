"""An encoder of 12 layers for sequences of four lengths: a model whose calls differ by input."""

from __future__ import annotations

import torch


def model() -> torch.nn.Module:
    """512 features, 8 heads."""
    torch.manual_seed(0)
    layer = torch.nn.TransformerEncoderLayer(512, 8, 2048, batch_first=True)
    return torch.nn.TransformerEncoder(layer, 12, enable_nested_tensor=False).eval()


def inputs() -> list[torch.Tensor]:
    """Of shape ``(4, length, 512)``, on the CPU."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(4, length, 512, generator=generator) for length in (16, 64, 128, 256)]
