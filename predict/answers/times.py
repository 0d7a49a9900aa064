"""The times of a question's passes: the bound, and the expected time where kernels are calibrated."""

from collections.abc import Callable
from dataclasses import dataclass

from predict.answers.question import Question
from predict.errors import BadModel, MissingCeiling
from predict.expected.model_pass import ExpectedPass, expected_check, expected_decode, expected_prefill
from predict.expected.training import ExpectedStep, expected_training
from predict.expected.whole_model import REQUEST_S
from predict.model.replica import PassPrediction, Replica


@dataclass(frozen=True, slots=True)
class Timed:
    """A pass: its bound, and its expected time or the reason why there is none."""

    replica: Replica  # the fastest for this pass
    bound: PassPrediction
    expected: ExpectedPass | None
    reason: str = ""  # why `expected` is None

    @property
    def bound_s(self) -> float:
        """The least time."""
        return float(self.bound.napkin_s)

    @property
    def expected_s(self) -> float | None:
        """The expected time; None where nothing is calibrated."""
        return None if self.expected is None else self.expected.time_s

    @property
    def first_token_s(self) -> float | None:
        """The expected time of a prompt until its first token is there: the pass, and the host's part of a request."""
        return None if self.expected is None else self.expected.time_s + REQUEST_S


def prefill_times(q: Question, batch: int | None = None) -> Timed:
    """The forward pass over `batch` prompts. None: the question's batch."""
    prompts = batch or q.batch
    if ("prefill", prompts) not in q.timed:
        replica = q.prefill_replica(prompts)
        bound = replica.prefill(prompts, q.seq, mask=q.mask, logits=q.prompt_logits)
        found = timed(replica, bound, lambda: expected_prefill(replica, prompts, q.seq, q.prompt_logits))
        q.timed["prefill", prompts] = found
    return q.timed["prefill", prompts]


def decode_times(q: Question, batch: int | None = None) -> Timed:
    """A decode step of `batch` requests. None: the question's batch."""
    requests = batch or q.batch
    if ("decode", requests) not in q.timed:
        replica = q.replica(requests)
        bound = replica.decode(requests, q.context)
        q.timed["decode", requests] = timed(replica, bound, lambda: expected_decode(replica, requests, q.context))
    return q.timed["decode", requests]


def draft_times(q: Question) -> Timed:
    """A decode step of the question's draft model. The question must have one."""
    if ("draft", q.batch) not in q.timed:
        replica = q.replica().beside
        assert replica is not None
        bound = replica.decode(q.batch, q.context)
        q.timed["draft", q.batch] = timed(replica, bound, lambda: expected_decode(replica, q.batch, q.context))
    return q.timed["draft", q.batch]


def check_times(q: Question, guesses: int) -> Timed:
    """A step of the question's batch that checks `guesses` tokens of each request and makes one more."""
    if ("check", guesses) not in q.timed:
        replica, new = q.replica(), guesses + 1
        bound = replica.decode(q.batch, q.context, new)
        found = timed(replica, bound, lambda: expected_check(replica, q.batch, new, q.context))
        q.timed["check", guesses] = found
    return q.timed["check", guesses]


def timed(replica: Replica, bound: PassPrediction, expect: Callable[[], ExpectedPass]) -> Timed:
    """The bound with what `expect` returns, or with the reason why it raises MissingCeiling."""
    try:
        return Timed(replica, bound, expect())
    except MissingCeiling as error:
        return Timed(replica, bound, None, str(error))


def expected_step(q: Question) -> ExpectedStep | str:
    """The expected training step, or the reason why there is none."""
    try:
        return expected_training(q.training)
    except (MissingCeiling, BadModel) as error:
        return str(error)
