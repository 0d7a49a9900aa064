"""The input of an estimate: a model, a machine, and all assumptions.

Each assumption is one field of `Question`: its default, and an `Asked` with its texts for the command line and the
JSON. `commands/options.py` makes the options of `python -m predict model` from these fields.
"""

import math
import typing
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated

from predict import checks
from predict.errors import BadQuantity, MissingCeiling
from predict.formulas.memory import (
    OPTIMIZERS,
    WEIGHT_FORMATS,
    Optimizer,
    Recompute,
    WeightFormat,
    runtime_overhead_bytes,
)
from predict.gpus import Gpu
from predict.model.candidates import asked_layouts, fastest, roomiest
from predict.model.kept import Kernels
from predict.model.layout import Layout
from predict.model.passes import Logits, Mask, Pass, forward
from predict.model.replica import Replica
from predict.model.storage import Storage, product_format, wide_format
from predict.model.training_memory import TrainingLayout
from predict.model.training_plan import Training
from predict.model.transformer import Model
from predict.resources import Resource, find_ceiling, matmul_unit
from predict.units import DTYPES, GB, GIB, DType, Formats, si
from predict.workloads import Number

if TYPE_CHECKING:
    from predict.answers.times import Timed

MAX_GPUS = 65_536  # no published run has used more
MAX_BATCH = 10**9  # a step of the largest training runs has some ten thousand sequences
ECC_UP_TO = 48  # GB of cards that take their error correction out of GDDR: 24 GB report 22.5 GiB
USUAL_SEQ = 2048  # default prompt length in tokens


@dataclass(frozen=True, slots=True)
class Asked:
    """How a field of `Question` appears on the command line and in the JSON."""

    help: str  # help text of the option; "": no option
    key: str = ""  # key in the JSON; "": not in the JSON
    option: str = ""  # name of the option; "": the field's name
    optional: bool = False  # the command line works out a default


