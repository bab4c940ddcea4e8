"""OpenAI-compatible servers: completions and chat, in pieces by default, and embeddings."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from inferload.errors import PlanError
from inferload.records.server import ServerModel
from inferload.targets.outputs.piece import MOST_TOKENS
from inferload.targets.remote.failures import (
    MALFORMED,
    CutOff,
    NoAnswer,
    RemoteFailure,
    ServerError,
    words_of,
)
from inferload.targets.remote.protocols.json_bodies import (
    JSON,
    decoded,
    encoded,
    glance,
    with_tensors,
)
from inferload.targets.remote.protocols.protocol import Asking, HttpProtocol, Request

if TYPE_CHECKING:
    from collections.abc import Mapping

    from inferload.targets.inputs.call_input import CallInput
    from inferload.targets.remote.address import Address
    from inferload.targets.remote.protocols.streamed import Streamed

_WORDS = {
    "openai-completions": "OpenAI completions",
    "openai-chat": "OpenAI chat completions",
    "openai-embeddings": "OpenAI embeddings",
}
# Where each has its text.
_FIELDS = {
    "openai-completions": "prompt",
    "openai-chat": "messages",
    "openai-embeddings": "input",
}


class OpenAi(HttpProtocol):
    """One endpoint of an OpenAI-compatible server."""

    def __init__(self, address: Address, fields: Any = None) -> None:
        if fields is not None and not isinstance(fields, dict):
            raise PlanError(
                'the body of an OpenAI-compatible request is an object, as {"max_tokens": 64}, and '
                f"a {type(fields).__name__} was given"
            )
        self._address = address
        self._fields: dict[str, Any] = dict(fields or {})
        self._field = _FIELDS[address.protocol]
        self._model: str | None = self._fields.get("model")
        self.words = _WORDS[address.protocol]
        self._embeds = address.protocol == "openai-embeddings"
        self.in_pieces = not self._embeds and bool(self._fields.get("stream", True))
        self._key = b'"data"' if self._embeds else b'"choices"'

    async def meet(self, asking: Asking) -> ServerModel | None:
        """The one model that the server lists, where no body names one."""
        try:
            status, body = await asking.get(f"{self._address.base}/v1/models")
            listed = decoded(body).get("data", []) if status == 200 else []
            names = [str(one["id"]) for one in listed]
        except (RemoteFailure, *MALFORMED):
            names = []  # not every server lists its models
        if self._model is None and len(names) == 1:
            self._model = names[0]
        self._names = names
        return None if self._model is None else ServerModel(name=self._model)

    def request(self, number: int, one: CallInput) -> Request:
        """The fields of all bodies, with those of the input."""
        own = self._own(number, one)
        body: dict[str, Any] = {"model": self._model} if self._model is not None else {}
        if not self._embeds:
            body["stream"] = self.in_pieces
        if self.in_pieces:
            body["stream_options"] = {"include_usage": True}
        body |= {**self._fields, **own}
        if body.get("model") is None:
            names = ", ".join(self._names[:8])
            listed = f"lists several models ({names})" if self._names else "lists no model"
            raise PlanError(
                f'the server {listed}, and no body names one: give --body \'{{"model": "NAME"}}\''
            )
        if bool(body.get("stream", False)) != self.in_pieces:
            raise PlanError(
                f"input {number} says stream: {str(not self.in_pieces).lower()}, and others do "
                "not: a run has answers in pieces, or whole ones; say so for all by --body "
                f"'{{\"stream\": {str(not self.in_pieces).lower()}}}'"
            )
        text = body[self._field]
        several = (
            self._field != "messages"
            and isinstance(text, list)
            and all(isinstance(part, str | list if self._embeds else str) for part in text)
        )
        return Request(
            path=self._address.path,
            headers=JSON,
            body=encoded(number, body),
            items=len(text) if several and text else 1,
        )

    def _own(self, number: int, one: CallInput) -> Mapping[str, Any]:
        """The fields of an input: those of a body, or of a text."""
        if self._field in one.kwargs:
            return one.kwargs
        texts = [*one.args, *one.kwargs.values()]
        if len(texts) != 1 or not isinstance(texts[0], str | list):
            raise PlanError(
                f"input {number} has no text: give bodies with {self._field!r} (--inputs "
                "FILE.jsonl, one a line), or lengths of text in words (--inputs text:100..200)"
            )
        text = texts[0]
        if self._field == "messages" and isinstance(text, str):
            return {"messages": [{"role": "user", "content": text}]}
        return {self._field: text}

    def looked_at(self, body: bytes, headers: Any) -> None:
        """Whether it looks like JSON with what was asked for."""
        del headers
        glance(body, self._key)

    def read(self, body: bytes, headers: Any) -> Any:
        """What was asked for: texts, or embeddings."""
        if "event-stream" in headers.get("Content-Type", ""):
            return body
        found = decoded(body)
        try:
            if self._embeds:
                return with_tensors([one["embedding"] for one in found["data"]])
            return [_text_of(one) for one in found["choices"]]
        except (KeyError, TypeError):
            raise NoAnswer(f"the answer has no {self._key.decode()}: {words_of(body)}") from None

    def reader(self, headers: Any, told: Streamed) -> _Texts:
        """The texts of the events that have some; tokens as the server counts them."""
        if "event-stream" not in headers.get("Content-Type", ""):
            raise NoAnswer("the answer is no stream of events, and stream was asked for")
        return _Texts(told)


class _Texts:
    """A :class:`PieceReader` of one answer."""

    def __init__(self, told: Streamed) -> None:
        self._told = told
        self._done = False
        #: The choices that have begun, and those that have a reason to have ended.
        self._begun: set[object] = set()
        self._finished: set[object] = set()

    def piece(self, event: bytes) -> str | None:
        """The text of an event, where it has some."""
        if event == b"[DONE]":
            self._done = True
            return None
        try:
            found = json.loads(event)
        except ValueError:
            raise NoAnswer(f"an event is no JSON: {words_of(event)}") from None
        if found.get("error"):
            raise ServerError(f"an event tells an error: {words_of(event)}")
        tokens = (found.get("usage") or {}).get("completion_tokens")
        if type(tokens) is int and 0 <= tokens <= MOST_TOKENS:
            self._told.tokens = tokens
        text = ""
        for choice in found.get("choices") or ():
            self._begun.add(choice.get("index"))
            if choice.get("finish_reason"):
                self._finished.add(choice.get("index"))
            text += _text_of(choice)
        return text or None

    def end(self) -> None:
        """Not every server ends by [DONE]."""
        if not self._done and not (self._begun and self._begun <= self._finished):
            raise CutOff("the stream ended without a finish_reason or data: [DONE]")


def _text_of(choice: Any) -> str:
    """The text of a choice, whole or a piece; what is thought, or a call of a tool, counts."""
    if choice.get("text"):
        return str(choice["text"])
    part = choice.get("delta") or choice.get("message") or {}
    for key in ("content", "reasoning_content", "reasoning", "tool_calls"):
        if part.get(key):
            return str(part[key])
    return ""
