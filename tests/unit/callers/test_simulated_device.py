"""The simulated accelerator behaves as a real one would where other tests lean on it."""

from __future__ import annotations

import copy
import threading

import pytest
import torch

from support import simulated_device

pytestmark = pytest.mark.native

MS = 1_000_000  # ns
MIB = 1 << 20


@pytest.fixture
def sim():
    """The simulation; its time passes only where the host waits, so that figures are exact."""
    extension = simulated_device.load()
    extension.hold_clock(True)
    yield extension
    extension.hold_clock(False)
    extension.clear_error()
    extension.set_exclusive(False)
    extension.set_copy_rate(0)
    extension.set_capacity(0)
    for device in range(torch.accelerator.device_count()):
        torch.accelerator.synchronize(device)


@pytest.fixture
def x(sim):
    return torch.ones(2, 8).to("sim:0")


def event() -> torch.Event:
    return torch.Event(device="sim:0", enable_timing=True)


def time_between_the_ends_of_work_on_two_streams(x: torch.Tensor) -> float:
    """In ms; both begin on the device, not when the host comes to it."""
    torch.ops.sim.work(x, 30 * MS)
    start = torch.accelerator.current_stream().record_event()
    ends = []
    for stream in (torch.Stream("sim:0"), torch.Stream("sim:0")):
        stream.wait_event(start)
        with torch.sim.stream(stream):
            torch.ops.sim.work(x, 20 * MS)
        ends.append(stream.record_event(event()))
    torch.accelerator.synchronize()
    return ends[0].elapsed_time(ends[1])


def test_work_goes_on_after_the_call_until_something_waits_for_it(x):
    for wait in (
        torch.accelerator.synchronize,
        torch.accelerator.current_stream().synchronize,
        lambda: torch.accelerator.current_stream().record_event().synchronize(),
        x.cpu,
        x[0, 0].item,
        lambda: torch.equal(x, x),
    ):
        torch.ops.sim.work(x, 20 * MS)
        end = torch.accelerator.current_stream().record_event()
        assert not end.query()
        wait()
        assert end.query()


def test_kernels_and_copies_that_do_not_block_wait_for_nothing(x):
    torch.ops.sim.work(x, 50 * MS)
    torch.nn.functional.linear(x, x).relu().clone().to("cpu", non_blocking=True)
    torch.ones(8).pin_memory().to("sim:0", non_blocking=True)
    assert not torch.accelerator.current_stream().query()


def test_work_on_two_streams_overlaps(x):
    assert time_between_the_ends_of_work_on_two_streams(x) == pytest.approx(0)


def test_work_on_two_exclusive_streams_does_not_overlap(sim, x):
    sim.set_exclusive(True)
    assert time_between_the_ends_of_work_on_two_streams(x) == pytest.approx(20)


def test_the_time_between_two_events_is_that_of_the_work_between_them(x):
    start, end = event(), event()
    torch.ops.sim.work(x, 20 * MS)
    start.record()
    torch.ops.sim.work(x, 30 * MS)
    end.record()
    end.synchronize()
    assert start.elapsed_time(end) == pytest.approx(30)


def test_a_copy_occupies_its_stream_for_its_bytes_over_the_rate(sim, x):
    sim.set_copy_rate(x.nbytes / 0.02)
    start, end = event(), event()
    torch.ops.sim.work(x, 20 * MS)
    start.record()
    x.to("cpu", non_blocking=True)
    end.record()
    assert not end.query()
    end.synchronize()
    assert start.elapsed_time(end) == pytest.approx(20)
    x.cpu()
    assert torch.accelerator.current_stream().query()


def test_a_stream_that_waits_for_an_event_works_after_it(x):
    first, then = event(), event()
    torch.ops.sim.work(x, 30 * MS)
    first.record()
    stream = torch.Stream("sim:0")
    stream.wait_event(first)
    with torch.sim.stream(stream):
        torch.ops.sim.work(x, 10 * MS)
    then.record(stream)
    then.synchronize()
    assert first.elapsed_time(then) == pytest.approx(10)


