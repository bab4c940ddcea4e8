"""Run the native callers under the thread sanitizer; ends with 1 where it reports a race.

The callers are compiled with ``-fsanitize=thread``, into a program without Python: ``races.cpp``
starts runs and reads their logs meanwhile. torch is not instrumented; what the sanitizer must not
look at there is in ``suppressions.txt``, with reasons. Needs g++ or clang++ with libtsan.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from torch.utils import cpp_extension

from inferload.callers.native.build import SOURCE, compiler

HERE = Path(__file__).parent
LIBRARIES = Path(torch.__file__).parent / "lib"
FLAGS = [
    "-std=c++20",
    "-O1",
    "-g",
    "-fsanitize=thread",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wno-tsan",  # fences in torch's headers
    "-Wno-unknown-warning-option",  # which of the two compilers knows the one before
    f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}",
]
#: A race is the program's end with this code.
RACE = 66


def main() -> int:
    """Build, run, and say what was found."""
    with tempfile.TemporaryDirectory(prefix="inferload-races-") as folder:
        program = Path(folder) / "races"
        build(program)
        code = run([str(program)])
    print("races: none" if code == 0 else f"ended with {code}{' (a race)' if code == RACE else ''}")
    return code


def build(program: Path) -> None:
    """Compile the callers and what drives them."""
    subprocess.run(
        [
            compiler() or "c++",
            *FLAGS,
            *(word for path in cpp_extension.include_paths() for word in ("-isystem", path)),
            f"-I{SOURCE.parent}",
            str(HERE / "races.cpp"),
            "-o",
            str(program),
            f"-L{LIBRARIES}",
            f"-Wl,-rpath,{LIBRARIES}",
            "-Wl,--no-as-needed",
            *("-lc10", "-ltorch_cpu", "-ltorch"),
        ],
        check=True,
    )


def run(words: list[str]) -> int:
    """The exit code of the program."""
    options = f"exitcode={RACE} second_deadlock_stack=1 suppressions={HERE / 'suppressions.txt'}"
    env = {**os.environ, "TSAN_OPTIONS": options}
    found = subprocess.run(words, check=False, env=env, stderr=subprocess.PIPE, text=True)
    if "unexpected memory mapping" in found.stderr and words[0] != "setarch":
        # an older libtsan beside a kernel that places memory more at random
        return run(["setarch", platform.machine(), "-R", *words])
    print(found.stderr, file=sys.stderr, end="")
    return found.returncode


if __name__ == "__main__":
    sys.exit(main())
