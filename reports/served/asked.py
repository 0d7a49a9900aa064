"""Makes the question about a log: its model, its machine and its formats, of what is asked and what the log says."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from predict.answers.asking import ask, layout_gpus, read_field
from predict.answers.question import Question
from predict.errors import BadModel, BadRun, UnknownGpu
from predict.gpus import GPUS, Gpu, find_gpu
from predict.model.transformer import Model
from reports.served.formats import formats_of
from reports.served.load import Given, Load, fill, find_load
from reports.served.log import ServedLog
from reports.served.names import Name, check_name, find_named


@dataclass(frozen=True, slots=True)
class Asked:
    """A log with its load, and the question about its server."""

    log: ServedLog  # filled
    load: Load
    question: Question
    notes: tuple[str, ...]


def ask_about(log: ServedLog, given: Given, model: str | Path | None, fields: Mapping[str, object]) -> Asked:
    """The question. `fields` are those of `Question` that the user asks for, as texts. Raises BadModel or BadRun for a
    log of another model, GPU or number of GPUs, and the errors of reading."""
    filled = fill(log, given)
    load = find_load(filled, given)
    chosen, notes = (model, []) if model is not None else _named(log)
    (gpu, of_gpu), (gpus, of_gpus) = _gpu(log, fields), _gpus(log, fields)
    shape = ask(chosen, {"gpu": gpu}).model
    if note := check_name(log.file, (log.model, log.tokenizer), shape):
        notes.append(note)
    formats, of_formats = _formats(log, fields, shape, gpu)
    sizes = {"gpus": gpus, "seq": load.isl, "context": load.context}
    question = ask(shape, {**fields, "gpu": gpu, **formats, **sizes})
    said = (*load.notes, *notes, *of_gpu, *of_gpus, *of_formats, *log.remarks, *_failed(log))
    return Asked(filled, load, question, said)


def _named(log: ServedLog) -> tuple[str, list[str]]:
    """The preset that the log names. Raises BadModel if it names none."""
    for name in (log.model, log.tokenizer):
        if name is not None and (found := find_named(name)) is not None:
            return found, [f"the model is {found}, because the log says {name}"]
    said = f"calls its model {log.model!r}, which is no preset" if log.model else "does not name its model"
    raise BadModel(f"{log.file} {said}: give --model (see `python -m predict models`, or the path of a config.json)")


def _gpu(log: ServedLog, fields: Mapping[str, object]) -> tuple[Gpu, list[str]]:
    """The GPU that is asked for, else the one that the log names, and notes."""
    measured = _measured_on(log)
    if "gpu" in fields:
        asked = read_field("gpu", fields["gpu"])
        assert isinstance(asked, Gpu)
        if measured is not None and asked.name in GPUS and asked.name != measured.name:
            raise BadRun(f"{log.file} was measured on {log.gpu}, which is {measured.name}, not {asked.name}")
        return asked, []
    if measured is None:
        said = f"was measured on {log.gpu!r}, which is not in the table" if log.gpu else "does not name its GPU"
        raise UnknownGpu(f"{log.file} {said}: give --gpu (see `python -m predict gpus`, or a file)")
    return measured, [f"the GPU is {measured.name}, because the log says {log.gpu}"]


def _gpus(log: ServedLog, fields: Mapping[str, object]) -> tuple[int, list[str]]:
    """How many GPUs: as asked, else as the log says, else one; and notes."""
    gpus = read_field("gpus", fields["gpus"]) if "gpus" in fields else layout_gpus(fields)
    assert isinstance(gpus, int)
    if log.gpus is None or log.gpus == gpus:
        return gpus, []
    if any(name in fields for name in ("gpus", "tp", "pp", "dp")):
        ran = "1 GPU" if log.gpus == 1 else f"{log.gpus} GPUs"
        raise BadRun(f"{log.file} ran on {ran}, not on {gpus}: say --gpus {log.gpus}")
    return log.gpus, [f"{log.gpus} GPUs, because the log says so"]


def _measured_on(log: ServedLog) -> Gpu | None:
    if log.gpu is None:
        return None
    try:
        return find_gpu(log.gpu)
    except UnknownGpu:
        return None


def _formats(log: ServedLog, fields: Mapping[str, object], model: Model, gpu: Gpu) -> tuple[dict[str, str], list[str]]:
    """The formats that the log says and the user does not, and notes."""
    weights = None if "weights" in fields or "compute" in fields else log.weights
    found, notes = formats_of(weights, None if "kv" in fields else log.kv, model, gpu)
    named = Name.of(log.model).formats if log.model else ()
    if named and "weights" not in fields and "weights" not in found and named[0] not in model.storage.name:
        notes.append(f"its name says {named[0]}, and weights count as {model.storage.name}: --weights says otherwise")
    return found, notes


def _failed(log: ServedLog) -> list[str]:
    return [f"{log.failed:,} requests failed: they count in no number"] if log.failed else []
