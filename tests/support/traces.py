"""Perfetto traces as Perfetto's own schema reads them."""

from __future__ import annotations

from perfetto.protos.perfetto.trace import perfetto_trace_pb2


def slices_of(path) -> tuple[dict[int, tuple[str, int]], dict[int, list]]:
    """Tracks by number, each with its name and parent, and the events of each."""
    trace = perfetto_trace_pb2.Trace()
    trace.ParseFromString(path.read_bytes())
    tracks, events = {}, {}
    for packet in trace.packet:
        if packet.HasField("track_descriptor"):
            one = packet.track_descriptor
            tracks[one.uuid] = (one.name or one.process.process_name, one.parent_uuid)
        else:
            one = packet.track_event
            events.setdefault(one.track_uuid, []).append((packet.timestamp, one))
    return tracks, events


def instants_of(path) -> list[int]:
    """The times of all marks."""
    _, events = slices_of(path)
    return [time for own in events.values() for time, e in own if e.type == e.TYPE_INSTANT]
