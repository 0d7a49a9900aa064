"""Are these packages ours? `predict`, `kernels`, `bench` and `reports` are names that others use too.

Standard library only: it runs before anything of them is loaded.
"""

import importlib.util
import sys
from pathlib import Path

NAMES = ("predict", "kernels", "bench", "reports")
MARK = "napkin-bench"  # stands in the docstring of each package
REMEDY = "install napkin-bench in an environment of its own, as pipx and `uv tool install` do"


def require_ours() -> None:
    """Exit with status 2, and one line that names the file, where Python finds another package of one of the names."""
    for name in NAMES:
        if said := _what_is_found(name):
            sys.stderr.write(f"error: napkin-bench needs its own package `{name}`, but {said}\n")
            sys.exit(2)


def _leave(found: Path) -> str:
    """How to keep Python from finding that file first."""
    if Path.cwd().resolve() in (found.parent, found.parent.parent):  # where `python -m` looks first
        return "run `napkin-bench`, which does not look in the current folder"
    return "take that folder off PYTHONPATH"


def _what_is_found(name: str) -> str | None:
    """What Python finds under a package's name and what to do, as the end of a sentence; None if it is ours."""
    ours = Path(__file__).resolve().parent.parent / name / "__init__.py"
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        return f"{ours} is missing: install napkin-bench again, in an environment of its own"
    found = Path(spec.origin).resolve()
    if found != ours:
        return f"Python finds {found} first: {REMEDY}, or {_leave(found)}"
    if MARK not in found.read_text(encoding="utf-8", errors="replace"):
        return f"another package was installed over it, {found}: {REMEDY}"
    return None
