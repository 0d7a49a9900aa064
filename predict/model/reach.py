"""Which earlier tokens a query sees: all, a sliding window, its chunk, or the best ones by an index.

Every reach counts, for one sequence and one head, the query-key pairs, the cached tokens that must be read, and the
tokens that must be kept. Sizes are whole numbers, or float64 arrays for a sweep.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from predict.workloads import Count


class Reach(ABC):
    """The tokens that a causal query sees, its own included."""

    __slots__ = ()

    @abstractmethod
    def pairs(self, new: Count, cached: Count) -> Count:
        """Query-key pairs of `new` queries after `cached` tokens. New query i sees up to cached + i tokens."""

    @abstractmethod
    def seen(self, cached: Count) -> Count:
        """Cached tokens that the queries after them must read, at least."""

    def kept(self, context: Count) -> Count:
        """Tokens of `context` that the layer caches."""
        return context

    @property
    def text(self) -> str:
        """For a person: "window of 4096"; empty if a query sees everything."""
        return ""

    @property
    def limit(self) -> int | None:
        """The most tokens that the layer caches of a sequence; None: all."""
        return None


@dataclass(frozen=True, slots=True)
class Everything(Reach):
    """Full causal attention."""

    def pairs(self, new: Count, cached: Count) -> Count:
        """Every earlier token and the query's own."""
        return new * cached + triangle(new)

    def seen(self, cached: Count) -> Count:
        """All."""
        return cached


@dataclass(frozen=True, slots=True)
class Window(Reach):
    """A sliding window: a query sees the latest `tokens`, its own included."""

    tokens: int

    def pairs(self, new: Count, cached: Count) -> Count:
        """The window of each query, or what precedes it."""
        return capped_sum(cached + new, self.tokens) - capped_sum(cached, self.tokens)

    def seen(self, cached: Count) -> Count:
        """The window of the first new query, without its own token."""
        return smaller(cached, self.tokens - 1)

    def kept(self, context: Count) -> Count:
        """At most the window."""
        return smaller(context, self.tokens)

    @property
    def text(self) -> str:
        """For a person."""
        return f"window of {self.tokens}"

    @property
    def limit(self) -> int | None:
        """The window."""
        return self.tokens


@dataclass(frozen=True, slots=True)
class Chunk(Reach):
    """Chunked attention (Llama 4): a query sees from the start of its chunk of `tokens`."""

    tokens: int

    def pairs(self, new: Count, cached: Count) -> Count:
        """A triangle for every whole chunk, and one for what is begun."""
        return self._before(cached + new) - self._before(cached)

    def seen(self, cached: Count) -> Count:
        """What the chunk of the first new query already holds: none at the start of a chunk."""
        return cached % self.tokens

    def kept(self, context: Count) -> Count:
        """At most a chunk."""
        return smaller(context, self.tokens)

    @property
    def text(self) -> str:
        """For a person."""
        return f"chunks of {self.tokens}"

    @property
    def limit(self) -> int | None:
        """A chunk."""
        return self.tokens

    def _before(self, count: Count) -> Count:
        return count // self.tokens * triangle(self.tokens) + triangle(count % self.tokens)


@dataclass(frozen=True, slots=True)
class TopK(Reach):
    """Sparse attention (DeepSeek-V3.2, 2025): a query sees the `tokens` that an index ranks highest. All are cached."""

    tokens: int

    def pairs(self, new: Count, cached: Count) -> Count:
        """At most `tokens` for each query."""
        return capped_sum(cached + new, self.tokens) - capped_sum(cached, self.tokens)

    def seen(self, cached: Count) -> Count:
        """What one query reads. More queries may choose others."""
        return smaller(cached, self.tokens - 1)

    @property
    def text(self) -> str:
        """For a person."""
        return f"the best {self.tokens} tokens"


def triangle(count: Count) -> Count:
    """1 + 2 + ... + count."""
    return count * (count + 1) // 2


def capped_sum(count: Count, most: int) -> Count:
    """min(1, most) + ... + min(count, most)."""
    rising = smaller(count, most)
    return triangle(rising) + (count - rising) * most


def smaller(a: Count, b: Count) -> Count:
    """The smaller of two counts, element by element."""
    return min(a, b) if isinstance(a, int) and isinstance(b, int) else np.minimum(a, b)


def larger(a: Count, b: Count) -> Count:
    """The larger of two counts, element by element."""
    return max(a, b) if isinstance(a, int) and isinstance(b, int) else np.maximum(a, b)
