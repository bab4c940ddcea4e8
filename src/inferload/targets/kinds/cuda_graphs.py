"""CUDA graphs: one call of a target captured for each caller, and replayed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from inferload.errors import PlanError
from inferload.log.reasons import reason_of
from inferload.targets.base import Target
from inferload.targets.inputs.call_input import described, owned, tensors_of
from inferload.targets.outputs.same_outputs import Eager, compared

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import ModuleType

    from inferload.records.figures import RunWarning
    from inferload.targets.inputs.call_input import CallInput

# What a model allocates and tunes in its first calls must not be captured (torch's own advice).
CALLS_BEFORE_CAPTURE = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class _Graph:
    """A captured call: the tensors that it reads, and those that it writes."""

    graph: Any
    reads: CallInput
    returns: Any


class GraphTarget(Target):
    """A target whose calls are replayed from CUDA graphs.

    Each caller has a graph of its own for each signature of its inputs (shapes, dtypes, devices,
    constants), with memory of its own: a caller's outputs lie where its next call writes. A call
    copies its input to the tensors that the graph reads, and replays it; with transfers it is
    copied there from the host at once.
    """

    form = "cudagraph"

    def __init__(self, inner: Target, *, compare: bool = True) -> None:
        super().__init__(inner.name)
        self._compare = compare
        self.inner = inner
        self.notes = inner.notes
        #: The graph for each input of each caller.
        self._graphs: list[list[_Graph]] = []
        self._transfers = False

    def load(self, callers: int) -> None:
        """Load what is captured."""
        self.inner.load(callers)

    def bind(self, number: int, call_input: CallInput) -> CallInput:
        """Check one input: its tensors must be on a CUDA device.

        Raises:
            PlanError: naming the input's number and what is wrong.
        """
        devices = {t.device.type for t in tensors_of((call_input.args, dict(call_input.kwargs)))}
        if devices != {"cuda"}:
            where = " and ".join(sorted(devices)) or "nothing"
            raise PlanError(
                f"input {number} ({described(call_input)}) is on {where}, and CUDA graphs need a "
                "model and inputs on a CUDA device: --device cuda"
            )
        return self.inner.bind(number, call_input)

    def prepare(self, inputs: Sequence[CallInput]) -> None:
        """Prepare what is captured."""
        self.inner.prepare(inputs)
        self.first_call_ms = self.inner.first_call_ms

    def open(self, inputs: Sequence[Sequence[CallInput]], *, transfers: bool) -> None:
        """Capture a graph for each caller and each signature of its inputs.

        Raises:
            PlanError: a call cannot be captured, or computes something else when it is replayed.
        """
        self._transfers = transfers
        self._graphs = []
        for own in inputs:
            by_signature: dict[Any, _Graph] = {}
            for one in own:
                signature = _signature(one)
                if signature not in by_signature:
                    by_signature[signature] = self._captured(one)
            self._graphs.append([by_signature[_signature(one)] for one in own])
        if self._compare:
            eager = Eager(self.name, self.inner.python_callable(), inputs[0][0])
            calls = self._calls(0, inputs[0], copying=True)
            self.notes = (*self.inner.notes, *compared(eager, self.form, calls, inputs[0]))

    def _captured(self, one: CallInput) -> _Graph:
        reads = owned(one)
        function = partial(self.inner.python_callable(), *reads.args, **reads.kwargs)
        device = tensors_of((reads.args, reads.kwargs))[0].device
        graph = torch.cuda.CUDAGraph()
        generator = torch.cuda.default_generators[device.index]
        random = generator.clone_state()
        try:
            with torch.cuda.device(device):
                side = torch.cuda.Stream(device)
                side.wait_stream(torch.cuda.current_stream(device))
                with torch.cuda.stream(side):
                    for _ in range(CALLS_BEFORE_CAPTURE):
                        function()
                side.synchronize()
                with torch.cuda.graph(graph, stream=side, capture_error_mode="thread_local"):
                    returns = function()
                torch.cuda.synchronize(device)
        except (RuntimeError, torch.cuda.CudaError) as error:
            # a capture that fails leaves the state that it found in the middle of one, for good
            generator.graphsafe_set_state(random)
            reason = reason_of(error)
            raise PlanError(
                f"a call of {self.name} cannot be captured as a CUDA graph ({reason}): a model "
                "that waits for the device, or whose work depends on values, cannot be replayed"
            ) from error
        return _Graph(graph=graph, reads=reads, returns=returns)

    def python_callable(self) -> Callable[..., Any]:
        """What was captured, as it computes without a graph."""
        return self.inner.python_callable()

    def calls_of(self, caller: int, own: Sequence[CallInput]) -> list[Callable[[], Any]]:
        """Replays of the caller's own graphs."""
        return self._calls(caller, own, copying=not self._transfers)

    def _calls(
        self, caller: int, own: Sequence[CallInput], *, copying: bool
    ) -> list[Callable[[], Any]]:
        return [
            partial(_replayed, _copies(one, graph.reads) if copying else [], graph)
            for one, graph in zip(own, self._graphs[caller], strict=True)
        ]

    def read_by_calls(self, caller: int, number: int, own: CallInput) -> CallInput:
        """The tensors that the graph reads."""
        del own
        return self._graphs[caller][number].reads

    def native_callable(self, extension: ModuleType, inputs: Sequence[Sequence[CallInput]]) -> Any:
        """The graphs of each caller, replayed without Python."""
        return extension.GraphModel(
            [
                [
                    (
                        graph.graph,
                        [] if self._transfers else _copies(one, graph.reads),
                        tensors_of(graph.returns),
                    )
                    for one, graph in zip(own, graphs, strict=True)
                ]
                for own, graphs in zip(inputs, self._graphs, strict=True)
            ]
        )

    def modules(self) -> Sequence[torch.nn.Module]:
        """The modules of what is captured."""
        return self.inner.modules()

    def run_warnings(self, callers: int) -> tuple[RunWarning, ...]:
        """Those of what is captured."""
        return tuple(dict.fromkeys((*self.notes, *self.inner.run_warnings(callers))))


def _signature(one: CallInput) -> Any:
    """What two inputs must have in common to be replayed by the same graph."""
    leaves, structure = pytree.tree_flatten((tuple(one.args), dict(one.kwargs)))
    return structure, tuple(
        (leaf.shape, leaf.stride(), leaf.dtype, leaf.device)
        if isinstance(leaf, torch.Tensor) and leaf.is_cuda
        else (type(leaf), repr(leaf))
        for leaf in leaves
    )


def _copies(one: CallInput, reads: CallInput) -> list[tuple[torch.Tensor, torch.Tensor]]:
    pairs = zip(
        tensors_of((tuple(one.args), dict(one.kwargs))),
        tensors_of((reads.args, reads.kwargs)),
        strict=True,
    )
    return [(own, read) for own, read in pairs if own.is_cuda]


def _replayed(copies: list[tuple[torch.Tensor, torch.Tensor]], graph: _Graph) -> Any:
    for own, read in copies:
        read.copy_(own, non_blocking=True)
    graph.graph.replay()
    return graph.returns
