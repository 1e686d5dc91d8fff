"""The report as a file: nothing loaded, everything escaped, both languages, both kinds of light."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from string import Formatter
from typing import Any
from xml.etree import ElementTree

import pytest

from kft.evaluation.metrics.registry import METRICS
from kft.reporting.answer_differences import side_by_side
from kft.reporting.comparison_page import comparison_page
from kft.reporting.metric_words import KOREAN
from kft.reporting.plots import Curve, curve_plot, histogram_plot, scatter_plot, small_plot
from kft.reporting.render import phrase
from kft.reporting.run_page import report_page
from kft.reporting.svg import PARTS
from kft.reporting.views import ComparisonView, LabelRow, LabelView, NumberView, RunView
from kft.reporting.words import WORDS

PLANTED = "<script>alert('x')</script>\x1b[31m\u202e</td>\"'{{ 7 * 7 }}<img src=http://evil/x.png>"
LINKS = ("src", "href", "action", "data", "poster", "srcset", "formaction", "background")


def run_view(name: str = "run", planted: str = "글", **more: Any) -> RunView:
    """A finished run with `planted` in every place where a person's text can stand."""
    interval = {"difference": -0.5, "low": -0.7, "high": -0.3, "outcome": "better", "num_rows": 40}
    measured = {"eval_loss": 2.0, "r2": 0.1, "num_rows": 40, "majority_accuracy": 0.5}
    result = {
        "base": measured,
        "tuned": {**measured, "eval_loss": 1.5},
        "intervals": {"eval_loss": interval},
        "headline": {"metric": "eval_loss", "outcome": "better", "sentence": planted},
        "fit": {
            "verdict": "overfitting",
            "signal": "gap",
            "numbers": {"score": planted, "train": 0.9, "evaluation": 0.5},
            "training_rows": {"eval_loss": 1.0, "num_rows": 40},
        },
        "best": {"metric": "eval_loss", "step": 20, "value": 1.4, "is_saved": False},
        "samples": [
            {
                "prompt": planted,
                "reference": planted,
                "base": f"하나 {planted}",
                "tuned": f"둘 {planted}",
            }
        ],
        "mistakes": [dict.fromkeys(("place", "text", "truth", "base", "tuned"), planted)],
        "findings": [
            f"warning: {planted}\n  --> a.jsonl:3",
            f"note: Rows left out: {planted} (3 times)\n  --> {planted}:1",
        ],
        "dropped_rows": {planted: 3},
        "tokens": {
            "rows": 40, "tokens": 400, "targets": 100, "target_share": 0.25, "truncated": 2,
            "median": 9, "p95": 14, "longest": 16,
            "histogram": {"edges": [4, 8, 12, 16], "rows": [10, 20, 10]},
        },
        "steps": 30, "train_seconds": 12.5, "train_rows": 40, "peak_memory_bytes": 2**30,
        "trainable_parameters": 10, "total_parameters": 100,
        "verification": {"passed": True, "kl_nats": 1e-9, "dtype": planted},
    }  # fmt: skip
    log = [
        {"step": step, "loss": 3 / step, "learning_rate": 1e-3, "grad_norm": 1.0,
         "grad_norm_by_layer": {"h.0": 0.6, "h.1": 0.8},
         "tokens_per_second": 50.0, "peak_memory_bytes": 2**30}
        for step in range(1, 31)
    ]  # fmt: skip
    log += [{"step": step, "eval_loss": 2 - step / 60} for step in (10, 20, 30)]
    log += [{"step": 30, "checkpoint_seconds": 1.5, "checkpoint_bytes": 3 * 2**20}] * 2
    recipe = {
        "task": "causal_lm",
        "model": {"name_or_path": f"a/{planted}"},
        "adapter": {"method": "lora", "r": 8, "lora_alpha": 16},
        "data": {"max_length": 16},
    }
    values: dict[str, Any] = {
        "name": f"{name} {planted}",
        "result": result,
        "log": log,
        "recipe": recipe,
        "recipe_text": f"data: {planted}",
        "environment": {"device": planted, "packages": {planted: planted}},
        "meanings": {name: entry.meaning for name, entry in METRICS.items()},
        "predictions": LabelView([LabelRow(planted, 3, 0.5, 0.5, 0.2, 0.5)], [[3]]),
    }
    return RunView(**{**values, **more})


