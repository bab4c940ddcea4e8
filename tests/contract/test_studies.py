"""Sweeps and searches on real models: in this process, and from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import inferload as il
from inferload.callers.python.executor import ThreadsExecutor
from support.model_files import FILE, written_to
from support.program import inferload_here
from support.virtual_time import VirtualClock


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return written_to(tmp_path)


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
        (("sweep", "m.py", "--rates", "0,1"), "--rates has 0: each must be more than 0"),
        (("sweep", "m.py", "--rates", "5,nan"), "--rates has nan: each must be more than 0"),
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
