"""A model of a program of Python in fresh processes, one after another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferload.callers.processes.handing import handed
from inferload.callers.python.thread_state import ThreadState
from inferload.plan.model import ModelSource
from inferload.studies.child.bench import ChildBench
from inferload.targets.as_target import is_spec

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from inferload.targets.base import Target
    from inferload.targets.inputs.call_input import CallInput


def in_fresh_processes(
    model: object,
    inputs: object,
    target: Target,
    given: tuple[CallInput, ...],
    *,
    fresh: bool = True,
    environment: Mapping[str, str] | None = None,
    packages: Path | None = None,
) -> ChildBench:
    """What calls a model by slices: each process loads it by its words, or is handed it.

    ``fresh``, ``environment`` and ``packages`` as of :class:`ChildBench`.
    """
    source = ModelSource(spec=model) if isinstance(model, str) and is_spec(model) else None
    if source is not None and inputs is None:
        return ChildBench(source, fresh=fresh, environment=environment, packages=packages)
    spec, state = None if source is None else source.spec, ThreadState.of_this_thread().portable
    return ChildBench(
        source,
        fresh=fresh,
        environment=environment,
        packages=packages,
        hand=lambda scratch: handed(
            target, given, state, spec=spec, scratch=scratch, apart=inputs is not None
        ),
    )
