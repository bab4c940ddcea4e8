"""What may be advised of a run: ways that exist for its model, and in its asker's own words."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from inferload.plan.option_table import OPTIONS
from inferload.records.distribution import QUOTED_QUANTILES, quantile_rank
from inferload.stats.intervals import BATCHES, CALLS_BEYOND, cautious_tau

if TYPE_CHECKING:
    from inferload.records.distribution import Distribution
    from inferload.records.figures import Summary
    from inferload.records.result import RunResult
    from inferload.records.spec import RunSpec

# Flags, and the arguments of Python that mean the same: alone, and with a value.
_ARGUMENTS = {
    row.flag: (row.name, f'{row.name}="{{}}"' if row.kind is str else f"{row.name}={{}}")
    for row in OPTIONS
    if row.flag is not None and row.kind is not bool and row.name != "mode"  # torch.compile's own
} | {
    "batch-sizes": ("batch_sizes", "batch_sizes={}"),
    "batch-pad": ("the pad of batching", "batching=il.Batching(..., pad={})"),
    "batch-sizes-allowed": (
        "sizes_allowed of batching",
        "batching=il.Batching(..., sizes_allowed=({}))",
    ),
    "callers": ("callers in load", "callers={} in load"),
    "clients": ("clients in load", "clients={} in load"),
    "cores": ("cores", "cores={}"),
    "device": ("device", 'device="{}"'),
    "forms": ("forms", "forms={}"),
    "inputs": ("inputs", "inputs={}"),
    "rate": ("an il.OpenLoop", "load=il.OpenLoop.poisson(rate_per_s={})"),
    "max-batch": ("max_batch of batching", "batching=il.Batching(max_batch={})"),
    "max-delay": ("max_delay_s of batching", "batching=il.Batching(..., max_delay_s={})"),
    "resolution": ("resolution", "resolution={}"),
    "think": ("think_s in load", "think_s={} in load"),
    "warmup": ("warmup_calls", "warmup_calls={}"),
}
_SWITCHES = {
    "no-isolate": "callers in this process",
    "no-telemetry": "telemetry=False",
    "transfers": "transfers=True",
    "verify": "verify=True",
}
_GRAD = {
    "inference": "torch.inference_mode()",
    "no": "torch.no_grad()",
    "on": "torch.enable_grad()",
}
_IN_SECONDS = {row.flag for row in OPTIONS if row.unit == "time"} | {"max-delay", "think"}
_VERBS = {"sweep": "il.sweep", "search": "il.find_max_rate", "tune": "il.tune"}
_ALONE = {"inferload explain MODEL": "il.explain"}
# A value is a number, a word of capitals that stands for one, or one of the words of a flag.
_FLAG = re.compile(
    r"--(?P<flag>[a-z]+(?:-[a-z]+)*)"
    r"(?P<value>\s(?:\d[\w.:,]*\w%?|\d%?|[A-Z]\b|[A-Z]{2,}\b|"
    r"(?:aoti|cudagraph|script|export|compile|eager|cuda|cores|numa|none|per-caller|shared|sync|"
    r"event|threads|native|async|stop|record|inference|no|on)\b))?"
)
# More calls than this worth one independent call: those near each other are alike.
ALIKE = 2.0
_VERB = re.compile(r"\binferload (sweep|search|tune) (?:MODEL )?")


def in_python(hint: str) -> str:
    """A hint that names flags of the command line, for those who called :func:`inferload.run`.

    A flag that Python has no argument for stays as it is.

    >>> in_python("--duration 9s, or a wider --precision")
    'duration_s=9, or a wider precision'
    >>> in_python("--calls 1500, or --precision 20%")
    'calls=1500, or precision=0.2'
    >>> in_python("a guess: --form aoti, whose callers do without")
    'a guess: form="aoti", whose callers do without'
    >>> in_python("--threads-per-call 1 --callers 2 gives each a core of its own")
    'threads_per_call=1 callers=2 in load gives each a core of its own'
    """
    for words, name in _ALONE.items():
        hint = hint.replace(words, name)
    return _VERB.sub(lambda found: f"{_VERBS[found[1]]} with ", _FLAG.sub(_argument, hint))


def in_words_of_python(result: RunResult) -> RunResult:
    """A result whose hints name arguments of :func:`inferload.run` and no flags."""
    own = tuple(replace(one, hint=in_python(one.hint)) for one in result.warnings)
    return replace(result, warnings=own)


def _argument(found: re.Match[str]) -> str:
    flag, said = found["flag"], found["value"] or ""
    if flag in _SWITCHES:
        return _SWITCHES[flag] + said
    if flag == "grad":
        return _GRAD.get(said.strip(), "torch's grad mode")
    if flag not in _ARGUMENTS:
        return found[0]
    alone, with_value = _ARGUMENTS[flag]
    value = said.strip()
    if flag in _IN_SECONDS:
        value = value.removesuffix("s")
    if value.endswith("%"):
        value = f"{float(value[:-1]) / 100:g}"
    return with_value.format(value) if value else alone


def cuda_graphs(spec: RunSpec) -> str | None:
    """How its calls could be replayed from CUDA graphs, if they are not and its model may."""
    return "CUDA graphs (--form cudagraph)" if "cudagraph" in spec.may_become else None


def without_gil(spec: RunSpec) -> str | None:
    """A guess at how callers of Python could do without one GIL for all; ``None`` if none has it.

    Only forms that the model may be turned into are named: no function, and nothing that is a
    program already, becomes an AOTInductor package. That others can is not known before it is
    tried, so it is a guess.
    """
    if "threads" not in spec.executors:
        return None
    if spec.models:
        own = [one for one in spec.models if "aoti" in one.may_become]
        if own:
            return (
                f'an AOTInductor package of {own[0].name} (form = "aoti" in a run file), whose '
                "callers do without the GIL"
            )
    elif "aoti" in spec.may_become:
        return "--form aoti, whose callers do without the GIL"
    if spec.callers == 1:
        return None
    if spec.ranks > 1 or spec.callers_per_process == 1:
        return "fewer Python threads beside the callers"
    return f"processes, with a GIL each (--processes {spec.callers} --callers 1)"


def longer(spec: RunSpec, summary: Summary, times: float) -> str:
    """How to make a run so many times as long as it was, rounded up to two digits.

    By the end that was asked for; a run that was ended early was shorter than that.
    """
    ran_s = (summary.from_s + summary.duration_s) * times
    if spec.calls is not None:
        made = min(summary.completed_calls + summary.failed_calls, spec.calls)
        return f"--calls {_rounded_up(made * times)}"
    if spec.duration_s is not None:
        return f"--duration {_rounded_up(min(ran_s, spec.duration_s * times))}s"
    if spec.time_limit_s is not None:
        return f"--time-limit {_rounded_up(min(ran_s, spec.time_limit_s * times))}s"
    return "a longer replay"


def _rounded_up(value: float) -> int:
    """A whole number that is not less.

    >>> [_rounded_up(value) for value in (0.2, 9.1, 12.0, 1501.0)]
    [1, 10, 12, 1600]
    """
    whole = math.ceil(round(value, 6))
    unit: int = 10 ** max(len(str(whole)) - 2, 0)
    return -(-whole // unit) * unit


def enough_calls(spec: RunSpec, summary: Summary, response: Distribution, quantile: str) -> str:
    """How long a run has to be to quote a quantile that it could not.

    By how alike the calls are that lie near each other, with room for what few calls do not say of
    that. Where they are alike, a run by precision is the sure way: it goes on until it can quote.
    """
    if spec.load_stages:
        return "make the stages longer"
    q, tau = QUOTED_QUANTILES[quantile], _tau(response)
    needed = max(response.count + response.more_calls[quantile], CALLS_BEYOND * tau / (1 - q))
    if tau < ALIKE:
        return longer(spec, summary, 1.5 * needed / response.count)
    found = longer(spec, summary, 2.5 * needed / response.count)
    found += " (calls near each other are alike)"
    if spec.precision is not None or spec.ranks > 1:
        return found
    at = "" if quantile == "p99" else f" --quantile {figure_of(quantile)}"
    return f"{found}, or --precision 20%{at}, which goes on until it can be quoted"


def figure_of(quantile: str) -> str:
    """A quantile as the command line has it.

    >>> figure_of("p999"), figure_of("p50")
    ('p99.9', 'p50')
    """
    return {"p999": "p99.9", "p9999": "p99.99"}.get(quantile, quantile)


def _tau(response: Distribution) -> float:
    sample, count = response.sample, response.count - response.unfinished
    exceeding = getattr(sample, "exceeding", None)
    if sample is None or exceeding is None or count < BATCHES:
        return 1.0
    ranks = (quantile_rank(q, count) for q in (0.5, 0.9))
    p50_ms, p90_ms = map(sample.value_of_rank_ms, ranks)
    return cautious_tau(exceeding, (p50_ms, p90_ms))
