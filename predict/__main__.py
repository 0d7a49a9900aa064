"""`python -m predict`: the napkin on the command line. Needs no GPU."""

import inspect
import json
import shutil
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from predict.command_line import run_command_line
from predict.errors import BadModel, BadQuantity, BadWorkload
from predict.estimate import page
from predict.estimate.answer import answer
from predict.estimate.batching import batch_rows
from predict.estimate.lines import Answer, plain
from predict.estimate.question import Question
from predict.expected.kernel import calibration_of, expect, explain_expected, with_expected
from predict.expected.time_model import Calibration, Machine
from predict.formulas.catalog import FORMULAS, evaluate, find_formula
from predict.formulas.memory import OPTIMIZERS, WEIGHT_FORMATS, Recompute, find_optimizer, find_weight_format
from predict.gpus import GPUS, Gpu, resolve
from predict.materialized import MATERIALIZED_OPS, materialized_amounts
from predict.model.config import read_config
from predict.model.passes import Logits, Mask
from predict.model.presets import PRESETS, find_model, find_preset
from predict.model.transformer import Model
from predict.peak_memory import Scores, peak_bytes
from predict.resources import find_ceiling
from predict.roofline import Prediction, explain, predict
from predict.units import DTYPES, Formats, binary_bytes, duration, find_dtype
from predict.workloads import OPS, Workload, dim_names, find_op, make_workload

