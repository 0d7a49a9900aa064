"""Training: the state of the optimizer, what a layer keeps for its backward pass, and what one GPU holds in all."""

from collections.abc import Iterator

from predict.answers.arithmetic import number, product, quotient, rounded_up
from predict.answers.lines import Line, Note, Weight, plain
from predict.answers.question import Question
from predict.answers.sections.memory import nominal
from predict.errors import BadModel
from predict.formulas import memory
from predict.formulas.memory import Recompute
from predict.model.activations import activation_bytes, kept
from predict.model.kept import Kernels
from predict.model.training_memory import (
    TrainingLayout,
    TrainingMemory,
    sequences_at_once,
    sequences_per_gpu,
    training_memory,
)
from predict.units import Unit, both_bytes

ZERO_FORMULAS = {1: "weights, gradients + optimizer / GPUs", 2: "weights + the rest / GPUs", 3: "all / GPUs"}
RECOMPUTED = {
    Recompute.NONE: "all, attention scores included",
    Recompute.SELECTIVE: "all but the attention scores",
    Recompute.FLASH: "all but the attention scores",
    Recompute.OPS: "the input, attention's output, every second matrix's",
    Recompute.FULL: "the input of each layer",
}


def training_state(q: Question) -> Iterator[Line | Note]:
    """Weights, gradients and optimizer state, of all GPUs together and of each under ZeRO."""
    kind, params = q.optimizer, q.model.params
    if q.model.vision_params:
        yield Note("training counts the decoder alone, without the vision beside it")
    state = memory.training_state(params, kind)
    total = plain(state.total_bytes)
    for key, label, size, each in (
        ("training_weight_bytes", "weights", state.weight_bytes, kind.weight_bytes),
        ("gradient_bytes", "gradients", state.gradient_bytes, kind.gradient_bytes),
    ):
        yield Line(key, label, plain(size), Unit.BYTES, f"P x {each:g}", product(params, each))
    formula = f"P x {kind.optimizer_bytes:g}: master copy and two moments" if kind.master_bytes else "two moments"
    size, arithmetic = plain(state.optimizer_bytes), product(params, kind.optimizer_bytes)
    yield Line("optimizer_bytes", f"optimizer: {kind.name}", size, Unit.BYTES, formula, arithmetic)
    formula = f"P x {kind.state_bytes_per_param:g}: weights, gradients, optimizer"
    arithmetic = product(params, kind.state_bytes_per_param)
    yield Line("training_state_bytes", "training state", total, Unit.BYTES, formula, arithmetic)
    layout = q.training_layout
    for stage in (1, 2, 3) if layout.data_parallel > 1 else ():
        share = plain(
            memory.sharded_state(params, stage, layout.data_parallel, kind).total_bytes / layout.model_parallel
        )
        yield Line(f"zero_{stage}_bytes_per_gpu", f"per GPU, ZeRO-{stage}", share, Unit.BYTES, ZERO_FORMULAS[stage])
    fewest = plain(memory.min_gpus(total, q.memory_bytes, q.training_reserved_bytes))
    formula = "state / memory of a GPU; without activations"
    arithmetic = rounded_up(quotient(total, q.memory_bytes - q.training_reserved_bytes))
    yield Line("min_gpus_training", "GPUs for the state", fewest, Unit.GPUS, formula, arithmetic)
    yield from nominal(
        q, "GPUs for the training state", lambda hbm: memory.min_gpus(total, hbm, q.training_reserved_bytes)
    )


def step_memory(q: Question) -> Iterator[Line | Note]:
    """Activations and what one GPU holds, or why they are not known."""
    try:
        yield from [*_activations(q), *_training_total(q)]
    except BadModel as error:
        yield Note(f"no activations of training: {error}", Weight.ABSENT)


