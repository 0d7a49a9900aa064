"""CONTRIBUTING.md holds: in a copy of the tree, with a section's blocks where the page puts them, its commands succeed.

The line before a block of Python says where it goes:

    In `FILE`, before `LINE`:    (or `after`; LINE stands in FILE once, whatever its indentation)
    At the end of `FILE`:
    In a new file `FILE`:

Every line of an `sh` block is run, in order. All other text of the page is for people.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
NOT_COPIED = (".*", "runs", "tables", "build", "__pycache__", "*.egg-info")

BLOCK = re.compile(
    r"(?:^ *(?:[0-9]+[.] )?(?:In|In a new file|At the end of) `(?P<file>[^`]+)`"
    r"(?:, (?P<side>before|after) `(?P<line>[^`]+)`)?:\n\n)?"
    r"^(?P<indent> *)```(?P<language>python|sh)\n(?P<body>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)


class Block(NamedTuple):
    """A fenced block of the page."""

    language: str
    body: str
    file: str | None  # where the page says that it goes; None for one that is only shown
    side: str | None
    line: str | None


def section(page: str, title: str) -> str:
    """The text under a heading of the second level."""
    (text,) = re.findall(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    return text


def blocks(text: str) -> list[Block]:
    """The blocks of Python and shell, in order, without the indentation of the list that they stand in."""
    return [
        Block(found["language"], _without_indent(found), found["file"], found["side"], found["line"])
        for found in BLOCK.finditer(text)
    ]


def _without_indent(found: re.Match[str]) -> str:
    return re.sub(f"^{found['indent']}", "", found["body"], flags=re.MULTILINE)


def apply(block: Block, tree: Path) -> None:
    """Put a block where the page says, as it stands there; a named line must stand in the file once."""
    assert block.file, f"the page does not say where this goes:\n{block.body}"
    file = tree / block.file
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True) if file.exists() else []
    place = len(lines)
    if block.line is not None:
        found = [number for number, line in enumerate(lines) if line.strip() == block.line.strip()]
        assert len(found) == 1, f"{block.line!r} stands {len(found)} times in {block.file}"
        place = found[0] + (block.side == "after")
    file.write_text("".join([*lines[:place], block.body, *lines[place:]]), encoding="utf-8")


def run(command: str, tree: Path) -> str:
    """What a command of the page prints, run in `tree` by this interpreter; it must succeed."""
    words = shlex.split(command, comments=True)
    words = [sys.executable, *words[1:]] if words[0] == "python" else [*words, f"PYTHON={sys.executable}"]
    done = subprocess.run(
        words, cwd=tree, env={**os.environ, "PYTHONPATH": str(tree)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout


def copy_to(tree: Path) -> None:
    """What a user has after cloning."""
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(*NOT_COPIED))


def follow(title: str, tree: Path) -> dict[str, str]:
    """Do in a copy, `tree`, what a section of the page says; returns what each of its commands prints."""
    found = blocks(section(PAGE, title))
    for block in found:
        if block.language == "python":
            apply(block, tree)
    commands = [line for block in found if block.language == "sh" for line in block.body.splitlines() if line.strip()]
    return {command: run(command, tree) for command in commands}


def test_a_gpu_is_added_as_the_page_says(tmp_path):
    copy_to(tmp_path / "tree")
    printed = follow("How to add a GPU", tmp_path / "tree")
    asked = {command: text for command, text in printed.items() if "test" not in command}
    assert len(asked) >= 2
    assert all(re.search(r"\ba30\b", text) for text in asked.values())
    (tested,) = (text for command, text in printed.items() if "test" in command)
    assert re.search(r"\d+ passed", tested)


def test_a_kernel_is_added_as_the_page_says(tmp_path):
    copy_to(tmp_path / "tree")
    printed = follow("How to add a kernel", tmp_path / "tree")
    listed, tested = printed.values()
    assert "triton_wide" in listed
    assert re.search(r"\b1 passed", tested)


# Roof probes and input sets are as large as the cache asks for: a small one is filled in seconds.
SMALL_CACHE = """

def _cpu_last_level_cache_bytes() -> int | None:
    return 2**20
"""


def test_an_op_is_added_as_the_page_says(tmp_path):
    """Its tests are those that follow from its rows: each of four formats, a run of it, its amounts and its inputs."""
    tree = tmp_path / "tree"
    copy_to(tree)
    with (tree / "bench/env.py").open("a", encoding="utf-8") as file:
        file.write(SMALL_CACHE)
    predicted, tested, _ = follow("How to add an op", tree).values()
    assert "relu_squared" in predicted
    (passed,) = re.findall(r"(\d+) passed", tested)
    assert int(passed) >= 7
    records = [json.loads(line) for line in (tree / "runs/relu_squared/records.jsonl").read_text("utf-8").splitlines()]
    (record,) = [record for record in records if record["workload"]["op"] == "relu_squared"]
    assert (record["implementation"], record["status"]) == ("torch", "measured")
    assert 0 < record["check"]["relative_error"] <= record["check"]["relative_bound"]
    assert "### relu_squared" in (tree / "runs/relu_squared/report.md").read_text("utf-8")
    for command in ("ruff check .", "ruff format --check ."):
        run(f"python -m {command}", tree)


PAGE_OF_A_TOY = """
## How to add a toy

1. In `toys.py`, after `TOYS = [`:

   ```python
       "ball",
   ```

At the end of `toys.py`:

```python
assert "ball" in TOYS
```

In a new file `more.py`:

```python
import toys
```

```sh
python more.py
```

## Something else

```python
assert False
```
"""


def test_blocks_go_where_the_page_says(tmp_path):
    (tmp_path / "toys.py").write_text('TOYS = [\n    "top",\n]\n')
    *python, shell = blocks(section(PAGE_OF_A_TOY, "How to add a toy"))
    for block in python:
        apply(block, tmp_path)
    assert (tmp_path / "toys.py").read_text() == 'TOYS = [\n    "ball",\n    "top",\n]\nassert "ball" in TOYS\n'
    assert (tmp_path / "more.py").read_text() == "import toys\n"
    assert run(shell.body.strip(), tmp_path) == ""


@pytest.mark.parametrize("lie", ["after `TOY = [`", "after `top`"])
def test_a_line_that_is_not_there_is_noticed(tmp_path, lie):
    (tmp_path / "toys.py").write_text('TOYS = [\n    "top",\n]\n')
    block, *_ = blocks(section(PAGE_OF_A_TOY.replace("after `TOYS = [`", lie), "How to add a toy"))
    with pytest.raises(AssertionError, match=r"stands 0 times in toys\.py"):
        apply(block, tmp_path)


def test_a_block_without_a_place_and_a_command_that_fails_are_noticed(tmp_path):
    (block,) = blocks(section(PAGE_OF_A_TOY, "Something else"))
    with pytest.raises(AssertionError, match="does not say where"):
        apply(block, tmp_path)
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        run("python -c '1 / 0'", tmp_path)
