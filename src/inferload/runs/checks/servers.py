"""What is doubtful about what servers count themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from inferload.runs.checks.findings import Findings, Texts

# By so much the count of a server may differ.
_SHARE = 0.01


def server_checks(found: Findings) -> Iterator[Texts]:
    """What could not be read, and counts that are not ours."""
    for one in found.servers:
        for trouble in () if one.said is None else one.said.troubles:
            yield (
                "server-unread",
                f"what the server counted is not known: {trouble}",
                "inferload's own figures do without it; where calls waited is not known",
            )
    spec = found.spec
    # a server of a mix may count what the others of its models were asked, too
    single = len(found.servers) == 1 and len(spec.models) <= 1
    if not single or found.cut_short or spec.ranks > 1:
        return
    said = found.servers[0].said
    if said is None or said.requests is None:
        return
    made = found.made_calls
    # what failed here may have been answered there
    if (made - found.failed_calls) * (1 - _SHARE) <= said.requests <= made * (1 + _SHARE):
        return
    yield (
        "server-counts-differ",
        (
            f"the server counted {said.requests:,} requests ({said.counted_by}) while {made:,} "
            "were sent from here"
        ),
        (
            "others ask it, too, or one call is several requests to it (a list of prompts)"
            if said.requests > made
            else "something before it answers (a cache, a balancer), or it has several processes "
            "that each count for themselves"
        ),
    )
