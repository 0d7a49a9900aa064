"""Ops at the sizes that a user names: a grid on the command line, or the rows of a CSV file.

    grid = read_grid("matmul", ["m=1,16,256", "n=8192", "k=8k"], dtypes)
    grid.workloads(default)  # three, in the order of the sizes

Every combination is a workload. One that contradicts itself (more queries than context) is left out, and said.
"""

import csv
import io
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from predict.commands.pairs import read_pairs
from predict.errors import BadQuantity, BadRun, BadWorkload
from predict.ranges import read_sizes
from predict.suggest import quoted
from predict.units import DType, find_dtype
from predict.workloads import Workload, check_dims, make_workload, taken_dtype

OP_COLUMN, DTYPE_COLUMN = "op", "dtype"
DELIMITERS = ",;\t"


@dataclass(frozen=True, slots=True)
class Grid:
    """One op at every combination of some sizes."""

    op: str
    sizes: Mapping[str, tuple[int, ...]]  # of each dimension
    dtypes: tuple[DType, ...] = ()  # empty: the machine's usual one, or the op's

    def __len__(self) -> int:
        return math.prod(map(len, self.sizes.values())) * max(1, len(self.dtypes))

    def workloads(self, default: DType) -> Iterator[Workload]:
        """Every combination that makes sense; `default` where no dtype was asked for and the op takes it."""
        for dtype, dims in self._combinations(default):
            try:
                yield make_workload(self.op, dims, dtype)
            except BadWorkload:
                continue

    def refused(self, default: DType) -> tuple[str, ...]:
        """Why combinations are left out, one reason each."""
        return tuple(reason for dtype, dims in self._combinations(default) if (reason := self._wrong(dims, dtype)))

    def _combinations(self, default: DType) -> Iterator[tuple[DType, dict[str, int]]]:
        for dtype in self.dtypes or (taken_dtype(self.op, default),):
            for sizes in itertools.product(*self.sizes.values()):
                yield dtype, dict(zip(self.sizes, sizes, strict=True))

    def _wrong(self, dims: Mapping[str, int], dtype: DType) -> str | None:
        try:
            make_workload(self.op, dims, dtype)
        except BadWorkload as error:
            return str(error)
        return None


def read_grid(op: str, arguments: Iterable[str], dtypes: tuple[DType, ...]) -> Grid:
    """An op with its dimensions as ["m=1,16,256", "n=1k:8k", "k=8192"]. Raises BadWorkload for an unknown op, a
    dimension that it lacks or needs, or a grid without a combination that makes sense; BadQuantity for a size."""
    pairs = read_pairs(arguments)
    check_dims(op, pairs)  # first: what is no dimension need not be a size
    return _checked(Grid(op, {name: read_sizes(text, name) for name, text in pairs.items()}, dtypes))


def read_dtypes(text: str) -> tuple[DType, ...]:
    """One or several formats, as "bf16,fp16". Raises BadWorkload for an unknown one."""
    return tuple(find_dtype(each.strip()) for each in text.split(","))


def read_shapes(file: Path, op: str | None, dtypes: tuple[DType, ...]) -> tuple[Grid, ...]:
    """The rows of a CSV file, whose heading names the dimensions, and may name `op` and `dtype`; a cell that is empty
    belongs to another op, a row of such cells to nothing. Commas, semicolons or tabs stand between cells. `op` and
    `dtypes` hold for rows that do not say theirs. Raises BadRun naming file and line.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
        reader = csv.reader(io.StringIO(text, newline=None), delimiter=_delimiter(text), skipinitialspace=True)
        rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except OSError as error:
        raise BadRun(f"cannot read {file}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadRun(f"{file} is not a CSV file in UTF-8: {error}") from None
    rows = [(line, cells) for line, cells in rows if any(cells)]
    if len(rows) < 2:
        raise BadRun(f"{file} holds no shapes; write a heading such as op,m,n,k and a line for each shape")
    heading = _heading(file, rows[0][1])
    return tuple(_row(file, line, heading, cells, op, dtypes) for line, cells in rows[1:])


def _delimiter(text: str) -> str:
    """What stands between cells: of the characters that programs put there, the first heading's most frequent."""
    heading = next((line for line in text.splitlines() if line.strip()), "")
    return max(DELIMITERS, key=heading.count)


def _heading(file: Path, cells: Sequence[str]) -> list[str]:
    """The names of the columns, in lower case as all dimensions are. Raises BadRun for one that stands twice."""
    names = [cell.lower() for cell in cells]
    twice = next((name for name in names if name and names.count(name) > 1), None)
    if twice:
        raise BadRun(f"{file}: column {twice!r} stands twice in the heading")
    return names


def _row(
    file: Path, line: int, heading: Sequence[str], cells: Sequence[str], op: str | None, dtypes: tuple[DType, ...]
) -> Grid:
    """One line of a CSV file. Raises BadRun naming file and line."""
    named = dict(zip(heading, cells, strict=False))
    unnamed = [cell for name, cell in itertools.zip_longest(heading, cells, fillvalue="") if cell and not name]
    if unnamed:
        columns = ",".join(heading)
        raise BadRun(f"{file}:{line}: {quoted(unnamed[0])} stands in no column of the heading {columns}")
    sizes = {name: cell for name, cell in named.items() if cell}
    name = sizes.pop(OP_COLUMN, op)
    if name is None:
        columns = ",".join(heading)
        raise BadRun(f"{file}:{line}: no op; add a column `op`, or give --op (the heading is {columns})")
    try:
        own = sizes.pop(DTYPE_COLUMN, None)
        return read_grid(name, (f"{dim}={text}" for dim, text in sizes.items()), read_dtypes(own) if own else dtypes)
    except (BadWorkload, BadQuantity) as error:
        raise BadRun(f"{file}:{line}: {error}") from None


def _checked(grid: Grid) -> Grid:
    """The grid, if one of its combinations makes sense. Raises BadWorkload with the reason against the first."""
    if next(grid.workloads(_BF16), None) is None:
        raise BadWorkload(grid.refused(_BF16)[0])
    return grid


_BF16 = find_dtype("bf16")
