"""`python -m bench run`: measures a suite, prints its tables, writes records, report and figures."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from bench import store
from bench.commands.asked import Asked, tell_what_is_left_out, with_asked
from bench.commands.options import (
    CASE_LIMIT_S,
    GpuOption,
    OutOption,
    ResumeOption,
    TimeLimitOption,
    exit_if,
    print_json,
)
from bench.passes import write_passes
from bench.record import Record
from predict.forms import Form, with_form
from predict.lazily import lazily
from reports.calibration.file import CALIBRATION
from reports.commands.options import print_run, write_files

with lazily():  # torch, pandas and matplotlib
    from bench import env, lab, runner, trial, worker
    from bench.commands import carrying_out
    from reports.report import page
    from reports.run import calibrate as calibration
    from reports.run import load

EXAMPLES = """Examples:

python -m bench run

python -m bench run --gpu h100 --suite standard --out runs/h100

python -m bench run --gpu h100 --suite standard --out runs/h100 --resume

python -m bench run --op matmul m=1,16,256 n=8192 k=8192 --dtype bf16

python -m bench run --model llama-3-8b --phase decode --batch 1,8,64 --context 8k

python -m bench run --op matmul m=64 n=4096 k=4096 --callable mypackage.kernels:my_gemm

python -m bench run --suite standard --only 'attention_*' --implementation torch,triton
"""


@with_form
@with_asked
def run(
    *,
    asked: Asked,
    gpu: GpuOption = None,
    out: OutOption = None,
    resume: ResumeOption = False,
    force: Annotated[
        bool, typer.Option("--force", help="Go on although this is not --gpu, and mark the records.")
    ] = False,
    warm_cache: Annotated[bool, typer.Option("--warm-cache", help="Let operands stay in the cache.")] = False,
    budget_s: Annotated[
        float | None, typer.Option(min=0.01, metavar="SECONDS", help="Sampling time of a case.")
    ] = None,
    case_limit_s: Annotated[
        float, typer.Option(min=1, metavar="SECONDS", help="Stop a case that takes longer.")
    ] = CASE_LIMIT_S,
    time_limit_s: TimeLimitOption = None,
    calibrate: Annotated[
        bool,
        typer.Option(
            "--calibrate/--no-calibrate",
            help="Fit expected times if all probes were measured.",
            rich_help_panel="Expected times",  # two names take a column of their own, which others have no room for
        ),
    ] = True,
    form: Form,
) -> None:
    """Measure this machine's roofs, then a suite or what you name; print the table, write records, report and figures.

    A GPU's run that measured all probes of an op (suites calibration, standard, full) also gets its own calibration.
    Exits with status 1 if a case was incorrect, impossible, crashed or timed out.
    """
    device = env.choose_device(gpu)
    selection, budget = asked.selection(device), carrying_out.make_budget(budget_s or asked.budget_s)
    settings = lab.Settings(device, gpu, force, warm_cache, budget)
    with contextlib.closing(worker.WorkerBench(lab.make_lab, settings, job_limit_s=case_limit_s)) as bench:
        tell_what_is_left_out(selection, bench.environment)
        trial.try_callables(selection.jobs(runner.limits_of(bench.environment, {})), bench)
        folder = out or carrying_out.default_folder(bench.environment)
        plan = runner.plan_of(selection, folder, resume=resume, time_limit_s=time_limit_s, case_limit_s=case_limit_s)
        records = carrying_out.carry_out(plan, bench)
    limits = runner.limits_of(records[-1].environment, records[-1].roofs.measured)
    write_passes(folder, selection.passes(limits))
    fits = calibrate_where_measured(folder) if calibrate else ()
    _tell(folder, records, fits, {job.key for job in selection.jobs(limits)}, form)
    exit_if(any(record.status in runner.FAILED for record in records))


def calibrate_where_measured(folder: Path) -> tuple[calibration.RunFit, ...]:
    """Write the run's own calibration; none if no op has all of its probes, or the GPU is unknown."""
    loaded = load.read_records(folder)
    fits = calibration.fit_run(loaded)
    if fits:
        calibration.write_calibration(loaded, folder, fits)
    return fits


def _tell(
    folder: Path,
    records: tuple[Record, ...],
    fits: tuple[calibration.RunFit, ...],
    asked: Collection[tuple[str, str]],
    form: Form,
) -> None:
    """Write the report, and print the summary as JSON, or the tables of what was asked for."""
    loaded = load.load_records(folder)
    report = write_files(loaded, folder)
    if form is Form.JSON:
        print_json(_summary(folder, report, records, fits))
        return
    print_run(loaded.only(asked), form)
    if form is Form.PAGE:
        typer.echo("".join(f"{calibration.fit_headline(fit)}\n" for fit in fits), nl=False)
        typer.echo(f"records  {folder / store.RECORDS}\nreport   {report}")
        if (folder / page.PAGE).exists():
            typer.echo(f"page     {folder / page.PAGE}")


def _summary(
    folder: Path, report: Path, records: tuple[Record, ...], fits: tuple[calibration.RunFit, ...]
) -> dict[str, object]:
    return {
        "out": str(folder),
        "records": str(folder / store.RECORDS),
        "report": str(report),
        "calibration": str(folder / CALIBRATION) if fits else None,
        "environment": asdict(records[-1].environment),
        "count_by_status": Counter(record.status.value for record in records),
    }
