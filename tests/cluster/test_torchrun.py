"""The whole way: torchrun, ranks, their models, one result."""

from __future__ import annotations

import math
import os
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest

import inferload as il
from support.program import IMPATIENT
from support.rank_programs import MODEL, ended, rank_process, torchrun, until_calling, until_said

pytestmark = [pytest.mark.cluster, pytest.mark.multiprocess]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(MODEL)
    return path


def test_ranks_make_all_calls_together_and_the_first_reports_them(model, tmp_path):
    path = tmp_path / "r.json"
    words = ("--calls", 1003, "--warmup", 7, "--json", path)
    started = torchrun(f"{model}:counts", *words, TOLD=tmp_path)
    code, shown, said = ended(started)
    assert code == 0, said
    assert "Traceback" not in said
    result = il.load_result(path)
    assert result.status == "complete"
    assert (result.spec.ranks, result.spec.processes, result.spec.callers) == (4, 4, 4)
    assert result.spec.calls == len(result.log) == result.summary.completed_calls == 1003
    made = [int((tmp_path / str(rank)).read_text()) for rank in range(4)]
    # each rank's model counted its own calls: those of the log, and the warm-up
    assert [one.completed_calls + 7 for one in result.ranks] == made
    assert [int((result.log.process == rank).sum()) + 7 for rank in range(4)] == made
    assert sorted(one.completed_calls for one in result.ranks) == [250, 251, 251, 251]
    response = np.sort(result.log.response_ns)
    for q in (0.5, 0.9, 0.99):
        exact = response[int(np.ceil(round(q * 1003, 9))) - 1] / 1e6
        assert result.summary.response_ms.quantile(q) == exact
    assert shown.count("target Counts") == 1
    assert "4 ranks x 1 caller" in shown
    # all started together: none heard too late of the line
    assert {one.late_ms for one in result.ranks} == {0.0}
    assert {one.clock_error_ms for one in result.ranks} == {0.0}


def test_an_open_loop_is_dealt_to_all_processes_of_all_ranks(model, tmp_path):
    path = tmp_path / "r.json"
    words = ["--rate", 300, "--calls", 900, "--processes", 2, "--callers", 2, "--json", path]
    # started, not forked: what is dealt must not depend on the hash of a text
    code, shown, said = ended(torchrun(f"{model}:waits", *words, ranks=2, start=subprocess.Popen))
    assert code == 0, said
    result = il.load_result(path)
    assert (result.spec.ranks, result.spec.processes, result.spec.callers) == (2, 4, 8)
    due = il.OpenLoop.poisson(rate_per_s=300, seed=0).schedule(900, None).times_ns
    assert (result.log.scheduled_ns == due).all()
    assert set(result.log.process) == {0, 1, 2, 3}
    assert "2 ranks x 2 processes x 2 callers" in shown
    assert [one.process for one in result.processes] == [0, 1, 2, 3]


def test_each_process_of_all_ranks_batches_what_is_dealt_to_it(model, tmp_path):
    path = tmp_path / "r.json"
    words = ["--rate", 600, "--calls", 300, "--max-batch", 4, "--max-delay", "20ms", "--json", path]
    code, shown, said = ended(torchrun(f"{model}:waits", *words, ranks=2))
    assert code == 0, said
    log = il.load_result(path).log
    found = [np.flatnonzero(log.batches["batch"] == one) for one in np.unique(log.batches["batch"])]
    assert len(found) < 250
    for rows in found:
        assert len(rows) == log.batches["batch_size"][rows[0]] <= 4
        assert len(set(log.process[rows])) == len(set(log.started_ns[rows])) == 1
    assert set(log.process) == {0, 1}
    assert "each of 2 processes has its own" in " ".join(shown.split())


