"""Tiny disks, which tests fill up."""

from __future__ import annotations

import subprocess


def may_mount() -> bool:
    """Whether this user may mount one, in a namespace of its own."""
    words = ["unshare", "--mount", "--map-root-user", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    try:
        return subprocess.run(words, check=False, capture_output=True).returncode == 0
    except OSError:
        return False