@cache
def pages(planted: str = "글") -> tuple[str, str, str]:
    """A report of labels, one of numbers, and a comparison."""
    numbers = NumberView([1.0, 2.0], [0.0, 0.0], [1.0, 2.0])
    runs = [run_view("하나", planted), run_view("둘", planted)]
    pair = {"difference": 0.1, "low": -0.1, "high": 0.2, "outcome": "within noise", "num_rows": 40}
    keys = {"adapter.r": [8, planted]}
    return (
        report_page(run_view(planted=planted)),
        report_page(run_view(planted=planted, predictions=numbers)),
        comparison_page(ComparisonView(runs, keys, [{"accuracy": pair}])),
    )


class Elements(HTMLParser):
    """Which elements and attributes a page has, and its visible text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


def loads(page: str) -> list[str]:
    """What a page would fetch or run, beside its own script."""
    seen = Elements(page)
    found = [
        f"{tag} {name}={value}"
        for tag, name, value in seen.attributes
        if (name in LINKS and not value.startswith(("#", "data:,"))) or name.startswith("on")
    ]
    found += [tag for tag in seen.tags if tag in ("iframe", "object", "embed", "img", "base")]
    found += re.findall(r"@import|url\((?!#)[^)]*\)", page)
    return found + ["script"] * (seen.tags.count("script") - 1)


def test_what_checkpoints_took_is_told() -> None:
    assert "2 written, the last of 3 MiB, 3.0 s in all" in report_page(run_view())
    none = run_view()
    none.log[:] = [line for line in none.log if "checkpoint_bytes" not in line]
    assert "3 MiB" not in report_page(none)


def test_a_report_loads_nothing() -> None:
    for page in pages():
        assert loads(page) == []
        assert "http://" not in page
        assert "https://" not in page
        assert "default-src 'none'" in page


@pytest.mark.parametrize(
    "planted",
    ['<img src="x">', '<a href="http://a">', "<b onclick=1>", "<style>@import 'a'</style>",
     "<script></script>", "<p style='background:url(a)'>"],
)  # fmt: skip
def test_a_planted_load_is_caught(planted: str) -> None:
    assert loads(pages()[0].replace("</main>", planted + "</main>"))


def test_what_people_wrote_is_escaped_everywhere() -> None:
    for clean, page in zip(pages(), pages(PLANTED), strict=True):
        seen, expected = Elements(page), Elements(clean)
        assert seen.tags.count("script") == 1
        assert {"img"} & set(seen.tags) == set()
        assert "\x1b" not in page
        assert "\u202e" not in page
        assert "{{ 7 * 7 }}" in seen.text
        # Nothing that was planted became an element: both pages have the same ones.
        marks = [tag for tag in seen.tags if tag != "mark"]
        assert marks == [tag for tag in expected.tags if tag != "mark"]
        assert seen.text.count(r"\x1b[31m") >= 2


def test_an_unescaped_page_would_be_noticed() -> None:
    page = pages()[0]
    assert Elements(page.replace("글", "<script>1</script>", 1)).tags.count("script") == 2


def test_both_languages_stand_in_the_page() -> None:
    page = pages()[0]
    for words in (
        "효과가 있었나요?",
        "Did it help?",
        "좋아졌습니다",
        "Yes, it got better",
        "과적합",
    ):
        assert words in page
    assert page.count('lang="ko"') == page.count('lang="en"') + 1  # the page itself
    assert "prefers-color-scheme: dark" in page
    assert "width=device-width" in page


def test_every_phrase_has_both_languages_and_the_same_numbers() -> None:
    assert len(WORDS) > 80
    for korean, english in WORDS.values():
        assert re.search("[가-힣]", korean)
        assert not re.search("[가-힣]", english)
        fields = [
            {name for _, name, _, _ in Formatter().parse(t) if name} for t in (korean, english)
        ]
        assert fields[0] == fields[1]
    assert set(KOREAN) == set(METRICS)


def test_a_phrase_escapes_its_parts() -> None:
    told = phrase("not merged", reason="<b>&")
    assert str(told).count("&lt;b&gt;&amp;") == 2


def test_a_run_that_did_not_finish_has_a_page_too() -> None:
    page = report_page(run_view(result={}, predictions=None, log=[]))
    assert "No rows were held out" in page
    assert "<svg" not in page


def test_few_rows_and_a_model_that_was_refused_are_said() -> None:
    view = run_view()
    result = dict(view.result)
    result |= {"intervals": {}, "verification": {"passed": False}}
    result["headline"] = {"metric": "eval_loss", "outcome": None, "sentence": ""}
    page = report_page(run_view(result=result))
    result["headline"] |= {"free": 0.5, "is_above_free": False}
    assert "It is not clearly above 0.5" in report_page(run_view(result=result))
    assert "It is not clearly above" not in page
    for words in ("too few for an interval", "Can't be told", "Not verified"):
        assert words in page


def test_answers_are_compared_by_eojeol() -> None:
    before, after = side_by_side("오늘 날씨가 좋다", "오늘은 날씨가 참 좋다")
    assert "".join(part.text for part in before) == "오늘 날씨가 좋다"
    assert "".join(part.text for part in after) == "오늘은 날씨가 참 좋다"
    assert [part.text.strip() for part in after if part.is_own] == ["오늘은", "참"]
    assert side_by_side("", "") == ([], [])
    long = side_by_side("가 " * 5000, "")[0]
    assert sum(len(part.text) for part in long) < 5000


def plots() -> Iterator[str]:
    points = [(step, 1.0 / step) for step in range(1, 2000)]
    yield curve_plot(
        "loss", [Curve(points, "one"), Curve(points[:9], "two", has_dots=True)], mark=5
    )
    yield small_plot("rate", points, at_zero=True)
    yield histogram_plot("lengths", [1, 5, 9], [3, 4], limit=10)
    yield scatter_plot("scatter", [1.0, 2.0, 3.0] * 1000, [2.0] * 3000, [1.0, 2.0, 3.1] * 1000)


def test_plots_are_drawings_in_the_colours_of_the_page() -> None:
    for plot in plots():
        root = ElementTree.fromstring(plot)  # noqa: S314 -- made here
        assert root.tag == "svg"
        assert "viewBox" in root.attrib
        assert "width" not in root.attrib
        assert "var(--one)" in plot
        assert not re.search("#[0-9a-f]{6}", plot)  # no colour that one kind of light would hide
        assert "<text" in plot
        assert "font-family" not in plot
        assert len(plot) < 300_000


def test_two_plots_of_a_page_share_no_id() -> None:
    seen: list[str] = []
    for plot in plots():
        found = re.findall(r' id="([^"]*)"', plot)
        assert set(re.findall(r"#([\w-]+)", plot)) <= set(found)
        seen += found
    assert len(seen) == len(set(seen)) > 4


def test_nothing_is_drawn_of_nothing() -> None:
    nan = [(1, float("nan"))]
    assert curve_plot("a", [Curve(nan, "one")]) == small_plot("b", nan) == ""
    assert histogram_plot("c", [], []) == scatter_plot("d", [], [], []) == ""


def test_the_page_knows_every_colour_of_the_plots() -> None:
    page = pages()[0]
    light, dark = page.split("prefers-color-scheme: dark")[:2]
    assert all(f"--{name}:" in light and f"--{name}:" in dark for name in PARTS)


BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)


@pytest.mark.slow
@pytest.mark.parametrize("width", [1000, 500])
@pytest.mark.parametrize("light", [0, 1])
@pytest.mark.parametrize("language", ["ko", "en"])
def test_a_browser_shows_it_without_complaint(
    tmp_path: Path, width: int, light: int, language: str
) -> None:
    if not BROWSER:
        pytest.skip("no chromium here")
    page, picture = tmp_path / "report.html", tmp_path / "report.png"
    page.write_text(pages(PLANTED)[0], encoding="utf-8")
    command = [
        BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
        f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},1500",
        f"--blink-settings=preferredColorScheme={light}", f"--screenshot={picture}",
        f"{page.as_uri()}#{language}",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert picture.stat().st_size > 20_000
    assert "CONSOLE" not in done.stderr


@pytest.mark.slow
def test_a_browser_shows_one_language_at_a_time(tmp_path: Path) -> None:
    if not BROWSER:
        pytest.skip("no chromium here")
    probe = (
        "<script>var seen=[...document.querySelectorAll('h2 span')].filter("
        "e=>getComputedStyle(e).display!='none').map(e=>e.lang);"
        "document.title='shown '+[...new Set(seen)].join();</script>"
    )
    text = re.sub(r"<meta http-equiv=[^>]*>", "", pages()[0]).replace("</body>", probe + "</body>")
    page = tmp_path / "report.html"
    page.write_text(text, encoding="utf-8")
    for language in ("ko", "en"):
        command = [
            BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom",
            f"--user-data-dir={tmp_path / 'profile'}", f"{page.as_uri()}#{language}",
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert f"<title>shown {language}</title>" in done.stdout
