"""How a formula is written with its numbers put in: an expression whose value is that of the line."""

from predict.answers.lines import plain
from predict.units import duration, si


def number(value: object) -> str:
    """A number with separators: all digits of a whole or a large one, else six figures."""
    found = plain(value)
    return f"{found:,.0f}" if isinstance(found, int) or abs(found) >= 1e6 else f"{found:,.6g}"


def product(*values: object) -> str:
    """2 x 8,192 x 128."""
    return " x ".join(map(number, values))


def quotient(above: object, below: object) -> str:
    """16,060,522,496 / 268,435,456."""
    return f"{number(above)} / {number(below)}"


def rounded_down(text: str) -> str:
    """Rounded down(...)."""
    return f"rounded down({text})"


def rounded_up(text: str) -> str:
    """Rounded up(...)."""
    return f"rounded up({text})"


def seconds(time_s: float) -> str:
    """A time with five figures: 4.5607 ms."""
    return duration(time_s, 5)


def amount(value: object, unit: str) -> str:
    """An amount with five figures: 16.061 GB."""
    return si(float(plain(value)), unit, 5)
