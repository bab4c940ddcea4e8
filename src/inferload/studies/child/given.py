"""What a started process is given to have a model by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from inferload.plan.model import ModelSource

#: Calls its first argument with a model and its inputs, and returns why it did not, or nothing.
Within = Callable[[Callable[[object, object], None], Path], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """Words to find a model by, the model itself or its inputs as bytes, or what runs around it.

    ``packages``: a folder where AOTInductor packages lie that other processes have made.
    """

    source: ModelSource | None = None
    content: bytes | None = None
    within: Within | None = None
    packages: Path | None = None
