"""report.html: what it holds, and what it does in a browser."""

import dataclasses
import json
import re
from html.parser import HTMLParser

import pytest

from bench.record import FUNCTION, RoofSet, Status
from predict.resources import Ceiling, Resource
from predict.units import find_dtype
from predict.workloads import Amounts, Workload
from reports.report.html import alike, render_html, script_json
from reports.report.page import PAGE, render, write_page
from reports.run.load import Run
from reports.run.terminal import run_page
from reports.tables import TextTable
from tests.factories import make_environment, make_record, unstable
from tests.reports.run.test_passes import QKV, asked, kernel, record

HEADINGS = "#rows thead th"
NAMES = "#rows tbody tr:not(.detail) td:first-child"
BATCHES = (1, 16, 64, 256, 1024)


def matmul(m, time_s, **changes):
    return make_record(dims={"m": m, "n": 8192, "k": 8192}, time_s=time_s, **changes)


# 2 * 8192 * 8192 FLOP a row at 100 TFLOP/s are 1.34 us; the weights' 134 MB at 1 TB/s are 134 us.
SWEEP = tuple(matmul(m, (2e-4, 3e-4, 1e-3, 5e-4, 4e-3)[place]) for place, m in enumerate(BATCHES))
FAILED = matmul(2, 1e-3, status=Status.OUT_OF_MEMORY, reason="needs 99 GiB, 1 GiB are free")
DECODE = make_record(
    "attention_decode", {"batch": 1, "heads": 32, "kv_heads": 8, "head_dim": 128, "context": 8192}, time_s=5e-5
)
SOME = Run((*SWEEP, FAILED, DECODE, unstable(matmul(32, 4e-4))))

HOSTILE = (
    "</script><script>alert(1)</script>|`x`\x1b[31m<img src=x onerror=alert(2)>[y](javascript:alert(3))\u2028\u202e"
)


def hostile_run(word=HOSTILE):
    """A run in which all that may be any text is this word."""
    environment = make_environment(
        **dict.fromkeys(("name", "driver", "torch", "triton", "python", "platform", "commit", "utc", "cuda"), word),
        gpu=None, mismatches=(word,), unknown=(word,), packages={word: word},
    )  # fmt: skip
    roofs = RoofSet({}, {unit: Ceiling(1e12, word) for unit in (Resource.TENSOR_BF16, Resource.DRAM_READ)})
    named = [
        matmul(m, m * 1e-3, implementation=f"{word}{place}", environment=environment, roofs=roofs)
        for place, m in enumerate((1, 64))
    ]
    measurement = dataclasses.replace(named[0].measurement, method=word, stop=word, throttle=(word,), not_captured=word)
    named[0] = dataclasses.replace(named[0], measurement=measurement, printed=word)
    failed = matmul(2, 1.0, status=Status.CRASHED, reason=word, environment=environment, roofs=roofs)
    function = dataclasses.replace(
        failed, workload=Workload(f"{FUNCTION}{word}", {}, find_dtype("bf16"), Amounts({}, 0, 0)), prediction=None
    )
    return Run((*named, failed, function))


