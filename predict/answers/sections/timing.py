"""How the time of a pass is shown, and why it may be absent."""

from collections.abc import Iterator

from predict.answers.arithmetic import amount, product, seconds
from predict.answers.lines import Line, Note, Weight
from predict.answers.question import Question
from predict.answers.times import Timed
from predict.expected.whole_model import REQUEST_S, Measured, error_text
from predict.model.replica import PassPrediction
from predict.roofline import Prediction
from predict.units import Unit

LIBRARY = "NCCL"  # slower than the kernels that engines bring for short messages


def expected(
    times: Timed, key: str, label: str, measured: Measured, *, is_detail: bool = False
) -> Iterator[Line | Note]:
    """The expected time of a pass with its error and what it rests on, or a note that says why there is none."""
    if times.expected is None:
        yield Note(f"no expected time, only the bound: {times.reason}", Weight.ABSENT, in_verdict=True)
        return
    parts = [seconds(time_s) for time_s in times.expected.times.values()]
    time_s, what = times.expected.time_s, "sum of its kernels"
    if measured is Measured.TTFT and times.first_token_s is not None:
        time_s, what = times.first_token_s, "kernels and the host's part"
        parts.append(seconds(REQUEST_S))
    formula = f"{what}, {error_text(measured, times.expected.gpu, is_poor=times.expected.is_poor)}"
    yield Line(key, label, time_s, Unit.SECONDS, formula, " + ".join(parts), is_detail)
    yield Note(f"expected times: {times.expected.rests_on}", in_verdict=True)
    sums = {each.shipped.kernel for each in times.expected.known if each.calibration.op == "all_reduce"}
    if sums == {LIBRARY}:
        gpu = times.expected.gpu
        yield Note(f"expected sums between GPUs are {LIBRARY}'s: no engine's own all-reduce was measured for {gpu}")


def rule(q: Question) -> str:
    """The formula of a pass's time."""
    return "largest of FLOP, bytes, link" + ("" if q.mfu is None and q.mbu is None else " at MFU and MBU")


def terms(prediction: Prediction) -> str:
    """The time of each resource alone, of which the longest counts."""
    times = ", ".join(f"{term.resource} {seconds(float(term.time_s))}" for term in prediction.terms)
    return f"max({times})" if len(prediction.terms) > 1 else times


def flop_share(prediction: PassPrediction, q: Question) -> str:
    """The arithmetic of an MFU."""
    time_s, peak = seconds(float(prediction.napkin_s)), product(q.gpus, q.peak_flop_per_s)
    return f"{amount(prediction.work.flop, 'FLOP')} / ({time_s} x {peak})"


def too_many(q: Question, what: str) -> str:
    """The reason why `what` is absent: more GPUs than heads, or an unknown link."""
    return f"no {what}: {q.unserved}"
