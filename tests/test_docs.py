"""README and its companions say what is true: commands, what they print, tree, tables. test_links.py has the links."""

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
from reports.run.load import load_records
from reports.scorecard import card
from reports.scorecard.beside import BEGIN, END, render
from tests.fakes import FakeTimer, cpu_environment

ROOT = Path(__file__).resolve().parent.parent
README, ARCHITECTURE, PREDICT, MEASURE, REPORTS, SCORECARD, ACCURACY = (
    (ROOT / name).read_text(encoding="utf-8")
    for name in (
        *("README.md", "ARCHITECTURE.md", "docs/predict.md", "docs/measure.md", "docs/reports.md"),
        *("docs/scorecard.md", "docs/accuracy.md"),
    )
)
LONGEST_README = 120  # lines
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


def test_the_napkin_in_the_documents_is_what_the_command_prints():
    (command,) = [command for command in commands("make") if "--explain" in command and "h100" in command]
    arguments = shlex.split(command)[2].removeprefix("ARGS=")
    result = subprocess.run(
        [sys.executable, "-m", "predict", *arguments.split()], cwd=ROOT, capture_output=True, text=True, check=True
    )
    block = next(block for block in blocks(PREDICT, "") if "napkin" in block)
    assert result.stdout.startswith(block)


@pytest.mark.parametrize("document", [README, PREDICT], ids=["README", "predict"])
def test_the_page_of_a_model_is_what_the_command_prints(document):
    (command,) = [command for command in commands("python") if command.endswith("--gpus 2 --batch 4 --seq 8192")]
    result = subprocess.run(
        [sys.executable, *shlex.split(command)[1:]], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert command in "\n".join(blocks(document, "sh"))
    (block,) = (block for block in blocks(document, "") if block.startswith("llama-3-70b on"))
    printed = iter([line.rstrip() for line in result.stdout.splitlines()])
    assert [line for line in block.splitlines() if line not in printed] == []  # in the order of the page


def test_the_python_in_the_documents_gives_what_it_says():
    (block,) = (block for block in blocks(PREDICT, "python") if block.startswith("from predict"))
    imported, asked, *read = [line for line in block.splitlines() if line]
    names = {}
    exec(f"{imported}\n{asked}", names)
    for expression, _, comment in (line.partition("  #") for line in read):
        found = eval(expression, names)
        assert found
        if said := re.match(r" (0\.\d+|\".+?\")", comment):
            assert found == (said[1].strip('"') if isinstance(found, str) else pytest.approx(float(said[1]), rel=1e-3))


def test_the_functions_that_the_documents_measure_are_right(monkeypatch, tmp_path):
    """On a made-up CPU where every call takes 1 ms."""
    (block,) = (block for block in blocks(MEASURE, "python") if block.startswith("from bench"))
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
    tree = next(block for block in blocks(ARCHITECTURE, "") if "\nkernels/ " in block)
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


def section(text, title):
    """What stands under a heading of the second level."""
    (found,) = re.findall(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    return found


def test_the_tables_of_the_example_are_those_of_the_committed_runs():
    example = section(REPORTS, "An example")
    links = re.findall(r"\]\(([^)]+report\.md)\)", example)
    lines = "\n".join((ROOT / "docs" / link).read_text(encoding="utf-8") for link in links).splitlines()
    rows = [line for line in example.splitlines() if line.startswith("|")]
    assert len(rows) > 10
    assert [row for row in rows if row not in lines] == []


def test_the_readme_is_short_and_names_every_document():
    assert len(README.splitlines()) <= LONGEST_README
    pages = [path.relative_to(ROOT).as_posix() for path in DOCUMENTS if path.name != "README.md"]
    assert len(pages) > 10
    assert [page for page in pages if f"]({page})" not in README] == []


def test_what_the_readme_says_about_the_h100_stands_in_the_scorecard():
    said = re.findall(r"\d[\d,.]*\d(?: %|x)?", section(README, "What it says about H100").partition("\n- ")[2])
    known = " ".join(re.findall(r"^- \*\*h100-sxm\*\*: (.*)$", SCORECARD, re.MULTILINE))
    assert len(said) > 10
    assert [number for number in said if not re.search(rf"(?<![\d.]){re.escape(number)}(?![\d])", known)] == []


def test_the_scorecard_in_the_readme_is_that_of_the_gpus_and_of_the_committed_run():
    """`--write-docs` makes it again; the columns of the GPUs are also held to docs/scorecard.md cell by cell."""
    shown = README.partition(BEGIN)[2].partition(END)[0].strip("\n")
    (run,) = re.findall(r"`python -m reports scorecard (\S+) --write-docs README.md`", README)
    assert shown == render(SCORECARD, card.judge_all(card.of_run(load_records(ROOT / run))))
    (titles, *rows), (all_titles, *all_rows) = (
        [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| ")]
        for text in (shown, SCORECARD)
    )
    assert titles[2:7] == ["A100", "H100", "H200", "B200", "L40S"]
    in_scorecard = {row[0]: dict(zip(all_titles, row, strict=True)) for row in all_rows}
    for number, _, *cells in rows:
        for gpu, cell in zip(("a100-sxm-80gb", "h100-sxm", "h200-sxm", "b200", "l40s"), cells[:5], strict=True):
            judged = in_scorecard.get(number, {}).get(gpu, "not measured")
            assert cell == ("" if judged == "not measured" else judged)


def test_the_errors_in_the_readme_are_those_of_the_accuracy_page():
    told = section(README, "How far off expected time is")
    rows = [line for line in told.splitlines() if line.startswith("|")]
    assert len(rows) > 5
    assert [row for row in rows if row not in ACCURACY.splitlines()] == []
    timed, known = re.search(r"Of (\d+) public times and rates of whole models (\d+) have", told).groups()
    assert f"{known} of {timed} timed ones have an expected time, and none beats its bound" in ACCURACY
    kinds = ("tpot", "ttft", "inflight_tps", "train_tps")
    medians = [re.search(rf"^\| {kind} \| all \| \d+ \| \d+ \| (\S+) %", ACCURACY, re.MULTILINE)[1] for kind in kinds]
    assert re.findall(r"([\d.]+) % for ", told) == medians


def test_the_import_table_is_the_one_that_is_enforced():
    assert "tests/test_layers.py" in ARCHITECTURE
    dependencies = set(re.findall(r'^    "([a-z-]+)[>=;]', (ROOT / "pyproject.toml").read_text(), re.MULTILINE))
    assert dependencies
    assert [name for name in dependencies if name not in ARCHITECTURE] == []
