"""What every kind of layer that mixes tokens must tell: its matrices, what it keeps of the past, and its work.

A pass, the cache and the parameters are sums over these answers, so that a new kind is one class.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from predict.model.linear import Component, Linear
from predict.model.reach import Everything, Reach, smaller
from predict.workloads import Count, Number

ALL = Everything()


class Store(StrEnum):
    """What a kept element is. It decides the format and what it grows with."""

    KV = "kv"  # per token, in the format of the KV cache: keys and values, or latents
    INDEX = "index"  # per token, the keys by which a sparse layer chooses
    STATE = "state"  # per sequence, of a fixed size
    CONV = "conv"  # per sequence, in the format of activations: the latest inputs of a short convolution

    @property
    def grows(self) -> bool:
        """Whether it grows with the tokens of a sequence."""
        return self in (Store.KV, Store.INDEX)


@dataclass(frozen=True, slots=True)
class Held:
    """What one layer keeps of each token (`Store.KV`, `Store.INDEX`) or of each sequence (`STATE`, `CONV`)."""

    store: Store
    elements: int
    reach: Reach = ALL
    bits: int | None = None  # format of a state; None: the format of activations
    shards: int = 1  # most GPUs that can split it by heads or channels; more must copy it


@dataclass(frozen=True, slots=True)
class Mixing:
    """One kernel kind of one layer for one sequence: its FLOP, and what it reads and writes of what is held."""

    name: str
    component: Component
    flop: Number
    held: Held | None  # None: nothing is read or written
    reads: Count  # tokens read; for a state 1 if there is one
    writes: Count
    activations: Number  # elements that go in and come out


class Mixer(ABC):
    """The part of a layer through which tokens see other tokens."""

    __slots__ = ()

    @property
    @abstractmethod
    def text(self) -> str:
        """One line for a person: "GQA, 64 heads of 128, 8 KV heads"."""

    @property
    @abstractmethod
    def shards(self) -> int:
        """Heads or channels that GPUs can divide among them."""

    @property
    @abstractmethod
    def other_params(self) -> int:
        """Parameters that are no matrices: norms, sinks, convolutions, decays."""

    @property
    @abstractmethod
    def holds(self) -> tuple[Held, ...]:
        """What one layer keeps."""

    @property
    def kv_elements_per_token(self) -> float:
        """Elements that one layer caches per token until a window is full, without the keys of an index."""
        return _per_token(held for held in self.holds if held.store is Store.KV)

    @property
    def kv_elements_beyond_windows(self) -> float:
        """Elements that one layer caches per token once windows and chunks are full."""
        return _per_token(held for held in self.holds if held.store is Store.KV and held.reach.limit is None)

    @property
    def window_elements(self) -> int:
        """Elements that one layer's full window or chunk holds."""
        return sum(held.elements * (held.reach.limit or 0) for held in self.holds if held.store is Store.KV)

    @property
    def index_elements_per_token(self) -> float:
        """Elements of index keys that one layer caches per token."""
        return _per_token(held for held in self.holds if held.store is Store.INDEX)

    @property
    def reach(self) -> Reach:
        """Which earlier tokens a query sees."""
        return ALL

    @property
    def shares_cache(self) -> bool:
        """Whether the layer reads an earlier layer's cache and keeps none."""
        return False

    @abstractmethod
    def linears(self, hidden: int) -> Iterator[Linear]:
        """The matrices of the layer; hidden: width of the residual stream."""

    @abstractmethod
    def mixing(self, new: Count, cached: Count, *, square: bool) -> Iterator[Mixing]:
        """The work on `new` tokens of one sequence after `cached` ones. `square`: every query counts every key."""


def state_work(name: str, held: Held, flop: Count, cached: Count, activations: Count) -> Mixing:
    """Work on what is kept per sequence: read if there are cached tokens, and written once."""
    return Mixing(name, Component.RECURRENCE, flop, held, reads=smaller(cached, 1), writes=1, activations=activations)


def _per_token(held: Iterable[Held]) -> float:
    """Elements that each token adds; a whole number if it is one."""
    added = sum(each.elements * each.reach.per_token for each in held)
    return round(added) if added == round(added) else added
