"""The page, and the files that it loads: its style, its script, and the library that draws."""

from collections.abc import Mapping
from pathlib import Path

from reports.explore.contents import SECTIONS, charts_of, controls_of
from reports.explore.controls import CONTROLS, SHAPE, SHARED, Control
from reports.explore.server import Asset
from reports.files import html_template
from reports.report.charts import CONFIG
from reports.report.html import STYLE as REPORT_STYLE
from reports.report.html import library, script_json

HERE = Path(__file__).parent
DATASETS = ("", "_marks", "_points", "_edges")  # what may stand behind a chart's name in the name of its rows


def render_page() -> str:
    """The text of the page. It holds no number: all of them are asked for."""
    return html_template(HERE / "explore.html.jinja").render(
        shared=SHARED,
        controls=CONTROLS,
        sections=SECTIONS.values(),
        controls_of=controls_of,
        charts_of=charts_of,
        data=script_json(_data()),
    )


def assets() -> dict[str, Asset]:
    """What the page loads, by name. Its style begins with that of a run's report."""
    style = REPORT_STYLE.read_bytes() + (HERE / "explore.css").read_bytes()
    return {
        "explore.js": Asset((HERE / "explore.js").read_bytes(), "text/javascript"),
        "explore.css": Asset(style, "text/css"),
        "vega.js": Asset(str(library()).encode(), "text/javascript"),
    }


def _data() -> Mapping[str, object]:
    """What the script knows of controls, sections and charts."""
    return {
        "config": dict(CONFIG),
        "shared": list(SHARED),
        "shape": list(SHAPE),
        "controls": {name: _control(control) for name, control in CONTROLS.items()},
        "sections": {section.name: list(controls_of(section)) for section in SECTIONS.values()},
        "charts": {
            chart.name: {"spec": chart.spec, "rows": [f"{chart.name}{end}" for end in DATASETS]}
            for section in SECTIONS.values()
            for chart in charts_of(section)
        },
    }


def _control(control: Control) -> Mapping[str, object]:
    return {"default": control.default, "stops": control.stops, "choices": control.choices}
