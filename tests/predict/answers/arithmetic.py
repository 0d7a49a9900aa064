"""Evaluates the arithmetic that a page shows: numbers with separators and units, x / + - ^, parentheses, max, and
rounding. It stands in the tests, because a page only prints it."""

import math
import re

UNITS = {
    "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9,
    "FLOP": 1.0, "kFLOP": 1e3, "MFLOP": 1e6, "GFLOP": 1e9, "TFLOP": 1e12, "PFLOP": 1e15,
}  # fmt: skip
TOKEN = re.compile(
    rf"\s*(?:(?P<number>\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?)(?: (?P<unit>{'|'.join(UNITS)})\b)?"
    r"|(?P<function>max|rounded up|rounded down)(?=\()"
    r"|(?P<resource>tensor\.\w+|vector\.\w+|dram|link|network)(?= )"
    r"|(?P<sign>[x/+^(),-]))"
)
SIGNS = {"x": "*", "^": "**"}
FUNCTIONS = {"max": max, "rounded_up": math.ceil, "rounded_down": math.floor}


def evaluate(text):
    """The value of an arithmetic. Raises ValueError for what is not arithmetic."""
    parts, position = [], 0
    while position < len(text):
        match = TOKEN.match(text, position)
        if not match:
            raise ValueError(f"not arithmetic: {text!r} from {text[position:]!r}")
        parts.append(_python(match))
        position = match.end()
    return eval(" ".join(parts), {"__builtins__": {}}, FUNCTIONS)


def _python(match):
    if match["number"]:
        digits = match["number"].rstrip(",")  # a comma between two arguments
        more = "," * (len(match["number"]) - len(digits))
        return f"({digits.replace(',', '')} * {UNITS.get(match['unit'], 1)}){more}"
    if match["function"]:
        return match["function"].replace(" ", "_")
    return "" if match["resource"] else SIGNS.get(match["sign"], match["sign"])
