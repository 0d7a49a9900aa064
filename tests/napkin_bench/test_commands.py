"""`napkin-bench`: which commands it has, what it loads for them, and how it names them."""

import importlib
import json
import re
import sys
import tomllib

import pytest
import typer
from typer.testing import CliRunner

from napkin_bench.commands import FLAT, make_app
from predict import version
from predict.command_line import as_typed, typed_here
from tests.installed import EXTRAS, ROOT, console_script, execute, refuse

APP = make_app(completes=True)
RUNNER = CliRunner()


def shown(*arguments):
    result = RUNNER.invoke(APP, arguments, prog_name="napkin-bench", env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("package", FLAT)
def test_every_command_of_bench_and_reports_is_a_command(package):
    own = typer.main.get_command(importlib.import_module(f"{package}.__main__").app).commands
    page = shown("--help")
    for name in own:
        assert re.search(rf"^│ {'report' if name == 'render' else name} ", page, re.MULTILINE), name


def test_predict_and_kernels_have_commands_of_their_own():
    assert "40.2 us" in shown(*"predict kernel matmul m=16 n=8192 k=8192 --gpu h100".split())
    assert json.loads(shown(*"predict formula speculation.speedup alpha=0 k=1 c=0 --json".split()))["value"] == 1
    assert "--arch" in shown("kernels", "compile", "--help")


def test_help_names_commands_as_they_are_typed():
    assert "napkin-bench run --gpu h100 --suite standard" in shown("run", "--help")
    assert "napkin-bench report runs/h100" in shown("report", "--help")
    assert "`napkin-bench predict models`" in shown("sweep", "--help")
    assert "napkin-bench predict model llama-3-70b" in shown("predict", "model", "--help")
    names = re.findall(r"^│ (\w+) ", shown("--help"), re.MULTILINE)
    assert len(names) > 12
    assert [name for name in names if "python -m" in shown(name, "--help")] == []


@pytest.mark.parametrize(
    ("program", "text"),
    [
        ("napkin-bench", "`napkin-bench report RUN`, `napkin-bench show`, `napkin-bench predict gpus`"),
        ("python -m reports", "`python -m reports render RUN`, `python -m reports show`, `python -m predict gpus`"),
    ],
)
def test_texts_name_commands_for_the_program_that_was_typed(program, text):
    ours = "`python -m reports render RUN`, `python -m reports show`, `python -m predict gpus`"
    assert as_typed(ours, program) == text


@pytest.mark.parametrize(
    ("program", "text"),
    [
        ("/home/me/.local/bin/napkin-bench", "napkin-bench predict gpus"),
        ("bench/__main__.py", "python -m predict gpus"),
    ],
)
def test_what_is_printed_in_passing_names_commands_for_the_running_program(monkeypatch, program, text):
    monkeypatch.setattr(sys, "argv", [program])
    assert typed_here("python -m predict gpus") == text


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("report", "error: Missing argument 'RUN' (see napkin-bench report --help)\n"),
        ("shwo", "error: No such command 'shwo': did you mean show? (see napkin-bench --help)\n"),
        ("preduct", "error: No such command 'preduct': did you mean predict? (see napkin-bench --help)\n"),
        ("lst", "error: No such command 'lst': did you mean list? (see napkin-bench --help)\n"),
        ("compile", "error: No such command 'compile': did you mean kernels compile? (see napkin-bench --help)\n"),
        ("gpus", "error: No such command 'gpus': did you mean predict gpus? (see napkin-bench --help)\n"),
        ("render", "error: No such command 'render': did you mean report? (see napkin-bench --help)\n"),
        ("boil", "error: No such command 'boil' (see napkin-bench --help)\n"),
        ("predict formula nonsense", "error: unknown formula 'nonsense'; `napkin-bench predict formulas` lists them\n"),
        ("show nowhere", "error: nowhere: no such file; give the folder of a run that `napkin-bench run` wrote\n"),
    ],
)
def test_bad_input_is_one_line_that_names_what_was_typed(tmp_path, typed, said):
    result = execute(console_script(tmp_path), *typed.split(), cwd=tmp_path)
    assert (result.returncode, result.stderr, result.stdout) == (2, said, "")


def test_predicting_loads_nothing_else(tmp_path):
    """Not even the command lines of the other packages."""
    code = (
        "import sys; sys.argv = ['napkin-bench', *'predict model llama-3-8b --gpu h100'.split()]\n"
        "from napkin_bench.__main__ import main\n"
        "try: main()\n"
        "except SystemExit as stop: assert stop.code == 0\n"
        f"assert not { ({*EXTRAS, 'bench', 'kernels', 'reports'}) } & sys.modules.keys()\n"
    )
    result = execute(sys.executable, "-c", code, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("llama-3-8b on 1 x h100-sxm")


def test_help_needs_no_extra(tmp_path):
    result = execute(
        console_script(tmp_path), "run", "--help", path=(ROOT, refuse(tmp_path / "site", *EXTRAS)), cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr
    assert "--suite" in result.stdout


PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_a_checkout_says_its_own_version():
    assert shown("--version") == f"napkin-bench {PYPROJECT['version']} (checkout in {ROOT})\n"


def test_an_installation_says_the_version_of_its_metadata(monkeypatch, tmp_path):
    monkeypatch.setattr(version, "ROOT", tmp_path)
    monkeypatch.setattr(version.importlib.metadata, "version", {"napkin-bench": "9.8.7"}.__getitem__)
    assert shown("--version") == "napkin-bench 9.8.7\n"


def test_files_without_metadata_have_no_version(monkeypatch, tmp_path):
    def missing(name):
        raise version.importlib.metadata.PackageNotFoundError(name)

    (tmp_path / "pyproject.toml").write_text('[project]\nname = "another"\nversion = "1"\n')
    monkeypatch.setattr(version, "ROOT", tmp_path)
    monkeypatch.setattr(version.importlib.metadata, "version", missing)
    assert shown("--version") == "napkin-bench unknown\n"
