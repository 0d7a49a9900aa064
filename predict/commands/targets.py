"""`python -m predict model --isl --osl`: the configuration that serves requests of these lengths within targets.

A figure needs matplotlib, which `predict` does without: `reports` draws it, and is loaded only for `--out`.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from predict.answers.asking import ask, layout_gpus, read_field
from predict.answers.machine import Machine, read_machines
from predict.answers.question import ASKED
from predict.answers.search import Search, search
from predict.answers.targets import Measure, Targets
from predict.answers.targets_page import front_csv, machines_csv, machines_table, search_json, search_page
from predict.commands.options import TypedTargets
from predict.errors import BadQuantity, BadRun
from predict.forms import Form
from predict.formulas.memory import WeightFormat
from predict.model.transformer import Model
from predict.suggest import no_choice
from predict.terminal import terminal_width
from predict.units import Kind, duration, read_quantity

# What is compared where the command names no machines.
USUAL_GPUS = ("a100", "l40s", "h100", "h200", "b200")
USUAL_COUNTS = ("1", "2", "4", "8")
# Fields of `Question` that a search for a server uses.
USED = frozenset(
    {
        *("tp", "pp", "dp", "ep", "link_between_nodes_bytes_per_s", "weights", "kv", "compute"),
        *("hbm_bytes", "overhead_bytes", "mfu", "mbu", "prefix", "chunk"),
    }
)


def targets_text(
    model: str | Path | Model,
    typed: TypedTargets,
    machines: tuple[Sequence[str] | None, Sequence[str] | None, str | None],
    fields: Mapping[str, object],
    form: Form,
    *,
    explain: bool = False,
) -> str:
    """What the search found, in a form. `machines` are the texts of --gpu, --gpus and --price; `fields` those of
    `Question` by name."""
    targets = _read(typed)
    if unused := [name for name in fields if name not in USED]:
        raise BadQuantity(
            f"leave out --{ASKED[unused[0]][1].option or unused[0]}: a search for a server sets or needs none"
        )
    if typed.out is not None:
        import reports.front  # noqa: F401, PLC0415 - where matplotlib is missing, this says so before a long search
    gpu, gpus, price = machines
    counts = USUAL_COUNTS if (size := layout_gpus(fields)) == 1 else (str(size),)
    found = _search(model, targets, read_machines(gpu or USUAL_GPUS, gpus or counts, price), fields)
    files = [] if typed.out is None else _write_fronts(found, typed.out)
    match form:
        case Form.JSON:
            return json.dumps({**search_json(found), "files": list(map(str, files))}, indent=2, allow_nan=False)
        case Form.CSV:
            return machines_csv(found)
        case Form.MARKDOWN:
            return machines_table(found).markdown()
        case Form.PAGE:
            return "\n".join([search_page(found, terminal_width(), explain=explain), *map(str, files)])


def _search(
    model: str | Path | Model, targets: Targets, machines: Sequence[Machine], fields: Mapping[str, object]
) -> Search:
    weights = _read_weights(fields.get("weights"))
    others = {name: value for name, value in fields.items() if name != "weights"}
    question = ask(model, {**others, **machines[0].fields, "seq": targets.isl})
    return search(question, machines, weights, targets)


def _read_weights(text: object) -> list[WeightFormat | None]:
    """The formats of "bf16,fp8"; None, as the model ships, if nothing is asked."""
    if not isinstance(text, str):
        return [None]
    found = [read_field("weights", each.strip()) for each in text.split(",")]
    return [each for each in found if isinstance(each, WeightFormat)]


def _read(typed: TypedTargets) -> Targets:
    """The targets. Raises BadQuantity for a number that cannot be read, and for targets without both lengths."""
    if typed.isl is None or typed.osl is None:
        raise BadQuantity("targets are for requests of given lengths: give both --isl and --osl, in tokens")
    times_s = (_number("ttft", typed.ttft, Kind.SECONDS), _number("tpot", typed.tpot, Kind.SECONDS))
    rate = _number("requests-per-s", typed.requests_per_s, Kind.PLAIN)
    return Targets(_whole("isl", typed.isl), _whole("osl", typed.osl), *times_s, rate, _read_measure(typed.by))


def _read_measure(text: str | None) -> Measure:
    if text is not None and text not in list(Measure):
        raise BadQuantity(no_choice("by", text, Measure))
    return Measure.BOUND if text is None else Measure(text)


def _number(name: str, text: str | None, kind: Kind) -> float | None:
    return None if text is None else read_quantity(text, name, kind)


def _whole(name: str, text: str) -> int:
    number = read_quantity(text, name, Kind.SIZE)
    if not isinstance(number, int):
        raise BadQuantity(f"{name} must be a positive whole number, not {text}")
    return number


def _write_fronts(found: Search, out: Path) -> list[Path]:
    """Write the fronts to a folder: front.csv with every point, and front.png. Raises BadRun where that is not
    possible."""
    files = {"front.csv": f"{front_csv(found)}\n".encode(), "front.png": _draw(found)}
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (out / name).write_bytes(content)
    except OSError as error:
        raise BadRun(f"cannot write to {out}: {error.strerror}") from None
    return [out / name for name in files]


def _draw(found: Search) -> bytes:
    """The figure of the fronts as a PNG."""
    from reports.front import Front, fronts_png  # noqa: PLC0415 - loads matplotlib

    targets, best = found.targets, found.best
    names = dict.fromkeys(point.question.gpu.name for point in found.fronts)
    fronts = [
        Front(
            name,
            [
                (point.tokens_per_s_per_user, point.tokens_per_s_per_gpu)
                for point in found.fronts
                if point.question.gpu.name == name
            ],
        )
        for name in names
    ]
    limit = "" if targets.ttft_s is None else f"; TTFT {duration(targets.ttft_s)} at most"
    times = "bounds" if targets.by is Measure.BOUND else "expected times"
    return fronts_png(
        fronts,
        f"{best.question.model.name}, {targets.isl:,} tokens in, {targets.osl:,} out{limit}; {times}",
        best=Front(
            f"{best.question.gpus} x {best.question.gpu.name}",
            [(best.tokens_per_s_per_user, best.tokens_per_s_per_gpu)],
        ),
        user_tokens_per_s=None if targets.tpot_s is None else 1 / targets.tpot_s,
    )
