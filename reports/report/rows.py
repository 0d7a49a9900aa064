"""The rows of a run as report.html has them: cells for everyone, numbers to sort and draw by, details to open."""

import math
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bench.record import Measurement, Record
from predict.roofline import Term
from predict.terminal import printable
from predict.units import binary_bytes, duration, energy, percent, si
from reports.report.reproduce import row_command
from reports.run.frame import OVER
from reports.run.load import Run
from reports.run.tables import OVER_MARK, by_op, marked

Row = Mapping[Hashable, Any]  # of the frame

DIGITS = 5  # of a number that a figure is drawn by
COLUMNS: tuple[tuple[str, str, str], ...] = (  # key, heading, and the number to sort by; "" for words
    ("workload", "workload", ""),
    ("implementation", "implementation", ""),
    ("status", "status", ""),
    ("time", "time", "time_s"),
    ("napkin", "napkin", "napkin_s"),
    ("share", "% of roof", "of_roof"),
    ("bound", "bound", ""),
    ("expected", "expected", "expected_s"),
    ("error", "error", "error"),
)
NUMBERS = (
    "op", "unit", "side", "time_s", "napkin_s", "expected_s", "of_roof", "error", "intensity", "flop_per_s", "m",
    "sweep", "is_unstable",
)  # fmt: skip
TEXTS = ("op", "unit", "side")  # of `NUMBERS`
NAPKIN = "napkin"  # the detail that figures show too
SWEEP = ("n", "k", "dtype")  # what the matmuls of one sweep over batches share
MEMORY, ARITHMETIC, NOTHING = "memory", "arithmetic", "neither"  # what bounds a row


@dataclass(frozen=True, slots=True)
class PageRow:
    """One record."""

    cells: tuple[str, ...]  # in the order of `COLUMNS`
    numbers: tuple[object, ...]  # in the order of `NUMBERS`; None where something is absent
    details: tuple[tuple[str, str], ...]  # names and words of what is not empty


def page_rows(run: Run) -> tuple[PageRow, ...]:
    """A row for each record, by op."""
    frame = with_share(run)
    sweeps = {key: place for place, key in enumerate(batch_sweeps(frame))}
    order = [place for _, rows in by_op(frame) for place in rows.index]
    found = frame.to_dict(orient="index")
    return tuple(_row(found[place], run.records[place], sweeps) for place in order)


def with_share(run: Run) -> pd.DataFrame:
    """The run's frame with `of_roof`, the share of the roof that its napkins rest on."""
    return run.frame.assign(of_roof=run.frame["of_datasheet" if run.roofs.datasheet else "of_measured"])


def batch_sweeps(frame: pd.DataFrame) -> list[tuple[Any, ...]]:
    """(n, k, dtype) of the matmuls with a napkin that were measured at two batches or more; most batches first."""
    rows = frame[(frame["op"] == "matmul") & (frame["status"] == "measured") & (frame["napkin_s"] > 0)]
    batches = rows.groupby(list(SWEEP), sort=True)["m"].nunique()
    return list(batches[batches > 1].sort_values(ascending=False, kind="stable").index)


def _row(row: Row, record: Record, sweeps: Mapping[tuple[Any, ...], int]) -> PageRow:
    cells = {
        "workload": row["workload"],
        "implementation": row["implementation"],
        "status": row["status"].replace("_", " "),
        "time": _text(row, "time_s", lambda time_s: marked(duration(time_s), row["unstable"])),
        "napkin": _text(row, "napkin_s", duration),
        "share": _text(row, "of_roof", lambda share: f"{OVER_MARK if share > OVER else ''}{percent(share)}"),
        "bound": row["bound"] or "",
        "expected": _text(row, "expected_s", duration),
        "error": f"{record.check.relative_error:.1e}" if record.check else "",
    }
    is_swept = row["op"] == "matmul" and row["status"] == "measured"
    numbers = {
        "op": printable(row["op"]),  # as the page shows it
        "unit": row["unit"],
        "side": _side(record),
        "time_s": row["time_s"],
        "napkin_s": row["napkin_s"],
        "expected_s": row["expected_s"],
        "of_roof": row["of_roof"],
        "error": record.check.relative_error if record.check else None,
        "intensity": row["arithmetic_intensity"],
        "flop_per_s": row["flop"] / row["time_s"],
        "m": row["m"] if is_swept else None,
        "sweep": sweeps.get(tuple(row[name] for name in SWEEP)) if is_swept else None,
        "is_unstable": isinstance(row["unstable"], str),
    }
    details = tuple((name, words) for name, words in _details(row, record) if words)
    return PageRow(tuple(cells[key] for key, *_ in COLUMNS), tuple(_plain(numbers[name]) for name in NUMBERS), details)


