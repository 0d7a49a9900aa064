"""Which napkin-bench this is: the version that its checkout or its installation says."""

import importlib.metadata
import tomllib
from pathlib import Path

DISTRIBUTION = "napkin-bench"
ROOT = Path(__file__).resolve().parent.parent  # a checkout, or the folder of installed packages


def version() -> str:
    """The version; "unknown" where neither pyproject.toml nor metadata tells it."""
    if is_checkout():
        return str(_project()["version"])
    try:
        return importlib.metadata.version(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def is_checkout() -> bool:
    """Whether this code lies in a checkout. Metadata may then be those of another copy, or of an older state."""
    return _project().get("name") == DISTRIBUTION


def _project() -> dict[str, object]:
    try:
        table: dict[str, object] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    except (OSError, KeyError, tomllib.TOMLDecodeError):
        return {}
    return table
