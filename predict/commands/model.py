"""`python -m predict model`: estimates a whole model, as a page or in a form for other programs.

The options are the fields of `Question`. Several GPUs or counts make a table of machines.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from predict.answers.asking import ask, layout_gpus, named_model
from predict.answers.comparison import MachineRow, compare_machines, machine_page, machine_table
from predict.answers.estimate import Estimate, estimate_of
from predict.answers.lines import Use
from predict.answers.machine import read_machines
from predict.answers.page import page
from predict.commands.options import (
    By,
    Changes,
    Isl,
    Osl,
    Out,
    RequestsPerS,
    Tpot,
    Ttft,
    TypedTargets,
    unshown_options,
    with_options,
)
from predict.commands.uses import ByKernel, Everything, Explain, Serve, Train, read_uses
from predict.completion import model_names
from predict.errors import BadModel, BadQuantity
from predict.forms import Form, with_form
from predict.model.config.changes import read_changes
from predict.model.transformer import Model
from predict.terminal import terminal_width

EXAMPLES = """Examples:

python -m predict model llama-3-70b --gpu h100 --gpus 2 --batch 4 --seq 8192

python -m predict model --config path/to/config.json --gpu h200 --weights int4 --kv fp8 --context 4096 --json

python -m predict model llama-3-8b --set num_key_value_heads=32 --gpu h100 --context 32k

python -m predict model llama-3-70b --gpu h100,h200 --gpus 2,4,8 --price h100=2.5,h200=3.5 --batch 32

python -m predict model llama-3-70b --gpu h100,h200 --isl 4000 --osl 500 --ttft 1 --tpot 30ms --out fronts
"""


@with_options
@with_form
def model(
    preset: Annotated[
        str | None, typer.Argument(help="A model of `python -m predict models`.", autocompletion=model_names)
    ] = None,
    *,
    config: Annotated[Path | None, typer.Option(help="A Hugging Face config.json instead of a preset.")] = None,
    changes: Changes = None,
    serve: Serve = False,
    train: Train = False,
    everything: Everything = False,
    by_kernel: ByKernel = False,
    show_arithmetic: Explain = False,
    form: Form,
    isl: Isl = None,
    osl: Osl = None,
    ttft: Ttft = None,
    tpot: Tpot = None,
    requests_per_s: RequestsPerS = None,
    by: By = None,
    out: Out = None,
    **typed: Any,  # a text, or texts
) -> None:
    """Estimate a whole model: does it fit, how fast is it, what does it cost. Each line shows its formula.

    Numbers are read as people write them: 8k is 8 x 1024, 15T, 80GB, 80GiB, 30ms.

    Several GPUs (--gpu h100,h200) or counts (--gpus 2,4,8) print a table with a line for each machine. --isl and --osl
    search the cheapest server of requests of these lengths.
    """
    asked = asked_model(preset, config, changes)
    uses = read_uses(serve=serve, train=train, everything=everything)
    gpu, gpus, price = (typed.pop(name) for name in ("gpu", "gpus", "usd_per_gpu_hour"))
    fields = {name: value for name, value in typed.items() if value is not None}
    targets = TypedTargets(isl, osl, ttft, tpot, requests_per_s, by, out)
    if by_kernel and (targets.are_given or Use.TRAIN in uses or show_arithmetic):
        raise BadQuantity(
            "--by-kernel lists the kernels of prefill and decode: leave out targets, --train and --explain"
        )
    if targets.are_given:
        if Use.TRAIN in uses:
            raise BadQuantity("targets are of a server: leave out --train and --all")
        from predict.commands.targets import targets_text  # noqa: PLC0415 - only targets need the search

        typer.echo(targets_text(asked, targets, (gpu, gpus, price), fields, form, explain=show_arithmetic))
        return
    machines = read_machines(gpu or [], gpus or [str(layout_gpus(fields))], price)
    if len(machines) > 1:
        if show_arithmetic or by_kernel:
            said = "--explain shows the arithmetic" if show_arithmetic else "--by-kernel lists the kernels"
            raise BadQuantity(f"{said} of one machine: give one --gpu and one --gpus")
        typer.echo(_machines_text(compare_machines(asked, machines, fields), form, uses))
        return
    if by_kernel:
        from predict.commands.by_kernel import kernels_text  # noqa: PLC0415 - only this option needs them

        typer.echo(kernels_text(ask(asked, {**fields, **machines[0].fields}), form))
        return
    found = estimate_of(asked, {**fields, **machines[0].fields})
    if form is Form.PAGE:
        remarks = unshown_options(fields, uses)
        typer.echo(page(found.question, found.answer, uses, remarks, explain=show_arithmetic, width=terminal_width()))
    else:
        typer.echo(_estimate_text(found, form, uses))


def _estimate_text(found: Estimate, form: Form, uses: frozenset[Use]) -> str:
    if form is Form.JSON:
        return found.to_json(uses)
    from predict.answers.exports import answer_csv, answer_markdown  # noqa: PLC0415 - only these forms need it

    return answer_csv(found.answer) if form is Form.CSV else answer_markdown(found.question, found.answer, uses)


def _machines_text(rows: Sequence[MachineRow], form: Form, uses: frozenset[Use]) -> str:
    tables = [machine_table(rows, use) for use in Use if use in uses]
    match form:
        case Form.JSON:
            return json.dumps([row.flat(uses) for row in rows], indent=2, allow_nan=False)
        case Form.CSV:
            return "\n\n".join(table.csv() for table in tables)
        case Form.MARKDOWN:
            return "\n\n".join(table.markdown() for table in tables)
        case Form.PAGE:
            return machine_page(rows, uses, terminal_width())


def asked_model(preset: str | None, config: Path | None, changes: Sequence[str] | None) -> str | Path | Model:
    """The one model that is asked for: by its name, its file, or read with fields changed. Raises BadModel."""
    given = [each for each in (preset, config) if each is not None]
    if len(given) != 1:
        raise BadModel("give either the name of a preset (see `python -m predict models`) or --config config.json")
    return named_model(given[0], read_changes(changes)) if changes else given[0]
