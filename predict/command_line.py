"""Runs a Typer app. Bad input prints one line on stderr and exits with status 2; a bug keeps its traceback."""

import sys
from typing import Any

import typer

from predict.errors import NapkinError
from predict.suggest import did_you_mean

# Typer raises this for a command line that it cannot read: click's class in older versions, its own in newer ones.
UsageError: type[Exception] = typer.BadParameter.__mro__[1]


def run_command_line(app: typer.Typer, prog_name: str) -> None:
    """Run `app` on the program's arguments and exit with its status."""
    try:
        status = app(prog_name=prog_name, standalone_mode=False)
    except NapkinError as error:
        _refuse(str(error))
    except UsageError as error:
        context = getattr(error, "ctx", None)
        if type(error).__name__ == "NoArgsIsHelpError":  # Typer has already printed the help
            sys.exit(2)
        command = context.command_path if context else prog_name
        _refuse(f"{_said(error, context)} (see {command} --help)")
    except typer.Abort:
        sys.exit(130)
    sys.exit(status if isinstance(status, int) else 0)


def _said(error: Exception, context: Any) -> str:
    """What is wrong with the command line. Names are suggested by our rule, not by that of click."""
    if context and (option := getattr(error, "option_name", None)) and hasattr(error, "possibilities"):
        known = [name for each in context.command.params for name in each.opts if name.startswith("--")]
        return f"No such option {option}{did_you_mean(option, known)}".rstrip("; ")
    return str(error.format_message()).rstrip(".")  # type: ignore[attr-defined]


def _refuse(message: str) -> None:
    sys.stderr.write(f"error: {' '.join(message.split())}\n")
    sys.exit(2)
