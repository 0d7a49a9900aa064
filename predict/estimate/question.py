"""What is asked of the napkin: a model, a machine, and everything that is assumed."""

import math
from dataclasses import dataclass, field

from predict import checks
from predict.errors import BadQuantity, MissingCeiling
from predict.formulas.memory import OPTIMIZERS, WEIGHT_FORMATS, Optimizer, Recompute, WeightFormat
from predict.gpus import Gpu
from predict.model.passes import Logits, Mask, Pass, forward
from predict.model.replica import Replica
from predict.model.transformer import Model
from predict.resources import Resource, find_ceiling, matmul_unit
from predict.units import DTYPES, GB, GIB, DType, Formats

MAX_GPUS = 65_536  # no published run has used more


@dataclass(frozen=True, slots=True)
class Question:
    """A model, a machine, and everything that is assumed.

    `seq`: tokens of a prompt, or of a training sequence. `context`: tokens in the cache of each of `batch` requests.
    `mfu` and `mbu` None: the napkin's bound. `hbm_bytes` None: what NVML reports. `draft` proposes tokens of which a
    share `acceptance` is kept; `prefix` tokens of the prompt are cached already; `chunk`: tokens of a prefill's piece.
    Raises BadQuantity.
    """

    model: Model
    gpu: Gpu
    gpus: int = 1
    batch: int = 1
    seq: int = 2048
    context: int = 2048
    mask: Mask = Mask.CAUSAL
    logits: Logits = Logits.ALL
    weights: WeightFormat = field(default_factory=lambda: WEIGHT_FORMATS["bf16"])
    kv: DType = DTYPES["bf16"]
    compute: DType = DTYPES["bf16"]
    recompute: Recompute = Recompute.NONE
    optimizer: Optimizer = field(default_factory=lambda: OPTIMIZERS["adam"])
    tokens: float = 1e12
    tokens_source: str = "as given"
    usd_per_gpu_hour: float = 2.0
    token_price_usd_per_1m: float | None = None
    hbm_bytes: float | None = None
    overhead_bytes: float = 0
    mfu: float | None = None
    mbu: float | None = None
    draft: Model | None = None
    acceptance: float = 0.8
    prefix: int = 0
    chunk: int | None = None

    def __post_init__(self) -> None:
        checks.whole(gpus=self.gpus, batch=self.batch, seq=self.seq)
        checks.not_negative(context=self.context, overhead=self.overhead_bytes)
        checks.positive(tokens=self.tokens, price=self.usd_per_gpu_hour, hbm=self.memory_bytes)
        if self.token_price_usd_per_1m is not None:
            checks.positive(token_price=self.token_price_usd_per_1m)
        for name, share in (("mfu", self.mfu), ("mbu", self.mbu)):
            if share is not None:
                checks.efficiency(**{name: share})
        checks.probability(accept=self.acceptance)
        checks.not_negative(prefix=self.prefix)
        if self.prefix >= self.seq:
            raise BadQuantity(f"prefix={self.prefix} must be less than the {self.seq} tokens of the prompt")
        if self.chunk is not None:
            checks.whole(chunk=self.chunk)
        if self.gpus > MAX_GPUS:
            raise BadQuantity(f"gpus={self.gpus} is more than the {MAX_GPUS} of the largest training runs")
        if self.overhead_bytes >= self.memory_bytes:
            raise BadQuantity(f"overhead={self.overhead_bytes:g} leaves nothing of the {self.memory_bytes:g} bytes")
        if self.unit not in self.gpu.roofs:
            able = ", ".join(unit.partition(".")[2] for unit in self.gpu.roofs if unit.startswith("tensor."))
            raise MissingCeiling(f"compute={self.compute.name}: {self.gpu.name} has no peak for it; it has {able}")

    @property
    def memory_bytes(self) -> float:
        """Memory of one GPU."""
        return self.gpu.memory.bytes if self.hbm_bytes is None else self.hbm_bytes

    @property
    def nominal_bytes(self) -> float:
        """The card's name taken as decimal gigabytes: 80e9 for an "80 GB" card that has 81,559 MiB."""
        return math.ceil(self.gpu.memory.bytes / GIB) * GB

    @property
    def unit(self) -> Resource:
        """The unit that multiplies the matrices."""
        return matmul_unit(self.compute)

    @property
    def peak_flop_per_s(self) -> float:
        """Peak of one GPU in the format that is multiplied."""
        return find_ceiling(self.unit, self.gpu.roofs).per_s

    @property
    def bandwidth_bytes_per_s(self) -> float:
        """DRAM bandwidth of one GPU."""
        return find_ceiling(Resource.DRAM, self.gpu.roofs).per_s

    @property
    def formats(self) -> Formats:
        """Formats of weights, cache and arithmetic."""
        return Formats(self.weights.bits_per_weight, self.kv.bits, self.compute)

    @property
    def serves(self) -> bool:
        """Whether one replica can be spread over the GPUs: every GPU needs a head."""
        return self.gpus <= self.model.heads

    def replica(self, *, model: Model | None = None, hbm_bytes: float | None = None) -> Replica:
        """The model, or another one, on the GPUs; raises BadQuantity where there are more GPUs than heads."""
        return Replica(
            model or self.model,
            self.gpu,
            self.gpus,
            self.formats,
            self.mfu,
            self.mbu,
            hbm_bytes or self.memory_bytes,
            self.overhead_bytes,
        )

    def forward(self) -> Pass:
        """The forward pass over the prompts."""
        return forward(self.model, self.batch, self.seq, mask=self.mask, logits=self.logits, formats=self.formats)
