"""What accelerators say when something goes wrong, in one sentence, and whether they recover."""

from __future__ import annotations

import re

# A CUDA context does not recover from these; "out of memory" is another matter.
_FATAL = re.compile(r"(CUDA|HIP|XPU|SIM) error:|device-side assert|unspecified launch failure")
_OUT_OF_MEMORY = re.compile(
    r"(?P<what>\w+ out of memory)\. Tried to allocate (?P<asked>[\d.]+ \w+)\. "
    r"(?P<device>GPU \d+) has a total capacity of (?P<total>[\d.]+ \w+) "
    r"of which (?P<free>[\d.]+ \w+) is free",
    re.DOTALL,
)


def is_fatal(text: str) -> bool:
    """Whether an error means that a device of the process is lost to it.

    >>> is_fatal("CUDA error: device-side assert triggered"), is_fatal("CUDA out of memory. Tried")
    (True, False)
    """
    return _FATAL.search(text) is not None and "out of memory" not in text


def in_short(text: str) -> str:
    r"""The words of an exception, without the advice that torch adds to a device's errors.

    >>> in_short("CUDA error: device-side assert triggered\nSearch for `cudaErrorAssert' in ...")
    'CUDA error: device-side assert triggered'
    """
    found = _OUT_OF_MEMORY.search(" ".join(text.split()))
    if found is not None:
        before = text[: text.index(found["what"])]
        return (
            f"{before}{found['what']}: {found['asked']} were asked for, and {found['device']} has "
            f"{found['free']} free of {found['total']}"
        )
    return text.splitlines()[0] if is_fatal(text) and text else text
