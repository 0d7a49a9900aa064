"""The options of `python -m predict model`: an option for each field of `Question` that has a help text."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, fields
from types import MappingProxyType

import typer

from predict.answers.asking import is_number, kind_of_number
from predict.answers.question import ASKED, Question, in_json
from predict.units import Kind

_METAVARS: Mapping[Kind, str] = MappingProxyType(
    {Kind.SIZE: "N", Kind.AMOUNT: "N", Kind.BYTES: "BYTES", Kind.SECONDS: "SECONDS", Kind.PLAIN: "X"}
)


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """Replace the `**typed` of a command by the options, placed after --config."""
    preset, config, *others, _ = inspect.signature(command).parameters.values()
    vars(command)["__signature__"] = inspect.Signature([preset, config, *_options(), *others])
    return command


# Fields that take several values, separated by commas or each behind the option again.
SEVERAL = ("gpu", "gpus")


def _options() -> Iterator[inspect.Parameter]:
    defaults = {field.name: field.default for field in fields(Question)}
    for name, (_, asked) in ASKED.items():
        if asked.help:
            needed, default = defaults[name] is MISSING, defaults[name]
            said = "" if needed or asked.optional or default is None else f" Default: {in_json(default)}."
            metavar = _METAVARS[kind_of_number(name)] if is_number(name) else None
            option = typer.Option(
                ... if needed else None, f"--{asked.option or name}", help=asked.help + said, metavar=metavar
            )
            one = list[str] if name in SEVERAL else str
            annotation = one if needed else one | None
            yield inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=option, annotation=annotation)
