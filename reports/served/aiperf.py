"""Summaries of AIPerf (profile_export_aiperf.json) and of GenAI-Perf before it (profile_export_genai_perf.json).

Both write one object with an entry for each metric, {"unit": "ms", "avg": ..., "p50": ..., "p99": ...}, and the
options in `input_config`: AIPerf under models.items and the phase named profiling, older versions of it under endpoint
and loadgen, GenAI-Perf under perf_analyzer.stimulus, in versions of 2024 flat. Their inter_token_latency is what others
call TPOT: (latency - TTFT) / (tokens - 1) of each request.
"""

from predict.errors import BadLog
from reports.served.fields import Fields
from reports.served.log import ServedLog, Spread

AIPERF = "AIPerf or GenAI-Perf"
AIPERF_KEYS = ("request_throughput.avg", "request_latency.avg", "output_token_throughput.avg")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "sec": 1.0, "seconds": 1.0}
_MODELS = ("input_config.endpoint.model_names", "input_config.model_names", "input_config.model")
_OPTIONS_OF_AIPERF = ("input_config.loadgen", "input_config.phases", "aiperf_version")
_LOADS = ("input_config.loadgen", "input_config.perf_analyzer.stimulus", "input_config")


def read_summary(log: Fields) -> ServedLog:
    """A summary of either. Raises BadLog."""
    rate = log.needed("request_throughput.avg")
    output = log.needed("output_token_throughput.avg")
    duration_s = _spread(log, "benchmark_duration")
    is_cancelled = log.find("was_cancelled") is True
    measured = _first(log, "input_config.phases", "profiling")
    return ServedLog(
        file=log.file,
        form="AIPerf" if any(log.find(name) is not None for name in _OPTIONS_OF_AIPERF) else "GenAI-Perf",
        model=next(filter(None, map(log.text, _MODELS)), None) or _first(log, "input_config.models.items").text("name"),
        tokenizer=log.text("input_config.tokenizer.name"),
        requests=None if log.find("request_count") is None else log.completed("request_count.avg"),
        failed=log.count("error_request_count.avg"),
        duration_s=None if duration_s is None else duration_s.mean_s,
        isl=log.positive("input_sequence_length.avg"),
        osl=log.positive("output_sequence_length.avg"),
        requests_per_s=rate,
        output_tokens_per_s=output,
        total_tokens_per_s=log.positive("total_token_throughput.avg"),
        ttft=_spread(log, "time_to_first_token"),
        tpot=_spread(log, "inter_token_latency"),
        latency=_spread(log, "request_latency"),
        asked_per_s=_load(log, "request_rate") or measured.positive("rate"),
        most_in_flight=_load(log, "concurrency") or measured.positive("concurrency"),
        remarks=("the benchmark was cancelled before its end",) if is_cancelled else (),
    )


def _first(log: Fields, name: str, called: str | None = None) -> Fields:
    """The first object of a list of objects, of those with that name; without fields if there is none."""
    found = log.find(name)
    objects = [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
    return Fields(next((each for each in objects if called in (None, each.get("name"))), {}), log.file)


def _load(log: Fields, name: str) -> float | None:
    return next(filter(None, (log.positive(f"{place}.{name}") for place in _LOADS)), None)


def _spread(log: Fields, name: str) -> Spread | None:
    """The statistics of a time, in seconds. Raises BadLog for an unknown unit."""
    if log.find(name) is None:
        return None
    unit = log.text(f"{name}.unit") or "ms"
    if unit not in _SECONDS:
        raise BadLog(f"{log.file}: {name} is in {unit!r}; known units: {', '.join(_SECONDS)}")
    mean_s, median_s, p99_s = (log.positive(f"{name}.{each}", _SECONDS[unit]) for each in ("avg", "p50", "p99"))
    return None if mean_s is None else Spread(mean_s, median_s, p99_s)
