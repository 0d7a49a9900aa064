"""The machines that a question asks about: every count of every GPU, each with its price."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from predict.answers.asking import read_field
from predict.answers.question import Question
from predict.errors import BadQuantity, UnknownGpu
from predict.gpus import Gpu, resolve


@dataclass(frozen=True, slots=True)
class Machine:
    """GPUs of one kind, and their price."""

    gpu: Gpu
    gpus: int
    usd_per_gpu_hour: float | None  # None: the default of `Question`

    @property
    def name(self) -> str:
        """For a person: "2 x h100-sxm"."""
        return f"{self.gpus} x {self.gpu.name}"

    def price(self, question: Question) -> float:
        """$ per GPU-hour, or what the question assumes."""
        return question.usd_per_gpu_hour if self.usd_per_gpu_hour is None else self.usd_per_gpu_hour

    def on(self, question: Question) -> Question:
        """The question on this machine."""
        return replace(question, gpu=self.gpu, gpus=self.gpus, usd_per_gpu_hour=self.price(question))

    @property
    def fields(self) -> Mapping[str, object]:
        """The fields of `Question`."""
        price = {} if self.usd_per_gpu_hour is None else {"usd_per_gpu_hour": self.usd_per_gpu_hour}
        return {"gpu": self.gpu, "gpus": self.gpus, **price}


def read_machines(gpu: Sequence[str], gpus: Sequence[str], price: str | None) -> list[Machine]:
    """Every count of every GPU: ["h100,h200"], ["2,4,8"], "h100=2.5,h200=3.5" (or "2.5" for all).

    Raises UnknownGpu, and BadQuantity for a count or a price that cannot be read, or prices of other GPUs.
    """
    if not gpu:
        raise UnknownGpu("Missing option '--gpu': `python -m predict gpus` lists names")
    kinds = {kind.name: kind for kind in map(resolve, _items(gpu))}
    counts = dict.fromkeys(map(_count, _items(gpus or ["1"])))
    prices = {} if price is None else _read_prices(price, kinds)
    machines = itertools.product(kinds.values(), counts)
    return [Machine(kind, count, prices.get(kind.name)) for kind, count in machines]


def _read_prices(text: str, kinds: Mapping[str, Gpu]) -> Mapping[str, float]:
    """The $ per GPU-hour of each GPU by name."""
    if "=" not in text:
        return dict.fromkeys(kinds, _price(text))
    prices: dict[str, float] = {}
    for item in _items([text]):
        name, equals, price = item.partition("=")
        if not equals:
            raise BadQuantity(f"price must be one number, or a price for each GPU (h100=2.5,h200=3.5), not {text!r}")
        gpu = kinds.get(name.strip()) or resolve(name)
        if gpu.name not in kinds:
            raise BadQuantity(f"price names {name}, which --gpu does not ask for; it asks for {', '.join(kinds)}")
        if gpu.name in prices:
            raise BadQuantity(f"price names {gpu.name} twice")
        prices[gpu.name] = _price(price)
    if missing := [name for name in kinds if name not in prices]:
        raise BadQuantity(
            f"price names no {' and no '.join(missing)}: give a price for each GPU, or one number for all"
        )
    return prices


def _count(text: str) -> int:
    count = read_field("gpus", text)
    if not isinstance(count, int):
        raise BadQuantity(f"gpus must be a positive whole number, not {text}")
    return count


def _price(text: str) -> float:
    price = read_field("usd_per_gpu_hour", text)
    assert isinstance(price, int | float)
    return price


def _items(texts: Sequence[str]) -> list[str]:
    return [item.strip() for text in texts for item in text.split(",")]
