"""How to measure a run, or one of its rows, again: commands and versions."""

import shlex
from collections.abc import Iterator

from bench.passes import ModelPass
from bench.record import FUNCTION, Environment, Record
from reports.run.load import Run


def run_commands(run: Run) -> tuple[str, ...]:
    """The commands that measure the run again, at its commit where the records name it: each pass of a model, or a
    suite, whose name the records do not know. Only suite `full` has other rows beside a model's passes."""
    environment = run.environment
    machine = shlex.quote(environment.gpu or environment.device)
    flags = "".join(
        f" {flag}"
        for flag, given in (("--warm-cache", environment.warm_cache), ("--force", environment.forced))
        if given
    )
    checkout = (f"git checkout {shlex.quote(environment.commit)}",) if environment.commit else ()
    if run.passes and not _has_more(run):
        return (*checkout, *(f"{_pass_command(each, machine)} --out runs/again{flags}" for each in run.passes))
    arguments = f' ARGS="{flags.strip()}"' if flags else ""
    suite = "full" if run.passes else "standard"
    return (*checkout, f"make bench GPU={machine} SUITE={suite} OUT=runs/again{arguments}")


def _has_more(run: Run) -> bool:
    """Whether a run has rows that are neither of its model's passes nor roof probes."""
    kernels = {kernel.workload.id for asked in run.passes for kernel in asked.kernels if kernel.workload}
    wholes = {whole.workload for asked in run.passes for whole in asked.wholes}
    others = (each.workload for each in run.records if each.workload.id not in kernels | wholes)
    return any(not each.op.startswith(("launch", "stream_", "matmul")) for each in others)


def _pass_command(asked: ModelPass, machine: str) -> str:
    """The command that measures one pass; a layout other than `tp N` cannot be measured, so none has another."""
    tokens = "--context" if asked.phase == "decode" else "--seq"
    size = f"--batch {asked.batch} {tokens} {asked.tokens} --{shlex.join(asked.layout.split())}"
    return (
        f"python -m bench run --gpu {machine} --model {shlex.quote(asked.model)} --phase {shlex.quote(asked.phase)}"
        f" {size} --dtype {asked.dtype.name}"
    )


def row_command(record: Record) -> str:
    """The command that measures one row again; "" for what no option of `bench run` names: a user's function without
    an op, and a configuration of a tuner."""
    workload, name = record.workload, record.implementation
    if workload.op.startswith(FUNCTION) or "@" in name:
        return ""
    chosen = ["--callable", name] if ":" in name else ["--implementation", name]
    words = ["--op", workload.op, *(f"{dim}={size}" for dim, size in workload.dims.items())]
    words += ["--dtype", workload.dtype.name, *chosen]
    return f"python -m bench run {shlex.join(words)}"


def version_rows(run: Run) -> tuple[tuple[str, str], ...]:
    """Name and version of what the run was measured with, of each environment; what is not known is left out."""
    return tuple(dict.fromkeys(pair for environment in run.environments for pair in _versions(environment, run)))


def _versions(environment: Environment, run: Run) -> Iterator[tuple[str, str]]:
    commit = environment.commit and f"{environment.commit}{' with local changes' if environment.dirty else ''}"
    versions = {
        "driver": environment.driver,
        "CUDA": environment.cuda,
        "torch": environment.torch,
        "Triton": environment.triton,
        "Python": environment.python,
        "platform": environment.platform,
        **dict(sorted(environment.packages.items())),
        "commit": commit,
        "harness": run.harnesses_text,
    }
    yield from ((name, version) for name, version in versions.items() if version)
