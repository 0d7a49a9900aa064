"""What a section says first of a question whose memory does not hold it: its times assume that it does."""

from collections.abc import Iterator

from predict.answers.fit import Fit, serving_fit, training_fit
from predict.answers.lines import Use
from predict.answers.question import Question
from predict.errors import BadModel
from predict.units import si
from reports.explore.answered import Answered

SAYS = {Use.SERVE: "serving", Use.TRAIN: "training"}


def largest_batch(q: Question) -> int:
    """Requests that fit, in the layout that holds most."""
    return int(q.roomiest_replica().max_batch(max(q.context, 1)))


def cannot_serve(q: Question, command: str) -> Answered:
    """The answer of a section about serving where no replica can."""
    return Answered((f"Cannot serve: {q.unserved}.",), (command,), is_alarm=True)


def unfit(q: Question, use: Use) -> Iterator[str]:
    """What does not fit, in a sentence; nothing if it fits, or if its memory is not known."""
    try:
        found = serving_fit(q) if use is Use.SERVE else training_fit(q)
    except BadModel:
        return
    if not found.fits:
        yield f"Does not fit: {_needs(found, use)}. What follows assumes that it does."


def _needs(found: Fit, use: Use) -> str:
    where = "" if use is Use.SERVE else " of a GPU"
    return f"{SAYS[use]} needs {si(found.needed_bytes, 'B')} of {si(found.usable_bytes, 'B')}{where}"
