from __future__ import annotations

import fcntl
import gc
import multiprocessing.util
import os
import random
import signal
import zlib
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

import numpy as np
import pytest
import torch

import inferload as il
from inferload.targets.forms import as_form
from inferload.targets.inputs.given import as_call_inputs
from support import models
from support.forks import Forked, Forks

if TYPE_CHECKING:
    from collections.abc import Iterator

# Doctests are looked for in every file. To import the first gives the process an accelerator; the
# others are programs of servers.
collect_ignore = ["support/simulated_models.py", "support/servers"]
# A shell that starts the tests in the background has them ignore Ctrl-C, which some of them send.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # so does nohup with hang-ups
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
SIZED = [torch.randn(batch, 8) for batch in (1, 2, 3)]


# What takes long by these marks comes first: two workers then end at about the same time.
LONGEST_FIRST = ("slow", "cluster", "multiprocess")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put long tests first and those on the simulated device last.

    From then on a process has an accelerator. Workers are given tests in this order, so that each
    of them comes to the simulated device when nothing else is left. Those that share a fixture of
    their module go to one worker, which makes it once.
    """
    items.sort(key=_turn)
    for item in items:
        made = item._fixtureinfo.name2fixturedefs
        if any(found[-1].scope == "module" for found in made.values()):
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


def pytest_collection_finish() -> None:
    """Spare each full collection of garbage the walk over all tests."""
    import hypothesis  # noqa: F401 - when imported, it looks for what is not found once frozen

    gc.collect()
    gc.freeze()


def _turn(item: pytest.Item) -> int:
    if "sim" in item.fixturenames:
        return len(LONGEST_FIRST) + 1
    marks = {mark.name for mark in item.iter_markers()}
    return next((n for n, name in enumerate(LONGEST_FIRST) if name in marks), len(LONGEST_FIRST))


@pytest.fixture(scope="session", autouse=True)
def forks() -> Iterator[Forks]:
    """Have processes that are spawned find torch imported; see support/forks.py."""
    found = Forked.forks = Forks()
    with mock.patch.object(multiprocessing.util, "spawnv_passfds", found):
        yield found
    found.end()


@pytest.fixture(autouse=True)
def draws(request: pytest.FixtureRequest) -> None:
    """Have each test draw the same numbers in every run: none fails by chance."""
    seed = zlib.crc32(request.node.nodeid.encode())
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - this is the generator that models use
    torch.manual_seed(seed)


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An AOTInductor package of the small model, batch dimension dynamic; takes half a minute."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # that of all workers: who comes second waits for the first one
    path = folder / "mlp.pt2"
    with (folder / "mlp.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            program = torch.export.export(
                models.mlp(), (SIZED[1],), dynamic_shapes=({0: torch.export.Dim.AUTO},)
            )
            made = torch._inductor.aoti_compile_and_package(
                program, package_path=str(folder / "made.pt2")
            )
            Path(made).rename(path)
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


@pytest.fixture
def sim():
    """The simulated accelerator, put back as it was; it stays in the process."""
    from support import simulated_models

    found = simulated_models.SIM
    yield found
    found.clear_error()
    found.set_exclusive(False)
    found.set_capacity(0)
    found.set_copy_rate(0)
    for device in range(2):
        torch.sim.synchronize(device)


def result_of(**changes: object) -> il.RunResult:
    """A small real result."""
    options: dict[str, object] = {"calls": 40, "warmup_calls": 2} | changes
    with torch.no_grad():
        return il.run(models.NoOp().eval(), [torch.zeros(1), torch.zeros(2)], **options)
