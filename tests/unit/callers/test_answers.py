"""Calls that answer in pieces, or later: used up within the call, and every piece timed."""

from __future__ import annotations

import concurrent.futures
import threading
from dataclasses import dataclass

import numpy as np
import pytest
import torch

import inferload as il
from support.virtual_time import simulated

MS = 1_000_000
ONE = il.ClosedLoop(callers=1)


def scripted(*gaps_ms: float, after_ms: float = 0.0):
    """A target that yields after each of these times, and ends so long after the last piece."""

    def of(clock):
        def stream(_):
            for gap in gaps_ms:
                clock.sleep(int(gap * MS))
                yield "token"
            clock.sleep(int(after_ms * MS))

        return stream

    return of


def test_pieces_at_scripted_times_are_stamped_exactly():
    log = simulated(scripted(20, 5, 5, 5, after_ms=2), ONE, calls=3).log
    assert (log.first_ns - log.started_ns == 20 * MS).all()
    assert log.pieces.tolist() == [4, 4, 4]
    assert (log.stages["last_piece_ns"] == 35 * MS).all()
    assert (log.service_ns == 37 * MS).all()
    assert log.piece_times.gaps_ns().tolist() == [5 * MS] * 9


def test_first_piece_counts_from_when_the_call_was_due():
    load = il.OpenLoop.replay([0.0, 0.0], callers=1)
    log = simulated(scripted(10, 10), load, calls=2).log
    assert log.duration_ns("first_piece_ns").tolist() == [10 * MS] * 2
    assert sorted(log.duration_ns("first_response_ns").tolist()) == [10 * MS, 30 * MS]


def test_a_stall_inside_a_stream_is_one_gap_and_no_other():
    result = simulated(scripted(1, 1, 500, 1), ONE, calls=50)
    gaps = result.summary.pieces.gap_ms
    assert (gaps.min, gaps.max) == (1.0, 500.0)
    assert gaps.quantile(0.66) == 1.0
    assert gaps.quantile(0.67) == 500.0
    assert result.summary.pieces.first_ms.max == 1.0


def test_pieces_before_an_exception_are_kept_and_in_no_figure():
    def breaks(clock):
        made = iter(range(100))

        def stream(_):
            for piece in range(4):
                clock.sleep(MS)
                if piece == 3 and next(made) % 2:
                    raise ValueError("lost the rest")
                yield piece

        return stream

    result = simulated(breaks, ONE, calls=10, on_error="record")
    failed = ~result.log.completed
    assert failed.sum() == 5
    assert (result.log.pieces[failed] == 3).all()
    assert (result.log.stages["last_piece_ns"][failed] == 3 * MS).all()
    found = result.summary.pieces
    assert (found.calls, found.pieces) == (5, 20)
    assert (found.broken_calls, found.broken_pieces) == (5, 15)
    assert len(result.log.piece_times.gaps_ns()) == 15  # three of each call that returned


def test_a_stream_may_end_early_or_give_nothing():
    def short(clock):
        made = iter(range(100))

        def stream(_):
            clock.sleep(MS)
            for piece in range(next(made) % 3):
                clock.sleep(MS)
                yield piece

        return stream

    result = simulated(short, ONE, calls=9)
    assert sorted(result.log.pieces.tolist()) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert (result.log.first_ns[result.log.pieces == 0] == -1).all()
    found = result.summary.pieces
    assert (found.calls, found.empty_calls, found.call_gap_ms.count) == (6, 3, 3)


def test_a_stream_that_hands_on_more_slowly_than_it_is_fed_has_the_gaps_of_its_handing_on():
    def fed(clock):
        def stream(_):
            ready = list(range(5))  # all there before the first is asked for
            while ready:
                clock.sleep(7 * MS)
                yield ready.pop()

        return stream

    assert simulated(fed, ONE, calls=2).log.piece_times.gaps_ns().tolist() == [7 * MS] * 8


def test_pieces_say_how_many_tokens_they_are():
    @dataclass
    class Chunk:
        tokens: int | None

    def spoken(clock):
        def stream(_):
            for piece in (il.Piece("a", tokens=3), Chunk(5), Chunk(None), "b", torch.ones(2)):
                clock.sleep(MS)
                yield piece

        return stream

    result = simulated(spoken, ONE, calls=4)
    assert result.log.answers["tokens"].tolist() == [11] * 4
    assert result.summary.pieces.tokens == 44
    # the mean time of a token after the first: (last - first) / (tokens - 1)
    assert result.summary.pieces.call_gap_ms.mean == pytest.approx(4 / 10)


def test_a_class_whose_first_piece_says_nothing_may_say_so_later():
    class Chunk:
        pass

    def usage(_):
        yield Chunk()
        last = Chunk()
        last.tokens = np.int64(5)
        yield last

    assert (run(usage).log.answers["tokens"] == 6).all()


def test_tokens_themselves_are_no_number_of_them():
    class Chunk:
        tokens = ("the", "words")

    def words(_):
        yield Chunk()

    assert (run(words).log.answers["tokens"] == 1).all()


@pytest.mark.parametrize("tokens", [-1, 2.5, True])
def test_a_piece_of_no_number_of_tokens_is_refused(tokens):
    with pytest.raises(il.PlanError, match=f"a piece has {tokens} tokens"):
        il.Piece("a", tokens=tokens)


def run(model, **options):
    given = {"calls": 20, "warmup_calls": 2, "load": il.ClosedLoop(callers=2)}
    return il.run(model, [torch.zeros(1)], **given | options)


def numbers(x):
    yield from range(3)


def hidden(x):
    return numbers(x)


