"""Stand-ins for an installation: the console script, missing packages, a folder of files with unlucky names."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# What a plain installation brings: its dependencies, and what these depend on.
PLAIN = ("numpy", "rich", "typer", "click", "typing_extensions", "shellingham", "markdown_it", "mdurl", "pygments")
READING = ("pandas", "pyarrow", "scipy", "matplotlib", "PIL", "jinja2", "markupsafe", "altair", "vl_convert")
SERVING = ("starlette", "uvicorn")
EXTRAS = ("torch", "triton", "pynvml", "psutil", *READING, *SERVING)
# Names of modules of ours, and of modules that starting a process, a worker or a command loads.
UNLUCKY = ("bench", "predict", "kernels", "reports", "json", "random", "signal", "struct", "tempfile", "pickle", "rich")

SCRIPT = """#!{python}
import sys
from napkin_bench.__main__ import main
if __name__ == "__main__":
    sys.exit(main())
"""
# Refuses packages as if they were not installed.
SITE = """import sys
class Refusing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {refused!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Refusing())
"""


def console_script(folder: Path) -> Path:
    """The file `napkin-bench` as pip writes it into `folder`."""
    script = folder / "napkin-bench"
    script.write_text(SCRIPT.format(python=sys.executable))
    script.chmod(0o755)
    return script


def refuse(folder: Path, *packages: str) -> Path:
    """A folder for PYTHONPATH that makes the packages look as if they were not installed."""
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(SITE.format(refused=set(packages)))
    return folder


def unlucky_folder(folder: Path) -> Path:
    """A folder whose files end a program that loads them."""
    folder.mkdir()
    for name in UNLUCKY:
        (folder / f"{name}.py").write_text(f"raise SystemExit('{name}.py of the current folder was loaded')\n")
    return folder


def execute(
    *command: str | Path, path: tuple[Path, ...] = (ROOT,), cwd: Path, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a command in `cwd`, with `path` as PYTHONPATH."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path)), **variables}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
