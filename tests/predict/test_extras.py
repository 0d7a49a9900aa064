"""A command whose extra is not installed says which; any other import that fails is a bug with a traceback."""

import sys
import tomllib

import pytest

from predict.command_line import run_command_line
from predict.extras import EXTRAS, say_what_is_missing
from tests.installed import EXTRAS as OF_EXTRAS
from tests.installed import PLAIN, ROOT, console_script, execute, refuse

BENCH = "needs torch, which is not installed: pip install 'napkin-bench[bench]'\n"
REPORTS = "needs pandas, which is not installed: pip install 'napkin-bench[reports]'\n"
SEARCH = "predict model llama-3-8b --gpu h100 --isl 1k --osl 100 --out fronts"


@pytest.fixture
def plain(tmp_path):
    """PYTHONPATH of a plain installation."""
    return ROOT, refuse(tmp_path / "site", *OF_EXTRAS)


@pytest.mark.parametrize(
    ("typed", "command", "needs"),
    [
        ("run --gpu cpu", "run", BENCH),
        ("list", "list", BENCH),
        ("doctor --json", "doctor", BENCH),
        ("tune --op matmul", "tune", BENCH),
        ("kernels list", "kernels list", BENCH),
        ("show runs/h100", "show", REPORTS),
        ("report runs/h100", "report", REPORTS),
        ("sweep --model llama-3-8b --gpu h100 --out sweep", "sweep", REPORTS),
        ("explore", "explore", "needs uvicorn, which is not installed: pip install 'napkin-bench[reports]'\n"),
        (SEARCH, "predict model", "needs matplotlib, which is not installed: pip install 'napkin-bench[reports]'\n"),
    ],
)
def test_a_command_without_its_extra_says_which(tmp_path, plain, typed, command, needs):
    result = execute(console_script(tmp_path), *typed.split(), path=plain, cwd=tmp_path)
    assert (result.returncode, result.stderr, result.stdout) == (2, f"error: napkin-bench {command} {needs}", "")
    assert not (tmp_path / "fronts").exists()


@pytest.mark.parametrize(
    ("package", "typed", "needs"),
    [("bench", "run", BENCH), ("kernels", "list", BENCH), ("reports", "show runs", REPORTS)],
)
def test_so_do_the_packages_themselves(tmp_path, plain, package, typed, needs):
    result = execute(sys.executable, "-m", package, *typed.split(), path=plain, cwd=tmp_path)
    command = typed.split()[0]
    assert (result.returncode, result.stderr) == (2, f"error: python -m {package} {command} {needs}")


def test_with_the_reports_installed_measuring_still_needs_its_own(tmp_path):
    path = (ROOT, refuse(tmp_path / "site", "torch", "triton", "pynvml", "psutil"))
    result = execute(console_script(tmp_path), "run", path=path, cwd=tmp_path)
    assert result.stderr == f"error: napkin-bench run {BENCH}"


@pytest.mark.parametrize("name", ["kiwisolver", "torch._C", "predict.nothing", "rich", None])
def test_what_no_extra_brings_is_no_matter_of_extras(name):
    assert say_what_is_missing(ModuleNotFoundError("No module", name=name)) is None


def test_a_broken_package_keeps_its_traceback(monkeypatch):
    from predict.__main__ import app  # noqa: PLC0415

    def fail():
        raise ImportError("libcudart.so.13: cannot open shared object file", name="torch")

    monkeypatch.setattr(sys, "argv", ["napkin-bench", "gpus"])
    monkeypatch.setattr("predict.commands.listings.json.dumps", lambda *_, **__: fail())
    monkeypatch.setattr(sys, "argv", ["napkin-bench", "gpus", "--json"])
    with pytest.raises(ImportError, match="libcudart"):
        run_command_line(app, "napkin-bench")


def test_the_table_is_what_the_distribution_declares():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {name: {each.split(">")[0] for each in project["optional-dependencies"][name]} for name in EXTRAS}
    assert declared["reports"] == {*EXTRAS["reports"].values()}
    assert declared["bench"] == {*EXTRAS["bench"].values(), "triton", "napkin-bench[reports]"}
    assert set(OF_EXTRAS) == {module for extra in EXTRAS.values() for module in extra} | {"triton"}
    assert {each.split(">")[0] for each in project["dependencies"]} <= set(PLAIN)
