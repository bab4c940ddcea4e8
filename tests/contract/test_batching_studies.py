"""Studies whose runs call requests in batches."""

from __future__ import annotations

import re

import pytest
import torch

import inferload as il
from inferload.callers.python.executor import ThreadsExecutor
from inferload.errors import PlanError
from support import models
from support.model_files import written_to
from support.program import inferload_here
from support.virtual_time import VirtualClock

MS = 1_000_000


def test_a_sweep_over_sizes_and_delays():
    study = il.sweep(
        models.mlp(),
        [torch.randn(1, 8)],
        load=il.OpenLoop.constant(2000, callers=2),
        max_batches=[1, 8],
        max_delays_s=[0, 0.002],
        calls=60,
        blocks=1,
    )
    assert study.axes == {"max_delay_s": (0, 0.002), "max_batch": (1, 8)}
    assert {(one.spec.batching.max_batch, one.spec.batching.max_delay_s) for one in study.runs} == {
        (1, 0), (8, 0), (1, 0.002), (8, 0.002),
    }  # fmt: skip
    assert all(one.spec.callers == 2 for one in study.runs)
    text = str(study)
    assert "delay  up to  requests/s" in text
    assert "2 ms" in text


def test_what_a_sweep_does_not_vary_holds_for_all_of_its_batches():
    study = il.sweep(
        models.mlp(),
        [torch.randn(1, 8)],
        rates_per_s=500,
        max_batches=[2, 4],
        batching=il.Batching(max_batch=1, max_delay_s=0.001, sizes_allowed=(4,)),
        calls=20,
        blocks=1,
    )
    found = [one.spec.batching for one in study.runs]
    assert {one.max_batch for one in found} == {2, 4}
    assert {one.max_delay_s for one in found} == {0.001}
    assert {one.sizes_allowed for one in found} == {(4,)}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"max_batches": [1, 2]}, "callers in a closed loop have one call each"),
        ({"max_delays_s": [0, 1], "rates_per_s": 9}, "a delay of 0 s is of batches: say how many"),
        ({"max_batches": [0, 1], "rates_per_s": 9}, "max_batch is 0"),
    ],
)
def test_batches_that_cannot_be_are_refused_before_anything_is_run(given: dict, words: str):
    with pytest.raises(PlanError, match=words):
        il.sweep(models.mlp(), [torch.randn(1, 8)], **given)


def test_the_highest_rate_of_a_server_that_batches():
    """One of 10 ms a batch, whatever its size up to 4: 400/s, where single calls make 100."""
    clock = VirtualClock()

    def server(x: torch.Tensor) -> torch.Tensor:
        clock.sleep(10 * MS)
        return x

    found = il.find_max_rate(
        server,
        [torch.zeros(1, 2)],
        "p90<=25ms",
        load=il.OpenLoop.constant(1.0),
        batching=il.Batching(max_batch=4),
        executor=ThreadsExecutor(clock),
        warmup_calls=0,
        resolution=0.05,
        time_limit_s=600,
    )
    assert found.closed_loop_per_s == pytest.approx(400, rel=0.01)
    assert found.confirmed
    assert 350 < found.rate_per_s <= 402
    assert "requests/s keep p90" in str(found)


def test_of_several_batches_the_best_is_found(tmp_path):
    """8 ms and 1 ms a request: the more in a batch the better; what cannot win takes two probes."""
    clock = VirtualClock()

    def server(x: torch.Tensor) -> torch.Tensor:
        clock.sleep((8 + len(x)) * MS)
        return x

    found = il.find_max_rate(
        server,
        [torch.zeros(1, 2)],
        "p90<=60ms",
        load=il.OpenLoop.constant(1.0),
        max_batches=[4, 16, 1],
        max_delays_s=[0.0],
        executor=ThreadsExecutor(clock),
        warmup_calls=0,
        resolution=0.1,
        time_limit_s=600,
        save=tmp_path / "s.json",
    )
    assert found.settings.max_batch == 16
    assert found.confirmed
    assert 16 / 0.024 * 0.8 < found.rate_per_s <= 16 / 0.024 * 1.01
    four, one = found.rivals
    assert (four.settings.max_batch, one.settings.max_batch) == (4, 1)
    assert four.rate_per_s == pytest.approx(4 / 0.012, rel=0.2)
    assert one.rate_per_s is None
    assert len(one.probes) <= 2
    assert il.load_study(tmp_path / "s.json") == found
    text = str(found)
    assert "requests/s with up to 16 a batch" in text
    assert "< 111" in text  # what single calls make
    assert "cannot be the best" in text


