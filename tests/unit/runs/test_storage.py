from __future__ import annotations

import json
import os
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import result_of

import inferload as il
from inferload.errors import PlanError, ResultFormatError
from inferload.files import check_writable, replacing
from inferload.log.calls import COLUMNS
from inferload.log.ring import HEADER_BYTES, ROW_BYTES
from inferload.log.saved import log_of_bytes
from inferload.studies.records.files import save_study

GOLDEN = Path(__file__).parents[2] / "golden"


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "run.json"
    result_of().save(path)
    return path


def test_a_result_comes_back_as_it_was_saved(tmp_path: Path):
    result = result_of(load=il.ClosedLoop(callers=2))
    result.save(tmp_path / "r.json")
    again = il.load_result(tmp_path / "r.json")
    assert replace(again, log=result.log) == result
    for name in ("scheduled_ns", "started_ns", "finished_ns", "caller", "input", "error"):
        assert np.array_equal(getattr(again.log, name), getattr(result.log, name))
    assert again.summary.response_ms.quantile(0.5) == result.summary.response_ms.quantile(0.5)
    assert str(again) == str(result)


NO_UNICODE = os.fsdecode(b"b\xff")


def test_names_that_are_no_unicode_lose_no_result(tmp_path: Path):
    result = result_of()
    spec = replace(result.spec, target=f"{NO_UNICODE}.py")
    path = tmp_path / f"{NO_UNICODE}.json"
    replace(result, spec=spec).save(path)
    again = il.load_result(path)
    assert again.spec.target == "b\\udcff.py"
    assert again.log.calls_made == result.log.calls_made
    study = replace(il.load_study(GOLDEN / "sweep_v1.json"), target=f"{NO_UNICODE}.py")
    save_study(study, tmp_path / "s.json")
    assert il.load_study(tmp_path / "s.json").target == "b\\udcff.py"


@pytest.mark.parametrize("version", [1, 2])
def test_results_of_every_schema_are_read(version: int):
    result = il.load_result(GOLDEN / f"result_v{version}.json")
    assert result.summary.failed_calls == len(result.log) / 2
    assert result.log.errors[0].type == "ValueError"
    assert "Example CPU 3000" in str(result)
    assert (result.summary.lateness_ms is not None) == (version == 2)
    # what was asked for says so, of every schema
    assert result.log.open_loop == result.spec.open_loop == (version == 2)


def test_counts_of_the_first_log_format_are_read():
    # what the inferload that saved it had: calls, the sum of cells x counts, and two quantiles
    result = il.load_result(GOLDEN / "result_v3_counted.json")
    counts = result.log.tally.counts["service_ns"]
    assert (result.log.calls_made, len(result.log)) == (12_000, 55)
    assert (counts.total, len(counts.cells)) == (12_000, 2387)
    assert int((counts.cells * counts.counts).sum()) == 15_448_940_545
    response = result.summary.response_ms
    assert (response.quantile(0.5), response.quantile(0.99)) == (0.001693, 0.001983)


def test_a_mix_of_the_schema_before_devices_is_read():
    result = il.load_result(GOLDEN / "result_v4.json")
    assert (result.summary.completed_calls, len(result.log)) == (120, 120)
    assert (result.log.stages, result.devices, result.summary.stages) == ({}, (), None)
    assert [one.name for one in result.models] == ["small", "large"]
    assert "2 processes x 2 callers (1 small + 1 large)" in str(result)


