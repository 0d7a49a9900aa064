"""Who may import whom (the table in ARCHITECTURE.md), read off the syntax trees; imports inside functions count."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OURS = ("predict", "kernels", "bench", "reports", "napkin_bench")

GPU_STACK = {"torch", "triton"}
READING = {"pandas", "matplotlib", "PIL", "jinja2"}
PAGE = {"altair", "vl_convert", "markupsafe"}  # what report.html is made with
SERVING = {"starlette", "uvicorn"}  # what the page of explore is served with
OWNERS = "napkin_bench.packages"  # asks whose packages these are

# What each package may import besides the standard library, NumPy and itself; then what rooms and modules may add.
PACKAGES = {
    "predict": set(),
    "kernels": {"torch"},
    "bench": {"predict", "kernels", "scipy", "psutil"} | GPU_STACK,
    "napkin_bench": set(),
    "reports": {"predict", "bench.passes", "bench.record", "bench.stats", "bench.store", "scipy"} | READING,
}
MODULES = {
    "predict.__main__": {"typer"},
    "predict.command_line": {"typer"},
    "predict.forms": {"typer"},
    "predict.commands": {"typer"},
    "predict.commands.arguments": {"click"},  # which Typer is made of, to read options without running their command
    "predict.commands.targets": {"reports.front"},  # loaded to draw, when a figure is asked for
    "kernels.__main__": {
        "typer",
        "predict.command_line",
        "predict.lazily",
        "predict.forms",
        "predict.table",
        "predict.terminal",
        "predict.units",
        OWNERS,
    },
    "kernels.triton": {"triton"},
    "kernels.peers.liger": {"liger_kernel"},
    "kernels.peers.quack": {"quack"},
    "kernels.peers.flash_attention": {"flash_attn", "flash_attn_interface"},
    "kernels.peers.flashinfer": {"flashinfer"},
    "bench.__main__": {"typer", OWNERS},
    "bench.commands": {"typer", "reports"},
    "bench.progress": {"rich"},
    "bench.nvml": {"pynvml"},
    "napkin_bench.__main__": {"predict.command_line", "shellingham"},
    "napkin_bench.commands": {"predict.command_line", "predict.version", "click", "typer"},
    "reports.__main__": {"typer", OWNERS},
    "reports.commands": {"typer"},
    "reports.report": PAGE,
    "reports.explore": PAGE | SERVING,
}
# The rooms of a package, and which others each may import; modules on the ground floor import none, those on top (TOP)
# all of them.
ROOMS = {
    "predict.formulas": set(),
    "predict.model": {"predict.formulas"},
    "predict.expected": {"predict.formulas", "predict.model"},
    "predict.answers": {"predict.formulas", "predict.model", "predict.expected"},
    "kernels.pytorch": set(),
    "kernels.triton": {"kernels.pytorch"},
    "kernels.peers": {"kernels.pytorch"},
    "reports.calibration": set(),
    "reports.run": {"reports.calibration"},
    "reports.accuracy": {"reports.calibration", "reports.run"},
    "reports.scorecard": {"reports.calibration", "reports.run", "reports.accuracy"},
    "reports.comparison": {"reports.calibration", "reports.run", "reports.accuracy", "reports.scorecard"},
    "reports.report": {"reports.calibration", "reports.run", "reports.accuracy", "reports.scorecard"},
    "reports.explore": {
        "reports.calibration",
        "reports.run",
        "reports.accuracy",
        "reports.scorecard",
        "reports.comparison",
        "reports.report",
    },
    "reports.sweep": set(),
    "reports.served": set(),
}
TOP = {
    "bench.__main__",
    "bench.commands",
    "kernels.__main__",
    "kernels.catalog",
    "reports.__main__",
    "reports.commands",
    "predict.__main__",
    "predict.command_line",
    "predict.completion",
    "predict.lazily",
    "predict.extras",
    "predict.commands",
    "predict.tables",
}
# A package itself may name what its rooms offer, as long as it loads them only when asked.
DOORS = {"predict"}
# These must load without torch: reports are read where there is none.
TORCH_FREE = {"bench.passes", "bench.record", "bench.stats", "bench.store"}


def imports(source):
    """Full names of what a module imports; `from a.b import c` gives a.b.c. A relative import keeps its dots, which no
    rule allows: every module names what it imports in full."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from (f"{module}.{alias.name}" for alias in node.names)


def is_in(name, place):
    """Is it that package or module, or something in it?"""
    return name == place or name.startswith(place + ".")


def room_of(name):
    """The room that a module or a name in it belongs to; None on the ground floor, on top and elsewhere."""
    return next((room for room in ROOMS if is_in(name, room)), None)


