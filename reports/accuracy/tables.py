"""Validated groups as a table."""

from collections.abc import Iterable

from predict.table import Column, Table
from predict.units import Unit
from reports.accuracy.validate import NAMES, Group
from reports.calibration.errors import errors

TITLE = "Expected time: calibrated from up to 16 rows of each group, judged on all its other rows"
_NUMBERS = (
    Column("rows", "rows", Unit.TOKENS),
    Column("mape_napkin", "napkin MAPE", Unit.SHARE),
    Column("mape_expected", "expected MAPE", Unit.SHARE),
    Column("median_error", "median error", Unit.SHARE),
    Column("p90_error", "90 % are within", Unit.SHARE),
    Column("within_30_percent", "within 30 %", Unit.SHARE),
    Column("faster_than_bound", "beat the bound", Unit.COUNT),
)
COLUMNS = (Column("title", "what", is_key=True), Column("kernel_source", "kernel"), *_NUMBERS)
CSV_COLUMNS = (*(Column(name, name) for name in NAMES), *_NUMBERS)


def validation_table(groups: Iterable[Group], columns: tuple[Column, ...] = COLUMNS) -> Table:
    """One line for each validated group: the errors of the napkin and of expected time."""
    return Table(columns, tuple(_row(group) for group in groups))


def _row(group: Group) -> dict[str, object]:
    found = errors(group.judged)
    numbers = {column.key: getattr(found, column.key) for column in _NUMBERS}
    return {"title": group.title, **{name: getattr(group, name) for name in NAMES}, **numbers}
