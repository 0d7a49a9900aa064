"""The page by keyboard, on a phone, in the dark; and measured points under the pointer."""

import re

import pytest

from reports.explore.contents import SECTIONS
from tests.reports.explore.conftest import ROWS

PHONE = {"width": 360, "height": 740}
NAMELESS = """() => [...document.querySelectorAll("main input, main select, form.shared input, form.shared select")]
  .filter((each) => !each.labels?.length && !each.getAttribute("aria-label")).map((each) => each.outerHTML)"""
WIDE = """() => [...document.querySelectorAll("main *, form.shared, form.shared *")]
  .filter((each) => !each.closest(".scroll, svg, pre, select"))
  .filter((each) => each.getBoundingClientRect().right > innerWidth + 1).map((each) => each.outerHTML.slice(0, 80))"""
COLORS = """() => [...document.querySelectorAll("body, .says p, .quiet, .numbers td, .numbers .with, a, label")]
  .map((each) => [getComputedStyle(each).color, getComputedStyle(document.body).backgroundColor])"""


def see_all(opened):
    for section in SECTIONS:
        assert opened.see(section)["error"] == ""


def test_tab_goes_through_the_controls_in_order_and_arrows_move_a_slider(open_page):
    opened = open_page()
    opened.see("time")
    names, page = [], opened.page
    page.locator("#shared-model").focus()
    for _ in range(16):
        names.append(page.evaluate("() => document.activeElement.closest('[data-control]')?.dataset.control ?? ''"))
        page.keyboard.press("Tab")
    assert list(dict.fromkeys(filter(None, names)))[:9] == [
        *("model", "gpu", "gpus", "weights", "kv", "compute", "batch", "seq", "context"),
    ]
    before = opened.shown("time")["numbers"]
    opened.control("batch").focus()
    page.keyboard.press("ArrowRight")
    assert opened.shown("time")["numbers"] != before
    assert opened.control("batch").get_attribute("aria-valuetext") == "2"


def test_every_control_and_every_chart_has_a_name(open_page):
    opened = open_page()
    see_all(opened)
    assert opened.page.evaluate(NAMELESS) == []
    assert opened.page.locator(".chart:not([aria-label])").count() == 0


def test_a_phone_needs_no_scrolling_sideways(open_page):
    opened = open_page("batch=16", viewport=PHONE)
    see_all(opened)
    assert opened.page.evaluate(WIDE) == []
    assert opened.page.evaluate("() => document.documentElement.scrollWidth") <= PHONE["width"]


def luminance(color):
    """Of an rgb() color, as WCAG defines it."""
    channels = [int(each) / 255 for each in re.findall(r"\d+", color)[:3]]
    red, green, blue = (each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_stand_out_from_the_page(open_page, scheme):
    opened = open_page(color_scheme=scheme)
    opened.see("time")
    for text, paper in opened.page.evaluate(COLORS):
        light, dark = sorted((luminance(text), luminance(paper)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, paper)
    paper = luminance(opened.page.evaluate("() => getComputedStyle(document.body).backgroundColor"))
    assert (paper < 0.1) == (scheme == "dark")


def test_what_does_not_fit_is_told_by_a_sign_and_in_words(open_page):
    opened = open_page("use=train&batch=64")
    shown = opened.see("memory")
    assert shown["says"][0].startswith("Does not fit")
    sign = "getComputedStyle(document.querySelector('#memory .says p'), '::before').content"
    assert "\u26a0" in opened.page.evaluate(sign)


def test_measured_points_stand_over_the_curve_and_have_names(open_page):
    opened = open_page()
    opened.see("time")
    figure = opened.page.locator('[data-chart="kernel_time"]')
    points = figure.locator("svg .mark-symbol.role-mark").last.locator("path")
    assert points.count() == len(ROWS)
    points.last.scroll_into_view_if_needed()
    points.last.hover(force=True)
    tip = opened.page.locator("#vg-tooltip-element.visible")
    tip.wait_for()
    assert "by some kernel, tables of h100-sxm: matmul n 6,144, k 4,096, m 4,096 in bf16" in tip.text_content()


def test_points_of_another_machine_can_be_chosen_or_left_out(open_page):
    opened = open_page()
    before = opened.see("phases")["charts"]
    chosen = opened.page.locator('#phases [data-control="points"] select')
    names = chosen.evaluate("(each) => [...each.options].map((option) => option.value)")
    assert names == ["run AMD EPYC", "tables of h100-sxm", "none"]
    chosen.select_option("run AMD EPYC")
    assert opened.shown("phases")["charts"] != before
    assert opened.page.locator('#time [data-control="points"] select').input_value() == "run AMD EPYC"
