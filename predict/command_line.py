"""Runs a Typer app. Bad input prints one line on stderr and exits with status 2; a bug keeps its traceback."""

import sys

import typer

from predict.errors import NapkinError

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
        _refuse(f"{error.format_message().rstrip('.')} (see {command} --help)")  # type: ignore[attr-defined]
    except typer.Abort:
        sys.exit(130)
    sys.exit(status if isinstance(status, int) else 0)


def _refuse(message: str) -> None:
    sys.stderr.write(f"error: {' '.join(message.split())}\n")
    sys.exit(2)
