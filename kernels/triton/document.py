"""The tables of compiled kernels inside a Markdown document: one a kernel, between two marks, generated.

They name the Triton that compiled them: another one allots other registers, so that only the same can be held to them.
"""

import re
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from kernels.triton.compile import Compiled, CompileError

BEGIN, END = "<!-- compiled tables: begin -->", "<!-- compiled tables: end -->"
_HEADINGS = ("configuration", "arch", "formats", "registers", "shared bytes", "occupancy", "instructions")


def write_tables(path: Path, rows: Sequence[Compiled], *, triton: str) -> None:
    """Replace what stands between the marks by what this version of Triton made. Raises CompileError where a mark is
    missing, OSError as files do."""
    before, _, after = _parts(path)
    path.write_text(f"{before}{BEGIN}\n{render(rows, triton=triton)}{END}{after}", encoding="utf-8")


def has_other_tables(path: Path, rows: Sequence[Compiled], *, triton: str) -> bool:
    """Whether the document holds other tables than these rows make. Raises as `write_tables` does."""
    return _parts(path)[1].strip() != render(rows, triton=triton).strip()


def tables_version(path: Path) -> str | None:
    """The version of Triton whose tables the document holds; None where it does not say. Raises as `write_tables`
    does."""
    found = re.search(r"^Compiled by Triton (\S+)\.$", _parts(path)[1], re.MULTILINE)
    return found[1] if found else None


def render(rows: Sequence[Compiled], *, triton: str) -> str:
    """A heading and a table for each kernel, in the order of the rows; formats that compile alike share a line."""
    compiled = [row for row in rows if row.default and row.status != "not_supported"]
    kernels = dict.fromkeys(row.kernel for row in compiled)
    parts = [_kernel_table(kernel, [row for row in compiled if row.kernel == kernel]) for kernel in kernels]
    refused = [row for row in rows if row.default and row.status == "not_supported"]
    return "\n".join(["", f"Compiled by Triton {triton}.", "", *parts, "### Not compiled", "", *_reasons(refused), ""])


def _kernel_table(kernel: str, rows: Sequence[Compiled]) -> str:
    lines = [f"### `{kernel}`", "", _line(_HEADINGS), _line(["---"] * 3 + ["--:"] * 3 + ["---"])]
    lines += dict.fromkeys(_line(_cells(row, rows)) for row in sorted(rows, key=lambda row: int(row.arch[2:])))
    return "\n".join([*lines, ""])


def _cells(row: Compiled, rows: Sequence[Compiled]) -> list[str]:
    """The cells of a row, with every format whose kernel is the same in all that is shown."""
    formats = [other.dtype for other in rows if _shown(other) == _shown(row)]
    status = [] if row.status == "compiled" else [f"**{row.status}: {row.reason}**"]
    instructions = [f"{count} {opcode}" for opcode, count in row.instructions.items()]
    return [
        row.config,
        row.arch,
        ", ".join(dict.fromkeys(formats)),
        str(row.registers),
        f"{row.shared_bytes:,}",
        f"{row.occupancy:.0%}",
        ", ".join([*status, *instructions]),
    ]


def _shown(row: Compiled) -> tuple[object, ...]:
    return (row.config, row.arch, row.registers, row.shared_bytes, row.occupancy, dict(row.instructions), row.status)


def _reasons(rows: Sequence[Compiled]) -> list[str]:
    """One line for each module and reason."""
    keyed = sorted(rows, key=lambda row: (row.kernel, row.reason))
    lines = []
    for (module, reason), group in groupby(keyed, key=lambda row: (row.kernel, row.reason)):
        formats = ", ".join(dict.fromkeys(row.dtype for row in group))
        lines.append(f"- `kernels/triton/{module.replace('.', '/')}.py` in {formats}: {reason}")
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
