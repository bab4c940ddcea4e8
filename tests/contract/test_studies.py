"""Sweeps and searches on real models: in this process, and from the command line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

import inferload as il
from inferload.callers.python.executor import ThreadsExecutor
from inferload.plan.cores import memory_nodes
from support import models
from support.forks import Forked
from support.program import PROGRAM, inferload, inferload_here, run
from support.virtual_time import VirtualClock

FILE = """
import os, time
import torch
class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weights = torch.nn.Parameter(torch.ones(4))
    def forward(self, x):
        return x @ self.weights
class Sleeps(torch.nn.Module):
    def forward(self, x):
        time.sleep(0.002)
        return x
class Dies(torch.nn.Module):
    def forward(self, x):
        if threading.active_count() > 8:
            os.kill(os.getpid(), 11)
        return x
import threading
def model():
    return Model()
def sleeps():
    return Sleeps()
def dies():
    return Dies()
def inputs():
    return [torch.ones(2, 4), torch.ones(3, 4)]
"""
OTHERS = """
from m import Model
def model():
    return Model()
def inputs():
    return [torch.ones(5, 4)]
import torch
"""


def test_a_sweep_over_callers_and_forms(tmp_path):
    path = tmp_path / "s.json"
    study = il.sweep(
        models.mlp(),
        [torch.randn(2, 8)],
        callers=[1, 2],
        forms=["eager", "script"],
        calls=60,
        threads_per_call=1,
        blocks=2,
        save=path,
    )
    assert study.status == "complete"
    assert len(study.runs) == 8
    assert {one.spec.form for one in study.runs} == {"eager", "script"}
    assert all(one.spec.callers == one.settings.callers for one in study.runs)
    assert all(one.summary.completed_calls == 60 for one in study.runs)
    assert all(one.throughput_calls_per_s.value > 0 for one in study.points)
    assert il.load_study(path).points == study.points


@pytest.mark.multiprocess
def test_a_sweep_over_batch_sizes_and_processes():
    study = il.sweep(
        models.mlp(), [torch.randn(1, 8)], batch_sizes=(1, 4), processes=(1, 2), calls=20, blocks=1
    )
    assert {(one.spec.processes, one.spec.items_per_input) for one in study.runs} == {
        (1, (1,)), (1, (4,)), (2, (1,)), (2, (4,)),
    }  # fmt: skip
    assert study.peak.settings.batch_size == 4


def test_a_sweep_over_rates_is_of_open_loops():
    study = il.sweep(models.NoOp(), [torch.zeros(1)], rates_per_s=[200, 400], calls=40, blocks=1)
    assert sorted(one.spec.rate_per_s for one in study.runs) == [200, 400]
    assert all("poisson" in one.spec.load for one in study.runs)


def test_an_option_that_is_none_is_refused_by_name():
    with pytest.raises(il.PlanError, match="there is no option 'caller'"):
        il.sweep(models.NoOp(), [torch.zeros(1)], callers=[1, 2], caller=3)
    with pytest.raises(il.PlanError, match="needs a limit that a higher rate breaks"):
        il.find_max_rate(models.NoOp(), [torch.zeros(1)], "throughput>=10")


def test_the_highest_rate_of_a_server_in_virtual_time():
    # one server of exactly 10 ms, constant arrivals: every rate below 100/s waits for nobody
    clock = VirtualClock()
    found = il.find_max_rate(
        lambda _: clock.sleep(10_000_000),
        [torch.zeros(1)],
        "p90<=15ms",
        load=il.OpenLoop.constant(1.0),
        executor=ThreadsExecutor(clock),
        warmup_calls=0,
        time_limit_s=600,
    )
    assert found.closed_loop_per_s == pytest.approx(100)
    assert found.confirmed
    assert 98 < found.rate_per_s <= 100.5
    assert found.next_rate_per_s / found.rate_per_s < 1.011
    (judgement,) = found.confirmation.judgements
    assert judgement.value == pytest.approx(10)
    assert judgement.room_fraction == pytest.approx(1 / 3)


def test_a_search_ends_with_what_failed(tmp_path):
    calls, clock = iter(range(10**9)), VirtualClock()

    def fails_later(x):
        if next(calls) > 4500:
            raise ValueError("worn out")
        clock.sleep(200_000)
        return x

    path = tmp_path / "m.json"
    found = il.find_max_rate(
        fails_later,
        [torch.zeros(1)],
        "p99<=50ms",
        time_limit_s=10,
        save=path,
        seed=1,
        executor=ThreadsExecutor(clock),
        warmup_calls=0,
    )
    assert (found.status, found.confirmed) == ("failed", False)
    assert "worn out" in found.reason
    assert il.load_study(path).reason == found.reason


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "m.py").write_text(FILE)
    (tmp_path / "others.py").write_text(OTHERS)
    return tmp_path


def test_the_command_line_sweeps_and_draws_it_again(folder: Path):
    done = inferload(
        "sweep", "m.py", "--callers", "1..2", "--calls", 200, "--blocks", 2, "--json", "s.json",
        cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "run 4 of 4" in done.stderr
    assert "2 points x 2 blocks" in done.stdout
    study = il.load_study(folder / "s.json")
    assert [one.runs for one in study.points] == [2, 2]
    assert study.runs[0].spec.grad_mode == "inference"
    assert study.asked["axes"] == {"callers": [1, 2]}
    again = inferload_here("report", "s.json", cwd=folder)
    assert again.stdout == done.stdout


def test_the_command_line_searches(folder: Path):
    done = inferload_here(
        "search", "m.py:sleeps", "--limit", "p90<=2s", "--limit", "throughput>=20",
        "--time-limit", "6s", "--json", "m.json", cwd=folder,
    )  # fmt: skip
    found = il.load_study(folder / "m.json")
    # six seconds may be too short to quote p90 near the limit
    assert done.returncode == (0 if found.confirmed else 1), done.stderr
    assert "p90 <= 2.00 s and throughput >= 20.0/s" in " ".join(done.stdout.split())
    assert found.confirmation is not None
    assert found.probes[0].rate_per_s == 20
    assert found.rate_per_s in {one.rate_per_s for one in found.probes}
    assert inferload_here("report", "m.json", cwd=folder).stdout == done.stdout


def test_a_limit_that_no_rate_keeps_ends_in_a_sentence(folder: Path):
    done = inferload_here(
        "search", "m.py:sleeps", "--limit", "p90<=1ms", "--time-limit", "20s", cwd=folder
    )
    assert done.returncode == 1
    text = " ".join(done.stdout.split())
    assert "no rate that keeps p90 <= 1.00 ms: a call takes too long by itself" in text


@pytest.mark.multiprocess
def test_the_command_line_tunes_and_its_code_sets_what_it_found(folder: Path):
    done = inferload(
        "tune", "m.py", "--forms", "eager,script", "--duration", "1s", "--cores", 2, "--limit",
        "errors<=1%", "--json", "t.json", cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = il.load_study(folder / "t.json")
    assert len(found.candidates) == 8 - (memory_nodes() == 1)
    assert {one.run.settings for one in found.trials} == {found.default, *found.candidates}
    best = found.latest(found.best).run.spec
    assert inferload_here("report", "t.json", cwd=folder).stdout == done.stdout
    (folder / "snippet.py").write_text(
        found.code.replace("duration_s=10", "calls=40").replace(
            "print(result)", "result.save('code.json')"
        )
    )
    assert run([sys.executable, "snippet.py"], cwd=folder).returncode == 0
    words = found.command.split()[1:-2]
    again = inferload_here(*words, "--calls", 40, "--json", "command.json", cwd=folder)
    assert again.returncode == 0, again.stderr
    for name in ("code.json", "command.json"):
        spec = il.load_result(folder / name).spec
        for one in ("callers", "threads_per_call", "form", "grad_mode", "executor", "inputs"):
            assert getattr(spec, one) == getattr(best, one), one


def test_tuning_in_this_process_keeps_limits():
    found = il.tune(
        models.mlp(),
        [torch.randn(2, 8)],
        limit="p50<=10s",
        callers=(1, 2),
        threads_per_call=1,
        processes=1,
        forms=(None, "script"),
        cores=2,
        duration_s=1.0,
    )
    assert found.best in {found.default, *found.candidates}
    assert (found.margin is None) == (found.best == found.default)
    assert "il.run(" in found.code
    assert found.command == ""


def test_a_model_by_its_words_brings_its_inputs(folder: Path):
    spec = f"{folder / 'm.py'}:model"
    result = il.run(spec, form="script", calls=20)
    assert (result.spec.form, result.spec.inputs) == ("script", ("2x4:float32", "3x4:float32"))
    assert il.run(spec, ["5x4:float32"], calls=20).spec.inputs == ("5x4:float32",)
    with pytest.raises(il.PlanError, match="there are no inputs for"):
        il.run("support.models:mlp", calls=20)
    study = il.sweep(spec, callers=(1, 2), calls=20, blocks=1)
    assert study.status == "complete"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("sweep", "m.py"), "a sweep needs two points or more"),
        (("sweep", "m.py", "--callers", "4"), "a sweep needs two points or more"),
        (("sweep", "m.py", "--callers", "4..1"), "give a range that goes up"),
        (("sweep", "m.py", "--callers", "a,b"), "--callers 'a,b' is not understood"),
        (("sweep", "m.py", "--callers", "1..5000"), "more than 1000 values"),
        (("sweep", "m.py", "--rates", "0,1"), "--rates '0,1' is not understood"),
        (("sweep", "m.py", "--forms", "eager,"), "names an empty one"),
        (("sweep", "m.py", "--forms", "eager,magic"), "form 'magic' is unknown"),
        (("sweep", "none.py", "--callers", "1,2"), "there is no model file none.py"),
        (("sweep", "m.py", "--callers", "1,2", "--blocks", "0"), "blocks is 0"),
        (("sweep", "m.py", "--callers", "1,2", "--json", "no/s.json"), "folder no does not exist"),
        (("search", "m.py", "--limit", "p99<=20"), "has no unit"),
        (("search", "m.py", "--limit", "p99<=20ms", "--resolution", "0"), "fraction '0'"),
        (
            ("search", "m.py", "--limit", "p99<=20ms", "--time-limit", "1ms"),
            "time_limit_s is 0.001",
        ),
        (("search", "m.py"), "--limit"),
        (("tune", "m.py", "--callers", "8", "--cores", "4"), "no combination of callers 8 fits 4"),
        (("tune", "m.py", "--forms", "magic"), "form 'magic' is unknown"),
        (("tune", "m.py", "--form", "script", "--forms", "eager,aoti"), "give one of the two"),
        (("tune", "m.py", "--duration", "soon"), "'soon'"),
        (("report", "m.py"), "is not JSON"),
    ],
)
def test_what_cannot_be_studied_is_wrong_use_in_one_sentence(folder: Path, arguments, says):
    done = inferload_here(*arguments, cwd=folder)
    assert done.returncode == 2, done.stdout
    assert says in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_a_point_that_kills_its_process_leaves_the_others(folder: Path):
    done = inferload_here(
        "sweep", "m.py:dies", "--callers", "1,12", "--calls", 100, "--blocks", 2, "--json",
        "s.json", cwd=folder,
    )  # fmt: skip
    assert done.returncode == 1
    assert "was ended by SIGSEGV" in " ".join(done.stdout.split())
    study = il.load_study(folder / "s.json")
    assert [(one.runs, one.tried) for one in study.points] == [(2, 2), (0, 2)]


@pytest.mark.multiprocess
def test_processes_load_a_model_of_a_file_by_themselves(folder: Path):
    done = inferload_here(
        "sweep", "m.py:sleeps", "--processes", "1,2", "--calls", 40, "--blocks", 1, "--json",
        "s.json", cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    study = il.load_study(folder / "s.json")
    assert [one.spec.processes for one in study.runs if one.settings.processes == 2] == [2]


def test_a_model_that_changed_is_not_gone_on_with(folder: Path):
    words = ("sweep", "m.py:sleeps", "--callers", "1..2", "--calls", 40, "--json", "s.json")
    assert inferload_here(*words, cwd=folder).returncode == 0
    text = (folder / "s.json").read_text()
    (folder / "s.json").write_text(
        text.replace('"status": "complete"', '"status": "interrupted"', 1)
    )
    assert "going on with s.json" in inferload_here(*words, cwd=folder).stderr
    text = (folder / "s.json").read_text()
    (folder / "s.json").write_text(
        text.replace('"status": "complete"', '"status": "interrupted"', 1)
    )
    (folder / "m.py").write_text(FILE.replace("0.002", "0.02"))
    done = inferload_here(*words, cwd=folder)
    assert done.returncode == 2
    assert "holds an interrupted study of something else" in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("compare", "m.py:fails", "m.py"), 1, "ValueError: worn out"),
        (("compare", "m.py", "m.py:killed"), 3, "was ended by SIGKILL"),
        (("search", "m.py:fails", "--limit", "p99<=1s"), 1, "ValueError: worn out"),
        (("search", "m.py:killed", "--limit", "p99<=1s"), 3, "was ended by SIGKILL"),
        (("sweep", "m.py:fails", "--callers", "1,2", "--blocks", "1"), 1, "ValueError: worn out"),
    ],
)
def test_a_run_that_fails_ends_a_study_with_the_exit_code_of_a_run(
    folder: Path, arguments, code, says
):
    text = (folder / "m.py").read_text()
    (folder / "m.py").write_text(f"""{text}