app = typer.Typer(
    help="Predict how long work must take from its FLOP, its bytes and a GPU's roofs. Needs no GPU.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

PAGE_WIDTH = 100
Choice = TypeVar("Choice", bound=StrEnum)

KERNEL_EXAMPLES = """Examples:

python -m predict kernel matmul m=16 n=8192 k=8192 --dtype bf16 --gpu h100 --explain

python -m predict kernel attention_decode batch=64 context=4096 heads=32 kv_heads=8 head_dim=128 --gpu h200 --json
"""


@app.command(epilog=KERNEL_EXAMPLES)
def kernel(
    op: Annotated[str, typer.Argument(help=f"One of: {', '.join(OPS)}.")],
    dims: Annotated[list[str] | None, typer.Argument(help="Dimensions as name=size: m=16 n=8192 k=8192.")] = None,
    *,
    gpu: Annotated[str, typer.Option(help="GPU name or alias: see `python -m predict gpus`.")],
    dtype: Annotated[str, typer.Option(help=f"One of: {', '.join(DTYPES)}.")] = "bf16",
    show_arithmetic: Annotated[bool, typer.Option("--explain", help="Print the arithmetic, line by line.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, in SI units.")] = False,
) -> None:
    """Predict one kernel: the napkin bound, what limits it, what it is expected to take, and the arithmetic."""
    machine = resolve(gpu)
    workload = make_workload(op, parse_dims(dims or []), find_dtype(dtype))
    calibration = calibration_of(workload, machine)
    prediction = with_expected(predict(workload.amounts, machine.roofs), workload, machine, calibration)
    if as_json:
        typer.echo(json.dumps(_kernel_json(workload, machine, prediction, calibration), indent=2))
        return
    text = explain(workload, machine.name, prediction)
    if not show_arithmetic:
        typer.echo(text.splitlines()[0])
        return
    typer.echo(text)
    typer.echo(
        explain_expected(workload, machine, calibration)
        if calibration is not None
        else f"expected: not known, no calibration of {op} in {dtype} on {machine.name} ships"
    )
    typer.echo(_memory_lines(workload, machine))
    typer.echo(f"\n{_signature(op)}\n{inspect.getdoc(find_op(op))}")
    for resource in (term.resource for term in prediction.terms):
        typer.echo(f"{resource}: {find_ceiling(resource, machine.roofs).source}")


def _memory_lines(workload: Workload, machine: Gpu) -> str:
    """The most memory that a call needs, and for a prompt's attention what it costs to store its scores."""
    lines = [f"peak memory: {binary_bytes(peak_bytes(workload))} of inputs, outputs and what lies between kernels"]
    if workload.op in MATERIALIZED_OPS:
        stored_s = float(predict(materialized_amounts(workload), machine.roofs).napkin_s)
        stored_bytes = peak_bytes(workload, Scores.STORED)
        lines.append(f"with its scores in memory: napkin {duration(stored_s)}, peak {binary_bytes(stored_bytes)}")
    return "\n".join(lines)


MODEL_EXAMPLES = """Examples:

python -m predict model llama-3-70b --gpu h100 --gpus 2 --batch 8 --seq 8192

python -m predict model --config path/to/config.json --gpu h200 --weights int4 --kv fp8 --context 4096 --json
"""
DEFAULT_SEQ = 2048
CHINCHILLA_TOKENS_PER_PARAM = 20  # Hoffmann et al. 2022


@app.command(epilog=MODEL_EXAMPLES)
def model(
    preset: Annotated[str | None, typer.Argument(help="A model of `python -m predict models`.")] = None,
    *,
    config: Annotated[Path | None, typer.Option(help="A Hugging Face config.json instead of a preset.")] = None,
    gpu: Annotated[str, typer.Option(help="GPU name or alias: see `python -m predict gpus`.")],
    gpus: Annotated[int, typer.Option(help="GPUs: they share every layer of a replica; and they train.")] = 1,
    batch: Annotated[int, typer.Option(help="Requests decoded together; sequences of a training step.")] = 1,
    seq: Annotated[
        int | None, typer.Option(help=f"Tokens of a prompt. Default: --context, or {DEFAULT_SEQ} within the limit.")
    ] = None,
    context: Annotated[int | None, typer.Option(help="Cached tokens of a request in decode. Default: --seq.")] = None,
    attention: Annotated[str, typer.Option(help="causal counts the needed half, full the square.")] = Mask.CAUSAL,
    logits: Annotated[str, typer.Option(help="Positions projected to the vocabulary: all or last.")] = Logits.ALL,
    weights: Annotated[str, typer.Option(help=f"Stored weights: {', '.join(WEIGHT_FORMATS)}.")] = "bf16",
    kv: Annotated[str, typer.Option(help=f"KV cache: {', '.join(DTYPES)}.")] = "bf16",
    compute: Annotated[
        str, typer.Option(help="What matrices are multiplied in; fp8 weights alone do not change it.")
    ] = "bf16",
    recompute: Annotated[str, typer.Option(help=f"Activations: {', '.join(Recompute)}.")] = Recompute.NONE,
    optimizer: Annotated[str, typer.Option(help=f"One of: {', '.join(OPTIMIZERS)}.")] = "adam",
    tokens: Annotated[
        float | None, typer.Option(help="Training tokens. Default: what was published, else 20 per parameter.")
    ] = None,
    price: Annotated[float, typer.Option(help="$ per GPU-hour.")] = 2.0,
    token_price: Annotated[float | None, typer.Option(help="$ per 1M tokens sold, for the break-even.")] = None,
    hbm: Annotated[float | None, typer.Option(help="Bytes of memory per GPU. Default: what NVML reports.")] = None,
    overhead: Annotated[float, typer.Option(help="Bytes per GPU that the runtime keeps.")] = 0.0,
    mfu: Annotated[float | None, typer.Option(help="Share of peak FLOP/s reached. Default: none, the bound.")] = None,
    mbu: Annotated[float | None, typer.Option(help="Share of bandwidth reached. Default: none, the bound.")] = None,
    draft: Annotated[str | None, typer.Option(help="A preset that drafts for speculative decoding.")] = None,
    accept: Annotated[float, typer.Option(help="Chance that a drafted token is accepted.")] = 0.8,
    prefix: Annotated[int, typer.Option(help="Tokens of the prompt that are cached already.")] = 0,
    chunk: Annotated[int | None, typer.Option(help="Prefill in chunks of so many tokens.")] = None,
    show_arithmetic: Annotated[bool, typer.Option("--explain", help="Print the arithmetic, line by line.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print flat JSON, in SI units.")] = False,
) -> None:
    """The whole napkin of a model: FLOP, memory, prefill, decode, training, money; each line with its formula."""
    shape = _find_model(preset, config)
    usual = min(DEFAULT_SEQ, shape.context_limit or DEFAULT_SEQ)
    prompt = seq if seq is not None else context if context is not None and context > 0 else usual
    published, source = _training_tokens(preset, shape)
    question = Question(
        model=shape,
        gpu=resolve(gpu),
        gpus=gpus,
        batch=batch,
        seq=prompt,
        context=prompt if context is None else context,
        mask=_choice("attention", attention, Mask),
        logits=_choice("logits", logits, Logits),
        weights=find_weight_format(weights),
        kv=find_dtype(kv),
        compute=find_dtype(compute),
        recompute=_choice("recompute", recompute, Recompute),
        optimizer=find_optimizer(optimizer),
        tokens=published if tokens is None else tokens,
        tokens_source=source if tokens is None else "as given",
        usd_per_gpu_hour=price,
        token_price_usd_per_1m=token_price,
        hbm_bytes=hbm,
        overhead_bytes=overhead,
        mfu=mfu,
        mbu=mbu,
        draft=None if draft is None else find_model(draft),
        acceptance=accept,
        prefix=prefix,
        chunk=chunk,
    )
    found = answer(question)
    if as_json:
        typer.echo(json.dumps(_model_json(question, found), indent=2, allow_nan=False))
        return
    width = min(shutil.get_terminal_size((PAGE_WIDTH, 0)).columns, PAGE_WIDTH) if sys.stdout.isatty() else PAGE_WIDTH
    typer.echo(page.page(question, found, batch_rows(question), explain=show_arithmetic, width=width))


@app.command()
def models(
    *, as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with config fields and sources.")] = False
) -> None:
    """List the model presets: size, shape, KV cache per token, source."""
    if as_json:
        typer.echo(json.dumps({name: _preset_json(name) for name in PRESETS}, indent=2))
        return
    from predict import tables  # noqa: PLC0415 - rich takes a tenth of a second, which the other commands need not pay

    tables.show(tables.model_table())


@app.command(epilog="Example: python -m predict formula speculation.speedup alpha=0.8 k=4 c=0.15")
def formula(
    name: Annotated[str, typer.Argument(help="A formula of `python -m predict formulas`, its module may be left out.")],
    values: Annotated[list[str] | None, typer.Argument(help="Its arguments as name=value.")] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Work out one formula: batching, paging, speculation, collectives, pipelines, activations, money."""
    arguments = parse_pairs(values or [])
    full, function = find_formula(name)
    result = plain(evaluate(name, arguments))
    if as_json:
        typer.echo(json.dumps({"formula": full, "arguments": arguments, "value": result}, indent=2, allow_nan=False))
        return
    typer.echo(f"{full} = {result:.10g}\n\n{inspect.getdoc(function)}")


@app.command()
def formulas(*, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the formulas: arguments, meaning and source."""
    if as_json:
        listing = {
            name: {"arguments": list(inspect.signature(function).parameters), "meaning": inspect.getdoc(function)}
            for name, function in FORMULAS.items()
        }
        typer.echo(json.dumps(listing, indent=2))
        return
    for name, function in FORMULAS.items():
        arguments = ", ".join(inspect.signature(function).parameters)
        typer.echo(f"{name}({arguments})\n    {(inspect.getdoc(function) or '').replace(chr(10), chr(10) + '    ')}\n")


@app.command()
def gpus(
    *, as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with the source of each number.")] = False
) -> None:
    """List the GPUs of the table: dense peaks, bandwidth, ridge."""
    if as_json:
        typer.echo(json.dumps({name: _gpu_json(gpu) for name, gpu in GPUS.items()}, indent=2))
        return
    from predict import tables  # noqa: PLC0415 - as above

    tables.show(tables.gpu_table())


@app.command()
def ops(*, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the ops: their dimensions and the napkin of each."""
    if as_json:
        listing = {name: {"dims": dim_names(name), "napkin": inspect.getdoc(op)} for name, op in OPS.items()}
        typer.echo(json.dumps(listing, indent=2))
        return
    for name, op in OPS.items():
        typer.echo(f"{_signature(name)}\n    {(inspect.getdoc(op) or '').replace(chr(10), chr(10) + '    ')}\n")


def parse_dims(arguments: list[str]) -> dict[str, int]:
    """Read ["m=16", "n=8192"]; raises BadWorkload naming what is not name=size or stands twice."""
    dims: dict[str, int] = {}
    for name, size in parse_pairs(arguments).items():
        try:
            dims[name] = int(size)
        except ValueError:
            raise BadWorkload(f"{name} must be a positive whole number, not {size!r}") from None
    return dims


def parse_pairs(arguments: list[str]) -> dict[str, str]:
    """Read ["m=16", "k=4"]; raises BadWorkload naming what is not name=value or stands twice."""
    pairs: dict[str, str] = {}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not (name and equals):
            raise BadWorkload(f"sizes are written name=size, such as m=16, not {argument!r}")
        if name in pairs:
            raise BadWorkload(f"{name} is given twice")
        pairs[name] = value
    return pairs


def _find_model(preset: str | None, config: Path | None) -> Model:
    if (preset is None) == (config is None):
        raise BadModel("give either the name of a preset (see `python -m predict models`) or --config config.json")
    return read_config(config) if config is not None else find_model(preset or "")


def _training_tokens(preset: str | None, shape: Model) -> tuple[float, str]:
    """How many tokens the model was trained on, and who says so."""
    known = None if preset is None else find_preset(preset)[1]
    if known is None or known.training_tokens is None:
        return CHINCHILLA_TOKENS_PER_PARAM * shape.params, "20 per parameter, Hoffmann et al. 2022"
    return known.training_tokens, known.training_source


def _choice(name: str, value: str, choices: type[Choice]) -> Choice:
    try:
        return choices(value)
    except ValueError:
        raise BadQuantity(f"{name} must be one of {', '.join(choices)}, not {value!r}") from None


def _model_json(question: Question, found: Answer) -> dict[str, object]:
    asked = {
        "model": question.model.name,
        "gpu": question.gpu.name,
        "gpus": question.gpus,
        "batch": question.batch,
        "seq": question.seq,
        "context": question.context,
        "attention": question.mask,
        "logits": question.logits,
        "weights": question.weights.name,
        "kv": question.kv.name,
        "compute": question.compute.name,
        "recompute": question.recompute,
        "optimizer": question.optimizer.name,
        "training_tokens": question.tokens,
        "usd_per_gpu_hour": question.usd_per_gpu_hour,
        "hbm_bytes": question.memory_bytes,
        "overhead_bytes": question.overhead_bytes,
        "assumed_mfu": question.mfu,
        "assumed_mbu": question.mbu,
    }
    lines = {line.key: line.value for section in found.sections for line in section.lines}
    return {**asked, **lines, "notes": found.notes}


def _preset_json(name: str) -> dict[str, object]:
    preset, shape = PRESETS[name], find_model(name)
    return {
        "params": shape.params,
        "active_params": shape.active_params,
        "kv_elements_per_token": shape.kv_elements_per_token,
        "aliases": preset.aliases,
        "source": preset.source,
        "training_tokens": preset.training_tokens,
        "training_source": preset.training_source,
        "config": preset.config,
    }


def _signature(op: str) -> str:
    return f"{op}({', '.join(dim_names(op))})"


def _kernel_json(
    workload: Workload, machine: Gpu, prediction: Prediction, calibration: Calibration | None
) -> dict[str, object]:
    return {
        "workload": workload.id,
        "op": workload.op,
        "dims": dict(workload.dims),
        "dtype": workload.dtype.name,
        "gpu": machine.name,
        "flop": workload.amounts.flop,
        "bytes_read": workload.amounts.bytes_read,
        "bytes_written": workload.amounts.bytes_written,
        "arithmetic_intensity": workload.amounts.arithmetic_intensity if workload.amounts.bytes else None,
        "terms": [
            {
                "resource": term.resource,
                "amount": term.amount,
                "per_s": term.per_s,
                "time_s": term.time_s,
                "source": find_ceiling(term.resource, machine.roofs).source,
            }
            for term in prediction.terms
        ],
        "napkin_s": prediction.napkin_s,
        "serial_s": prediction.serial_s,
        "expected_s": prediction.expected_s,
        "bound": prediction.bound,
        "peak_bytes": peak_bytes(workload),
        **_expected_json(workload, machine, calibration),
    }


def _expected_json(workload: Workload, machine: Gpu, calibration: Calibration | None) -> dict[str, object]:
    """The terms of the expected time in seconds, and the calibration behind it; null where there is none."""
    if calibration is None:
        return {"expected_terms": None, "calibration": None}
    terms = expect(workload.dims, Machine.of(machine, workload.dtype), Formats.of(workload.dtype), calibration)
    return {
        "expected_terms": {name: float(part[0]) for name, part in terms.parts.items()},
        "calibration": {
            "source": calibration.source,
            "probes": calibration.probes,
            "constants": dict(calibration.constants),
            "switches": dict(calibration.switches),
        },
    }


def _gpu_json(gpu: Gpu) -> dict[str, object]:
    return {
        "nvml_names": gpu.nvml_names,
        "aliases": gpu.aliases,
        "sm": gpu.architecture.sm,
        "sm_count": gpu.sm_count,
        "boost_hz": gpu.boost_hz,
        "max_hz": gpu.max_hz,
        "memory_bytes": gpu.memory.bytes,
        "memory_bus_bits": gpu.memory.bus_bits,
        "memory_pin_bits_per_s": gpu.memory.pin_bits_per_s,
        "l2_bytes": gpu.l2_bytes,
        "link_bytes_per_s": gpu.link_bytes_per_s,
        "power_w": gpu.power_w,
        "roofs": {resource: {"per_s": roof.per_s, "source": roof.source} for resource, roof in gpu.roofs.items()},
        "source": gpu.source,
    }


if __name__ == "__main__":
    run_command_line(app, "python -m predict")
