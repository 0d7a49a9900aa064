"""The question that a line of arguments of `python -m predict model` asks, without answering it."""

import shlex
from functools import cache
from pathlib import Path
from typing import Any

import click
import typer

from predict.answers.asking import ask, layout_gpus
from predict.answers.machine import read_machines
from predict.answers.question import ASKED, Question
from predict.commands.model import asked_model, model
from predict.errors import BadQuantity


def question_of(arguments: str, folder: Path) -> Question:
    """Read `arguments` with the options of the command itself. A --config is relative to `folder`. Raises BadQuantity
    for arguments that the command does not take or that ask several machines, and the errors of asking."""
    typed = _typed(arguments)
    preset, config, changes = (typed.pop(name) for name in ("preset", "config", "changes"))
    asked = asked_model(preset, None if config is None else folder / config, changes)
    gpu, gpus, price = (typed.pop(name) for name in ("gpu", "gpus", "usd_per_gpu_hour"))
    fields = {name: value for name, value in typed.items() if name in ASKED and value is not None}
    machines = read_machines(gpu or [], gpus or [str(layout_gpus(fields))], price)
    if len(machines) > 1:
        raise BadQuantity("the arguments ask several machines: give one --gpu and one --gpus")
    return ask(asked, {**fields, **machines[0].fields})


def _typed(arguments: str) -> dict[str, Any]:
    """The command's parameters by name."""
    try:
        words = shlex.split(arguments)
        if "--help" in words:
            raise BadQuantity("the arguments ask for help")
        return dict(_command().make_context("predict model", words).params)
    except click.ClickException as error:
        raise BadQuantity(
            f"the arguments are not of `predict model`: {' '.join(error.format_message().split())}"
        ) from None
    except ValueError as error:  # an open quote
        raise BadQuantity(f"the arguments cannot be read: {error}") from None


@cache
def _command() -> click.Command:
    app = typer.Typer(add_completion=False)
    app.command()(model)
    return typer.main.get_command(app)
