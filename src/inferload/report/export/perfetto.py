"""Calls as a Perfetto trace: a track for each caller, with its queue, its calls and their stages.

Protocol buffers by hand (perfetto_trace.proto: TracePacket, TrackDescriptor, TrackEvent): every
event is a row of bytes of one length, numbers padded to a fixed number of bytes, so that a million
calls are a few arrays and not a million objects.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from inferload.report.export.rows import sample_note

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from inferload.log.arrays import Int64s
    from inferload.log.calls import CallLog
    from inferload.records.result import RunResult

    Bytes = NDArray[np.uint8]
    #: The same bytes in every row, or a number for each row and its length.
    Columns = bytes | tuple[NDArray[Any], int]

#: More than these, Perfetto's page is slow to open.
MOST_CALLS = 1_000_000
_SEQUENCE = 1
_BEGIN, _END, _INSTANT = 1, 2, 3
# Field numbers of perfetto_trace.proto.
_PACKET, _TIMESTAMP, _SEQUENCE_ID, _EVENT, _DESCRIPTOR = 1, 8, 10, 11, 60
_TYPE, _TRACK, _NAME, _ANNOTATION = 9, 11, 23, 4
# Tracks of a caller, by number: its own, and those below it.
_OWN, _QUEUE, _CALLS, _DEVICE = range(4)


def write(result: RunResult, file: Path, *, ending: str, duration: str) -> str | None:
    """The calls in the order in which they started, the first million at most."""
    del ending, duration
    log = result.log
    order = np.argsort(log.started_ns, kind="stable")[:MOST_CALLS]
    note = sample_note(log)
    if len(log) > MOST_CALLS:
        note = f"the trace has the first {MOST_CALLS:,} of {len(log):,} calls"
    rows = log.rows(order)
    with file.open("wb") as opened:
        opened.write(b"".join(_descriptors(rows, result)))
        for part in [*_events(rows), *_marks(log, rows)]:
            opened.write(part.tobytes())
    return note


def _descriptors(log: CallLog, result: RunResult) -> list[bytes]:
    """The process and every track, by name."""
    title = f"{result.spec.target} ({result.spec.form})"
    process = _message(3, _number(1, 1), _text(6, title))
    packets = [_descriptor(_number(1, 1), process)]
    below = {_QUEUE: "queue", _CALLS: "calls"} | (
        {_DEVICE: "device"} if "issue_ns" in log.stages else {}
    )
    for caller in np.unique(log.caller).tolist():
        own = _uuid(caller, _OWN)
        packets.append(_descriptor(_number(1, own), _number(5, 1), _text(2, f"caller {caller}")))
        packets += [
            _descriptor(_number(1, _uuid(caller, which)), _number(5, own), _text(2, name))
            for which, name in below.items()
        ]
    return packets


def _uuid(caller: Any, which: int) -> Any:
    return 16 + caller * 4 + which


def _events(log: CallLog) -> list[Bytes]:
    """Slices of all callers, those of a track in the order of time."""
    if "batch" in log.batches:  # what requests wait for and get together is drawn once
        batch = log.batches["batch"]
        first = np.unique(np.where(batch < 0, -1 - np.arange(len(batch)), batch), return_index=True)
        log = log.rows(np.sort(first[1]))
    started, finished = log.started_ns, log.finished_ns
    caller = log.caller.astype(np.int64)
    calls, queues = _uuid(caller, _CALLS), _uuid(caller, _QUEUE)
    found = []
    waited = log.queue_ns > 0
    if waited.any():
        # a call may be due long before its caller begins with the one before it: what they wait for
        # together is drawn once, and each has its whole queue time beside it
        drawn_from = np.maximum(log.scheduled_ns, _previous(started, log.caller))[waited]
        found += _slices(
            "queue", queues[waited], drawn_from, started[waited], ("queue_ns", log.queue_ns[waited])
        )
    name = np.where(log.completed, 0, 1)
    for number, text in enumerate(("call", "failed call")):
        own = name == number
        found += _slices(text, calls[own], started[own], finished[own], ("input", log.input[own]))
    if "issue_ns" in log.stages:
        there = log.stages["issue_ns"] >= 0
        issued = started[there] + log.stages["issue_ns"][there]
        found += _slices("issue", calls[there], started[there], issued)
        found += _slices("wait", calls[there], issued, finished[there])
        found += _on_device(log, there)
    return found


def _marks(log: CallLog, shown: CallLog) -> list[Bytes]:
    """A mark for each piece of the calls that are shown, where its time is known."""
    times = log.piece_times
    if times is None or not len(shown):
        return []
    call = times.call_of_piece
    own = times.calls["started_ns"][call] <= shown.started_ns[-1]
    track = _uuid(times.calls["caller"][call][own].astype(np.int64), _CALLS)
    marks = _packets(times.times_ns[own], track, _INSTANT, [_text(_NAME, "piece")])
    return [marks] if len(marks) else []


def _previous(started_ns: Int64s, caller: Any) -> Int64s:
    """When each call's caller started the one before it; 0 of its first."""
    order = np.argsort(caller, kind="stable")
    before = np.zeros(len(started_ns), np.int64)
    same = np.diff(caller[order]) == 0
    before[order[1:][same]] = started_ns[order[:-1][same]]
    return before


