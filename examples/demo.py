"""One real model in three forms, each at several callers: what it really sustains.

    make demo

The runs of all configurations take turns for several rounds, so that a machine that changes its
speed meanwhile does not make one of them look better than another.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import textwrap
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import inferload as il
import minilm
from inferload.records.distribution import quantile_rank
from inferload.stats.intervals import calls_to_quote
from inferload.targets.forms import as_form
from inferload.targets.inputs.given import as_call_inputs
from inferload.units import rate_text

if TYPE_CHECKING:
    from inferload.targets.base import Target


@dataclass(kw_only=True)
class Configuration:
    """A form at a number of callers, and its runs so far."""

    target: Target
    callers: int
    results: list[il.RunResult] = field(default_factory=list)

    @property
    def per_s(self) -> float:
        """The median of the runs' throughput."""
        return statistics.median(r.summary.throughput_calls_per_s.value for r in self.results)

    def row(self, one_caller_per_s: float) -> list[str]:
        """One line of the table; percentiles over the calls of all runs."""
        response_ms = np.sort(np.concatenate([r.log.response_ns for r in self.results])) / 1e6
        count = len(response_ms)
        return [
            self.target.form,
            self.results[0].spec.executor,
            str(self.callers),
            rate_text(self.per_s),
            f"{self.per_s / one_caller_per_s:.2f}x",
            *(
                f"{response_ms[quantile_rank(q, count) - 1]:.1f}"
                if count >= calls_to_quote(q)
                else "-"
                for q in (0.5, 0.95, 0.99)
            ),
        ]


def main() -> int:
    """Run every form at every number of callers and print one table."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--forms", default="eager,script,aoti")
    options.add_argument("--callers", default="1,2,4")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--seconds", type=float, default=1.5, help="of each run")
    chosen = options.parse_args()
    forms, callers = chosen.forms.split(","), [int(one) for one in chosen.callers.split(",")]
    out, progress = Console(highlight=False), Console(stderr=True, highlight=False)

    model, inputs = minilm.model(), as_call_inputs(minilm.inputs())
    configurations = []
    for form in forms:
        started = time.perf_counter()
        progress.print(f"turning the model into the form {form} ...", end=" ")
        with torch.inference_mode():  # as it is going to be called
            target = as_form(model, form, inputs)
        progress.print(f"{time.perf_counter() - started:.1f} s")
        configurations += [Configuration(target=target, callers=count) for count in callers]
    for number in range(chosen.rounds):
        for one in configurations:
            with torch.inference_mode():
                result = il.run(
                    one.target,
                    inputs,
                    load=il.ClosedLoop(callers=one.callers),
                    duration_s=chosen.seconds,
                    threads_per_call=1,
                    seed=number,
                )
            one.results.append(result)
            rate = rate_text(result.summary.throughput_calls_per_s.value)
            progress.print(
                f"round {number + 1} of {chosen.rounds}: {one.target.form}, "
                f"callers {one.callers}: {rate} calls/s"
            )
    out.print(_table(configurations, chosen.rounds, chosen.seconds))
    for line in _warnings(configurations):
        out.print(textwrap.fill(line, out.width, subsequent_indent="  "))
    return 0


def _table(configurations: list[Configuration], rounds: int, seconds: float) -> Table:
    table = Table(
        title="MiniLM embedding sentences: the same model, what each form sustains",
        caption=(
            f"closed loop, median of {rounds} rounds of {seconds:g} s, 1 intra-op thread a call, "
            f"torch {torch.__version__}"
        ),
    )
    for name in ("form", "executor", "callers", "calls/s", "scaling", "p50 ms", "p95 ms", "p99 ms"):
        table.add_column(name, justify="left" if name in {"form", "executor"} else "right")
    base = configurations[0]
    for one in configurations:
        if one.target is not base.target:
            base = one
            table.add_section()
        table.add_row(*one.row(base.per_s))
    return table


def _warnings(configurations: list[Configuration]) -> list[str]:
    """One line for each kind of warning: where it was given, and what it said last."""
    given: dict[str, list[tuple[Configuration, il.RunWarning]]] = {}
    for one in configurations:
        for result in one.results:
            for warning in result.warnings:
                given.setdefault(warning.code, []).append((one, warning))
    runs = sum(len(one.results) for one in configurations)
    lines = []
    for code, found in given.items():
        forms = ", ".join(dict.fromkeys(one.target.form for one, _ in found))
        callers = ", ".join(str(count) for count in sorted({one.callers for one, _ in found}))
        last = found[-1][1]
        lines.append(
            f"! {code} in {len(found)} of {runs} runs ({forms}; callers {callers}), at last: "
            f"{last.message} -> {last.hint}"
        )
    return lines


if __name__ == "__main__":
    sys.exit(main())