@dataclass(frozen=True)
class Question:
    """A model, a machine, and all assumptions.

    Raises BadQuantity for a value out of range, MissingCeiling if the GPU has no peak for the compute format.
    """

    model: Annotated[Model, Asked("", "model")]
    gpu: Annotated[Gpu, Asked("GPU name, alias or file.json: see `python -m predict gpus`.", "gpu")]
    gpus: Annotated[
        int, Asked("GPUs of a replica, which also train together. Default: 1, or tp x pp x dp.", "gpus", optional=True)
    ] = 1
    tp: Annotated[
        int | None, Asked("GPUs that split heads and matrices (tensor parallel). Default of all four: the fastest.")
    ] = None
    pp: Annotated[int | None, Asked("Stages of layers, one after the other (pipeline parallel).")] = None
    dp: Annotated[
        int | None, Asked("Copies of all but the experts; each serves a share of the requests (data parallel).")
    ] = None
    ep: Annotated[int | None, Asked("GPUs that hold different experts of a layer (expert parallel).")] = None
    link_between_nodes_bytes_per_s: Annotated[
        float | None,
        Asked(
            "Bytes/s of one GPU to other nodes, one direction: 50GB/s or 400Gbit/s. Default: its board's network.",
            option="link-between-nodes",
        ),
    ] = None
    batch: Annotated[int, Asked("Requests decoded together, and sequences per training step.", "batch")] = 1
    seq: Annotated[
        int,
        Asked(f"Tokens per prompt. Default: --context, else {USUAL_SEQ} or the context limit.", "seq", optional=True),
    ] = USUAL_SEQ
    context: Annotated[int, Asked("Cached tokens per request in decode. Default: --seq.", "context", optional=True)] = (
        USUAL_SEQ
    )
    mask: Annotated[Mask, Asked("causal counts the needed half, full the square.", "attention", "attention")] = (
        Mask.CAUSAL
    )
    logits: Annotated[
        Logits | None, Asked("Positions projected to the vocabulary: all or last. Default: last to serve.")
    ] = None
    weights: Annotated[
        WeightFormat | None,
        Asked(f"Format of every weight: {', '.join(WEIGHT_FORMATS)}. Default: as the model ships.", "weights"),
    ] = None
    kv: Annotated[
        DType | None, Asked(f"Format of the KV cache: {', '.join(DTYPES)}. Default: what the model asks for.", "kv")
    ] = None
    compute: Annotated[
        DType | None,
        Asked("Format of the matrix products. Default: what the model narrows activations to, else bf16.", "compute"),
    ] = None
    recompute: Annotated[Recompute, Asked(f"Recomputation: {', '.join(Recompute)}.", "recompute")] = Recompute.NONE
    kernels: Annotated[
        Kernels, Asked("What training keeps: eager is op by op, fused as by Liger or torch.compile.", "kernels")
    ] = Kernels.EAGER
    zero: Annotated[int, Asked("ZeRO stage of the training: 0 to 3; 3 is FSDP.", "zero")] = 3
    micro_batch: Annotated[
        int | None,
        Asked("Sequences that a GPU trains at once. Default: its share of --batch.", "micro_batch", "micro-batch"),
    ] = None
    optimizer: Annotated[Optimizer, Asked(f"One of: {', '.join(OPTIMIZERS)}.", "optimizer")] = OPTIMIZERS["adam"]
    tokens: Annotated[
        float,
        Asked(
            "Training tokens. Default: the published number, else 20 per parameter.", "training_tokens", optional=True
        ),
    ] = 1e12
    tokens_source: str = "as given"  # source of `tokens`
    usd_per_gpu_hour: Annotated[float, Asked("$ per GPU-hour.", "usd_per_gpu_hour", "price")] = 2.0
    token_price_usd_per_1m: Annotated[
        float | None, Asked("Price in $ of 1M tokens, for the break-even.", option="token-price")
    ] = None
    hbm_bytes: Annotated[
        float | None, Asked("Bytes of memory per GPU. Default: what the driver reports.", "hbm_bytes", "hbm")
    ] = None
    overhead_bytes: Annotated[
        float | None,
        Asked(
            "Bytes per GPU that engine and runtime keep; 0 counts bare memory. Default: 3.5 GB, or a tenth of a small "
            "card, and in serving the activations of a pass.",
            "overhead_bytes",
            "overhead",
        ),
    ] = None
    mfu: Annotated[float | None, Asked("Share of peak FLOP/s reached. Default: the bound.", "assumed_mfu")] = None
    mbu: Annotated[float | None, Asked("Share of bandwidth reached. Default: the bound.", "assumed_mbu")] = None
    draft: Annotated[Model | None, Asked("Draft model (a preset) for speculative decoding.")] = None
    acceptance: Annotated[float, Asked("Chance that a drafted token is accepted.", option="accept")] = 0.8
    prefix: Annotated[int, Asked("Prompt tokens that are already cached.")] = 0
    chunk: Annotated[int | None, Asked("Tokens per chunk of a chunked prefill.")] = None

    def __post_init__(self) -> None:
        checks.whole(**self.asked_sizes)
        checks.whole(gpus=self.gpus, batch=self.batch, seq=self.seq)
        checks.not_negative(context=self.context, overhead=self.overhead_bytes or 0)
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
        if self.micro_batch is not None:
            checks.whole(**{"micro-batch": self.micro_batch})
            if self.micro_batch > self.batch:
                raise BadQuantity(f"micro-batch={self.micro_batch} is over the {self.batch} sequences of the batch")
        _ = self.layouts, self.training_layout  # raise for sizes that contradict each other and an unknown stage
        if self.link_between_nodes_bytes_per_s is not None:
            checks.positive(**{"link-between-nodes": self.link_between_nodes_bytes_per_s})
        if self.batch > MAX_BATCH:
            raise BadQuantity(f"batch={self.batch} is more than the {MAX_BATCH:,} that this counts with")
        if self.gpus > MAX_GPUS:
            raise BadQuantity(f"gpus={self.gpus} is more than the {MAX_GPUS} of the largest training runs")
        if self.overhead_bytes is not None and self.overhead_bytes >= self.memory_bytes:
            kept, all_bytes = si(self.overhead_bytes, "B"), si(self.memory_bytes, "B")
            raise BadQuantity(f"an overhead of {kept} leaves nothing of the {all_bytes} of a GPU")
        if self.unit not in self.gpu.roofs:
            able = ", ".join(unit.partition(".")[2] for unit in self.gpu.roofs if unit.startswith("tensor."))
            able = able or "none of matrix products"
            raise MissingCeiling(
                f"compute={self.compute_dtype.name}: {self.gpu.name} has no peak for it; it has {able}"
            )

    @property
    def memory_bytes(self) -> float:
        """Memory of one GPU."""
        return self.gpu.memory.bytes if self.hbm_bytes is None else self.hbm_bytes

    @property
    def reserved_bytes(self) -> float:
        """Memory of one GPU that a serving engine keeps besides weights and cache."""
        return self.roomiest_replica().reserved_bytes if self.serves else self.training_reserved_bytes

    @property
    def training_reserved_bytes(self) -> float:
        """Memory of one GPU that the runtime keeps. Activations are counted by themselves."""
        if self.overhead_bytes is None:
            return float(runtime_overhead_bytes(self.memory_bytes))
        return self.overhead_bytes

    @property
    def nominal_bytes(self) -> float:
        """The card's nominal decimal gigabytes: 80e9 for an "80 GB" card that has 81,559 MiB. A file may give them."""
        total = self.gpu.memory.bytes
        if total % GB == 0:
            return total
        size = math.ceil(total / GIB)
        return (size if size > ECC_UP_TO else -(-size // 8) * 8) * GB

    @property
    def storage(self) -> Storage | None:
        """How the model ships, or None if --weights names another format."""
        return self.model.storage if self.weights is None else None

    @property
    def weights_name(self) -> str:
        """Name of the format of the weights."""
        return self.model.storage.name if self.weights is None else self.weights.name

    @property
    def weight_bits(self) -> float:
        """Bits of a stored weight on average."""
        return 8 * float(self.model.stored_bytes(self.formats.weight_bits)) / self.model.stored_params

    @property
    def kv_dtype(self) -> DType:
        """Format of the KV cache: as asked, else what the checkpoint asks for, else bf16."""
        return self.kv or (self.storage.kv if self.storage else None) or DTYPES["bf16"]

    @property
    def compute_dtype(self) -> DType:
        """Format of the products: as asked, else the one that the checkpoint narrows activations to if the GPU
        multiplies it, else 16 bits."""
        return self.compute or product_format(self.storage, self.gpu)

    @property
    def training_dtype(self) -> DType:
        """Format of the products in training: as asked, else bf16, or fp16 on a GPU that multiplies no bf16."""
        return self.compute or wide_format(self.gpu)

    @property
    def unit(self) -> Resource:
        """The unit that multiplies the matrices."""
        return matmul_unit(self.compute_dtype)

    @property
    def peak_flop_per_s(self) -> float:
        """Peak of one GPU in the compute format."""
        return find_ceiling(self.unit, self.gpu.roofs).per_s

    @property
    def training_flop_per_s(self) -> float:
        """Peak of one GPU in training."""
        return find_ceiling(matmul_unit(self.training_dtype), self.gpu.roofs).per_s

    @property
    def bandwidth_bytes_per_s(self) -> float:
        """DRAM bandwidth of one GPU."""
        return find_ceiling(Resource.DRAM, self.gpu.roofs).per_s

    @property
    def formats(self) -> Formats:
        """Formats of weights, cache and products."""
        bits = None if self.weights is None else self.weights.bits_per_weight
        return Formats(bits, self.kv_dtype.bits, self.compute_dtype)

    @property
    def asked_sizes(self) -> dict[str, int]:
        """The sizes of the layout that are asked for, by name."""
        sizes = {"tp": self.tp, "pp": self.pp, "dp": self.dp, "ep": self.ep}
        return {name: size for name, size in sizes.items() if size is not None}

    @cached_property
    def layouts(self) -> tuple[Layout, ...]:
        """The layouts that come into question; one if all its sizes are asked for. Raises BadQuantity for sizes that
        contradict each other, the model or the number of GPUs."""
        return asked_layouts(self.model, self.gpu, self.gpus, self.asked_sizes)

    @property
    def network_bytes_per_s(self) -> float | None:
        """Rate of one GPU to other nodes, one direction; None if it is not known."""
        return self.link_between_nodes_bytes_per_s or self.gpu.network_bytes_per_s

    @cached_property
    def replicas(self) -> tuple[Replica, ...]:
        """The model in each of these layouts, without those over links whose rate is not known. Raises BadQuantity if
        there is no layout, MissingCeiling if no rate is known."""
        if reason := self.unserved:
            raise MissingCeiling(reason) if self.layouts else BadQuantity(reason)
        return tuple(each for each in self._replicas if not each.missing_rate)

    @cached_property
    def unserved(self) -> str:
        """Why no replica can serve; empty if one can."""
        missing = [each.missing_rate for each in self._replicas]
        if not missing:
            heads = f"the {self.model.heads} heads of one replica"
            return f"{self.gpus:,} GPUs cannot share {heads}; serve with fewer, or with copies (--dp)"
        return missing[0] if all(missing) else ""

    @property
    def serves(self) -> bool:
        """Whether one replica can be spread over the GPUs."""
        return not self.unserved

    def replica(self, batch: int | None = None) -> Replica:
        """The replica that decodes `batch` requests fastest; None: the question's batch."""
        requests, known = batch or self.batch, self._decoders

        def time_s(replica: Replica) -> Number:
            return replica.decode(requests, self.context).napkin_s

        if requests not in known:
            known[requests] = fastest(self.replicas, requests, self.context, time_s)
        return known[requests]

    def prefill_replica(self, batch: int | None = None) -> Replica:
        """The replica that reads `batch` prompts fastest; None: the question's batch."""
        prompts, known = batch or self.batch, self._readers

        def time_s(replica: Replica) -> Number:
            return replica.prefill(prompts, self.seq, mask=self.mask, logits=self.prompt_logits).napkin_s

        if prompts not in known:
            known[prompts] = fastest(self.replicas, prompts, self.seq, time_s)
        return known[prompts]

    def roomiest_replica(self, *, hbm_bytes: float | None = None) -> Replica:
        """The replica that holds the largest batch."""
        sizes = self.memory_bytes if hbm_bytes is None else hbm_bytes
        return roomiest([replace(each, hbm_bytes=sizes) for each in self.replicas], self.context)

    @cached_property
    def _replicas(self) -> tuple[Replica, ...]:
        return tuple(
            Replica(
                self.model,
                self.gpu,
                layout,
                self.formats,
                self.mfu,
                self.mbu,
                self.memory_bytes,
                self.overhead_bytes,
                self.link_between_nodes_bytes_per_s,
                self.draft,
            )
            for layout in self.layouts
        )

    @cached_property
    def timed(self) -> "dict[tuple[str, int], Timed]":
        """The passes that `times` has timed, by name and batch: verdict, lines and breakdown ask for the same ones."""
        return {}

    @cached_property
    def _decoders(self) -> dict[int, Replica]:
        """The replicas that were found to decode fastest, by batch."""
        return {}

    @cached_property
    def _readers(self) -> dict[int, Replica]:
        """The replicas that were found to read prompts fastest, by batch."""
        return {}

    @property
    def training_layout(self) -> TrainingLayout:
        """How a training step is spread over the GPUs: --tp and --pp as asked, the others by data parallelism."""
        tensor, stages = self.tp or 1, self.pp or 1
        copies = self.gpus // (tensor * stages)
        return TrainingLayout(max(1, copies), tensor, stages, self.zero)

    @cached_property
    def training(self) -> Training:
        """The training step, for plans and expected times. What is not asked of its layout is left open."""
        return Training(
            model=self.model,
            gpu=self.gpu,
            gpus=self.gpus,
            batch=self.batch,
            seq=self.seq,
            compute=self.training_dtype,
            mask=self.mask,
            recompute=self.recompute,
            kernels=self.kernels,
            optimizer=self.optimizer,
            zero=self.zero,
            usable_bytes=self.memory_bytes - self.training_reserved_bytes,
            network_bytes_per_s=self.network_bytes_per_s,
            tensor_parallel=self.tp,
            pipeline_parallel=self.pp,
            micro_batch=self.micro_batch,
        )

    @property
    def prompt_logits(self) -> Logits:
        """Which positions prefill projects to the vocabulary: the last one samples the first token."""
        return self.logits or Logits.LAST

    def forward(self, logits: Logits | None = None) -> Pass:
        """The forward pass over the prompts. logits: which positions it projects; None: those of prefill."""
        positions = logits or self.prompt_logits
        return forward(self.model, self.batch, self.seq, mask=self.mask, logits=positions, formats=self.formats)

    def assumptions(self) -> dict[str, object]:
        """The inputs and assumptions by their keys in the JSON. Formats, models and GPUs appear by name."""
        asked = {each.key: in_json(getattr(self, name)) for name, (_, each) in ASKED.items() if each.key}
        formats = {"weights": self.weights_name, "kv": self.kv_dtype.name, "compute": self.compute_dtype.name}
        machine = {
            "hbm_bytes": self.memory_bytes,
            "overhead_bytes": self.reserved_bytes,
            "link_between_nodes_bytes_per_s": self.network_bytes_per_s,
        }
        return {**asked, **formats, "logits": self.prompt_logits, **machine}


def in_json(value: object) -> object:
    """Numbers, texts and None stay as they are; anything else becomes its name."""
    return value if value is None or isinstance(value, int | float | str) else value.name  # type: ignore[attr-defined]


# Name of each field with an `Asked` -> (its type, its `Asked`).
ASKED: Mapping[str, tuple[object, Asked]] = MappingProxyType(
    {
        name: (hint.__origin__, hint.__metadata__[0])
        for name, hint in typing.get_type_hints(Question, include_extras=True).items()
        if hasattr(hint, "__metadata__")
    }
)
