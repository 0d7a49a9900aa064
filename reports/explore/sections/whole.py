"""11. The whole answer of `predict model`: verdict, lines, where the time goes, and what the numbers assume."""

from collections.abc import Iterator, Mapping

from predict.answers.answer import answer as whole_answer
from predict.answers.batching import batch_table, batch_title
from predict.answers.breakdown import breakdowns
from predict.answers.lines import Use
from predict.answers.question import Question
from predict.answers.verdict import verdicts
from predict.table import Table
from predict.units import people_count
from reports.explore.answered import Answered, Grid, Stops, numbers_of
from reports.explore.section import Section
from reports.explore.state import State

OWN = ("price", "draft", "accept", "tokens", "recompute", "optimizer", "zero", "kernels")


def answer(state: State) -> Answered:
    """What the command prints."""
    use = Use(state["use"])
    q = state.question(*OWN)
    shown = whole_answer(q).shown(frozenset({use}))
    (verdict,) = verdicts(q, frozenset({use}))
    return Answered(
        says=verdict.lines,
        commands=(state.command(*OWN, option="--train" if use is Use.TRAIN else ""),),
        numbers=tuple(
            number for section in shown.sections for number in numbers_of(section.lines, group=section.title)
        ),
        notes=tuple(note.text for note in shown.remarks),
        is_alarm=not verdict.fits,
        controls={name: Stops(shown if use is of else "") for name, (of, shown) in _only(state, q).items()},
        grids=tuple(_grids(q, use)),
    )


def _only(state: State, q: Question) -> Mapping[str, tuple[Use, str]]:
    """Controls that matter to one use alone, and what they say."""
    serving = {name: (Use.SERVE, state[name] or "none") for name in ("draft", "accept")}
    training = {name: (Use.TRAIN, state[name]) for name in ("recompute", "optimizer", "zero", "kernels")}
    return {**serving, **training, "tokens": (Use.TRAIN, people_count(q.tokens))}


def _grids(q: Question, use: Use) -> Iterator[Grid]:
    for each in breakdowns(q):
        if each.use is use:
            yield _grid(each.title, each.table(), each.overlap)
    if use is Use.SERVE and (table := batch_table(q)) is not None:
        yield _grid(batch_title(q), table)


def _grid(title: str, table: Table, remark: str = "") -> Grid:
    headings = tuple(column.heading for column in table.columns)
    return Grid(title, headings, tuple(tuple(row) for row in table.texts()), remark)


WHOLE = Section(
    "answer",
    "What is the whole answer?",
    "All that napkin-bench predict model prints for the model and the machine above.",
    answer,
    controls=("use", *OWN),
)
