"""The passes of a model as workloads: every kernel that one GPU of its layout launches, and its layers as a whole.

    run = ModelRun(find_model("llama-3-8b"), (PassSize(Phase.DECODE, 8, 8192),))
    run.passes(limits)

The kernels are those of `predict.model.kernels`, so what is measured is what the napkin counts.
"""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from bench.passes import ModelPass, Whole
from bench.suites import Limits
from predict.errors import BadQuantity, BadRun, MissingCeiling
from predict.expected.model_pass import expected_decode, expected_prefill
from predict.formulas.memory import WeightFormat
from predict.gpus import NVIDIA_GPUS, Gpu
from predict.gpus.gpu import Memory
from predict.model.kernels import decode_kernels, prefill_kernels
from predict.model.layout import ONE_GPU, Layout, check_layout, divisors
from predict.model.model_kernel import ModelKernel
from predict.model.passes import Logits, decode_step, forward
from predict.model.replica import Replica
from predict.model.storage import product_format
from predict.model.transformer import Model
from predict.model.whole import decode_layer, decode_model, prefill_layer, prefill_model
from predict.units import DTYPES, DType, Formats, si
from predict.workloads import Amounts, Workload

ACTIVATIONS = ("bf16", "fp16", "fp32")  # formats that a pass computes in
LAYER, MODEL = "layer", "model"  # what is measured whole


class Phase(StrEnum):
    """A kind of pass."""

    DECODE = "decode"  # one token for each request
    PREFILL = "prefill"  # a prompt of each request


@dataclass(frozen=True, slots=True)
class PassSize:
    """What a pass works on."""

    phase: Phase
    batch: int
    tokens: int  # cached ones of each request in decode, of each prompt in prefill


@dataclass(frozen=True, slots=True)
class AskedFormats:
    """Number formats that are asked for; None: as the checkpoint says, and as usual on the machine."""

    weights: WeightFormat | None = None
    kv: DType | None = None
    compute: DType | None = None
    dtype: DType | None = None  # of activations


AS_SHIPPED = AskedFormats()


