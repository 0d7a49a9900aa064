"""Runs an app's commands. Bad input prints one line on stderr and exits with status 2; a bug keeps its traceback."""

import errno
import re
import sys
from pathlib import Path
from typing import Any

import typer

from predict.errors import NapkinError
from predict.extras import say_what_is_missing
from predict.suggest import did_you_mean
from predict.version import DISTRIBUTION

# Typer raises this for a command line that it cannot read: click's class in older versions, its own in newer ones.
UsageError: type[Exception] = typer.BadParameter.__mro__[1]
WITH_ALL_COMMANDS = (DISTRIBUTION, "python -m napkin_bench")  # programs that have those of all packages
RENAMED = {"render": "report"}  # under napkin-bench: a verb that does not say of what
NO_SUCH_COMMAND = re.compile(r"No such command '([^']*)'")  # and a suggestion by another rule than ours
FULL = (errno.ENOSPC, errno.EDQUOT)  # a disk, and what a user may have of it
# Commands as our texts name them: each works in a checkout, whatever is installed.
AS_MODULES = re.compile(r"python -m (predict|kernels|bench|reports)\b( render\b)?")


def run_command_line(app: typer.Typer, prog_name: str) -> None:
    """Run `app` on the program's arguments and exit with its status. `prog_name` is what the user typed before them."""
    command = typer.main.get_command(app)
    try:
        status = command(prog_name=prog_name, standalone_mode=False)
    except NapkinError as error:
        _refuse(as_typed(str(error), prog_name))
    except UsageError as error:
        context = getattr(error, "ctx", None)
        if type(error).__name__ == "NoArgsIsHelpError":  # Typer has already printed the help
            sys.exit(2)
        path = context.command_path if context else prog_name
        _refuse(as_typed(f"{_said(error, context)} (see {path} --help)", prog_name))
    except ModuleNotFoundError as error:
        if (missing := say_what_is_missing(error)) is None:
            raise
        _refuse(f"{_typed_command(command, prog_name)} {missing}")
    except OSError as error:
        if error.errno not in FULL:
            raise
        _refuse(f"cannot write: {error.strerror}; free some space, or write elsewhere")
    except typer.Abort:
        sys.exit(130)
    sys.exit(status if isinstance(status, int) else 0)


def as_typed(text: str, prog_name: str) -> str:
    """`text` with commands named as the user of `prog_name` types them: the commands of `bench` and `reports` stand
    directly under napkin-bench, and `render` is called `report` there."""
    if prog_name not in WITH_ALL_COMMANDS:
        return text

    def name(match: re.Match[str]) -> str:
        package, render = match.groups()
        nested = f" {package}" if package in ("predict", "kernels") else ""
        return f"{prog_name}{nested}{' report' if render else ''}"

    return AS_MODULES.sub(name, text)


def typed_here(text: str) -> str:
    """`text` with commands named as the user of the running program types them, for what is printed in passing."""
    return as_typed(text, Path(sys.argv[0]).stem)


def _typed_command(command: object, prog_name: str) -> str:
    """The program and the command in its arguments, without their options."""
    words = [prog_name]
    for word in sys.argv[1:]:
        command = getattr(command, "commands", {}).get(word)
        if command is None:
            break
        words.append(word)
    return " ".join(words)


def _said(error: Exception, context: Any) -> str:
    """What is wrong with the command line. Names are suggested by our rule, not by that of click."""
    if context and (option := getattr(error, "option_name", None)) and hasattr(error, "possibilities"):
        known = [name for each in context.command.params for name in each.opts if name.startswith("--")]
        return f"No such option {option}{did_you_mean(option, known)}".rstrip("; ")
    if context and (unknown := NO_SUCH_COMMAND.match(str(error.message))):  # type: ignore[attr-defined]
        commands = context.command.commands
        below = [f"{name} {each}" for name, group in commands.items() for each in getattr(group, "commands", ())]
        means = {old: new for old, new in RENAMED.items() if new in commands}
        means |= {name: each for each in below if (name := each.split()[1]) not in commands}
        return f"No such command {unknown[1]!r}{did_you_mean(unknown[1], commands, means)}".rstrip("; ")
    return str(error.format_message()).rstrip(".")  # type: ignore[attr-defined]


def _refuse(message: str) -> None:
    sys.stderr.write(f"error: {' '.join(message.split())}\n")
    sys.exit(2)
