"""Where a server is, and how it is spoken to, from its URL."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

from inferload.errors import PlanError
from inferload.plan.server import is_secret

_V2 = re.compile(r"(?P<base>.*)/v2/models/(?P<name>[^/]+)(?:/versions/(?P<version>[^/]+))?/?")
_OPENAI = {
    "/v1/completions": "openai-completions",
    "/v1/chat/completions": "openai-chat",
    "/v1/embeddings": "openai-embeddings",
}
# What stands in a path or a query as it is; what is neither this nor encoded is encoded.
_AS_IT_IS = "/?:@!$&'()*+,;=-._~%"
_PORTS = {"http": 80, "https": 443, "grpc": 8001, "grpcs": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """The parts of a URL.

    ``protocol``: ``"v2-http"``, ``"v2-grpc"``, ``"openai-completions"``, ``"openai-chat"``,
    ``"openai-embeddings"`` or ``"http"``. ``base``: what comes before the part of the path that
    says so. ``model`` and ``version`` are named by v2 alone.
    """

    scheme: str
    host: str
    port: int
    path: str
    protocol: str
    base: str = ""
    model: str | None = None
    version: str | None = None

    @property
    def tls(self) -> bool:
        """Whether it is spoken to over TLS."""
        return self.scheme in {"https", "grpcs"}

    @property
    def authority(self) -> str:
        """Host and port, as they stand in a URL.

        >>> Address.of("http://[::1]:8080/x").authority
        '[::1]:8080'
        """
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        return f"{self.scheme}://{self.authority}"

    @classmethod
    def of(cls, url: str) -> Address:
        """Read a URL.

        Raises:
            PlanError: it names no server, or holds a secret.

        >>> one = Address.of("http://127.0.0.1:8080/v2/models/minilm")
        >>> one.protocol, one.model, one.port
        ('v2-http', 'minilm', 8080)
        >>> Address.of("grpc://localhost/minilm").protocol
        'v2-grpc'
        """
        split, host, port = _parts(url)
        scheme, path = split.scheme.lower(), split.path or "/"
        if scheme in {"grpc", "grpcs"}:
            names = path.strip("/").split("/")
            if not names[0] or len(names) not in {1, 3} or (len(names) == 3 and _middle(names)):
                raise PlanError(
                    f"{url} does not name a model: give {scheme}://{split.netloc}/NAME, or "
                    f"{scheme}://{split.netloc}/NAME/versions/VERSION"
                )
            version = names[2] if len(names) == 3 else None
            return cls(
                scheme=scheme,
                host=host,
                port=port,
                path=path,
                protocol="v2-grpc",
                model=unquote(names[0]),
                version=version,
            )
        whole = quote(path + (f"?{split.query}" if split.query else ""), safe=_AS_IT_IS)
        protocol, base, model, version = "http", "", None, None
        if found := _V2.fullmatch(path.removesuffix("/infer")):
            protocol, base, model = "v2-http", found["base"], unquote(found["name"])
            version = found["version"]
        for ending, kind in _OPENAI.items():
            if path.rstrip("/").endswith(ending):
                protocol, base = kind, path.rstrip("/").removesuffix(ending)
        return cls(
            scheme=scheme,
            host=host,
            port=port,
            path=whole,
            protocol=protocol,
            base=base,
            model=model,
            version=version,
        )


def _middle(names: list[str]) -> bool:
    return names[1] != "versions" or not names[2]


def _parts(url: str) -> tuple[SplitResult, str, int]:
    if "@" in url.partition("://")[2].partition("/")[0]:  # before anything repeats it
        raise PlanError(
            "the URL has a user name or password in it, which every result would repeat: take it "
            "out, and give 'Authorization: Basic env:NAME' as a header (--header), where NAME "
            "holds the base64 of user:password"
        )
    if "#" in url:
        raise PlanError("a server never sees what comes after # in a URL: leave it out")
    try:
        split = urlsplit(url)
        host, port = split.hostname, split.port
    except ValueError as error:
        raise PlanError(f"the URL {url!r} cannot be read: {error}") from None
    scheme = split.scheme.lower()
    if scheme not in _PORTS:
        raise PlanError(
            f"servers are spoken to by http, https, grpc or grpcs, and the URL begins with "
            f"{split.scheme}://"
        )
    if not host:
        raise PlanError(f"the URL {url!r} names no host")
    for name, _ in parse_qsl(split.query, keep_blank_values=True):
        if is_secret(name):
            raise PlanError(
                f"the URL has the parameter {name}, which looks like a secret, and every result "
                "would repeat it: give it as a header (--header 'Name: env:NAME')"
            )
    return split, host, port or _PORTS[scheme]
