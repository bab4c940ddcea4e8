"""Comparisons of a model with itself, drawn from what a machine has really done to some."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING
from unittest import mock

import numpy as np

import inferload as il
from inferload.stats.slices.ratios import PairFigure
from inferload.studies.records.slices import SlicedPair, Timing
from inferload.studies.slices.compare import run_slices
from inferload.studies.slices.engine import SliceEngine
from inferload.studies.slices.plan import SlicePlan, looks_at
from support.sliced_sides import OPTIONS, Told

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Made by ``benchmarks/noise.py`` and ``benchmarks/comparing.py --noise``.
FILE = Path(__file__).parents[1] / "data" / "noise.npz"
KINDS = ("mlp", "script", "minilm")
FIGURES = ("throughput", "p50", "p90", "p95", "p99", "p999")
# Pairs that followed each other are drawn together: a machine's states outlast a pair.
BLOCK = 4


def recorded(kind: str, path: Path = FILE) -> np.ndarray:
    """Log ratios of all pairs of processes of a kind, (pairs, figures); NaN where calls lacked."""
    with np.load(path) as found:
        return found[f"{kind}_log_ratios"].astype(float)


def drawn(logs: np.ndarray, pairs: int, rng: np.random.Generator) -> np.ndarray:
    """So many pairs, in runs of ``BLOCK`` that followed each other, either side as A."""
    blocks = -(-pairs // BLOCK)
    begins = rng.integers(len(logs), size=blocks)
    rows = (begins[:, None] + np.arange(BLOCK)[None, :]) % len(logs)
    signs = rng.choice([-1.0, 1.0], size=(blocks, 1))
    return (logs[rows] * signs[:, :, None]).reshape(-1, logs.shape[1])[:pairs]


def compared(logs: np.ndarray, shift: Mapping[str, float] | None = None) -> il.Comparison:
    """The comparison of pairs with these log ratios; ``shift`` is added to those of a figure."""
    pairs = tuple(_pair(one, shift or {}) for one in logs)
    done = il.Comparison(
        a="A",
        b="B",
        asked={},
        status="interrupted",
        differences=(),
        gates=(),
        unlike=(),
        sides=(),
        runs=(),
        outputs="the same",
        slices=pairs,
        timing=_timing(len(pairs), (len(pairs),)),
    )
    return run_slices(_plan(), {}, Told(), outputs=lambda: (True, ""), done=done)


def looked_at(logs: np.ndarray, **plan: object) -> il.Comparison:
    """The same, pair after pair, with looks at what there is; it may end at any of them."""
    pairs = iter([_pair(one, {}) for one in logs])

    def pair(engine: SliceEngine) -> SlicedPair:
        found = next(pairs)
        engine.found.timing = _timing(len(logs), looks_at(len(logs)))
        ready = SimpleNamespace(spec=None, environment={"cpu": "x"}, warnings=())
        engine.found.ready.update(a=ready, b=ready)
        engine.found.pairs.append(found)
        return found

    with mock.patch.object(SliceEngine, "pair", pair):
        return run_slices(_plan(**plan), {}, Told(), outputs=lambda: (True, "the same"))


def _plan(**plan: object) -> SlicePlan:
    return SlicePlan(a="A", b="B", asked={}, options={"a": OPTIONS, "b": OPTIONS}, **plan)


def _timing(pairs: int, looks: tuple[int, ...]) -> Timing:
    return Timing(slice_s=0.1, slices=20, pairs=pairs, looks=looks)


def _pair(logs: Sequence[float], shift: Mapping[str, float]) -> SlicedPair:
    figures = tuple(
        PairFigure(figure=name, a=1.0, b=1.0, log_ratio=float(one) + shift.get(name, 0.0), groups=9)
        for name, one in zip(FIGURES, logs, strict=True)
        if not math.isnan(one)
    )
    return SlicedPair(
        order="ab", slice_s=0.1, a_per_s=(1.0,), b_per_s=(1.0,), figures=figures, calls=(9, 9)
    )


def claims(found: il.Comparison) -> set[str]:
    """The figures that are said to differ."""
    return {one.figure for one in found.differences if one.claimed}


def detectable(found: il.Comparison, figure: str) -> float:
    """The smallest change of a figure that is stated to be found, as a logarithm with its sign."""
    one = next(one for one in found.differences if one.figure == figure)
    slower = -one.detectable_fraction if figure == "throughput" else one.detectable_fraction
    return math.log1p(slower)
