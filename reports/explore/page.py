"""The page, and the files that it loads."""

from reports.explore.server import Asset


def render_page() -> str:
    """The text of the page."""
    return "<!doctype html>\n<title>napkin-bench</title>\n"


def assets() -> dict[str, Asset]:
    """What the page loads, by name."""
    return {"explore.js": Asset(b"", "text/javascript"), "explore.css": Asset(b"", "text/css")}
