from __future__ import annotations

import pytest

from inferload.errors import PlanError
from inferload.units import bytes_text, duration_s, duration_text, edges_text, rate_text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10s", 10), ("500ms", 0.5), ("2m", 120), ("1.5h", 5400), ("3", 3), (" 20 us ", 2e-5)],
)
def test_a_duration_is_read_with_its_unit(text: str, seconds: float):
    assert duration_s(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "0s", "-1s", "ten", "10 parsecs", "1e3s", "s"])
def test_what_is_no_duration_is_refused_with_its_text(text: str):
    with pytest.raises(PlanError, match="is not understood"):
        duration_s(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(9.996, "10.0 s"), (0.9999, "1.00 s"), (5e-9, "5 ns"), (0, "0 ns"), (150, "2 min 30 s")],
)
def test_a_duration_is_written_with_three_digits(seconds: float, text: str):
    assert duration_text(seconds) == text


@pytest.mark.parametrize(
    ("edges_ms", "texts"),
    [
        ([0.9, 1.13, 1.41], ["900 us", "1.13 ms", "1.41 ms"]),
        ([9.996, 10.001, 10.012], ["9.996 ms", "10.001 ms", "10.012 ms"]),
        ([0.9999, 1.0002], ["0.9999 ms", "1.0002 ms"]),
        ([5e-6, 5.36e-6, 5.74e-6], ["5.0 ns", "5.4 ns", "5.7 ns"]),
        ([100_200.0, 100_400.0], ["100.2 s", "100.4 s"]),
        ([2.0, 2.0], ["2.00 ms", "2.00 ms"]),
        ([2.0, 2.0 + 1e-12], ["2.00 ms", "2.00 ms"]),
    ],
)
def test_edges_have_as_many_digits_as_tell_them_apart(edges_ms: list[float], texts: list[str]):
    assert edges_text(edges_ms) == texts


def test_rates_and_sizes_are_written_for_people():
    assert (rate_text(0.5), rate_text(99.96), rate_text(1e6)) == ("0.50", "100", "1,000,000")
    assert (bytes_text(0), bytes_text(1 << 40)) == ("0 B", "1.0 TiB")
