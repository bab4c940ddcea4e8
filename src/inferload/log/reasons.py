"""Which line of a long error says what went wrong: torch puts much else around it."""

from __future__ import annotations

import itertools
import re

LONGEST = 300

_NEEDS_GRADIENTS = re.compile(
    "does not require grad|Inference tensors cannot be saved|requires_grad=True on inference tensor"
    "|inplace update to inference tensor"
)

# A line of code stands below the place that it is from.
_PLACE = re.compile(r'^(File|at|  File) "?.*"?, line \d+|^File ".*"')
_RAISED = re.compile(r"^([\w.]+\.)?\w*(Error|Exception|Interrupt|Unsupported|Failed)\b: ?\S")
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
# What is left of a sentence whose place in the code stood in the next line.
_PLACE_FOLLOWS = re.compile(r"(:| at:?)$")
_COMPILER = re.compile(r"\b(fatal )?error: |^Expected a value of type ")
_ADVICE = re.compile(
    r"^(Set TORCH|For more |For extended |For C\+\+ |If you |Caused by: |consider using"
    r"|The following |The error above|The above exception|The original call is|from user code"
    r"|Traceback |Original traceback|During handling|While executing |GraphModule: "
    r"|Hint:|Developer debug context|Search for |CUDA kernel errors|Compile with |Use tlparse"
    r"|Exception raised from|frame #|Device-side assertion|\(Size-like|Command:|Output:|aten::"
    r"|See https?:|You can suppress|import torch\._dynamo|torch\._dynamo\.config)"
    r"|\w*(Error|Exception):?$|Could not find any similar ops"
    r"|is being compiled since it was called|^[\s~^]*(<--- HERE)?$|<--- HERE"
)


def reason_of(error: BaseException) -> str:
    """The line of an error's text that says what went wrong, shortened; its type if it has none."""
    return reason_in(str(error)) or type(error).__name__


def reason_in(text: str) -> str:
    r"""The line of a text that says what went wrong, shortened.

    Of a traceback that is its last error, of a compiler's output the first one, else the last line
    that is neither source, place nor advice.

    >>> reason_in("The following operation failed.\nTraceback of TorchScript:\n"
    ...     "  File \"a.py\", line 3, in forward\n    x @ y\nRuntimeError: 2x4 and 5x5\n")
    'RuntimeError: 2x4 and 5x5'
    """
    text = text.partition("\nTensor:\n")[0]  # TorchScript prints the values of a constant
    given = ["" if line.strip() == ":" else line.strip() for line in text.splitlines()]
    lines = _joined(_without_places(given))
    raised = [line for line in lines if _RAISED.search(line)]
    compiler = [line for line in lines if _COMPILER.search(line)]
    said = [line for line in lines if line and not _ADVICE.search(line)]
    if compiler:
        found = compiler[0]
    elif "Traceback" in text and raised:
        found = raised[-1]
    elif explained := [line for line in said if line.startswith("Explanation: ")]:
        found = f"{said[0].rstrip(':.')}: {explained[-1].removeprefix('Explanation: ')}"
    elif said:
        found = said[-1]
    elif marked := _marked(given):
        found = f"in `{marked}`"
    else:
        found = next(iter(lines), "")
    found = _ADDRESS.sub("", found.lstrip(":")).strip()
    return _cut(_PLACE_FOLLOWS.sub("", found))


def with_type(kind: str, reason: str) -> str:
    """A reason after the type of its error, unless it begins with that."""
    return reason if reason.startswith(f"{kind}: ") else f"{kind}: {reason}"


def _joined(lines: list[str]) -> list[str]:
    """With a line that ends in a comma and what it goes on with as one."""
    joined: list[str] = []
    for line in lines:
        if joined and joined[-1].endswith(","):
            joined[-1] += f" {line}"
        else:
            joined.append(line)
    return joined


def _marked(lines: list[str]) -> str:
    """The line of code that TorchScript marks as the one that failed, where it says no more."""
    for before, line in itertools.pairwise(lines):
        if "<--- HERE" in line:
            return before
    return ""


def _cut(line: str) -> str:
    """No more of a line than is read: its first sentences, where these are short enough."""
    if len(line) <= LONGEST:
        return line
    sentences = line[:LONGEST].rpartition(". ")[0]
    if sentences:
        return f"{sentences}."
    head = line[: LONGEST - 4]
    return f"{head.rpartition(' ')[0] or head} ..."


def way_round(text: str) -> str:
    """What to do about an error of torch that names no way, to follow its words; or nothing.

    >>> way_round("element 0 of tensors does not require grad and does not have a grad_fn")[:36]
    '; a model that computes gradients is'
    """
    if _NEEDS_GRADIENTS.search(text):
        return (
            "; a model that computes gradients is called with --grad on (torch.enable_grad() in "
            "Python)"
        )
    if "data-dependent" in text or "DataDependent" in text:
        return (
            "; what it does depends on values of its inputs: --form compile leaves that to Python, "
            "and --form script keeps it where it can be scripted"
        )
    return ""


def _without_places(lines: list[str]) -> list[str]:
    """Without the places in code, and the lines of code below them."""
    kept: list[str] = []
    below = False
    marks = any("<--- HERE" in line for line in lines)  # TorchScript's code has empty lines in it
    for line in lines:
        if _PLACE.search(line):
            below = True
        elif not line and not marks:
            below = False
        elif not below or _RAISED.search(line):
            below = False
            kept.append(line)
    return kept
