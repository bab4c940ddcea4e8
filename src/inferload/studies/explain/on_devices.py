"""What bounds a run on a device: rules that come before those of every run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferload.studies.explain.facts import Bound, twice_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from inferload.studies.explain.facts import Facts

# A change by less than this is no bound, and of graphs less than that.
_LEAST, _LEAST_OF_GRAPHS = 0.1, 0.25
_BUSY = 0.95
_SYNC_SHARE = 0.1
_SYNCS = ("aten::item", "aten::_local_scalar_dense", "aten::nonzero", "cudaStreamSynchronize")


def _device_busy(facts: Facts) -> Bound | None:
    if facts.busy is None or facts.busy < _BUSY:
        return None
    return Bound(
        "device",
        f"The device bounds it: it is busy for {facts.busy:.0%} of the time, and calls queue for "
        f"it{twice_text(facts)}.",
    )


def _transfers(facts: Facts) -> Bound | None:
    gain = facts.gain("transfers-off")
    if gain < _LEAST:
        return None
    return Bound(
        "transfers",
        f"Copies between host and device bound it: without them it makes {gain:+.0%}.",
    )


def _syncs(facts: Facts) -> Bound | None:
    traced = facts.traced
    if traced is None or facts.busy is None or facts.busy > _BUSY:
        return None
    share = sum(one.share for one in traced.operators if one.name in _SYNCS)
    if share < _SYNC_SHARE:
        return None
    return Bound(
        "sync",
        f"Waiting for the device within calls bounds it: {share:.0%} of a call is in operators "
        f"that bring a value back to the host (.item(), nonzero), with the device busy for "
        f"{facts.busy:.0%} of the time.",
    )


def _graphs(facts: Facts) -> Bound | None:
    gain = facts.gain("form-cudagraph")
    if gain < _LEAST_OF_GRAPHS:
        return None
    return Bound(
        "launches",
        f"Launching kernels from the CPU bounds it: replayed from CUDA graphs it makes {gain:+.0%}"
        f"{_busy_text(facts)}.",
    )


def _busy_text(facts: Facts) -> str:
    return "" if facts.busy is None else f", with the device busy for {facts.busy:.0%} of the time"


#: The first that holds is the answer.
DEVICE_RULES: tuple[Callable[[Facts], Bound | None], ...] = (
    _transfers,
    _graphs,
    _device_busy,
    _syncs,
)