@dataclass(frozen=True, slots=True)
class ModelRun:
    """A model, and the passes of it that are measured on one GPU of its layout, or on the CPU. Raises BadQuantity for a
    layout that no engine would choose, or a format that is none of activations."""

    model: Model
    sizes: tuple[PassSize, ...]
    layout: Layout = ONE_GPU
    asked: AskedFormats = AS_SHIPPED

    def __post_init__(self) -> None:
        check_layout(self.layout, self.model)
        dtype = self.asked.dtype
        if dtype and dtype.name not in ACTIVATIONS:
            raise BadQuantity(
                f"--dtype of a model is that of activations, {', '.join(ACTIVATIONS)}, not {dtype.name}; --weights,"
                " --kv and --compute take narrower formats"
            )

    @property
    def name(self) -> str:
        """For the progress bar."""
        return f"{self.model.name}, {' and '.join(dict.fromkeys(size.phase for size in self.sizes))}"

    def check(self, limits: Limits) -> None:
        """Raise BadRun if the weights of one GPU are over its memory, and say what would fit."""
        replica = self._replica(limits)
        share = float(replica.weight_bytes) / replica.gpus
        if limits.memory_bytes is None or share <= limits.memory_bytes:
            return
        shards = (tp for tp in divisors(self.model.heads) if share * replica.gpus / tp <= limits.memory_bytes)
        tp = next(shards, None)
        advice = f"--tp {tp} measures one of {tp} GPUs that hold it together" if tp else "choose narrower --weights"
        whose = "one GPU's share of its weights takes" if replica.gpus > 1 else "its weights take"
        raise BadRun(
            f"{self.model.name} does not fit: {whose} {si(share, 'B')}, the {limits.device} has"
            f" {si(limits.memory_bytes, 'B')}; {advice}"
        )

    def workloads(self, limits: Limits) -> Iterator[Workload]:
        """What is measured: the kernels of each pass, then layers and models as a whole."""
        replica = self._replica(limits)
        for size in self.sizes:
            kernels = self._kernels(replica, size, limits)
            yield from (kernel.workload for kernel in kernels if kernel.workload)
        for size in self.sizes:
            wholes = self._wholes(replica, size, limits).values()
            yield from (workload for workload in wholes if not isinstance(workload, str))

    def passes(self, limits: Limits) -> tuple[ModelPass, ...]:
        """The passes that these workloads make up."""
        replica = self._replica(limits)
        return tuple(self._pass(replica, size, limits) for size in self.sizes)

    def _pass(self, replica: Replica, size: PassSize, limits: Limits) -> ModelPass:
        expected_s, reason = _expected(replica, size)
        notes = (
            *self._notes(replica, size, limits),
            *([f"expected time of the whole pass: {reason}"] if reason else []),
        )
        return ModelPass(
            model=self.model.name,
            phase=size.phase,
            batch=size.batch,
            tokens=size.tokens,
            layout=self.layout.text,
            dtype=self._dtype(limits),
            kernels=self._kernels(replica, size, limits),
            wholes=tuple(self._told_wholes(replica, size, limits)),
            amounts=_amounts(replica, size),
            expected_s=expected_s,
            notes=tuple(notes),
        )

    def _kernels(self, replica: Replica, size: PassSize, limits: Limits) -> tuple[ModelKernel, ...]:
        dtype = self._dtype(limits)
        if size.phase is Phase.DECODE:
            return decode_kernels(replica, size.batch, size.tokens, dtype)
        return prefill_kernels(replica, size.batch, size.tokens, Logits.LAST, dtype)

    def _wholes(self, replica: Replica, size: PassSize, limits: Limits) -> dict[str, Workload | str]:
        """A layer and the model as one workload each, or why no op is that."""
        dtype = self._dtype(limits)
        layer, model = (decode_layer, decode_model) if size.phase is Phase.DECODE else (prefill_layer, prefill_model)
        return {
            LAYER: layer(replica, size.batch, size.tokens, dtype),
            MODEL: model(replica, size.batch, size.tokens, dtype),
        }

    def _told_wholes(self, replica: Replica, size: PassSize, limits: Limits) -> Iterator[Whole]:
        """These for the file. What keeps the model from being one is told once if it keeps the layer too."""
        found = self._wholes(replica, size, limits)
        for name, each in found.items():
            if not isinstance(each, str):
                yield Whole(name, self.model.layers if name == LAYER else 1, each.id, "")
            elif name == LAYER or each != found[LAYER]:
                yield Whole(name, 1, None, each)

    def _notes(self, replica: Replica, size: PassSize, limits: Limits) -> Iterator[str]:
        yield from self.model.notes
        cache = float(replica.kv_bytes_per_gpu(size.batch, size.tokens))
        weights = float(replica.weight_bytes) / replica.gpus
        if limits.memory_bytes is not None and weights + cache > limits.memory_bytes:
            yield (
                f"this pass does not fit as a whole: weights of {si(weights, 'B')} and a cache of {si(cache, 'B')}, and"
                f" there are {si(limits.memory_bytes, 'B')}; its kernels fit one by one"
            )

    def _dtype(self, limits: Limits) -> DType:
        """The format of activations: as asked, else the machine's usual one if the weights fit in it, else bf16."""
        if self.asked.dtype:
            return self.asked.dtype
        usual = limits.dtype
        weights_bytes = self.model.stored_params * usual.bytes / self.layout.gpus
        fits = limits.memory_bytes is None or weights_bytes <= limits.memory_bytes
        return usual if fits else DTYPES["bf16"]

    def _replica(self, limits: Limits) -> Replica:
        gpu, dtype = _machine(limits), self._dtype(limits)
        return Replica(self.model, gpu, self.layout, self._formats(gpu, dtype))

    def _formats(self, gpu: Gpu, dtype: DType) -> Formats:
        """As asked; else as the checkpoint ships, widened to a format of activations that is wider."""
        storage = None if self.asked.weights else self.model.storage
        wide = dtype.bits > DTYPES["bf16"].bits
        bits = self.asked.weights.bits_per_weight if self.asked.weights else dtype.bits if wide else None
        kv = self.asked.kv or (storage and not wide and storage.kv) or dtype
        compute = self.asked.compute or (dtype if wide or not gpu.roofs else product_format(storage, gpu))
        return Formats(bits, kv.bits, compute)


def sizes_of(
    phases: Iterable[Phase], batches: Iterable[int], contexts: Iterable[int], seqs: Iterable[int]
) -> tuple[PassSize, ...]:
    """Every batch with every context for decode, and with every prompt for prefill."""
    tokens = {Phase.DECODE: tuple(contexts), Phase.PREFILL: tuple(seqs)}
    batches = tuple(batches)
    return tuple(
        PassSize(phase, batch, each) for phase in phases for each, batch in itertools.product(tokens[phase], batches)
    )


def _machine(limits: Limits) -> Gpu:
    """The card of the table; else what this run knows of the machine."""
    if limits.gpu:
        return NVIDIA_GPUS[limits.gpu]
    memory_bytes = limits.memory_bytes or 2**63
    return Gpu(name=limits.device, memory=Memory(memory_bytes), roofs=limits.roofs or {}, source="this run")


def _amounts(replica: Replica, size: PassSize) -> Amounts:
    """The work of one GPU in the pass, as the napkin counts it."""
    model, formats = replica.model, replica.formats
    if size.phase is Phase.DECODE:
        return decode_step(model, size.batch, size.tokens, formats=formats).amounts(replica.layout)
    return forward(model, size.batch, size.tokens, logits=Logits.LAST, formats=formats).amounts(replica.layout)


def _expected(replica: Replica, size: PassSize) -> tuple[float | None, str]:
    """The expected time of the pass, or why there is none."""
    try:
        if size.phase is Phase.DECODE:
            return expected_decode(replica, size.batch, size.tokens).time_s, ""
        return expected_prefill(replica, size.batch, size.tokens, Logits.LAST).time_s, ""
    except MissingCeiling as error:
        return None, str(error)
