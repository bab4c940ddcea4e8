"""Two network namespaces with a link between them, which can be taken away and put back."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


class Link:
    """``server`` and ``client`` are what goes before a command that runs at one of its ends."""

    address = "10.213.0.1"

    def __init__(self) -> None:
        # names of links have 15 letters at most
        self._ends = [f"il{os.getpid()}{end}" for end in "sc"]
        self.server, self.client = (["ip", "netns", "exec", end] for end in self._ends)

    def set(self, state: str) -> None:
        """Set the server's end ``up`` or ``down``: of what the client sends nothing comes back."""
        end = self._ends[0]
        _ip("-n", end, "link", "set", end, state)

    def make(self) -> None:
        server, client = self._ends
        for end in self._ends:
            _ip("netns", "add", end)
        _ip("link", "add", server, "netns", server, "type", "veth", "peer", client, "netns", client)
        for number, end in enumerate(self._ends, start=1):
            _ip("-n", end, "address", "add", f"10.213.0.{number}/24", "dev", end)
            _ip("-n", end, "link", "set", end, "up")

    def take_away(self) -> None:
        for end in self._ends:  # the link goes with either of them
            subprocess.run(["ip", "netns", "delete", end], check=False, capture_output=True)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=30)


@contextmanager
def linked() -> Iterator[Link]:
    """A link, until the block ends; the test is skipped where there can be none."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and the program ip (iproute2)")
    link = Link()
    try:
        try:
            link.make()
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no network namespaces here: {error.stderr.decode().strip()}")
        yield link
    finally:
        link.take_away()
