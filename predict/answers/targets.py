"""Targets of a server, and a point: a configuration that runs with a number of requests."""

import math
from dataclasses import dataclass
from enum import StrEnum

from predict import checks
from predict.answers.question import Question
from predict.errors import BadQuantity
from predict.formulas import money
from predict.model.server import Server, Steady
from predict.resources import Resource
from predict.units import duration


class Measure(StrEnum):
    """The times that targets are held against, and that machines are compared by."""

    BOUND = "bound"  # of the roofline, known for every machine
    EXPECTED = "expected"  # of calibrated kernels; other machines have none


@dataclass(frozen=True, slots=True)
class Targets:
    """What is asked of a server. Raises BadQuantity for a value out of range."""

    isl: int  # tokens of each prompt
    osl: int  # tokens that each request makes
    ttft_s: float | None = None  # at most
    tpot_s: float | None = None  # at most
    requests_per_s: float | None = None  # of all replicas together
    by: Measure = Measure.BOUND

    def __post_init__(self) -> None:
        checks.whole(isl=self.isl, osl=self.osl)
        if self.osl < 2:
            raise BadQuantity("osl must be at least 2: prefill makes the first token, decode the others")
        asked = {"ttft": self.ttft_s, "tpot": self.tpot_s, "requests-per-s": self.requests_per_s}
        checks.positive(**{name: value for name, value in asked.items() if value is not None})

    @property
    def text(self) -> str:
        """The limits for a person: "TTFT 1 s and TPOT 30 ms"."""
        times = (("TTFT", self.ttft_s), ("TPOT", self.tpot_s))
        return " and ".join(f"{name} {duration(value)}" for name, value in times if value is not None)


@dataclass(frozen=True, slots=True)
class Point:
    """A configuration with a number of running requests, in steady state."""

    question: Question  # model, machine, formats and price
    targets: Targets
    server: Server
    batch: int  # running requests of a replica
    steady: Steady  # at this batch alone, by the measure of the targets
    least: Steady  # the bounds
    bound: Resource  # what takes most of their time
    replicas: int = 1
    served_per_s: float | None = None  # requests that all replicas together get; None: as many as they can serve

    @property
    def ttft_s(self) -> float:
        """Time to the first token, without a queue."""
        return float(self.steady.ttft_s[0])

    @property
    def tpot_s(self) -> float:
        """Mean time between two tokens of a request."""
        return float(self.steady.tpot_s[0])

    @property
    def requests_per_s(self) -> float:
        """Requests that a replica answers per second."""
        return float(self.steady.requests_per_s[0])

    @property
    def chunk(self) -> int:
        """Prompt tokens that a step reads at most."""
        return self.server.request.chunk

    @property
    def gpus(self) -> int:
        """GPUs of all replicas."""
        return self.replicas * self.question.gpus

    @property
    def usd_per_hour(self) -> float:
        """Price of all replicas."""
        return self.gpus * self.question.usd_per_gpu_hour

    @property
    def tokens_per_s(self) -> float:
        """Tokens that a replica makes per second."""
        return self.requests_per_s * self.targets.osl

    @property
    def tokens_per_s_per_gpu(self) -> float:
        """Tokens per second and GPU."""
        return self.tokens_per_s / self.question.gpus

    @property
    def tokens_per_s_per_user(self) -> float:
        """Tokens per second that a request sees once it has begun: 1/TPOT."""
        return 1 / self.tpot_s

    @property
    def usd_per_1m_tokens(self) -> float:
        """Price of a million generated tokens by the measure of the targets."""
        return self.usd(self.steady)

    def usd(self, steady: Steady) -> float:
        """Price of a million generated tokens, prompts included, if the replicas get `served_per_s`, at most as many
        requests as they can serve."""
        rate = min(self.replicas * float(steady.requests_per_s[0]), self.served_per_s or math.inf)
        return float(money.usd_per_1m_tokens(self.question.usd_per_gpu_hour, rate * self.targets.osl, self.gpus))

    @property
    def order(self) -> tuple[float, int, float, float]:
        """The best comes first: the cheapest, then the one with fewest GPUs, then the fastest."""
        return float(f"{self.usd_per_1m_tokens:.6g}"), self.gpus, self.tpot_s, self.ttft_s

    @property
    def name(self) -> str:
        """For a person: "2 x h100-sxm (tp 2), bf16, batch 12, chunks of 2048"."""
        q, layout = self.question, self.server.replica.layout
        spread = f" ({layout.text})" if layout.gpus > 1 else ""
        return f"{q.gpus} x {q.gpu.name}{spread}, {q.weights_name}, batch {self.batch:,}, chunks of {self.chunk:,}"
