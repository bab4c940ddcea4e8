"""The grad mode in which models change their form."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def recording_nothing() -> Iterator[None]:
    """Out of inference mode: what a model makes there in its first call no compiler takes."""
    with ExitStack() as stack:
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(mode=False))
            stack.enter_context(torch.no_grad())  # leaving inference mode turns gradients on
        yield
