"""What a server costs, told from a comparison: in milliseconds, whichever side it is."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
from rich.console import Group

import inferload as il
from inferload.plan.server import SERVER_TIMEOUT_S
from inferload.report.text.run import plain_text
from inferload.report.text.studies.served import server_cost
from inferload.studies.local.options import options_of
from inferload.studies.records.comparison import Difference

URL = "http://127.0.0.1:1/x"


def difference(figure: str, a: float, b: float, low: float | None, high: float | None):
    return Difference(
        figure=figure, a=a, b=b, ratio=b / a, low=low, high=high, detectable_fraction=None
    )


def told(served: str, *differences: Difference, peaks=((), ())) -> str:
    """The words of a comparison at 20 calls a second; ``peaks``: the highest rates of A and B."""
    found = SimpleNamespace(
        served=served,
        differences=differences,
        runs=[SimpleNamespace(spec=SimpleNamespace(rate_per_s=20.0))],
        peaks_per_s=lambda side: list(peaks["ab".index(side)]),
    )
    return " ".join(plain_text(Group(*server_cost(found)), 100).split())


def test_a_server_that_is_b_adds_what_b_takes_longer():
    text = told("b", difference("p50", 10.0, 12.0, 1.1, 1.3))
    assert "p50 10.0 ms 12.0 ms +2.00 ms +1.00 ms +3.00 ms" in text
    assert "At 20.0/s the server adds 2.00 ms at p50 to what the model takes here." in text
    assert "p99 is not quoted of so few calls" in text


def test_and_one_that_is_a_what_a_takes_longer():
    text = told("a", difference("p50", 12.0, 10.0, 10 / 13, 10 / 11))
    assert "p50 10.0 ms 12.0 ms +2.00 ms +1.00 ms +3.00 ms" in text


@pytest.mark.parametrize(("low", "high"), [(0.99, 1.02), (1.002, 1.008)])
def test_what_may_be_chance_or_next_to_nothing_is_not_claimed(low, high):
    text = told("b", difference("p99", 10.0, 10.05, low, high))
    assert "adds nothing that can be told from chance at p99" in text


def test_a_figure_without_an_interval_is_in_the_table_alone():
    text = told("b", difference("p50", 10.0, 12.0, None, None))
    assert "+2.00 ms - -" in text
    assert "adds" not in text.replace("it adds", "")


def test_the_highest_rates_are_medians_and_the_range_is_of_pairs():
    text = told("b", difference("p50", 1.0, 2.0, 1.9, 2.1), peaks=([100, 200, 300], [80, 100, 240]))
    assert "highest rate 200/s 100/s -50.0% -50.0% -20.0%" in text
    assert "its highest rate is 0.50x of the model's" in text


def test_nothing_is_told_of_two_models_here():
    assert not server_cost(SimpleNamespace(served=None, differences=(1,)))


def test_studies_of_a_server_record_failures_and_have_its_time_limit():
    asked = options_of({}, il.ClosedLoop(), URL).checked()
    assert (asked.on_error, asked.timeout_s) == ("record", SERVER_TIMEOUT_S)
    here = options_of({}, il.ClosedLoop(), object()).checked()
    assert (here.on_error, here.timeout_s) == ("stop", None)
    own = options_of({"on_error": "stop", "timeout_s": 2}, il.ClosedLoop(), URL).checked()
    assert (own.on_error, own.timeout_s) == ("stop", 2)


def test_two_settings_of_one_server_are_told_apart():
    from inferload.studies.local.options import fingerprint
    from inferload.targets.as_target import as_target

    bodies = [{"a": 1}, {"a": 2}]
    prints = {tuple(fingerprint(as_target(il.Server(URL, body=one)), ())) for one in bodies}
    assert len(prints) == 2
    versions = {as_target(f"http://a/v2/models/m/versions/{one}").name for one in (1, 2)}
    assert len(versions) == 2
    assert replace(il.Server(URL), connections="new") != il.Server(URL)
