"""Plain HTTP: JSON is posted, made of inputs by a template where there is one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from inferload.errors import PlanError
from inferload.targets.remote.failures import NoAnswer
from inferload.targets.remote.protocols.json_bodies import (
    JSON,
    decoded,
    encoded,
    filled,
    glance,
    names_of,
    with_tensors,
)
from inferload.targets.remote.protocols.protocol import HttpProtocol, Request

if TYPE_CHECKING:
    from inferload.targets.inputs.call_input import CallInput
    from inferload.targets.remote.protocols.streamed import Streamed

_BINARY = {"Content-Type": "application/octet-stream"}


class PlainHttp(HttpProtocol):
    """Whatever answers a POST; of JSON it is looked whether that is whole.

    An answer of the type ``text/event-stream`` comes in pieces, an event each.
    """

    words = "plain HTTP"

    def __init__(self, path: str, template: Any = None) -> None:
        self._path = path
        self._template = template

    def request(self, number: int, one: CallInput) -> Request:
        """The template filled in, else the arguments themselves."""
        if self._template is not None:
            used: set[str] = set()
            body = filled(self._template, one, used)
            if not used:
                names = ", ".join(f"{{{name}}}" for name in names_of(one))
                raise PlanError(
                    f"the body has no place for the input: put {names or '{input}'} into it, as "
                    '--body \'{"text": "{input}"}\''
                )
            return self._of(number, body)
        if one.kwargs and one.args:
            raise PlanError(
                f"input {number} has positional and keyword arguments, and no template says where "
                "they belong in the body: give one (--body), or name all of them"
            )
        if one.kwargs:
            return self._of(number, dict(one.kwargs))
        if len(one.args) == 1 and isinstance(one.args[0], bytes):
            return Request(path=self._path, headers=_BINARY, body=one.args[0])
        return self._of(number, one.args[0] if len(one.args) == 1 else list(one.args))

    def _of(self, number: int, body: Any) -> Request:
        return Request(path=self._path, headers=JSON, body=encoded(number, body))

    def looked_at(self, body: bytes, headers: Any) -> None:
        """Of JSON whether it is whole; a stream where the first answer was none is refused."""
        if self.of_events(headers) and not self.in_pieces:
            raise NoAnswer("the answer is a stream of events, and the first one was none")
        if "json" in headers.get("Content-Type", ""):
            glance(body)
        elif not body:
            raise NoAnswer("the answer is empty")

    def read(self, body: bytes, headers: Any) -> Any:
        """The values of JSON, else the bytes."""
        self.in_pieces |= self.of_events(headers)
        self.looked_at(body, headers)
        is_json = "json" in headers.get("Content-Type", "")
        return with_tensors(decoded(body)) if is_json else body

    @staticmethod
    def of_events(headers: Any) -> bool:
        """Whether an answer is a stream of events."""
        kind: str = headers.get("Content-Type", "")
        return kind.partition(";")[0].strip().lower() == "text/event-stream"

    def reader(self, headers: Any, told: Streamed) -> _Data:
        """The data of each event."""
        del told
        if not self.of_events(headers):
            raise NoAnswer("the answer is no stream of events, and the first one was")
        return _Data()


class _Data:
    """A :class:`PieceReader` that takes all events."""

    @staticmethod
    def piece(event: bytes) -> bytes | None:
        """The event itself, unless it is how OpenAI's streams end."""
        return None if event == b"[DONE]" else event

    def end(self) -> None:
        """Nothing says when a stream of events is whole."""
