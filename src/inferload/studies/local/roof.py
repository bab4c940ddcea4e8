"""What this machine, or a device, reaches: a matrix product and a copy, measured once and kept."""

from __future__ import annotations

import hashlib
import json
import time
from contextlib import suppress
from importlib.metadata import version
from typing import TYPE_CHECKING

import torch

from inferload.files import replacing
from inferload.machine.caches import cache_folders, may_write
from inferload.machine.hardware import cpu_model, usable_cores

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# Of both the best of many, for so long.
_FOR_S, _FEWEST = 0.5, 5
# Large beside caches, small beside memory; of a matrix product the side.
_COPIED_BYTES = 256 * 2**20
_SIDE_CPU, _SIDE_DEVICE = 1536, 8192


def roof(device: torch.device, dtype: torch.dtype) -> tuple[float, float]:
    """Floating point operations, and bytes read and written, that are reached in a second.

    Of the processor on all cores that may be used.
    """
    name = (
        cpu_model() if device.type == "cpu" else torch.get_device_module(device).get_device_name()
    )
    words = [str(name), f"{usable_cores():g}", version("torch"), device.type, str(dtype)]
    file = f"roof-{hashlib.sha256(' '.join(words).encode()).hexdigest()[:16]}.json"
    for folder in cache_folders():
        with suppress(OSError, ValueError, TypeError):
            flops, moved = json.loads((folder / file).read_text(encoding="ascii"))
            return float(flops), float(moved)
    found = _measured(device, dtype)
    for folder in cache_folders():
        if may_write(folder):
            with suppress(OSError):
                _keep(folder / file, found)
                break
    return found


def _keep(path: Path, found: tuple[float, float]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(found), encoding="ascii")


def _measured(device: torch.device, dtype: torch.dtype) -> tuple[float, float]:
    threads = torch.get_num_threads()
    torch.set_num_threads(max(int(usable_cores()), 1))
    try:
        side = _SIDE_CPU if device.type == "cpu" else _SIDE_DEVICE
        a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
        out = torch.empty(side, side, device=device, dtype=dtype)
        flops = 2.0 * side**3 / _fastest_s(lambda: torch.mm(a, b, out=out), device)
        source = torch.ones(_COPIED_BYTES // 4, device=device)
        target = torch.empty_like(source)
        moved = 2.0 * _COPIED_BYTES / _fastest_s(lambda: target.copy_(source), device)
    finally:
        torch.set_num_threads(threads)
    return flops, moved


def _fastest_s(what: Callable[[], object], device: torch.device) -> float:
    def settled() -> None:
        if device.type != "cpu":
            torch.accelerator.synchronize()

    what()
    settled()
    best, began, times = float("inf"), time.perf_counter(), 0
    while times < _FEWEST or time.perf_counter() - began < _FOR_S:
        at = time.perf_counter()
        what()
        settled()
        best = min(best, time.perf_counter() - at)
        times += 1
    return best
