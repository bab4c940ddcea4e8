"""Pure data: how requests were asked to be put together into batches, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from inferload.records.distribution import Distribution, Estimate

#: In ``BatchSpec.pad`` the name of all arguments that it does not name.
EVERY_ARGUMENT = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSpec:
    """How requests were put together, as ``Batching`` has it; ``pad`` by the name of an argument.

    ``elements_per_input``: how many values of each input are put together with those of others, the
    measure of what is padding; known once inputs are.
    """

    max_batch: int
    max_delay_s: float = 0.0
    pad: dict[str, float] = field(default_factory=dict)
    sizes_allowed: tuple[int, ...] = ()
    elements_per_input: tuple[int, ...] = ()

    @property
    def code(self) -> str:
        """As it is written in Python.

        >>> BatchSpec(max_batch=8, max_delay_s=0.002, pad={"*": 0.0}).code
        'il.Batching(max_batch=8, max_delay_s=0.002, pad=0.0)'
        """
        given: dict[str, object] = {"max_batch": self.max_batch, "max_delay_s": self.max_delay_s}
        if self.pad:
            every = self.pad.keys() == {EVERY_ARGUMENT}
            given["pad"] = self.pad[EVERY_ARGUMENT] if every else self.pad
        if self.sizes_allowed:
            given["sizes_allowed"] = self.sizes_allowed
        words = ", ".join(f"{name}={value!r}" for name, value in given.items()).replace("'", '"')
        return f"il.Batching({words})"


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchFigures:
    """The batches of the measured part of a run: those whose requests returned in it.

    ``batches`` calls of the model were made, ``calls_per_s`` a second, of ``mean_size`` requests
    each; ``sizes`` are pairs of a number of requests and how many batches had it. The queue of a
    request is the wait for an instance, until a caller was free, then the wait for its batch, while
    that caller held it back for others (``batch_wait_ms``), then lateness. ``gather_ms``: putting
    the inputs together, a part of the service, of batches, as is ``device_ms``, the time on the
    device. ``padding_fraction``: of all values that the model was given. ``sampled``: these are
    figures of a sample of a long run.
    """

    batches: int
    calls_per_s: Estimate
    mean_size: float
    sizes: tuple[tuple[int, int], ...]
    instance_wait_ms: Distribution | None
    batch_wait_ms: Distribution | None
    gather_ms: Distribution | None
    device_ms: Distribution | None = None
    padding_fraction: float = 0.0
    sampled: bool = False