def _on_device(log: CallLog, there: NDArray[np.bool_]) -> list[Bytes]:
    """What the device did, laid end to end until the call ended: when is not in the log."""
    stages = [
        (text, log.stages[name])
        for name, text in (
            ("copy_in_ns", "copy in"), ("device_ns", "device"), ("copy_out_ns", "copy out"),
        )
        if name in log.stages
    ]  # fmt: skip
    own = there & np.logical_and.reduce([values >= 0 for _, values in stages])
    end = log.finished_ns[own]
    found: list[list[Bytes]] = []
    for text, values in reversed(stages):
        begin = end - values[own]
        track = _uuid(log.caller[own].astype(np.int64), _DEVICE)
        found.append(_slices(text, track, begin, end))
        end = begin
    return [part for each in reversed(found) for part in each]


def _slices(
    name: str,
    track: Int64s,
    begin_ns: Int64s,
    end_ns: Int64s,
    annotation: tuple[str, NDArray[Any]] | None = None,
) -> list[Bytes]:
    """The beginning of each slice and its end, in turn."""
    if not len(track):
        return []
    more: list[Columns] = []
    if annotation is not None:
        key, values = annotation
        inner = _text(10, key) + _tag(4, 0)
        more = [_tag(_ANNOTATION, 2) + bytes([len(inner) + 9]) + inner, (values, 9)]
    begins = _packets(begin_ns, track, _BEGIN, [_text(_NAME, name), *more])
    ends = _packets(end_ns, track, _END, [])
    # a slice's end stands right after its beginning, as the two rows of one
    return [np.concatenate([begins, ends], axis=1)]


def _packets(
    time_ns: Int64s,
    track: Int64s,
    kind: int,
    more: Sequence[Columns],
) -> Bytes:
    """A packet for each event, shape ``(events, bytes)``."""
    event = _rows([_number(_TYPE, kind), _tag(_TRACK, 0), (track, 5), *more], len(track))
    head: list[Columns] = [
        _number(_SEQUENCE_ID, _SEQUENCE), _tag(_TIMESTAMP, 0), (time_ns, 9)
    ]  # fmt: skip
    length = _varint(event.shape[1])
    body = _rows([*head, _tag(_EVENT, 2) + length], len(track))
    body = np.concatenate([body, event], axis=1)
    front = _rows([_tag(_PACKET, 2) + _varint(body.shape[1])], len(track))
    return np.concatenate([front, body], axis=1)


def _rows(parts: Sequence[Columns], rows: int) -> Bytes:
    """Constant bytes and padded numbers next to each other, the same in every row."""
    columns = []
    for part in parts:
        if isinstance(part, bytes):
            columns.append(np.broadcast_to(np.frombuffer(part, np.uint8), (rows, len(part))))
        else:
            columns.append(_padded(*part))
    return np.concatenate(columns, axis=1)


def _padded(values: NDArray[Any], length: int) -> Bytes:
    """Varints of a fixed number of bytes: of 7 bits each, all but the last marked to go on."""
    shifts = 7 * np.arange(length, dtype=np.uint64)
    found: Bytes = (values.astype(np.uint64)[:, None] >> shifts).astype(np.uint8) & np.uint8(0x7F)
    found[:, :-1] |= 0x80
    return found


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def _tag(field: int, wire_type: int) -> bytes:
    return _varint(field << 3 | wire_type)


def _number(field: int, value: int) -> bytes:
    return _tag(field, 0) + _varint(value)


def _text(field: int, text: str) -> bytes:
    return _message(field, text.encode())


def _message(field: int, *parts: bytes) -> bytes:
    inner = b"".join(parts)
    return _tag(field, 2) + _varint(len(inner)) + inner


def _descriptor(*fields: bytes) -> bytes:
    return _message(_PACKET, _number(_SEQUENCE_ID, _SEQUENCE), _message(_DESCRIPTOR, *fields))
