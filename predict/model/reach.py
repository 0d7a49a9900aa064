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
    def per_token(self) -> float:
        """What each token adds to what is kept, until `limit` is reached."""
        return 1

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


@dataclass(frozen=True, slots=True)
class Entries(Reach):
    """Compressed attention (DeepSeek-V4, 2026): every `rate` tokens become one entry, for all queries from the last of
    them on. A query sees all entries, or the `chosen` that an index ranks highest. What is kept and read is entries."""

    rate: int
    chosen: int | None = None

    def pairs(self, new: Count, cached: Count) -> Count:
        """Query-entry pairs."""
        return self._before(cached + new) - self._before(cached)

    def pairs_within(self, new: Count, cached: Count, entries: int) -> Count:
        """Pairs of the queries that have no more than `entries` to see."""
        last = self.rate * (entries + 1) - 1  # tokens after which there is one more
        return self._all_before(smaller(cached + new, last)) - self._all_before(smaller(cached, last))

    def seen(self, cached: Count) -> Count:
        """What one query reads, without the entry that its own token may complete."""
        kept = self.kept(cached)
        return kept if self.chosen is None else smaller(kept, self.chosen - (self.kept(cached + 1) - kept))

    def kept(self, context: Count) -> Count:
        """Complete entries."""
        return context // self.rate

    @property
    def per_token(self) -> float:
        """A share of an entry."""
        return 1 / self.rate

    def _before(self, count: Count) -> Count:
        """Pairs of the first `count` queries."""
        if self.chosen is None:
            return self._all_before(count)
        rising = smaller(count, self.rate * self.chosen)
        return self._all_before(rising) + (count - rising) * self.chosen

    def _all_before(self, count: Count) -> Count:
        """floor(1 / rate) + ... + floor(count / rate): each whole number `rate` times, the last as often as there are
        queries left."""
        last = count // self.rate
        return self.rate * (last * (last - 1) // 2) + last * (count % self.rate + 1)


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
