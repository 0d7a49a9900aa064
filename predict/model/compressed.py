"""Attention over a window and over compressed entries of all earlier tokens (DeepSeek-V4, 2026, section 2.3).

One vector per token is key and value of all heads. Every `rate` tokens are compressed to one entry, which stays; an
index may choose the entries that a query sees.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from predict.model.linear import Component, Linear, Split
from predict.model.mixer import Held, Mixer, Mixing, Store
from predict.model.reach import Entries, Window, larger, smaller
from predict.workloads import Count

PROJECTIONS, SCORES = Component.ATTENTION_PROJECTIONS, Component.ATTENTION_SCORES


@dataclass(frozen=True, slots=True)
class Compressor:
    """Makes one entry of `rate` tokens: a weighted sum of their projections, over the tokens of two entries if
    `overlaps`."""

    rate: int
    width: int  # elements of an entry
    overlaps: bool = False

    @property
    def projected(self) -> int:
        """Elements of a token's projection, and of its weights: one for each entry that it takes part in."""
        return self.width * (2 if self.overlaps else 1)

    @property
    def other_params(self) -> int:
        """A weight for each place in an entry, and the norm of the entry."""
        return self.rate * self.projected + self.width

    @property
    def pending(self) -> int:
        """Elements, projections and weights, of the tokens that the next entry needs: at most one short of an entry,
        and with an overlap one half of those of the last."""
        return 2 * self.projected * (self.rate - 1) + (2 * self.width * self.rate if self.overlaps else 0)

    def linears(self, name: str, hidden: int) -> Iterator[Linear]:
        """The projection and its weights."""
        for part in ("kv", "weights"):
            yield Linear(f"{name}.{part}", PROJECTIONS, hidden, self.projected, product=name, split=Split.NONE)


@dataclass(frozen=True, slots=True)
class EntryIndex:
    """Ranks entries by small heads over compressed keys of their own, and chooses the best `chosen`."""

    heads: int
    head_dim: int
    chosen: int

    def compressor(self, rate: int) -> Compressor:
        """What makes its keys."""
        return Compressor(rate, self.head_dim, overlaps=True)

    def linears(self, hidden: int, query_rank: int, rate: int) -> Iterator[Linear]:
        """Q from the layer's query latent, the compressed keys, and a weight for each head."""
        yield Linear("indexer.q", PROJECTIONS, query_rank, self.heads * self.head_dim, split=Split.NONE)
        yield from self.compressor(rate).linears("indexer.compressor", hidden)
        yield Linear("indexer.weights", PROJECTIONS, hidden, self.heads, split=Split.NONE)


@dataclass(frozen=True, slots=True)
class CompressedAttention(Mixer):
    """Heads with one key-value vector for all of them, over a window and over compressed entries."""

    heads: int
    head_dim: int
    query_rank: int  # width of Q's latent
    groups: int  # of heads, each with a projection of its own to `output_rank`
    output_rank: int
    window: int
    compressor: Compressor | None = None  # None: the window only
    index: EntryIndex | None = None  # None: a query sees every entry

    @property
    def reach(self) -> Window:
        """The window, beside the entries."""
        return Window(self.window)

    @property
    def entries(self) -> Entries | None:
        """Which entries a query sees."""
        if self.compressor is None:
            return None
        return Entries(self.compressor.rate, self.index.chosen if self.index else None)

    @property
    def shards(self) -> int:
        """A query head each."""
        return self.heads

    @property
    def holds(self) -> tuple[Held, ...]:
        """The window's vectors; entries, their index keys, and what the next entry needs."""
        held = [Held(Store.KV, self.head_dim, self.reach)]
        if self.compressor and self.entries:
            held += [Held(Store.KV, self.head_dim, self.entries), Held(Store.CONV, self.compressor.pending)]
            if self.index:
                keys = self.index.compressor(self.compressor.rate)
                held += [
                    Held(Store.INDEX, self.index.head_dim, Entries(self.compressor.rate)),
                    Held(Store.CONV, keys.pending),
                ]
        return tuple(held)

    @property
    def flop_per_pair(self) -> int:
        """FLOP of one query and one vector: Q.K and P.V."""
        return 4 * self.heads * self.head_dim

    @property
    def other_params(self) -> int:
        """Norms of the query's latent and of the vector, a sink per head; those of compressors and index."""
        found = self.query_rank + self.head_dim + self.heads
        if self.compressor:
            found += self.compressor.other_params
            found += self.index.compressor(self.compressor.rate).other_params if self.index else 0
        return found

    @property
    def text(self) -> str:
        """One line for a person."""
        heads = f"{self.heads} heads of {self.head_dim} with one KV vector"
        if self.compressor is None:
            return heads
        chosen = f", the best {self.index.chosen}" if self.index else ""
        return f"{heads}, an entry for {self.compressor.rate} tokens{chosen}"

    def linears(self, hidden: int) -> Iterator[Linear]:
        """Q by a latent, the vector, the output in two steps; compressors and index."""
        width = self.heads * self.head_dim
        for name, size in (("q_down", self.query_rank), ("kv", self.head_dim)):
            yield Linear(f"attention.{name}", PROJECTIONS, hidden, size, product="qkv_down", split=Split.NONE)
        yield Linear("attention.q_up", PROJECTIONS, self.query_rank, width, product="q_up")
        outputs = self.groups * self.output_rank
        yield Linear("attention.out_down", PROJECTIONS, width // self.groups, outputs, product="out_down")
        yield Linear("attention.out", PROJECTIONS, outputs, hidden, product="out", split=Split.INPUTS)
        if self.compressor:
            yield from self.compressor.linears("compressor", hidden)
            if self.index:
                yield from self.index.linears(hidden, self.query_rank, self.compressor.rate)

    def mixing(self, new: Count, cached: Count, *, square: bool) -> Iterator[Mixing]:
        """Scores and weighted vectors of the window, then of the entries, after the index has chosen them. `square`
        counts every token of the window's part."""
        pairs = new * (cached + new) if square else self.reach.pairs(new, cached)
        in_window, *rest = self.holds
        yield Mixing(
            "attention.scores",
            SCORES,
            self.flop_per_pair * pairs,
            in_window,
            reads=self.reach.seen(cached),
            writes=self.reach.kept(new),
            activations=2 * self.heads * self.head_dim * new,
        )
        if not self.entries or not self.compressor:
            return
        made = self.entries.kept(cached + new) - self.entries.kept(cached)
        if self.index:
            every = Entries(self.compressor.rate)
            ranked = every.pairs(new, cached) - every.pairs_within(new, cached, self.index.chosen)
            needed = smaller(larger(every.kept(cached + new) - self.index.chosen, 0), 1)
            yield Mixing(
                "indexer.scores",
                SCORES,
                2 * self.index.heads * self.index.head_dim * ranked,
                rest[2],
                reads=every.kept(cached) * needed,
                writes=made,
                activations=self.index.heads * self.index.head_dim * new,
            )
        yield Mixing(
            "attention.entries",
            SCORES,
            self.flop_per_pair * self.entries.pairs(new, cached),
            rest[0],
            reads=self.entries.seen(cached),
            writes=made,
            activations=0,
        )
