"""What accelerators say when something goes wrong, in one sentence, and whether they recover."""

from __future__ import annotations

import re

from inferload.reasons import reason_in, with_type

# A CUDA context does not recover from these (driver_types.h: "the process must be terminated").
FATAL_WORDS = (
    "device-side assert",
    "illegal memory access",
    "illegal address",
    "illegal instruction",
    "misaligned address",
    "unspecified launch failure",
    "hardware stack error",
    "invalid program counter",
    "invalid address space",
    "uncorrectable ECC",
    "context is destroyed",
)
# What TorchScript and torch.compile write around an error.
_BY_COMPILERS = re.compile(r"TorchScript|TORCH(DYNAMO|_LOGS)|[dD]ynamo\b|[iI]nductor\b")
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
    return any(words in text for words in FATAL_WORDS)


def in_short(text: str) -> str:
    r"""The words of an exception, without the advice that torch adds to a device's errors.

    >>> in_short("CUDA error: device-side assert triggered\nSearch for `cudaErrorAssert' in ...")
    'CUDA error: device-side assert triggered'
    """
    one_line = " ".join(text.split())
    found = _OUT_OF_MEMORY.search(one_line)
    kind = text.partition(":")[0]
    kind = f"{kind}: " if kind.isidentifier() else ""
    if found is not None:
        return (
            f"{kind}{found['what']}: {found['asked']} were asked for, and {found['device']} has "
            f"{found['free']} free of {found['total']}"
        )
    if not is_fatal(text):
        return text
    # TorchScript puts its own traceback around it
    line = next(line for line in text.splitlines() if is_fatal(line)).strip()
    return line if line.startswith(kind) else kind + line.removeprefix("RuntimeError: ")


def told(words: str) -> str:
    r"""An exception's type and words: as they are, but for the pages that compilers write.

    >>> told("RuntimeError: The following operation failed in the TorchScript interpreter.\n"
    ...     "Traceback of TorchScript:\n  File 'a.py', line 3\nRuntimeError: 2x4 and 5x5\n")
    'RuntimeError: 2x4 and 5x5'
    """
    short = in_short(words).strip()
    if "\n" not in short or not _BY_COMPILERS.search(short):
        return short
    kind, reason = short.partition(":")[0], reason_in(short)
    return with_type(kind, reason) if kind.isidentifier() else reason


def in_brief(text: str) -> str:
    """The words of an exception in one line: a device's in short, else the line that counts."""
    short = in_short(text)
    return reason_in(text) if short == text else short
