"""Two of a kind compared: callables, models, forms, results, revisions."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import types
from pathlib import Path

import pytest
import torch

import inferload as il
from inferload.callers.python.executor import ThreadsExecutor
from support import models
from support.model_files import FILE, written_to
from support.program import inferload, inferload_here
from support.virtual_time import VirtualClock


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return written_to(tmp_path)


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
    assert [what for _, what in found.gates] == ["crossed", "kept"]
    assert found.outputs == "the same on 1 input"


@pytest.mark.multiprocess
def test_stages_are_compared_whole():
    clock = VirtualClock()

    def target(x):
        if clock._running:
            clock.sleep(1_000_000)
        return x

    stages = [il.Stage(rate_per_s=20, to_per_s=60, duration_s=5)]
    found = il.compare(
        target,
        target,
        [torch.zeros(1)],
        pairs=10,
        load=il.OpenLoop.staged(stages, arrivals="constant"),
        warmup_calls=0,
        executor=ThreadsExecutor(clock),
    )
    assert {one.summary.completed_calls for one in found.runs} == {200}


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
    assert done.returncode in {0, 4}, done.stderr
    assert inferload_here("report", "c.json", cwd=folder).stdout == done.stdout
    study = il.load_study(folder / "c.json")
    # of runs that were disturbed all the time the interval may reach as far as that
    ((_, judged),) = study.gates
    assert judged == {0: "kept", 4: "cannot tell"}[done.returncode]
    assert f"gate throughput -99%: {judged}" in done.stdout
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
    rare = inferload_here("compare", "a.json", "b.json", "--gate", "p99.99 +5%", cwd=folder)
    assert rare.returncode == 4
    assert "gate p99.99 +5%: cannot tell: p99.99 was not quoted" in " ".join(rare.stdout.split())
    same = inferload_here("compare", "a.json", "a.json", cwd=folder)
    assert "are one and the same run" in same.stderr
    # whichever was slower by more than its noise, or cannot be told
    by_figure = {one.figure: one for one in study.differences}
    p50, rate = by_figure["p50"], by_figure["throughput"]
    slower = p50.low > 1.00001 or rate.high < 0.99999
    kept = p50.high <= 1.00001 and rate.low >= 0.99999
    assert one_way.returncode == (1 if slower else 0 if kept else 4)


def git(*words: str, cwd: Path) -> None:
    settings = ["-c", "user.name=me", "-c", "user.email=me@example.org"]
    subprocess.run(["git", *settings, *words], cwd=cwd, check=True, capture_output=True)


def test_the_working_tree_stands_for_itself_and_one_commit_is_no_pair(folder: Path, monkeypatch):
    from inferload.studies.child.revisions import checked_out, commit_of

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


def test_what_a_killed_process_has_left_of_a_revision_is_removed_by_the_next(
    folder: Path, monkeypatch
):
    from inferload.studies.child.revisions import checked_out

    git("init", "-q", cwd=folder)
    git("add", ".", cwd=folder)
    git("commit", "-q", "-m", "first", cwd=folder)
    monkeypatch.chdir(folder)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left = Path(tempfile.gettempdir()) / f"inferload-tree-{ended.pid}-left"
    git("worktree", "add", "-q", "--detach", str(left / "tree"), cwd=folder)
    with checked_out("HEAD") as tree:
        assert not left.exists()
        with checked_out("HEAD"):  # one that is used stays
            assert tree.folder.exists()


def test_a_shallow_clone_is_told_how_to_get_other_revisions(folder: Path, tmp_path, monkeypatch):
    from inferload.studies.child.revisions import commit_of

    git("init", "-q", cwd=folder)
    for what in ("first", "second"):
        git("commit", "-q", "--allow-empty", "-m", what, cwd=folder)
    git("clone", "-q", "--depth", "1", f"file://{folder}", "shallow", cwd=tmp_path)
    monkeypatch.chdir(tmp_path / "shallow")
    with pytest.raises(il.PlanError, match="git fetch --unshallow"):
        commit_of("HEAD~1")
    monkeypatch.chdir("/")
    with pytest.raises(il.PlanError, match="start it inside of one"):
        commit_of("HEAD")


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