def _activations(q: Question) -> Iterator[Line | Note]:
    """What the layers keep for the backward pass of the whole batch, and the logits."""
    model, tokens = q.model, q.batch * q.seq

    def total(how: Recompute, kernels: Kernels = q.kernels) -> float:
        return plain(activation_bytes(model, q.batch, q.seq, recompute=how, kernels=kernels))

    here = total(q.recompute)
    of_token = plain(here / model.layers / tokens)
    arithmetic = product(q.batch, q.seq, of_token)
    yield Line(
        "activation_bytes_per_layer",
        "activations of a layer",
        plain(here / model.layers),
        Unit.BYTES,
        f"tokens x {of_token / model.hidden:.4g} x hidden ({_parts(q)})",
        arithmetic,
    )
    for how in dict.fromkeys((q.recompute, *Recompute)):
        if how is Recompute.FLASH and how is not q.recompute:
            continue  # the same bytes as SELECTIVE
        suffix = "" if how is q.recompute else f"_{how}"
        label = f"all, recompute {how}"
        yield Line(f"activation_bytes{suffix}", label, total(how), Unit.BYTES, f"keeps {RECOMPUTED[how]}")
    other = Kernels.EAGER if q.kernels is Kernels.FUSED else Kernels.FUSED
    if (size := total(q.recompute, other)) != here:
        formula = "op by op, as Hugging Face's code" if other is Kernels.EAGER else "norms, SwiGLU and experts fused"
        yield Line(f"activation_bytes_{other}", f"all, {other} kernels", size, Unit.BYTES, formula)
    logits = plain(memory.logits_bytes(q.batch, q.seq, model.outputs)) if model.outputs else 0
    formula, arithmetic = "6BSV: 16 bits, plus fp32 for the loss", product(6, q.batch, q.seq, model.outputs)
    yield Line("logits_bytes", "logits", logits, Unit.BYTES, formula, arithmetic)
    if q.recompute is Recompute.NONE:
        scores = both_bytes(here - total(Recompute.FLASH))
        yield Note(f"{scores} of the activations are attention scores; FlashAttention keeps none: --recompute flash")


def _training_total(q: Question) -> Iterator[Line | Note]:
    """What the fullest GPU holds at the peak of a step."""
    layout, share = q.training_layout, sequences_per_gpu(q.batch, q.training_layout.data_parallel)
    found = held_in_training(q)
    yield from _lines(q, found, sequences_at_once(layout, q.batch, q.micro_batch))
    usable = q.memory_bytes - q.training_reserved_bytes
    total = plain(found.total_bytes)
    formula, arithmetic = f"of {both_bytes(usable)}: the above together", " + ".join(map(number, _sizes(found)))
    yield Line("training_bytes_per_gpu", "a GPU in all", total, Unit.BYTES, formula, arithmetic)
    if total > usable:
        sizes = f"{both_bytes(total)} of {both_bytes(usable)}"
        yield Note(f"a training step does not fit ({sizes} on a GPU): its times assume that it does", Weight.DECISION)
    if q.batch % layout.data_parallel:
        each = "1 sequence" if share == 1 else f"up to {share} sequences"
        yield Note(f"batch {q.batch:,} does not divide by dp {layout.data_parallel:,}: {each} on a GPU")


def held_in_training(q: Question) -> TrainingMemory:
    """The same by what holds it."""
    return training_memory(
        q.model,
        q.training_layout,
        q.batch,
        q.seq,
        micro_batch=q.micro_batch,
        optimizer=q.optimizer,
        recompute=q.recompute,
        kernels=q.kernels,
    )


def _lines(q: Question, found: TrainingMemory, sequences: int) -> Iterator[Line]:
    held = f"{sequences:,} x {q.seq:,} tokens at once"
    for name, label, size, formula in (
        ("state", f"a GPU: state, ZeRO-{q.zero}", found.state_bytes, _spread(q.training_layout)),
        ("gathered", "a GPU: gathered weights", found.gathered_bytes, "two of the largest layers, in 16 bits"),
        ("activation", "a GPU: activations", found.activation_bytes, held),
        ("recomputed", "a GPU: a layer again", found.recomputed_bytes, "what recomputation brings back at a time"),
        ("logits", "a GPU: logits", found.logits_bytes, held),
    ):
        if size:
            yield Line(f"training_{name}_bytes_per_gpu", label, plain(size), Unit.BYTES, formula)


def _sizes(found: TrainingMemory) -> list[float]:
    """What a GPU holds, without what it does not."""
    sizes = (
        found.state_bytes,
        found.gathered_bytes,
        found.activation_bytes,
        found.recomputed_bytes,
        found.logits_bytes,
    )
    return [plain(size) for size in sizes if size]


def _spread(layout: TrainingLayout) -> str:
    """How the state is spread: "over dp 8, tp 2"."""
    sizes = {"dp": layout.data_parallel, "tp": layout.tensor_parallel, "pp": layout.pipeline_parallel}
    text = ", ".join(f"{name} {size}" for name, size in sizes.items() if size > 1)
    return f"over {text}" if text else "all of it"


def _parts(q: Question) -> str:
    """What the layers that are most numerous keep, in bytes per token and unit of the hidden width."""
    block = max(q.model.blocks, key=lambda block: block.layers)
    found = kept(block, q.seq, recompute=q.recompute, kernels=q.kernels)
    return ", ".join(f"{each.what} {float(each.bytes) / block.hidden:.3g}" for each in found)
