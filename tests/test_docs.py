"""README and its companions say what is true: commands, tree, table, links."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import typer

from bench import function
from bench.__main__ import app as bench_app
from bench.lab import Lab
from kernels.__main__ import app as kernels_app
from napkin_bench.commands import make_app
from predict.__main__ import app as predict_app
from predict.resources import Ceiling, Resource
from predict.workloads import OPS
from reports.__main__ import app as reports_app
from tests.fakes import FakeTimer, cpu_environment

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = [ROOT / "README.md", *ROOT.glob("[A-Z]*.md"), *(ROOT / "docs").glob("*.md")]
APPS = {"predict": predict_app, "kernels": kernels_app, "bench": bench_app, "reports": reports_app}


def blocks(text, language):
    """The fenced blocks of a document in a language; "" for plain ones."""
    return [
        body for name, body in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE) if name == language
    ]


def commands(start):
    """Every command in the documents that begins with `start`, without comments."""
    found = set()
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        spans = blocks(text, "sh")
        spans += [span for span in re.findall(r"`([^`\n]+)`", text) if " " in span]
        for line in "\n".join(spans).splitlines():
            if line.startswith(start + " ") and "..." not in line and "<" not in line:
                found.add(line.partition("  #")[0].strip())
    return sorted(found)


@pytest.mark.parametrize("command", commands("make"))
def test_every_make_command_exists(command):
    arguments = shlex.split(command)[1:]
    result = subprocess.run(["make", "--dry-run", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("command", commands("python"))
def test_every_python_command_takes_its_arguments(command):
    _, dash_m, package, *arguments = shlex.split(command)
    assert dash_m == "-m"
    if not arguments:
        return
    name, *rest = arguments
    takes(typer.main.get_command(APPS[package]), package, name, rest)


@pytest.mark.parametrize("command", commands("napkin-bench"))
def test_every_command_of_the_console_script_takes_its_arguments(command):
    program, name, *rest = shlex.split(command)
    if not name.startswith("-"):
        takes(typer.main.get_command(make_app(completes=True)), program, name, rest)


def takes(group, program, name, arguments):
    """Fail for a command that the group does not have, or does not take its arguments."""
    parent = group.make_context(program, [name], resilient_parsing=True)
    command = group.get_command(parent, name)
    assert command is not None
    if getattr(command, "commands", None) and arguments:
        takes(command, name, *arguments[:1], arguments[1:])
    elif arguments:  # else a command named in a sentence
        command.make_context(name, arguments, parent=parent)  # raises for an argument that it does not take


def test_the_napkin_in_the_readme_is_what_the_command_prints():
    (command,) = [command for command in commands("make") if "--explain" in command and "h100" in command]
    arguments = shlex.split(command)[2].removeprefix("ARGS=")
    result = subprocess.run(
        [sys.executable, "-m", "predict", *arguments.split()], cwd=ROOT, capture_output=True, text=True, check=True
    )
    block = next(block for block in blocks(README, "") if "napkin" in block)
    assert result.stdout.startswith(block)


def test_the_page_in_the_readme_is_what_the_command_prints():
    (command,) = [command for command in commands("python") if command.endswith("--gpus 2 --batch 4 --seq 8192")]
    result = subprocess.run(
        [sys.executable, *shlex.split(command)[1:]], cwd=ROOT, capture_output=True, text=True, check=True
    )
    block = next(block for block in blocks(README, "") if block.startswith("llama-3-70b on"))
    printed = [line.rstrip() for line in result.stdout.splitlines()]
    assert [line for line in block.splitlines() if line not in printed] == []


def test_the_python_in_the_readme_gives_what_it_says():
    (block,) = (block for block in blocks(README, "python") if block.startswith("from predict"))
    imported, asked, *read = [line for line in block.splitlines() if line]
    names = {}
    exec(f"{imported}\n{asked}", names)
    for expression, _, comment in (line.partition("  #") for line in read):
        found = eval(expression, names)
        assert found
        if said := re.match(r" (0\.\d+|\".+?\")", comment):
            assert found == (said[1].strip('"') if isinstance(found, str) else pytest.approx(float(said[1]), rel=1e-3))


def test_the_functions_that_the_readme_measures_are_right(monkeypatch, tmp_path):
    """On a made-up CPU where every call takes 1 ms."""
    (block,) = (block for block in blocks(README, "python") if block.startswith("from bench"))
    monkeypatch.setattr(function, "make_lab", lambda s: Lab(cpu_environment(), FakeTimer(1e-3), s.budget, monitor=None))
    monkeypatch.setattr(function, "probe_roofs", lambda amounts, here: {Resource.DRAM: Ceiling(1e12, "made up")})
    names = {
        "torch": torch,
        "my_norm": lambda x, weight: torch.nn.functional.rms_norm(x, weight.shape, weight, eps=1e-6),
        "plain_norm": lambda x, weight: x * (x.square().mean(1, keepdim=True) + 1e-6).rsqrt() * weight,
        "my_gemm": torch.mm,
    }
    exec(block.replace(', device="cuda"', "").replace("runs/mine", str(tmp_path)), names)
    assert names["result"].check.passed
    assert float(names["result"].prediction.napkin_s) == pytest.approx(134.2e6 / 1e12)
    assert (tmp_path / "records.jsonl").exists()


def test_the_tree_lists_every_module_and_nothing_else():
    tree = next(block for block in blocks(README, "") if "\nkernels/ " in block)
    listed, folders = set(), []
    for line in tree.splitlines():
        name = line.split()[0]
        folders = folders[: (len(line) - len(line.lstrip())) // 2]
        listed.add("".join([*folders, name]))
        folders += [name] if name.endswith("/") else []
    assert [path for path in listed if not (ROOT / path).exists()] == []
    modules = {
        path.relative_to(ROOT).as_posix()
        for package in (*APPS, "napkin_bench")
        for path in (ROOT / package).rglob("*.py")
    }
    of_an_op = {f"kernels/pytorch/{op}.py" for op in OPS}  # whose name says what it holds
    assert {module for module in modules - listed - of_an_op if not module.endswith("__.py")} == set()


def test_the_tables_in_the_readme_are_those_of_the_committed_runs():
    links = re.findall(r"\]\(([^)]+report\.md)\)", README)
    lines = "\n".join((ROOT / link).read_text(encoding="utf-8") for link in links).splitlines()
    section = README.partition("## What a run says")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    assert len(rows) > 10
    assert [row for row in rows if row not in lines] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(document):
    for target in re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (document.parent / target).exists(), target


def test_the_import_table_is_the_one_that_is_enforced():
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    assert "tests/test_layers.py" in text
    dependencies = set(re.findall(r'^    "([a-z-]+)[>=;]', (ROOT / "pyproject.toml").read_text(), re.MULTILINE))
    assert dependencies
    assert [name for name in dependencies if name not in text] == []
