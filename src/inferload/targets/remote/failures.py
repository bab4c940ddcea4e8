"""What can become of a request: the classes of failures, as the log and reports name them."""

from __future__ import annotations

import errno
import json
import re
from typing import Any
from urllib.parse import quote

from inferload.units import printable

#: What reading an answer raises that is not what it should be.
MALFORMED = (
    ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError,
)  # fmt: skip
# So much of what a server says of a failure is kept.
_MOST_WORDS = 200


class RemoteFailure(Exception):  # noqa: N818 - its classes are what reports name
    """A request that came to nothing."""


class ConnectionRefused(RemoteFailure):
    """Nobody listens there."""


class ConnectionReset(RemoteFailure):
    """The connection was reset while the request or its answer was under way."""


class ConnectionFailed(RemoteFailure):
    """No connection, for another reason: no route, too many open files, no port left."""


class ConnectTimedOut(RemoteFailure):
    """Nobody accepted the connection in time."""


class Disconnected(RemoteFailure):
    """The server closed the connection before it had answered anything."""


class HostNotFound(RemoteFailure):
    """The name of the host has no address."""


class TlsFailed(RemoteFailure):
    """There is no secure connection: a certificate that cannot be trusted, or no common version."""


class CutOff(RemoteFailure):
    """The answer broke off before its end; its pieces up to there are kept."""


class TooManyRequests(RemoteFailure):
    """Status 429, or gRPC's RESOURCE_EXHAUSTED: the server has had enough requests."""


class Unavailable(RemoteFailure):
    """Status 503, or gRPC's UNAVAILABLE: the server does not serve now."""


class ServerError(RemoteFailure):
    """Another status from 500 on, or its like in gRPC."""


class RequestRefused(RemoteFailure):
    """Another status from 400 on, or its like in gRPC: the server takes the request for wrong."""


class Redirected(RemoteFailure):
    """The server sends the caller elsewhere, where requests are not sent."""


class NoAnswer(RemoteFailure):
    """What came back is not an answer of this protocol."""


class AnswerTooLarge(RemoteFailure):
    """The answer is larger than was allowed."""


def words_of(body: bytes) -> str:
    """What a server says in a body, in a line; markup is taken out.

    >>> words_of(b'{"error": "no model  x"}'), words_of(b"<html><h1>Bad Gateway</h1></html>")
    ('no model x', 'Bad Gateway')
    """
    text = body[:4096].decode("utf-8", "replace")
    found = re.search(r'"(?:error|message|detail|error_message)"\s*:\s*"((?:[^"\\]|\\.)*)"', text)
    text = found[1] if found else re.sub(r"<[^>]*>", " ", text)
    line = " ".join(printable(text).split())
    return line[: _MOST_WORDS - 3] + "..." if len(line) > _MOST_WORDS else line


def of_status(status: int, body: bytes, retry_after: str | None = None) -> RemoteFailure:
    """The failure that a status means."""
    kinds: dict[int, type[RemoteFailure]] = {429: TooManyRequests, 503: Unavailable}
    kind = kinds.get(status, ServerError if status >= 500 else RequestRefused)
    after = f" (Retry-After: {printable(retry_after)[:40]})" if retry_after else ""
    words = words_of(body)
    return kind(f"status {status}{after}" + (f": {words}" if words else ""))


def of_os_error(error: OSError, what: str) -> RemoteFailure:
    """The failure that an error of the system means; ``what``: to whom."""
    reason = error.strerror or type(error).__name__
    number = error.errno
    if number == errno.ECONNREFUSED:
        return ConnectionRefused(f"{what} refuses connections")
    if number in {errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED, errno.ESHUTDOWN}:
        return ConnectionReset(f"{what} reset the connection")
    if number == errno.ETIMEDOUT:
        return ConnectTimedOut(f"{what} did not accept the connection")
    return ConnectionFailed(f"{what} cannot be reached: {reason}")


def masked(text: str, secrets: tuple[str, ...]) -> str:
    r"""A text with ``***`` in place of secrets, also as JSON and URLs write them.

    >>> masked(r"not k/1, nor k\/1", ("k/1",))
    'not ***, nor ***'
    """
    for one in secrets:
        for written in _ways(one):
            text = text.replace(written, "***")
    return text


def _ways(secret: str) -> list[str]:
    """How a secret may be written."""
    in_json = json.dumps(secret)[1:-1]
    found = [secret, in_json, in_json.replace("/", "\\/"), quote(secret), quote(secret, safe="")]
    return list(dict.fromkeys(found))


def without_secrets(error: Any, secrets: tuple[str, ...]) -> Any:
    """The failure with what is secret taken out of its words."""
    text = masked(str(error), secrets)
    return error if text == str(error) else type(error)(text)


def without_secrets_in(body: bytes, secrets: tuple[str, ...]) -> bytes:
    """What a server says, with what is secret taken out."""
    if not secrets:
        return body
    return masked(body.decode("utf-8", "surrogateescape"), secrets).encode(
        "utf-8", "surrogateescape"
    )
