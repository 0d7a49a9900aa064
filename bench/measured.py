"""What `measure` returns: one measured function, as numbers, as text, as a record, for pytest-benchmark."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import store
from bench.record import Check, Environment, Measurement, Record, Status
from bench.stats import CONFIDENCE, Summary, doubts, summarize
from predict.errors import BadRun
from predict.roofline import Prediction
from predict.units import duration, percent


@dataclass(frozen=True, repr=False)
class Measured:
    """A function that was measured. Its text is a summary; in a notebook it is what a cell shows."""

    name: str
    status: Status  # MEASURED, or IMPOSSIBLE or THROTTLED, which `reason` explains
    reason: str | None
    measurement: Measurement  # every sample, and how it was taken
    check: Check | None  # against the reference; None without one
    environment: Environment  # the machine and its software
    record: Record | None  # as a run writes it; None without amounts
    unpredicted: str | None  # why there is no prediction

    @property
    def times_s(self) -> tuple[float, ...]:
        """Every sample, in seconds a call."""
        return self.measurement.times_s

    @property
    def summary(self) -> Summary:
        """Median with the bounds of its 95 % confidence interval, and other order statistics."""
        return summarize(self.times_s)

    @property
    def median_s(self) -> float:
        """The median of the samples."""
        return self.summary.median_s

    @property
    def checked(self) -> bool:
        """Whether the result was held against a reference; a wrong one is never timed."""
        return self.check is not None

    @property
    def prediction(self) -> Prediction | None:
        """The napkin by this machine's roofs; None where `unpredicted` says why."""
        return self.record.prediction if self.record else None

    @property
    def share_of_roof(self) -> Mapping[str, float]:
        """The time under each known roof over the median: `datasheet`, `measured`, `held_clock`; 0.8 is 80 % of it."""
        times_s = self.record.roof_times_s if self.record else {}
        return {roof: time_s / self.median_s for roof, time_s in times_s.items()}

    @property
    def warnings(self) -> tuple[str, ...]:
        """Reasons to doubt the samples, each with a remedy."""
        found = tuple(f"{doubt.reason}: {doubt.remedy}" for doubt in doubts(self.times_s, self.summary))
        found = tuple(each.replace("--budget-s", "budget_s=") for each in found)  # here it is no option
        if self.measurement.not_captured:
            found = (*found, f"timed one launch at a time: {self.measurement.not_captured}")
        return found

    @property
    def extra_info(self) -> dict[str, float | str | bool | None]:
        """The numbers beside the times, in SI units, for `benchmark.extra_info` of pytest-benchmark."""
        napkin_s = None if self.prediction is None else float(self.prediction.napkin_s)
        bound = None if self.prediction is None else self.prediction.bound
        return {
            "status": self.status.value,
            "method": self.measurement.method,
            "median_s": self.median_s,
            "low_s": self.summary.low_s,
            "high_s": self.summary.high_s,
            "napkin_s": napkin_s,
            "bound": None if bound is None else bound.value,
            **{f"of_{roof}": share for roof, share in self.share_of_roof.items()},
            "checked": self.checked,
            "relative_error": self.check.relative_error if self.check else None,
        }

    def report_to(self, benchmark: Any) -> None:
        """Give times and `extra_info` to pytest-benchmark's fixture, whose own clock knows nothing of a GPU.

        def test_norm(benchmark):
            result = measure(my_norm, make_inputs, reference=plain_norm)
            result.report_to(benchmark)
        """
        benchmark.extra_info.update(self.extra_info)
        benchmark.pedantic(_do_nothing)
        if benchmark.stats is not None:  # None under --benchmark-disable
            benchmark.stats.stats.data[:] = self.times_s

    def save(self, folder: str | Path) -> Path:
        """Append the record to the run in `folder`, for `python -m reports show`. Returns the file. Raises BadRun if
        there is no record."""
        if self.record is None:
            raise BadRun(f"{self.name} has no record without amounts: give amounts=, flop=, bytes_read= or op=")
        file = Path(folder) / store.RECORDS
        file.parent.mkdir(parents=True, exist_ok=True)
        store.append(file, self.record)
        return file

    def __str__(self) -> str:
        found = self.summary
        span = f"{duration(found.low_s)} to {duration(found.high_s)} with {percent(CONFIDENCE)} confidence"
        lines = [
            f"{self.name} on {self.environment.gpu or self.environment.name}: {duration(found.median_s)}",
            f"  median of {found.samples} samples, {span}, by {self.measurement.method}",
            f"  {self._predicted_text()}",
            f"  {self._checked_text()}",
        ]
        lines += [f"  {self.status}: {self.reason}"] if self.reason else []
        return "\n".join([*lines, *(f"  doubtful: {warning}" for warning in self.warnings)])

    __repr__ = __str__

    def _predicted_text(self) -> str:
        if self.prediction is None:
            return f"no prediction: {self.unpredicted}"
        napkin_s = float(self.prediction.napkin_s)
        shares = ", ".join(
            f"{percent(share)} of the {roof.replace('_', ' ')} roof" for roof, share in self.share_of_roof.items()
        )
        return f"napkin {duration(napkin_s)} (bound: {self.prediction.bound}): {shares}"

    def _checked_text(self) -> str:
        if self.check is None:
            return "unchecked: no reference was given"
        return f"right: relative error {self.check.relative_error:.2g}, allowed {self.check.relative_bound:.2g}"


def _do_nothing() -> None:
    """What pytest-benchmark calls in place of the function, which was timed already."""
