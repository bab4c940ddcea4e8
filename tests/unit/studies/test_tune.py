"""Which configurations are tried, which one is found, and what is left of failures and limits."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch

import inferload as il
from inferload.stats.limits.limit import Limit
from inferload.studies.keeping import StudyKeeper
from inferload.studies.records.files import save_study
from inferload.studies.records.settings import Settings
from inferload.studies.tune.candidates import candidates, forms_of
from inferload.studies.tune.halving import rounds_of
from support.tune_bench import ASKED, FORMS, Bench, drawn, plan, rate, tuned

# ---- candidates ----


def test_what_is_tried_fits_the_cores():
    found = candidates({}, 4, all_sizes=True)
    sizes = [(s.callers, s.processes or 1, s.threads_per_call) for s in found]
    assert all(math.prod(one) <= 4 for one in sizes)
    assert len(sizes) == len(set(sizes)) == 10
    # what leaves half of the cores idle makes fewer calls than the same with more callers
    full = candidates({}, 4, all_sizes=False)
    assert {math.prod((s.callers, s.processes or 1, s.threads_per_call)) for s in full} == {4}


def test_processes_are_tried_where_they_have_something_of_their_own():
    def forms(**more):
        found = candidates({"form": FORMS, **more}, 2, all_sizes=True, nodes=1)
        return {one.form for one in found if one.processes == 2}

    assert forms() == {None}  # the others have no GIL to be free of
    assert forms(processes=(1, 2)) == set(FORMS)
    found = candidates({"form": FORMS}, 2, all_sizes=True, nodes=2)
    assert {one.form for one in found if one.processes == 2} == set(FORMS)


def test_values_that_are_given_are_all_that_is_tried():
    found = candidates(
        {"callers": (3,), "threads_per_call": (1,), "processes": (1,), "batch_size": (1, 8)},
        4,
        all_sizes=False,
    )
    assert found == tuple(
        Settings(callers=3, threads_per_call=1, batch_size=size) for size in (1, 8)
    )


@pytest.mark.parametrize(
    ("axes", "cores", "says"),
    [
        ({"callers": (8,)}, 2, r"no combination of callers 8 fits 2 cores: give smaller values"),
        ({"callers": (0,)}, 2, "callers is 0"),
        ({}, 0, "cores is 0"),
        ({"callers": tuple(range(1, 900)), "form": FORMS}, 10_000, "are too many"),
    ],
)
def test_what_cannot_be_tried_is_refused(axes, cores, says):
    with pytest.raises(il.PlanError, match=says):
        candidates(axes, cores, all_sizes=True)


def test_a_file_has_its_form_already():
    assert forms_of("m.pt2", on_device=False) == (None,)
    assert "cudagraph" in forms_of("m.py:model", on_device=True)
    assert "cudagraph" not in forms_of("m.py:model", on_device=False)


def test_one_configuration_is_no_choice():
    with pytest.raises(il.PlanError, match="two configurations or more, and there is one"):
        plan(cores=1, forms=("script", "script"))


@pytest.mark.parametrize("count", [2, 3, 4, 10, 27, 300])
def test_every_round_takes_about_as_long_and_the_best_is_measured_in_full(count):
    rounds = rounds_of(count, 81.0)
    assert rounds[0][0] == count
    assert rounds[-1][1] == pytest.approx(27)
    assert all(b[0] == math.ceil(a[0] / 3) for a, b in itertools.pairwise(rounds))
    whole = sum(n * s for n, s in rounds)
    assert whole <= count * 81 * 0.7


# ---- what is found ----


@pytest.mark.slow
@pytest.mark.parametrize(("cores", "noise_of_a_second"), [(2, 0.05), (8, 0.03)])
def test_the_best_is_found_in_a_third_of_the_time_of_the_grid(cores, noise_of_a_second):
    near = 0
    for seed in range(100):
        made = plan(cores=cores)
        bench = Bench(rate, noise=noise_of_a_second, seed=seed)
        found = tuned(made, bench)
        near += rate(found.best) >= 0.97 * max(map(rate, made.candidates))
        assert bench.now <= len(made.candidates) * made.full_s / 3
    assert near >= 95


def test_the_margin_comes_from_pairs_alone():
    bench = Bench(rate, noise=0.02)
    found = tuned(plan(), bench)
    assert found.best == Settings(callers=2, threads_per_call=1, form="aoti")
    (throughput, *_) = found.margin.differences
    true = rate(found.best) / rate(Settings(callers=1))
    assert throughput.low < true * 1.01
    assert throughput.high > true * 0.99
    assert throughput.pairs == 10
    assert found.margin.sides[:4] == ("a", "b", "b", "a")
    assert [one.settings for one in found.margin.runs[:2]] == [Settings(callers=1), found.best]
    # all of its runs together last half of a measurement in full
    assert bench.made[-20:].count(found.best) == 10


def test_where_the_default_is_best_it_is_said_and_nothing_is_compared():
    bench = Bench(lambda s: 100.0 if s == Settings(callers=1) else 50.0)
    found = tuned(plan(), bench)
    assert found.best == Settings(callers=1)
    assert found.margin is None
    text = drawn(found)
    assert "best: 1 caller, as it is (the default) it is what a run does by itself" in text


def test_a_candidate_that_is_the_default_in_words_is_not_compared_with_it(result):
    # of a machine whose runs have one thread by themselves, whatever its cores
    def as_run(found, settings):
        threads = settings.threads_per_call or 1
        found.spec = replace(
            result.spec,
            callers=settings.callers,
            processes=settings.processes or 1,
            threads_per_call=threads,
            form=settings.form or "eager",
        )
        return found

    said = Settings(callers=1, threads_per_call=1, form="eager")
    bench = Bench(lambda s: 100.0 if s == said else 99.0 if s == Settings(callers=1) else 50.0)
    bench.dressed = as_run
    found = tuned(plan(forms=("eager", "script")), bench)
    assert found.best == Settings(callers=1)
    assert found.confirmations == ()


def test_what_makes_no_more_than_the_default_when_it_is_run_again_is_not_the_best():
    made: list[Settings] = []

    def lucky(settings):
        made.append(settings)
        few = made.count(settings) <= 5  # as many runs as there are in rounds
        return rate(settings) * (3.0 if few and settings.form == "aoti" else 1.0)

    flat = dict.fromkeys(plan().tried, 100.0)
    bench = Bench(lambda s: flat[s] * lucky(s) / rate(s))
    found = tuned(plan(), bench)
    assert found.best == Settings(callers=1)
    assert len(found.confirmations) == 1
    text = drawn(found)
    assert "nothing that was tried makes more beyond noise" in text
    assert "form aoti: +0.0% (+0.0% to +0.0%)" in text


@pytest.fixture(scope="module")
def result() -> il.RunResult:
    return il.run(lambda x: x, [torch.zeros(1)], calls=100)


def test_a_form_that_cannot_be_made_is_tried_once_and_a_crash_takes_one_candidate():
    def fails(settings):
        if settings.form == "script":
            return il.PlanError("it cannot be scripted")
        if settings.form == "aoti" and settings.processes == 2:
            return il.TargetCrashed("was ended by SIGSEGV")
        return None

    bench = Bench(rate, fails=fails)
    found = tuned(plan(), bench)
    assert [one.form for one in bench.made].count("script") == 1
    assert found.best == Settings(callers=2, threads_per_call=1, form="aoti")
    text = drawn(found)
    assert "failed: form script: it cannot be scripted" in text
    assert "failed: 1 caller, 2 processes, 1 thread a call, form aoti: was ended by" in text


def test_where_nothing_runs_the_first_failure_is_raised():
    bench = Bench(rate, fails=lambda _: il.CallError("worn out"))
    with pytest.raises(il.CallError, match="worn out"):
        tuned(plan(), bench)


def test_what_fails_as_it_is_confirmed_is_not_the_answer(tmp_path):
    def fails(settings):
        wanted = Settings(callers=2, threads_per_call=1, form="aoti")
        late = bench.made.count(wanted) > 7
        return il.CallError("worn out") if settings == wanted and late else None

    bench = Bench(rate, fails=fails)
    found = tuned(plan(), bench)
    assert found.best == Settings(callers=1, processes=2, threads_per_call=1, form="aoti")
    assert "failed: 2 callers, 1 thread a call, form aoti: B, 2 callers" in drawn(found)
    # an interruption later knows that
    save_study(replace(found, status="interrupted"), tmp_path / "t.json")
    done = StudyKeeper(tmp_path / "t.json", il.Tuning, ASKED).done
    again = tuned(plan(), Bench(rate), done=done)
    assert (again.best, len(again.trials)) == (found.best, len(found.trials))


def test_where_the_default_fails_the_best_has_no_margin():
    bench = Bench(rate, fails=lambda s: il.CallError("no") if s == Settings(callers=1) else None)
    found = tuned(plan(), bench)
    assert found.best == Settings(callers=2, threads_per_call=1, form="aoti")
    assert "it has no margin: A, default (1 caller): no" in drawn(found)


# ---- limits ----


def test_limits_come_before_throughput():
    # two callers make more, and each call takes 30 ms
    limits = (Limit.from_text("p50<=20ms"),)
    bench = Bench(rate, latency_s=lambda s: 0.03 if s.callers == 2 else 0.01)
    found = tuned(plan(limits=limits), bench)
    assert found.best == Settings(callers=1, processes=2, threads_per_call=1, form="aoti")
    assert "within it in 10 of 10 runs" in drawn(found)


def test_what_breaks_a_limit_when_it_is_run_again_is_not_the_answer():
    limits = (Limit.from_text("p50<=20ms"),)
    runs: list[Settings] = []

    def latency_s(settings):
        runs.append(settings)
        lucky = runs.count(settings) <= 5  # once in the first two rounds, three times in the last
        return 0.01 if lucky or settings.callers == 1 else 0.03

    found = tuned(plan(limits=limits), Bench(rate, latency_s=latency_s))
    assert found.best == Settings(callers=1, processes=2, threads_per_call=1, form="aoti")
    assert [one.settings.callers for one in found.confirmations] == [2, 1]


def test_where_none_keeps_a_limit_the_nearest_is_named():
    limits = (Limit.from_text("p50<=5ms"),)
    found = tuned(plan(limits=limits), Bench(rate, latency_s=lambda s: 0.01 * s.callers))
    assert found.best is None
    assert found.confirmations == ()
    assert "none keeps p50 <= 5.00 ms; nearest is 1 caller" in drawn(found)
    assert "p50 10.0 ms" in drawn(found)
