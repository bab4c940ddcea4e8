"""What a service promises: a figure and the most it may be."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from inferload.errors import PlanError
from inferload.records.distribution import QUOTED_QUANTILES
from inferload.units import duration_s, fraction, milliseconds_text, rate_text

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST = 1e12
_WORDS = re.compile(r"\s*((?:(?:first|gap)\s+)?[a-z]+[\d.]*)\s*(<=|<|>=|>)\s*(\S.*?)\s*")
_NAMES = {"p99.9": "p999", "p99.99": "p9999"}
#: Figures of which a limit is the least that will do.
_RATES = ("throughput", "goodput")
_WHOLE = {*QUOTED_QUANTILES, "errors", *_RATES}
_QUANTILES = ", ".join(QUOTED_QUANTILES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A bound on one figure of a run.

    ``figure`` is a quantile of the response time (``"p99"``; ``bound`` in milliseconds), of the
    time to the first piece from when a call was due (``"first p99"``), or of the time between two
    pieces (``"gap p99"``); ``"errors"`` (the fraction of calls that failed or never finished),
    ``"throughput"`` (calls that returned per second; ``bound`` is the least) or ``"goodput"`` (of
    them those that kept the other limits).
    """

    figure: str
    bound: float

    def __post_init__(self) -> None:
        if not _is_figure(self.figure):
            raise PlanError(
                f"figure {self.figure!r} cannot be limited: choose {_QUANTILES}, the same after "
                "first or gap (first p99), errors, throughput or goodput"
            )
        least = 0.0 if self.figure == "errors" else 1e-9
        if not least <= self.bound <= MOST:
            raise PlanError(
                f"the limit of {self.name} is {self.bound!r}: it must be {least:g} or more, and "
                f"at most {MOST:g}"
            )

    @classmethod
    def from_text(cls, text: str) -> Limit:
        """Read ``"p99<=20ms"``, ``"first p99<=200ms"``, ``"errors<=1%"`` or ``"goodput>=20/s"``.

        >>> Limit.from_text("p99.9 <= 20ms")
        Limit(figure='p999', bound=20.0)

        Raises:
            PlanError: the text is no such limit.
        """
        found = _WORDS.fullmatch(text)
        *of, last = ("",) if found is None else found[1].split()
        name = " ".join([*of, _NAMES.get(last, last)])
        if found is None or not _is_figure(name):
            raise PlanError(
                f"limit {text!r} is not understood: write for example p99<=20ms, first "
                "p99<=200ms, gap p99<=50ms, errors<=1%, throughput>=200 or goodput>=20/s "
                "(quantiles: p50 p90 p95 p99 p99.9 p99.99)"
            )
        if (name in _RATES) != found[2].startswith(">"):
            least = "at least (>=)" if name in _RATES else "at most (<=)"
            raise PlanError(f"limit {text!r} points the wrong way: {found[1]} is to be {least}")
        if name == "errors":
            bound = 0.0 if found[3] in {"0", "0%"} else fraction(found[3])
            if bound >= 1:
                raise PlanError(f"limit {text!r} holds of any run: an error fraction is below 100%")
        elif name in _RATES:
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
        return QUOTED_QUANTILES.get(self.figure.rpartition(" ")[2])

    @property
    def of(self) -> str:
        """Of which duration: ``"response"``, ``"first"`` or ``"gap"``."""
        return self.figure.partition(" ")[0] if " " in self.figure else "response"

    @property
    def at_least(self) -> bool:
        """Whether the bound is the least that will do, and not the most."""
        return self.figure in _RATES

    @property
    def name(self) -> str:
        """The figure as it is written."""
        *of, last = self.figure.split()
        return " ".join([*of, {value: key for key, value in _NAMES.items()}.get(last, last)])

    @property
    def written(self) -> str:
        """The text that it is read from, with every digit.

        >>> Limit.from_text("p99.9 <= 1.5s").written
        'p99.9<=1500ms'
        """
        if self.at_least:
            return f"{self.figure}>={f'{float(self.bound)!r}'.removesuffix('.0')}"
        if self.figure == "errors":
            return f"errors<={100 * self.bound:.15g}%"
        return f"{self.name}<={f'{self.bound:.9f}'.rstrip('0').rstrip('.')}ms"

    def __str__(self) -> str:
        if self.at_least:
            return f"{self.figure} >= {rate_text(self.bound)}/s"
        return f"{self.name} <= {self.text_of(self.bound)}"

    def text_of(self, value: float) -> str:
        """A value of the figure in words."""
        if self.figure == "errors":
            return f"{100 * value:.3g}%"
        return f"{rate_text(value)}/s" if self.at_least else milliseconds_text(value)


def _is_figure(name: str) -> bool:
    of, _, last = name.rpartition(" ")
    return last in QUOTED_QUANTILES if of in {"first", "gap"} else name in _WHOLE


def limits_from_texts(texts: Iterable[str]) -> tuple[Limit, ...]:
    """Read limits, each alone or several with commas between them.

    Raises:
        PlanError: one is not understood, or they do not go together.
    """
    found = tuple(
        Limit.from_text(one) for text in texts for one in text.split(",") if one.strip() or not text
    )
    check_together(found)
    return found


def check_together(limits: Sequence[Limit]) -> None:
    """Refuse two limits of one figure, and goodput without what is good.

    Raises:
        PlanError: naming them.
    """
    names = [one.name for one in limits]
    for name in names:
        if names.count(name) > 1:
            raise PlanError(f"there are two limits of {name}: give one")
    if "goodput" in names and not any(one.quantile is not None for one in limits):
        raise PlanError(
            "goodput counts the calls that keep the limits of durations: give one beside it, such "
            "as p99<=200ms or first p99<=200ms (without one it is throughput)"
        )


def limits_given(limit: object) -> tuple[Limit, ...]:
    """Limits as Python gives them: one or several, as texts or not; none of ``None``.

    Raises:
        PlanError: one is no limit, or two are of the same figure.
    """
    listed = [limit] if isinstance(limit, str | Limit) else limit or ()
    if not isinstance(listed, Iterable):
        raise PlanError(f"limit is {limit!r}: give 'p99<=20ms', or several of them")
    texts = [one.written if isinstance(one, Limit) else one for one in listed]
    for text in texts:
        if not isinstance(text, str):
            raise PlanError(f"a limit is {text!r}: give 'p99<=20ms', or an il.Limit")
    return limits_from_texts(texts)


def _rate(text: str, number: str) -> float:
    try:
        value = float(number.removesuffix("/s"))
    except ValueError:
        value = 0.0
    if not 0 < value < math.inf:
        raise PlanError(f"limit {text!r} is not understood: write for example throughput>=200/s")
    return value
