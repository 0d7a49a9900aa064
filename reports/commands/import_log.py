"""`python -m reports import`: the result of a server's benchmark beside the napkin at its load."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from predict.answers.question import ASKED
from predict.errors import BadQuantity
from predict.forms import Form, with_form
from predict.terminal import terminal_width
from predict.units import Kind, read_quantity
from reports.served.asked import ask_about
from reports.served.comparison import Comparison, compare_log
from reports.served.forms import read_logs
from reports.served.load import Given
from reports.served.log import ServedLog
from reports.served.page import (
    comparison_csv,
    comparison_json,
    comparison_markdown,
    comparison_page,
    runs_page,
    runs_table,
)

EXAMPLES = """Examples:

python -m reports import vllm_bench.json --model llama-3-8b --gpu h100 --gpus 1

python -m reports import throughput.json --model llama-3-70b --gpu h200 --gpus 4 --tp 4 --isl 1024 --osl 128 --json
"""
SERVER, FORMATS, LOAD = "Server", "Formats", "Load: what the file does not say"


def _asked(name: str, panel: str) -> Any:
    """The option of a field of `Question`, in its words."""
    asked = ASKED[name][1]
    return typer.Option(f"--{asked.option or name}", help=asked.help, rich_help_panel=panel)


def _load(said: str, metavar: str = "N") -> Any:
    return typer.Option(help=said, metavar=metavar, rich_help_panel=LOAD)


@with_form
def import_log(
    path: Annotated[Path, typer.Argument(metavar="LOG", help="Result of a server's benchmark, JSON or JSON lines.")],
    *,
    model: Annotated[
        str | None,
        typer.Option(help="A preset (see `python -m predict models`) or a config.json. Default: what the log names."),
    ] = None,
    gpu: Annotated[str | None, _asked("gpu", SERVER)] = None,
    gpus: Annotated[str | None, _asked("gpus", SERVER)] = None,
    tp: Annotated[str | None, _asked("tp", SERVER)] = None,
    pp: Annotated[str | None, _asked("pp", SERVER)] = None,
    dp: Annotated[str | None, _asked("dp", SERVER)] = None,
    ep: Annotated[str | None, _asked("ep", SERVER)] = None,
    link_between_nodes: Annotated[str | None, _asked("link_between_nodes_bytes_per_s", SERVER)] = None,
    hbm: Annotated[str | None, _asked("hbm_bytes", SERVER)] = None,
    weights: Annotated[str | None, _asked("weights", FORMATS)] = None,
    kv: Annotated[str | None, _asked("kv", FORMATS)] = None,
    compute: Annotated[str | None, _asked("compute", FORMATS)] = None,
    isl: Annotated[str | None, _load("Tokens of a prompt.")] = None,
    osl: Annotated[str | None, _load("Tokens that a request makes.")] = None,
    concurrency: Annotated[str | None, _load("Requests in flight on average.", "X")] = None,
    prefix: Annotated[str | None, _load("Prompt tokens that a prefix cache had.")] = None,
    tokens_per_step: Annotated[
        str | None, _load("Tokens that a step makes of a request: over 1 with speculative decoding.", "X")
    ] = None,
    run: Annotated[int | None, typer.Option(metavar="N", help="The N-th run of a file that holds several.")] = None,
    form: Form,
) -> None:
    """Set the result of a server's benchmark beside bound and expected time at its load, and say where a token's time
    goes. Reads results of vLLM, SGLang, TensorRT-LLM, AIPerf and GenAI-Perf."""
    typed = {
        "gpu": gpu,
        "gpus": gpus,
        "tp": tp,
        "pp": pp,
        "dp": dp,
        "ep": ep,
        "link_between_nodes_bytes_per_s": link_between_nodes,
        "hbm_bytes": hbm,
        "weights": weights,
        "kv": kv,
        "compute": compute,
    }
    fields = {name: value for name, value in typed.items() if value is not None}
    given = Given(
        isl=_size("isl", isl),
        osl=_size("osl", osl),
        concurrency=_positive("concurrency", concurrency),
        prefix=_size("prefix", prefix),
        tokens_per_step=_positive("tokens-per-step", tokens_per_step),
    )
    runs = read_logs(path, run)
    for reason in runs.refused:
        typer.echo(f"skipped {reason}", err=True)
    typer.echo(_text([_compare(log, given, model, fields) for log in runs.logs], form))


def _compare(log: ServedLog, given: Given, model: str | None, fields: dict[str, str]) -> Comparison:
    asked = ask_about(log, given, model, fields)
    return compare_log(asked.log, asked.load, asked.question, asked.notes)


def _text(found: list[Comparison], form: Form) -> str:
    if len(found) == 1:
        (one,) = found
        match form:
            case Form.JSON:
                return json.dumps(comparison_json(one), indent=2, allow_nan=False)
            case Form.CSV:
                return comparison_csv(one)
            case Form.MARKDOWN:
                return comparison_markdown(one)
            case Form.PAGE:
                return comparison_page(one, terminal_width())
    match form:
        case Form.JSON:
            return json.dumps([comparison_json(each) for each in found], indent=2, allow_nan=False)
        case Form.CSV:
            return runs_table(found).csv()
        case Form.MARKDOWN:
            return runs_table(found).markdown()
        case Form.PAGE:
            return runs_page(found, terminal_width())


def _size(name: str, text: str | None) -> int | None:
    """A number of tokens. Raises BadQuantity."""
    if text is None:
        return None
    number = read_quantity(text, name, Kind.SIZE)
    least = 0 if name == "prefix" else 1
    if not isinstance(number, int) or number < least:
        raise BadQuantity(f"{name} must be a whole number of at least {least}, not {text}")
    return number


def _positive(name: str, text: str | None) -> float | None:
    if text is None:
        return None
    number = read_quantity(text, name, Kind.PLAIN)
    least = 1 if name == "tokens-per-step" else 0
    if number <= 0 or number < least:
        raise BadQuantity(f"{name} must be {'at least 1' if least else 'positive'}, not {text}")
    return number
