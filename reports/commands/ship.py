"""`python -m reports ship`: fits what the project ships, for those who maintain it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from predict.errors import BadRun
from predict.gpus import GPUS
from predict.lazily import lazily

with lazily():  # pandas and SciPy
    from reports.accuracy import importers, ship, validate

EXAMPLE = "Example: python -m reports ship tables/*.parquet"


def ship_calibrations(
    measured: Annotated[list[Path], typer.Argument(metavar="TABLE...", help="Measured tables: parquet, CSV.")],
    *,
    drop: Annotated[bool, typer.Option("--drop", help="Drop what ships of tables that are not given.")] = False,
) -> None:
    """Write the calibrations that ship with the project, fitted to published tables; for its maintainers."""
    groups = validate.validate(importers.read_tables(measured), leave_out=GPUS).groups
    if not drop and (lost := ship.lost_tables(groups)):
        raise BadRun(f"calibrations of {', '.join(lost)} would be lost: give these tables too, or --drop")
    typer.echo("\n".join(map(str, ship.write_calibrations(groups))))
