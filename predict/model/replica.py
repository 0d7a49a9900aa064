"""Time of a pass on a replica: one copy of a model on tensor-parallel GPUs.

It is the bound of `roofline` with three terms: FLOP, DRAM traffic, and bytes that each GPU must send to the others.
"""

from collections.abc import Callable
from dataclasses import dataclass

from predict import checks
from predict.errors import BadQuantity, MissingCeiling
from predict.formulas import memory, parallel
from predict.gpus import Gpu
from predict.model.passes import Logits, Mask, Pass, decode_step, forward, kv_bytes
from predict.model.transformer import Model
from predict.resources import Ceiling, Resource, Roofs, find_ceiling, matmul_unit
from predict.roofline import Prediction, Term, predict
from predict.units import ALL_BF16, Formats
from predict.workloads import Count, Number


@dataclass(frozen=True, slots=True, kw_only=True)
class PassPrediction(Prediction):
    """Time of a pass on a replica. Every GPU does an even share of the work."""

    work: Pass
    bytes: Number  # DRAM traffic of all GPUs together, copied KV heads included
    peak_flop_per_s: float  # of all GPUs together
    peak_bytes_per_s: float  # DRAM of all GPUs together

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
        return self.dram_s * (self.work.weight_bytes / self.bytes)

    @property
    def link_s(self) -> Number:
        """Time of the traffic between GPUs alone; 0 for one GPU."""
        return self._term_s(lambda resource: resource is Resource.LINK)

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


@dataclass(frozen=True, slots=True)
class Replica:
    """One copy of `model` on `gpus` GPUs that share every layer evenly."""

    model: Model
    gpu: Gpu
    gpus: int = 1
    formats: Formats = ALL_BF16
    mfu: float | None = None  # share of the compute peak that is reached; None: all of it, as in the napkin's bound
    mbu: float | None = None  # share of the DRAM bandwidth that is reached; None: all of it
    hbm_bytes: float | None = None  # memory of a GPU; None: what the driver reports
    overhead_bytes: float = 0  # memory of a GPU that the runtime takes

    def __post_init__(self) -> None:
        checks.whole(gpus=self.gpus)
        checks.not_negative(overhead_bytes=self.overhead_bytes)
        checks.positive(hbm_bytes=self.memory_bytes)
        if self.mfu is not None:
            checks.efficiency(mfu=self.mfu)
        if self.mbu is not None:
            checks.efficiency(mbu=self.mbu)
        if self.gpus > self.model.heads:
            raise BadQuantity(f"gpus={self.gpus} cannot share the {self.model.heads} heads of {self.model.name}")

    @property
    def memory_bytes(self) -> float:
        """Memory of one GPU."""
        return self.gpu.memory.bytes if self.hbm_bytes is None else self.hbm_bytes

    @property
    def roofs(self) -> Roofs:
        """The GPU's roofs times `mfu` (compute) or `mbu` (memory)."""
        return {resource: self._reached(resource, roof) for resource, roof in self.gpu.roofs.items()}

    @property
    def cache_share(self) -> float:
        """Share of the KV cache that each GPU holds and reads: 1/gpus, but at least one KV head."""
        shards = min((mixer.cache_shards for mixer in self.model.mixers), default=1)
        return float(memory.kv_share_per_gpu(shards, self.gpus))

    @property
    def usable_bytes(self) -> float:
        """Memory of all GPUs together without the runtime's."""
        return self.gpus * (self.memory_bytes - self.overhead_bytes)

    @property
    def weight_bytes(self) -> Number:
        """Weights on all GPUs together."""
        return self.model.stored_bytes(self.formats.weight_bits)

    @property
    def mean_weight_bits(self) -> float:
        """Bits of a stored weight on average."""
        return 8 * float(self.weight_bytes) / self.model.stored_params

    @property
    def free_bytes(self) -> Number:
        """Memory left for the KV cache on all GPUs together; negative if the weights do not fit."""
        return memory.free_bytes(self.gpus, self.memory_bytes, self.weight_bytes, self.overhead_bytes)

    def resident_kv_bytes(self, batch: Count, context: Count) -> Number:
        """KV cache of `batch` sequences of `context` tokens on all GPUs together, copied heads included."""
        return kv_bytes(self.model, batch, context, self.formats.kv_bits) * self.cache_share * self.gpus

    def max_batch(self, context: Count) -> Count:
        """Sequences of `context` tokens whose cache fits next to the weights; 0 if the weights alone do not fit."""
        checks.whole(context=context)
        return memory.max_requests(self.free_bytes, self.resident_kv_bytes(1, context))

    def time(self, work: Pass, tokens: Count) -> PassPrediction:
        """Time of a pass that sends `tokens` tokens through every layer. Raises MissingCeiling for an unknown roof."""
        amounts = work.amounts(self.gpus, self.cache_share)
        return PassPrediction(
            (*predict(amounts, self.roofs).terms, *self._link_terms(tokens)),
            work=work,
            bytes=amounts.bytes * self.gpus,
            peak_flop_per_s=find_ceiling(matmul_unit(work.compute), self.gpu.roofs).per_s * self.gpus,
            peak_bytes_per_s=find_ceiling(Resource.DRAM, self.gpu.roofs).per_s * self.gpus,
        )

    def prefill(
        self,
        batch: Count,
        seq: Count,
        *,
        cached: Count = 0,
        mask: Mask = Mask.CAUSAL,
        logits: Logits = Logits.ALL,
    ) -> PassPrediction:
        """Time of a forward pass over `seq` new tokens per sequence, after `cached` tokens in the cache."""
        work = forward(self.model, batch, seq, cached=cached, mask=mask, logits=logits, formats=self.formats)
        return self.time(work, batch * seq)

    def decode(self, batch: Count, context: Count) -> PassPrediction:
        """Time of one decode step for `batch` sequences with `context` cached tokens."""
        return self.time(decode_step(self.model, batch, context, formats=self.formats), batch)

    def _reached(self, resource: Resource, roof: Ceiling) -> Ceiling:
        share = self.mfu if resource.is_compute else self.mbu
        return roof if share is None else Ceiling(roof.per_s * share, f"{share:g} of {roof.source}")

    def _link_terms(self, tokens: Count) -> tuple[Term, ...]:
        """Two all-reduces per layer (Megatron-LM, Shoeybi et al. 2019, section 3)."""
        if self.gpus == 1:
            return ()
        if self.gpu.link_bytes_per_s is None:
            name = self.gpu.name
            raise MissingCeiling(f"{name}: the bandwidth between its GPUs is not known; use one GPU or another type")
        message = parallel.tensor_parallel_message_bytes(tokens, self.model.hidden, self.formats.activation.bytes)
        sent = parallel.all_reduce_bytes(message, self.gpus, in_switch=self.gpu.may_reduce_in_switch)
        sent = 2 * self.model.layers * sent
        return (Term(Resource.LINK, sent, self.gpu.link_bytes_per_s),)
