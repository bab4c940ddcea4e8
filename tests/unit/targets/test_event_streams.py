"""Server-sent events, however the network cuts them."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferload.targets.remote.address import Address
from inferload.targets.remote.failures import CutOff, NoAnswer, RemoteFailure, ServerError
from inferload.targets.remote.protocols.openai import OpenAi
from inferload.targets.remote.protocols.sse import Events
from inferload.targets.remote.protocols.streamed import Streamed, nothing


def collected(text: bytes, cuts=()) -> list[bytes]:
    """The events of a text that comes in chunks cut at these places."""
    events, found, last = Events(), [], 0
    for cut in [*sorted({one % (len(text) + 1) for one in cuts}), len(text)]:
        found += events.feed(text[last:cut])
        last = cut
    events.end()
    return found


@given(
    st.lists(st.sampled_from([b"a", b'{"x": "\xc3\xa4"}', b"data: b", b""]), max_size=6),
    st.lists(st.integers(0, 10_000), max_size=20),
    st.sampled_from([b"\n", b"\r\n", b"\r"]),
)
def test_events_are_the_same_wherever_the_stream_is_cut(data, cuts, ending):
    text = b": hello" + ending * 2
    for one in data:
        text += b"event: x" + ending + b"data: " + one + ending * 2
    assert collected(text, cuts) == data


def test_data_of_several_lines_is_one_event():
    assert collected(b"data: a\ndata:b\n\n") == [b"a\nb"]


@pytest.mark.parametrize("text", [b"data: a\n", b"data: a"])
def test_a_stream_that_ends_within_an_event_is_cut_off(text):
    with pytest.raises(CutOff):
        collected(text)


HEADERS = {"Content-Type": "text/event-stream; charset=utf-8"}


def pieces_of(*data: str, headers=HEADERS):
    protocol = OpenAi(Address.of("http://a/v1/chat/completions"), {"model": "m"})
    text = "".join(f"data: {one}\n\n" for one in data).encode()
    told = Streamed(nothing)
    reader = protocol.reader(headers, told)
    found = [reader.piece(event) for event in collected(text)]
    reader.end()
    return [one for one in found if one is not None], told.tokens


ROLE = '{"choices": [{"delta": {"role": "assistant", "content": ""}}]}'
A = '{"choices": [{"delta": {"content": "a"}, "finish_reason": null}]}'
STOP = '{"choices": [{"delta": {}, "finish_reason": "stop"}]}'
USAGE = '{"choices": [], "usage": {"completion_tokens": 9}}'


def test_events_without_a_text_are_no_pieces_and_tokens_are_the_servers():
    assert pieces_of(ROLE, A, A, STOP, USAGE, "[DONE]") == (["a", "a"], 9)


def test_a_server_that_does_not_say_done_is_done_when_it_has_a_reason():
    assert pieces_of(ROLE, A, STOP) == (["a"], None)


def test_what_a_model_thinks_and_calls_of_tools_are_pieces():
    thought = '{"choices": [{"delta": {"reasoning_content": "hm"}}]}'
    tool = '{"choices": [{"delta": {"tool_calls": [{"index": 0}]}}]}'
    text = '{"choices": [{"text": "t", "finish_reason": "length"}]}'
    assert len(pieces_of(thought, tool, text)[0]) == 3


@pytest.mark.parametrize("tokens", ["-5", "9" * 40, '"many"', "2.5", "true", "null"])
def test_tokens_that_no_answer_can_have_are_not_believed(tokens):
    usage = f'{{"choices": [], "usage": {{"completion_tokens": {tokens}}}}}'
    assert pieces_of(A, STOP, usage) == (["a"], None)


def test_a_mark_of_the_order_of_bytes_is_no_part_of_the_first_event():
    assert collected(b"\xef\xbb\xbfdata: a\n\n", [1, 2, 3]) == [b"a"]


def test_an_event_that_is_named_an_error_is_one():
    with pytest.raises(ServerError, match="boom"):
        collected(b'event: error\ndata: {"message": "boom"}\n\n')


def test_one_long_line_is_read_once():
    events, piece = Events(), b"x" * 65_536
    assert events.feed(b"data: ") == []
    began = time.process_time()
    assert not any(events.feed(piece) for _ in range(512))
    assert len(events.feed(b"\n\n")[0]) == 512 * 65_536
    # joined anew with every chunk these are 8 GB
    assert time.process_time() - began < 2


TWO = [
    '{"choices": [{"index": 0, "text": "a"}, {"index": 1, "text": "b"}]}',
    '{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}',
]


def test_every_choice_of_an_answer_has_to_end():
    with pytest.raises(CutOff):
        pieces_of(*TWO)
    assert pieces_of(*TWO, TWO[1].replace("0", "1"))[0] == ["ab"]


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        ((ROLE, A), CutOff),
        ((ROLE, '{"error": {"message": "out of memory"}}'), ServerError),
        ((ROLE, "what?"), NoAnswer),
    ],
)
def test_a_stream_that_breaks_off_or_tells_an_error_has_failed(data, kind):
    with pytest.raises(kind):
        pieces_of(*data)


def test_an_answer_that_is_no_stream_is_none():
    with pytest.raises(RemoteFailure, match="no stream of events"):
        pieces_of(A, headers={"Content-Type": "application/json"})
