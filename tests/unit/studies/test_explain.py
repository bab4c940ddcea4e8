"""Explanations over simulated processes: rounds, what is left out, and what they come to."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import inferload as il
from inferload.errors import InferloadError, PlanError
from inferload.plan.options import RunOptions
from inferload.stats.slices.slice import Slice
from inferload.stats.slices.used import Used
from inferload.studies.explain.arms import BASE, arms_of
from inferload.studies.explain.explainer import FEWEST_ROUNDS, MOST_ROUNDS, run_explain
from inferload.studies.explain.facts import facts_of
from inferload.studies.explain.plan import ExplainPlan
from inferload.studies.records.explanation import Traced
from inferload.studies.records.files import load_study, save_study
from support.sliced_sides import Told

OPTIONS = RunOptions(
    duration_s=1.0, threads_per_call=1, load=il.ClosedLoop(callers=2), warmup="fixed"
).checked()


@pytest.fixture(scope="module")
def result():
    def model(x):
        return x

    return il.run(model, [torch.zeros(1)], load=il.ClosedLoop(callers=2), calls=50)


class World:
    """Processes in which time passes by opening and slices; ``speed(turn, environment)``.

    ``noise``: by which processes differ, as the deviation of a logarithm.
    """

    def __init__(self, result, speed=lambda *_: 1.0, *, noise=0.005, fails=lambda *_: None):
        self.result, self.speed, self.fails = result, speed, fails
        self.noise, self.rng = noise, np.random.default_rng(1)
        self.now_s, self.open_s = 0.0, 0.2
        self.log: list[tuple[str, object]] = []
        self.hosts = 0

    def run(self, settings, options, observer):
        self.now_s += options.duration_s
        return self.result

    def traced(self, options, observer):
        raise InferloadError("it cannot be traced")

    def close(self):
        self.log.append(("run is closed", None))

    def host(self, environment, number):
        self.hosts += 1
        return Host(self, dict(environment))


class Host:
    def __init__(self, world, environment):
        self.world, self.environment = world, environment
        self.close()

    def close(self):
        self.turns, self.own, self.waiting = {}, None, None

    def begin_turn(self, name, turn, observer):
        if self.own is None:
            self.own = np.exp(self.world.noise * self.world.rng.standard_normal())
        self.turns[name] = turn
        self.waiting = name

    def opened(self, observer):
        self.world.now_s += self.world.open_s
        if (error := self.world.fails("open", self.turns[self.waiting])) is not None:
            if not isinstance(error, PlanError):
                self.turns.clear()
            raise error
        self.world.log.append(("open", self.waiting))
        return SimpleNamespace(devices=())

    def begin_slice(self, name, seconds, warmup_calls, observer):
        self.waiting = name, seconds

    def sliced(self, observer):
        name, seconds = self.waiting
        turn = self.turns[name]
        if (error := self.world.fails("slice", turn)) is not None:
            raise error
        self.world.log.append(("slice", name))
        self.world.now_s += seconds
        call_s = 0.001 / (self.world.speed(turn, self.environment) * self.own)
        calls = max(round(seconds / call_s), 1)
        started = (np.arange(calls) * call_s * 1e9).astype(np.int64)
        ones, zeros = np.ones(calls, np.int64), np.zeros(calls, np.int64)
        used = Used(wall_s=seconds, cpu_s=seconds, system_s=0.1 * seconds, faults=3 * calls)
        ended = started + int(call_s * 1e9)
        return Slice.of(0, zeros, ones, started, ended, used=used)


def explained(world, *, time_limit_s=120.0, choose=lambda arms: arms, told=None):
    plan = ExplainPlan(
        target="m.py",
        asked={"model": "m.py"},
        options=OPTIONS,
        time_limit_s=time_limit_s,
        command=lambda flags, environment: f"run {dict(flags)} {dict(environment)}",
    )
    return run_explain(
        plan, world, world.host, told or Told(), choose=choose, clock=lambda: world.now_s
    )


def test_each_change_is_called_in_turn_with_the_run_as_asked_in_fresh_processes(result):
    world = World(result)
    found = explained(world)
    assert found.status == "complete"
    assert FEWEST_ROUNDS <= found.rounds <= MOST_ROUNDS
    opened = Counter(name for word, name in world.log if word == "open")
    assert set(opened.values()) >= {found.rounds}
    assert {opened[one.name] for one in found.tried if one.name != "processes"} == {found.rounds}
    assert opened["processes"] == 2 * found.rounds or "processes" not in opened
    names = [name for word, name in world.log if word == "slice"]
    # two to warm each up, and four; of the run as asked twice as many
    counts = Counter(names)
    assert counts["callers-one"] == 6 * found.rounds
    assert counts[BASE] == 10 * found.rounds


def test_what_has_an_effect_is_told_and_what_has_none_is_named(result):
    def speed(turn, environment):
        return 1.5 if turn.settings.callers == 4 else 0.5 if turn.settings.callers == 1 else 1.0

    found = explained(World(result, speed))
    twice = found.effect("callers-twice")
    assert twice.claimed
    assert twice.ratio == pytest.approx(1.5, rel=0.01)
    assert twice.low < 1.5 < twice.high
    assert found.effect("callers-one").ratio == pytest.approx(0.5, rel=0.01)
    nothing = [one.name for one in found.tried if not one.claimed]
    assert "batch" in nothing
    assert found.best == "callers-twice"
    assert found.command == "run {'callers': '4'} {}"
    assert "where time goes within calls is not known: it cannot be traced" in found.notes
    assert found.tried[0].name == "callers-twice"


def test_processes_at_once_count_together_and_are_held_against_a_process_alone(result):
    found = explained(World(result), choose=lambda arms: [*arms[:1], *_only(arms, "processes")])
    if not found.tried:
        pytest.skip("this machine has one core, and no processes are tried")
    (processes,) = found.tried
    assert processes.ratio == pytest.approx(2.0, rel=0.02)
    assert processes.cores == pytest.approx(2.0)


def test_an_environment_is_that_of_its_processes_alone(result):
    def speed(turn, environment):
        return 1.3 if environment.get("MALLOC_MMAP_MAX_") == "0" else 1.0

    found = explained(World(result, speed), choose=_in_one_process)
    kept = found.effect("memory-kept")
    if kept is None:
        pytest.skip("this system's C library is not glibc, whose settings these are")
    assert kept.ratio == pytest.approx(1.3, rel=0.01)
    assert found.best == "memory-kept"
    others = [one for one in found.tried if one.name != "memory-kept"]
    assert not any(one.claimed for one in others)


def _in_one_process(arms):
    return tuple(one for one in arms if one.processes == 1)


def _only(arms, *names):
    return tuple(one for one in arms if one.name in names)


@pytest.mark.parametrize(
    ("where", "error"),
    [
        ("open", PlanError("it does not fit")),
        ("open", InferloadError("it crashed")),
        ("slice", InferloadError("it raised")),
    ],
)
def test_a_change_that_fails_is_told_and_leaves_the_others(result, where, error):
    def fails(at, turn):
        return error if at == where and turn.settings.callers == 4 else None

    found = explained(World(result, fails=fails))
    (failed,) = [one for one in found.effects if one.name == "callers-twice"]
    assert failed.ratio is None
    assert failed.why_not == str(error)
    assert found.effect("callers-one").rounds == found.rounds


def test_where_the_run_as_asked_fails_there_is_nothing_to_explain(result):
    world = World(result, fails=lambda *_: InferloadError("worn out"))
    with pytest.raises(InferloadError, match="worn out"):
        explained(world)


def test_what_takes_longest_is_left_out_where_time_is_short(result):
    world = World(result)
    world.open_s = 1.0
    found = explained(world, time_limit_s=40.0)
    left = [one for one in found.effects if "there was no time for it" in one.why_not]
    assert left
    assert all("--time-limit" in one.why_not for one in left)
    assert not {"callers-one", "callers-twice"} & {one.name for one in left}
    assert found.rounds >= FEWEST_ROUNDS
    assert found.took_s < 90


@pytest.mark.parametrize(("makes", "marked", "says"), [
    (500.0, "?", "it cannot do the same work"), (0.01, "~", "a run of seconds may make far more"),
])  # fmt: skip
def test_a_change_that_makes_far_too_much_or_little_is_doubted(result, makes, marked, says):
    def speed(turn, environment):
        return makes if turn.settings.batch_size == 2 else 1.0

    found = explained(World(result, speed), choose=_in_one_process)
    assert found.effect("batch").claimed
    assert found.best is None
    said = " ".join(str(found).split())
    assert f"batch x2 (2 items) {marked}" in said
    assert says in said


def test_rounds_of_slow_calls_are_announced_with_what_they_take_at_least(result):
    own = result.summary.service_ms
    slow = replace(result, summary=replace(result.summary, service_ms=replace(own, mean=2000.0)))
    told = Told()
    explained(World(slow), told=told)
    first, second = [text for text in told.texts if text.startswith("round ")][:2]
    assert "a call takes 2.00 s, so that 6 rounds of " in first
    assert "a call takes" not in second


def test_what_was_made_before_an_interruption_is_told(result):
    class Stops(World):
        def host(self, environment, number):
            found = super().host(environment, number)
            ready = found.begin_turn

            def begin_turn(name, turn, observer):
                if self.now_s > 40:
                    raise KeyboardInterrupt
                ready(name, turn, observer)

            found.begin_turn = begin_turn
            return found

    with pytest.raises(il.StudyInterrupted, match=r"interrupted after \d rounds") as ended:
        explained(Stops(result))
    study = ended.value.study
    assert study.status == "interrupted"
    assert study.effect("callers-one").rounds == study.rounds


def test_changes_of_no_effect_are_called_one_in_one_of_twenty_studies_at_most(result):
    """All of a study together: 200 of them, in which processes differ by 2 %."""
    world = World(result, noise=0.02)
    named = 0
    for seed in range(200):
        world.rng = np.random.default_rng(seed)
        world.now_s = 0.0
        found = explained(world, time_limit_s=1.0, choose=lambda arms: (*arms[:1], *_apart(arms)))
        named += any(one.claimed for one in found.tried)
    assert named <= 18  # 10 are expected, 18 or fewer in 0.99 of draws


def _apart(arms):
    from inferload.studies.explain.arms import environment_arm

    own = arms[0].turn.options
    return [environment_arm(f"nothing-{n}", "a name", own, {f"N{n}": "1"}) for n in range(3)]


def test_it_is_read_again_as_it_was_saved(result, tmp_path):
    found = explained(World(result))
    save_study(found, tmp_path / "e.json")
    again = load_study(tmp_path / "e.json")
    assert again == found
    assert isinstance(again, il.Explanation)


def arms(**more):
    spec = il.run(
        torch.nn.Linear(4, 4), [torch.zeros(3, 4)], load=il.ClosedLoop(callers=2), calls=10
    ).spec
    own = RunOptions(duration_s=1.0, load=il.ClosedLoop(callers=2), **more).checked()
    found, left = arms_of(own, spec, 2)
    return {one.name: one for one in found}, {one.name: one for one in left}


def test_changes_keep_what_they_are_by_flags():
    found, left = arms()
    assert found["callers-twice"].flags == {"callers": "4"}
    assert found["processes"].flags == {"processes": "2", "callers": "1"}
    assert found["batch"].turn.settings.batch_size == 6
    assert found["form-script"].flags == {"form": "script"}
    assert "callers-half" not in found  # it is one caller
    assert left["telemetry"].why == "it reads no device of this run"


def test_callers_that_are_pinned_already_are_not_pinned_again():
    found, left = arms(pin="cores")
    assert "pin" not in found
    assert left["pin"].why == "they have them already"


@pytest.mark.parametrize(
    ("options", "way_out"),
    [
        ({"load": il.OpenLoop.poisson(10)}, "leave rates, arrivals and clients out"),
        ({"load": il.ClosedLoop(clients=4)}, "leave rates, arrivals and clients out"),
        ({"processes": 2}, "leave processes out"),
        ({"batching": il.Batching(max_batch=4)}, "leave max-batch out"),
        ({"of_server": True}, "inferload sweep URL"),
        ({"devices": ("cuda:0", "cuda:1")}, "name one of them"),
    ],
)
def test_what_cannot_be_explained_is_refused_with_a_way_out(options, way_out):
    own = RunOptions(duration_s=1.0, **options).checked()
    with pytest.raises(PlanError, match=way_out):
        ExplainPlan(target="m", asked={}, options=own, command=lambda *_: "")


@pytest.mark.parametrize(
    ("cores", "waits", "expected"),
    [(1.0, 0.8, True), (1.0, 0.5, False), (0.0, 0.8, False), (1.0, None, None)],
)
def test_a_thread_waits_for_the_gil_only_where_somebody_computes(result, cores, waits, expected):
    found = explained(World(result), choose=_in_one_process)
    traced = Traced(calls=9, slowed=1.0, operators=(), times=0.0, outside=1.0, gil_waits=waits)
    found = replace(found, traced=traced, used=replace(found.used, cores=cores), warnings=())
    assert facts_of(found).waits_for_gil is expected
