"""Several models under one load: calls are drawn among them by weight."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from inferload.errors import PlanError
from inferload.plan.arrivals.loads import Lane
from inferload.plan.numbers import check_positive
from inferload.plan.server import is_served
from inferload.targets.as_target import as_target
from inferload.targets.inputs.given import as_call_inputs
from inferload.targets.kinds.mixed import Member, MixedTarget


@dataclass(frozen=True, slots=True)
class Mix:
    """Models by name, each with its inputs and the weight of its share of all calls.

    ``models`` maps a name to ``(model, inputs, weight)``, with ``model`` and ``inputs`` as
    :func:`inferload.run` takes them; weights are in proportion to each other.

    ``callers``: how many callers each model has, in each process, that call it and no other, so
    that a slow model keeps nobody waiting for another one. A call of an open loop waits for the
    callers of its model; in a closed loop they call as fast as they can, and weights have no say.
    If not given, all callers call all models.
    """

    models: Mapping[str, tuple[object, object, float]]
    callers: Mapping[str, int] | None = None

    def target(self) -> MixedTarget:
        """The target that calls each model with its own inputs.

        Raises:
            PlanError: there is no model, one has no inputs, or a weight is not above 0.
        """
        if not isinstance(self.models, Mapping):
            raise PlanError(
                f"models is {self.models!r}: give {{name: (model, inputs, weight)}} for each"
            )
        if not self.models:
            raise PlanError("a mix has no models: give at least one, by name")
        if self.callers is not None and set(self.callers) != set(self.models):
            raise PlanError(
                f"callers of {', '.join(map(str, self.callers))} were given for the models "
                f"{', '.join(map(str, self.models))}: give each of them callers, or none"
            )
        members = []
        for name, entry in self.models.items():
            if not isinstance(entry, tuple) or len(entry) != 3:
                raise PlanError(f"{name} in a mix must be (model, inputs, weight)")
            model, inputs, weight = entry
            check_positive(f"the weight of {name}", weight, at_most=1e9)
            try:
                members.append(
                    Member(
                        name=str(name),
                        target=as_target(model),
                        given=as_call_inputs(inputs),
                        weight=float(weight),
                        callers=None if self.callers is None else self.callers[name],
                    )
                )
            except PlanError as error:
                raise PlanError(f"{name}: {error}") from error
        return MixedTarget(members)

    @property
    def of_server(self) -> bool:
        """Whether one of the models is behind a server."""
        entries = self.models.values() if isinstance(self.models, Mapping) else ()
        return any(is_served(one[0]) for one in entries if isinstance(one, tuple | list) and one)

    def lanes(self) -> tuple[Lane, ...]:
        """The callers that each model has of its own; none where all share them."""
        return tuple(
            Lane(name=str(name), callers=callers, weight=float(self.models[name][2]))
            for name in self.models
            if (callers := (self.callers or {}).get(name)) is not None
        )
