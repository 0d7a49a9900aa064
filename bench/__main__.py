"""`python -m bench`: measure this machine.

    python -m bench run --gpu h100 --suite quick --out runs/h100

prints the table of the run and writes records.jsonl, report.md and figures into runs/h100. `list` says what a suite
runs and how long it takes, `doctor` what would spoil a measurement, `tune` ranks the configurations of a kernel, and
`evidence` does all that a GPU is needed for.
"""

import contextlib
import json
from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Group
from rich.table import Table
from rich.text import Text

from bench import evidence, store, tune
from bench.doctor import Finding, Level, examine
from bench.env import choose_device, environment, unknown_line
from bench.forecast import forecast_s
from bench.lab import Settings, make_lab
from bench.measure import Budget
from bench.progress import ProgressBar
from bench.record import Environment, Record
from bench.runner import FAILED, Plan, Runner, limits_of, roof_probe_jobs, suite_jobs, suite_plan
from bench.suites import SUITES, check_suite
from bench.tune import Ranking, Tuning
from bench.worker import Bench, WorkerBench
from predict.command_line import run_command_line
from predict.errors import BadRun
from predict.units import duration, find_dtype, percent
from reports.__main__ import console, print_run
from reports.calibration.file import CALIBRATION
from reports.run.calibrate import RunFit, fit_headline, fit_run, write_calibration
from reports.run.load import load_records, read_records
from reports.run.page import write_report
from reports.run.tables import times

