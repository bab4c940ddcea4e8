"""The command line as a whole process: what it prints, and how it ends."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import inferload as il
from support.forks import OF_MINILM, Forked, Forks
from support.gates import PATIENCE_S, until
from support.model_files import MODEL
from support.program import PROGRAM, inferload, inferload_here, run


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(MODEL)
    return path


def test_a_run_prints_a_report_and_saves_what_report_draws_again(model: Path, tmp_path: Path):
    path = tmp_path / "r.json"
    done = inferload("run", model, "--callers", 2, "--calls", 400, "--json", path)
    assert done.returncode == 0, done.stderr
    assert "Model (eager)" in done.stdout
    assert "calls/s" in done.stdout
    assert "inference mode" in done.stdout
    assert "warming up" in done.stderr
    made = {one.name for one in tmp_path.iterdir()} - {"__pycache__"}
    assert made == {"mine.py", "r.calls", "r.json"}
    assert il.load_result(path).summary.completed_calls == 400
    again = inferload("report", path)
    assert again.returncode == 0
    assert again.stdout == done.stdout


def test_what_a_model_says_moves_no_cursor(tmp_path: Path):
    path = tmp_path / "escapes.py"
    path.write_text(
        "import torch\n"
        "class M(torch.nn.Module):\n"
        "    def forward(self, x):\n"
        "        raise ValueError('\\x1b]0;title\\x07\\x1b[2Jno')\n"
        "model, inputs = M(), [torch.ones(1)]\n"
    )
    done = inferload_here("run", path, "--calls", 10, "--on-error", "record", "--warmup", 0)
    assert "]0;title" in done.stdout + done.stderr
    assert "\x1b" not in done.stdout + done.stderr


def test_quiet_shows_the_report_and_no_progress(model: Path):
    done = inferload("run", model, "--calls", 10, "--quiet")
    assert done.stderr == ""
    assert "calls/s" in done.stdout


@pytest.mark.native
def test_a_form_and_inputs_are_chosen_by_flags(model: Path):
    done = inferload_here(
        "run", model, "--form", "script", "--inputs", "8x3:float32", "--calls", 50
    )
    assert "Model (script)" in done.stdout
    assert "native" in done.stdout
    assert "items/s" in done.stdout


def test_an_open_loop_by_words_is_drawn_again_from_its_file(model: Path, tmp_path: Path):
    times = tmp_path / "times.csv"
    times.write_text("at\n" + "\n".join(str(n / 200) for n in range(100)))
    path = tmp_path / "r.json"
    words = ("--callers", 2, "--arrivals", f"replay:{times}:2x", "--verify", "--json", path)
    done = inferload_here("run", model, "--quiet", *words)
    assert done.returncode == 0, done.stderr
    assert "open loop, replay 400/s, 2 callers" in done.stdout
    assert "lateness" in done.stdout
    assert "verified    yes:" in done.stdout
    assert inferload_here("report", path).stdout == done.stdout
    assert len(il.load_result(path).log) == 100


def test_outputs_that_differ_under_load_end_with_exit_code_1(tmp_path: Path):
    (tmp_path / "counts.py").write_text(
        "import torch\n"
        "class Counts(torch.nn.Module):\n"
        "    calls = 0\n"
        "    def forward(self, x):\n"
        "        Counts.calls += 1\n"
        "        return x + (Counts.calls > 20)\n"
        "model = Counts\n"
    )
    words = ("--inputs", "4:float32", "--calls", 100, "--verify", "--quiet")
    done = inferload_here("run", tmp_path / "counts.py", *words)
    assert done.returncode == 1
    assert "differ from those computed alone" in done.stdout
    assert "Traceback" not in done.stderr


def test_a_model_that_cannot_be_verified_is_no_success(tmp_path: Path):
    (tmp_path / "dice.py").write_text("import torch\nmodel = lambda: lambda x: x + torch.rand(4)\n")
    words = ("--inputs", "4:float32", "--calls", 50, "--verify", "--quiet")
    done = inferload_here("run", tmp_path / "dice.py", *words)
    assert done.returncode == 1
    assert "computed twice alone its outputs differ" in done.stdout


def test_a_call_that_never_returns_ends_with_the_drain_limit_of_an_open_loop(tmp_path: Path):
    (tmp_path / "hangs.py").write_text(
        "import threading, torch\n"
        "import inferload as il\n"
        "def model(x):\n"
        "    threading.Event().wait()\n"
        "load = il.OpenLoop.constant(20, drain_s=0.5)\n"
        "with torch.inference_mode():\n"
        "    print(il.run(model, [torch.zeros(1)], load=load, calls=5, warmup_calls=0))\n"
    )
    done = run([sys.executable, str(tmp_path / "hangs.py")])
    assert done.returncode == 0, done.stderr
    assert "5 due calls had not been made" in " ".join(done.stdout.split())
    assert "[calls-given-up]" in done.stdout


@pytest.mark.parametrize(
    ("how", "stage"), [("--isolate", "starting a process"), ("--no-isolate", "importing torch")]
)
def test_an_interrupt_while_torch_is_imported_is_said(how, stage, model: Path):
    words = [*PROGRAM, "run", str(model), how]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr.readline() == f"{stage}\n"
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        assert process.wait() == 130
    assert rest.splitlines()[-1] == "error: interrupted: there is no result"


def test_a_run_by_precision_says_what_it_is_after(model: Path):
    words = ("--precision", "40%", "--quantile", "p90", "--time-limit", "20s", "--rate", 800)
    done = inferload_here("run", model, "--quiet", *words)
    assert done.returncode == 0, done.stderr
    assert "until p90 is within 40% (at most 20 s)" in " ".join(done.stdout.split())


def test_ctrl_c_saves_the_partial_result_and_exits_with_130(model: Path, tmp_path: Path):
    path = tmp_path / "r.json"
    words = [*PROGRAM, "run", f"{model}:slow", "--duration", "60s"]
    with Forked(
        [*words, "--json", path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        while "warming up" not in process.stderr.readline():
            pass
        until((model.parent / "mine.py.called").exists)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert "interrupted" in out
    assert "SIGINT ended the run" in err
    assert il.load_result(path).status == "interrupted"
    assert il.load_result(path).summary.completed_calls > 0


def test_ctrl_c_before_anything_was_measured_exits_with_130(tmp_path: Path):
    path = tmp_path / "mine.py"
    path.write_text("import time\nprint('loading', flush=True)\ntime.sleep(60)\n")
    words = [*PROGRAM, "run", str(path)]
    with Forked(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "loading\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert "Traceback" not in err


def test_a_result_that_cannot_be_saved_is_kept_elsewhere(model: Path, tmp_path: Path):
    # a folder takes the place of the call log while the run goes on
    folder = tmp_path / "out"
    folder.mkdir()
    code = model.read_text() + f"\nimport os\nos.makedirs({str(folder / 'r.calls' / 'x')!r})\n"
    model.write_text(code)
    done = inferload_here("run", model, "--calls", 10, "--json", folder / "r.json")
    assert done.returncode == 1
    assert "could not be written" in done.stderr
    assert "calls/s" in done.stdout
    kept = Path(done.stderr.split("is kept in ")[1].split("\n")[0])
    assert il.load_result(kept).summary.completed_calls == 10


def test_doctor_says_whether_native_callers_are_available():
    done = inferload("doctor")
    assert done.returncode == 0
    assert "native callers: available" in done.stdout or "not available" in done.stdout


def test_doctor_says_why_native_callers_are_not_available(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setenv("INFERLOAD_CACHE_DIR", str(tmp_path))
    done = inferload("doctor")
    assert "no-such-compiler is not on the PATH" in done.stdout
    assert "not available" in done.stdout
    assert "install g++" in done.stdout


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["--version"]])
def test_help_and_version_are_there(words: list[str]):
    done = inferload(*words)
    assert done.returncode == 0
    assert "inferload" in done.stdout


@pytest.mark.slow
def test_minilm_runs_on_real_sentences_as_an_exported_program(forks: Forks):
    forks.import_before(*OF_MINILM)
    # in other forms it is what the tutorial does, whose commands are tested
    form = "export"
    examples = Path(__file__).parents[2] / "examples"
    words = ["run", examples / "minilm.py", "--form", form, "--calls", 16, "--warmup", 2]
    done = inferload(*words, "--callers", 2, "--threads-per-call", 1)
    assert done.returncode == 0, done.stderr
    assert f"SentenceEmbedder ({form})" in done.stdout
    assert "input_ids=1x" in done.stdout
