"""Ctrl-C and SIGTERM while typer reads the arguments, which would exit without a word."""

from __future__ import annotations

from inferload.signals import PutOff

#: Entered when the command line starts, and ended when a command does.
until_command = PutOff()
