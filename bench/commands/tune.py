"""`python -m bench tune`: ranks the configurations of a Triton kernel."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Annotated

import typer

from bench import store
from bench.commands.options import (
    CASE_LIMIT_S,
    GpuOption,
    OutOption,
    ResumeOption,
    TimeLimitOption,
    exit_if,
    print_json,
)
from predict.errors import BadRun
from predict.forms import Form, with_form
from predict.lazily import lazily
from predict.table import Column, Table
from predict.terminal import Style, styled, terminal_width, wrapped
from predict.units import Unit, find_dtype, times

with lazily():  # torch
    from bench import env, lab, runner, tune, worker
    from bench.commands import carrying_out

EXAMPLES = "Example: python -m bench tune --op matmul --gpu h200 --out runs/tune-matmul"
TUNING_BUDGET_S = 0.3
RANKING_COLUMNS = (
    Column("configuration", "configuration", is_key=True),
    Column("rank", "rank", Unit.COUNT),
    Column("time_s", "time", Unit.SECONDS),
    Column("half_width", "+-", Unit.SHARE),
    Column("times_best", "times best", Unit.TIMES),
    Column("of_roof", "% of roof", Unit.SHARE),
    Column("relative_error", "error", Unit.RELATIVE_ERROR),
    Column("relative_bound", "allowed", Unit.RELATIVE_ERROR),
)
SCORE_COLUMNS = (
    Column("configuration", "configuration", is_key=True),
    Column("times_best", "geometric mean of times best", Unit.TIMES),
    Column("shapes", "shapes measured", Unit.WRITTEN),
    Column("best_at", "best at", Unit.COUNT),
)


@with_form
def tune_op(
    *,
    op: Annotated[str, typer.Option(help="The op whose Triton kernel is tuned: matmul, softmax, ...")],
    dtype: Annotated[str | None, typer.Option(help="Of all shapes; default: the usual one of the op.")] = None,
    gpu: GpuOption = None,
    out: OutOption = None,
    resume: ResumeOption = False,
    time_limit_s: TimeLimitOption = None,
    budget_s: Annotated[
        float, typer.Option(min=0.01, metavar="SECONDS", help="Sampling time of a case.")
    ] = TUNING_BUDGET_S,
    form: Form,
) -> None:
    """Measure every configuration of an op's Triton kernel on a list of shapes; print which is fastest where.

    Changes nothing: a person chooses the default by the table. Exits with status 1 if a configuration was incorrect,
    impossible, crashed or timed out.
    """
    workloads = tune.find_workloads(op, find_dtype(dtype) if dtype else None)
    if env.choose_device(gpu) != "cuda":
        raise BadRun(
            "tuning needs a CUDA device, and none was found; `python -m kernels compile` describes kernels without one"
        )
    settings = lab.Settings("cuda", gpu, force=False, warm_cache=False, budget=carrying_out.make_budget(budget_s))
    with contextlib.closing(worker.WorkerBench(lab.make_lab, settings, job_limit_s=CASE_LIMIT_S)) as bench:
        described = bench.environment
        folder = out or carrying_out.default_folder(described, f"tune-{op}")
        plan = tune.tuning_plan(workloads, folder, resume=resume, time_limit_s=time_limit_s)
        records = carrying_out.carry_out(plan, bench)
    tunings = tune.read_tunings(records, workloads)
    match form:
        case Form.JSON:
            found = [asdict(each) for each in tunings]
            print_json({"records": str(folder / store.RECORDS), "environment": asdict(described), "tunings": found})
        case Form.CSV:
            typer.echo(all_rankings(tunings).csv())
        case Form.MARKDOWN:
            typer.echo("\n\n".join(f"## {title}\n\n{table.markdown()}" for title, table in _tables(tunings)))
        case Form.PAGE:
            typer.echo("\n".join(line for each in tunings for line in _tuning_lines(each, terminal_width())))
            typer.echo(f"records  {folder / store.RECORDS}")
    exit_if(any(record.status in runner.FAILED for record in records))


def all_rankings(tunings: Iterable[tune.Tuning]) -> Table:
    """A row for each configuration on each shape, measured or not."""
    rows = (
        {"op": each.op, "dtype": each.dtype, "workload": ranking.workload, "roof": ranking.roof, **asdict(row)}
        for each in tunings
        for ranking in each.rankings
        for row in ranking.rows
    )
    names = (Column(name, name) for name in ("op", "dtype", "workload", "roof"))
    return Table((*names, *RANKING_COLUMNS, Column("status", "status"), Column("reason", "reason")), tuple(rows))


def _tables(tunings: Iterable[tune.Tuning]) -> Iterator[tuple[str, Table]]:
    """The tables of all shapes with their titles, then of all configurations over them."""
    for each in tunings:
        yield from ((ranking.workload, _ranking_table(ranking)) for ranking in each.rankings)
        yield _scores_title(each), _scores_table(each)


def _tuning_lines(tuning: tune.Tuning, width: int) -> Iterator[str]:
    """A table for each shape, one of the configurations over all shapes, and what the default choice costs."""
    for ranking in tuning.rankings:
        yield from (styled(line, Style.BOLD) for line in wrapped(ranking.workload, width))
        yield _ranking_table(ranking).text(width)
        for reason in _reasons(ranking):
            yield from (styled(line, Style.YELLOW) for line in wrapped(reason, width))
        yield ""
    yield from (styled(line, Style.BOLD) for line in wrapped(_scores_title(tuning), width))
    yield _scores_table(tuning).text(width)
    yield from (styled(line, Style.BOLD) for line in wrapped(_verdict(tuning), width))
    yield ""


def _ranking_table(ranking: tune.Ranking) -> Table:
    """A row for each measured configuration."""
    columns = (*RANKING_COLUMNS[:-3], Column("of_roof", f"% of {ranking.roof}", Unit.SHARE), *RANKING_COLUMNS[-2:])
    return Table(columns, tuple(asdict(row) for row in ranking.rows if row.time_s is not None))


def _reasons(ranking: tune.Ranking) -> Iterator[str]:
    """A line for each reason why configurations were not measured."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for row in ranking.rows:
        if row.time_s is None:
            reasons.setdefault((row.status.value, row.reason or ""), []).append(row.configuration)
    return (f"{status}: {', '.join(names)}: {reason}" for (status, reason), names in reasons.items())


def _scores_title(tuning: tune.Tuning) -> str:
    return f"{tuning.op} in {tuning.dtype}, all shapes"


def _scores_table(tuning: tune.Tuning) -> Table:
    shapes = len(tuning.rankings)
    rows = ({**asdict(score), "shapes": f"{score.measured} of {shapes}"} for score in (*tuning.scores, tuning.default))
    return Table(SCORE_COLUMNS, tuple(rows))


def _verdict(tuning: tune.Tuning) -> str:
    default = tuning.default
    if default.times_best is None:
        return "the launcher's default could not be compared"
    return (
        f"the launcher's default takes {times(default.times_best)} the time of the fastest configuration,"
        f" geometric mean over {default.measured} shapes; none is faster at {default.best_at}"
    )