class Elements(HTMLParser):
    """Counts the elements and attributes of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attributes}


def many(count):
    """Measured rows of every size, with details as long as they get."""
    rows = []
    for place in range(count):
        dims = {"batch": 1 + place, "heads": 32, "kv_heads": 8, "head_dim": 128, "context": 8192}
        record = make_record("attention_decode", dims, time_s=(1 + place) * 1.0372e-5, implementation="sdpa_flash")
        rows.append(unstable(record) if place % 4 == 0 else record)
    return Run(tuple(rows))


def test_a_machine_that_cannot_draw_the_page_says_so_and_leaves_no_old_one(tmp_path, monkeypatch):
    assert write_page(SOME, tmp_path) == ""
    assert (tmp_path / PAGE).read_text(encoding="utf-8") == render_html(SOME)

    def render(run):
        raise ModuleNotFoundError("No module named 'altair'", name="altair")

    monkeypatch.setattr("reports.report.html.render_html", render)
    assert write_page(SOME, tmp_path) == (
        "report.html was not written: it needs altair, which is not installed: pip install 'napkin-bench[reports]'"
    )
    assert not (tmp_path / PAGE).exists()


def test_verdicts_come_first_then_machine_figures_rows_warnings_and_how_to_reproduce():
    sections = re.findall(r'<section id="(\w+)">', render_html(SOME))
    assert sections == ["verdicts", "machine", "figures", "results", "warnings", "reproduce"]


def test_eight_hundred_rows_take_at_most_two_megabytes():
    assert len(render_html(many(800)).encode()) <= 2e6


def test_nothing_of_a_record_that_could_end_a_script_stands_in_it():
    text = script_json({"x": "</script><!--&\u2028\u2029"})
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == {"x": "</script><!--&\u2028\u2029"}


def test_json_of_a_number_that_is_none_is_refused():
    with pytest.raises(ValueError, match="not JSON compliant"):
        script_json(float("nan"))


def test_a_hostile_record_adds_no_element_and_no_attribute():
    harmless = Elements(render_html(hostile_run("harmless")))
    hostile = Elements(render_html(hostile_run()))
    assert hostile.tags == harmless.tags
    assert hostile.attributes == harmless.attributes
    assert "img" not in hostile.tags


def test_a_hostile_record_is_words_in_markdown():
    text = render(hostile_run(), ())
    assert "alert(1)" in text
    assert "<script" not in text
    assert "<img" not in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert re.search(r"(?<!\\)\]\(javascript", text) is None
    cells = [len(re.findall(r"(?<!\\)\|", line)) for line in table_of(text, "crashed")]
    assert len(set(cells)) == 1  # every line of the table has as many cells


def table_of(text, word):
    """The lines of the last table that has a word."""
    tables = [part.splitlines() for part in text.split("\n\n") if part.startswith("|") and word in part]
    return tables[-1]


@pytest.mark.parametrize("width", [60, 140])
def test_a_terminal_is_shown_control_characters_not_sent_them(width, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    text = run_page(hostile_run(), width)
    assert "\\x1b[31m" in text
    assert not {each for each in text if not each.isprintable()} - {"\n"}


def test_a_row_says_how_its_napkin_was_computed():
    # 2*16*8192^2 = 2.147 GFLOP at 100 TFLOP/s; (16*8192 + 8192^2 + 16*8192) * 2 = 134.7 MB at 1 TB/s.
    data = json.loads(re.search(r'id="data">(.*?)</script>', render_html(Run((make_record(),))))[1])
    texts = [data["words"][place] for place in data["details"][0]]
    details = dict(zip(texts[::2], texts[1::2], strict=True))
    assert details["napkin"] == (
        "tensor.bf16: 2.15 GFLOP / 100 TFLOP/s = 21.5 us\ndram: 135 MB / 1.00 TB/s = 135 us\nbound: dram, 135 us"
    )
    # The factory's samples are 0.96 to 1.04 ms around 1 ms.
    assert details["measured"].startswith("median 1.00 ms of 6 samples, 95 % interval 960 us to 1.04 ms")
    assert details["measure it again"] == (
        "python -m bench run --op matmul m=16 n=8192 k=8192 --dtype bf16 --implementation torch"
    )


def test_rows_that_differ_in_digits_alone_stand_together():
    table = TextTable(
        "doubtful",
        ("workload", "implementation", "why"),
        (("a", "x", "slow by 3"), ("b", "x", "off 1.5 %"), ("c", "y", "off 12 %")),
    )
    found = alike(table)
    assert found.titles == ("rows", "why", "such as")
    assert found.rows == (("2", "off 1.5 %", "b by x"), ("1", "slow by 3", "a by x"))


MIXED = Run((make_record(), make_record(implementation="triton", environment=make_environment(driver="1.0"))))
NOTHING = dataclasses.replace(FAILED, prediction=None, check=None, roofs=RoofSet({}, {}))
RUNS = {
    "one row": Run((make_record(),)),
    "no measured row": Run((FAILED,)),
    "a launch": Run((make_record("launch", {}, dtype="fp32"),)),
    "mixed machines": MIXED,
    "no number anywhere": Run((NOTHING,)),
    "every row unstable": Run(tuple(unstable(each) for each in SWEEP)),
    "hostile": hostile_run(),
    "passes of a model": Run((record(QKV, "torch"),), passes=(asked(kernel("qkv", QKV, 2)),)),
}


def test_records_of_several_machines_are_a_warning_with_a_remedy():
    text = render_html(MIXED)
    assert "the records come from 2 different environments; the last one is shown" in text
    assert "measure all of it again on one machine with one installation" in text
    assert "<td>1.0</td>" in text  # both drivers stand among the versions
    assert "<td>580.0</td>" in text


@pytest.mark.parametrize("name", RUNS)
def test_a_page_of_any_run_works_and_asks_nobody(open_page, name):
    opened = open_page(RUNS[name])
    for heading in opened.page.query_selector_all(f"{HEADINGS} button"):
        heading.click()
    for row in opened.page.query_selector_all(f"{NAMES} button"):
        row.click()
    assert (opened.faults, opened.requests) == ([], [])
    assert opened.page.query_selector_all("img, iframe, object, embed, link, base") == []
    assert len(opened.page.query_selector_all("script")) == 4  # rows, figures, Vega, ours
    assert len(opened.texts("tr.detail")) == len(RUNS[name].records)


def test_headings_sort_by_value_up_and_down_with_the_keyboard_too(open_page):
    opened = open_page(SOME)
    time = opened.page.query_selector('th[data-key="time"] button')
    time.click()
    # 5e-5 of decode; 2e-4, 3e-4, 4e-4 (unstable), 5e-4, 1e-3, 4e-3 of the sweep; without a time last.
    up = ["50.0 us", "200 us", "300 us", "~400 us", "500 us", "1.00 ms", "4.00 ms"]
    column = "#rows tbody td:nth-child(4)"
    assert opened.texts(column) == [*up, ""]
    time.press("Enter")
    assert opened.texts(column) == [*reversed(up), ""]
    sorts = [th.get_attribute("aria-sort") for th in opened.page.query_selector_all(HEADINGS)]
    assert sorts == ["none"] * 3 + ["descending"] + ["none"] * 5


def test_filters_by_op_status_and_text_leave_the_rows_that_fit(open_page):
    opened = open_page(SOME)
    page = opened.page
    page.select_option("#op", "attention_decode")
    assert len(opened.texts(NAMES)) == 1
    assert opened.texts("#count") == ["1 of 8 rows"]
    page.select_option("#op", "")
    page.select_option("#status", "out of memory")
    assert opened.texts(NAMES) == ["matmul-m2-n8192-k8192-bf16"]
    page.select_option("#status", "")
    page.fill("#text", "-M1 torch")
    # m1, m16 and m1024 have it.
    assert opened.texts("#count") == ["3 of 8 rows"]
    page.fill("#text", "")
    assert opened.texts("#count") == ["8 rows"]


def test_a_row_opens_and_closes_its_details_and_keeps_them_when_sorted(open_page):
    opened = open_page(SOME)
    button = opened.page.query_selector(f'{NAMES} button:text("matmul-m2-")')
    button.click()
    assert button.get_attribute("aria-expanded") == "true"
    (detail,) = opened.texts("tr.detail")
    assert "needs 99 GiB, 1 GiB are free" in detail
    opened.page.query_selector('th[data-key="workload"] button').click()
    beside = "(button) => button.closest('tr').nextElementSibling.className"
    assert button.evaluate(beside) == "detail"
    button.press("Enter")
    assert opened.texts("tr.detail") == []


def test_pointing_at_a_row_in_a_figure_names_it_its_bound_and_why(open_page):
    opened = open_page(Run((make_record(),)))
    opened.page.query_selector("#figure-parity svg .mark-symbol path").hover()
    tooltip = opened.page.wait_for_selector("#vg-tooltip-element.visible").inner_text()
    assert "matmul-m16-n8192-k8192-bf16" in tooltip
    assert "dram: 135 MB / 1.00 TB/s = 135 us" in tooltip
    assert opened.page.query_selector(".vega-actions, details[title]") is None  # a menu that leaves the page


def test_every_figure_has_words_for_who_does_not_see_it_and_shows_its_rows(open_page):
    opened = open_page(SOME)
    charts = opened.page.query_selector_all(".chart")
    assert all(chart.get_attribute("role") == "img" for chart in charts)
    assert all(len(chart.get_attribute("aria-label")) > 40 for chart in charts)
    # Roofline and parity have the 7 measured rows; time and share of the sweep 6 of them; the last all 7.
    marks = [len(chart.query_selector_all(".mark-symbol.role-mark path")) for chart in charts]
    assert marks == [7, 7, 6, 6, 7]


def test_names_that_nobody_would_choose_are_drawn_and_found_too(open_page):
    opened = open_page(hostile_run())
    sweep = opened.page.query_selector("#figure-matmul-0 .chart")
    assert len(sweep.query_selector_all(".mark-symbol.role-mark path")) == 2
    ops = opened.page.eval_on_selector_all("#op option", "(options) => options.map((option) => option.value)")
    (function,) = [op for op in ops if op.startswith(FUNCTION)]
    opened.page.select_option("#op", function)
    assert opened.texts("#count") == ["1 of 4 rows"]


@pytest.mark.parametrize("name", ["one row", "every row unstable", "hostile"])
def test_a_phone_scrolls_no_body_sideways(open_page, name):
    opened = open_page(RUNS[name], viewport={"width": 360, "height": 740})
    for row in opened.page.query_selector_all(f"{NAMES} button"):
        row.click()
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 360


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground_in_light_and_dark(open_page, scheme):
    opened = open_page(SOME, color_scheme=scheme)
    colors = "(element) => [getComputedStyle(element).color, getComputedStyle(document.body).backgroundColor]"
    for selector in ("h1", ".quiet", "#rows td", "nav a", "thead th", "figcaption"):
        text, ground = opened.page.eval_on_selector(selector, colors)
        assert contrast(text, ground) >= 4.5  # WCAG 2.2, AA
    drawn = "(element) => [getComputedStyle(element).fill, getComputedStyle(document.body).backgroundColor]"
    assert contrast(*opened.page.eval_on_selector(".chart svg text", drawn)) >= 4.5


def contrast(one, other):
    """The contrast of two colors such as rgb(1, 2, 3), by WCAG."""
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(color):
    parts = [int(part) / 255 for part in re.findall(r"\d+", color)[:3]]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_paper_is_white_in_dark_mode_too(open_page):
    opened = open_page(SOME, color_scheme="dark")
    opened.page.emulate_media(media="print", color_scheme="dark")
    ground = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == "rgb(255, 255, 255)"


def test_without_javascript_the_table_is_still_there(open_page):
    opened = open_page(SOME, java_script_enabled=False)
    assert len(opened.texts("#rows tbody tr")) == 8
    assert opened.texts(".filters") == []
    assert "report.md shows them as pictures" in opened.page.inner_text("noscript")
