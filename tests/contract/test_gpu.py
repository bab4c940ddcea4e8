"""What only a real GPU can show; the rest is on the simulated device."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import inferload as il
from inferload.targets.forms import as_form

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.native,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
EXECUTORS = ("threads", "native")
MODEL = """
import torch
def model():
    torch.manual_seed(0)
    return torch.nn.Sequential(*[torch.nn.Linear(256, 256) for _ in range(4)])
def inputs():
    return [torch.randn(n, 256) for n in (1, 2, 3)]
class Embedding(torch.nn.Embedding):
    def forward(self, index):
        return super().forward(index)
def lookup():
    return Embedding(10, 4)
"""


def linears() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(*[torch.nn.Linear(256, 256) for _ in range(4)]).eval().cuda()


def inputs() -> list[torch.Tensor]:
    return [torch.randn(batch, 256, device="cuda") for batch in (1, 2, 3)]


def run(model: object, given: list, **options) -> il.RunResult:
    asked = {"load": il.ClosedLoop(callers=4), "calls": 400} | options
    with torch.no_grad():
        return il.run(model, given, **asked)


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("transfers", [False, True])
def test_graphs_compute_what_the_model_does_for_every_caller_and_input(
    executor: str, transfers: bool
):
    graph = as_form(linears(), "cudagraph", [])
    result = run(graph, inputs(), executor=executor, transfers=transfers, verify=True)
    assert result.verification.compared > 50
    assert not result.verification.differing
    assert result.spec.form == "cudagraph"
    # each caller has a graph of its own for each shape
    graphs = {id(one.graph) for own in graph._graphs for one in own}
    assert len(graphs) == 4 * 3


def test_inputs_of_one_signature_share_a_caller_s_graph():
    graph = as_form(linears(), "cudagraph", [])
    result = run(graph, [torch.randn(2, 256, device="cuda") for _ in range(5)], verify=True)
    assert not result.verification.differing
    assert len({id(one.graph) for own in graph._graphs for one in own}) == 4


def test_a_model_that_waits_for_the_device_is_no_graph():
    class Waits(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if float(x.sum()) > 0 else -x

    with pytest.raises(il.PlanError, match="cannot be captured as a CUDA graph"):
        run(as_form(Waits(), "cudagraph", []), inputs())
    assert run(linears(), inputs()).summary.completed_calls == 400  # and the device still works


@pytest.fixture(scope="module")
def package() -> object:
    """Compiled once: that takes most of a minute."""
    return as_form(linears(), "aoti", [il.CallInput((x,)) for x in inputs()])


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("completion", ["event", "sync"])
def test_packages_and_scripts_run_on_the_callers_streams(
    executor: str, completion: str, package: object
):
    for model in (package, torch.jit.script(linears())):
        result = run(model, inputs(), executor=executor, completion=completion, verify=True)
        assert not result.verification.differing
        assert result.spec.devices == ("cuda:0",)
        stages = result.log.stages
        timed = stages["device_ns"] != -1
        assert timed.all() if executor == "native" else timed.sum() > 5
        assert (stages["device_ns"][timed] > 0).all()
        assert np.array_equal(stages["issue_ns"] + result.log.wait_ns, result.log.service_ns)


def test_service_is_the_device_s_time_where_calls_are_long():
    model = torch.nn.Sequential(*[torch.nn.Linear(4096, 4096) for _ in range(8)]).eval().cuda()
    x = torch.randn(4096, 4096, device="cuda")
    result = run(model, [x], load=il.ClosedLoop(), calls=20)
    device_ns = result.log.stages["device_ns"]
    share = np.median(result.log.service_ns) / np.median(device_ns[device_ns >= 0])
    assert share == pytest.approx(1, abs=0.05)
    assert torch.cuda.current_stream().query()
    assert "bound by the device" in " ".join(str(result).split())


@pytest.mark.parametrize("completion", ["event", "sync"])
def test_python_callers_take_the_extension_and_the_harness_is_measured_on_the_device(
    completion: str,
):
    result = run(linears(), inputs(), completion=completion, transfers=True, verify=True)
    assert "native-unavailable" not in [one.code for one in result.warnings]
    assert not result.verification.differing
    assert 0 < result.set_up.floor_by_hand_ms < 10
    assert 0 < result.set_up.floor_ms < 10
    assert result.log.service_ns.min() > 10_000
    stages, service_ns = result.log.stages, result.log.service_ns
    timed = stages["device_ns"] != -1
    parts = sum(stages[name][timed] for name in ("copy_in_ns", "device_ns", "copy_out_ns"))
    assert (parts <= service_ns[timed] + 1000).all()  # events count in steps of 0.5 us


def test_an_error_of_the_device_is_raised_as_torch_s_own_bindings_raise_it(tmp_path: Path):
    script = """
import torch, inferload as il
class Embedding(torch.nn.Embedding):
    def forward(self, index):
        return super().forward(index)