def is_behind_a_wall(module, name):
    """May this module not import that name, though both are of one package?"""
    if module in DOORS or any(is_in(module, top) for top in TOP):
        return False
    room, other = room_of(module), room_of(name)
    to_the_top = any(is_in(name, top) for top in TOP)
    return to_the_top or (other is not None and other != room and other not in ROOMS.get(room, set()))


def violations(module, source):
    package = module.partition(".")[0]
    allowed = PACKAGES[package] | {"numpy", package}
    for place, added in MODULES.items():
        allowed |= added if is_in(module, place) else set()
    if module in TORCH_FREE:
        allowed = allowed - GPU_STACK - {"kernels", "psutil", "bench"} | TORCH_FREE
    return [
        name
        for name in imports(source)
        if (name.partition(".")[0] not in sys.stdlib_module_names and not any(is_in(name, each) for each in allowed))
        or (is_in(name, package) and is_behind_a_wall(module, name))
    ]


def modules():
    for package in OURS:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"), path


@pytest.mark.parametrize(("module", "path"), [pytest.param(*each, id=each[0]) for each in modules()])
def test_no_module_imports_what_its_layer_may_not(module, path):
    assert violations(module, path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("predict.units", "import torch"),
        ("predict.units", "def lazy():\n    from pandas import DataFrame"),
        ("predict.roofline", "import typer"),
        ("predict.gpus", "from bench import record"),
        ("predict.units", "from predict.formulas import memory"),
        ("predict.formulas.memory", "from predict.model.passes import Pass"),
        ("predict.model.replica", "from predict import expected"),
        ("predict.expected.kernel", "from predict.answers.lines import Line"),
        ("predict.answers.page", "from predict.tables import gpu_table"),
        ("predict.units", "from predict import tables"),
        ("predict.commands.model", "from reports.front import Front"),
        ("predict.commands.targets", "from reports.figures import to_png"),
        ("predict.units", "from .formulas import memory"),
        ("predict.formulas.memory", "from .. import model"),
        ("bench.runner", "from bench.__main__ import app"),
        ("bench.runner", "from napkin_bench.packages import require_ours"),
        ("napkin_bench.packages", "from predict.version import version"),
        ("napkin_bench.commands", "from bench.commands import run"),
        ("kernels.triton.matmul", "from predict.units import DType"),
        ("kernels.triton.matmul", "import bench.env"),
        ("kernels.reference", "import triton"),
        ("kernels.pytorch.eager", "import triton.language as tl"),
        ("kernels.pytorch.block", "from kernels.triton import block"),
        ("kernels.peers.liger", "import quack"),
        ("kernels.triton.matmul", "from kernels.catalog import list_implementations"),
        ("bench.lab", "import pynvml"),
        ("bench.lab", "from reports import load"),
        ("bench.record", "import torch"),
        ("bench.record", "from bench.env import environment"),
        ("reports.run.load", "from bench.runner import Runner"),
        ("reports.run.load", "from bench import runner"),
        ("reports.figures", "from reports.run.load import Run"),
        ("reports.calibration.fit", "from reports.run import load"),
        ("reports.run.tables", "from reports.accuracy.validate import Group"),
        ("reports.scorecard.card", "from reports.report.page import write_report"),
        ("reports.report.page", "from reports.sweep import grid"),
        ("reports.run.plots", "import altair"),
        ("reports.run.plots", "import uvicorn"),
        ("reports.report.page", "from starlette.responses import Response"),
        ("reports.report.page", "from reports.explore import server"),
        ("reports.explore.server", "from reports.sweep import grid"),
        ("reports.explore.server", "import typer"),
        ("reports.accuracy.compare", "from reports.sweep import grid"),
        ("reports.scorecard.card", "from reports.comparison.sides import Side"),
        ("reports.served.page", "from reports.run.load import Run"),
        ("reports.served.page", "import typer"),
        ("reports.run.plots", "import torch.cuda"),
        ("reports.run.tables", "from rich.table import Table"),
    ],
)
def test_the_check_above_can_fail(module, source):
    assert violations(module, source) != []


@pytest.mark.parametrize("package", OURS)
def test_a_command_line_explains_itself_without_what_its_work_needs(package):
    heavy = GPU_STACK | READING | PAGE | SERVING | {"scipy", "psutil", "pynvml"}
    code = f"import {package}.__main__, sys; print(*{heavy} & sys.modules.keys())"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout == "\n"


@pytest.mark.parametrize("module", ["predict", "bench", "reports", "reports.__main__", *sorted(TORCH_FREE)])
def test_loading_it_loads_no_torch(module):
    code = f"import predict, reports, {module}, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