def test_batches_of_the_first_schema_that_has_them_are_read():
    result = il.load_result(GOLDEN / "result_v7.json")
    batches = result.summary.batches
    assert (batches.batches, batches.mean_size, batches.sizes[:3]) == (
        32,
        3.75,
        ((1, 5), (2, 2), (3, 8)),
    )
    assert result.spec.batching.code == "il.Batching(max_batch=8, max_delay_s=0.004, pad=0.0)"
    log = result.log
    assert np.array_equal(
        log.instance_ns + log.stages["hold_ns"] + log.stages["late_ns"], log.queue_ns
    )
    assert log.batches["batch_size"].sum() == sum(size * size * n for size, n in batches.sizes)
    assert "of 3.75 requests (1 to 8); 31.0% of what" in str(result)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("used", 0),
        ("used", -1),
        ("used", 10**15),
        ("types", ["<u1", "<u8"]),
        ("types", ["<u4", "O"]),
        ("types", ["x", "<u1"]),
    ],
)
def test_counts_that_are_damaged_are_refused(key, value, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("inferload.log.ring.KEPT_CALLS", 4096)
    result_of(calls=20_000).save(tmp_path / "r.json")
    log = tmp_path / "r.calls"
    content = log.read_bytes()
    magic = content.index(b"{")
    header = json.loads(content[magic:HEADER_BYTES].rstrip(b"\0"))
    assert il.load_result(tmp_path / "r.json").log.tally is not None
    header["tally"][key]["service_ns"] = value
    head = (content[:magic] + json.dumps(header).encode()).ljust(HEADER_BYTES, b"\0")
    _write_summed(log, head + content[HEADER_BYTES:-4])
    with pytest.raises(ResultFormatError, match=r"the counts in the call log .* are damaged"):
        il.load_result(tmp_path / "r.json")


def test_a_sampled_result_comes_back_with_its_counts(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("inferload.log.ring.KEPT_CALLS", 4096)
    monkeypatch.setattr("inferload.log.tally.SAMPLED_CALLS", 2000)
    result = result_of(calls=60_000)
    assert result.log.tally is not None
    result.save(tmp_path / "r.json")
    again = il.load_result(tmp_path / "r.json")
    assert again.summary == result.summary
    for name, counts in result.log.tally.counts.items():
        read = again.log.tally.counts[name]
        assert np.array_equal(read.cells, counts.cells)
        assert np.array_equal(read.counts, counts.counts)
    assert again.log.tally.calls == 60_000
    assert str(again) == str(result)
    with (tmp_path / "r.calls").open("r+b") as file:
        file.truncate((tmp_path / "r.calls").stat().st_size - 8)
    with pytest.raises(ResultFormatError, match="damaged"):
        il.load_result(tmp_path / "r.json")


def test_recorded_errors_come_back(tmp_path: Path):
    def sometimes(x):
        if x.numel() == 2:
            raise ValueError("two")

    result = il.run(sometimes, [torch.zeros(1), torch.zeros(2)], calls=20, on_error="record")
    result.save(tmp_path / "r.json")
    again = il.load_result(tmp_path / "r.json")
    assert [(one.type, one.message) for one in again.log.errors] == [("ValueError", "two")]
    assert again.summary.failed_calls == 10


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda j: j.unlink(), "cannot be read"),
        (lambda j: j.write_text(j.read_text()[:100]), "truncated"),
        (lambda j: j.write_text("[1]"), "not a result of inferload"),
        (lambda j: j.write_bytes(b"\xff\xfe\x00"), "not JSON"),
        (lambda j: _edit(j, schema_version=99), "schema version 99"),
        (lambda j: _edit(j, summary={"completed_calls": "many"}), "is damaged: summary"),
        (lambda j: _edit(j, unknown=1), "is damaged: unknown"),
        (lambda j: j.with_suffix(".calls").unlink(), "call log .* cannot be read"),
        (lambda j: _cut(j.with_suffix(".calls"), 10), "truncated"),
        (lambda j: _cut(j.with_suffix(".calls"), 4200), "is damaged: 4,200 bytes"),
        (lambda j: j.with_suffix(".calls").write_bytes(b"x" * 9000), "not a call log"),
        (lambda j: _edit(j, run_id="another"), "belongs to another run"),
        (
            lambda j: j.write_text(j.read_text().replace('"prepare_s":', '"prepare_s":1e999,"x":')),
            "1e999 is no number",
        ),
        (lambda j: _put(j.with_suffix(".calls"), "caller", 7), "'caller' goes from 0 to 7"),
        (lambda j: _put(j.with_suffix(".calls"), "input", -1), "'input' goes from -1"),
        (lambda j: _put(j.with_suffix(".calls"), "error", 0), "'error' goes from -1 to 0"),
    ],
)
def test_a_file_that_is_not_whole_is_refused_in_a_sentence(saved: Path, damage, words: str):
    damage(saved)
    with pytest.raises(ResultFormatError, match=words):
        il.load_result(saved)


def _edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _put(path: Path, column: str, value: int) -> None:
    """Change the last value of a column, and the checksum with it."""
    content = bytearray(path.read_bytes())
    rows = (len(content) - HEADER_BYTES) // ROW_BYTES
    offset = HEADER_BYTES
    for name, dtype in COLUMNS.items():
        offset += rows * dtype.itemsize
        if name == column:
            content[offset - dtype.itemsize : offset] = np.array(value, dtype).tobytes()
            break
    _write_summed(path, bytes(content[:-4]))


