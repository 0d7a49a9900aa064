"""A replica under continuous batching: time of its steps, TTFT, TPOT and throughput by the number of requests.

All requests have the same lengths and are spread evenly over their lives (see `formulas.continuous`). A step's work is
the mean over these lives: decode reads caches of prompt to prompt + generated - 1 tokens, and chunked prefill reads the
cache of earlier chunks again. Times are those of the roofline, so no server is faster with these chunks.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from predict import checks
from predict.errors import BadQuantity
from predict.formulas import continuous
from predict.model.linear import Component
from predict.model.passes import Logits, Part, Pass, decode_step, forward
from predict.model.replica import PassPrediction, Replica
from predict.model.transformer import Model
from predict.resources import Resource
from predict.units import ALL_BF16, Formats
from predict.workloads import FloatArray, Number

MOST_CONTEXTS = 4096
LARGEST_REQUEST = 2**24  # tokens; no model reads as many


@dataclass(frozen=True)
class Request:
    """What every request asks of a model: `prompt` tokens to read, of which `cached` are in the cache already,
    `generated` tokens to make, and `chunk` prompt tokens that one step reads at most. Raises BadQuantity."""

    model: Model
    prompt: int
    generated: int
    chunk: int
    cached: int = 0
    formats: Formats = ALL_BF16

    def __post_init__(self) -> None:
        checks.whole(isl=self.prompt, osl=self.generated, chunk=self.chunk)
        checks.count(prefix=self.cached)
        if self.generated < 2:
            raise BadQuantity("osl must be at least 2: prefill makes the first token, decode the others")
        if self.prompt + self.generated > LARGEST_REQUEST:
            raise BadQuantity(f"isl + osl = {self.prompt + self.generated:,} tokens are more than {LARGEST_REQUEST:,}")
        if self.cached >= self.prompt:
            raise BadQuantity(f"prefix={self.cached} must be less than the {self.prompt} tokens of the prompt")

    @property
    def new(self) -> int:
        """Prompt tokens that are not cached."""
        return self.prompt - self.cached

    @cached_property
    def contexts(self) -> FloatArray:
        """Cached tokens at the request's decode steps; of very many steps some, spread evenly."""
        steps = min(self.generated - 1, MOST_CONTEXTS)
        return np.linspace(self.prompt, self.prompt + self.generated - 2, steps).round()

    @cached_property
    def prefill(self) -> Pass:
        """Reading the prompt in chunks: FLOP and cache of all of them. Only the last position makes a token."""
        starts = np.arange(self.cached, self.prompt, self.chunk, dtype=np.float64)
        sizes = np.minimum(self.chunk, self.prompt - starts)
        work = forward(self.model, 1, sizes, cached=starts, logits=Logits.LAST, formats=self.formats)
        once = {Component.VOCAB: 1 / starts.size}
        return replace(
            work, parts=tuple(_scale(part, starts.size * once.get(part.component, 1)) for part in work.parts)
        )

    @cached_property
    def decode(self) -> Pass:
        """A decode step of this request, the mean over its life."""
        work = decode_step(self.model, 1, self.contexts, formats=self.formats)
        return replace(work, parts=tuple(_scale(part, 1) for part in work.parts))

    def tokens(self, decoding: FloatArray, prompts: FloatArray) -> FloatArray:
        """Whole tokens of a step that makes `decoding` tokens and does `prompts` times the reading of a prompt."""
        whole: FloatArray = np.maximum(1, np.floor(decoding + prompts * self.new))
        return whole

    def step(self, decoding: FloatArray, prompts: FloatArray) -> Pass:
        """That step. It reads the weights that its tokens need once."""
        together = forward(self.model, self.tokens(decoding, prompts), 1, formats=self.formats)
        parts = zip(together.parts, self.decode.parts, self.prefill.parts, strict=True)
        return replace(together, parts=tuple(_mix(whole, decoding, one, prompts, all_) for whole, one, all_ in parts))


def _scale(part: Part, factor: float) -> Part:
    """The mean of a part over its sizes, times `factor`."""

    def mean(amount: Number) -> float:
        return factor * float(np.mean(amount))

    return replace(
        part,
        flop=mean(part.flop),
        cache_bytes_read=mean(part.cache_bytes_read),
        cache_bytes_written=mean(part.cache_bytes_written),
        activation_bytes=mean(part.activation_bytes),
    )


def _mix(together: Part, decoding: FloatArray, decode: Part, prompts: FloatArray, prefill: Part) -> Part:
    """`decoding` times one part and `prompts` times another, with the weights of both together."""
    return replace(
        together,
        flop=decoding * decode.flop + prompts * prefill.flop,
        cache_bytes_read=decoding * decode.cache_bytes_read + prompts * prefill.cache_bytes_read,
        cache_bytes_written=decoding * decode.cache_bytes_written + prompts * prefill.cache_bytes_written,
        activation_bytes=decoding * decode.activation_bytes + prompts * prefill.activation_bytes,
    )


