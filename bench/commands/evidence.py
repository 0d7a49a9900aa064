"""`python -m bench evidence`: all that a GPU is needed for, in under 9 minutes."""

from pathlib import Path
from typing import Annotated

import typer

from bench import evidence
from bench.commands.options import GpuOption, exit_if
from predict.errors import BadRun
from predict.lazily import lazily

with lazily():  # torch
    from bench import env


def collect_evidence(
    *,
    out: Annotated[Path, typer.Option(help="An empty or new folder.")],
    gpu: GpuOption = None,
    time_limit_s: Annotated[
        float, typer.Option(min=evidence.LEAST_LIMIT_S, metavar="SECONDS", help="For all of it together.")
    ] = 510.0,
) -> None:
    """On a GPU: smoke tests of the harness, doctor, standard suite, report, and longer tests as time is left.

    Writes at most 8 files of at most 16 MiB: evidence.txt, records.jsonl, report.md and figures; a step that is cut off
    leaves what it has written. Exits with status 1 if anything failed.
    """
    if env.choose_device(gpu) != "cuda":
        raise BadRun("evidence needs a CUDA device, and none was found; `python -m bench run` measures this CPU")
    if absent := [file for file in evidence.LONG_TESTS if not Path(file).exists()]:
        raise BadRun(f"evidence runs the tests of a checkout, and there is no {absent[0]} here: run it in the checkout")
    exit_if(not evidence.collect(out, gpu=gpu, time_limit_s=time_limit_s))
