from __future__ import annotations

import signal
from pathlib import Path

import pytest
import torch

import inferload as il
import models
from inferload.targets.forms import as_form
from inferload.targets.inputs.given import as_call_inputs

# Doctests are looked for in every file: to import this one gives the process an accelerator.
collect_ignore = ["simulated_models.py"]
# A shell that starts the tests in the background has them ignore Ctrl-C, which some of them send.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # so does nohup with hang-ups
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
SIZED = [torch.randn(batch, 8) for batch in (1, 2, 3)]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put tests on the simulated device last: from then on this process has an accelerator."""
    items.sort(key=lambda item: item.path.name in {"test_simulated_device.py", "test_devices.py"})


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An AOTInductor package of the small model, batch dimension dynamic; takes half a minute."""
    path = tmp_path_factory.mktemp("aoti") / "mlp.pt2"
    program = torch.export.export(
        models.mlp(), (SIZED[1],), dynamic_shapes=({0: torch.export.Dim.AUTO},)
    )
    torch._inductor.aoti_compile_and_package(program, package_path=str(path))
    return path


@pytest.fixture
def any_target(request: pytest.FixtureRequest) -> object:
    """The small model in the form and for the executor that the test asks for."""
    form = request.param
    if form == "aoti":
        return request.getfixturevalue("package")
    if form == "callable":
        model = models.mlp()
        return model.forward  # a bound method: any callable will do
    return as_form(models.mlp(), form, as_call_inputs(SIZED))


def result_of(**changes: object) -> il.RunResult:
    """A small real result."""
    options: dict[str, object] = {"calls": 40, "warmup_calls": 2} | changes
    with torch.no_grad():
        return il.run(models.NoOp().eval(), [torch.zeros(1), torch.zeros(2)], **options)
