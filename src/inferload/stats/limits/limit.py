"""What a service promises: a figure and the most it may be."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from inferload.errors import PlanError
from inferload.records.quantiles import QUOTED_QUANTILES
from inferload.units import duration_s, fraction, milliseconds_text, rate_text

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST = 1e12
_WORDS = re.compile(r"\s*([a-z]+[\d.]*)\s*(<=|<|>=|>)\s*(\S.*?)\s*")
_NAMES = {"p99.9": "p999", "p99.99": "p9999"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A bound on one figure of a run.

    ``figure`` is a quantile of the response time (``"p99"``; ``bound`` in milliseconds),
    ``"errors"`` (the fraction of calls that failed or never finished) or ``"throughput"`` (calls
    that returned per second; ``bound`` is the least).
    """

    figure: str
    bound: float

    def __post_init__(self) -> None:
        if self.figure not in {*QUOTED_QUANTILES, "errors", "throughput"}:
            raise PlanError(
                f"figure {self.figure!r} cannot be limited: choose {', '.join(QUOTED_QUANTILES)}, "
                "errors or throughput"
            )
        least = 0.0 if self.figure == "errors" else 1e-9
        if not least <= self.bound <= MOST:
            raise PlanError(
                f"the limit of {self.name} is {self.bound!r}: it must be {least:g} or more, and "
                f"at most {MOST:g}"
            )

    @classmethod
    def from_text(cls, text: str) -> Limit:
        """Read ``"p99<=20ms"``, ``"errors<=1%"`` or ``"throughput>=200"``.

        >>> Limit.from_text("p99.9 <= 20ms")
        Limit(figure='p999', bound=20.0)

        Raises:
            PlanError: the text is no such limit.
        """
        found = _WORDS.fullmatch(text)
        name = "" if found is None else _NAMES.get(found[1], found[1])
        if found is None or name not in {*QUOTED_QUANTILES, "errors", "throughput"}:
            raise PlanError(
                f"limit {text!r} is not understood: write for example p99<=20ms, errors<=1% or "
                "throughput>=200 (quantiles: p50 p90 p95 p99 p99.9 p99.99)"
            )
        if (name == "throughput") != found[2].startswith(">"):
            least = "at least (>=)" if name == "throughput" else "at most (<=)"
            raise PlanError(f"limit {text!r} points the wrong way: {found[1]} is to be {least}")
        if name == "errors":
            bound = 0.0 if found[3] in {"0", "0%"} else fraction(found[3])
            if bound >= 1:
                raise PlanError(f"limit {text!r} holds of any run: an error fraction is below 100%")
        elif name == "throughput":
            bound = _rate(text, found[3])
        else:
            if re.fullmatch(r"[\d.]+", found[3]):
                raise PlanError(f"limit {text!r} has no unit: write for example {found[1]}<=20ms")
            try:
                bound = duration_s(found[3]) * 1e3
            except PlanError as error:
                raise PlanError(f"limit {text!r} is not understood: {error}") from error
        return cls(figure=name, bound=bound)

    @property
    def quantile(self) -> float | None:
        """The quantile that is bounded; ``None`` of another figure."""
        return QUOTED_QUANTILES.get(self.figure)

    @property
    def name(self) -> str:
        """The figure as it is written."""
        return {value: key for key, value in _NAMES.items()}.get(self.figure, self.figure)

    def __str__(self) -> str:
        if self.figure == "throughput":
            return f"throughput >= {rate_text(self.bound)}/s"
        return f"{self.name} <= {self.text_of(self.bound)}"

    def text_of(self, value: float) -> str:
        """A value of the figure in words."""
        if self.figure == "errors":
            return f"{100 * value:.3g}%"
        return f"{rate_text(value)}/s" if self.figure == "throughput" else milliseconds_text(value)


def limits_from_texts(texts: Iterable[str]) -> tuple[Limit, ...]:
    """Read limits, each alone or several with commas between them.

    Raises:
        PlanError: one is not understood, or two are of the same figure.
    """
    found = tuple(Limit.from_text(one) for text in texts for one in text.split(","))
    names = [one.name for one in found]
    for name in names:
        if names.count(name) > 1:
            raise PlanError(f"there are two limits of {name}: give one")
    return found


def _rate(text: str, number: str) -> float:
    try:
        value = float(number.removesuffix("/s"))
    except ValueError:
        value = 0.0
    if not 0 < value < math.inf:
        raise PlanError(f"limit {text!r} is not understood: write for example throughput>=200")
    return value