def test_clients_of_all_ranks_are_as_many_as_were_asked_for(model, tmp_path):
    path = tmp_path / "r.json"
    words = ["--clients", 7, "--calls", 301, "--max-batch", 2, "--json", path]
    code, _, said = ended(torchrun(f"{model}:waits", *words, ranks=2))
    assert code == 0, said
    result = il.load_result(path)
    log, summary = result.log, result.summary
    assert len(log) == 301
    # from when they were due, which lies before they began: callers are fewer than clients
    assert summary.response_ms.mean > 1.2 * summary.service_ms.mean
    assert math.isclose(summary.queue_ms.mean, log.queue_ns.mean() / 1e6, rel_tol=0.3)
    most = [
        int(((log.scheduled_ns <= at) & (log.finished_ns > at)).sum())
        for at in np.quantile(log.finished_ns, [0.3, 0.5, 0.7])
    ]
    assert all(1 <= one <= 7 for one in most)


def test_a_rank_that_is_late_is_waited_for_and_one_that_is_slow_is_named(model, tmp_path):
    path = tmp_path / "r.json"
    started = torchrun(
        f"{model}:waits", "--duration", "2s", "--json", path, ranks=3, LATE=1, SLOW=2
    )
    code, shown, said = ended(started)
    assert code == 0, said
    assert "waiting for rank 1 (" in said
    result = il.load_result(path)
    assert max(one.start_late_ms for one in result.ranks) < 3000  # by which one was late
    (straggler,) = [one for one in result.warnings if one.code == "straggler"]
    assert straggler.message.startswith("rank 2 (")
    assert "straggler" in shown


def test_a_rank_that_is_killed_is_said_to_be_lost_and_the_others_are_kept(model, tmp_path):
    path = tmp_path / "r.json"
    started = torchrun(f"{model}:waits", "--duration", "60s", "--json", path)
    rank_process(started, until_calling(model, 4)[2]).kill()
    code, shown, said = ended(started)
    assert code != 0
    assert "was not heard of for 10 s" in said
    assert "exitcode : 3" in said  # of the first rank, as torchrun tells it
    result = il.load_result(path)
    assert result.status == "rank lost"
    assert [one.lost is None for one in result.ranks] == [True, True, False, True]
    assert all(one.completed_calls > 50 for one in result.ranks if one.rank != 2)
    assert set(result.log.process) == {0, 1, 3}
    assert "rank 2 (" in shown
    assert "rank-lost" in shown


def test_a_lost_first_rank_hangs_nobody_and_the_others_keep_their_calls(model, tmp_path):
    path = tmp_path / "r.json"
    words = ("--duration", "60s", "--json", path)
    started = torchrun(f"{model}:waits", *words, ranks=2, program=(IMPATIENT,))
    rank_process(started, until_calling(model, 2)[0]).kill()
    code, _, said = ended(started)
    assert code != 0
    assert "rank 1: rank 0 was not heard of for " in said
    kept = il.load_result(tmp_path / "r.rank1.json")
    assert kept.summary.completed_calls > 50
    assert not path.exists()


def test_a_model_that_raises_on_one_rank_ends_the_run_of_all(model, tmp_path):
    path = tmp_path / "r.json"
    words = ["--duration", "60s", "--warmup", 0, "--json", path]
    code, _, said = ended(torchrun(f"{model}:waits", *words, ranks=2, FAILS=1))
    assert code != 0
    assert "raised in caller 0 of rank 1 (" in said
    assert "ValueError: rank 1 has had enough" in said
    assert "exitcode : 1" in said
    result = il.load_result(path)
    assert result.status == "failed"
    assert result.ranks[1].failed_calls == 1
    assert result.summary.duration_s < 50  # of 60


def test_a_model_that_ends_its_process_on_one_rank_is_named_by_rank(model, tmp_path):
    (tmp_path / "ones.py").write_text(MODEL.replace("torch.zeros(2)", "torch.ones(2)"))
    path = tmp_path / "r.json"
    words = ["--duration", "60s", "--warmup", 0, "--json", path]
    code, _, said = ended(torchrun(f"{tmp_path / 'ones.py'}:waits", *words, ranks=2, DIES=1))
    assert code != 0
    assert "in rank 1 (" in said
    assert "SIGABRT" in said
    assert "exitcode : 3" in said
    assert il.load_result(path).status == "crashed"


