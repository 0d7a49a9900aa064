"""Reads the fields of a log: finite numbers in SI units, or a refusal that names the field."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from predict.errors import BadLog
from reports.served.log import Spread

Values = Mapping[str, object]
MS = 1e-3


@dataclass(frozen=True, slots=True)
class Fields:
    """An object of a log. A field's name may lead into it: "performance.total_latency_ms"."""

    values: Values
    file: str  # for messages

    def find(self, name: str) -> object:
        """The value of a field; None if it is absent or null."""
        found: object = self.values
        for part in name.split("."):
            if not isinstance(found, Mapping):
                return None
            found = found.get(part)
        return found

    def number(self, name: str, scale: float = 1.0) -> float | None:
        """A number in units of `scale`. Raises BadLog for anything else, NaN and infinity included."""
        found = self.find(name)
        if found is None:
            return None
        if isinstance(found, bool) or not isinstance(found, int | float):
            raise BadLog(f"{self.file}: {name} must be a number, not {_shown(found)}")
        if not math.isfinite(found) or found < 0:
            raise BadLog(f"{self.file}: {name} is {found:g}, which no measurement gives: run the benchmark again")
        return found * scale

    def positive(self, name: str, scale: float = 1.0) -> float | None:
        """The same. 0 counts as absent: tools write it for what they could not measure."""
        return self.number(name, scale) or None

    def needed(self, name: str, scale: float = 1.0) -> float:
        """The same. Raises BadLog if it is absent or 0."""
        found = self.positive(name, scale)
        if found is None:
            raise BadLog(f"{self.file}: {name} is missing or 0, so there is nothing to compare")
        return found

    def count(self, name: str) -> int | None:
        """A whole number. Raises BadLog for another."""
        found = self.number(name)
        if found is not None and found != int(found):
            raise BadLog(f"{self.file}: {name} must be a whole number, not {found:g}")
        return None if found is None else int(found)

    def completed(self, name: str) -> int:
        """The requests that completed. Raises BadLog if none did."""
        found = self.count(name)
        if not found:
            raise BadLog(f"{self.file}: no request completed ({name} is {found or 0}): nothing was measured")
        return found

    def text(self, name: str) -> str | None:
        """A text, or the first of a list of texts; None if there is none."""
        found = self.find(name)
        if isinstance(found, list) and found:
            found = found[0]
        return found if isinstance(found, str) and found else None

    def numbers(self, name: str) -> list[float]:
        """A list of numbers; empty if it is absent or holds anything else."""
        found = self.find(name)
        if not isinstance(found, list):
            return []
        numbers = [each for each in found if isinstance(each, int | float)]
        return numbers if len(numbers) == len(found) else []

    def spread_ms(self, name: str) -> Spread | None:
        """The statistics that vLLM and SGLang write of a time: mean_ttft_ms, median_ttft_ms, p99_ttft_ms."""
        mean_s = self.positive(f"mean_{name}_ms", MS)
        if mean_s is None:
            return None
        return Spread(mean_s, self.positive(f"median_{name}_ms", MS), self.positive(f"p99_{name}_ms", MS))

    def rate_asked(self, name: str) -> float | None:
        """Requests sent per second; None if they were sent as fast as possible ("inf") or by a trace."""
        found = self.find(name)
        if isinstance(found, str) or (isinstance(found, float) and math.isinf(found)):
            return None
        return self.positive(name)


def ratio(amount: float | None, number: float | None) -> float | None:
    """What `amount` / `number` is; None if either is not known."""
    return None if amount is None or not number else amount / number


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
