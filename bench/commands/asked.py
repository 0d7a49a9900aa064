"""The options that say what is measured: a suite, an op at sizes, or what a file lists; and which part of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from bench.record import Environment
from bench.suites import SUITE_BUDGET_S, SUITES
from predict.errors import BadRun
from predict.lazily import lazily
from predict.ranges import RANGES
from predict.units import DTYPES, DType, find_dtype

with lazily():  # torch
    from bench import grid, runner, selection

DEFAULT_SUITE = "quick"
ASKED_BUDGET_S = 0.5  # the most seconds of sampling of a case that a user names

WHAT = "What is measured"  # the panel of these options in --help


def _option(*names: str, said: str) -> typer.models.OptionInfo:
    return typer.Option(*names, help=said, rich_help_panel=WHAT)  # type: ignore[no-any-return]


DimsArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="[DIM=SIZES]...", help=f"Dimensions of --op, every combination: m=1,16,256 n=8k. {RANGES}"),
]
SuiteOption = Annotated[
    str | None,
    _option("--suite", said=f"One of: {', '.join(SUITES)}. Default: {DEFAULT_SUITE}."),
]
OpOption = Annotated[str | None, _option("--op", said="An op of `python -m predict ops`, at the sizes that follow.")]
OpsFromOption = Annotated[
    Path | None, _option("--ops-from", said="A CSV file with a column for each dimension, and for op and dtype.")
]
DtypeOption = Annotated[
    str | None,
    _option("--dtype", said=f"Of --op and --model: one or several of {', '.join(DTYPES)}. Default: the usual one."),
]
OnlyOption = Annotated[
    str | None, _option("--only", said="Only ops or workloads of these names, comma-separated; * stands for any text.")
]
ImplementationOption = Annotated[
    str | None,
    _option("--implementation", said="Only these implementations, comma-separated: torch,triton."),
]
YesOption = Annotated[bool, _option("--yes", said="Measure a grid of more than 10,000 cases.")]


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be measured, as it was typed."""

    suite: str | None
    op: str | None
    dims: tuple[str, ...]
    ops_from: Path | None
    dtype: str | None
    only: str | None
    implementation: str | None
    yes: bool

    @property
    def budget_s(self) -> float:
        """The most seconds of sampling of a case."""
        return SUITE_BUDGET_S[self._suite] if self._suite else ASKED_BUDGET_S

    def selection(self, device: str) -> selection.Selection:
        """What was asked for. Raises NapkinError for options that contradict each other, and as their readers do."""
        chosen = selection.read_filter(self.only, self.implementation)
        if self._suite:
            return selection.of_suite(self._suite, chosen)
        return selection.of_grids(self._grids(), chosen, device, yes=self.yes)

    @property
    def _suite(self) -> str | None:
        """The suite that is measured; None if ops are. Raises BadRun if both are asked for."""
        shapes = self.op or self.ops_from
        if self.suite and shapes:
            raise BadRun(f"--suite {self.suite} and {'--op' if self.op else '--ops-from'}: give one of them")
        if shapes:
            return None
        if self.dims:
            raise BadRun(f"{self.dims[0]} is a dimension of which op? Give --op")
        if self.dtype:
            raise BadRun("--dtype belongs to --op, --ops-from and --model; a suite has formats of its own")
        return self.suite or DEFAULT_SUITE

    def _grids(self) -> tuple[grid.Grid, ...]:
        dtypes = _dtypes(self.dtype)
        if self.ops_from is None:
            return (grid.read_grid(self.op or "", self.dims, dtypes),)
        if self.dims:
            raise BadRun(f"{self.dims[0]} and --ops-from: sizes come from the file; leave one out")
        return grid.read_shapes(self.ops_from, self.op, dtypes)


def tell_what_is_left_out(chosen: selection.Selection, described: Environment) -> None:
    """Refuse a selection that is empty here, and say on stderr what of it is not measured."""
    limits = runner.limits_of(described, {})
    chosen.check(limits)
    for line in chosen.left_out(limits):
        typer.echo(line, err=True)


def _dtypes(text: str | None) -> tuple[DType, ...]:
    return tuple(find_dtype(each.strip()) for each in text.split(",")) if text else ()
