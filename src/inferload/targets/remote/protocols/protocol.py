"""What a protocol does: requests from inputs, before any caller starts, and a look at answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from inferload.records.server import ServerModel
    from inferload.targets.inputs.call_input import CallInput
    from inferload.targets.remote.protocols.streamed import Streamed


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is sent for an input, made once: callers send it as it is.

    ``items``: how many samples it has, where the protocol knows.
    """

    path: str
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = field(repr=False)
    items: int | None = None


class Asking(Protocol):
    """What asks a server for something beside the calls."""

    async def get(self, path: str) -> tuple[int, bytes]:
        """Status and body.

        Raises:
            RemoteFailure: there is no answer.
        """


class PieceReader(Protocol):
    """What reads the events of one answer."""

    def piece(self, event: bytes) -> Any:
        """The piece that an event is; ``None`` where it is none.

        Raises:
            RemoteFailure: it tells an error, or is not understood.
        """

    def end(self) -> None:
        """Nothing more comes.

        Raises:
            CutOff: the answer is not whole.
        """


class HttpProtocol(ABC):
    """How a model is asked over HTTP."""

    #: What reports call it.
    words: str
    #: Whether answers come in pieces.
    in_pieces: bool = False

    async def meet(self, asking: Asking) -> ServerModel | None:
        """Ask the server for what it says of the model, where there is a way.

        Raises:
            PlanError: there is no such model.
        """
        del asking
        return None

    @abstractmethod
    def request(self, number: int, one: CallInput) -> Request:
        """The request for an input.

        Raises:
            PlanError: naming the input's number, and what does not fit.
        """

    @abstractmethod
    def looked_at(self, body: bytes, headers: Any) -> None:
        """A glance at an answer, within each call.

        Raises:
            NoAnswer: it is none.
        """

    @abstractmethod
    def read(self, body: bytes, headers: Any) -> Any:
        """The whole answer as values, where somebody wants them.

        Raises:
            NoAnswer: it is none.
        """

    def reader(self, headers: Any, told: Streamed) -> PieceReader:
        """What reads the events of an answer; ``told`` is told its tokens.

        Raises:
            NoAnswer: it is no stream of events.
        """
        raise NotImplementedError
