"""The commands by name, each as its package lists it.

`predict` and `kernels` are commands with commands of their own; those of `bench` and `reports` stand beside them. A
package is loaded when one of its commands may be meant, and none loads here what only its work needs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperCommand, TyperGroup

from predict.command_line import RENAMED, as_typed
from predict.version import DISTRIBUTION, ROOT, is_checkout, version

if TYPE_CHECKING:
    import click

# The packages in the order of --help, and the heading of their commands there.
HEADINGS = {
    "predict": "Predict, without a GPU",
    "bench": "Measure this machine",
    "reports": "Read what was measured",
    "kernels": "Kernels",
}
NESTED = ("predict", "kernels")  # whose commands stand under the package's own name
FLAT = ("bench", "reports")


class Commands(TyperGroup):
    """The commands of all packages."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every name, in the order of --help."""
        self.commands = {}
        for package in HEADINGS:
            self._add(package, ctx)
        return list(self.commands)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name; None if no package has it."""
        for package in [cmd_name] if cmd_name in NESTED else [*FLAT, *NESTED]:  # the others for what a typo may mean
            if cmd_name not in self.commands:
                self._add(package, ctx)
        return self.commands.get(cmd_name)

    def _add(self, package: str, ctx: click.Context) -> None:
        group = typer.main.get_command(importlib.import_module(f"{package}.__main__").app)
        assert isinstance(group, TyperGroup)
        for name, command in {package: group}.items() if package in NESTED else group.commands.items():
            command.name = RENAMED.get(name, name)
            command.rich_help_panel = HEADINGS[package]  # type: ignore[attr-defined]
            _name_commands(command, ctx.find_root().info_name or DISTRIBUTION)
            self.commands[command.name] = command


def _name_commands(command: click.Command, program: str) -> None:
    """Let help texts name commands as the user of this program types them."""
    assert isinstance(command, TyperCommand | TyperGroup)
    command.help = command.help and as_typed(command.help, program)
    command.epilog = command.epilog and as_typed(command.epilog, program)
    for parameter in command.params:
        text = getattr(parameter, "help", None)
        if text is not None:
            parameter.help = as_typed(text, program)  # type: ignore[attr-defined]
    for each in command.commands.values() if isinstance(command, TyperGroup) else ():
        _name_commands(each, program)


def make_app(*, completes: bool) -> typer.Typer:
    """The app, with or without the options that install completion."""
    app = typer.Typer(
        cls=Commands,
        help="Measure real hardware against napkin math: predict, run the kernels, compare.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=completes,
    )
    app.callback()(_options)
    return app


def _show_version(asked: bool) -> None:  # noqa: FBT001 - what Typer calls it with
    if asked:
        typer.echo(f"{DISTRIBUTION} {version()}" + (f" (checkout in {ROOT})" if is_checkout() else ""))
        raise typer.Exit


def _options(
    *,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Print the version.")
    ] = False,
) -> None:
    """Nothing but options: a command follows."""