def test_what_fails_is_told_beside_the_best():
    """And a batch of one, which nobody waits for, is searched for once."""
    clock = VirtualClock()

    def server(x: torch.Tensor) -> torch.Tensor:
        clock.sleep(10 * MS)
        if len(x) > 8:
            raise ValueError("eight are enough")
        return x

    found = il.find_max_rate(
        server,
        [torch.zeros(1, 2)],
        "p90<=60ms",
        load=il.OpenLoop.constant(1.0),
        max_batches=[4, 16, 1],
        max_delays_s=[0.0, 0.005],
        executor=ThreadsExecutor(clock),
        warmup_calls=0,
        resolution=0.1,
        time_limit_s=600,
    )
    assert found.settings.max_batch == 4
    others = [
        (one.settings.max_batch, one.settings.max_delay_s, one.status) for one in found.rivals
    ]
    delay_s = {0.0, 0.005} - {found.settings.max_delay_s}
    assert others == [
        (4, delay_s.pop(), "complete"),
        (16, 0.0, "failed"),
        (16, 0.005, "failed"),
        (1, 0.0, "complete"),
    ]
    text = str(found)
    assert re.search(r"up to 16 a batch, delay 5 ms +failed", text)
    assert "eight are enough" in text


def test_a_converted_model_takes_batches_of_all_sizes_of_a_study():
    """Also where the first ones have one request each."""
    found = il.sweep(
        torch.nn.Linear(4, 2).eval(),
        [torch.randn(1, 4) for _ in range(3)],
        forms=["export"],
        max_batches=[1, 4],
        rates_per_s=[2000],
        max_delays_s=[0.004],
        calls=60,
        blocks=1,
    )
    assert [one.failure for one in found.runs] == [None, None]
    assert sorted(one.summary.batches.mean_size > 1 for one in found.runs) == [False, True]


def test_tuning_tries_batches_of_clients():
    clock = VirtualClock()

    def server(x: torch.Tensor) -> torch.Tensor:
        clock.sleep(10 * MS)
        return x

    found = il.tune(
        server,
        [torch.zeros(1, 2)],
        callers=1,
        threads_per_call=1,
        processes=1,
        forms=[None],
        max_batches=[1, 8],
        max_delays_s=[0, 0.005],
        load=il.ClosedLoop(clients=16),
        executor=ThreadsExecutor(clock),
        duration_s=1,
    )
    assert found.best.max_batch == 8
    assert "il.Batching(max_batch=8, max_delay_s=" in found.code
    assert "il.ClosedLoop(callers=1, clients=16)" in found.code
    text = str(found)
    assert re.search(r"up to +delay +requests/s +p50", text)
    assert "…" not in text
    assert "--batch-sizes 1,4,16 tries others" not in text


def test_the_command_line_sweeps_them(tmp_path):
    folder = written_to(tmp_path)
    done = inferload_here(
        "sweep", "m.py", "--rates", "500", "--max-batches", "1,4", "--max-delays",
        "0,1ms", "--calls", "30", "--blocks", "1", "--quiet", "--html", "s.html", cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "delay  up to" in done.stdout
    assert "requests in" not in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["search", "--limit", "p99<=5ms", "--max-batch", "4"],
         "--max-batch 4 and --max-batches are both given"),
        (["sweep", "--rates", "50", "--max-delay", "1ms", "--max-delays", "0,1ms"],
         "--max-delay 1ms and --max-delays are both given"),
        (["tune", "--batch-pad", "0"], "give clients (--clients 256)"),
    ],
)  # fmt: skip
def test_what_is_said_twice_or_too_little_of_batches_is_told(words, said, tmp_path):
    verb, *more = words
    done = inferload_here(verb, "m.py", *more, "--max-batches", "1,8", cwd=written_to(tmp_path))
    assert done.returncode == 2
    assert said in " ".join(done.stderr.split())


def test_of_one_rate_that_was_due_p99_is_compared_and_not_the_throughput():
    clock = VirtualClock()

    def server(x: torch.Tensor) -> torch.Tensor:
        clock.sleep(10 * MS)
        return x

    study = il.sweep(
        server,
        [torch.zeros(1, 2)],
        load=il.OpenLoop.constant(80.0),
        max_batches=[1, 8],
        max_delays_s=[0.05],
        executor=ThreadsExecutor(clock),
        warmup_calls=0,
        calls=3000,
        blocks=1,
    )
    text = " ".join(str(study).split())
    assert "throughput is what was due, 80.0/s; the lowest p99 that can be quoted is 10.0" in text
    assert "with up to 1 a batch" in text
    assert "most:" not in text