class Streamer(torch.nn.Module):
    def forward(self, x):
        yield x
        yield x + 1


@pytest.mark.parametrize(
    "model",
    [numbers, hidden, Streamer(), lambda x: map(str, range(3)), Streamer().forward],
    ids=["generator", "returned", "module", "iterator", "method"],
)
@pytest.mark.parametrize(
    "load", [il.ClosedLoop(callers=2), il.ClosedLoop(callers=2, clients=3)], ids=["loop", "queue"]
)
def test_whatever_yields_is_used_up_and_counted(model, load):
    log = run(model, load=load).log
    assert set(log.pieces.tolist()) <= {2, 3}
    assert len(log) == 20


def test_each_call_of_an_open_loop_is_used_up():
    log = run(hidden, load=il.OpenLoop.constant(2000, callers=2)).log
    assert (log.pieces == 3).all()


def test_fresh_inputs_stream_as_others_do():
    assert (run(numbers, fresh_inputs=True).log.pieces == 3).all()


def test_a_generator_that_no_warm_up_call_returned_is_refused_with_the_way_round():
    calls = iter(range(10_000))

    def turns(x):
        return x if next(calls) < 12 else numbers(x)

    with pytest.raises(il.PlanError, match=r"returned a generator, and no warm-up call did.*--war"):
        run(turns, load=ONE)


def test_whole_answers_beside_answers_in_pieces_have_none():
    def either(x):
        return numbers(x) if x.item() else x

    log = il.run(either, [torch.zeros(1), torch.ones(1)], load=ONE, calls=20, warmup_calls=2).log
    assert (log.pieces[log.input == 0] == -1).all()
    assert (log.pieces[log.input == 1] == 3).all()


@pytest.mark.parametrize("kind", ["torch", "python"])
def test_a_future_is_waited_for_within_the_call(kind):
    """Each call takes as long as what it waits for, and its result is what is compared."""
    pool = concurrent.futures.ThreadPoolExecutor(2)

    def later(x):
        if kind == "python":
            return pool.submit(torch.add, x, 1)
        found = torch.futures.Future()
        threading.Timer(0.002, lambda: found.set_result(x + 1)).start()
        return found

    result = run(later, verify=True)
    assert result.verification.compared == 20
    assert not result.verification.differing
    if kind == "torch":
        assert result.log.service_ns.min() >= 2 * MS


def test_pieces_under_load_are_compared_with_those_given_alone():
    assert run(Streamer(), verify=True).verification.differing == 0
    calls = iter(range(10_000))

    def drifts(x):
        yield x
        yield x + (next(calls) > 8)

    found = run(drifts, verify=True, load=ONE).verification
    assert found.differing


class Queued:
    """An iterator that must not be asked again once it has ended, as a queue's waits for ever."""

    def __init__(self):
        self.left, self.ended = [1, 2, 3], False

    def __iter__(self):
        return self

    def __next__(self):
        assert not self.ended
        if not self.left:
            self.ended = True
            raise StopIteration
        return self.left.pop()


def test_an_iterator_that_has_ended_is_not_asked_again():
    assert (run(lambda x: Queued()).log.pieces == 3).all()


def test_a_future_of_a_generator_is_waited_for_and_used_up():
    pool = concurrent.futures.ThreadPoolExecutor(1)
    assert (run(lambda x: pool.submit(numbers, x)).log.pieces == 3).all()


def test_what_containers_hold_is_looked_at_in_every_call_and_every_piece():
    made = iter(range(10_000))

    def lists(x):
        return [x] if next(made) < 30 else [torch.futures.Future()]

    with pytest.raises(il.PlanError, match="holds a future"):
        run(lists, calls=200)

    def pieces(x):
        yield {"token": 1}
        yield {"token": 1 if next(made) < 60 else torch.futures.Future()}

    with pytest.raises(il.PlanError, match=r"a piece of what .*pieces answers is or holds a fut"):
        run(pieces, calls=200)


@pytest.mark.parametrize("held", ["a generator", "a future"])
def test_what_lies_within_a_container_is_refused_by_its_name(held):
    def hides(x):
        return {"later": numbers(x) if held == "a generator" else torch.futures.Future()}

    with pytest.raises(il.PlanError, match=f"holds {held}, whose work is still to be done"):
        run(hides)


def test_a_piece_whose_work_is_still_to_be_done_is_refused():
    def nests(x):
        yield numbers(x)

    with pytest.raises(il.PlanError, match=r"a piece of what .*nests answers is or holds a gen"):
        run(nests)


def test_answers_in_pieces_do_not_share_a_batch():
    with pytest.raises(il.PlanError, match=r"answers in pieces.*continuous batching"):
        run(
            numbers,
            load=il.OpenLoop.constant(1000, callers=1),
            batching=il.Batching(max_batch=4),
        )


@pytest.mark.multiprocess
def test_processes_find_out_by_themselves_that_calls_answer_in_pieces(tmp_path):
    (tmp_path / "hidden.py").write_text(
        "import time, torch\n"
        "def pieces(x):\n"
        "    for piece in range(3):\n        time.sleep(0.002)\n        yield piece\n"
        "def model(x):\n    return pieces(x)\n"
        "def inputs():\n    return [torch.zeros(1)]\n"
    )
    result = il.run(
        f"{tmp_path}/hidden.py:model",
        load=il.ClosedLoop(callers=2),
        processes=2,
        calls=40,
        warmup_calls=2,
    )
    assert (result.log.pieces == 3).all()
    times = result.log.piece_times
    assert max(times.calls["caller"]) > 1  # numbered through the processes
    assert set(times.calls["started_ns"].tolist()) == set(result.log.started_ns.tolist())
