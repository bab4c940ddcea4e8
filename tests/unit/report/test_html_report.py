from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from test_exports import queued_result
from test_report import fixed_result, narrow_result

import inferload as il
from inferload.errors import PlanError
from inferload.report.charts.chart import series
from inferload.report.html import document as html
from inferload.report.html import notebook
from inferload.report.html.document import html_text, write_html
from inferload.report.html.page import MOST_ROWS, table_of
from inferload.report.markdown import markdown_text
from inferload.report.text.several import side_by_side
from support.browser import CHROMIUM, DRIVER, browser

GOLDEN = Path(__file__).parents[2] / "golden"
STUDIES = ("sweep", "search", "comparison", "tuning")
with_browser = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None,
    reason="needs a browser: apt install chromium chromium-driver",
)
EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>|`x`"


class Reader(HTMLParser):
    """What a page is made of."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    return reader


def charts_of(text: str) -> dict[str, dict]:
    found = re.search(
        r'<script type="application/json" id="charts">(.*?)</script>', text, re.DOTALL
    )
    return {one["name"]: one for one in json.loads(found[1])}


def evil_result() -> il.RunResult:
    """A result whose every text would be code, if a report let it."""
    plain = fixed_result()
    return replace(
        plain,
        spec=replace(plain.spec, target=EVIL, inputs=(EVIL, EVIL)),
        environment=plain.environment | {"host": EVIL, "variables": {EVIL: EVIL}},
        warnings=(il.RunWarning(code=EVIL, message=EVIL, hint=EVIL),),
        made_by=f"inferload run {EVIL}",
    )


def any_study(name: str):
    return il.load_study(GOLDEN / f"{name}_v1.json")


def test_the_page_of_a_run_says_all_that_the_terminal_says_and_more():
    result = replace(queued_result(), made_by="inferload run m.py --callers 2")
    text = " ".join(read(html_text(result)).text)
    for word in ("Ranker (aoti)", "throughput", "p99.9", "inferload run m.py --callers 2",
                 "batch means", "slowest calls"):  # fmt: skip
        assert word in text
    for one in result.warnings:
        assert one.message in text
        assert one.hint in text


def test_a_page_needs_nothing_from_elsewhere():
    page = read(html_text(queued_result()))
    for tag, attrs in page.tags:
        for name in ("src", "href", "action", "data"):
            assert not (attrs.get(name) or "").startswith(("http", "//")), (tag, attrs)
    policy = next(a["content"] for t, a in page.tags if t == "meta" and "http-equiv" in a)
    assert "default-src 'none'" in policy
    assert "connect-src" not in policy


def test_every_chart_has_words_and_a_table_for_those_who_do_not_see_it():
    text = html_text(queued_result())
    page = read(text)
    places = [a for _, a in page.tags if a.get("class") == "chart"]
    charts = charts_of(text)
    assert {"percentiles", "histogram", "over-time", "callers"} <= set(charts)
    assert len(places) == len(charts)
    for one in places:
        assert one["role"] == "img"
        assert len(one["aria-label"]) > 20


def test_the_curves_are_those_of_the_summary():
    result = queued_result()
    charts = charts_of(html_text(result))
    curve = next(one for one in charts["percentiles"]["data"] if one["name"] == "response")
    assert curve["y"][-1] == pytest.approx(result.summary.response_ms.max, rel=1e-4)
    at_p99 = np.interp(100, curve["x"], curve["y"])
    assert at_p99 == pytest.approx(result.summary.response_ms.p99.value, rel=0.01)
    shares = charts["histogram"]["data"][0]["y"]
    assert sum(shares) == pytest.approx(100, abs=0.1)
    rates = next(one for one in charts["over-time"]["data"] if one["name"] == "calls/s")
    known = [one for one in rates["y"] if one is not None]
    mean = result.summary.throughput_calls_per_s.value
    assert np.mean(known) == pytest.approx(mean, rel=0.02)


def test_what_is_pointed_at_in_a_histogram_is_told_from_its_neighbours():
    chart = charts_of(html_text(narrow_result()))["histogram"]
    labels = [text.split(" to ") for text in chart["data"][0]["text"] if text]
    assert len(labels) == 60
    assert all(low != high for low, high in labels)
    assert len({low for low, _ in labels}) == 60


def test_what_is_cut_as_warm_up_is_drawn():
    result = queued_result()
    cut = replace(result, summary=replace(result.summary, from_s=0.5))
    shapes = charts_of(html_text(cut))["over-time"]["layout"]["shapes"]
    assert {one["x1"] for one in shapes} == {0.5}
    assert "shapes" not in charts_of(html_text(result))["over-time"]["layout"]


@pytest.mark.parametrize("name", STUDIES)
def test_studies_have_pages_with_their_charts(name):
    text = html_text(any_study(name))
    expected = {
        "sweep": {"throughput-latency", "throughput-by"},
        "search": {"limit-0"},
        "comparison": {"differences"},
        "tuning": {"candidates", "differences", "runs"},
    }
    assert set(charts_of(text)) == expected[name]


@pytest.mark.parametrize("name", STUDIES)
def test_plotly_takes_every_chart_of_a_study(name):
    assert any_study(name).figures()


def test_plotly_takes_every_chart_of_a_run():
    pages = notebook.figures(queued_result())
    assert {"percentiles", "histogram", "over-time", "callers"} <= set(pages)
    # the colours of the page's style sheet, not their names
    assert pages["percentiles"].data[0].line.color.startswith("#")


def test_runs_side_by_side_have_a_line_and_a_curve_each():
    a, b = queued_result(), fixed_result()
    text = html_text(side_by_side([a, b]))
    data = charts_of(text)["percentiles"]["data"]
    assert sum(one["mode"] == "lines" for one in data) == 2
    assert "Ranker (aoti), 4x #1" in " ".join(read(text).text)


def test_texts_of_a_result_are_never_code():
    for text in (html_text(evil_result()), notebook.notebook_html(evil_result())):
        page = read(text)
        assert not [attrs for tag, attrs in page.tags if tag == "img"]
        assert not [a for _, a in page.tags if any(name.startswith("on") for name in a)]
        assert EVIL in "".join(page.text)
    charts = json.dumps(charts_of(html_text(evil_result())))
    assert "percentiles" in charts
    with_plotly = sum(tag == "script" for tag, _ in read(html_text(evil_result())).tags)
    assert with_plotly == 4  # theme, charts, Plotly, page


def test_texts_of_a_result_are_no_markdown():
    text = markdown_text(evil_result())
    outside = re.sub(r"(`{3,})text\n.*?\n\1", "", text, flags=re.DOTALL)
    outside = re.sub(r"\\.", "", outside)  # what is escaped
    assert "<img" not in outside
    assert "<script" not in outside
    # the code is fenced by more backticks than it has
    assert text.count("<details>") == text.count("</details>") == 2


def test_markdown_of_a_run_has_its_tables_and_what_is_doubtful():
    result = fixed_result()
    text = markdown_text(result)
    assert text.startswith("### Ranker (aoti)")
    table = next(line for line in text.splitlines() if line.startswith("| latency"))
    header = next(line for line in text.splitlines() if line.startswith("|  | mean"))
    assert table.count("|") == header.count("|")
    for one in result.warnings:
        assert f"\\[{one.code}\\]" in text


@pytest.mark.parametrize("name", STUDIES)
def test_markdown_of_a_study_has_its_answer(name):
    text = markdown_text(any_study(name))
    answers = {
        "sweep": "most: 190 calls/s with 2 callers",
        "search": "100 calls/s keep p90",
        "comparison": "gate p50 +5%: crossed",
        "tuning": "best: 2 callers, 1 thread a call, form aoti",
    }
    assert answers[name] in text.replace("\\", "")
    assert all(len(set(map(str.count, block.splitlines(), "|" * 99))) == 1
               for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE))  # fmt: skip


def test_a_long_series_is_told_in_a_table_that_can_be_read():
    text = table_of({"n": list(range(1000)), "x": [None] * 1000})
    assert text.count("<tr>") == MOST_ROWS + 1
    assert "60 of 1,000 rows" in text
    assert table_of({}) == ""


def test_numbers_for_plotly_are_short_and_never_nan():
    assert series([1.23456789, float("nan"), float("inf"), 0]) == [1.2346, None, None, 0.0]


def test_a_page_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "r.html"
    path.write_text("before")
    monkeypatch.setattr(html, "page_text", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_html(fixed_result(), path)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_pages_need_no_plotly_and_figures_say_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly.graph_objects", None)
    text = html_text(fixed_result())
    assert "plotly.js (basic - minified)" in text
    with pytest.raises(PlanError, match=r"pip install 'inferload\[report\]'"):
        notebook.figures(fixed_result())


def test_pages_are_light():
    assert len(html_text(queued_result()).encode()) < 1_400_000


def test_a_notebook_shows_tables_and_charts(monkeypatch):
    shown: list[object] = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    queued_result()._ipython_display_()
    assert "throughput" in shown[0].data
    assert "<script" not in shown[0].data


def test_studies_print_as_their_reports():
    assert "most: 190 calls/s" in str(any_study("sweep"))


@pytest.mark.slow
@with_browser
def test_pages_open_without_a_word_from_the_console_or_to_the_net(tmp_path):
    # one page of everything: what a run and what each study draws
    pages = {
        "run": queued_result(),
        "evil": evil_result(),
        "several": side_by_side([queued_result()] * 2),
    }
    pages |= {name: any_study(name) for name in STUDIES}
    with browser(tmp_path / "profile") as chromium:
        ask = chromium.ask
        for name, found in pages.items():
            path = tmp_path / f"{name}.html"
            write_html(found, path)
            chromium.be_wide(390)  # as a phone is
            page = chromium.open(path)
            assert page.console == [], name
            assert page.requested == [], name
            drawn = "return document.querySelectorAll('.chart .main-svg').length"
            assert ask(drawn) >= len(charts_of(path.read_text())) > 0, name
            fits = "return document.documentElement.scrollWidth <= window.innerWidth"
            assert ask(fits), name
            chromium.be_wide(1100)
            chromium.until(fits)
        chromium.open(tmp_path / "run.html")
        ground = "return getComputedStyle(document.body).backgroundColor"
        before = ask(ground)
        ask("document.getElementById('theme').click()")
        assert ask(ground) != before
        titles = "[...document.querySelectorAll('.modebar-btn')].map(one => one.dataset.title)"
        assert not [one for one in ask(f"return {titles}") if "Share" in one or "Edit" in one]
        assert least_contrast(ask) >= 4.5


def least_contrast(ask) -> float:
    """The least contrast of the page's texts on its ground, of both themes (WCAG 2)."""
    found = []
    for theme in ("light", "dark"):
        ask(f"document.documentElement.dataset.theme = '{theme}'")
        style = "return getComputedStyle(document.documentElement).getPropertyValue('--{}').trim()"
        grounds = [luminance(ask(style.format(name))) for name in ("page", "card")]
        for name in ("text", "dim", "good", "bad", "doubtful", "link"):
            own = luminance(ask(style.format(name)))
            found += [(max(own, ground) + 0.05) / (min(own, ground) + 0.05) for ground in grounds]
    return min(found)


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
