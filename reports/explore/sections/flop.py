"""2. Where do the FLOP go: a forward pass by component, for any width and depth."""

from collections.abc import Iterable, Iterator

from predict.answers.lines import Line, Note
from predict.answers.sections.model import forward_flop, model_size
from predict.units import percent
from reports.explore.answered import Answered, Row, bar, numbers_of, texts_of
from reports.explore.charts import FLOP, Axis, bars
from reports.explore.section import Section
from reports.explore.shape import shape_stops
from reports.explore.state import State

SHAPED = ("layers", "hidden", "mlp", "vocab")
COMPONENTS = bars("flop", "FLOP of a forward pass by component", Axis("FLOP", FLOP), ("FLOP",))


def answer(state: State) -> Answered:
    """FLOP of the components, beside the rule of thumb."""
    q = state.question("attention")
    found = [*model_size(q), *forward_flop(q)]
    values = {each.key: float(each.value) for each in found if isinstance(each, Line)}
    total, rule = values["forward_flop"], values["forward_flop_napkin"]
    largest = max(_parts(found), key=lambda line: float(line.value))
    return Answered(
        says=(_says(largest, float(largest.value) / total, rule / total),),
        commands=(state.command("attention"),),
        numbers=tuple(numbers_of(found)),
        data={"flop": list(_bars(found, total))},
        notes=texts_of(found),
        controls=shape_stops(state, SHAPED),
    )


def _says(largest: Line, share: float, rule: float) -> str:
    takes = "take" if largest.label.endswith("s") else "takes"
    return f"The {largest.label} {takes} {percent(share)} of the FLOP; the rule 2PT counts {percent(rule)} of all."


def _parts(found: Iterable[Line | Note]) -> list[Line]:
    return [each for each in found if isinstance(each, Line) and each.key.startswith("flop_")]


def _bars(found: Iterable[Line | Note], total: float) -> Iterator[Row]:
    for line in _parts(found):
        share = percent(float(line.value) / total)
        text = f"{line.text}, {share}"
        says = f"{line.label}: {text} = {line.formula}"
        yield bar(line.label, (0, float(line.value)), "FLOP", text, says)


FLOPS = Section(
    "flop",
    "Where do the FLOP go?",
    "Change the model's width and depth, the prompt and the batch. Scores grow with the square of the prompt, all else"
    " with the prompt itself.",
    answer,
    controls=(*SHAPED, "attention"),
    charts=(COMPONENTS,),
)