bad = torch.full((4,), 99, device="cuda")
try:
    with torch.no_grad():
        il.run(Embedding(10, 4).cuda(), [bad], calls=4, warmup_calls=0)
except il.CallError as error:
    print(type(error.__cause__).__name__, "|", str(error.__cause__).splitlines()[0])
try:
    torch.cuda.synchronize()
except RuntimeError as error:
    print(type(error).__name__, "|", str(error).splitlines()[0])
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True, text=True, cwd=tmp_path, timeout=300, check=False,
    )  # fmt: skip
    ours, torchs = done.stdout.strip().splitlines()
    assert ours == torchs


# the compiler's hint that linear layers could compute with fewer digits
@pytest.mark.filterwarnings("ignore:TensorFloat32")
def test_compile_modes_that_replay_graphs_are_refused_and_others_run():
    for mode in ("reduce-overhead", "max-autotune"):
        with pytest.raises(il.PlanError, match="--form cudagraph has a graph for each caller"):
            run(torch.compile(linears(), mode=mode), inputs())
    assert run(torch.compile(linears()), inputs()).summary.completed_calls == 400


def test_telemetry_is_matched_to_the_device_that_calls_were_on():
    pytest.importorskip("pynvml")
    result = run(torch.jit.script(linears()), inputs(), calls=None, duration_s=1.5)
    (device,) = result.devices
    assert device.name == torch.cuda.get_device_name()
    assert 0 < device.power_w < 2000
    assert device.energy_j == pytest.approx(device.power_w * result.summary.duration_s, rel=0.5)
    assert device.energy_per_call_j == pytest.approx(
        device.energy_j / result.summary.completed_calls
    )
    assert 0 < device.sm_clock_mhz <= device.max_sm_clock_mhz
    assert device.peak_allocated_bytes <= device.peak_reserved_bytes <= device.memory_bytes
    quiet = run(torch.jit.script(linears()), inputs(), telemetry=False)
    assert quiet.devices[0].power_w is None


@pytest.mark.multiprocess
def test_processes_share_a_model_that_is_on_a_device():
    result = run(linears(), inputs(), processes=2, load=il.ClosedLoop(callers=2))
    assert result.devices[0].processes == (0, 1)
    assert result.devices[0].completed_calls == 400


@pytest.mark.parametrize("executor", EXECUTORS)
def test_no_memory_is_said_with_what_was_asked_for_and_free(executor: str):
    class Hog(torch.nn.Module):
        def forward(self, x: torch.Tensor, size: int) -> torch.Tensor:
            return torch.empty(size, dtype=torch.uint8, device=x.device)[:4] + x[:4]

    model = torch.jit.script(Hog()) if executor == "native" else Hog()
    x = torch.ones(4, dtype=torch.uint8, device="cuda")
    asked = {"executor": executor, "calls": 40, "warmup_calls": 0}
    result = run(model, [(x, 16), (x, 1 << 42)], on_error="record", **asked)
    assert 0 < result.summary.failed_calls < 40
    (warning,) = [one for one in result.warnings if one.code == "failed-calls"]
    assert "CUDA out of memory: 4096.00 GiB were asked for, and GPU 0 has" in warning.message


def inferload(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "m.py").write_text(MODEL)
    return subprocess.run(
        [sys.executable, "-m", "inferload", "run", *arguments],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"COLUMNS": "300"},
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize("form", ["eager", "compile", "script", "export", "aoti", "cudagraph"])
def test_every_form_runs_on_the_device_that_is_asked_for(tmp_path: Path, form: str):
    done = inferload(
        tmp_path, "m.py", "--device", "cuda", "--form", form, "--callers", "4", "--calls", "300",
        "--transfers", "--verify", "--json", "r.json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = il.load_result(tmp_path / "r.json")
    assert result.spec.devices == ("cuda:0",)
    assert not result.verification.differing
    assert result.summary.stages.copy_in_ms is not None


def test_a_device_side_assert_is_told_with_the_calls_that_it_may_have_been(tmp_path: Path):
    torch.save(
        [torch.zeros(4, dtype=torch.long)] * 9 + [torch.full((4,), 99)], tmp_path / "index.pt"
    )
    done = inferload(
        tmp_path, "m.py:lookup", "--device", "cuda", "--inputs", "index.pt", "--callers", "4",
        "--calls", "400", "--warmup", "0", "--json", "r.json",
    )  # fmt: skip
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "CUDA error: device-side assert triggered; " in last
    assert "on input 9" in last
    assert "The device is lost to this process" in last
    assert il.load_result(tmp_path / "r.json").status == "failed"


def test_a_second_device_that_is_not_there_is_refused_by_name(tmp_path: Path):
    count = torch.cuda.device_count()
    done = inferload(tmp_path, "m.py", "--device", f"cuda:0,cuda:{count}", "--calls", "10")
    assert done.returncode == 2
    assert f"there is no device cuda:{count}: this machine has cuda:0" in done.stderr
