"""Steps of a server at a load: the least time by what takes it, and the expected time above it.

Numbers of requests are means and so fractions; a time at a fraction lies between those at the two whole numbers beside
it, because every step has a whole number. That is a bound where the time of a step is convex in its requests, as it is
for a dense model. Steps of a mixture touch fewer experts the fewer requests there are, so where their number varies
widely its bound may be off by about a request.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from predict.answers.question import Question
from predict.answers.times import prefill_times
from predict.errors import MissingCeiling
from predict.expected.model_pass import expected_decode, expected_decode_s, expected_mixed_s, expected_prefill
from predict.expected.whole_model import server_step_s
from predict.model.kinds import KernelKind
from predict.model.replica import Replica
from predict.model.server import Request
from reports.served.load import Load

Times = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class First:
    """A prompt by itself, in seconds: its bound, and its expected time or the reason why there is none."""

    least_s: float
    expected_s: float | None
    reason: str = ""  # why `expected_s` is None


@dataclass(frozen=True, slots=True)
class Least:
    """The bound of a decode step by what takes it, in seconds. The first four add up to it."""

    weights_s: float  # reading weights
    cache_s: float  # reading and writing the KV cache and states
    flop_s: float  # FLOP that take longer than these bytes, as far as they do
    link_s: float  # what is sent between GPUs, as far as it takes longer than both
    prompts_s: float  # what reading others' prompts in the same steps adds

    @property
    def step_s(self) -> float:
        """A step that only decodes."""
        return self.weights_s + self.cache_s + self.flop_s + self.link_s


@dataclass(frozen=True, slots=True)
class Above:
    """What a step is expected to take above its bound, in seconds."""

    launch_s: float  # launches, and element-wise kernels
    kernels_s: float  # matmuls and attention below their roofs
    link_s: float  # between GPUs
    prompts_s: float  # what reading others' prompts is expected to add, bound included

    @property
    def step_s(self) -> float:
        """All but the prompts: what a step that only decodes takes above its bound."""
        return self.launch_s + self.kernels_s + self.link_s


@dataclass(frozen=True, slots=True)
class Loaded:
    """A question's server at a load. `reading` is the share of prompts that are read while other requests decode."""

    question: Question
    load: Load
    request: Request
    reading: float = 1.0

    @classmethod
    def of(cls, question: Question, load: Load, reading: float = 1.0) -> "Loaded":
        """The server. A step may read as much of a prompt as it likes."""
        request = Request(question.model, load.isl, load.osl, load.isl, load.cached, question.formats)
        return cls(question, load, request, reading)

    def least(self, decoding: float) -> Least:
        """The bound of a step with so many decoding requests on average."""
        return Least(*_between(decoding, self.question, self._least))

    def above(self, decoding: float) -> Above:
        """What is expected above it. Raises MissingCeiling without a calibration."""
        return Above(*_between(decoding, self.question, self._above))

    def least_tokens_per_s(self, running: float) -> float:
        """The most tokens/s that so many running requests allow, prompts read in the same steps; of the layouts that
        come into question the best. Fewer than one request leave the server idle for the rest of the time."""
        step_s = min(self._mixed_s(each, max(1.0, running), 1.0) for each in self.question.replicas)
        return self._tokens(running) / step_s

    def expected_tokens_per_s(self, running: float) -> float:
        """The same by expected times. Raises MissingCeiling without a calibration."""
        (kernels_s,) = _between(running, self.question, lambda batch: (self._expected_mixed_s(batch, 1.0),))
        return self._tokens(running) / float(server_step_s(kernels_s, running))

    def first(self) -> First:
        """A prompt by itself."""
        q, load = self.question, self.load
        if not load.cached:
            times = prefill_times(q, 1)
            return First(times.bound_s, times.expected_s, times.reason)
        new, cached, logits = load.isl - load.cached, load.cached, q.prompt_logits
        bounds = [float(each.prefill(1, new, cached=cached, logits=logits).napkin_s) for each in q.replicas]
        fastest = q.replicas[int(np.argmin(bounds))]
        try:
            return First(min(bounds), expected_prefill(fastest, 1, new, logits, cached).time_s)
        except MissingCeiling as error:
            return First(min(bounds), None, str(error))

    def _tokens(self, running: float) -> float:
        """Tokens of a step: those decoded, and the first of each prompt that ends in it."""
        osl = self.load.osl
        return running * self.load.tokens_per_step * osl / (osl - 1)

    def _prompts(self, decoding: float, reading: float) -> float:
        """Prompts that a step reads in steady state: as many as requests end in it."""
        return reading * decoding * self.load.tokens_per_step / (self.load.osl - 1)

    def _mixed_s(self, replica: Replica, decoding: float, reading: float) -> float:
        """The bound of a step that also reads prompts."""
        batch, prompts = np.array([decoding]), np.array([self._prompts(decoding, reading)])
        work = self.request.step(batch, prompts)
        return float(np.ravel(replica.time(work, self.request.tokens(batch, prompts)).napkin_s)[0])

    def _least(self, batch: int) -> Times:
        replica = self.question.replica(batch)
        step = replica.decode(batch, self.request.contexts)  # requests are spread over their lives
        weights_s, bytes_s, flop_s, link_s = (
            float(np.mean(each)) for each in (step.weights_s, step.dram_s, step.compute_s, step.link_s)
        )
        prompts_s = self._mixed_s(replica, batch, self.reading) - self._mixed_s(replica, batch, 0.0)
        longest_s = max(bytes_s, flop_s)
        beyond = (max(0.0, flop_s - bytes_s), max(0.0, link_s - longest_s))
        return weights_s, bytes_s - weights_s, *beyond, max(0.0, prompts_s)

    def _above(self, batch: int) -> Times:
        replica, least = self.question.replica(batch), Least(*self._least(batch))
        expected = expected_decode(replica, batch, self.load.context)
        times = expected.times
        launch_s = times.get(KernelKind.ELEMENTWISE, 0.0) + expected.launch_s
        link_s = times.get(KernelKind.LINK, 0.0) - least.link_s
        prompts_s = self._expected_mixed_s(batch, self.reading) - self._expected_mixed_s(batch, 0.0)
        return launch_s, expected.time_s - least.step_s - launch_s - link_s, link_s, prompts_s

    def _expected_mixed_s(self, batch: int, reading: float) -> float:
        """The expected time of a step, with prompts if `reading` is not 0."""
        replica, requests = self.question.replica(batch), np.array([float(batch)])
        if self.load.tokens_per_step > 1:
            raise MissingCeiling("speculative decoding has no expected time here: its draft is not known")
        if not reading:
            return float(expected_decode_s(replica, requests, self.load.context)[0])
        prompts, load = np.array([self._prompts(batch, reading)]), self.load
        return float(expected_mixed_s(replica, requests, load.context, prompts, load.isl, load.cached)[0])


def _between(requests: float, question: Question, at: Callable[[int], Times]) -> Times:
    """The times at a fraction of requests: on the line between the whole numbers beside it that the copies of the model
    share evenly. Fewer than each copy has one count as the whole number below, at least 1."""
    copies = question.replica(max(1, math.floor(requests))).layout.dp
    if requests <= copies:
        return at(max(1, math.floor(requests)))
    low = math.floor(requests / copies) * copies
    share = (requests - low) / copies
    if share == 0:
        return at(low)
    return tuple(below + share * (above - below) for below, above in zip(at(low), at(low + copies), strict=True))
