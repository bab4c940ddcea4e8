"""Tunings kept, shown, and gone on with; the code and the command that they give."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import inferload as il
from inferload.stats.limits.limit import Limit
from inferload.studies.keeping import StudyKeeper
from inferload.studies.records.files import load_study, save_study
from support import tune_bench
from support.queueing import log_of
from support.tune_bench import ASKED, Bench, drawn, plan, rate, tuned

# ---- kept, shown, gone on with ----


def test_one_that_was_interrupted_goes_on_where_it_was(tmp_path):
    whole = tuned(plan(), Bench(rate))
    for at in (1, 7, 13, 20, 30):
        path = tmp_path / f"t{at}.json"
        bench = Bench(rate)
        bench.fails = lambda _, bench=bench, at=at: (
            KeyboardInterrupt() if len(bench.made) == at else None
        )
        keeper = StudyKeeper(path, il.Tuning, ASKED)
        with pytest.raises(il.StudyInterrupted) as raised:
            tuned(plan(), bench, keep=keeper.keep)
        assert raised.value.study.status == "interrupted"
        drawn(raised.value.study)
        again = Bench(rate)
        keeper = StudyKeeper(path, il.Tuning, ASKED)
        found = tuned(plan(), again, done=keeper.done, keep=keeper.keep)
        assert len(again.made) + len(bench.made) - 1 == len(whole.trials) + 20
        assert f"after {len(bench.made) - 1} runs" in str(raised.value)
        assert found.best == whole.best
        assert [one.run.settings for one in found.trials] == [
            one.run.settings for one in whole.trials
        ]


def test_what_is_saved_is_what_is_read_and_drawn(tmp_path):
    found = tuned(plan(limits=(Limit.from_text("p99<=20ms"),)), Bench(rate, noise=0.02))
    save_study(found, tmp_path / "t.json")
    again = load_study(tmp_path / "t.json")
    assert again == found
    assert drawn(again) == drawn(found)
    text = drawn(found, 120)
    assert "best: 2 callers, 1 thread a call, form aoti" in text
    assert "inferload run m.py --callers 2 --threads-per-call 1 --form aoti" in text
    assert "--batch-sizes 1,4,16 tries others" in text


def test_runs_of_few_calls_are_told(monkeypatch):
    monkeypatch.setattr(tune_bench, "fast_log", lambda s: log_of(*[np.ones(3)] * 2, np.ones(3) + s))
    found = tuned(plan(), Bench(rate))
    assert "made fewer than 10 calls" in drawn(found)


def test_the_code_sets_what_was_found(monkeypatch):
    asked = {}
    monkeypatch.setattr(il, "run", lambda *args, **options: asked.update(options, args=args))
    found = tuned(plan(), Bench(lambda s: 200.0 if s.processes == 2 else 100.0))
    code = compile(found.code, "snippet.py", "exec")
    exec(code, {"__name__": "__main__"})  # noqa: S102 - it is ours
    assert asked["args"] == ("m.py",)
    assert asked["load"] == il.ClosedLoop(callers=1)
    assert {name: asked.get(name) for name in ("processes", "threads_per_call", "form")} == {
        "processes": 2, "threads_per_call": 1, "form": found.best.form,
    }  # fmt: skip
    assert "torch.inference_mode()" in found.code


def test_code_and_command_have_the_form_and_the_errors_that_runs_had():
    made = replace(
        plan(forms=(None,), limits=(Limit.from_text("errors<=10%"),)),
        form="script",
        asked={"model": "m.py", "form": "script"},
    )
    found = tuned(made, Bench(rate))
    for text in (found.code, found.command):
        assert "script" in text
        assert "record" in text
    assert "2 callers, 1 thread a call, script" in drawn(found)