app = typer.Typer(
    help="Measure this machine's GPU, or its CPU, against napkin math.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

RUN_EXAMPLES = """Examples:

python -m bench run

python -m bench run --gpu h100 --suite standard --out runs/h100

python -m bench run --gpu h100 --suite standard --out runs/h100 --resume
"""

GpuOption = Annotated[
    str | None, typer.Option(help="The card this must be (h100, h200-sxm, ...), or cpu; default: what is detected.")
]
SuiteOption = Annotated[str, typer.Option("--suite", help=f"One of: {', '.join(SUITES)}.")]
OutOption = Annotated[Path | None, typer.Option(help="Folder for the results; default: a new one under runs/.")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on with the records in --out.")]
TimeLimitOption = Annotated[float | None, typer.Option(min=1, help="Begin no case after this many seconds.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]

CASE_LIMIT_S = 120.0

# The most seconds of sampling that a case gets; it stops earlier if its median is known.
SUITE_BUDGET_S = {"smoke": 0.1, "quick": 0.3, "standard": 0.5, "full": 1.0, "kernels": 0.5, "calibration": 0.5}
TUNING_BUDGET_S = 0.3


@app.command(epilog=RUN_EXAMPLES)
def run(
    *,
    gpu: GpuOption = None,
    suite_name: SuiteOption = "quick",
    out: OutOption = None,
    resume: ResumeOption = False,
    force: Annotated[
        bool, typer.Option("--force", help="Go on although this is not --gpu, and mark the records.")
    ] = False,
    warm_cache: Annotated[bool, typer.Option("--warm-cache", help="Let operands stay in the cache.")] = False,
    budget_s: Annotated[float | None, typer.Option(min=0.01, help="Sampling time per case, in seconds.")] = None,
    case_limit_s: Annotated[float, typer.Option(min=1, help="Stop a case that takes longer.")] = CASE_LIMIT_S,
    time_limit_s: TimeLimitOption = None,
    calibrate: Annotated[
        bool, typer.Option("--calibrate/--no-calibrate", help="Fit expected times if all probes were measured.")
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Measure this machine's roofs, then a suite; print the table, write records, report and figures.

    A GPU's run that measured all probes of an op (suites calibration, standard, full) also gets its own calibration.
    Exits with status 1 if a case was incorrect, impossible, crashed or timed out.
    """
    check_suite(suite_name)
    device = choose_device(gpu)
    budget = make_budget(SUITE_BUDGET_S[suite_name] if budget_s is None else budget_s)
    settings = Settings(device, gpu, force, warm_cache, budget)
    with contextlib.closing(WorkerBench(make_lab, settings, job_limit_s=case_limit_s)) as bench:
        folder = out or default_folder(bench.environment)
        records = carry_out(suite_plan(suite_name, folder, resume=resume, time_limit_s=time_limit_s), bench)
    fits = calibrate_where_measured(folder) if calibrate else ()
    loaded = load_records(folder)
    report = write_report(loaded, folder)
    if as_json:
        _print_json(_summary(folder, report, records, fits))
    else:
        print_run(loaded)
        typer.echo("".join(f"{fit_headline(fit)}\n" for fit in fits), nl=False)
        typer.echo(f"records  {folder / store.RECORDS}\nreport   {report}")
    _exit_if(any(record.status in FAILED for record in records))


@app.command("tune", epilog="Example: python -m bench tune --op matmul --gpu h200 --out runs/tune-matmul")
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
    if choose_device(gpu) != "cuda":
        raise BadRun("tuning needs a CUDA device, and none was found; `make compile` describes kernels without one")
    settings = Settings("cuda", gpu, force=False, warm_cache=False, budget=make_budget(budget_s))
    with contextlib.closing(WorkerBench(make_lab, settings, job_limit_s=CASE_LIMIT_S)) as bench:
        described = bench.environment
        folder = out or default_folder(described, f"tune-{op}")
        records = carry_out(tune.tuning_plan(workloads, folder, resume=resume, time_limit_s=time_limit_s), bench)
    tunings = tune.read_tunings(records, workloads)
    if as_json:
        found = [asdict(each) for each in tunings]
        _print_json({"records": str(folder / store.RECORDS), "environment": asdict(described), "tunings": found})
    else:
        for each in tunings:
            console().print(_tuning_tables(each))
        typer.echo(f"records  {folder / store.RECORDS}")
    _exit_if(any(record.status in FAILED for record in records))


@app.command("list")
def list_jobs(*, suite_name: SuiteOption = "quick", gpu: GpuOption = None, as_json: JsonOption = False) -> None:
    """List what a suite would run here, in order, and about how long each case takes.

    Roof probes come first, then one size of each headline, then what calibrates expected times; what is slow, or is
    compiled for each shape, comes last. The times are rough: bench/forecast.py has the formula. On a CPU a run also
    chooses the dtype, and leaves out what would take too long, once it has measured the roofs.
    """
    device = choose_device(gpu)
    described = environment(device, gpu=None if device == "cpu" else gpu, force=False, warm_cache=False)
    limits = limits_of(described, {})
    jobs = (*roof_probe_jobs(limits), *suite_jobs(suite_name, limits))
    estimates_s = forecast_s(jobs, described, make_budget(SUITE_BUDGET_S[suite_name]))
    if as_json:
        _print_json(
            [
                {"workload": job.workload.id, "implementation": job.implementation, "estimate_s": estimate_s}
                for job, estimate_s in zip(jobs, estimates_s, strict=True)
            ]
        )
        return
    for job, estimate_s in zip(jobs, estimates_s, strict=True):
        estimate = "no estimate" if estimate_s is None else f"about {duration(estimate_s, 2)}"
        typer.echo(f"{job.workload.id}  {job.implementation}  {estimate}")
    typer.echo(f"{len(jobs)} cases on {described.name}{_total(estimates_s)}", err=True)


@app.command()
def doctor(*, gpu: GpuOption = None, as_json: JsonOption = False) -> None:
    """Say what this machine is, whether it matches the table, and what would spoil a measurement.

    Exits with status 1 if something would.
    """
    findings = examine(gpu)
    if as_json:
        _print_json([asdict(finding) for finding in findings])
    else:
        console().print(_findings_table(findings))
    _exit_if(any(finding.level is Level.PROBLEM for finding in findings))


@app.command("evidence")
def collect_evidence(
    *,
    out: Annotated[Path, typer.Option(help="An empty or new folder.")],
    gpu: GpuOption = None,
    time_limit_s: Annotated[float, typer.Option(min=evidence.LEAST_LIMIT_S, help="For all of it together.")] = 510.0,
) -> None:
    """On a GPU: smoke tests of the harness, doctor, standard suite, report, and longer tests as time is left.

    Writes at most 8 files of at most 16 MiB: evidence.txt, records.jsonl, report.md and figures; a step that is cut off
    leaves what it has written. Exits with status 1 if anything failed.
    """
    if choose_device(gpu) != "cuda":
        raise BadRun("evidence needs a CUDA device, and none was found; `python -m bench run` measures this CPU")
    _exit_if(not evidence.collect(out, gpu=gpu, time_limit_s=time_limit_s))


def carry_out(plan: Plan, bench: Bench) -> tuple[Record, ...]:
    """Run the plan with a progress bar. Ctrl-C exits with status 130; that and a lost worker say how to go on."""
    runner = Runner(plan, bench)
    announce(bench.environment, plan.out)
    try:
        with ProgressBar() as progress:
            records = runner.run(progress)
    except KeyboardInterrupt:
        typer.echo(f"stopped; records are kept; go on with --out {plan.out} --resume", err=True)
        raise typer.Exit(130) from None
    if runner.lost is not None:
        typer.echo(f"ended early: {runner.lost}; go on with --out {plan.out} --resume", err=True)
    return records


def make_budget(time_s: float) -> Budget:
    """The budget of a case that is sampled for `time_s` at most."""
    return Budget(time_s, warmup_s=time_s / 4)


def default_folder(described: Environment, *what: str) -> Path:
    """runs/<utc>-<device>[-<what>] below the current folder."""
    utc = datetime.fromisoformat(described.utc).astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    return Path("runs") / "-".join([utc, described.gpu or described.device, *what])


def calibrate_where_measured(folder: Path) -> tuple[RunFit, ...]:
    """Write the run's own calibration; none if no op has all of its probes, or the GPU is unknown."""
    loaded = read_records(folder)
    fits = fit_run(loaded)
    if fits:
        write_calibration(loaded, folder, fits)
    return fits


def announce(described: Environment, folder: Path) -> None:
    """Say on stderr what is measured, and which roofs judge it."""
    lines = [f"measuring {described.name}" + (f" ({described.gpu})" if described.gpu else "") + f" into {folder}"]
    if described.device == "cpu":
        lines.append("no GPU: this run measures the CPU, and judges it by its measured roofs")
    elif described.gpu is None:
        what = "this is a slice of a card" if described.mig else "this card is not in the table"
        lines.append(f"{what}: judged by its measured roofs only")
    if described.forced:
        lines.append(f"FORCED: judged as {described.gpu} although this is {described.name}; the records say so")
    lines += [f"MISMATCH: the driver says {mismatch}" for mismatch in described.mismatches]
    if described.unknown:
        lines.append(unknown_line(described))
    typer.echo("\n".join(lines), err=True)


def _print_json(data: object) -> None:
    typer.echo(json.dumps(data, indent=2))


def _exit_if(failed: bool) -> None:  # noqa: FBT001 - reads as a sentence
    if failed:
        raise typer.Exit(1)


def _total(estimates_s: tuple[float | None, ...]) -> str:
    """The estimate of a whole run, for the end of a sentence."""
    known_s = [each for each in estimates_s if each is not None]
    unknown = len(estimates_s) - len(known_s)
    without = f"{unknown} have no estimate: no datasheet roof is known for them" if unknown else ""
    total = f"about {sum(known_s) / 60:.1f} minutes by estimate" if known_s else ""
    return "".join(f"; {text}" for text in (total, without) if text)


def _summary(folder: Path, report: Path, records: tuple[Record, ...], fits: tuple[RunFit, ...]) -> dict[str, object]:
    return {
        "out": str(folder),
        "records": str(folder / store.RECORDS),
        "report": str(report),
        "calibration": str(folder / CALIBRATION) if fits else None,
        "environment": asdict(records[-1].environment),
        "count_by_status": Counter(record.status.value for record in records),
    }


def _tuning_tables(tuning: Tuning) -> Group:
    """A table for each shape, one of the configurations over all shapes, and what the default choice costs."""
    title = f"{tuning.op} in {tuning.dtype}, all shapes"
    scores = _plain_table(title, "configuration", "geometric mean\nof times best", "shapes\nmeasured", "best at")
    for score in (*tuning.scores, tuning.default):
        mean = "" if score.times_best is None else times(score.times_best)
        scores.add_row(score.configuration, mean, f"{score.measured} of {len(tuning.rankings)}", str(score.best_at))
    return Group(*(_ranking_table(ranking) for ranking in tuning.rankings), scores, _verdict(tuning), "")


def _ranking_table(ranking: Ranking) -> Group:
    """A row for each measured configuration, a line with the reason for the others."""
    headings = ("rank", "time", "+-", "times\nbest", f"% of\n{ranking.roof}", "error", "allowed")
    table = _plain_table(ranking.workload, "configuration", *headings)
    reasons: dict[tuple[str, str], list[str]] = {}
    for row in ranking.rows:
        if row.time_s is None:
            reasons.setdefault((row.status.value, row.reason or ""), []).append(row.configuration)
            continue
        numbers = (
            (row.rank, str), (row.time_s, duration), (row.half_width, percent), (row.times_best, times),
            (row.of_roof, percent), (row.relative_error, "{:.1e}".format), (row.relative_bound, "{:.1e}".format),
        )  # fmt: skip
        table.add_row(row.configuration, *("" if value is None else text(value) for value, text in numbers))
    lines = [Text(f"{status}: {', '.join(names)}: {reason}", "yellow") for (status, reason), names in reasons.items()]
    return Group(table, *lines, "")


def _verdict(tuning: Tuning) -> Text:
    default = tuning.default
    if default.times_best is None:
        return Text("the launcher's default could not be compared", "bold")
    return Text(
        f"the launcher's default takes {times(default.times_best)} the time of the fastest configuration,"
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


def _findings_table(findings: tuple[Finding, ...]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("", "subject", "finding", "what to do"):
        table.add_column(heading, overflow="fold")
    colors = {Level.OK: "green", Level.WARNING: "yellow", Level.PROBLEM: "red"}
    for finding in findings:
        level = Text(finding.level, style=colors[finding.level])
        table.add_row(level, Text(finding.subject), Text(finding.text), Text(finding.remedy or ""))
    return table


if __name__ == "__main__":
    run_command_line(app, "python -m bench")
