"""What a run was asked to be, as its result tells it."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from inferload.records.batches import BatchSpec
from inferload.records.figures import Fingerprint
from inferload.records.recording import Recording
from inferload.records.server import ServerSpec
from inferload.records.stages import Stage

if TYPE_CHECKING:
    from collections.abc import Mapping


#: Between the names of executors, and of forms, where models of a mix have several.
AND = " + "


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShare:
    """One model of a mix: its share of the calls, and which inputs are its own.

    ``weight`` is a fraction of all calls; inputs are numbered through all models. ``callers``: how
    many callers of each process call it and no other; ``None`` where all callers call all models.
    ``may_become`` and ``fingerprint``: as in ``RunSpec``.
    """

    name: str
    target: str
    form: str
    weight: float
    first_input: int
    inputs: int
    callers: int | None = None
    may_become: tuple[str, ...] = ()
    fingerprint: Fingerprint | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """What was asked for and, where that was left open, what was chosen.

    ``callers`` are those of all ``processes`` together, and these those of all ``ranks`` of a
    cluster, also of such as were lost. ``isolated``: they ran in other processes than the one that
    asked for the run. ``devices`` are those that calls had work on, ``streams`` and ``completion``
    how callers used them: ``None`` on the CPU. ``drawn``: what values of inputs were drawn from, in
    words; each once. ``may_become``: the forms that the model could be
    asked for in place of the one it is in, as far as that can be told without trying.

    ``asked_form``, ``mode`` and ``batch_size``: what the model and inputs given were turned into,
    where that was asked for, and ``compare`` whether its outputs were held against the eager
    model's. ``arrivals``, ``burstiness`` and ``load_seed``: of an open loop, as ``OpenLoop`` has
    them; ``load_stages``: its stages, where the rate changes; ``recording``: captured calls that it
    replays, ``paired`` with the inputs that came with them. ``clients``, ``think_s`` and
    ``think``: of a closed loop, as ``ClosedLoop`` has them. ``limits``: as they are written.
    ``batching``: how requests were put together. ``fingerprint``: of one model; those of a mix have
    their own. ``servers``: those that models are behind. ``more``: further options as they were
    asked for, by name.
    """

    target: str
    form: str
    executor: str
    load: str
    callers: int
    processes: int = 1
    ranks: int = 1
    rate_per_s: float | None = None
    drain_s: float | None = None
    calls: int | None
    duration_s: float | None
    precision: float | None = None
    quantile: str = "p99"
    time_limit_s: float | None = None
    warmup: str = "fixed"
    warmup_calls: int
    threads_per_call: int
    inputs: tuple[str, ...]
    items_per_input: tuple[int, ...]
    share_inputs: bool
    seed: int
    on_error: str
    grad_mode: str
    autocast: str
    verify: bool = False
    isolated: bool = False
    pin: str = "none"
    timeout_s: float | None = None
    models: tuple[ModelShare, ...] = ()
    devices: tuple[str, ...] = ()
    streams: str | None = None
    completion: str | None = None
    transfers: bool = False
    fresh_inputs: bool = False
    drawn: tuple[str, ...] = ()
    may_become: tuple[str, ...] = ()
    asked_form: str | None = None
    mode: str | None = None
    batch_size: int | None = None
    arrivals: str | None = None
    burstiness: float | None = None
    load_seed: int | None = None
    load_stages: tuple[Stage, ...] = ()
    recording: Recording | None = None
    paired: bool = False
    clients: int | None = None
    think_s: float | None = None
    think: str | None = None
    batching: BatchSpec | None = None
    limits: tuple[str, ...] = ()
    telemetry: bool = True
    compare: bool = True
    more: dict[str, Any] = field(default_factory=dict)
    fingerprint: Fingerprint | None = None
    servers: tuple[ServerSpec, ...] = ()

    @property
    def open_loop(self) -> bool:
        """Whether calls were due at times fixed beforehand; of results of all schemas."""
        return self.drain_s is not None

    @property
    def queued(self) -> bool:
        """Whether calls were due before they started, so that they may have queued."""
        return self.open_loop or self.clients is not None

    @property
    def unit(self) -> str:
        """What a row of the log is: a ``"call"`` of the model, or a ``"request"`` for one."""
        return "call" if self.batching is None and self.clients is None else "request"

    @property
    def executors(self) -> tuple[str, ...]:
        """The names of its executors, each once."""
        return tuple(self.executor.split(AND))

    @property
    def forms(self) -> tuple[str, ...]:
        """The forms of its models, each once."""
        return tuple(dict.fromkeys(one.form for one in self.models)) or (self.form,)

    @property
    def callers_per_process(self) -> int:
        """How many callers each process has."""
        return self.callers // self.processes

    @property
    def callers_by_lane(self) -> tuple[int, ...]:
        """How many callers of a process serve each queue: one a model with callers of its own."""
        own = tuple(share.callers for share in self.models if share.callers is not None)
        return own or (self.callers_per_process,)

    @classmethod
    def telling(cls, told: Mapping[str, Any], **chosen: Any) -> RunSpec:
        """A spec that repeats options as they were asked for; ``chosen`` is what came of others.

        Options that have no field here are among ``more``.
        """
        own = {one.name for one in fields(cls)}
        more = {name: value for name, value in told.items() if name not in own}
        kept = {name: value for name, value in told.items() if name in own}
        return cls(**kept | chosen, more=more)
