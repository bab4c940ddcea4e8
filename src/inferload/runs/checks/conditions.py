"""What is doubtful about the conditions of a run: harness, threads, memory, cores."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferload.runs.checks.advice import without_gil
from inferload.runs.checks.machine import machine_checks
from inferload.units import bytes_text, count_text, milliseconds_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from inferload.runs.checks.findings import Findings, Texts

# Less than this in half a run, or 1 % of what is resident, is no leak to speak of.
LEAST_LEAK_BYTES = 4 * 2**20
GIL_FORMS = {"eager", "compile", "export", "callable"}


def harness(found: Findings) -> Iterator[Texts]:
    """What the harness itself adds."""
    spec, summary, service = found.spec, found.summary, found.summary.service_ms
    if service is None:
        return
    median_ms = service.quantile(0.5)
    floor_ms = found.floor_ms
    if floor_ms is not None and floor_ms > 0.05 * median_ms:
        yield (
            "floor",
            (
                f"the harness takes {milliseconds_text(floor_ms)} of a call, "
                f"{floor_ms / median_ms:.0%} of the median service time"
            ),
            "differences of that size are the harness's: call with larger inputs",
        )
    late = summary.lateness_ms
    if late is not None and late.quantile(0.99) > 0.01 * median_ms:
        python = "threads" in spec.executors
        late_share = "1 %" if late.p99 is not None else "~1 %"  # of too few calls to quote it
        yield (
            "late",
            (
                f"{late_share} of calls began more than {milliseconds_text(late.quantile(0.99))} "
                f"after a free caller should have begun them "
                f"(median {milliseconds_text(late.quantile(0.5))})"
            ),
            "Python callers wait for the GIL; a guess: "
            + (without_gil(spec) or "fewer Python threads beside them")
            if python
            else "leave a core free: fewer callers or intra-op threads, or a quieter machine",
        )
    gil_ms = found.disturbances.gil_wait_ms
    if GIL_FORMS & set(spec.forms) and gil_ms is not None and gil_ms > 1:
        yield (
            "gil",
            f"a Python thread that asked for the GIL waited {milliseconds_text(gil_ms)} for it",
            "a guess: " + (without_gil(spec) or "fewer Python threads beside the callers"),
        )
    pauses = found.disturbances
    if pauses.gc_longest_ms > max(0.1 * median_ms, 1) or (
        pauses.gc_total_ms > 10 * summary.duration_s
    ):
        yield (
            "gc",
            (
                f"Python's garbage collector ran {pauses.gc_pauses} times, "
                f"{milliseconds_text(pauses.gc_total_ms)} in all and up to "
                f"{milliseconds_text(pauses.gc_longest_ms)} at once"
            ),
            "call gc.freeze() after loading, or gc.disable()",
        )


# A loop that is late by more than this is held up, whatever its timers round.
LEAST_LAG_MS, LONGEST_LAG_MS = 1.0, 10.0


def event_loop(found: Findings) -> Iterator[Texts]:
    """Calls that hold up the event loop which others wait for."""
    lag, service = found.loop_lag_ms, found.summary.service_ms
    if lag is None or service is None or found.spec.servers:  # whose sender is looked at apart
        return
    middle, most = lag
    if middle > LEAST_LAG_MS or most > max(LONGEST_LAG_MS, service.quantile(0.5)):
        yield (
            "loop-blocked",
            (
                f"the event loop was late by {milliseconds_text(middle)} in the median and up to "
                f"{milliseconds_text(most)}: calls hold it up, and all others wait"
            ),
            (
                "a guess: have threads do what computes (await asyncio.to_thread(model, x)), or "
                "processes, with a loop each (--processes)"
            ),
        )


def leak(found: Findings) -> Iterator[Texts]:
    """Memory that grows with the number of calls."""
    for one in found.processes:
        use = one.memory
        if use is None:
            continue
        grown, per_1000 = use.growth_bytes or 0, use.growth_bytes_per_1000_calls or 0.0
        if (use.growth_p or 1.0) < 0.01 and grown > max(LEAST_LEAK_BYTES, use.rss_bytes[-1] // 100):
            which = f" of process {one.process}" if len(found.processes) > 1 else ""
            yield (
                "memory-grows",
                f"memory{which} grows by {bytes_text(per_1000)} per 1,000 calls",
                "a cache without a limit, or a leak: outputs, inputs or graphs that are kept?",
            )
            return


def threads(found: Findings) -> Iterator[Texts]:
    """Intra-op threads that callers had, if they are not those that were asked for."""
    asked = found.spec.threads_per_call
    for one in found.processes:
        places = [n for n, threads in enumerate(one.threads) if threads not in {0, asked}]
        if not places:
            continue
        has = one.threads[places[0]]
        was = one.threads_set[places[0]] if places[0] < len(one.threads_set) else has
        who = f"{len(places)} of {len(one.threads)} callers"
        who = who if len(one.threads) > 1 else "its caller"
        who += f" of process {one.process}" if len(found.processes) > 1 else ""
        yield (
            "threads-not-in-force",
            (
                f"a call was to have {count_text(asked, 'intra-op thread')}, and {who} had {has}"
                + (": the model sets it itself" if was == asked else "")
            ),
            f"take torch.set_num_threads out of the model, or --threads-per-call {has}, which is "
            "what it had"
            if was == asked
            else "an environment variable, or a torch built without OpenMP, has the last word",
        )
        return


def placement(found: Findings) -> Iterator[Texts]:
    """Settings that were asked for and are not in force."""
    spec = found.spec
    yield from threads(found)
    for one in found.processes if spec.pin == "cores" else ():
        # processes have cores apart from each other
        cores = set().union(*one.cpus)
        if len(cores) < sum(map(len, one.cpus)):
            fitting = max(round(len(cores) / _threads_of_a_core(found)), 1)
            yield (
                "cores-shared",
                "callers share cores, because there are fewer cores than callers",
                "fewer callers for each of the models"
                if len(spec.callers_by_lane) > 1
                else f"--callers {fitting} gives each its own",
            )
            return


def _threads_of_a_core(found: Findings) -> float:
    """How many hardware threads a core has, of which all go to one caller."""
    known = [
        one["cores"] / one["physical_cores"]
        for one in found.machines.values()
        if one.get("cores") and one.get("physical_cores")
    ]
    return max(known, default=1.0)


def neighbours(found: Findings) -> Iterator[Texts]:
    """What others took of the machine."""
    others, summary = found.disturbances, found.summary
    ran_s = summary.from_s + summary.duration_s
    waited_s = found.run_delay_s
    if ran_s > 0 and waited_s > 0.01 * ran_s * found.spec.callers:
        yield (
            "run-queue",
            (
                f"callers stood in run queues for {waited_s / ran_s / found.spec.callers:.1%} of "
                "the run, ready and without a core"
            ),
            "fewer callers or intra-op threads, or fewer other programs",
        )
    if others.throttled_s:
        yield (
            "throttled",
            f"a cgroup quota held the process back for {others.throttled_s:.3g} s",
            "raise the quota (cpu.max), or use fewer threads than it has cores",
        )
    if others.steal_fraction is not None and others.steal_fraction > 0.005:
        yield (
            "steal",
            f"the hypervisor gave {others.steal_fraction:.1%} of the machine's time to others",
            "compare only runs that alternate, or use a machine of your own",
        )
    if not found.on_device:
        yield from machine_checks(found.machines)
