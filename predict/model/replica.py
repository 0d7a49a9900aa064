"""Time of a pass on a replica: a model spread over GPUs by a `Layout`, and what fits on it.

The time is the bound of `roofline` with up to four terms for the GPU that has most to do: FLOP, DRAM traffic, bytes
that it sends to the GPUs of its node, and bytes that it sends to other nodes.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from predict import checks
from predict.errors import BadQuantity, MissingCeiling
from predict.formulas import memory
from predict.gpus import Gpu
from predict.model.layout import ONE_GPU, Layout, draft_layout
from predict.model.passes import Logits, Mask, Pass, cache_bytes_per_token, forward, resident_bytes, uncached_step
from predict.model.traffic import Sent, Traffic
from predict.model.transformer import Model
from predict.model.working_set import engine_bytes
from predict.resources import Ceiling, Resource, Roofs, find_ceiling, matmul_unit
from predict.roofline import Prediction, Term, predict
from predict.units import ALL_BF16, Formats
from predict.workloads import Count, Number


@dataclass(frozen=True, slots=True, kw_only=True)
class PassPrediction(Prediction):
    """Time of a pass on a replica."""

    work: Pass  # of all GPUs together, weights read once
    timed: Pass  # what the time is of: a stage works on a part of the batch, the copies with fewest requests are padded
    bytes: Number  # DRAM traffic of all GPUs together, copies of weights and of KV heads included
    weight_bytes: Number  # the weights' share of it
    peak_flop_per_s: float  # of all GPUs together
    peak_bytes_per_s: float  # DRAM of all GPUs together
    sent: tuple[Sent, ...]  # by each GPU

    @property
    def compute_s(self) -> Number:
        """Time of the FLOP alone."""
        return self._term_s(lambda resource: resource.is_compute)

    @property
    def dram_s(self) -> Number:
        """Time of the DRAM traffic alone."""
        return self._term_s(lambda resource: resource is Resource.DRAM)

    @property
    def weights_s(self) -> Number:
        """Time of the weights' share of the DRAM traffic; the KV cache takes the rest of `dram_s`."""
        return self.dram_s * (self.weight_bytes / self.bytes)

    @property
    def link_s(self) -> Number:
        """Time of the traffic between GPUs alone, inside nodes or between them; 0 for one GPU."""
        return np.maximum(
            self._term_s(lambda resource: resource is Resource.LINK),
            self._term_s(lambda resource: resource is Resource.NETWORK),
        )

    @property
    def mfu(self) -> Number:
        """FLOP rate over the peak."""
        return self.work.flop / (self.peak_flop_per_s * self.napkin_s)

    @property
    def mbu(self) -> Number:
        """DRAM rate over the bandwidth."""
        return self.bytes / (self.peak_bytes_per_s * self.napkin_s)

    def _term_s(self, is_meant: Callable[[Resource], bool]) -> Number:
        return next((term.time_s for term in self.terms if is_meant(term.resource)), 0.0)


