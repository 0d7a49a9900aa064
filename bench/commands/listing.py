"""`python -m bench list`: what a suite would run here, and about how long it takes."""

from __future__ import annotations

import typer

from bench.commands.asked import Asked, tell_what_is_left_out, with_asked
from bench.commands.options import GpuOption
from predict.forms import Form, table_text, with_form
from predict.lazily import lazily
from predict.table import Column, Table
from predict.units import Unit

with lazily():  # torch
    from bench import env, forecast, runner
    from bench.commands import carrying_out

COLUMNS = (
    Column("workload", "workload", is_key=True),
    Column("implementation", "implementation", is_key=True),
    Column("estimate_s", "about", Unit.SECONDS),
)


@with_form
@with_asked
def list_jobs(
    *,
    asked: Asked,
    gpu: GpuOption = None,
    form: Form,
) -> None:
    """List what `run` would measure here, in order, and about how long each case takes.

    Roof probes come first, then one size of each headline, then what calibrates expected times; what is slow, or is
    compiled for each shape, comes last. The times are rough: bench/forecast.py has the formula. On a CPU a run also
    chooses the dtype, and leaves out what would take too long, once it has measured the roofs.
    """
    device = env.choose_device(gpu)
    described = env.environment(device, gpu=None if device == "cpu" else gpu, force=False, warm_cache=False)
    limits, selection = runner.limits_of(described, {}), asked.selection(device)
    tell_what_is_left_out(selection, described)
    jobs = (*runner.roof_probe_jobs(limits), *selection.probes(limits), *selection.jobs(limits))
    estimates_s = forecast.forecast_s(jobs, described, carrying_out.make_budget(asked.budget_s))
    rows = [
        {"workload": job.workload.id, "implementation": job.implementation, "estimate_s": estimate_s}
        for job, estimate_s in zip(jobs, estimates_s, strict=True)
    ]
    typer.echo(table_text(Table(COLUMNS, tuple(rows)), form, lambda: rows))
    typer.echo(f"{len(jobs)} cases on {described.name}{_total(estimates_s)}", err=True)


def _total(estimates_s: tuple[float | None, ...]) -> str:
    """The estimate of a whole run, for the end of a sentence."""
    known_s = [each for each in estimates_s if each is not None]
    unknown = len(estimates_s) - len(known_s)
    without = f"{unknown} have no estimate: no datasheet roof is known for them" if unknown else ""
    total = f"about {sum(known_s) / 60:.1f} minutes by estimate" if known_s else ""
    return "".join(f"; {text}" for text in (total, without) if text)
