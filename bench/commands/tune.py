"""`python -m bench tune`: ranks the configurations of a Triton kernel."""

from __future__ import annotations

import contextlib
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Group
from rich.table import Table
from rich.text import Text

from bench import store
from bench.commands.options import (
    CASE_LIMIT_S,
    GpuOption,
    JsonOption,
    OutOption,
    ResumeOption,
    TimeLimitOption,
    exit_if,
    print_json,
)
from predict.errors import BadRun
from predict.lazily import lazily
from predict.units import duration, find_dtype, percent
from reports.commands.options import console

with lazily():  # torch and pandas
    from bench import env, lab, runner, tune, worker
    from bench.commands import carrying_out
    from reports.run import tables

EXAMPLES = "Example: python -m bench tune --op matmul --gpu h200 --out runs/tune-matmul"
TUNING_BUDGET_S = 0.3


def tune_op(
    *,
    op: Annotated[str, typer.Option(help="The op whose Triton kernel is tuned: matmul, softmax, ...")],
    dtype: Annotated[str | None, typer.Option(help="Of all shapes; default: the usual one of the op.")] = None,
    gpu: GpuOption = None,
    out: OutOption = None,
    resume: ResumeOption = False,
    time_limit_s: TimeLimitOption = None,
    budget_s: Annotated[float, typer.Option(min=0.01, help="Sampling time per case, in seconds.")] = TUNING_BUDGET_S,
    as_json: JsonOption = False,
) -> None:
    """Measure every configuration of an op's Triton kernel on a list of shapes; print which is fastest where.

    Changes nothing: a person chooses the default by the table. Exits with status 1 if a configuration was incorrect,
    impossible, crashed or timed out.
    """
    workloads = tune.find_workloads(op, find_dtype(dtype) if dtype else None)
    if env.choose_device(gpu) != "cuda":
        raise BadRun("tuning needs a CUDA device, and none was found; `make compile` describes kernels without one")
    settings = lab.Settings("cuda", gpu, force=False, warm_cache=False, budget=carrying_out.make_budget(budget_s))
    with contextlib.closing(worker.WorkerBench(lab.make_lab, settings, job_limit_s=CASE_LIMIT_S)) as bench:
        described = bench.environment
        folder = out or carrying_out.default_folder(described, f"tune-{op}")
        plan = tune.tuning_plan(workloads, folder, resume=resume, time_limit_s=time_limit_s)
        records = carrying_out.carry_out(plan, bench)
    tunings = tune.read_tunings(records, workloads)
    if as_json:
        found = [asdict(each) for each in tunings]
        print_json({"records": str(folder / store.RECORDS), "environment": asdict(described), "tunings": found})
    else:
        for each in tunings:
            console().print(_tuning_tables(each))
        typer.echo(f"records  {folder / store.RECORDS}")
    exit_if(any(record.status in runner.FAILED for record in records))


def _tuning_tables(tuning: tune.Tuning) -> Group:
    """A table for each shape, one of the configurations over all shapes, and what the default choice costs."""
    title = f"{tuning.op} in {tuning.dtype}, all shapes"
    scores = _plain_table(title, "configuration", "geometric mean\nof times best", "shapes\nmeasured", "best at")
    for score in (*tuning.scores, tuning.default):
        mean = "" if score.times_best is None else tables.times(score.times_best)
        scores.add_row(score.configuration, mean, f"{score.measured} of {len(tuning.rankings)}", str(score.best_at))
    return Group(*(_ranking_table(ranking) for ranking in tuning.rankings), scores, _verdict(tuning), "")


def _ranking_table(ranking: tune.Ranking) -> Group:
    """A row for each measured configuration, a line with the reason for the others."""
    headings = ("rank", "time", "+-", "times\nbest", f"% of\n{ranking.roof}", "error", "allowed")
    table = _plain_table(ranking.workload, "configuration", *headings)
    reasons: dict[tuple[str, str], list[str]] = {}
    for row in ranking.rows:
        if row.time_s is None:
            reasons.setdefault((row.status.value, row.reason or ""), []).append(row.configuration)
            continue
        numbers = (
            (row.rank, str), (row.time_s, duration), (row.half_width, percent), (row.times_best, tables.times),
            (row.of_roof, percent), (row.relative_error, "{:.1e}".format), (row.relative_bound, "{:.1e}".format),
        )  # fmt: skip
        table.add_row(row.configuration, *("" if value is None else text(value) for value, text in numbers))
    lines = [Text(f"{status}: {', '.join(names)}: {reason}", "yellow") for (status, reason), names in reasons.items()]
    return Group(table, *lines, "")


def _verdict(tuning: tune.Tuning) -> Text:
    default = tuning.default
    if default.times_best is None:
        return Text("the launcher's default could not be compared", "bold")
    return Text(
        f"the launcher's default takes {tables.times(default.times_best)} the time of the fastest configuration,"
        f" geometric mean over {default.measured} shapes; none is faster at {default.best_at}",
        "bold",
    )


def _plain_table(title: str, first: str, *others: str) -> Table:
    """A table without lines: a column of text, the others of numbers."""
    table = Table(title=Text(title, "bold"), title_justify="left", box=None, padding=(0, 2, 0, 0))
    table.add_column(first, no_wrap=True)
    for heading in others:
        table.add_column(heading, justify="right", no_wrap=True)
    return table
