"""A model that sleeps, and a sweep of it: what forecasts of the tests are made from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import inferload as il

if TYPE_CHECKING:
    from pathlib import Path

SLEEPS = """
import time
import torch


class Sleeps(torch.nn.Module):
    def forward(self, x):
        time.sleep(float(x))
        return x


model = Sleeps()


def inputs():
    return [torch.tensor(0.004), torch.tensor(0.008)]
"""


def swept_in(folder: Path) -> Path:
    """The folder, with the model as ``sleeps.py`` and its sweep as ``s.json``."""
    (folder / "sleeps.py").write_text(SLEEPS)
    il.sweep(
        f"{folder}/sleeps.py",
        callers=(1, 2),
        duration_s=1.5,
        blocks=3,
        threads_per_call=1,
        save=folder / "s.json",
    )
    return folder
