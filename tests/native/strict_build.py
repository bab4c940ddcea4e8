"""Compile the native callers as a user's machine does, but with every warning as an error.

The library is thrown away. The warnings are those about our own lines: torch's headers are the
system's to the compiler.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from inferload.callers.native import build as native_build
from inferload.errors import NativeBuildError

STRICT = ("-Wall", "-Wextra", "-Werror")


def main() -> int:
    """Build, and say whether there was a warning."""
    native_build.FLAGS = (*native_build.FLAGS, *STRICT)
    with tempfile.TemporaryDirectory(prefix="inferload-strict-") as folder:
        try:
            native_build._compile(Path(folder), native_build._sound_compiler())
        except NativeBuildError as error:
            print(error)
            return 1
    print("warnings: none")
    return 0


if __name__ == "__main__":
    sys.exit(main())
