"""Validated groups as a table."""

from collections.abc import Iterable

from predict.table import Column, Table
from predict.units import Unit
from reports.accuracy.relatives import relative_json
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
_RELATIVE = (
    Column("mape_refined", "refined MAPE", Unit.SHARE),
    Column("mape_expected_no_probe", "expected, no probe", Unit.SHARE),
    Column("mape_refined_no_probe", "refined, no probe", Unit.SHARE),
    Column("from_gpu", "by the table of"),
)
COLUMNS = (Column("title", "what", is_key=True), Column("kernel_source", "kernel"), *_NUMBERS, *_RELATIVE)
CSV_COLUMNS = (*(Column(name, name) for name in NAMES), *_NUMBERS, *_RELATIVE)


def validation_table(groups: Iterable[Group], columns: tuple[Column, ...] = COLUMNS) -> Table:
    """One line for each validated group: the errors of the napkin, of expected time, and by another GPU's table."""
    return Table(columns, tuple(_row(group) for group in groups))


def _row(group: Group) -> dict[str, object]:
    found = errors(group.judged)
    numbers = {column.key: getattr(found, column.key) for column in _NUMBERS}
    relative = relative_json(group.relative, group.shapes.time_s, group.is_judged)
    return {"title": group.title, **{name: getattr(group, name) for name in NAMES}, **numbers, **relative}
