"""The load in words of the command line: ``--rate``, ``--arrivals``, ``--clients``, ``--think``."""

from __future__ import annotations

from pathlib import Path

from inferload.errors import PlanError
from inferload.files import is_file
from inferload.plan.batching import delay_from_text
from inferload.plan.loads import ClosedLoop, OpenLoop
from inferload.plan.numbers import number_or_none


def load_from_text(
    arrivals: str | None,
    rate_per_s: float | None,
    callers: int,
    seed: int,
    clients: int | None = None,
    think: str | None = None,
) -> ClosedLoop | OpenLoop:
    """Read ``--rate`` and ``--arrivals``: a closed loop where neither was given.

    ``think`` is a time, ``exponential:TIME`` or ``constant:TIME``, of ``clients``.

    ``arrivals`` is ``constant``, ``poisson``, ``gamma:SHAPE``, ``replay:FILE`` or
    ``replay:FILE:2x``.

    Raises:
        PlanError: the text is not understood, or does not go with the rate.
    """
    if arrivals is None and rate_per_s is None:
        return _closed_loop(callers, clients, think)
    if clients is not None or think is not None:
        asked = f"--think {think!r}" if clients is None else f"--clients {clients}"
        raise PlanError(
            f"clients ({asked}) ask again when they are answered, and --rate and --arrivals say "
            "when calls are due: give one or the other"
        )
    kind, _, rest = (arrivals or "poisson").partition(":")
    if kind == "replay" and rest:
        if rate_per_s is not None:
            raise PlanError("a replay has the rate of its file: give replay:FILE:2x to change it")
        return _replay_from_text(rest, callers)
    if kind == "gamma" and number_or_none(rest) is None:
        raise PlanError(f"arrivals {arrivals!r} need a shape: write gamma:0.25 for bursts")
    if kind not in {"constant", "poisson", "gamma"} or (rest and kind != "gamma"):
        raise PlanError(
            f"arrivals {arrivals!r} are not understood: "
            "write constant, poisson, gamma:0.25, replay:FILE or replay:FILE:2x"
        )
    if rate_per_s is None:
        raise PlanError(f"arrivals {arrivals!r} need a rate: give --rate 500")
    if kind == "gamma":
        return OpenLoop.gamma(rate_per_s, burstiness=float(rest), callers=callers, seed=seed)
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
    name, _, speed = text.rpartition(":")
    own = name and speed.endswith("x") and number_or_none(speed[:-1]) is not None
    if own and not is_file(Path(text)):
        return OpenLoop.replay(Path(name), callers=callers, speed=float(speed[:-1]))
    return OpenLoop.replay(Path(text), callers=callers)