@dataclass(frozen=True)
class Replica:
    """One `model` on the GPUs of a layout, which share every layer evenly. What every pass and every batch asks for is
    computed once."""

    model: Model
    gpu: Gpu
    layout: Layout = ONE_GPU
    formats: Formats = ALL_BF16
    mfu: float | None = None  # share of the compute peak that is reached; None: all of it, as in the napkin's bound
    mbu: float | None = None  # share of the DRAM bandwidth that is reached; None: all of it
    hbm_bytes: float | None = None  # memory of a GPU; None: what the driver reports
    overhead_bytes: float | None = 0  # memory of a GPU that an engine keeps; None: what engines usually do
    network_bytes_per_s: float | None = None  # of a GPU to other nodes, one direction; None: that of its board
    draft: Model | None = None  # guesses tokens for `model` on the same GPUs: its weights and cache are held as well

    def __post_init__(self) -> None:
        checks.not_negative(overhead_bytes=self.reserved_bytes)
        checks.positive(hbm_bytes=self.memory_bytes)
        if self.mfu is not None:
            checks.efficiency(mfu=self.mfu)
        if self.mbu is not None:
            checks.efficiency(mbu=self.mbu)
        if self.network_bytes_per_s is not None:
            checks.positive(network_bytes_per_s=self.network_bytes_per_s)
        if self.layout.tp > self.model.heads:
            raise BadQuantity(f"tp={self.layout.tp} cannot share the {self.model.heads} heads of {self.model.name}")

    @property
    def gpus(self) -> int:
        """All GPUs."""
        return self.layout.gpus

    @property
    def memory_bytes(self) -> float:
        """Memory of one GPU."""
        return self.gpu.memory.bytes if self.hbm_bytes is None else self.hbm_bytes

    @cached_property
    def roofs(self) -> Roofs:
        """The GPU's roofs times `mfu` (compute) or `mbu` (memory)."""
        return {resource: self._reached(resource, roof) for resource, roof in self.gpu.roofs.items()}

    @cached_property
    def reserved_bytes(self) -> float:
        """Memory of one GPU that an engine keeps besides weights and cache."""
        if self.overhead_bytes is None:
            return engine_bytes(self.model, self.memory_bytes, self.layout.tp)
        return self.overhead_bytes

    @property
    def usable_bytes(self) -> float:
        """Memory of all GPUs together without what the engine keeps."""
        return self.gpus * (self.memory_bytes - self.reserved_bytes)

    @cached_property
    def beside(self) -> "Replica | None":
        """The draft model on the same GPUs, if there is one."""
        if self.draft is None:
            return None
        return replace(self, model=self.draft, layout=draft_layout(self.layout, self.draft), draft=None)

    @cached_property
    def weight_bytes(self) -> Number:
        """Weights on all GPUs together, copies included."""
        once = self.model.stored_bytes(self.formats.weight_bits)
        if self.layout.dp == 1:
            return once
        return self.layout.dp * once - (self.layout.dp - 1) * self.model.expert_bytes(self.formats.weight_bits)

    @cached_property
    def held_weight_bytes(self) -> Number:
        """The same with the draft's weights."""
        return self.weight_bytes + (self.beside.weight_bytes if self.beside else 0)

    @property
    def mean_weight_bits(self) -> float:
        """Bits of a stored weight on average."""
        return 8 * float(self.model.stored_bytes(self.formats.weight_bits)) / self.model.stored_params

    @cached_property
    def free_bytes(self) -> Number:
        """Memory left for caches on all GPUs together; negative if the weights, the draft's included, do not fit."""
        return memory.free_bytes(self.gpus, self.memory_bytes, self.held_weight_bytes, self.reserved_bytes)

    @cached_property
    def cache_copies(self) -> float:
        """How often a token's cache is held: more than once where tensor-parallel GPUs exceed the KV heads."""
        once = float(cache_bytes_per_token(self.model, self.formats.kv_bits))
        return self._cache_bytes_per_token / once if once else 1.0

    def resident_kv_bytes(self, batch: Count, context: Count) -> Number:
        """KV cache and states of `batch` sequences of `context` tokens on all GPUs together, copies included."""
        return resident_bytes(self.model, batch, context, self.formats, self.layout)

    def held_cache_bytes(self, batch: Count, context: Count) -> Number:
        """The same with the draft's cache."""
        own = self.resident_kv_bytes(batch, context)
        return own + self.beside.resident_kv_bytes(batch, context) if self.beside else own

    def kv_bytes_per_gpu(self, batch: Count, context: Count) -> Number:
        """KV cache and states on a GPU of the copy of the model that serves most of `batch` sequences."""
        checks.whole(batch=batch)
        return self.resident_kv_bytes(_rounded_up(batch, self.layout.dp), context) / self.gpus

    @cached_property
    def token_bytes(self) -> Number:
        """Bytes that one token adds to the caches, copies and the draft's included, until a window is full."""
        own = self._cache_bytes_per_token
        return own + self.beside.token_bytes if self.beside else own

    def max_batch(self, context: Count) -> Count:
        """Sequences of `context` tokens whose cache fits next to the weights; 0 if the weights alone do not fit. Each
        of the dp copies serves as many."""
        checks.whole(context=context)
        dp = self.layout.dp
        return dp * memory.max_requests(self.free_bytes, dp * self.held_cache_bytes(1, context))

    def max_batch_of_equal_layers(self, context: Count) -> Count:
        """`max_batch` of an engine that keeps every token of layers with a window too, as of those without."""
        checks.whole(context=context)
        dp = self.layout.dp
        whole = self.resident_kv_bytes(1, 0) + context * self._cache_bytes_per_token
        drafted = self.beside.resident_kv_bytes(1, context) if self.beside else 0
        return dp * memory.max_requests(self.free_bytes, dp * (whole + drafted))

    def max_context(self, batch: Count) -> Count:
        """Longest context that each of `batch` sequences can have beside weights and states, if no layer has a window;
        0 if these alone do not fit. The copy of the model that serves most sequences is the limit."""
        checks.whole(batch=batch)
        sequences = _rounded_up(batch, self.layout.dp)
        free = self.free_bytes - self.held_cache_bytes(sequences, 0)
        return memory.max_context(free, self.token_bytes, sequences)

    def prefill(
        self,
        batch: Count,
        seq: Count,
        *,
        cached: Count = 0,
        mask: Mask = Mask.CAUSAL,
        logits: Logits = Logits.ALL,
    ) -> PassPrediction:
        """Time of a forward pass over `seq` new tokens per sequence, after `cached` tokens in the cache. Stages work on
        parts of it at the same time."""

        def once(requests: Count) -> Pass:
            return forward(self.model, requests, seq, cached=cached, mask=mask, logits=logits, formats=self.formats)

        work, busiest = once(batch), self._busiest(once, batch)
        return self._time(work, busiest, _rounded_up(batch, self.layout.dp) * seq, stages=1)

    def decode(self, batch: Count, context: Count, new: Count = 1) -> PassPrediction:
        """Time of one decode step for `batch` sequences with `context` cached tokens: a pass over one token each, or
        over `new` tokens to check. Its result begins the next step, so it goes through all stages first; these work on
        up to pp parts of the batch."""

        def once(requests: Count) -> Pass:
            return forward(self.model, requests, new, cached=context, formats=self.formats)

        checks.count(context=context)
        return self._step(once, batch, new)

    def uncached_step(self, batch: Count, context: Count) -> PassPrediction:
        """Time of a decode step without a cache."""
        return self._step(
            lambda requests: uncached_step(self.model, requests, context, formats=self.formats), batch, context + 1
        )

    def time(self, work: Pass, tokens: Count) -> PassPrediction:
        """Least time of a pass that sends `tokens` tokens through every layer, if they can be shared evenly. Raises
        MissingCeiling for an unknown roof."""
        return self._time(work, work, tokens, stages=1)

    def _step(self, once: Callable[[Count], Pass], batch: Count, new: Count) -> PassPrediction:
        """Time of a pass over `new` tokens of each request that goes through all stages."""
        checks.whole(batch=batch)
        part = -(-batch // self.layout.pp)  # requests that a stage works on
        parts = -(-batch // part)
        work, busiest = once(batch), self._busiest(once, part)
        tokens = _rounded_up(part, self.layout.dp) * new
        return self._time(work, busiest, tokens, stages=self.layout.pp, parts=parts)

    def _busiest(self, once: Callable[[Count], Pass], requests: Count) -> Pass:
        """The pass over `requests` as if all dp copies had as many as the one with most. Experts share those that
        there are."""
        there = once(requests)
        rounded = _rounded_up(requests, self.layout.dp)
        if np.array_equal(rounded, requests):
            return there
        pairs = zip(there.parts, once(rounded).parts, strict=True)
        return replace(there, parts=tuple(own if own.of_experts else padded for own, padded in pairs))

    def _time(self, work: Pass, busiest: Pass, tokens: Number, *, stages: int, parts: Count = 1) -> PassPrediction:
        """Time of `work`. `busiest` is what the stages that one GPU's time is counted for do, `tokens` their tokens,
        padding of the copies included; a stage reads its weights for each of `parts` parts."""
        layout = self.layout if stages == 1 else replace(self.layout, pp=1)
        sent = Traffic(self.model, self.layout, self.gpu, self.formats).sent(tokens / self.layout.dp, stages=stages)
        weights = parts * busiest.weight_bytes_on(self.layout)
        return PassPrediction(
            (*predict(busiest.amounts(layout), self.roofs).terms, *self._sent_terms(sent)),
            work=work,
            timed=busiest,
            bytes=weights + work.cache_bytes_on(self.layout),
            weight_bytes=weights,
            peak_flop_per_s=find_ceiling(matmul_unit(work.compute), self.gpu.roofs).per_s * self.gpus,
            peak_bytes_per_s=find_ceiling(Resource.DRAM, self.gpu.roofs).per_s * self.gpus,
            sent=sent,
        )

    def _reached(self, resource: Resource, roof: Ceiling) -> Ceiling:
        share = self.mfu if resource.is_compute else self.mbu
        return roof if share is None else Ceiling(roof.per_s * share, f"{share:g} of {roof.source}")

    @cached_property
    def missing_rate(self) -> str:
        """The rate that the times need and nobody gives; empty if there is none."""
        found = Traffic(self.model, self.layout, self.gpu, self.formats).sent(1, stages=self.layout.pp)
        if any(each.link_bytes for each in found) and self.gpu.link_bytes_per_s is None:
            return f"{self.gpu.name}: the bandwidth between its GPUs is not known; use one GPU or another type"
        if any(each.network_bytes for each in found) and self._network_bytes_per_s is None:
            node = self.gpu.gpus_per_node
            return f"{self.gpu.name}: the bandwidth between nodes of {node} is not known; give --link-between-nodes"
        return ""

    @cached_property
    def _cache_bytes_per_token(self) -> float:
        return float(cache_bytes_per_token(self.model, self.formats.kv_bits, self.layout))

    @property
    def _network_bytes_per_s(self) -> float | None:
        return self.network_bytes_per_s or self.gpu.network_bytes_per_s

    def _sent_terms(self, sent: tuple[Sent, ...]) -> Iterator[Term]:
        """The terms of what is sent inside a node and to other nodes."""
        rates = (self.gpu.link_bytes_per_s, self._network_bytes_per_s)
        inside, between = sum(each.link_bytes for each in sent), sum(each.network_bytes for each in sent)
        for resource, amount, per_s in zip((Resource.LINK, Resource.NETWORK), (inside, between), rates, strict=True):
            if np.any(amount):
                if per_s is None:
                    raise MissingCeiling(self.missing_rate)
                yield Term(resource, amount, per_s)


def _rounded_up(requests: Count, copies: int) -> Count:
    """The requests of all copies if each has as many as the one with most."""
    return -(-requests // copies) * copies
