"""The row of the zoo that ``ZOO_ROW`` names, as a file that ``inferload run`` takes.

ZOO_ROW=bert inferload run benchmarks/zoo/chosen.py --form export --callers 2 --verify
"""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING, Any

import torch

from catalogue import rows

if TYPE_CHECKING:
    from catalogue import Made

CHOSEN = rows()[os.environ["ZOO_ROW"]]


@cache
def _made() -> Made:
    torch.manual_seed(0)
    return CHOSEN.make()


def model() -> Any:
    """The model of the row."""
    return _made()[0]


def inputs() -> list[Any]:
    """The inputs of the row."""
    return _made()[1]
