"""Debian's Chromium, headless, for tests of pages; and why there is none."""

import functools
import importlib.util
from pathlib import Path

CHROMIUM = Path("/usr/bin/chromium")


@functools.cache
def why_no_browser() -> str | None:
    """What is missing, or None."""
    if importlib.util.find_spec("playwright") is None:
        return "needs playwright, which the extra `dev` brings"
    if not CHROMIUM.exists():
        return f"needs {CHROMIUM}: apt-get install chromium"
    return None