class Fails(torch.nn.Module):
    calls = 0
    def forward(self, x):
        Fails.calls += 1
        if Fails.calls > 30:
            raise ValueError("worn out")
        return x
class Killed(torch.nn.Module):
    def forward(self, x):
        if threading.current_thread() is not threading.main_thread():
            os.kill(os.getpid(), 9)
        return x
def fails():
    return Fails()
def killed():
    return Killed()
""")
    more = () if "search" in arguments else ("--calls", "100")
    done = inferload_here(*arguments, *more, "--json", "x.json", cwd=folder)
    assert done.returncode == code, done.stderr
    assert says in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_ctrl_c_keeps_what_is_done_and_the_same_command_goes_on(folder: Path):
    # calls of the second run, when the first one is saved, wait until another file is there
    text = FILE.replace("time.sleep(0.002)", "time.sleep(0.002)\n        waits()")
    (folder / "m.py").write_text(f"""{text}
def waits():
    while os.path.exists("s.json") and not os.path.exists("go"):
        time.sleep(0.01)
""")
    words = [
        *PROGRAM, "sweep", "m.py:sleeps", "--callers", "1..3",
        "--duration", "0.5s", "--warmup", "0", "--blocks", "1", "--json", "s.json",
    ]  # fmt: skip
    with Forked(
        words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as started:
        next(line for line in started.stderr if line.startswith("run 2 of 3"))
        started.send_signal(signal.SIGINT)
        shown, said = started.communicate(timeout=120)
    assert started.returncode == 130
    assert "interrupted after 1 of 3 runs: the same command goes on from here" in said
    assert "interrupted after 1 runs" in shown
    before = il.load_study(folder / "s.json")
    (folder / "go").touch()
    done = run(words, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "going on with s.json" in done.stderr
    after = il.load_study(folder / "s.json")
    assert after.status == "complete"
    assert after.runs[0] == before.runs[0]
    assert np.array_equal([one.runs for one in after.points], [1, 1, 1])


def test_two_callables_compared_in_virtual_time():
    clock = VirtualClock()

    def takes(duration_ns):
        def target(x):
            if clock._running:  # outside of callers, where outputs are compared, no time passes
                clock.sleep(duration_ns)
            return x

        return target

    found = il.compare(
        takes(10_000_000),
        takes(12_000_000),
        [torch.zeros(1)],
        executor=ThreadsExecutor(clock),
        calls=400,
        gates=["p50 +5%", "throughput -30%"],
    )
    assert {one.figure: one.ratio for one in found.differences} == pytest.approx(
        {"throughput": 1 / 1.2, "p50": 1.2, "p90": 1.2, "p95": 1.2}
    )
    assert [what for _, what in found.gates] == ["crossed", "held"]
    assert found.outputs == "the same on 1 input"


@pytest.mark.multiprocess
def test_models_of_their_own_processes_are_compared():
    one, other = models.mlp(), models.mlp()
    with torch.no_grad():
        other[0].bias += 1
    found = il.compare(one, other, [torch.randn(2, 8)], calls=20)
    assert len(found.runs) == 20
    assert all(one.spec.isolated for one in found.runs)
    assert found.outputs.startswith("differ on input 0, by up to")


def test_two_forms_of_one_model_are_compared():
    found = il.compare(
        models.mlp(),
        inputs=[torch.randn(2, 8)],
        forms=("eager", "script"),
        calls=20,
        executor=ThreadsExecutor(),
    )
    assert [one.spec.form for one in found.runs[:4]] == ["eager", "script", "script", "eager"]
    assert found.outputs == "the same on 1 input"
    for forms in (("eager",), ("eager", "eager")):
        with pytest.raises(il.PlanError, match="are not two"):
            il.compare(models.mlp(), inputs=[torch.randn(2, 8)], forms=forms)


def test_two_results_on_the_command_line(folder: Path):
    for name in ("a", "b"):
        done = inferload_here("run", "m.py", "--calls", 2000, "--json", f"{name}.json", cwd=folder)
        assert done.returncode == 0
    done = inferload_here(
        "compare", "a.json", "b.json", "--gate", "throughput -99%", "--json", "c.json", cwd=folder
    )
    assert done.returncode == 0, done.stderr
    assert inferload_here("report", "c.json", cwd=folder).stdout == done.stdout
    study = il.load_study(folder / "c.json")
    # of runs that were disturbed all the time the interval may reach as far as that
    ((_, judged),) = study.gates
    assert judged in {"held", "open"}
    assert ("gate throughput -99%: held" in done.stdout) == (judged == "held")
    one_way = inferload_here(
        "compare", "a.json", "b.json", "--gate", "p50 +0.001%", "--gate", "throughput -0.001%",
        cwd=folder,
    )  # fmt: skip
    for more, says in (
        (("--json", "a.json"), "--json a.json would overwrite a.json, which is read"),
        (("--json", "m.py"), "is not JSON"),
        (("--pairs", 20), "--pairs is of runs to be made"),
        (("--json", "no/c.json"), "folder no does not exist"),
    ):
        refused = inferload_here("compare", "a.json", "b.json", *more, cwd=folder)
        assert (refused.returncode, says in " ".join(refused.stderr.split())) == (2, True)
    same = inferload_here("compare", "a.json", "a.json", cwd=folder)
    assert "are one and the same run" in same.stderr
    # whichever was slower by more than its noise
    by_figure = {one.figure: one for one in study.differences}
    slower = by_figure["p50"].low > 1.00001 or by_figure["throughput"].high < 0.99999
    assert one_way.returncode == int(slower)


def git(*words: str, cwd: Path) -> None:
    settings = ["-c", "user.name=me", "-c", "user.email=me@example.org"]
    subprocess.run(["git", *settings, *words], cwd=cwd, check=True, capture_output=True)


def test_the_working_tree_stands_for_itself_and_one_commit_is_no_pair(folder: Path, monkeypatch):
    from inferload.cli.request.revisions import checked_out, commit_of

    git("init", "-q", cwd=folder)
    git("add", ".", cwd=folder)
    git("commit", "-q", "-m", "first", cwd=folder)
    monkeypatch.chdir(folder)
    with checked_out(".") as tree:
        assert tree.folder.samefile(folder)
        tree.check()
    with checked_out("HEAD") as tree:
        assert not tree.folder.samefile(folder)
        assert (tree.folder / "m.py").read_text() == FILE
        # what was imported from the repository itself is not of that revision
        module = types.ModuleType("of_the_repository")
        module.__file__ = str(folder.resolve() / "of_the_repository.py")
        monkeypatch.setitem(sys.modules, "of_the_repository", module)
        with pytest.raises(il.PlanError, match="which is the same at any revision"):
            tree.check()
    assert commit_of(".") == "."
    done = inferload_here("compare", "m.py", "--revisions", "HEAD,HEAD~0", cwd=folder)
    assert done.returncode == 2
    assert "are the same revision" in " ".join(done.stderr.split())


def test_two_revisions_are_run_in_turn_and_their_outputs_compared(folder: Path):
    # what differs is a module that the environment finds in the repository itself
    (folder / "lib").mkdir()
    (folder / "lib" / "pk.py").write_text("DELAY_S, SIGN = 0.002, 1\n")
    (folder / "m.py").write_text(
        FILE.replace("0.002", "pk.DELAY_S").replace("return x\n", "return pk.SIGN * x\n")
        + "import pk\n"
    )
    git("init", "-q", cwd=folder)
    git("add", ".", cwd=folder)
    git("commit", "-q", "-m", "first", cwd=folder)
    (folder / "lib" / "pk.py").write_text("DELAY_S, SIGN = 0.008, -1\n")
    git("commit", "-q", "-a", "-m", "slower", cwd=folder)
    done = inferload(
        "compare", "m.py:sleeps", "--revisions", "HEAD~1,HEAD", "--calls", 40, "--warmup", 2,
        "--gate", "p50 +50%", "--json", "c.json", cwd=folder,
        PYTHONPATH=os.pathsep.join([str(folder / "lib"), os.environ.get("PYTHONPATH", "")]),
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    shown = " ".join(done.stdout.split())
    assert "gate p50 +50%: crossed, beyond noise" in shown
    assert "outputs differ on input 0, by up to 2" in shown
    assert "A m.py:sleeps at HEAD~1 (" in shown
    study = il.load_study(folder / "c.json")
    (p50,) = [one for one in study.differences if one.figure == "p50"]
    # and for both what the machine takes to wake a thread
    assert p50.a >= 2
    assert p50.b >= 8
    assert p50.ratio > 1.5
    assert (
        subprocess.run(
            ["git", "worktree", "list"], cwd=folder, capture_output=True, text=True, check=True
        ).stdout.count("\n")
        == 1
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("m.py",), "A is compared with one thing"),
        (("m.py", "m.py:sleeps", "--forms", "eager,script"), "A is compared with one thing"),
        (("m.py", "r.json"), "give two results, or two models"),
        (("r.json", "s.json"), "r.json cannot be read"),
        (("m.py", "--forms", "eager"), "are not two"),
        (("m.py", "--forms", "eager,eager"), "are not two"),
        (("m.py", "--forms", "eager,magic"), "form 'magic' is unknown"),
        (("m.py", "--revisions", "a,b"), "git"),
        (("m.py", "m.py:sleeps", "--pairs", "3"), "pairs is 3"),
        (("m.py", "m.py:sleeps", "--gate", "p99 5%"), 'write for example "p99 +5%"'),
        (("m.py", "none.py", "--calls", "10"), "B, none.py: there is no model file none.py"),
        (("m.py", "others.py", "--calls", "10"), "A has 2 inputs and B 1"),
        (("r.json",), "r.json is a result: give another one"),
        (("m.py", "--form", "script", "--forms", "eager,aoti"), "give one of the two"),
    ],
)
def test_what_cannot_be_compared_is_wrong_use_in_one_sentence(folder: Path, arguments, says):
    done = inferload_here("compare", *arguments, cwd=folder)
    assert done.returncode == 2, done.stdout
    assert says in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
