"""How the time of a pass is shown, and why it may be absent."""

from collections.abc import Callable, Iterator

from predict.answers.lines import Line, Note, Unit, Weight
from predict.answers.question import Question
from predict.errors import MissingCeiling
from predict.roofline import Prediction
from predict.units import duration


def expected(time_s: Callable[[], float], key: str, label: str) -> Iterator[Line | Note]:
    """The calibrated time of a pass, or a note that says why there is none."""
    try:
        found = time_s()
    except MissingCeiling as error:
        yield Note(f"no expected time, only the bound: {error}", Weight.ABSENT)
    else:
        yield Line(key, label, found, Unit.SECONDS, "sum of its kernels, calibrated")


def rule(q: Question) -> str:
    """The formula of a pass's time."""
    return "largest of FLOP, bytes, link" + ("" if q.mfu is None and q.mbu is None else " at MFU and MBU")


def terms(prediction: Prediction) -> str:
    """The time of each resource alone."""
    return ", ".join(f"{term.resource} {duration(float(term.time_s))}" for term in prediction.terms)


def too_many(q: Question, what: str) -> str:
    """The reason why `what` is absent: more GPUs than heads."""
    return f"no {what}: {q.gpus} GPUs cannot share the {q.model.heads} heads of one replica; serve with fewer"
