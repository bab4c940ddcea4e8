"""What a forecast says of its margins, of what was not measured, and when it is interrupted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from test_forecast import Silent, forecast, profile, source, text_of

import inferload as il
from inferload.log.calls import CallLog
from inferload.plan.arrivals.loads import OpenLoop
from inferload.records.batches import BatchSpec
from inferload.stats.pauses import Pauses
from inferload.stats.summary import summarize
from inferload.studies.forecast.forecaster import run_forecast
from inferload.studies.forecast.measured import Measured
from inferload.studies.forecast.plan import ForecastPlan
from inferload.studies.forecast.sources import source_of
from inferload.studies.records.settings import Settings, StudyRun
from inferload.studies.records.sweep import Sweep
from support.ranks import SPEC


def test_the_answer_has_its_margin_and_what_one_less_would_do():
    found = forecast(profile(off=0.02), rates_per_s=(500.0,), limits=["p99<=50ms"])
    (needed,) = found.needed
    told = " ".join(text_of(found, 200).split())
    assert f"{needed.replicas} replicas (p99 " in told
    assert ", up to " in told
    assert f"; {needed.replicas - 1}: " in told


def test_sizes_of_batches_that_were_not_measured_are_named():
    sizes = [profile(1, 10.0 + n, size=n) for n in (1, 2, 4, 8)]
    asked = {"batching": il.Batching(max_batch=8), "rates_per_s": (100.0,)}
    (note,) = [one for one in forecast(*sizes, **asked).notes if "straight line" in one]
    assert note.startswith("batches of 3,5-7 were not measured")
    all_of = [profile(1, 10.0 + n, size=n) for n in range(1, 9)]
    assert not any("straight line" in one for one in forecast(*all_of, **asked).notes)


def test_points_that_were_made_before_an_interruption_are_told():
    class Stops(Silent):
        made = 0

        def begins(self, text):
            self.made += 1
            if self.made == 3:
                raise KeyboardInterrupt

    plan = ForecastPlan(asked={}, load=OpenLoop.poisson(1.0), rates_per_s=(10.0, 20.0, 30.0))
    with pytest.raises(il.StudyInterrupted, match="interrupted after 2 points") as ended:
        run_forecast(plan, source(profile()), Stops())
    assert ended.value.study.status == "interrupted"
    assert [one.rate_per_s for one in ended.value.study.points] == [10.0, 20.0]


def test_runs_of_a_sweep_that_failed_are_named():
    good = StudyRun(
        settings=Settings(callers=1), status="complete", spec=SPEC, services=(profile(),)
    )
    bad = StudyRun(settings=Settings(callers=4), failure="out of memory")
    sweep = Sweep(
        target="m.py", asked={}, axes={"callers": (1, 4)}, status="complete", runs=(good, bad),
        points=(), blocks=1,
    )  # fmt: skip
    notes = source_of([sweep], ["s.json"]).notes
    assert "1 of 2 runs of the sweep failed and are left out (4 callers): out of memory" in notes


def swept(*runs: StudyRun) -> Sweep:
    return Sweep(
        target="m.py", asked={}, axes={"callers": (1,)}, status="complete", runs=runs,
        points=(), blocks=1,
    )  # fmt: skip


def test_a_run_that_is_there_twice_is_refused():
    one = StudyRun(
        settings=Settings(callers=1), spec=SPEC, services=(profile(),), summary=some_summary()
    )
    with pytest.raises(il.PlanError, match=r"a\.json and b\.json are of the same run"):
        source_of([swept(one), swept(one)], ["a.json", "b.json"])
    other = replace(one, summary=replace(one.summary, duration_s=1.5))
    assert source_of([swept(one), swept(other)], ["a.json", "b.json"]).measured.by[1, 1].calls


def some_summary():
    """Of 100 calls, of which 5 failed."""
    ns = np.arange(100, dtype=np.int64) * 1_000_000
    log = CallLog(
        scheduled_ns=ns, started_ns=ns, finished_ns=ns + 900_000,
        caller=np.zeros(100, np.int32), input=np.zeros(100, np.int32),
        error=np.where(np.arange(100) % 20, -1, 0).astype(np.int32),
    )  # fmt: skip
    return summarize(log, [1], callers=1)


def test_calls_of_a_sweep_that_failed_are_told_of():
    summary = some_summary()
    one = StudyRun(settings=Settings(callers=1), spec=SPEC, services=(profile(),), summary=summary)
    notes = source_of([swept(one)], ["a.json"]).notes
    assert "5 of 100 calls failed, which are taken to have needed no time" in notes


def test_calls_take_longer_after_pauses_where_that_is_known():
    pauses = Pauses(lengths_s=(0.005, 0.01), slower=(1.1, 1.2), calls=900)
    own = replace(source(profile()), measured=Measured.of([profile()], pauses))
    plan = ForecastPlan(asked={}, load=OpenLoop.poisson(1.0), rates_per_s=(0.5,))
    (one,) = run_forecast(plan, own, Silent()).points
    assert one.p50_ms.value == pytest.approx(12.0, rel=0.01)  # nearly each comes after a long one
    assert own.measured.at("high").pauses == pauses


@pytest.mark.parametrize(("pad", "elements", "refused"), [
    ({}, (7, 12), True), ({}, (8, 8), False), ({"*": 0.0}, (7, 12), False),
])  # fmt: skip
def test_batches_of_shapes_that_do_not_join_are_not_forecast(pad, elements, refused):
    batching = BatchSpec(max_batch=2, pad=pad, elements_per_input=elements)
    spec = replace(SPEC, batching=batching, items_per_input=(1, 1), inputs=("a", "b"))
    service = (profile(1, 10.0, size=1), profile(1, 12.0, size=2))
    run = StudyRun(settings=Settings(), status="complete", spec=spec, services=service)
    sweep = Sweep(
        target="m", asked={}, status="complete", axes={}, blocks=1, points=(), runs=(run,)
    )
    plan = ForecastPlan(
        asked={}, load=OpenLoop.poisson(1.0), batching=il.Batching(max_batch=2), requests=2000
    )
    if refused:
        with pytest.raises(il.PlanError, match="inputs have 2 shapes, which are batched apart"):
            run_forecast(plan, source_of([sweep], ["s.json"]), Silent())
    else:
        assert run_forecast(plan, source_of([sweep], ["s.json"]), Silent()).points
