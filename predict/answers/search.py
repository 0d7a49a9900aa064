"""The search: the configuration that serves requests of given lengths in time, for the least money.

A configuration is a GPU, how many of them, the format of the weights, and the prompt tokens that a step reads (its
chunk). Each is a curve over the number of running requests (`model.server`). Machines are compared by one measure: by
the bounds of the roofline, or by expected times, which only calibrated machines have.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from predict.answers.machine import Machine
from predict.answers.question import Question
from predict.answers.targets import Measure, Point, Targets
from predict.errors import BadQuantity, MissingCeiling
from predict.expected.server import expected_load
from predict.formulas.memory import WeightFormat
from predict.model.server import Load, Request, Server, Steady
from predict.resources import matmul_unit
from predict.units import DTYPES, DType, Formats, duration, si
from predict.workloads import FloatArray

CHUNKS = (16384, 8192, 4096, 2048, 1024, 512, 256)  # what engines are set to
# Every batch up to the first number is tried, and the second many on a logarithmic scale. Expected times take longer.
BATCHES: Mapping[Measure, tuple[int, int]] = MappingProxyType({Measure.BOUND: (64, 160), Measure.EXPECTED: (8, 32)})
# Weights whose products engines narrow too, where the GPU multiplies the format.
PRODUCTS: Mapping[str, DType] = MappingProxyType(
    {"fp8": DTYPES["fp8"], "fp8-block": DTYPES["fp8"], "int8": DTYPES["int8"], "nvfp4": DTYPES["fp4"]}
)
_ROUNDING = 1e-9  # rates that differ by less are equal


@dataclass(frozen=True, slots=True)
class Curve:
    """A configuration at every number of requests that the search tries."""

    question: Question
    targets: Targets
    server: Server
    load: Load  # the bounds
    steady: Steady  # by the measure of the targets

    @classmethod
    def of(cls, question: Question, targets: Targets, server: Server, batches: FloatArray) -> "Curve":
        """The curve at these batches. Raises MissingCeiling for expected times that are not known."""
        load = server.at(batches)
        expects = targets.by is Measure.EXPECTED
        return cls(question, targets, server, load, expected_load(server, batches) if expects else load)

    @property
    def is_in_time(self) -> NDArray[np.bool_]:
        """Whether each batch meets the times asked for."""
        ttft_s, tpot_s = self.targets.ttft_s or math.inf, self.targets.tpot_s or math.inf
        return (self.steady.ttft_s <= ttft_s) & (self.steady.tpot_s <= tpot_s)

    def point(self, index: int) -> Point:
        """The configuration at one of the batches."""
        times = {resource: float(time_s[index]) for resource, time_s in self.load.terms_s.items()}
        return Point(
            self.question,
            self.targets,
            self.server,
            int(self.load.batch[index]),
            self.steady.only(index),
            self.load.only(index),
            max(times, key=lambda resource: times[resource]),
        )

    def best(self) -> Point | None:
        """The cheapest batch in time; None if no batch is. With a target of requests, the fewest replicas that serve
        them, each with the fewest running requests that suffice."""
        in_time = np.flatnonzero(self.is_in_time)
        if not in_time.size:
            return None
        rates = self.steady.requests_per_s[in_time]
        asked, replicas = self.targets.requests_per_s, 1
        if asked is not None:
            replicas = math.ceil(asked / float(rates.max()) * (1 - _ROUNDING))
        needed = float(rates.max()) if asked is None else asked / replicas
        first = int(np.argmax(rates >= needed * (1 - _ROUNDING)))
        return replace(self.point(int(in_time[first])), replicas=replicas, served_per_s=asked)

    def refined(self, batch: int) -> "Curve":
        """The curve at every batch near `batch`: those between the two that the search tried beside it."""
        tried = self.load.batch
        place = int(np.searchsorted(tried, batch))
        first, last = tried[max(place - 1, 0)], tried[min(place + 1, tried.size - 1)]
        batches = np.arange(first, last + 1, self.server.replica.layout.dp)
        return Curve.of(self.question, self.targets, self.server, batches)


@dataclass(frozen=True, slots=True)
class Search:
    """What a search found."""

    targets: Targets
    points: tuple[Point, ...]  # the best of each machine and format that meets the targets, the best first
    fronts: tuple[Point, ...]  # of each GPU: points that no other of its points beats in both rates
    reasons: tuple[str, ...]  # why machines have no point

    @property
    def best(self) -> Point:
        """The cheapest."""
        return self.points[0]


def search(
    question: Question,
    machines: Sequence[Machine],
    weights: Sequence[WeightFormat | None],
    targets: Targets,
) -> Search:
    """The best of each machine and format of the weights (None: as the model ships).

    `question` holds all other assumptions. Raises BadQuantity if nothing meets the targets, saying what is nearest, and
    what is wrong on every machine.
    """
    machine_curves, reasons = [], []
    requests: dict[tuple[Formats, int], Request] = {}
    for machine, each in itertools.product(machines, weights):
        try:
            machine_curves.append(_curves(_on(question, machine, each), targets, requests))
        except (MissingCeiling, BadQuantity) as error:
            reasons.append((machine, error))
    if not machine_curves:
        reason = max(reasons, key=lambda each: each[0].gpus * each[0].gpu.memory.bytes)[1]
        if targets.by is Measure.EXPECTED and isinstance(reason, MissingCeiling):
            raise MissingCeiling(f"{reason}; leave out --by to compare by bounds")
        raise reason
    found = [(curves, _best(curves)) for curves in machine_curves]
    points = [point for _, point in found if point is not None]
    every = [curve for curves in machine_curves for curve in curves]
    if not points:
        raise BadQuantity(f"no configuration reaches {targets.text}; the nearest has {_least(every)}")
    late = [f"not in time: {_least(curves)} is the least" for curves, point in found if point is None]
    return Search(
        targets,
        tuple(sorted(points, key=lambda point: point.order)),
        tuple(_fronts(every)),
        (*late, *_grouped(reasons)),
    )


def _grouped(reasons: Sequence[tuple[Machine, Exception]]) -> Iterator[str]:
    """Each reason once, behind the machines that it holds for."""
    for text in dict.fromkeys(str(error) for _, error in reasons):
        names = dict.fromkeys(machine.name for machine, error in reasons if str(error) == text)
        yield f"{', '.join(names)}: {text}"


def pareto(x: FloatArray, y: FloatArray) -> NDArray[np.intp]:
    """Indices of the points that no other point beats in x or y without being worse in the other, by falling x. Numbers
    that only rounding tells apart are equal."""
    x, y = _significant(x), _significant(y)
    order = np.lexsort((-y, -x))
    highest = np.maximum.accumulate(y[order])
    is_first = np.concatenate([[True], highest[1:] > highest[:-1]])
    front: NDArray[np.intp] = order[is_first]
    return front


def _significant(numbers: FloatArray) -> FloatArray:
    """Positive numbers, rounded to the digits that sums of times in another order keep."""
    unit = 10.0 ** (np.floor(np.log10(np.maximum(numbers, np.finfo(float).tiny))) + math.log10(_ROUNDING))
    rounded: FloatArray = np.round(numbers / unit) * unit
    return rounded


def _on(question: Question, machine: Machine, weights: WeightFormat | None) -> Question:
    """The question on a machine. Products are as asked, else narrowed with the weights where engines do so."""
    found = machine.on(question)
    if weights is not None:
        products = PRODUCTS.get(weights.name)
        narrows = question.compute is None and products is not None and matmul_unit(products) in machine.gpu.roofs
        found = replace(found, weights=weights, compute=products if narrows else question.compute)
    return found


def _curves(question: Question, targets: Targets, requests: dict[tuple[Formats, int], Request]) -> list[Curve]:
    """A curve for each chunk. Raises BadQuantity if not one request fits."""
    curves, servers = [], []
    for replica, chunk in itertools.product(question.replicas, CHUNKS if question.chunk is None else (question.chunk,)):
        if replica.layout.pp > 1 and question.pp is None:
            continue  # no engine's usual choice inside a node, and not worked out
        key = question.formats, chunk
        if key not in requests:
            requests[key] = Request(question.model, targets.isl, targets.osl, chunk, question.prefix, question.formats)
        servers.append(Server(replica, requests[key]))
        if largest := servers[-1].largest_batch:
            batches = _batches(largest, replica.layout.dp, targets.by)
            curves.append(Curve.of(question, targets, servers[-1], batches))
    if not curves:
        raise BadQuantity(f"{question.model.name} does not fit with one request: it needs {_needs(servers)}")
    return curves


def _needs(servers: Sequence[Server]) -> str:
    """The bytes that one request of the server with most room needs, those that it has, and the GPUs that have them."""
    needed = [float(each.replica.weight_bytes) + float(np.mean(each.cache_bytes)) for each in servers]
    least = int(np.argmin(needed))
    replica = servers[least].replica
    gpus = math.ceil(needed[least] / (replica.usable_bytes / replica.gpus))
    return f"{si(needed[least], 'B')} of {si(replica.usable_bytes, 'B')}, at least {gpus} GPUs"


def _batches(largest: int, copies: int, by: Measure) -> FloatArray:
    """The numbers of requests that the search tries, up to the largest: as many for each copy."""
    every, beyond = BATCHES[by]
    few = np.arange(1.0, min(largest // copies, every) + 1)
    many = np.geomspace(1, largest // copies, beyond).round()
    return copies * np.union1d(few, many)


def _best(curves: Sequence[Curve]) -> Point | None:
    found = [(curve, point) for curve in curves if (point := curve.best()) is not None]
    if not found:
        return None
    curve, point = min(found, key=lambda each: each[1].order)
    return curve.refined(point.batch).best()


def _fronts(curves: Sequence[Curve]) -> Iterator[Point]:
    """The front of each GPU: tokens/s of a request against tokens/s of a GPU, by falling speed. Only points whose TTFT
    is in time."""
    for name in dict.fromkeys(curve.question.gpu.name for curve in curves):
        mine = [curve for curve in curves if curve.question.gpu.name == name]
        limit = mine[0].targets.ttft_s or math.inf
        kept = [np.flatnonzero(curve.steady.ttft_s <= limit) for curve in mine]
        places = [(curve, int(index)) for curve, indices in zip(mine, kept, strict=True) for index in indices]
        x = [1 / curve.steady.tpot_s[indices] for curve, indices in zip(mine, kept, strict=True)]
        y = [
            curve.steady.tokens_per_s[indices] / curve.question.gpus for curve, indices in zip(mine, kept, strict=True)
        ]
        for place in pareto(np.concatenate(x), np.concatenate(y)) if places else ():
            curve, index = places[place]
            yield curve.point(index)


def _least(curves: Sequence[Curve]) -> str:
    """The least TTFT and TPOT of some configurations, and which have them."""
    firsts = [curve.point(0) for curve in curves]
    ttft = min(firsts, key=lambda point: (point.ttft_s, point.tpot_s))
    tpot = min(firsts, key=lambda point: (point.tpot_s, point.ttft_s))
    if ttft == tpot:
        return f"TTFT {duration(ttft.ttft_s)} and TPOT {duration(ttft.tpot_s)} ({ttft.name})"
    return f"TTFT {duration(ttft.ttft_s)} ({ttft.name}) or TPOT {duration(tpot.tpot_s)} ({tpot.name})"
