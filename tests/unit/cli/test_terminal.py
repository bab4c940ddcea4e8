"""Streams of the command line: what they cannot write, they write in other signs, or not at all."""

from __future__ import annotations

import codecs
import io
import subprocess
import sys
from pathlib import Path

import pytest

from inferload.cli import terminal
from inferload.cli.terminal import Stream, prepare


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_signs_that_an_encoding_lacks_are_drawn_by_others(encoding, monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
    prepare()
    shown = Stream("stdout")
    shown.write("█▍ ━╌ ┌ ± … → é 模 \udcff\n")
    shown.flush()
    plain = raw.getvalue().decode(encoding)
    expected = "#. -- + {} ... -> {} \\u6a21 \\udcff\n"
    assert plain == expected.format(*(("+-", "e") if encoding == "ascii" else ("±", "é")))


def test_a_stream_that_cannot_be_reconfigured_is_written_to_all_the_same(monkeypatch):
    class Ascii(io.StringIO):
        def write(self, text):
            codecs.encode(text, "ascii")
            return super().write(text)

    monkeypatch.setattr(sys, "stdout", Ascii())
    shown = Stream("stdout")
    shown.write("50 ± 1 █")
    assert sys.stdout.getvalue() == "50 +- 1 #"
    assert shown.trouble is None


@pytest.mark.parametrize("gone", [None, "closed"])
def test_a_stream_that_is_closed_swallows_what_comes(gone, monkeypatch):
    stream = None
    if gone:
        stream = io.StringIO()
        stream.close()
    monkeypatch.setattr(sys, "stdout", stream)
    shown = Stream("stdout")
    assert shown.write("text") == 4
    shown.flush()
    assert not shown.isatty()


def test_nobody_reading_is_no_trouble_and_a_full_device_is(monkeypatch):
    shown = Stream("stdout")
    monkeypatch.setattr(terminal, "stdout", shown)
    assert terminal.trouble() is None
    shown.trouble = BrokenPipeError(32, "Broken pipe")
    assert terminal.trouble() is None
    shown.trouble = OSError(28, "No space left on device")
    assert terminal.trouble() == "No space left on device"


def test_streams_that_are_closed_do_not_give_their_numbers_away(tmp_path: Path):
    code = (
        "import os; os.close(0); os.close(1)\n"
        "from inferload.cli.terminal import prepare\n"
        "prepare()\n"
        "import sys; sys.exit(os.open(os.devnull, os.O_RDONLY) < 3)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
