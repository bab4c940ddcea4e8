"""Forecasts held against what is measured: MiniLM in three forms, a mix, batches, and a GPU.

    python benchmarks/forecast_checks.py [--only minilm-aoti,mix] [--markdown docs/accuracy.md]
    python benchmarks/forecast_checks.py --only gpu --seconds 60

Each case is three commands, which it prints: a sweep of closed loops (`service.json`), a run of one
caller with pauses (`pauses.json`), and `inferload forecast --check`, which runs the forecast's own
points. Of a forecast's minutes and those of its check the machine is the same, and its speed is
not: a second column has what is forecast of the same requests from service measured beside them.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch

import inferload as il
from measuring import FORECASTS, GPU_FORECASTS, machine, write_section

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferload.records.distribution import Estimate
    from inferload.studies.records.forecast import Forecast, ForecastPoint
    from inferload.studies.records.sweep import Sweep

_HERE = Path(__file__).parents[1]
_MINILM = "examples/minilm.py"
_MIX = """
[models.minilm]
model = "{here}/examples/minilm.py"
form = "aoti"
weight = 0.7

[models.mlp]
model = "{here}/examples/mlp.py"
form = "script"
weight = 0.3
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A model, and how it is measured, as words of the command line.

    ``levels``: what the sweep varies; ``asked``: of the forecast; ``loads``: of the most it makes;
    ``seconds``: of each rate, in all rounds, over those that were asked for.
    """

    says: str
    model: str
    own: Sequence[str] = ()
    levels: Sequence[str] = ("--callers", "1,2")
    asked: Sequence[str] = ()
    loads: Sequence[float] = (0.5, 0.85)
    seconds: float = 0.5
    pauses: bool = True


CASES = {
    "minilm-aoti": Case(
        says="MiniLM, aoti, 2 callers",
        model=_MINILM,
        own=("--form", "aoti"),
        loads=(0.3, 0.5, 0.7, 0.85),
        seconds=1.0,
    ),
    "minilm-script": Case(
        says="MiniLM, script, 2 callers", model=_MINILM, own=("--form", "script")
    ),
    "minilm-eager": Case(says="MiniLM, eager, 2 callers", model=_MINILM),
    "mix": Case(says="mix: 7 of 10 MiniLM (aoti), 3 an MLP; 2 callers", model="mix.toml"),
    "batches": Case(
        says="MiniLM, padded batches of up to 4, held back 5 ms",
        model=_MINILM,
        own=("--batch-pad", "0"),
        levels=("--max-batches", "1,4", "--clients", "16", "--callers", "1"),
        asked=("--max-batch", "4", "--max-delay", "5ms"),
        pauses=False,
    ),
    "gpu": Case(
        says="encoder of 12 layers, script, 4 callers",
        model="benchmarks/gpu_encoder.py",
        own=("--form", "script", "--device", "cuda"),
        levels=("--callers", "1,2,4"),
        asked=("--requests", "50000"),  # numba may not be there
        loads=(0.3, 0.5, 0.7, 0.85),
    ),
}


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", help=f"some of {', '.join(CASES)}; all but gpu")
    parser.add_argument("--seconds", type=float, default=120.0, help="of each rate of the first")
    parser.add_argument("--markdown", type=Path)
    given = parser.parse_args()
    names = [one for one in CASES if one != "gpu"]
    if given.only is not None:
        names = given.only.split(",")
    rows = [row for name in names for row in _rows(CASES[name], given.seconds)]
    on_a_gpu = names == ["gpu"]
    text = _section(rows, " --only gpu" if on_a_gpu else "")
    print(text)
    if given.markdown is not None:
        write_section(given.markdown, GPU_FORECASTS if on_a_gpu else FORECASTS, text)


def _rows(case: Case, seconds: float) -> list[str]:
    """What is measured of a case, a row a rate."""
    with tempfile.TemporaryDirectory(prefix="inferload-") as folder:
        found = _forecast(case, Path(folder), seconds * case.seconds)
    rows = [_row(case, one) for one in found.points]
    print(*rows, sep="\n", file=sys.stderr, flush=True)  # so far
    return rows


def _forecast(case: Case, folder: Path, seconds: float) -> Forecast:
    """The forecast with its check."""
    model = str(_HERE / case.model)
    if case.model == "mix.toml":
        model = str(folder / case.model)
        Path(model).write_text(_MIX.format(here=_HERE), encoding="utf-8")
    own = [*case.own, "--threads-per-call", "1"]
    _run(folder, "sweep", model, *own, *case.levels, "--duration", "6s", "--json", "service.json")
    sweep = cast("Sweep", il.load_study(folder / "service.json"))
    made = {one.settings: one.throughput_calls_per_s for one in sweep.points}
    most = max(one.value for one in made.values() if one is not None)
    sources = ["service.json"]
    if case.pauses:
        alone = next(own for own, one in made.items() if own.callers == 1 and one is not None)
        rate = f"{cast('Estimate', made[alone]).value / 2:.3g}"
        words = ("--callers", "1", "--rate", rate, "--duration", "60s", "--json", "pauses.json")
        _run(folder, "run", model, *own, *words)
        sources.append("pauses.json")
    rates = ",".join(f"{load * most:.4g}" for load in case.loads)
    checks = ("--rates", rates, "--check", model, "--check-duration", f"{seconds:g}s")
    _run(folder, "forecast", *sources, *case.asked, *checks, "--json", "forecast.json")
    return cast("Forecast", il.load_study(folder / "forecast.json"))


def _run(folder: Path, *words: str) -> None:
    """A command of inferload, told before it is run."""
    print("$ inferload", *words, file=sys.stderr, flush=True)
    program = [sys.executable, "-m", "inferload", *words]
    done = subprocess.run(program, cwd=folder, stdout=subprocess.PIPE, text=True, check=False)
    # 1: what was measured is suspicious, as it may be on a machine with neighbours
    if done.returncode not in {0, 1}:
        raise SystemExit(done.stdout)


def _row(case: Case, one: ForecastPoint) -> str:
    held = one.checked
    if held is None or one.p50_ms is None:
        return f"| {case.says} | {one.load_fraction:.0%} | - | | | | | | | | |"
    p50, p99 = held.p50_ms.value, held.p99_ms.value
    cells = [case.says, f"{one.load_fraction:.0%}", f"{held.calls:,}"]
    cells += [f"{one.p50_ms.value:.3g}", f"{p50:.3g}", _off(one.p50_ms.value, p50)]
    cells += [_off(held.again_p50_ms, p50)]
    told = one.p99_ms.value if one.p99_ms is not None else None
    cells += ["-" if told is None else f"{told:.3g}", _measured(held.p99_ms)]
    cells += ["-" if told is None else _off(told, p99), _off(held.again_p99_ms, p99)]
    return f"| {' | '.join(cells)} |"


def _measured(p99: Estimate) -> str:
    return ("" if p99.low is not None else "~") + f"{p99.value:.3g}"


def _off(told_ms: float, measured_ms: float) -> str:
    return f"{told_ms / measured_ms - 1:+.1%}"


def _section(rows: Sequence[str], more: str) -> str:
    gpu = f"{torch.cuda.get_device_name()}, " if torch.cuda.is_available() else ""
    shown = ("p50", "measured", "off", "beside", "p99", "measured", "off", "beside")
    names = ["case", "load", "calls", *shown]
    head = f"| {' | '.join(names)} |\n|{'---|' * len(names)}"
    return f"""What `inferload forecast --check` finds, in milliseconds
(`python benchmarks/forecast_checks.py{more}`). "off" is the forecast, made of a sweep and of a run
with pauses before, against the run of its own point; "beside" is what is forecast of the same
requests from what calls took in the same minutes. "~": of too few calls to quote.

Machine: {gpu}{machine()}.

{head}
{chr(10).join(rows)}
"""


if __name__ == "__main__":
    main()
