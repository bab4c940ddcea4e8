"""What may be advised of a run: ways that exist for its model, and in its asker's own words."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from inferload.records import RunResult, RunSpec

# Flags of ``inferload run`` and the arguments of ``inferload.run`` that mean the same, "{}" being
# the value; those without a value stand for themselves.
_FLAGS = {
    "callers": "callers={} in load",
    "calls": "calls={}",
    "completion": 'completion="{}"',
    "device": 'device="{}"',
    "executor": 'executor="{}"',
    "form": 'form="{}"',
    "inputs": "inputs",
    "no-isolate": "no processes",
    "no-telemetry": "telemetry=False",
    "on-error": 'on_error="{}"',
    "pin": 'pin="{}"',
    "processes": "processes={}",
    "rate": "load=il.OpenLoop.poisson(rate_per_s={})",
    "seed": "seed={}",
    "streams": 'streams="{}"',
    "threads-per-call": "threads_per_call={}",
    "transfers": "transfers=True",
    "verify": "verify=True",
    "warmup": "warmup_calls={}",
}
_SECONDS = {"duration": "duration_s", "time-limit": "time_limit_s", "timeout": "timeout_s"}
_VALUELESS = {"no-isolate", "no-telemetry", "transfers", "verify"}
_VERBS = {"sweep": "il.sweep", "search": "il.find_max_rate", "tune": "il.tune"}
# A value is a number, a word of capitals that stands for one, or one of the words of a flag.
_FLAG = re.compile(
    r"--(?P<flag>[a-z]+(?:-[a-z]+)*)"
    r"(?P<value>\s(?:\d[\w.:,%]*\w|\d%?|[A-Z]\b|[A-Z]{2,}\b(?!\s[a-z]+ing)|"
    r"(?:aoti|cudagraph|script|export|compile|eager|cuda|cores|numa|none|per-caller|shared|sync|"
    r"event|threads|native|stop|record)\b))?"
)
_VERB = re.compile(r"\binferload (sweep|search|tune) (?:MODEL )?")


def in_python(hint: str) -> str:
    """A hint that names flags of the command line, for those who called :func:`inferload.run`.

    A flag that Python has no argument for stays as it is.

    >>> in_python("--duration 9s, or a wider --precision")
    'duration_s=9, or a wider precision'
    >>> in_python("a guess: --form aoti, whose callers do without")
    'a guess: form="aoti", whose callers do without'
    >>> in_python("--threads-per-call 1 --callers 2 gives each a core of its own")
    'threads_per_call=1 callers=2 in load gives each a core of its own'
    """
    return _VERB.sub(lambda found: f"{_VERBS[found[1]]} with ", _FLAG.sub(_argument, hint))


def in_words_of_python(result: RunResult) -> RunResult:
    """A result whose hints name arguments of :func:`inferload.run` and no flags."""
    own = tuple(replace(one, hint=in_python(one.hint)) for one in result.warnings)
    return replace(result, warnings=own)


def _argument(found: re.Match[str]) -> str:
    flag, value = found["flag"], (found["value"] or "").strip()
    after = "" if not found["value"] or flag not in _VALUELESS else found["value"]
    if flag in _SECONDS:
        number = value.removesuffix("s")
        return f"{_SECONDS[flag]}={number}" if number else _SECONDS[flag]
    if flag not in _FLAGS and flag not in {"precision", "quantile"}:
        return found[0]
    if flag in _VALUELESS:
        return _FLAGS[flag] + after
    if not value:
        return flag.replace("-", "_")
    return _FLAGS.get(flag, flag + "={}").format(value)


def cuda_graphs(spec: RunSpec) -> str | None:
    """How its calls could be replayed from CUDA graphs, if they are not and its model may."""
    return "CUDA graphs (--form cudagraph)" if "cudagraph" in spec.may_become else None


def without_gil(spec: RunSpec) -> str | None:
    """A guess at how callers of Python could do without one GIL for all; ``None`` if none has it.

    Only forms that the model may be turned into are named: no function, and nothing that is a
    program already, becomes an AOTInductor package. That others can is not known before it is
    tried, so it is a guess.
    """
    if "threads" not in spec.executor.split(" + "):
        return None
    if spec.models:
        own = [one for one in spec.models if "aoti" in one.may_become]
        if own:
            return f'form = "aoti" of {own[0].name}, whose callers do without the GIL'
    elif "aoti" in spec.may_become:
        return "--form aoti, whose callers do without the GIL"
    if spec.callers == 1:
        return None
    if spec.ranks > 1 or spec.callers_per_process == 1:
        return "fewer Python threads beside the callers"
    return f"processes, with a GIL each (--processes {spec.callers} --callers 1)"
