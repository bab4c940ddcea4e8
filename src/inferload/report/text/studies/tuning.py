"""What tuning came to: the best configuration, its margin, how to run it, and what was tried."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

from inferload.report.text.parts import (
    Preformatted,
    bar,
    captioned,
    change_text,
    figure_name,
    quoted_text,
    study_header,
    study_warnings,
    wanting_note,
)
from inferload.studies.records.settings import delay_text, unit_of
from inferload.studies.tune.halving import judged_within
from inferload.units import count_text, duration_text, milliseconds_text, rate_text

if TYPE_CHECKING:
    from rich.console import RenderableType

    from inferload.stats.limits.limit import Limit
    from inferload.studies.records.comparison import Comparison, Difference
    from inferload.studies.records.settings import Settings
    from inferload.studies.records.tuning import Trial, Tuning

BAR_CELLS = 10
# Of more candidates the rest is counted.
MOST_LINES = 20


def tuning_report(found: Tuning) -> RenderableType:
    """The answer first, then how to run it, then a line for each candidate."""
    rounds = ", then ".join(f"{n} for {duration_text(s)}" for n, s in found.rounds)
    runs = count_text(len(found.candidates), "configuration")
    if found.default not in found.candidates:
        runs += " and the default"
    runs += f" in {duration_text(found.took_s)}"
    if found.status != "complete":
        runs += f"; {found.status} after {found.runs_made} runs"
    rows = {"target": found.target, "runs": runs, "rounds": f"{rounds} each"}
    if found.limits:
        rows["limits"] = " and ".join(map(str, found.limits))
    parts: list[RenderableType] = [study_header(rows, found.environment), Text()]
    parts += _answer(found)
    if found.code:
        parts += [Text(), Text("In Python:", style="bold"), _indented(found.code)]
    if found.command:
        parts += [Text(), Text("On the command line:", style="bold"), _indented(found.command)]
    if found.trials:
        parts += [Text(), _table(found)]
    parts += [Text(line, style="dim") for line in _failures(found)]
    if all(one.batch_size is None and one.max_batch is None for one in found.candidates):
        parts.append(
            Text("Batches are as the inputs are; --batch-sizes 1,4,16 tries others.", style="dim")
        )
    return Group(*parts, *study_warnings(found.warnings))


def _answer(found: Tuning) -> list[RenderableType]:
    if found.best is None:
        if found.status != "complete":
            text = "interrupted before there was an answer"
            if found.confirmations:
                text = (
                    f"interrupted while {found.confirmations[-1].settings} was run in turn with "
                    "the default"
                )
            return [Text(text, style="bold")]
        return [Text(f"no configuration: {found.reason}", style="bold red")]
    trial, margin = found.latest(found.best), found.margin
    lines: list[RenderableType] = [Text(f"best: {_words(found, found.best)}", style="bold green")]
    if margin is None:
        lines.append(Text(found.reason))
    elif margin.differences:
        throughput, *others = margin.differences
        lines.append(Text(_margin_text(throughput)))
        if others:
            lines.append(Text("response time: " + ", ".join(map(_short, others))))
        lines.append(Text(_come_from(margin, throughput.pairs), style="dim"))
    confirmations = [one for one in found.confirmations if one.settings == found.best]
    if found.limits and confirmations:
        lines += _limits(found, len(confirmations[-1].judgements))
    elif found.limits and trial is not None:
        lines += [
            Text(f"{one.limit.name} {_judged(one.value, one.limit)}") for one in trial.judgements
        ]
    return lines


def _come_from(margin: Comparison, pairs: int | None) -> str:
    """Where margins come from."""
    if margin.slices:
        return (
            f"Margins come from {pairs} pairs of fresh processes, called by slices in turn, with "
            "95 % intervals."
        )
    why = f": {margin.why_runs}" if margin.why_runs else ""
    return (
        f"Margins come from {pairs} pairs of runs in turn (A B B A), made for nothing else, with "
        f"95 % intervals{why}."
    )


def _limits(found: Tuning, runs: int) -> list[Text]:
    """Each limit, and in how many of the runs of the pairs it was kept."""
    own = [one for one in found.confirmations if one.settings == found.best][-1].judgements
    lines = []
    for which, limit in enumerate(found.limits):
        values = sorted(one[which].value or 0.0 for one in own if one[which].value is not None)
        within = sum(judged_within([one[which]]) for one in own)
        text = f"{limit}: within it in {within} of {runs} runs"
        if values:
            quoted = all(one[which].low is not None for one in own)
            few = "" if quoted or limit.quantile is None else "~"
            text += (
                f", {limit.name} {few}{limit.text_of(values[len(values) // 2])} in the middle one "
                f"({limit.text_of(values[0])} to {limit.text_of(values[-1])})"
            )
            text += "; ~ of too few calls to quote, a longer --duration has them" if few else ""
        lines.append(Text(text))
    return lines


def _judged(value: float | None, limit: Limit) -> str:
    return "-" if value is None else limit.text_of(value)


def _words(found: Tuning, settings: Settings) -> str:
    text = str(settings) if settings.form is not None else f"{settings}, {_form(found, settings)}"
    return f"{text} (the default)" if settings == found.default else text


def _form(found: Tuning, settings: Settings) -> str:
    return str(settings.form or found.asked.get("form") or "as it is")


def _margin_text(one: Difference) -> str:
    text = f"{rate_text(one.b)} items/s, default {rate_text(one.a)}: {change_text(one.ratio)}"
    if one.low is not None and one.high is not None:
        text += f" ({change_text(one.low)} to {change_text(one.high)})"
    return f"throughput: {text}"


def _short(one: Difference) -> str:
    name = figure_name(one.figure)
    text = f"{name} {milliseconds_text(one.b)}, {change_text(one.ratio)}"
    if one.low is not None and one.high is not None:
        text += f" ({change_text(one.low)} to {change_text(one.high)})"
    return text


def _indented(text: str) -> Preformatted:
    return Preformatted([Text(f"  {line}") for line in text.rstrip().splitlines()])


def _table(found: Tuning) -> Table:
    """The latest run of each candidate, those that came farthest first."""
    table = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False)
    batched = any(one.batch_size is not None for one in found.candidates)
    what = "items/s" if batched else f"{unit_of(one.run for one in found.trials)}/s"
    own_batch = any(one.max_batch is not None for one in found.candidates)
    delayed = any(one.max_delay_s is not None for one in found.candidates)
    more = [*["batch"] * batched, *["up to"] * own_batch, *["delay"] * delayed]
    names = ["form", "callers", "procs", "threads", *more, "run", what, "", "p50"]
    judged = [one for one in found.limits if one.figure != "throughput"]
    names += [one.name for one in judged if one.figure != "p50"]
    latest = [one for one in map(found.latest, _tried(found)) if one is not None]
    good = [one for one in latest if one.run.failure is None]
    good.sort(key=lambda one: (-one.round, not judged_within(one.judgements), -one.items_per_s))
    most = max((one.items_per_s for one in good), default=0.0)
    rows = []
    for one in good[:MOST_LINES]:
        own = one.run.settings
        median = None if one.run.summary is None else one.run.summary.response_ms
        cells = [
            _form(found, own), str(own.callers), str(own.processes or 1), _threads(one),
            *[str(own.batch_size)] * batched,
            *[_max_batch(one)] * own_batch,
            *["-" if own.max_delay_s is None else delay_text(own.max_delay_s)] * delayed,
            duration_text(found.rounds[one.round][1]),
            rate_text(one.items_per_s),
            bar(one.items_per_s / most, 4 if delayed else BAR_CELLS) if most else "",
            quoted_text(None if median is None else median.p50),
        ]  # fmt: skip
        for judgement in one.judgements:
            if judgement.limit in judged and judgement.limit.figure != "p50":
                text = _judged(judgement.value, judgement.limit)
                cells.append(("" if judgement.low is not None else "~") + text)
        beyond = not judged_within(one.judgements)
        rows.append((cells, "bold" if own == found.best else "dim" if beyond else None))
    # with batches there are more columns than a terminal holds: those that say one thing go, and
    # what is drawn or said above
    alike = range(names.index("run") if own_batch else 0)
    left_out = {place for place in alike if len({cells[place] for cells, _ in rows}) == 1}
    left_out |= {names.index("run"), names.index("")} if own_batch else set()
    for place, name in enumerate(names):
        if place not in left_out:
            left = name in {"", "form"}
            table.add_column(name, justify="left" if left else "right", no_wrap=True)
    for cells, style in rows:
        shown = [cell for place, cell in enumerate(cells) if place not in left_out]
        table.add_row(*shown, style=style)
    notes = []
    if len(good) > MOST_LINES:
        notes.append(f"{len(good) - MOST_LINES} more fell out before")
    known = [
        one.run.summary.response_ms for one in good[:MOST_LINES] if one.run.summary is not None
    ]
    wanted = [one.more_calls for one in known if one is not None]
    notes.append(wanting_note(wanted, ("p50",)))
    if judged:
        notes.append("~ of too few calls to quote; what is beyond a limit is dim")
    table.caption = captioned(*notes)
    return table


def _tried(found: Tuning) -> list[Settings]:
    return list(dict.fromkeys([found.default, *found.candidates]))


def _threads(trial: Trial) -> str:
    spec, settings = trial.run.spec, trial.run.settings
    if settings.threads_per_call is None and spec is not None:
        return str(spec.threads_per_call)
    return str(settings.threads_per_call or "-")


def _max_batch(trial: Trial) -> str:
    most, spec = trial.run.settings.max_batch, trial.run.spec
    if most is None and spec is not None and spec.batching is not None:
        most = spec.batching.max_batch
    return "-" if most is None else f"{most:,}"


def _failures(found: Tuning) -> list[str]:
    """What could not be run, each reason once."""
    reasons: dict[str, list[Settings]] = {}
    latest = [one for one in map(found.latest, _tried(found)) if one is not None]
    good = {one.run.settings.form for one in latest if one.run.failure is None}
    for one in latest:
        if one.run.failure is not None:
            reasons.setdefault(one.run.failure, []).append(one.run.settings)
    return [
        "failed: "
        + "; ".join(
            dict.fromkeys(
                _words(found, one) if one.form in good else f"form {_form(found, one)}"
                for one in failed
            )
        )
        + f": {reason}"
        for reason, failed in reasons.items()
    ]
