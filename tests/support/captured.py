"""Captured inputs, read as a run reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferload.targets.inputs.given import inputs_from_text

if TYPE_CHECKING:
    from pathlib import Path

    import inferload as il


def read(path: Path) -> tuple[il.CallInput, ...]:
    return inputs_from_text([str(path)], 0)
