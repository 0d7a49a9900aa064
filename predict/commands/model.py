"""`python -m predict model`: estimates a whole model, as a page or as flat JSON.

The options are the fields of `Question`.
"""

import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from predict.answers.batching import batch_rows
from predict.answers.estimate import estimate_of
from predict.answers.page import page
from predict.commands.options import with_options
from predict.errors import BadModel

EXAMPLES = """Examples:

python -m predict model llama-3-70b --gpu h100 --gpus 2 --batch 8 --seq 8192

python -m predict model --config path/to/config.json --gpu h200 --weights int4 --kv fp8 --context 4096 --json
"""
PAGE_WIDTH = 100


@with_options
def model(
    preset: Annotated[str | None, typer.Argument(help="A model of `python -m predict models`.")] = None,
    *,
    config: Annotated[Path | None, typer.Option(help="A Hugging Face config.json instead of a preset.")] = None,
    show_arithmetic: Annotated[bool, typer.Option("--explain", help="Print the arithmetic, line by line.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print flat JSON, in SI units.")] = False,
    **typed: str | None,
) -> None:
    """Estimate a whole model: FLOP, memory, prefill, decode, training and money. Each line shows its formula."""
    found = estimate_of(_one_of(preset, config), {name: value for name, value in typed.items() if value is not None})
    if as_json:
        typer.echo(found.to_json())
        return
    width = min(shutil.get_terminal_size((PAGE_WIDTH, 0)).columns, PAGE_WIDTH) if sys.stdout.isatty() else PAGE_WIDTH
    batches = batch_rows(found.question)
    typer.echo(page(found.question, found.answer, batches, explain=show_arithmetic, width=width))


def _one_of(preset: str | None, config: Path | None) -> str | Path:
    given = [each for each in (preset, config) if each is not None]
    if len(given) != 1:
        raise BadModel("give either the name of a preset (see `python -m predict models`) or --config config.json")
    return given[0]
