"""Options that several commands have, and how their output ends."""

import json
from pathlib import Path
from typing import Annotated

import typer

from predict.completion import gpu_names

GpuOption = Annotated[
    str | None,
    typer.Option(
        help="The card this must be (h100, h200-sxm, ...), or cpu; default: what is detected.", autocompletion=gpu_names
    ),
]
OutOption = Annotated[Path | None, typer.Option(help="Folder for the results; default: a new one under runs/.")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on with the records in --out.")]
TimeLimitOption = Annotated[float | None, typer.Option(min=1, metavar="SECONDS", help="Begin no case after this time.")]

CASE_LIMIT_S = 120.0  # a case that takes longer is stopped


def print_json(data: object) -> None:
    """Print JSON for other programs."""
    typer.echo(json.dumps(data, indent=2))


def exit_if(failed: bool) -> None:  # noqa: FBT001 - reads as a sentence
    """Exit with status 1 if something failed."""
    if failed:
        raise typer.Exit(1)
