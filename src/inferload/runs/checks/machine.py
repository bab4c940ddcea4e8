"""What is doubtful about the machines that callers are on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from inferload.machine.hardware import TURBO_HINT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


def machine_checks(
    machines: Mapping[str, Mapping[str, Any]],
) -> Iterator[tuple[str, str, str]]:
    """Code, message and hint of what moves the clock, from what was read on each machine.

    ``machines``: the environment of the callers on each, by its name.
    """
    governors: dict[str, list[str]] = {}
    for host, one in machines.items():
        if one.get("governor") not in {None, "performance"}:
            governors.setdefault(one["governor"], []).append(host)
    for governor, hosts in governors.items():
        yield (
            "governor",
            (
                f"the CPU governor{_where(hosts, machines)} is {governor!r}: the clock follows the "
                "load"
            ),
            "cpupower frequency-set --governor performance",
        )
    fast = [host for host, one in machines.items() if one.get("turbo")]
    if fast:
        yield (
            "turbo",
            (
                f"turbo is on{_where(fast, machines)}: the clock depends on heat and on how many "
                "cores are busy"
            ),
            TURBO_HINT,
        )


def _where(hosts: Sequence[str], machines: Mapping[str, object]) -> str:
    """The machines by name, where there are several."""
    if len(machines) == 1:
        return ""
    more = f" and {len(hosts) - 4} more" if len(hosts) > 4 else ""
    return f" of {', '.join(hosts[:4])}{more}"
