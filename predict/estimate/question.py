"""What is asked of the napkin: a model, a machine, and everything that is assumed.

Each assumption is said once, as a field of `Question`: its default, and in `Asked` what the command line and the JSON
say of it. `commands/model.py` makes the options of `python -m predict model` from them.
"""

import math
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated

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
USUAL_SEQ = 2048  # tokens of a prompt where nothing is said


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line and the JSON say of a field of `Question`."""

    help: str  # of its option; "" where it has none
    key: str = ""  # in the JSON; "" where it is not there
    option: str = ""  # name of the option, if not the field's
    optional: bool = False  # the command line works it out where it is not given


@dataclass(frozen=True, slots=True)
class Question:
    """A model, a machine, and everything that is assumed. Raises BadQuantity."""

    model: Annotated[Model, Asked("", "model")]
    gpu: Annotated[Gpu, Asked("GPU name or alias: see `python -m predict gpus`.", "gpu")]
    gpus: Annotated[int, Asked("GPUs: they share every layer of a replica; and they train.", "gpus")] = 1
    batch: Annotated[int, Asked("Requests decoded together; sequences of a training step.", "batch")] = 1
    seq: Annotated[
        int,
        Asked(f"Tokens of a prompt. Default: --context, or {USUAL_SEQ} within the limit.", "seq", optional=True),
    ] = USUAL_SEQ
    context: Annotated[
        int, Asked("Cached tokens of a request in decode. Default: --seq.", "context", optional=True)
    ] = USUAL_SEQ
    mask: Annotated[Mask, Asked("causal counts the needed half, full the square.", "attention", "attention")] = (
        Mask.CAUSAL
    )
    logits: Annotated[Logits, Asked("Positions projected to the vocabulary: all or last.", "logits")] = Logits.ALL
    weights: Annotated[WeightFormat, Asked(f"Stored weights: {', '.join(WEIGHT_FORMATS)}.", "weights")] = (
        WEIGHT_FORMATS["bf16"]
    )
    kv: Annotated[DType, Asked(f"KV cache: {', '.join(DTYPES)}.", "kv")] = DTYPES["bf16"]
    compute: Annotated[
        DType, Asked("What matrices are multiplied in; fp8 weights alone do not change it.", "compute")
    ] = DTYPES["bf16"]
    recompute: Annotated[Recompute, Asked(f"Activations: {', '.join(Recompute)}.", "recompute")] = Recompute.NONE
    optimizer: Annotated[Optimizer, Asked(f"One of: {', '.join(OPTIMIZERS)}.", "optimizer")] = OPTIMIZERS["adam"]
    tokens: Annotated[
        float,
        Asked("Training tokens. Default: what was published, else 20 per parameter.", "training_tokens", optional=True),
    ] = 1e12
    tokens_source: str = "as given"  # who says how many tokens
    usd_per_gpu_hour: Annotated[float, Asked("$ per GPU-hour.", "usd_per_gpu_hour", "price")] = 2.0
    token_price_usd_per_1m: Annotated[
        float | None, Asked("$ per 1M tokens sold, for the break-even.", option="token-price")
    ] = None
    hbm_bytes: Annotated[
        float | None, Asked("Bytes of memory per GPU. Default: what NVML reports.", "hbm_bytes", "hbm")
    ] = None
    overhead_bytes: Annotated[float, Asked("Bytes per GPU that the runtime keeps.", "overhead_bytes", "overhead")] = 0.0
    mfu: Annotated[float | None, Asked("Share of peak FLOP/s reached. Default: none, the bound.", "assumed_mfu")] = None
    mbu: Annotated[float | None, Asked("Share of bandwidth reached. Default: none, the bound.", "assumed_mbu")] = None
    draft: Annotated[Model | None, Asked("A preset that drafts for speculative decoding.")] = None
    acceptance: Annotated[float, Asked("Chance that a drafted token is accepted.", option="accept")] = 0.8
    prefix: Annotated[int, Asked("Tokens of the prompt that are cached already.")] = 0
    chunk: Annotated[int | None, Asked("Prefill in chunks of so many tokens.")] = None

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

    def assumptions(self) -> dict[str, object]:
        """What is asked and assumed, by its key in the JSON; formats, models and GPUs by name."""
        asked = {each.key: in_json(getattr(self, name)) for name, (_, each) in ASKED.items() if each.key}
        return {**asked, "hbm_bytes": self.memory_bytes}


def in_json(value: object) -> object:
    """A number, a text or nothing as it is; anything else by its name."""
    return value if value is None or isinstance(value, int | float | str) else value.name  # type: ignore[attr-defined]


# The type of each field that is asked for, and what is said of it.
ASKED: Mapping[str, tuple[object, Asked]] = MappingProxyType(
    {
        name: (hint.__origin__, hint.__metadata__[0])
        for name, hint in typing.get_type_hints(Question, include_extras=True).items()
        if hasattr(hint, "__metadata__")
    }
)
