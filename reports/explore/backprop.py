"""The lesson's computation graph L = 2(w1 w2) w3, forward and backward, one step at a time.

The forward pass computes u = w1 w2, v = 2u and L = v w3. The chain rule then goes back from dL/dL = 1: each gradient is
the one behind it times a value that the forward pass has kept, so a product costs one multiplication forward and two
back.
"""

from collections.abc import Iterator
from dataclasses import dataclass

NODES = {"w1": (0, 2), "w2": (0, 1), "u": (1, 1.5), "v": (2, 1.5), "w3": (2, 0), "L": (3, 1)}
EDGES = (("w1", "u"), ("w2", "u"), ("u", "v"), ("v", "L"), ("w3", "L"))
GAP = 0.16  # of a line, beside its nodes
FORMS = {"w1": "w1", "w2": "w2", "w3": "w3", "u": "u = w1 w2", "v": "v = 2u", "L": "L = v w3"}


@dataclass(frozen=True, slots=True)
class Step:
    """What one step computes, as it is written down; which nodes it is about; multiplications that it takes."""

    text: str
    nodes: tuple[str, ...]
    values: dict[str, float]
    gradients: dict[str, float]
    products: int = 0


def steps(w1: float, w2: float, w3: float) -> tuple[Step, ...]:
    """The steps in order: the values, then the gradients that each makes known. The first knows only the weights."""
    u, v = w1 * w2, 2 * w1 * w2
    of_v, of_u = w3, 2 * w3
    return (
        Step("Nothing is computed yet: the weights are known.", (), {"w1": w1, "w2": w2, "w3": w3}, {}),
        Step(f"Forward: u = w1 w2 = {w1:g} x {w2:g} = {u:g}. It is kept.", ("u",), {"u": u}, {}, 1),
        Step(f"Forward: v = 2u = 2 x {u:g} = {v:g}. It is kept.", ("v",), {"v": v}, {}, 1),
        Step(f"Forward: L = v w3 = {v:g} x {w3:g} = {v * w3:g}.", ("L",), {"L": v * w3}, {}, 1),
        Step("Backward begins: dL/dL = 1.", ("L",), {}, {"L": 1}),
        Step(
            f"Backward through L = v w3: dL/dv = w3 = {w3:g}, dL/dw3 = v = {v:g}, which the forward pass kept.",
            ("v", "w3"),
            {},
            {"v": of_v, "w3": v},
            2,
        ),
        Step(f"Backward through v = 2u: dL/du = 2 dL/dv = 2 x {of_v:g} = {of_u:g}.", ("u",), {}, {"u": of_u}, 1),
        Step(
            f"Backward through u = w1 w2: dL/dw1 = dL/du w2 = {of_u:g} x {w2:g} = {of_u * w2:g},"
            f" dL/dw2 = dL/du w1 = {of_u:g} x {w1:g} = {of_u * w1:g}. Both use the one dL/du.",
            ("w1", "w2"),
            {},
            {"w1": of_u * w2, "w2": of_u * w1},
            2,
        ),
    )


def known(done: tuple[Step, ...]) -> tuple[dict[str, float], dict[str, float]]:
    """Values and gradients that these steps have made."""
    values: dict[str, float] = {}
    gradients: dict[str, float] = {}
    for step in done:
        values |= step.values
        gradients |= step.gradients
    return values, gradients


def node_rows(done: tuple[Step, ...]) -> Iterator[dict[str, str | float]]:
    """The nodes as a chart draws them."""
    values, gradients = known(done)
    for name, (x, y) in NODES.items():
        state = "now" if name in done[-1].nodes else "known" if name in values else "waits"
        value = f"{values[name]:g}" if name in values else "?"
        gradient = f"dL/d{name} = {gradients[name]:g}" if name in gradients else ""
        says = f"{FORMS[name]} = {value}" + (f"; {gradient}" if gradient else "")
        yield {
            "x": x,
            "y": y,
            "label": name,
            "value": f"= {value}",
            "gradient": gradient,
            "state": state,
            "says": says,
        }


def edge_rows() -> Iterator[dict[str, str | float]]:
    """The lines between them, an end a row."""
    for start, end in EDGES:
        for here, there in ((start, end), (end, start)):
            (x, y), (far_x, far_y) = NODES[here], NODES[there]
            yield {"edge": f"{start}-{end}", "x": x + GAP * (far_x - x), "y": y + GAP * (far_y - y)}