def test_a_call_that_hangs_on_one_rank_ends_the_run_of_all(model, tmp_path):
    (tmp_path / "ones.py").write_text(MODEL.replace("torch.zeros(2)", "torch.ones(2)"))
    path = tmp_path / "r.json"
    words = ["--duration", "60s", "--warmup", 0, "--timeout", "3s", "--json", path]
    code, _, said = ended(torchrun(f"{tmp_path / 'ones.py'}:waits", *words, ranks=2, HANGS=1))
    assert code != 0
    assert "had not returned to caller 0 of rank 1 (" in said
    assert "from input 1 after 3 s" in said
    result = il.load_result(path)
    assert result.status == "timed out"
    assert result.summary.duration_s < 50  # of 60


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["gone.py"], "error: there is no model file gone.py"),
        (["MODEL", "--callers", "0"], "callers"),
        (["MODEL", "--precision", "2%"], "no rank of a cluster sees the calls of the others"),
        (["MODEL", "--calls", "1"], "1 calls are fewer than 2 processes on 2 ranks"),
        (["MODEL", "--trace", "t.json"], "a trace is of one process, and there are 2 ranks"),
    ],
)
def test_wrong_use_is_said_once(words, sentence, model):
    given = [f"{model}:waits" if word == "MODEL" else word for word in words]
    code, shown, said = ended(torchrun(*given, ranks=2))
    assert code != 0
    assert said.count(sentence) == 1
    assert said.count("error: ") == 1
    assert "exitcode : 2" in said
    assert shown == ""


def test_what_only_another_rank_is_refused_by_is_said_with_its_name(model, tmp_path):
    text = MODEL + "\n\nif RANK == '1':\n    raise RuntimeError('no such library here')\n"
    (tmp_path / "half.py").write_text(text)
    code, _, said = ended(torchrun(f"{tmp_path / 'half.py'}:waits", ranks=2))
    assert code != 0
    assert "error: rank 1 (" in said
    assert "no such library here" in said
    assert "exitcode : 2" in said


def test_an_interrupt_ends_all_ranks_and_keeps_their_calls(model, tmp_path):
    path = tmp_path / "r.json"
    started = torchrun(f"{model}:waits", "--duration", "60s", "--json", path, ranks=2)
    until_calling(model, 2)
    os.killpg(started.pid, signal.SIGINT)  # as a terminal sends it: to all of them
    code, _, said = ended(started)
    assert code != 0
    assert "ended the run after" in said
    result = il.load_result(path)
    assert result.status == "interrupted"
    assert all(one.completed_calls > 50 for one in result.ranks)


def test_ranks_with_inputs_of_their_own_are_refused(model, tmp_path):
    text = MODEL.replace("return [torch.zeros(1), torch.zeros(2)]", "return [torch.zeros(1)] * N")
    path = tmp_path / "shards.py"
    path.write_text(text.replace("RANK = ", 'N = 1 + int(os.environ["RANK"])\nRANK = ', 1))
    code, _, said = ended(torchrun(f"{path}:waits", ranks=2))
    assert code != 0
    assert "error: rank 1 (" in said
    assert "has inputs ['1:float32', '1:float32'], and rank 0 has ['1:float32']" in said
    assert "exitcode : 2" in said


def test_an_interrupt_before_the_start_leaves_no_report(model, tmp_path):
    path = tmp_path / "r.json"
    started = torchrun(f"{model}:waits", "--json", path, ranks=2, LATE=1, LATE_S=600)
    until_said(started, "waiting for rank 1 (")
    os.killpg(started.pid, signal.SIGINT)
    code, shown, said = ended(started)
    assert code != 0
    assert "there is no result" in said
    assert "rank-lost" not in shown
    assert not path.exists()
