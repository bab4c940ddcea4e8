"""What is told of a call that failed: its exception in words, where it raised, if it was fatal."""

from __future__ import annotations

import re
import traceback
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from inferload.files import OWN_FOLDER, storable
from inferload.log.reasons import reason_in, with_type
from inferload.units import printable

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
_TORCH_FOLDER = str(Path(getattr(find_spec("torch"), "origin", None) or "torch/__init__.py").parent)


#: What says that there was no memory for a call; failures.h has the same.
MEMORY_WORDS = ("out of memory", "can't allocate memory", "not enough memory", "MemoryError")


def is_out_of_memory(text: str) -> bool:
    """Whether an error says that there was no memory for a call: a smaller one may do.

    >>> is_out_of_memory("CUDA out of memory. Tried"), is_out_of_memory("negative input")
    (True, False)
    """
    return any(words in text for words in MEMORY_WORDS)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFailure:
    """One distinct exception of the target: its type's name, message and traceback."""

    type: str
    message: str
    traceback: str = ""

    @property
    def gist(self) -> str:
        """The line of the message that says what was wrong; TorchScript has it at the end."""
        lines = [line.strip() for line in in_short(self.message).splitlines() if line.strip()]
        return printable(lines[-1] if "TorchScript" in lines[0] else lines[0]) if lines else ""


def exception_text(exception: BaseException) -> str:
    """The words of an exception, whatever its ``__str__`` does, as text that UTF-8 can hold."""
    try:
        text = str(exception)
    except BaseException as error:  # noqa: BLE001 - a model's exception may do anything
        text = f"(its text cannot be had: str() raised {type(error).__name__})"
    return str(storable(text))


def call_failure(exception: BaseException) -> CallFailure:
    """What the log keeps of an exception."""
    return CallFailure(
        type=type(exception).__name__,
        message=exception_text(exception),
        traceback=storable("".join(traceback.format_exception(exception))),
    )


def exception_words(exception: BaseException) -> str:
    """An exception as its type and its words."""
    return f"{type(exception).__name__}: {exception_text(exception)}".rstrip(": ")


def place_of(exception: BaseException) -> str | None:
    """The innermost line of Python that raised, as ``file.py:12``, unless it is our own.

    Lines of torch count only where there is none of the user's.
    """
    lines: list[tuple[str, int]] = []
    trace = exception.__traceback__
    while trace is not None:
        lines.append((trace.tb_frame.f_code.co_filename, trace.tb_lineno))
        trace = trace.tb_next
    users = [one for one in lines if not one[0].startswith((OWN_FOLDER, _TORCH_FOLDER))]
    if not lines or (not users and lines[-1][0].startswith(OWN_FOLDER)):
        return None
    file, number = (users or lines)[-1]
    return f"{file}:{number}"