def _write_summed(path: Path, content: bytes) -> None:
    """Write a log with its checksum."""
    path.write_bytes(content + zlib.crc32(content).to_bytes(4, "little"))


def _cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def test_another_version_of_the_log_is_refused(saved: Path):
    log = saved.with_suffix(".calls")
    log.write_bytes(log.read_bytes().replace(b'"version": 7', b'"version": 8'))
    with pytest.raises(ResultFormatError, match="has version 8"):
        il.load_result(saved)


@pytest.mark.parametrize("kind", ["plain", "counted", "pieces"])
def test_a_bit_that_flips_anywhere_in_a_log_is_found(tmp_path: Path, kind: str):
    sources = {"counted": "result_v3_counted", "pieces": "result_v8_pieces"}
    result = result_of() if kind == "plain" else il.load_result(GOLDEN / f"{sources[kind]}.json")
    path = tmp_path / "r.json"
    result.save(path)
    whole = np.fromfile(path.with_suffix(".calls"), np.uint8)
    assert len(log_of_bytes(whole, "r.calls", result.run_id, (), open_loop=False)) == len(
        result.log
    )
    generator = np.random.default_rng(1)
    for place, bit in zip(
        generator.integers(len(whole), size=10_000), generator.integers(8, size=10_000), strict=True
    ):
        whole[place] ^= 1 << bit
        with pytest.raises(ResultFormatError):
            log_of_bytes(whole, "r.calls", result.run_id, (), open_loop=False)
        whole[place] ^= 1 << bit


def test_a_log_that_has_changed_is_said_to_have(saved: Path):
    log = saved.with_suffix(".calls")
    content = bytearray(log.read_bytes())
    content[HEADER_BYTES + 3] ^= 4
    log.write_bytes(content)
    with pytest.raises(ResultFormatError, match="its checksum is not that of what was saved"):
        il.load_result(saved)


def test_a_failed_save_leaves_what_was_there(saved: Path, monkeypatch: pytest.MonkeyPatch):
    before = saved.read_text()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("inferload.runs.saved.write_log", full)
    with pytest.raises(OSError, match="No space"):
        result_of().save(saved)
    assert saved.read_text() == before
    assert sorted(path.name for path in saved.parent.iterdir()) == ["run.calls", "run.json"]


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path):
    path = tmp_path / "f"
    path.write_text("old")
    with pytest.raises(TypeError), replacing(path) as temporary:
        temporary.write_text("half") + "and then it fails"
    assert path.read_text() == "old"
    with replacing(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_a_link(tmp_path: Path):
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with replacing(tmp_path / "link") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_text() == "new"


def test_a_result_that_has_no_place_names_it(tmp_path: Path):
    result = result_of()
    with pytest.raises(FileNotFoundError, match=r"make it: '.*/no'"):
        result.save(tmp_path / "no" / "r.json")
    with pytest.raises(IsADirectoryError, match="name a file"):
        result.save(tmp_path)
    with pytest.raises(PlanError, match="path is '': give a path"):
        result.save("")


def test_what_is_no_path_is_refused_by_name():
    with pytest.raises(il.PlanError, match="trace is 3: give a path"):
        il.run(torch.nn.Identity(), [torch.ones(1)], calls=1, trace=3)
    with pytest.raises(il.PlanError, match="save is 3: give a path"):
        il.sweep(torch.nn.Identity(), [torch.ones(1)], callers=[1, 2], calls=1, save=3)


def test_a_path_that_cannot_be_written_is_refused_beforehand(tmp_path: Path):
    with pytest.raises(PlanError, match="is a folder"):
        check_writable(tmp_path)
    with pytest.raises(PlanError, match="does not exist"):
        check_writable(tmp_path / "no" / "r.json")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(PlanError, match="no regular file"):
        check_writable(tmp_path / "pipe")
    with pytest.raises(PlanError, match=r"cannot write /proc/r\.json"):
        check_writable(Path("/proc/r.json"))


def test_json_that_is_nested_without_end_is_refused_in_a_sentence(tmp_path):
    (tmp_path / "r.json").write_text("[" * 200_000)
    for load in (il.load_result, il.load_study):
        with pytest.raises(il.ResultFormatError, match="is not JSON"):
            load(tmp_path / "r.json")
