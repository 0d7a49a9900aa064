"""Who may import whom (the table in ARCHITECTURE.md), read off the syntax trees; imports inside functions count."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OURS = ("predict", "kernels", "bench", "reports")

GPU_STACK = {"torch", "triton"}
READING = {"pandas", "matplotlib", "jinja2"}
COMMAND_LINE = {"typer", "rich"}

# What each package may import besides the standard library, NumPy and itself; then what single modules may add.
PACKAGES = {
    "predict": set(),
    "kernels": GPU_STACK,
    "bench": {"predict", "kernels", "scipy", "psutil"} | GPU_STACK,
    "reports": {"predict", "bench.record", "bench.stats", "bench.store", "scipy"} | READING,
}
MODULES = {
    "predict.__main__": COMMAND_LINE,
    "predict.command_line": {"typer"},
    "predict.page": {"typer"},
    "predict.tables": {"rich"},
    "kernels.__main__": COMMAND_LINE,
    "kernels.peers": {"liger_kernel", "quack"},
    "kernels.attention_peers": {"flash_attn", "flash_attn_interface"},
    "kernels.flashinfer_peers": {"flashinfer"},
    "bench.__main__": COMMAND_LINE | {"reports"},
    "bench.progress": {"rich"},
    "bench.nvml": {"pynvml"},
    "reports.__main__": COMMAND_LINE,
    "reports.tables": {"rich"},
}
# These must load without torch: reports are read where there is none.
TORCH_FREE = {"bench.record", "bench.stats", "bench.store"}


def imports(source, package):
    """Full names of what a module imports; `from a.b import c` gives a.b.c."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = package if node.level else node.module or ""
            yield from (f"{module}.{alias.name}" for alias in node.names)


def violations(module, source):
    package = module.partition(".")[0]
    allowed = PACKAGES[package] | MODULES.get(module, set()) | {"numpy", package}
    if module in TORCH_FREE:
        allowed = allowed - GPU_STACK - {"kernels", "psutil", "bench"} | TORCH_FREE
    return [
        name
        for name in imports(source, package)
        if name.partition(".")[0] not in sys.stdlib_module_names
        and not any(name == prefix or name.startswith(prefix + ".") for prefix in allowed)
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
        ("kernels.matmul", "from predict.units import DType"),
        ("kernels.matmul", "import bench.env"),
        ("bench.lab", "import pynvml"),
        ("bench.lab", "from reports import load"),
        ("bench.record", "import torch"),
        ("bench.record", "from bench.env import environment"),
        ("reports.load", "from bench.runner import Runner"),
        ("reports.load", "from bench import runner"),
        ("reports.plots", "import torch.cuda"),
        ("reports.plots", "from rich.table import Table"),
    ],
)
def test_the_check_above_can_fail(module, source):
    assert violations(module, source) != []


@pytest.mark.parametrize("module", ["predict", "reports", "reports.__main__", *sorted(TORCH_FREE)])
def test_loading_it_loads_no_torch(module):
    code = f"import predict, reports, {module}, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