def _plain(value: object) -> object:
    """A value for JSON, numbers with `DIGITS` figures; None where it is absent or not finite."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value)
    number = math.nan if pd.isna(value) else float(value)  # type: ignore[call-overload, arg-type]
    if not math.isfinite(number):
        return None
    return int(number) if number == int(number) and abs(number) < 2**53 else float(f"{number:.{DIGITS}g}")


def _has(row: Row, name: str) -> bool:
    return bool(pd.notna(row[name]))


def _text(row: Row, name: str, text: Callable[[float], str]) -> str:
    return text(row[name]) if _has(row, name) else ""


def _side(record: Record) -> str:
    bound = record.prediction.bound if record.prediction else None
    return NOTHING if bound is None else ARITHMETIC if bound.is_compute else MEMORY


def _term_text(term: Term) -> str:
    unit = "FLOP" if term.resource.is_compute else "B"
    amount, rate = si(float(term.amount), unit), si(float(term.per_s), f"{unit}/s")
    return f"{amount} / {rate} = {duration(float(term.time_s))}"


def _details(row: Row, record: Record) -> Iterator[tuple[str, str]]:
    yield "reason", record.reason or ""
    yield NAPKIN, _napkin(record)
    yield "expected", _expected(row)
    yield "measured", _samples(row)
    yield "of each roof", _shares(row)
    if record.measurement:
        yield "clock and power", ", ".join(_circumstances(record.measurement, row))
        yield "method", ", ".join(_method(record.measurement))
    if record.check:
        check = record.check
        yield (
            "check against fp64",
            f"relative error {check.relative_error:.1e} of {check.relative_bound:.1e} allowed,"
            f" largest error {check.max_error:.1e} of {check.max_bound:.1e}",
        )
    yield "memory of a call", _memory(row)
    yield "doubts, and what to do", row["warnings"] or ""
    yield "printed", record.printed or ""
    yield "measure it again", row_command(record)


def _napkin(record: Record) -> str:
    """Each term, a line, and the bound."""
    prediction = record.prediction
    if prediction is None:
        return "a roof that it needs is not known: measure one with the suite's roof probes"
    if prediction.bound is None:
        return "no FLOP and no bytes: the time is that of a launch"
    lines = [f"{term.resource}: {_term_text(term)}" for term in prediction.terms]
    return "\n".join([*lines, f"bound: {prediction.bound}, {duration(float(prediction.napkin_s))}"])


def _expected(row: Row) -> str:
    if not _has(row, "expected_s"):
        return ""
    refined = "" if not _has(row, "refined_s") else f", refined {duration(row['refined_s'])}"
    return f"{duration(row['expected_s'])}{refined}"


def _samples(row: Row) -> str:
    if not _has(row, "time_s"):
        return ""
    return (
        f"median {duration(row['time_s'])} of {row['samples']} samples, 95 % interval {duration(row['low_s'])} to"
        f" {duration(row['high_s'])}"
    )


def _shares(row: Row) -> str:
    names = (("of_datasheet", "datasheet"), ("of_measured", "measured"), ("of_held_clock", "held clock"))
    return ", ".join(f"{name} {percent(row[key])}" for key, name in names if _has(row, key))


def _circumstances(measurement: Measurement, row: Row) -> Iterator[str]:
    if measurement.sm_hz:
        yield f"SM clock {si(measurement.sm_hz, 'Hz', 4)}"
    if measurement.power_w:
        yield f"{measurement.power_w:.0f} W"
    if _has(row, "energy_j"):
        yield f"{energy(row['energy_j'])} a call"
    if measurement.temperature_c:
        yield f"at most {measurement.temperature_c:.0f} C"
    if measurement.throttle is not None:
        yield f"slowed by {', '.join(measurement.throttle)}" if measurement.throttle else "not slowed"


def _method(measurement: Measurement) -> Iterator[str]:
    yield measurement.method
    stop = {"converged": "until the median was known", "budget": "until time was up"}
    yield stop.get(measurement.stop, measurement.stop)
    if measurement.launches_per_sample > 1:
        yield f"{measurement.launches_per_sample} launches a sample"
    if measurement.cold_l2 is not None:
        yield "cold cache" if measurement.cold_l2 else "cache possibly warm"
    if measurement.host_s:
        yield f"the host needs {duration(measurement.host_s)} to issue a call"


def _memory(row: Row) -> str:
    if not _has(row, "peak_bytes"):
        return ""
    predicted = (
        "" if not _has(row, "predicted_peak_bytes") else f", {binary_bytes(row['predicted_peak_bytes'])} predicted"
    )
    return f"{binary_bytes(row['peak_bytes'])}{predicted}"
