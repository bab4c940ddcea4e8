"""Which rank of which cluster this process is, as torchrun says it in the environment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from inferload.errors import PlanError

if TYPE_CHECKING:
    from collections.abc import Mapping

# What torch.distributed's env:// needs; torchrun, and operators that do without it, set these.
_NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One rank of a cluster.

    ``local_rank`` and ``local_ranks`` are those of this machine. ``address`` and ``port`` are where
    the c10d store is; ``agent_store``: torchrun's agent keeps it, else the first rank does.
    ``attempt``: how often torchrun has restarted the ranks.
    """

    rank: int
    ranks: int
    local_rank: int
    local_ranks: int
    address: str
    port: int
    agent_store: bool
    attempt: int


def launch_of(environment: Mapping[str, str]) -> Launch | None:
    """The rank that an environment speaks of; ``None`` where it speaks of none, or of one alone.

    Raises:
        PlanError: a variable is not what it should be.
    """
    if any(name not in environment for name in _NEEDED):
        return None
    rank, ranks, port = (_number(environment, name) for name in ("RANK", "WORLD_SIZE", _NEEDED[3]))
    if ranks == 1:
        return None
    if not 0 <= rank < ranks:
        raise PlanError(
            f"RANK={rank} is none of WORLD_SIZE={ranks} ranks: start with torchrun, or unset both "
            "to run alone"
        )
    return Launch(
        rank=rank,
        ranks=ranks,
        local_rank=_number(environment, "LOCAL_RANK", 0),
        local_ranks=max(_number(environment, "LOCAL_WORLD_SIZE", 1), 1),
        address=environment["MASTER_ADDR"],
        port=port,
        agent_store=environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
        attempt=_number(environment, "TORCHELASTIC_RESTART_COUNT", 0),
    )


def _number(environment: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = environment.get(name, "")
    if not text and default is not None:
        return default
    if not text.isascii() or not text.isdigit():
        raise PlanError(
            f"{name}={text!r} in the environment is no number: start with torchrun, or unset RANK "
            "and WORLD_SIZE to run alone"
        )
    return int(text)
