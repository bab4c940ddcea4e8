"""Candidates with a made-up rate and time that is counted, for tuning without a machine."""

from __future__ import annotations

import io
import math
from dataclasses import replace

import numpy as np
from rich.console import Console

import inferload as il
from inferload.plan.options import RunOptions
from inferload.records.distribution import Estimate
from inferload.report.text.studies.sweeps import study_report
from inferload.studies.records.settings import Settings
from inferload.studies.tune.candidates import candidates
from inferload.studies.tune.plan import TunePlan
from inferload.studies.tune.tuner import run_tune
from support.queueing import log_of, result_of

FORMS = (None, "script", "aoti")
ASKED = {"model": "m.py"}


def fast_log(latency_s: float, calls: int = 40):
    began = np.arange(calls) * latency_s
    return log_of(began, began, began + latency_s)


class Bench:
    """Results with a rate of their settings, off by chance as short runs are; in counted time."""

    def __init__(self, rate, *, noise=0.0, fails=lambda _: None, latency_s=lambda _: 0.01, seed=0):
        self.rate, self.noise, self.fails, self.latency_s = rate, noise, fails, latency_s
        self.generator = np.random.default_rng(seed)
        self.made: list[Settings] = []
        self.now = 0.0
        self.dressed = lambda result, _: result

    def clock(self) -> float:
        return self.now

    def run(self, settings, options, observer) -> il.RunResult:
        self.made.append(settings)
        if (error := self.fails(settings)) is not None:
            raise error
        self.now += options.duration_s
        off = self.noise / math.sqrt(options.duration_s) * self.generator.standard_normal()
        value = self.rate(settings) * math.exp(off)
        result = result_of(fast_log(self.latency_s(settings)))
        rate = Estimate(value=value, low=0.9 * value, high=1.1 * value, method="made up")
        result.summary = replace(
            result.summary, throughput_calls_per_s=rate, throughput_items_per_s=rate
        )
        result.environment = {"usable_cores": 2, "cores": 2}
        return self.dressed(result, settings)


class Quiet:
    def stage(self, text):
        pass

    progress = begins = found = stage


def plan(cores=2, forms=FORMS, full_s=27.0, **options) -> TunePlan:
    return TunePlan(
        target="m.py",
        asked=ASKED,
        options=RunOptions(duration_s=1.0, warmup="auto"),
        candidates=candidates({"form": forms}, cores, all_sizes=True, nodes=2),
        full_s=full_s,
        words=('"m.py"',),
        is_named=True,
        **options,
    )


def tuned(made: TunePlan, bench: Bench, **more) -> il.Tuning:
    return run_tune(made, bench, Quiet(), **{"clock": bench.clock} | more)


def drawn(study, width=80) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(study_report(study))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= width
    return " ".join(text.split())


def rate(settings: Settings) -> float:
    """Callers and threads that share cores well, best as a package with two callers."""
    form = {None: 1.0, "script": 1.3, "aoti": 1.6}[settings.form]
    threads = settings.threads_per_call or 2  # what a run does that is not told
    cores = settings.callers * (settings.processes or 1) * threads
    lost = 0.97 ** (settings.callers - 1) * 0.95 ** ((settings.processes or 1) - 1)
    return 100 * form * cores * lost * 0.8 ** (threads - 1)
