"""The page of each kind of comparison: two runs row by row, or any number of sides."""

import json
from collections.abc import Sequence

from predict.units import times
from reports.accuracy.compare import side_letter
from reports.comparison.claims import claim_sentences
from reports.comparison.many import SHORT_S, Many, sentences
from reports.comparison.page import Page
from reports.comparison.sides import Side
from reports.run.compare import Comparison, comparison_tables
from reports.run.frame import json_rows
from reports.run.tables import UNSTABLE_MARK
from reports.scorecard.verdict import Judgment
from reports.tables import plain_rows


def page_of_two(comparison: Comparison, sides: Sequence[Side], judgments: Sequence[Judgment]) -> Page:
    """Two runs: the verdict on each row that both measured."""
    means = ", ".join(f"{op} {times(ratio)}" for op, ratio in comparison.by_op.items())
    said = [f"time of B over A, geometric mean by op: {means or 'no row is stable in both'}"]
    if unstable := len(comparison.rows) - len(comparison.stable):
        said.append(f"{UNSTABLE_MARK} unstable: {unstable} rows, which no mean counts")
    for letter, names in (("A", comparison.only_a), ("B", comparison.only_b)):
        if names:
            said.append(f"{len(names)} rows measured in {letter} only, such as {names[0]}")
    return Page(
        sides=_sides(sides),
        notes=comparison.warnings,
        sentences=(*said, *claim_sentences(judgments)),
        tables=tuple(comparison_tables(comparison)),
        how="A verdict is given where the confidence intervals of both medians are apart.",
        alt="Share of its roof that each row reaches in one run against the other, a panel for each op",
        judgments=tuple(judgments),
    )


def page_of_many(many: Many, judgments: Sequence[Judgment], notes: Sequence[str]) -> Page:
    """Any number of sides: what changed, which bounds differ, shares by size."""
    return Page(
        sides=_sides(many.sides),
        notes=(*many.notes, *notes),
        sentences=(*sentences(many), *claim_sentences(judgments)),
        tables=tuple(many.tables),
        how=(
            "A shape counts with its fastest kernel on each side. Shares are medians over the shapes that all sides"
            " with the op and format have; where none is in common, over each side's own. The bound is what the roofs"
            f" say; launch: the napkin is under {SHORT_S * 1e6:.0f} us on one of the sides."
        ),
        alt="Median share of the roof against size, a panel for each op and a color for each side",
        judgments=tuple(judgments),
    )


def json_of_two(comparison: Comparison, judgments: Sequence[Judgment]) -> str:
    """Two runs as JSON: the rows, means, warnings and claims."""
    return json.dumps(
        {
            "machine_a": comparison.machine_a,
            "machine_b": comparison.machine_b,
            "warnings": comparison.warnings,
            "only_a": comparison.only_a,
            "only_b": comparison.only_b,
            "time_ratio_by_op": comparison.by_op.to_dict(),
            "rows": json.loads(json_rows(comparison.rows)),
            "claims": [each.row() for each in judgments],
        },
        allow_nan=False,
        indent=2,
    )


def json_of_many(many: Many, judgments: Sequence[Judgment], notes: Sequence[str]) -> str:
    """Any number of sides as JSON: shares by size, changes, bounds that differ, claims."""
    return json.dumps(
        {
            "sides": [{"name": side.name, "machine": side.machine, "what": side.what} for side in many.sides],
            "notes": [*many.notes, *notes],
            "sentences": list(sentences(many)),
            "shares": plain_rows(many.shares.rows),
            "changes": plain_rows(many.changes),
            "bounds_that_differ": [
                {
                    "op": move.op,
                    "format": move.format,
                    "bounds": dict(move.bounds),
                    "shapes": move.shapes,
                    "common_shapes": move.of,
                    "example": move.example,
                }
                for move in many.moves
            ],
            "claims": [each.row() for each in judgments],
        },
        allow_nan=False,
        indent=2,
    )


def _sides(sides: Sequence[Side]) -> tuple[str, ...]:
    return tuple(
        f"{side_letter(place)}: {side.name} ({f'{side.machine}, ' if side.machine != side.name else ''}{side.what})"
        for place, side in enumerate(sides)
    )
