"""The options that say what is measured: a suite, an op at sizes, or what a file lists; and which part of it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from bench.record import Environment
from bench.suites import SUITE_BUDGET_S, SUITES
from predict.answers.asking import named_model
from predict.completion import Complete, model_names, one_of
from predict.errors import BadRun
from predict.formulas.memory import find_weight_format
from predict.lazily import lazily
from predict.model.layout import Layout
from predict.ranges import RANGES, read_sizes
from predict.suggest import no_choice
from predict.units import DTYPES, DType, find_dtype
from predict.workloads import OPS

with lazily():  # torch
    from bench import grid, model_run, runner, selection

DEFAULT_SUITE = "quick"
ASKED_BUDGET_S = 0.5  # the most seconds of sampling of a case that a user names

# The panels of these options in --help.
WHAT, MODEL = "What is measured", "A model's pass"
USUAL_TOKENS = "2048"  # of a prompt, and in the cache
OF_MODEL = ("phase", "batch", "context", "seq", "tp", "ep", "weights", "kv", "compute")  # options of its passes
MOST_PASSES = 1000  # that are measured without being asked again; a pass has a dozen kernels


def _option(name: str, *, said: str, complete: Complete | None = None, panel: str = WHAT) -> typer.models.OptionInfo:
    return typer.Option(name, help=said, rich_help_panel=panel, autocompletion=complete)  # type: ignore[no-any-return]


def _model_option(name: str, *, said: str, complete: Complete | None = None) -> typer.models.OptionInfo:
    return _option(name, said=said, complete=complete, panel=MODEL)


DimsArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="[DIM=SIZES]...", help=f"Dimensions of --op, every combination: m=1,16,256 n=8k. {RANGES}"),
]
SuiteOption = Annotated[
    str | None,
    _option("--suite", said=f"One of: {', '.join(SUITES)}. Default: {DEFAULT_SUITE}.", complete=one_of(SUITES)),
]
OpOption = Annotated[
    str | None,
    _option("--op", said="An op of `python -m predict ops`, at the sizes that follow.", complete=one_of(OPS)),
]
OpsFromOption = Annotated[
    Path | None, _option("--ops-from", said="A CSV file with a column for each dimension, and for op and dtype.")
]
DtypeOption = Annotated[
    str | None,
    _option("--dtype", said=f"Of --op and --model: one or several of {', '.join(DTYPES)}. Default: the usual one."),
]
OnlyOption = Annotated[
    str | None, _option("--only", said="Only ops or workloads of these names, comma-separated; * stands for any text.")
]
ImplementationOption = Annotated[
    str | None,
    _option("--implementation", said="Only these implementations, comma-separated: torch,triton."),
]
CallableOption = Annotated[
    list[str] | None,
    _option("--callable", said="A function of yours, module:function or ./file.py:function, beside ours. Repeatable."),
]
ModelOption = Annotated[
    str | None,
    _model_option(
        "--model",
        said="A preset of `python -m predict models`, or a config.json: all kernels.",
        complete=model_names,
    ),
]
PhaseOption = Annotated[
    str | None, _model_option("--phase", said="decode, prefill, or both with a comma. Default: both.")
]
BatchOption = Annotated[str, _model_option("--batch", said="Requests: 8; 1,8,64; 1:64 doubles.")]
ContextOption = Annotated[str, _model_option("--context", said="Cached tokens of each request in decode.")]
SeqOption = Annotated[str, _model_option("--seq", said="Tokens of each prompt in prefill.")]
TpOption = Annotated[
    int, _model_option("--tp", said="GPUs that split heads and matrices; one GPU's share is measured.")
]
EpOption = Annotated[int, _model_option("--ep", said="GPUs that hold different experts.")]
WeightsOption = Annotated[
    str | None, _model_option("--weights", said="Stored weights: fp8, int4, ... Default: as the model ships.")
]
KvOption = Annotated[str | None, _model_option("--kv", said="KV cache: fp8, ... Default: as the model asks.")]
ComputeOption = Annotated[
    str | None, _model_option("--compute", said="Products: fp8, ... Default: what the model narrows activations to.")
]
YesOption = Annotated[bool, _option("--yes", said="Measure a grid of more than 10,000 cases.")]


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be measured, as it was typed: each field is an option of a command that `with_asked` decorates."""

    dims: DimsArgument = None
    suite: SuiteOption = None
    op: OpOption = None
    ops_from: OpsFromOption = None
    dtype: DtypeOption = None
    only: OnlyOption = None
    implementation: ImplementationOption = None
    callables: CallableOption = None
    yes: YesOption = False
    model: ModelOption = None
    phase: PhaseOption = None
    batch: BatchOption = "1"
    context: ContextOption = USUAL_TOKENS
    seq: SeqOption = USUAL_TOKENS
    tp: TpOption = 1
    ep: EpOption = 1
    weights: WeightsOption = None
    kv: KvOption = None
    compute: ComputeOption = None

    @property
    def budget_s(self) -> float:
        """The most seconds of sampling of a case."""
        return SUITE_BUDGET_S[self._suite] if self._suite else ASKED_BUDGET_S

    def selection(self, device: str) -> selection.Selection:
        """What was asked for. Raises NapkinError for options that contradict each other, and as their readers do."""
        callables = tuple(self.callables or ())
        if callables and not (self.op or self.ops_from or self.only):
            raise BadRun(f"--callable {callables[0]} computes which op? Give --op with its sizes, or --only")
        self._check_model()
        chosen = selection.read_filter(self.only, self.implementation, callables)
        if self._suite:
            return selection.of_suite(self._suite, chosen)
        dtypes = () if self.dtype is None else grid.read_dtypes(self.dtype)
        if self.model:
            return selection.of_model(self._model_run(self.model, dtypes), chosen)
        return selection.of_grids(self._grids(dtypes), chosen, device, yes=self.yes)

    @property
    def _suite(self) -> str | None:
        """The suite that is measured; None if something else is. Raises BadRun for options that exclude each other."""
        asked = {"--suite": self.suite, "--op": self.op, "--ops-from": self.ops_from, "--model": self.model}
        given = [option for option, value in asked.items() if value is not None]
        if len(given) > 1 and given != ["--op", "--ops-from"]:
            raise BadRun(f"{' and '.join(given)}: give one of them")
        if self.dims and self.op is None and self.ops_from is None:
            raise BadRun(f"{self.dims[0]} is a dimension of which op? Give --op")
        if given and given != ["--suite"]:
            return None
        if self.dtype is not None:
            raise BadRun("--dtype belongs to --op, --ops-from and --model; a suite has formats of its own")
        return self.suite or DEFAULT_SUITE

    def _grids(self, dtypes: tuple[DType, ...]) -> tuple[grid.Grid, ...]:
        dims = self.dims or []
        if self.ops_from is None:
            return (grid.read_grid(self.op or "", dims, dtypes),)
        if dims:
            raise BadRun(f"{dims[0]} and --ops-from: sizes come from the file; leave one out")
        return grid.read_shapes(self.ops_from, self.op, dtypes)

    def _check_model(self) -> None:
        """Raise BadRun for a model without a name, and for an option of its passes without a model."""
        if self.model == "":
            raise BadRun("--model names no model; `python -m predict models` lists the presets")
        if self.model is not None:
            return
        for field in fields(Asked):
            if field.name in OF_MODEL and getattr(self, field.name) != field.default:
                raise BadRun(
                    f"--{field.name} belongs to --model; the sizes of an op are written name=size, such as batch=8"
                )

    def _model_run(self, name: str, dtypes: tuple[DType, ...]) -> model_run.ModelRun:
        """The passes of a model. Raises NapkinError for an unknown model or phase, sizes that cannot be read, too many
        passes without --yes, and a layout that no engine would choose."""
        if len(dtypes) > 1:
            raise BadRun("--model takes one --dtype; run once for each")
        formats = model_run.AskedFormats(
            find_weight_format(self.weights) if self.weights else None,
            find_dtype(self.kv) if self.kv else None,
            find_dtype(self.compute) if self.compute else None,
            dtypes[0] if dtypes else None,
        )
        phases, batches = self._phases(), read_sizes(self.batch, "--batch")
        contexts, seqs = read_sizes(self.context, "--context"), read_sizes(self.seq, "--seq")
        tokens = {model_run.Phase.DECODE: contexts, model_run.Phase.PREFILL: seqs}
        passes = len(batches) * sum(len(tokens[phase]) for phase in phases)
        if passes > MOST_PASSES and not self.yes:
            raise BadRun(f"these are {passes:,} passes, more than {MOST_PASSES:,}; narrow the sizes, or say --yes")
        sizes = model_run.sizes_of(phases, batches, contexts, seqs)
        return model_run.ModelRun(named_model(name), sizes, Layout(tp=self.tp, ep=self.ep), formats)

    def _phases(self) -> tuple[model_run.Phase, ...]:
        names = (self.phase or ",".join(model_run.Phase)).split(",")
        known = {str(phase): phase for phase in model_run.Phase}
        for name in names:
            if name.strip() not in known:
                raise BadRun(no_choice("--phase", name.strip(), known))
        return tuple(dict.fromkeys(known[name.strip()] for name in names))


def with_asked(command: Callable[..., None]) -> Callable[..., None]:
    """Replace the parameter `asked` of a command by an option for each field of `Asked`."""
    signature = inspect.signature(command, eval_str=True)
    hints = get_type_hints(Asked, include_extras=True)

    @functools.wraps(command)
    def with_options(**options: Any) -> None:
        asked = Asked(**{field.name: options.pop(field.name) for field in fields(Asked)})
        command(asked=asked, **options)

    named = [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
        )
        for field in fields(Asked)
    ]
    parameters = [new for old in signature.parameters.values() for new in (named if old.name == "asked" else [old])]
    vars(with_options)["__signature__"] = signature.replace(parameters=parameters)
    return with_options


def tell_what_is_left_out(chosen: selection.Selection, described: Environment) -> None:
    """Refuse a selection that is empty here, and say on stderr what of it is not measured."""
    limits = runner.limits_of(described, {})
    chosen.check(limits)
    for line in chosen.left_out(limits):
        typer.echo(line, err=True)
