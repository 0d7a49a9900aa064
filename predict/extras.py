"""Which extra of the distribution brings a package that is not installed.

A plain installation has what `predict` needs. Extras add dependencies only; all of our own modules are always there.
"""

import traceback
from collections.abc import Mapping
from types import MappingProxyType

from predict.version import DISTRIBUTION

# The modules that each extra adds, and the packages that hold them.
EXTRAS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "bench": {"torch": "torch", "pynvml": "nvidia-ml-py", "psutil": "psutil"},
        "reports": {
            "pandas": "pandas",
            "matplotlib": "matplotlib",
            "scipy": "scipy",
            "jinja2": "jinja2",
            "PIL": "pillow",
            "pyarrow": "pyarrow",
            "altair": "altair",
            "vl_convert": "vl-convert-python",
            "markupsafe": "markupsafe",
            "starlette": "starlette",
            "uvicorn": "uvicorn",
        },
    }
)
NEEDS = {"bench": ("bench", "reports"), "reports": ("reports",)}  # an extra, and those whose packages it brings
MEASURING = frozenset({"bench", "kernels"})  # our packages that need the extra `bench`


def say_what_is_missing(error: ModuleNotFoundError) -> str | None:
    """Which package is missing and how to install it, for the end of a sentence; None if no extra brings it."""
    askers = {frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)}
    extra = "bench" if MEASURING & {name.partition(".")[0] for name in askers} else "reports"
    brought = {module: package for each in NEEDS[extra] for module, package in EXTRAS[each].items()}
    package = brought.get(error.name or "")
    if package is None:
        return None
    return f"needs {package}, which is not installed: pip install '{DISTRIBUTION}[{extra}]'"
