"""Carries out a plan for a command: tells what is measured, shows progress, and says how to go on."""

from datetime import UTC, datetime
from pathlib import Path

import typer

from bench.disturbance import disturbances
from bench.env import unknown_line
from bench.finding import Level
from bench.progress import ProgressBar
from bench.record import Environment, Record
from bench.runner import Plan, Runner
from bench.sampling import Budget
from bench.worker import Bench


def carry_out(plan: Plan, bench: Bench) -> tuple[Record, ...]:
    """Run the plan with a progress bar. Ctrl-C exits with status 130; that and a lost worker say how to go on."""
    runner = Runner(plan, bench)
    announce(bench.environment, plan.out)
    warn(bench.environment)
    try:
        with ProgressBar() as progress:
            records = runner.run(progress)
    except KeyboardInterrupt:
        typer.echo(f"stopped; records are kept; go on with --out {plan.out} --resume", err=True)
        raise typer.Exit(130) from None
    if runner.lost is not None:
        typer.echo(f"ended early: {runner.lost}; go on with --out {plan.out} --resume", err=True)
    return records


def warn(described: Environment) -> None:
    """Say on stderr what would spoil the measurement that begins now, a line each; `bench doctor` says more."""
    for found in disturbances(described):
        if found.level is not Level.OK:
            typer.echo(f"WARNING: {found.subject}: {found.text}; {found.remedy}", err=True)


def make_budget(time_s: float) -> Budget:
    """The budget of a case that is sampled for `time_s` at most."""
    return Budget(time_s, warmup_s=time_s / 4)


def default_folder(described: Environment, *what: str) -> Path:
    """runs/<utc>-<device>[-<what>] below the current folder."""
    utc = datetime.fromisoformat(described.utc).astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    return Path("runs") / "-".join([utc, described.gpu or described.device, *what])


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
