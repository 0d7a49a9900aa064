"""What the controls of a model's shape may be set to: sizes around those of the model that is chosen."""

from collections.abc import Iterable, Mapping
from fractions import Fraction

from predict.model.attention import Attention
from predict.model.mlp import Mlp
from predict.model.transformer import Model
from reports.explore.answered import Stops
from reports.explore.controls import SHAPE
from reports.explore.state import State

FACTORS = tuple(Fraction(eighths, 8) for eighths in (1, 2, 4, 6, 8, 10, 12, 16, 24, 32))


def shape_stops(state: State, names: Iterable[str]) -> Mapping[str, Stops]:
    """The stops of these controls of `SHAPE`; none for what the model does not have. Raises the errors of asking."""
    model = state.with_texts(**dict.fromkeys(SHAPE, "")).question().model
    return {name: _stops(model, name) for name in names}


def _stops(model: Model, name: str) -> Stops:
    attention = next((each for each in model.mixers if isinstance(each, Attention)), None)
    mlp = next((block.mlp for block in model.blocks if isinstance(block.mlp, Mlp)), None)
    match name:
        case "layers":
            return _around(model.layers)
        case "hidden":
            return _around(model.hidden, by=attention.heads if attention else 1)
        case "vocab":
            return _around(model.vocab)
        case "mlp" if mlp is not None:
            return _around(mlp.intermediate)
        case "kv_heads" if attention is not None:
            heads = attention.heads
            return Stops(str(attention.kv_heads), tuple(str(each) for each in range(1, heads + 1) if heads % each == 0))
    return Stops("")


def _around(size: int, by: int = 1) -> Stops:
    """Sizes from an eighth to four times `size`, multiples of `by`."""
    sizes = {size, *(int(size * factor) // by * by for factor in FACTORS)}
    return Stops(str(size), tuple(str(each) for each in sorted(sizes) if each))