@dataclass(frozen=True, slots=True)
class Steps:
    """The steps of each of `copies` equal copies of a server, for each of several numbers of running requests."""

    copies: int
    mixed: FloatArray  # steps that also read prompts, per request of the copy that ends
    decode: FloatArray  # steps that only decode, per such request
    decoding: FloatArray  # requests that a mixed step decodes for

    @property
    def prompts(self) -> FloatArray:
        """Share of a prompt that a mixed step reads; more than 1 if it holds several."""
        return 1 / self.mixed

    def only(self, index: int) -> "Steps":
        """The steps with one of these numbers of requests."""
        here = slice(index, index + 1)
        return Steps(self.copies, self.mixed[here], self.decode[here], self.decoding[here])


@dataclass(frozen=True, slots=True)
class Steady:
    """A server in steady state, for each of several numbers of running requests: its steps, and what follows from
    them."""

    batch: FloatArray
    generated: int  # tokens of each request
    steps: Steps
    mixed_s: FloatArray  # a step that also reads prompts
    decode_s: FloatArray  # a step that only decodes

    def only(self, index: int) -> "Steady":
        """The steady state with one of these numbers of requests."""
        here = slice(index, index + 1)
        mixed_s, decode_s = (np.broadcast_to(each, self.batch.shape)[here] for each in (self.mixed_s, self.decode_s))
        return Steady(self.batch[here], self.generated, self.steps.only(index), mixed_s, decode_s)

    @property
    def period_s(self) -> FloatArray:
        """Time between two requests that end, of all copies."""
        own_s = continuous.period_s(self.steps.mixed, self.mixed_s, self.steps.decode, self.decode_s)
        return np.asarray(own_s) / self.steps.copies

    @property
    def ttft_s(self) -> FloatArray:
        """Time to the first token, without a queue."""
        return np.asarray(continuous.ttft_s(self.steps.mixed, self.mixed_s))

    @property
    def tpot_s(self) -> FloatArray:
        """Mean time between two tokens of a request, steps that read other prompts included."""
        return np.asarray(continuous.tpot_s(self.batch, self.generated, self.period_s, self.ttft_s))

    @property
    def requests_per_s(self) -> FloatArray:
        """Requests that end per second."""
        return 1 / self.period_s

    @property
    def tokens_per_s(self) -> FloatArray:
        """Tokens made per second, prompts not counted."""
        return self.generated / self.period_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Load(Steady):
    """The same with the steps' predictions."""

    mixed: PassPrediction
    decode: PassPrediction

    @property
    def terms_s(self) -> dict[Resource, FloatArray]:
        """Time of each resource alone between two requests of a copy that end; the largest is what binds."""
        found: dict[Resource, FloatArray] = {}
        for steps, step in ((self.steps.mixed, self.mixed), (self.steps.decode, self.decode)):
            for term in step.terms:
                found[term.resource] = found.get(term.resource, np.zeros_like(self.batch)) + steps * term.time_s
        return found


@dataclass(frozen=True, slots=True)
class Server:
    """A replica that serves equal requests by continuous batching. Each of its dp copies serves as many, and all take
    their steps together: a mixed step reads a chunk for each copy. Raises BadQuantity for a pipeline, whose stages work
    on different steps."""

    replica: Replica
    request: Request

    def __post_init__(self) -> None:
        if self.replica.layout.pp > 1:
            raise BadQuantity(f"pp={self.replica.layout.pp}: continuous batching is not worked out for pipelines")

    @property
    def cache_bytes(self) -> FloatArray:
        """Cache of one request after each decode step, on all GPUs together."""
        return np.asarray(self.replica.resident_kv_bytes(1, self.request.contexts + 1))

    @property
    def largest_batch(self) -> int:
        """Most requests that run together: their caches fit, on average over their lives, and the chunks feed them. 0
        if the weights do not fit."""
        copies = self.replica.layout.dp
        fitting = float(self.replica.free_bytes) // (copies * float(np.mean(self.cache_bytes)))
        fed = continuous.largest_batch(self.request.new, self.request.generated, self.request.chunk)
        return copies * int(max(0, min(fitting, fed)))

    def at(self, batch: FloatArray) -> Load:
        """The steady state with each number of requests of `batch`. Raises BadQuantity for a number that the copies
        cannot share or that the chunks do not feed, MissingCeiling for an unknown roof."""
        steps = self.steps(batch)
        copies = self.replica.layout.dp
        mixed = self._step(copies * steps.decoding, copies * steps.prompts)
        decode = self._step(batch, np.zeros_like(batch))
        times_s = np.asarray(mixed.napkin_s), np.asarray(decode.napkin_s)
        return Load(batch, self.request.generated, steps, *times_s, mixed=mixed, decode=decode)

    def steps(self, batch: FloatArray) -> Steps:
        """The steps of each copy. Raises BadQuantity as `at` does."""
        copies, request = self.replica.layout.dp, self.request
        if np.any(batch % copies):
            raise BadQuantity(f"batch must be a multiple of the {copies} copies that share it")
        own = batch / copies
        mixed = np.asarray(continuous.mixed_steps(own, request.new, request.generated, request.chunk))
        decode = np.asarray(continuous.decode_steps(own, request.generated, mixed))
        return Steps(copies, mixed, decode, own - continuous.prompts_per_mixed_step(mixed))

    def _step(self, decoding: FloatArray, prompts: FloatArray) -> PassPrediction:
        work, tokens = self.request.step(decoding, prompts), self.request.tokens(decoding, prompts)
        return self.replica.time(work, tokens)
