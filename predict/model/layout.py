"""How one served model is spread over GPUs: tensor, pipeline, data and expert parallelism.

The names mean what they mean in vLLM ("Data Parallel Deployment", "Expert Parallel Deployment") and SGLang ("DP, DPA
and SGLang DP Router").
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from predict import checks
from predict.errors import BadQuantity
from predict.model.transformer import Model


@dataclass(frozen=True, slots=True)
class Layout:
    """tp * pp * dp GPUs. Raises BadQuantity for a size that is not a whole number, or an `ep` that does not divide
    tp * dp."""

    tp: int = 1  # GPUs that split heads and matrices; those beyond the KV heads hold copies of them
    pp: int = 1  # stages: groups of layers, one after the other
    # Copies of everything but experts. Each serves its share of the requests. A model without experts runs as dp
    # independent replicas; one with experts as "attention data-parallel".
    dp: int = 1
    # The experts of a layer are split over all tp * dp GPUs of a stage: over ep of them by whole experts, and each
    # expert over the others like an MLP. So ep = 1 splits every expert over all of them.
    ep: int = 1

    def __post_init__(self) -> None:
        checks.whole(tp=self.tp, pp=self.pp, dp=self.dp, ep=self.ep)
        if self.stage_gpus % self.ep:
            works = nearest(self.ep, divisors(self.stage_gpus))
            raise BadQuantity(f"ep={self.ep} does not divide the {self.stage_gpus} GPUs of a stage; nearest: {works}")

    @property
    def gpus(self) -> int:
        """All GPUs."""
        return self.tp * self.pp * self.dp

    @property
    def stage_gpus(self) -> int:
        """GPUs that share a layer: tp * dp."""
        return self.tp * self.dp

    @property
    def text(self) -> str:
        """One line for a person: "tp 1, dp 8, ep 8". Sizes of 1 are left out, except tp."""
        sizes = (("tp", self.tp), ("pp", self.pp), ("dp", self.dp), ("ep", self.ep))
        return ", ".join(f"{name} {size}" for name, size in sizes if size > 1 or name == "tp")

    def cache_copies(self, shards: int) -> float:
        """How often a token's cache is held: tp/shards times if tp exceeds its `shards` (KV heads; 1 for a latent, of
        which every GPU needs the whole), else once."""
        return 1 if self.tp <= shards else self.tp / shards


ONE_GPU = Layout()


def check_layout(layout: Layout, model: Model) -> None:
    """Raise BadQuantity, naming the nearest that works, if no engine would spread `model` so."""
    name, heads, experts = model.name, model.heads, count_experts(model)
    if layout.ep > 1 and not experts:
        raise BadQuantity(f"ep={layout.ep}: {name} has no experts; leave --ep out")
    if layout.ep > 1 and experts % layout.ep:
        works = nearest(layout.ep, divisors(math.gcd(experts, layout.stage_gpus)))
        raise BadQuantity(f"ep={layout.ep} does not divide the {experts} experts of {name}; nearest: ep={works}")
    if layout.tp > heads:
        raise BadQuantity(f"tp={layout.tp} cannot share the {heads} heads of {name}; nearest: tp={heads}")
    if heads % layout.tp:
        works = nearest(layout.tp, divisors(heads))
        raise BadQuantity(f"tp={layout.tp} does not divide the {heads} heads of {name}; nearest: tp={works}")
    if layout.pp > model.layers:
        raise BadQuantity(f"pp={layout.pp} is over the {model.layers} layers of {name}; nearest: pp={model.layers}")


def count_experts(model: Model) -> int:
    """Experts of a layer; 0 for a model without, the largest common divisor if layers differ."""
    return math.gcd(*(linear.copies for block in model.blocks for linear in block.linears if linear.copies > 1))


def draft_layout(layout: Layout, draft: Model) -> Layout:
    """The layout of a draft model beside a target in `layout`: as many of the tp GPUs as divide its heads, all its
    layers in one stage, and as many copies."""
    tp, experts = math.gcd(layout.tp, draft.heads), count_experts(draft)
    return Layout(tp, 1, layout.dp, math.gcd(experts, tp * layout.dp) if experts and layout.dp > 1 else 1)


def divisors(number: int) -> list[int]:
    """Every whole number that divides `number`, in order."""
    low = [each for each in range(1, math.isqrt(number) + 1) if number % each == 0]
    return sorted({*low, *(number // each for each in low)})


def nearest(size: int, works: Iterable[int]) -> str:
    """The nearest sizes that work, below and above: "4 or 8"."""
    sizes = sorted(works)
    below, above = [each for each in sizes if each < size], [each for each in sizes if each > size]
    return " or ".join(str(each) for each in (*below[-1:], *above[:1]))
