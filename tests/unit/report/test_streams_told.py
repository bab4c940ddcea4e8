"""What is told and saved of answers in pieces."""

from __future__ import annotations

import csv
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import inferload as il
from inferload.report.html.document import html_text
from inferload.report.markdown import markdown_text
from support.traces import instants_of
from support.virtual_time import simulated

MS = 1_000_000
GOLDEN = Path(__file__).parents[2] / "golden"


def streamed(calls: int = 60, **options: object) -> il.RunResult:
    """Answers of four pieces of two tokens each: 20 ms, and gaps of 5 ms; every tenth raises."""

    def of(clock):
        made = iter(range(10_000))

        def generate(_):
            number = next(made)
            for piece in range(4):
                clock.sleep((5 if piece else 20) * MS)
                if piece == 3 and number % 10 == 9:
                    raise ValueError("lost the rest")
                yield il.Piece("words", tokens=2)

        return generate

    load = il.OpenLoop.constant(20, callers=2)
    return simulated(of, load, calls=calls, on_error="record", **options)


def test_the_report_has_first_piece_gaps_and_whole_under_the_names_of_the_field():
    told = str(streamed(400))
    assert max(map(len, told.splitlines())) <= 80
    for line in (
        "queue + first       TTFT  20.0 ms  20.0 ms  20.0 ms        -  20.0 ms",
        "gap                 ITL   5.00 ms  5.00 ms  5.00 ms  5.00 ms  5.00 ms",
        "gap, a call's mean  TPOT  2.14 ms",
        "whole               E2E   35.0 ms",
        "40 calls raised after 120 pieces, which no figure has",
        "72.0 pieces/s, 36.0 a caller; 4.00 a call; 144 tokens/s",
    ):
        assert line in told


def test_a_share_of_the_calls_and_empty_answers_are_told():
    result = streamed()
    found = replace(result.summary.pieces, share=0.125, empty_calls=3, broken_calls=0)
    told = str(replace(result, summary=replace(result.summary, pieces=found)))
    assert "gaps are those of 0.125 of the calls, drawn by the seed" in told
    assert "3 calls returned without a piece" in told
    assert "raised after" not in told


def test_html_and_markdown_have_the_table_and_a_chart():
    result = streamed(400)
    page = html_text(result)
    assert "First piece, gaps and whole answers by percentile" in page
    assert "queue + first (TTFT) 20.0 ms" in page
    assert "| **gap** | ITL |" in markdown_text(result) or "| gap | ITL |" in markdown_text(result)


def test_pieces_come_back_as_they_were_saved(tmp_path):
    result = streamed()
    result.save(tmp_path / "r.json")
    again = il.load_result(tmp_path / "r.json")
    assert replace(again, log=result.log) == result
    for name in ("first_piece_ns", "last_piece_ns", "pieces", "tokens"):
        assert np.array_equal(again.log.columns()[name], result.log.columns()[name])
    assert np.array_equal(again.log.piece_times.calls, result.log.piece_times.calls)
    assert np.array_equal(again.log.piece_times.times_ns, result.log.piece_times.times_ns)
    gap = again.summary.pieces.gap_ms
    assert gap.quantile(0.5) == result.summary.pieces.gap_ms.quantile(0.5)


@pytest.mark.parametrize(
    ("was", "is_now"), [(b'"times": 234', b'"times": 233'), (b'"calls": 60', b'"calls": -1')]
)
def test_pieces_that_do_not_fit_their_file_are_refused(was, is_now, tmp_path):
    streamed().save(tmp_path / "r.json")
    log = tmp_path / "r.calls"
    content = log.read_bytes()
    assert was in content
    log.write_bytes(content.replace(was, is_now.ljust(len(was)), 1))
    with pytest.raises(il.ResultFormatError, match=r"damaged"):
        il.load_result(tmp_path / "r.json")


def test_times_that_are_of_other_calls_are_refused(tmp_path):
    streamed().save(tmp_path / "r.json")
    log = tmp_path / "r.calls"
    content = bytearray(log.read_bytes())
    content[-8 * 234 - 5] ^= 0xFF  # the last number drawn, and what lies before it
    content[-8 * 234 - 21] ^= 0x01  # how many pieces the last call has
    content[-4:] = zlib.crc32(content[:-4]).to_bytes(4, "little")
    log.write_bytes(content)
    with pytest.raises(il.ResultFormatError, match="are damaged"):
        il.load_result(tmp_path / "r.json")


def test_pieces_of_the_first_schema_that_has_them_are_read():
    result = il.load_result(GOLDEN / "result_v8_pieces.json")
    found = result.summary.pieces
    assert (found.calls, found.pieces, found.tokens, found.broken_pieces) == (54, 216, 432, 18)
    assert found.gap_ms.quantile(0.5) == 5.0
    assert "TTFT" in str(result)


def test_a_csv_has_the_pieces_of_every_call(tmp_path):
    il.export(streamed(), tmp_path / "r.csv")
    rows = list(csv.DictReader((tmp_path / "r.csv").read_text().splitlines()))
    assert [row["pieces"] for row in rows[:2]] == ["4", "4"]
    assert int(rows[3]["first_ns"]) - int(rows[3]["started_ns"]) == 20 * MS
    assert rows[9]["pieces"] == "3"
    assert rows[9]["exception"] == "ValueError: lost the rest"


@pytest.mark.parametrize(("duration", "most"), [("first", 20), ("gap", 5)])
def test_percentiles_of_first_pieces_and_gaps_are_exported(duration, most, tmp_path):
    il.export(streamed(), tmp_path / "r.hgrm", duration=duration)
    *_, largest, _ = (tmp_path / "r.hgrm").read_text().split("#")
    assert float(largest.split("Max     =")[1].split(",")[0]) == pytest.approx(most, rel=1e-3)


def test_calls_without_pieces_have_none_to_export(tmp_path):
    result = simulated(MS, il.ClosedLoop(), calls=5)
    with pytest.raises(il.PlanError, match="calls of this run gave no pieces"):
        il.export(result, tmp_path / "r.hgrm", duration="gap")


def test_openmetrics_have_the_figures_of_pieces(tmp_path):
    il.export(streamed(), tmp_path / "r.prom")
    told = (tmp_path / "r.prom").read_text()
    assert "inferload_pieces_total 216.0" in told
    assert "inferload_broken_calls_total 6.0" in told
    assert 'inferload_gap_seconds{quantile="0.5"} 0.005' in told


def test_a_trace_has_a_mark_for_each_piece_on_the_track_of_its_caller(tmp_path):
    result = streamed()
    il.export(result, tmp_path / "r.pftrace")
    marks = instants_of(tmp_path / "r.pftrace")
    assert sorted(marks) == sorted(result.log.piece_times.times_ns.tolist())
