"""A model behind a server, in words: its URL, and how it is asked."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inferload.errors import PlanError
from inferload.plan.numbers import check_count

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
#: How connections are had: one for each caller, opened beforehand, or one for each call.
CONNECTIONS = ("kept", "new")
#: A closed loop's requests in flight have so long when its time is over, as those of an open loop.
SERVER_DRAIN_S = 30.0
#: What requests are sent by: the modules, and the packages that have them.
SERVER_PACKAGES = {
    "aiohttp": "aiohttp",
    "tritonclient": "tritonclient",
    "grpc": "grpcio",
    "prometheus_client": "prometheus-client",
}
#: What a server has not answered by then it may never answer; as long as aiohttp would wait.
SERVER_TIMEOUT_S = 300.0
#: An answer of more is refused, unless more is asked for.
MOST_ANSWER_BYTES = 64 * 2**20


def is_url(text: object) -> bool:
    """Whether a model is named by the URL of a server.

    >>> is_url("http://127.0.0.1:8080/predict"), is_url("models/net.py:net")
    (True, False)
    """
    return isinstance(text, str) and _URL.match(text) is not None


def is_served(model: object) -> bool:
    """Whether a model is behind a server, as far as it says so."""
    return isinstance(model, Server) or is_url(model)


@dataclass(frozen=True, slots=True)
class Server:
    """A model behind a server, which :func:`inferload.run` takes in place of a model.

    ``url``: its path says how it is spoken to: ``/v2/models/NAME`` (Open Inference Protocol v2;
    over gRPC ``grpc://host:port/NAME``), ``/v1/completions``, ``/v1/chat/completions``,
    ``/v1/embeddings``, else plain HTTP, to which JSON is posted. ``headers`` map names to values,
    in which the words ``env:NAME`` and ``file:PATH`` stand for what is there: secrets are given so.
    ``body``: of plain HTTP what is posted, with ``"{input}"`` or ``"{name}"`` in place of the
    input or its argument of that name; of ``/v1/...`` fields that every body has.
    ``connections``: ``"kept"``, one for each caller, or ``"new"`` for each call. ``insecure``: the
    certificate of the server is not verified. ``answer_bytes``: an answer of more is refused.
    """

    url: str
    headers: Mapping[str, str] | Sequence[tuple[str, str]] = ()
    body: Any = None
    connections: str = "kept"
    insecure: bool = False
    answer_bytes: int = MOST_ANSWER_BYTES

    def __post_init__(self) -> None:
        if not is_url(self.url):
            raise PlanError(
                f"{self.url!r} is no URL of a server: give http://host:port/path, https://..., or "
                "grpc://host:port/NAME"
            )
        if self.connections not in CONNECTIONS:
            raise PlanError(
                f"connections {self.connections!r} is unknown: choose {' or '.join(CONNECTIONS)}"
            )
        check_count("answer_bytes", self.answer_bytes, at_least=1)
        object.__setattr__(self, "headers", self.header_pairs)
        for name, value in self.header_pairs:
            check_header(name, value)
        check_body(self.body)

    @property
    def header_pairs(self) -> tuple[tuple[str, str], ...]:
        """The headers as they were given, without what ``env:`` and ``file:`` stand for."""
        given = self.headers
        pairs = given.items() if isinstance(given, Mapping) else given
        return tuple((name, value) for name, value in pairs)


_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|\d+")
_SECRET = frozenset(
    {
        "auth", "authorization", "authentication", "cookie", "token", "secret", "key", "apikey",
        "password", "passwd", "pass", "pwd", "credential", "credentials", "sig", "signature", "jwt",
        "bearer",
    }
)  # fmt: skip
# What may stand before a secret in its header, as Bearer.
_SCHEME = re.compile(r"[A-Za-z]{1,12}")
#: What stands in a header for a value that is had when it is sent.
REFERENCES = ("env:", "file:")


def is_secret(name: str) -> bool:
    """Whether a header, a parameter or a field of this name is likely to be a secret.

    >>> [is_secret(one) for one in ("X-Api-Key", "apiKey", "sig", "Accept", "max_tokens")]
    [True, True, True, False, False]
    """
    return not _SECRET.isdisjoint(one.lower() for one in _WORDS.findall(name))


def check_header(name: object, value: object) -> None:
    """Refuse what is no header, and secrets that stand there.

    Raises:
        PlanError: naming the header; never its value.
    """
    if not isinstance(name, str) or not isinstance(value, str) or not _TOKEN.fullmatch(name):
        raise PlanError(f"a header {name!r} is not understood: give a name and a value, as texts")
    if any(ord(one) < 32 or ord(one) == 127 for one in value):
        raise PlanError(f"the header {name} has a line break or another control character")
    if name.lower() in {"content-length", "transfer-encoding", "host", "connection"}:
        raise PlanError(f"the header {name} is made from the request itself: leave it out")
    own = [word for word in value.split() if not word.startswith(REFERENCES)]
    literal = len(own) == len(value.split()) or not all(map(_SCHEME.fullmatch, own))
    if is_secret(name) and literal:
        raise PlanError(
            f"the header {name} looks like a secret, which whoever reads the command line or the "
            f"result would see: put it into an environment variable or a file, and give "
            f"'{name}: env:NAME' or '{name}: file:PATH' (as 'Authorization: Bearer env:TOKEN')"
        )


def check_body(body: Any, name: str = "") -> None:
    """Refuse a secret that stands in a body.

    Raises:
        PlanError: naming its field; never its value.
    """
    if isinstance(body, Mapping):
        for key, value in body.items():
            check_body(value, str(key))
    elif isinstance(body, list | tuple):
        for value in body:
            check_body(value, name)
    elif isinstance(body, str) and is_secret(name) and not body.startswith((*REFERENCES, "{")):
        raise PlanError(
            f"the field {name} of the body looks like a secret, which whoever reads the command "
            'line or the result would see: give "env:NAME" or "file:PATH" for it'
        )


def header_from_text(text: str) -> tuple[str, str]:
    """Read ``--header``: a name and a value.

    Raises:
        PlanError: it is none, or has a secret in it.

    >>> header_from_text("X-Tenant: a")
    ('X-Tenant', 'a')
    """
    name, colon, value = text.partition(":")
    if not colon or not _TOKEN.fullmatch(name.strip()):
        raise PlanError("a --header is not understood: give 'Name: value', as 'X-Tenant: a'")
    check_header(name.strip(), value.strip())
    return name.strip(), value.strip()


#: The words of the command line that are of models here alone.
OF_MODELS_HERE = (
    "form", "mode", "device", "autocast", "executor", "threads_per_call", "transfers", "streams",
    "completion", "fresh_inputs", "pin", "max_batch", "max_delay", "batch_pad",
    "batch_sizes_allowed",
)  # fmt: skip
#: The words of the command line that are of servers alone.
OF_SERVERS = ("header", "body", "connections", "insecure", "answer_bytes")


def check_words_of_server(words: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Refuse flags that say what is done with a model here.

    Raises:
        PlanError: naming the flag.
    """
    for key in OF_MODELS_HERE:
        value = words.get(key, defaults[key])
        if value != defaults[key] and not (key == "executor" and value in {"async", "processes"}):
            flag = f"--{key.replace('_', '-')}"
            raise PlanError(
                f"{flag} is of models here, and what a server does with its model is chosen where "
                f"it is started: leave {flag} out"
            )


def server_from_words(words: Mapping[str, Any], *, of_server: bool) -> Server | None:
    """How servers are asked, from the words of the command line; their URLs are the models.

    Raises:
        PlanError: a word is not understood, or there is no server.
    """
    body = words["body"]
    given = {"header": words["header"], "body": body, "insecure": words["insecure"]}
    if not of_server:
        flags = [f"--{name}" for name, value in given.items() if value]
        flags += ["--connections"] * (words["connections"] != "kept")
        flags += ["--answer-bytes"] * (words["answer_bytes"] is not None)
        if flags:
            raise PlanError(
                f"{flags[0]} is of servers, and MODEL is no URL: give http://host:port/path, or "
                f"leave {flags[0]} out"
            )
        return None
    return Server(
        "http://localhost",
        headers=tuple(map(header_from_text, words["header"] or ())),
        body=None if body is None else body_from_text(body),
        connections=words["connections"],
        insecure=words["insecure"],
        answer_bytes=words["answer_bytes"] or MOST_ANSWER_BYTES,
    )


def body_from_text(text: Any) -> Any:
    """Read ``--body``: JSON, or @ and the name of a file of it.

    Raises:
        PlanError: it is none.

    >>> body_from_text('{"max_tokens": 8}')
    {'max_tokens': 8}
    """
    if not isinstance(text, str):  # a table of a run file
        return text
    where = "--body"
    if text.startswith("@"):
        where = text[1:]
        try:
            text = Path(where).read_text(encoding="utf-8")
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or "it is no text"
            raise PlanError(f"the body {where} cannot be read: {reason}") from None
    try:
        return json.loads(text)
    except ValueError as error:
        raise PlanError(
            f'{where} is no JSON ({error}): give an object, as \'{{"text": "{{input}}"}}\''
        ) from None
