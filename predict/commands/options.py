"""The options of `python -m predict model`: one for each field of `Question` that has a help text, and the targets."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import Annotated

import typer

from predict.answers.asking import is_number, kind_of_number
from predict.answers.lines import Use
from predict.answers.question import ASKED, Question, in_json
from predict.completion import Complete, gpu_names, model_names
from predict.units import Kind

Changes = Annotated[
    list[str] | None,
    typer.Option("--set", help="A field of the configuration to change; may be repeated.", metavar="FIELD=VALUE"),
]
TARGETS = "Targets of a server"  # the panel of these options in --help
Isl = Annotated[
    str | None, typer.Option(help="Tokens of each prompt. Searches a server.", metavar="N", rich_help_panel=TARGETS)
]
Osl = Annotated[str | None, typer.Option(help="Tokens that each request makes.", metavar="N", rich_help_panel=TARGETS)]
Ttft = Annotated[
    str | None, typer.Option(help="Most time to the first token.", metavar="SECONDS", rich_help_panel=TARGETS)
]
Tpot = Annotated[str | None, typer.Option(help="Most time per token.", metavar="SECONDS", rich_help_panel=TARGETS)]
RequestsPerS = Annotated[
    str | None, typer.Option(help="Requests to serve, by replicas.", metavar="X", rich_help_panel=TARGETS)
]
By = Annotated[
    str | None,
    typer.Option(
        help="Times to compare by: bound (the default) or expected.", metavar="TIMES", rich_help_panel=TARGETS
    ),
]
Out = Annotated[
    Path | None, typer.Option(help="Folder for the Pareto fronts: front.png, front.csv.", rich_help_panel=TARGETS)
]


@dataclass(frozen=True, slots=True)
class TypedTargets:
    """The options of targets as they are typed."""

    isl: str | None
    osl: str | None
    ttft: str | None
    tpot: str | None
    requests_per_s: str | None
    by: str | None
    out: Path | None

    @property
    def are_given(self) -> bool:
        """Whether any is."""
        return any(getattr(self, each.name) is not None for each in fields(self))


_METAVARS: Mapping[Kind, str] = MappingProxyType(
    {
        Kind.SIZE: "N",
        Kind.AMOUNT: "N",
        Kind.BYTES: "BYTES",
        Kind.BYTES_PER_S: "BYTES/S",
        Kind.SECONDS: "SECONDS",
        Kind.SHARE: "X",
        Kind.PLAIN: "X",
    }
)


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """Replace the `**typed` of a command by the options, placed after --config and --set."""
    preset, config, changes, *others, _ = inspect.signature(command).parameters.values()
    vars(command)["__signature__"] = inspect.Signature([preset, config, changes, *_options(), *others])
    return command


# Panel of --help -> the fields of `Question` that it shows.
PANELS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "Machine": (
            *("gpu", "gpus", "tp", "pp", "dp", "ep", "link_between_nodes_bytes_per_s", "hbm_bytes", "overhead_bytes"),
            *("usd_per_gpu_hour", "mfu", "mbu"),
        ),
        "Requests": ("batch", "seq", "context", "prefix", "chunk", "mask", "logits", "token_price_usd_per_1m"),
        "Formats": ("weights", "kv", "compute"),
        "Speculative decoding": ("draft", "acceptance"),
        "Training": ("tokens", "optimizer", "recompute", "kernels", "zero", "micro_batch"),
    }
)

# Use -> the fields that change nothing of the other use.
ONLY: Mapping[Use, tuple[str, ...]] = MappingProxyType(
    {
        Use.SERVE: ("prefix", "chunk", "logits", "token_price_usd_per_1m", "weights", "kv", "draft", "acceptance"),
        Use.TRAIN: PANELS["Training"],
    }
)

COMPLETED: Mapping[str, Complete] = MappingProxyType({"gpu": gpu_names, "draft": model_names})

# Fields that take several values, separated by commas or each behind the option again.
SEVERAL = ("gpu", "gpus")


def unshown_options(given: Iterable[str], uses: frozenset[Use]) -> list[str]:
    """A remark for each of the `given` fields that changes nothing on a page of `uses`."""
    given = list(given)
    return [
        f"--{ASKED[name][1].option or name} changes nothing here: --{use} or --all shows what it changes"
        for use in Use
        if use not in uses
        for name in ONLY[use]
        if name in given
    ]


def _options() -> Iterator[inspect.Parameter]:
    defaults = {field.name: field.default for field in fields(Question)}
    for name, panel in _in_panels():
        asked = ASKED[name][1]
        default = None if asked.optional or defaults[name] is MISSING else defaults[name]
        said = "" if default is None else f" Default: {in_json(default)}."
        metavar = _METAVARS[kind_of_number(name)] if is_number(name) else None
        option = typer.Option(
            None,
            f"--{asked.option or name}",
            help=asked.help + said,
            metavar=metavar,
            rich_help_panel=panel,
            autocompletion=COMPLETED.get(name),
        )
        one = list[str] if name in SEVERAL else str
        yield inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=option, annotation=one | None)


def _in_panels() -> Iterator[tuple[str, str | None]]:
    """The fields with a help text, panel by panel; those of no panel last."""
    listed = {name: panel for panel, names in PANELS.items() for name in names}
    asked = [name for name, (_, each) in ASKED.items() if each.help]
    order = [*(name for name in listed if name in asked), *(name for name in asked if name not in listed)]
    return ((name, listed.get(name)) for name in order)
