"""Ops at the sizes that a user names: a grid on the command line, or the rows of a CSV file.

    grid = read_grid("matmul", ["m=1,16,256", "n=8192", "k=8k"], dtypes)
    grid.workloads(default)  # three, in the order of the sizes

Every combination is a workload. One that contradicts itself (more queries than context) is left out, and said.
"""

import csv
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from predict.commands.pairs import read_pairs
from predict.errors import BadQuantity, BadRun, BadWorkload
from predict.ranges import read_sizes
from predict.units import DType, find_dtype
from predict.workloads import Workload, find_op, make_workload, taken_dtype

OP_COLUMN, DTYPE_COLUMN = "op", "dtype"


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
    find_op(op)
    sizes = {name: read_sizes(text, name) for name, text in read_pairs(arguments).items()}
    return _checked(Grid(op, sizes, dtypes))


def read_shapes(file: Path, op: str | None, dtypes: tuple[DType, ...]) -> tuple[Grid, ...]:
    """The rows of a CSV file, whose heading names the dimensions, and may name `op` and `dtype`; a cell that is empty
    belongs to another op. `op` and `dtypes` hold for rows that do not say theirs. Raises BadRun naming file and line.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines, skipinitialspace=True)
            heading = [name.strip() for name in reader.fieldnames or ()]
            reader.fieldnames = heading
            rows = [(reader.line_num, row) for row in reader]
    except OSError as error:
        raise BadRun(f"cannot read {file}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadRun(f"{file} is not a CSV file in UTF-8: {error}") from None
    if not rows:
        raise BadRun(f"{file} holds no shapes; write a heading such as op,m,n,k and a line for each shape")
    return tuple(_row(file, line, row, op, dtypes) for line, row in rows)


def _row(
    file: Path,
    line: int,
    row: Mapping[str | None, str | list[str] | None],
    op: str | None,
    dtypes: tuple[DType, ...],
) -> Grid:
    """One line of a CSV file. Raises BadRun naming file and line."""
    if None in row:
        raise BadRun(f"{file}:{line}: more cells than the heading has")
    cells = {str(name): text.strip() for name, text in row.items() if isinstance(text, str) and text.strip()}
    name = cells.pop(OP_COLUMN, op)
    if name is None:
        raise BadRun(f"{file}:{line}: no op; add a column `op`, or give --op")
    try:
        own = cells.pop(DTYPE_COLUMN, None)
        return read_grid(name, (f"{dim}={text}" for dim, text in cells.items()), (find_dtype(own),) if own else dtypes)
    except (BadWorkload, BadQuantity) as error:
        raise BadRun(f"{file}:{line}: {error}") from None


def _checked(grid: Grid) -> Grid:
    """The grid, if one of its combinations makes sense. Raises BadWorkload with the reason against the first."""
    if next(grid.workloads(_BF16), None) is None:
        raise BadWorkload(grid.refused(_BF16)[0])
    return grid


_BF16 = find_dtype("bf16")
