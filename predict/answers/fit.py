"""Whether a question fits into memory, to serve or to train, and the nearest question that does."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from predict.answers.lines import Use
from predict.answers.question import Question
from predict.answers.sections.training_memory import held_in_training
from predict.errors import NapkinError
from predict.formulas.memory import WEIGHT_FORMATS, Recompute

MOST_GPUS = {Use.SERVE: 64, Use.TRAIN: 4096}  # of a suggestion
NARROWER = ("fp8", "int4")
SHORTEST_CONTEXT = 1024  # a suggestion with fewer tokens answers another question

Change = tuple[str, Mapping[str, object]]  # options, and the fields of `Question` that they set


@dataclass(frozen=True, slots=True)
class Fit:
    """What is needed, by what needs it, and the memory that the runtime leaves."""

    parts: Mapping[str, float]  # name -> bytes
    usable_bytes: float

    @property
    def needed_bytes(self) -> float:
        """All parts."""
        return sum(self.parts.values())

    @property
    def fits(self) -> bool:
        """Whether the memory holds all parts."""
        return self.needed_bytes <= self.usable_bytes


@dataclass(frozen=True, slots=True)
class Nearest:
    """A question close to the one that was asked, and fits."""

    option: str  # what to change: "--gpus 4"
    fit: Fit


def serving_fit(q: Question) -> Fit:
    """The batch on all GPUs together. Raises BadQuantity if no replica can be spread over them."""
    replica = q.replica()
    cache = float(replica.kv_bytes_per_gpu(q.batch, q.context)) * replica.gpus
    parts = {"weights": float(replica.weight_bytes), "KV cache": cache}
    if draft := replica.beside:
        parts["draft model"] = float(draft.weight_bytes + draft.resident_kv_bytes(q.batch, q.context))
    return Fit(parts, float(replica.usable_bytes))


def training_fit(q: Question) -> Fit:
    """A training step on its fullest GPU."""
    held = held_in_training(q)
    parts = {
        "weights, gradients and optimizer": held.state_bytes,
        "gathered weights": held.gathered_bytes,
        "activations": held.activation_bytes + held.recomputed_bytes,
        "logits": held.logits_bytes,
    }
    return Fit({name: float(size) for name, size in parts.items() if size}, q.memory_bytes - q.training_reserved_bytes)


def nearest_fit(q: Question, use: Use) -> Nearest | None:
    """The first change that makes the question fit; None if none does.

    Serving: a smaller batch if the weights leave room for a request, else more GPUs, else narrower weights, else fewer
    tokens. Training: attention without stored scores, one sequence at a time, recomputation, else more GPUs.
    """
    for option, change in _CHANGES[use](q):
        try:
            other = replace(q, **change)  # type: ignore[arg-type]
            found = FITS[use](other)
            if use is Use.SERVE:
                other.replica().decode(other.batch, other.context)  # GPUs whose link is not known have no times
        except NapkinError:
            continue
        if found.fits:
            return Nearest(option, found)
    return None


def _serving_changes(q: Question) -> Iterator[Change]:
    """The nearest first."""
    if q.draft is not None:
        yield "no --draft", {"draft": None}
    if q.serves and q.context and (largest := int(q.roomiest_replica().max_batch(q.context))):
        yield f"--batch {largest}", {"batch": largest}
    yield from _more_gpus(q, MOST_GPUS[Use.SERVE])
    narrow = [WEIGHT_FORMATS[name] for name in NARROWER if WEIGHT_FORMATS[name].bits_per_weight < q.weight_bits]
    for weights in narrow:
        yield f"--weights {weights.name}", {"weights": weights}
    context = q.context // 2
    while context >= SHORTEST_CONTEXT:
        yield f"--context {context}", {"context": context}
        context //= 2
    for weights in narrow:
        yield f"--weights {weights.name} --batch 1", {"weights": weights, "batch": 1}


def _training_changes(q: Question) -> Iterator[Change]:
    """The nearest first."""
    flash = ("--recompute flash", {"recompute": Recompute.FLASH})
    one = ("--micro-batch 1", {"micro_batch": 1})
    full = ("--recompute full", {"recompute": Recompute.FULL})
    ops = ("--recompute ops", {"recompute": Recompute.OPS})
    changes: list[Change] = [flash, one, _both(flash, one), ops, _both(ops, one), full, _both(full, one)]
    yield from changes
    for more in _more_gpus(q, MOST_GPUS[Use.TRAIN]):
        yield from (more, _both(more, _both(flash, one)), _both(more, _both(full, one)))


def _more_gpus(q: Question, most: int) -> Iterator[Change]:
    """Powers of two."""
    power = 2 ** q.gpus.bit_length()
    while power <= most:
        yield f"--gpus {power}", {"gpus": power}
        power *= 2


def _both(first: Change, second: Change) -> Change:
    return f"{first[0]} {second[0]}", {**first[1], **second[1]}


FITS: Mapping[Use, Callable[[Question], Fit]] = MappingProxyType({Use.SERVE: serving_fit, Use.TRAIN: training_fit})
_CHANGES: Mapping[Use, Callable[[Question], Iterator[Change]]] = MappingProxyType(
    {Use.SERVE: _serving_changes, Use.TRAIN: _training_changes}
)
