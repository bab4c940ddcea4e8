"""Comparing figures of two sides: by their own intervals, or by pairs that alternated."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from inferload.errors import PlanError
from inferload.stats.pairs import LEAST_CLAIM_LOG, paired_ratio
from inferload.studies.records.comparison import CANNOT_TELL, CROSSED, KEPT, Difference, Gate
from inferload.units import fraction

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from inferload.records.distribution import Estimate
    from inferload.records.figures import Summary

#: Of the response time; beside them throughput is compared.
QUANTILES = ("p50", "p90", "p95", "p99", "p999", "p9999")
# The 80 % point of the normal distribution: in four of five cases a difference is detected.
POWER_Z = 0.8416
_GATE = re.compile(r"\s*(throughput|p\d\d(?:\.?\d\d?)?)\s*([+-])\s*(\S+)\s*")
_NAMES = {"p99.9": "p999", "p99.99": "p9999"}


def of_estimates(figure: str, a: Estimate | None, b: Estimate | None) -> Difference | None:
    """Two runs' figures; ``None`` where one has none.

    The logarithms of both have normal errors whose 95 % half widths are those of the intervals.
    What the machine did between the two runs is in neither interval.
    """
    if a is None or b is None or a.value <= 0 or b.value <= 0:
        return None
    ratio = b.value / a.value
    halves = [_half(one) for one in (a, b)]
    if halves[0] is None or halves[1] is None:
        return Difference(
            figure=figure, a=a.value, b=b.value, ratio=ratio, low=None, high=None,
            detectable_fraction=None,
        )  # fmt: skip
    half = math.hypot(halves[0], halves[1])
    return Difference(
        figure=figure,
        a=a.value,
        b=b.value,
        ratio=ratio,
        low=ratio * math.exp(-half),
        high=ratio * math.exp(half),
        detectable_fraction=detectable(figure, max(half, LEAST_CLAIM_LOG) + half * POWER_Z / 1.96),
    )


def detectable(figure: str, logarithm: float) -> float:
    """The smallest change for the worse that is found; of throughput it is a loss."""
    return -math.expm1(-logarithm) if figure == "throughput" else math.expm1(logarithm)


def _half(estimate: Estimate) -> float | None:
    """Half of the interval of the logarithm."""
    if estimate.low is None or estimate.high is None or not 0 < estimate.low <= estimate.high:
        return None
    return math.log(estimate.high / estimate.low) / 2


def of_summaries(a: Summary, b: Summary) -> tuple[Difference, ...]:
    """Throughput and the quantiles of the response time that both runs quote."""
    figures: list[tuple[str, Estimate | None, Estimate | None]] = [
        ("throughput", a.throughput_items_per_s, b.throughput_items_per_s)
    ]
    figures += [(name, _quoted(a, name), _quoted(b, name)) for name in QUANTILES]
    found = [of_estimates(name, one, other) for name, one, other in figures]
    return tuple(one for one in found if one is not None)


def _quoted(summary: Summary, name: str) -> Estimate | None:
    found: Estimate | None = getattr(summary.response_ms, name, None)
    return found


def of_pairs(a: Sequence[Summary], b: Sequence[Summary]) -> tuple[Difference, ...]:
    """The same figures, of ten or more runs of each side that alternated."""
    rates = [[one.throughput_items_per_s.value for one in side] for side in (a, b)]
    columns = {"throughput": rates} if min(map(min, rates)) > 0 else {}
    for name in QUANTILES:
        quoted = [[_quoted(one, name) for one in side] for side in (a, b)]
        known = [[one.value for one in side if one is not None] for side in quoted]
        if list(map(len, known)) == list(map(len, quoted)):
            columns[name] = known
    found = []
    for figure, (first, second) in columns.items():
        ratio = paired_ratio(first, second)
        found.append(
            Difference(
                figure=figure,
                a=math.exp(sum(map(math.log, first)) / len(first)),
                b=math.exp(sum(map(math.log, second)) / len(second)),
                ratio=ratio.value,
                low=ratio.low,
                high=ratio.high,
                detectable_fraction=detectable(figure, ratio.detectable_log),
                pairs=ratio.pairs,
                p_signed_rank=ratio.p_wilcoxon,
            )
        )
    return tuple(found)


def gate_from_text(text: str) -> Gate:
    """Read a gate.

    >>> gate_from_text("p99 +5%")
    Gate(figure='p99', fraction=0.05)

    Raises:
        PlanError: the text is none, or allows what is better.
    """
    found = _GATE.fullmatch(text)
    name = "" if found is None else _NAMES.get(found[1], found[1])
    if found is None or name not in {"throughput", *QUANTILES}:
        raise PlanError(
            f'gate {text!r} is not understood: write for example "p99 +5%" or "throughput -3%"'
        )
    share = 0.0 if re.fullmatch(r"0+(\.0+)?%?", found[3]) else fraction(found[3])
    if share >= 1 and not found[3].endswith("%"):
        raise PlanError(
            f"gate {text!r} allows {100 * share:g}%: write for example {found[1]} {found[2]}5%"
        )
    if (name == "throughput") != (found[2] == "-"):
        raise PlanError(
            f"gate {text!r} is about getting better: give how much worse {found[1]} may "
            f"become, such as {found[1]} {'-' if name == 'throughput' else '+'}{found[3]}"
        )
    if name == "throughput" and share >= 1:
        raise PlanError(f"gate {text!r} allows any throughput: give less than 100%")
    return Gate(figure=name, fraction=-share if name == "throughput" else share)


def judged_gate(gate: Gate, differences: Iterable[Difference]) -> str:
    """``CROSSED`` if the whole interval of the ratio lies beyond, ``KEPT`` if none of it does.

    Else, and where the figure has no interval, it is ``CANNOT_TELL``.
    """
    edge = 1 + gate.fraction
    for one in differences:
        if one.figure != gate.figure or one.low is None or one.high is None:
            continue
        if gate.figure != "throughput":
            return CROSSED if one.low > edge else KEPT if one.high <= edge else CANNOT_TELL
        return CROSSED if one.high < edge else KEPT if one.low >= edge else CANNOT_TELL
    return CANNOT_TELL
