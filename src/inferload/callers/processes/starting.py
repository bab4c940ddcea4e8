"""Starting the processes of a crew: what each is given, and who makes it."""

from __future__ import annotations

import multiprocessing
import os
from dataclasses import replace
from typing import TYPE_CHECKING

from inferload.callers.budget import Budget
from inferload.callers.processes.birth import start
from inferload.callers.processes.early import not_early
from inferload.callers.processes.entry import main, nursery
from inferload.callers.processes.handles import Nursery
from inferload.callers.processes.process import CallersProcess
from inferload.callers.processes.words import Assignment, Descriptor, SharedLog
from inferload.machine.hardware import usable_cores

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnContext
    from pathlib import Path

    from inferload.callers.processes.birth import Group
    from inferload.callers.processes.handles import Handle
    from inferload.log.ring import LogFile
    from inferload.plan.cores import Place
    from inferload.plan.model import ModelSource
    from inferload.plan.options import RunOptions


def started(
    options: RunOptions,
    source: ModelSource | None,
    places: Sequence[Place],
    logs: Sequence[Sequence[LogFile]],
    *,
    scratch: Path,
    from_here: bool,
    shares_calls: bool,
) -> tuple[list[CallersProcess], Nursery | None, Group | None]:
    """Start a process for each place, and the nursery that forks them if there are several.

    All are in one group.

    ``logs``: of each process and each of its lanes. ``from_here``: this process gives each its
    model; else the first one loads it from ``source`` and hands it on. ``shares_calls``: all
    together make the number of calls that was asked for.
    """
    count = options.crew_size
    context = multiprocessing.get_context("spawn")
    budget = None
    if shares_calls and options.calls is not None:
        budget = Budget.of(options.calls)
    # who gives each process its model: this process, the first one, or its own words
    gifts = [context.Pipe(duplex=False) for _ in range(count)]
    assignments = [
        Assignment(
            process=number,
            processes=count,
            options=replace(
                options, threads_per_call=options.threads_per_call or place.threads_per_call
            ),
            source=source,
            logs=[
                SharedLog(
                    file=Descriptor(log.fileno),
                    rows=log.rows,
                    room=log.room,
                    reserved_rows=log.reserved_rows,
                )
                for log in own
            ],
            # one each: a descriptor goes along once only
            budget=None if budget is None else Descriptor(os.dup(budget.fileno)),
            handed=gifts[number][0] if from_here or number > 0 else None,
            hands_to=() if from_here or number > 0 else [end for _, end in gifts[1:]],
            cpus=place.cpus,
            node=place.node,
            first_node=places[0].node,
            usable_cores=usable_cores(),
            scratch=scratch,
        )
        for number, (own, place) in enumerate(zip(logs, places, strict=True))
    ]
    pipes = [context.Pipe() for _ in range(count)]
    handles, its_nursery, group = _born(
        context, [(end, own) for (_, end), own in zip(pipes, assignments, strict=True)]
    )
    processes = []
    for number, ((own_end, its_end), handle) in enumerate(zip(pipes, handles, strict=True)):
        its_end.close()
        gift = gifts[number][1] if from_here else None
        processes.append(CallersProcess(number, handle, own_end, gift))
    for one in assignments:
        if one.budget is not None:
            os.close(one.budget.fileno)
    for take, give in gifts:
        take.close()  # so that whoever waits for a gift hears if its giver has died
        if not from_here:
            give.close()
    return processes, its_nursery, group


def _born(
    context: SpawnContext, children: list[tuple[Connection, Assignment]]
) -> tuple[Sequence[Handle], Nursery | None, Group | None]:
    """Start one process, or a nursery that forks as many as there are."""
    if len(children) == 1:
        if children[0][1].bound:
            not_early()  # what torch starts when it is imported must find itself there
        process, group = start(main, *children[0])
        return [process], None, group
    here, there = context.Pipe()
    process, group = start(nursery, there, children)
    there.close()
    found = Nursery(process, here, len(children))
    return found.children, found, group