def test_each_thread_has_a_current_stream_of_its_own(sim):
    stream = torch.Stream("sim:0")
    seen = []
    with torch.sim.stream(stream):
        other = threading.Thread(target=lambda: seen.append(torch.accelerator.current_stream()))
        other.start()
        other.join()
        assert torch.accelerator.current_stream() == stream
    assert seen == [torch.accelerator.current_stream()] != [stream]


def test_a_tensor_that_does_not_fit_raises_what_a_gpu_raises(sim):
    sim.set_capacity(64 * MIB)
    kept = torch.empty(54 * MIB - sim.allocated(0), dtype=torch.uint8, device="sim:0")
    with pytest.raises(torch.OutOfMemoryError) as raised:
        torch.empty(20 * MIB, dtype=torch.uint8, device="sim:0")
    assert str(raised.value) == (
        "sim out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 64.00 MiB "
        "of which 10.00 MiB is free."
    )
    del kept
    torch.empty(20 * MIB, dtype=torch.uint8, device="sim:0")


def test_memory_is_counted_per_device_with_its_peak(sim):
    torch.sim.reset_peak_memory_stats("sim:1")
    before = sim.allocated(1), sim.allocated(0)
    kept = torch.empty(MIB, dtype=torch.uint8, device="sim:1")
    del kept
    assert (sim.allocated(1), sim.allocated(0)) == before
    assert torch.sim.max_memory_allocated("sim:1") == before[0] + MIB
    assert torch.accelerator.max_memory_allocated(1) == before[0] + MIB
    sim.reset_peak(1)
    assert sim.peak(1) == before[0]


def test_a_failure_is_seen_by_the_next_synchronization_and_by_all_that_follows(sim, x):
    y = torch.ops.sim.fail(x)
    torch.ops.sim.work(y, 0)
    for seen_by in (
        torch.accelerator.current_stream().synchronize,
        torch.accelerator.current_stream().record_event().synchronize,
        torch.accelerator.synchronize,
        lambda: torch.ops.sim.work(y, 0),
        y.cpu,
    ):
        with pytest.raises(RuntimeError, match="SIM error: device-side assert triggered"):
            seen_by()
    torch.accelerator.synchronize(1)
    sim.clear_error()
    torch.accelerator.synchronize(0)


def test_work_that_ends_before_a_failure_is_not_blamed_for_it(x):
    torch.ops.sim.work(x, 1)
    before = torch.accelerator.current_stream().record_event()
    torch.ops.sim.work(x, 50 * MS)
    torch.ops.sim.fail(x)
    before.synchronize()
    with pytest.raises(RuntimeError, match="SIM error"):
        torch.accelerator.synchronize()


def test_memory_of_the_host_can_be_pinned(sim):
    pinned = torch.ones(4).pin_memory()
    assert pinned.is_pinned()
    assert torch.from_numpy(pinned.numpy()[1:]).is_pinned()
    assert not torch.ones(4).is_pinned()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("prepare", [torch.nn.Module.eval, torch.jit.script])
def test_a_model_computes_the_same_as_on_the_cpu(sim, prepare, mode):
    model = torch.nn.Sequential(torch.nn.Embedding(10, 8), torch.nn.Linear(8, 4), torch.nn.ReLU())
    moved = prepare(copy.deepcopy(model).eval().to("sim:1"))
    ids = torch.arange(6).view(2, 3)
    with mode():
        for _ in range(3):  # TorchScript optimizes what it has seen twice
            y = moved(ids.to("sim:1"))
            assert y.device == torch.device("sim:1")
            torch.testing.assert_close(y.cpu(), model(ids))


def test_inputs_left_on_the_host_are_refused(sim):
    with pytest.raises(RuntimeError, match="all tensors to be on the same device"):
        torch.nn.Linear(8, 8).to("sim")(torch.ones(1, 8))
