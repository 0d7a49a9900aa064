"""The table of compiled kernels inside a Markdown document, between two marks.

A row is a kernel on an architecture: what its main configuration compiles to, the range over all configurations and
formats, and a digest of all of them, so that a change in any is a change of the document. The table names the Triton
that compiled it, because another one allots other registers.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path

from kernels.triton.compile import Compiled, CompileError

BEGIN, END = "<!-- compiled tables: begin -->", "<!-- compiled tables: end -->"
_HEADINGS = ("kernel", "arch", "main configuration", "registers", "shared bytes", "occupancy", "instructions")
_HEADINGS_OF_ALL = ("compiled", "registers", "digest")
_MAIN_DTYPE = "bf16"  # shown where a kernel has it
_DIGITS = 8  # of a digest


def write_tables(path: Path, rows: Sequence[Compiled], *, triton: str) -> None:
    """Replace what stands between the marks by the table of these rows. Raises CompileError where a mark is missing,
    OSError as files do."""
    before, _, after = _parts(path)
    path.write_text(f"{before}{BEGIN}\n{render(rows, triton=triton)}{END}{after}", encoding="utf-8")


def differing_rows(path: Path, rows: Sequence[Compiled], *, triton: str) -> list[str]:
    """The lines that only the document has or only the table of these rows has, each cut to kernel and architecture
    where it has them; none where they agree. Raises as `write_tables` does."""
    theirs, ours = _parts(path)[1].split("\n"), render(rows, triton=triton).split("\n")
    lines = [line for line in (*theirs, *ours) if (line in theirs) != (line in ours)]
    return list(dict.fromkeys(" ".join(line.strip("| ").split(" | ")[:2]) for line in lines))


def tables_version(path: Path) -> str | None:
    """The version of Triton that the document names; None where it names none. Raises as `write_tables` does."""
    found = re.search(r"^Compiled by Triton (\S+)\.$", _parts(path)[1], re.MULTILINE)
    return found[1] if found else None


def render(rows: Sequence[Compiled], *, triton: str) -> str:
    """One row for each kernel and architecture, in the order of the rows, then what was not compiled and why."""
    compiled = [row for row in rows if row.default and row.status != "not_supported"]
    order = {kernel: index for index, kernel in enumerate(dict.fromkeys(row.kernel for row in compiled))}
    compiled.sort(key=lambda row: (order[row.kernel], int(row.arch[2:])))  # stable: configurations keep their order
    lines = [_line((*_HEADINGS, *_HEADINGS_OF_ALL)), _line(["---"] * 3 + ["--:"] * 3 + ["---"] * 2 + ["--:", "---"])]
    lines += [_kernel_row(list(group)) for _, group in groupby(compiled, key=lambda row: (row.kernel, row.arch))]
    refused = [row for row in rows if row.default and row.status == "not_supported"]
    return "\n".join(["", f"Compiled by Triton {triton}.", "", *lines, "", "Not compiled:", "", *_reasons(refused), ""])


def _kernel_row(rows: Sequence[Compiled]) -> str:
    """The line of a kernel on an architecture; `rows` are all of its configurations and formats."""
    main = next((row for row in rows if row.dtype == _MAIN_DTYPE), rows[0])
    registers = sorted({row.registers for row in rows if row.registers is not None})
    failed = [f"**{row.config} {row.dtype} failed: {row.reason}**" for row in rows if row.status == "failed"]
    return _line(
        [
            f"`{main.kernel}`",
            main.arch,
            f"{main.config} {main.dtype}",
            str(main.registers),
            "" if main.shared_bytes is None else f"{main.shared_bytes:,}",
            "" if main.occupancy is None else f"{main.occupancy:.0%}",
            ", ".join(f"{count} {opcode}" for opcode, count in main.instructions.items()),
            ", ".join([f"{len(rows)} in {' '.join(dict.fromkeys(row.dtype for row in rows))}", *failed]),
            "-".join(str(number) for number in dict.fromkeys((*registers[:1], *registers[-1:]))),
            _digest(rows),
        ]
    )


def _digest(rows: Sequence[Compiled]) -> str:
    """A few hexadecimal digits that change with anything that is known of these rows."""
    text = json.dumps([asdict(row) for row in rows], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def _reasons(rows: Sequence[Compiled]) -> list[str]:
    """One line for each reason: formats, and the modules that refuse them."""
    lines = []
    for reason in sorted({row.reason for row in rows}):
        formats = dict.fromkeys(row.dtype for row in rows if row.reason == reason)
        modules = dict.fromkeys(row.kernel.replace(".", "/") for row in rows if row.reason == reason)
        lines.append(f"- {', '.join(formats)} in {', '.join(f'`{module}.py`' for module in modules)}: {reason}")
    return lines


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _parts(path: Path) -> tuple[str, str, str]:
    """The document before, between and after the marks."""
    text = path.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    between, end, after = rest.partition(END)
    if not begin or not end:
        raise CompileError(f"{path} has no place for the tables: it needs the lines {BEGIN} and {END}")
    return before, between, after
