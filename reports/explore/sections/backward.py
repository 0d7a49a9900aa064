"""3. What does a training step cost: forward, backward, recomputation; and why backward is twice forward."""

from collections.abc import Iterator

from predict.answers.lines import Use
from predict.answers.question import Question
from predict.answers.sections.training import training
from predict.model.linear import Component
from predict.model.passes import training_step
from predict.units import Kind, percent, read_quantity, si, times
from reports.explore.answered import Answered, Row, bar, numbers_of, texts_of
from reports.explore.backprop import edge_rows, node_rows, steps
from reports.explore.charts import FLOP, Axis, bars, graph
from reports.explore.section import Section
from reports.explore.state import State
from reports.explore.unfit import unfit

OWN = ("recompute", "kernels")
KEYS = (
    *("train_flop", "train_flop_napkin", "train_hardware_flop", "train_step_s", "train_step_expected_s"),
    *("train_mfu_expected", "activation_bytes", "activation_bytes_per_layer"),
)
PARTS = bars("step", "FLOP of a training step", Axis("FLOP", FLOP), ("forward", "backward", "again"))
GRAPH = graph("graph", "The lesson's graph: L = 2(w1 w2) w3")


def answer(state: State) -> Answered:
    """A step's FLOP, and the graph after some of its steps."""
    q = state.question(*OWN)
    found = list(training(q))
    walk = steps(*(read_quantity(state[name], name, Kind.PLAIN) for name in ("w1", "w2", "w3")))
    done = walk[: state.size("step", 0, len(walk) - 1) + 1]
    parts = list(_parts(q))
    forward, back = sum(step.products for step in walk[:4]), sum(step.products for step in walk[4:])
    return Answered(
        says=(
            *unfit(q, Use.TRAIN),
            f"Backward takes {times(sum(flop for _, group, flop in parts if group == 'backward') / parts[0][2])}"
            " the FLOP of forward.",
            done[-1].text,
            f"Multiplications of the graph: {forward} forward, {back} backward.",
        ),
        commands=(state.command(*OWN, option="--train"),),
        numbers=tuple(numbers_of(found, KEYS)),
        data={"step": list(_bars(parts)), "graph": list(node_rows(done)), "graph_edges": list(edge_rows())},
        notes=texts_of(found),
    )


def _parts(q: Question) -> Iterator[tuple[str, str, float]]:
    """Name, group and FLOP of each part of a step. A matrix has two products backward: one for the gradient of its
    input, one for that of its weights; scores have inputs alone."""
    step = training_step(q.model, q.batch, q.seq, mask=q.mask)
    whole = float(step.flop)
    scores = float(step.component_flop(Component.ATTENTION_SCORES) + step.component_flop(Component.RECURRENCE))
    yield "forward", "forward", whole / 3
    yield "backward: weights", "backward", (whole - scores) / 3
    yield "backward: inputs", "backward", (whole - scores) / 3 + 2 * scores / 3
    again = float(training_step(q.model, q.batch, q.seq, mask=q.mask, recompute=q.recompute).flop) - whole
    if again:
        yield f"recompute {q.recompute}", "again", again


def _bars(parts: list[tuple[str, str, float]]) -> Iterator[Row]:
    start, whole = 0.0, sum(flop for _, _, flop in parts)
    for name, group, flop in parts:
        text = f"{si(flop, 'FLOP', 4)}, {percent(flop / whole)}"
        says = f"{name}: {text}"
        yield bar(name, (start, start + flop), group, text, says)
        start += flop


BACKWARD = Section(
    "backward",
    "What does a training step cost?",
    "Step through the graph: values go forward, gradients come back and use the values again. Each matrix of a model"
    " does the same with two products backward for one forward.",
    answer,
    controls=(*OWN, "step", "w1", "w2", "w3"),
    charts=(PARTS, GRAPH),
)
