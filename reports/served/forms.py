"""Recognizes the form of a log by its keys, and reads every run of a file."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from predict.errors import BadLog
from predict.json_file import read_json_values
from reports.served import aiperf, sglang, trtllm, vllm
from reports.served.fields import Fields
from reports.served.log import ServedLog

MAX_BYTES = 2**29  # with --save-detailed a run holds every text that was generated


@dataclass(frozen=True, slots=True)
class Form:
    """What one tool writes."""

    name: str
    keys: tuple[str, ...]  # every version has these
    read: Callable[[Fields], ServedLog]
    written_by: str  # the option that writes it

    def missing(self, log: Fields) -> list[str]:
        """The keys that a log lacks."""
        return [key for key in self.keys if log.find(key) is None]


# A log is of the first form whose keys it has.
FORMS = (
    Form(sglang.SERVING, sglang.SERVING_KEYS, sglang.read_serving, "--output-file"),
    Form(vllm.SERVE, vllm.SERVE_KEYS, vllm.read_serve, "--save-result"),
    Form(vllm.THROUGHPUT, vllm.THROUGHPUT_KEYS, vllm.read_throughput, "--output-json"),
    Form(vllm.LATENCY, vllm.LATENCY_KEYS, vllm.read_latency, "--output-json"),
    Form(trtllm.BENCH, trtllm.BENCH_KEYS, trtllm.read_bench, "--report_json"),
    Form(aiperf.AIPERF, aiperf.AIPERF_KEYS, aiperf.read_summary, "profile_export_*perf.json"),
)


@dataclass(frozen=True, slots=True)
class Runs:
    """The runs of a file."""

    logs: tuple[ServedLog, ...]  # at least one
    refused: tuple[str, ...] = ()  # why others of the file cannot be compared


def read_logs(path: Path, run: int | None = None) -> Runs:
    """The runs that a file holds, or the one with this number. Of several, those without a measurement are left out.
    Raises BadLog for a file that cannot be read, has no such run, or has none that can be compared. One of no known
    form is told which keys the nearest form has that it lacks."""
    values = read_json_values(path, "the result of a benchmark", max_bytes=MAX_BYTES, error=BadLog)
    _refuse_other_files(path, values[0])
    if run is not None and not 1 <= run <= len(values):
        if len(values) == 1:
            raise BadLog(f"{path.name} holds one run: leave out --run")
        raise BadLog(f"{path.name} holds {len(values)} runs: give --run 1 to {len(values)}, not {run}")
    logs, refused = [], []
    for number, value in enumerate(values, start=1):
        if run in (None, number):
            try:
                logs.append(_read(value, f"{path.name}, run {number}" if len(values) > 1 else path.name, number))
            except BadLog as error:
                refused.append(error)
    if not logs:
        raise refused[0]
    return Runs(tuple(logs), tuple(map(str, refused)))


def _read(value: object, file: str, number: int) -> ServedLog:
    if not isinstance(value, dict):
        raise BadLog(f"{file} holds a {_kind(value)}, not the object that a benchmark writes; import reads {_known()}")
    log = Fields(value, file)
    found = next((form for form in FORMS if not form.missing(log)), None)
    if found is None:
        raise BadLog(_why_unknown(log))
    return replace(found.read(log), run=number)


def _why_unknown(log: Fields) -> str:
    """What the nearest form has that a log lacks."""
    near = min(FORMS, key=lambda form: len(form.missing(log)) / len(form.keys))
    missing = near.missing(log)
    if len(missing) == len(near.keys):
        return f"{log.file} is of no known form; import reads {_known()}"
    return f"{log.file} is of no known form; the nearest is {near.name}, of which it lacks {', '.join(missing)}"


def _refuse_other_files(path: Path, run: object) -> None:
    """Raise BadLog for files that lie beside a result, saying which to give."""
    if isinstance(run, dict) and isinstance(run.get("metadata"), dict) and "metrics" in run:
        held = "statistics over several runs" if "aiperf_version" in run else "records of each request"
        raise BadLog(f"{path.name} holds AIPerf's {held}: give the profile_export_aiperf.json of a run")
    if isinstance(run, dict) and "experiments" in run:
        raise BadLog(
            f"{path.name} holds GenAI-Perf's records of each request: give profile_export_genai_perf.json beside it"
        )
    if isinstance(run, list):
        first = run[0] if run else None
        if isinstance(first, dict) and "benchmark" in first and "metric" in first:
            raise BadLog(f"{path.name} holds PyTorch's form of a result: give the file beside it without .pytorch")
        raise BadLog(f"{path.name} holds a list: give one result, or one on each line (jq -c '.[]' {path.name})")


def _known() -> str:
    return ", ".join(f"{form.name} ({form.written_by})" for form in FORMS)


def _kind(value: object) -> str:
    kinds = {str: "text", bool: "truth value", int: "number", float: "number", list: "list"}
    return kinds.get(type(value), "null")
