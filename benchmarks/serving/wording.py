"""What is asked and answered, the same for every tool: OpenAI's chat, which all of them speak."""

from __future__ import annotations

import json

MODEL = "tiny"
PATH = "/v1/chat/completions"
# Chunks of an answer in pieces, a token each.
CHUNKS = 16
# Of a vocabulary of BERT: some 400 bytes, with which a body has some 500.
PROMPT_TOKENS = 80
PROMPT = " ".join(["word"] * PROMPT_TOKENS)

_BASE = {"id": "c-1", "created": 1_700_000_000, "model": MODEL}
_USAGE = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": CHUNKS}


def text_of(value: object) -> str:
    """JSON without blanks."""
    return json.dumps(value, separators=(",", ":"))


def asked(*, stream: bool) -> dict[str, object]:
    """The body of a request."""
    body: dict[str, object] = {
        "model": MODEL,
        "messages": [{"role": "user", "content": PROMPT}],
        "max_completion_tokens": CHUNKS,
        "stream": stream,
    }
    return body | ({"stream_options": {"include_usage": True}} if stream else {})


def whole_answer() -> str:
    """An answer at once."""
    message = {"role": "assistant", "content": " ".join(["word"] * CHUNKS)}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return text_of({**_BASE, "object": "chat.completion", "choices": [choice], "usage": {**_USAGE}})


def models() -> str:
    """What the server lists."""
    return text_of({"object": "list", "data": [{"id": MODEL, "object": "model", "created": 1}]})


def events() -> list[bytes]:
    """The chunks of an answer in pieces; usage, ``[DONE]`` and the end come with the last one."""
    chunks = []
    for number in range(CHUNKS):
        delta = {"role": "assistant", "content": "word"} if not number else {"content": " word"}
        end = "length" if number == CHUNKS - 1 else None
        choices = [{"index": 0, "delta": delta, "finish_reason": end}]
        chunks.append(_event({**_BASE, "object": "chat.completion.chunk", "choices": choices}))
    usage = {**_BASE, "object": "chat.completion.chunk", "choices": [], "usage": _USAGE}
    chunks[-1] += _event(usage) + _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
    return chunks


def _event(value: object) -> bytes:
    return _chunk(f"data: {text_of(value)}\n\n".encode())


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)
