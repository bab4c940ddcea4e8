"""The load in words of the command line: ``--rate``, ``--arrivals``, ``--clients``, ``--think``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from inferload.errors import PlanError
from inferload.files import is_file
from inferload.plan.arrivals.loads import ClosedLoop, OpenLoop
from inferload.plan.arrivals.replays import CAPTURED
from inferload.plan.arrivals.stages import rate_from_text
from inferload.plan.batching import delay_from_text
from inferload.plan.numbers import number_or_none

if TYPE_CHECKING:
    from inferload.records.stages import Stage


def load_from_text(
    arrivals: str | None,
    rate: str | float | None,
    callers: int,
    seed: int,
    clients: int | None = None,
    think: str | None = None,
) -> ClosedLoop | OpenLoop:
    """Read ``--rate`` and ``--arrivals``: a closed loop where neither was given.

    ``rate`` is a number, or stages as ``50/10s,50..500/60s``.
    ``think`` is a time, ``exponential:TIME`` or ``constant:TIME``, of ``clients``.

    ``arrivals`` is ``constant``, ``poisson``, ``gamma:SHAPE``, ``replay:FILE`` or
    ``replay:FILE:2x``.

    Raises:
        PlanError: the text is not understood, or does not go with the rate.
    """
    if arrivals is None and rate is None:
        return _closed_loop(callers, clients, think)
    if clients is not None or think is not None:
        asked = f"--think {think!r}" if clients is None else f"--clients {clients}"
        raise PlanError(
            f"clients ({asked}) ask again when they are answered, and --rate and --arrivals say "
            "when calls are due: give one or the other"
        )
    kind, _, rest = (arrivals or "poisson").partition(":")
    if kind == "replay" and rest:
        if rate is not None:
            raise PlanError("a replay has the rate of its file: give replay:FILE:2x to change it")
        return _replay_from_text(rest, callers)
    if kind == "gamma" and number_or_none(rest) is None:
        raise PlanError(f"arrivals {arrivals!r} need a shape: write gamma:0.25 for bursts")
    if kind not in {"constant", "poisson", "gamma"} or (rest and kind != "gamma"):
        raise PlanError(
            f"arrivals {arrivals!r} are not understood: "
            "write constant, poisson, gamma:0.25, replay:FILE or replay:FILE:2x"
        )
    if rate is None:
        raise PlanError(f"arrivals {arrivals!r} need a rate: give --rate 500")
    return _drawn(kind, rest, rate_from_text(rate), callers, seed)


def _drawn(
    kind: str, shape: str, rate_per_s: float | tuple[Stage, ...], callers: int, seed: int
) -> OpenLoop:
    if isinstance(rate_per_s, tuple):
        return OpenLoop.staged(rate_per_s, arrivals=kind, callers=callers, seed=seed)
    if kind == "gamma":
        return OpenLoop.gamma(rate_per_s, burstiness=float(shape), callers=callers, seed=seed)
    if kind == "constant":
        return OpenLoop.constant(rate_per_s, callers=callers)
    return OpenLoop.poisson(rate_per_s, callers=callers, seed=seed)


def _closed_loop(callers: int, clients: int | None, think: str | None) -> ClosedLoop:
    if think is not None and clients is None:
        raise PlanError(f"--think {think!r} is the time of clients: give --clients 256 as well")
    kind, _, time = (think or "0").rpartition(":")
    return ClosedLoop(
        callers=callers,
        clients=clients,
        think_s=delay_from_text(time),
        think=kind or "exponential",
    )


def _replay_from_text(text: str, callers: int) -> OpenLoop:
    path, speed = _file_and_speed(text)
    return OpenLoop.replay(path, callers=callers, speed=speed)


def _file_and_speed(text: str) -> tuple[Path, float]:
    name, _, speed = text.rpartition(":")
    own = name and speed.endswith("x") and number_or_none(speed[:-1]) is not None
    if own and not is_file(Path(text)):
        return Path(name), float(speed[:-1])
    return Path(text), 1.0


def captured_in(arrivals: str | None) -> Path | None:
    """The file of captured calls that ``--arrivals`` replays, if it does."""
    kind, _, rest = (arrivals or "").partition(":")
    path = _file_and_speed(rest)[0] if kind == "replay" else Path()
    return path if path.suffix == CAPTURED else None
