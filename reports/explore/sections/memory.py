"""4. Does it fit: what holds the memory of a GPU, to serve or to train."""

from collections.abc import Iterator, Mapping

from predict.answers.fit import serving_fit, training_fit
from predict.answers.lines import Use
from predict.answers.question import Question
from predict.answers.sections.memory import memory_use
from predict.answers.sections.training_memory import held_in_training, step_memory, training_state
from predict.answers.verdict import verdicts
from predict.formulas.memory import sharded_state
from predict.units import both_bytes
from reports.explore.answered import Answered, Row, Stops, bar, numbers_of, texts_of
from reports.explore.charts import BYTES, Axis, bars
from reports.explore.section import Section
from reports.explore.state import State
from reports.palette import GREEN, RED

TRAINING = ("optimizer", "zero", "recompute", "kernels")
KEYS = {
    Use.SERVE: (
        *("weight_bytes", "kv_bytes_per_token", "kv_bytes", "state_bytes", "engine_bytes_per_gpu", "serving_bytes"),
        *("serving_bytes_per_gpu", "min_gpus_weights", "max_batch", "max_context"),
    ),
    Use.TRAIN: (
        *("gradient_bytes", "optimizer_bytes", "training_state_bytes", "min_gpus_training", "activation_bytes"),
        *("logits_bytes", "training_state_bytes_per_gpu", "training_gathered_bytes_per_gpu"),
        *("training_activation_bytes_per_gpu", "training_recomputed_bytes_per_gpu", "training_logits_bytes_per_gpu"),
        "training_bytes_per_gpu",
    ),
}
TENANTS = bars("tenants", "Memory of a GPU by tenant", Axis("bytes", BYTES), ("fits", "does not fit"), (GREEN, RED))


def answer(state: State) -> Answered:
    """The tenants of one GPU, against its memory."""
    use = Use(state["use"])
    own = TRAINING if use is Use.TRAIN else ()
    q = state.question(*own)
    found = [*training_state(q), *step_memory(q)] if use is Use.TRAIN else list(memory_use(q))
    (verdict,) = verdicts(q, frozenset({use}))
    tenants = _training(q) if use is Use.TRAIN else _serving(q)
    return Answered(
        says=(verdict.lines[0],),
        commands=(state.command(*own, option="--train" if use is Use.TRAIN else ""),),
        numbers=tuple(numbers_of(found, KEYS[use])),
        data={"tenants": list(_bars(tenants, q.memory_bytes)), "tenants_marks": [_limit(q)]},
        notes=texts_of(found),
        is_alarm=not verdict.fits,
        controls={name: Stops(state[name] if use is Use.TRAIN else "") for name in TRAINING},
    )


def _serving(q: Question) -> Mapping[str, float]:
    """Bytes of a GPU by tenant; without a layout, none."""
    if not q.serves:
        return {}
    parts = {name: size / q.gpus for name, size in serving_fit(q).parts.items()}
    return {**parts, "kept by the engine": float(q.replica().reserved_bytes)}


def _training(q: Question) -> Mapping[str, float]:
    layout, fit = q.training_layout, training_fit(q)
    held = sharded_state(q.model.params, layout.zero_stage, layout.data_parallel, q.optimizer)
    share = held_in_training(q).state_bytes / held.total_bytes  # of one GPU of those that split a copy
    state = {
        "weights": held.weight_bytes * share,
        "gradients": held.gradient_bytes * share,
        "optimizer": held.optimizer_bytes * share,
    }
    others = {name: size for name, size in fit.parts.items() if name != "weights, gradients and optimizer"}
    parts = {**state, **others, "kept by the runtime": q.training_reserved_bytes}
    return {name: float(size) for name, size in parts.items()}


def _bars(tenants: Mapping[str, float], memory_bytes: float) -> Iterator[Row]:
    start = 0.0
    for name, size in tenants.items():
        end, text = start + size, both_bytes(size)
        inside = max(start, min(end, memory_bytes))
        if inside > start:
            yield bar(name, (start, inside), "fits", text, f"{name}: {text}")
        if end > inside:
            says = f"{name}: {both_bytes(end - inside)} does not fit"
            yield bar(name, (inside, end), "does not fit", "" if inside > start else text, says)
        start = end


def _limit(q: Question) -> Row:
    text = both_bytes(q.memory_bytes)
    return {"x": q.memory_bytes, "label": f"a GPU has {text}", "says": f"memory of a GPU: {text}"}


MEMORY = Section(
    "memory",
    "Does it fit?",
    "Choose a use. Serving holds weights and the KV cache; training holds gradients, optimizer and activations too.",
    answer,
    controls=("use", *TRAINING),
    charts=(TENANTS,),
)
