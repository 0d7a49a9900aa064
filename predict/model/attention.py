"""Softmax attention: with keys and values of its own, or with a latent that expands to them."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from predict.model.linear import Component, Linear, Split
from predict.model.mixer import ALL, Held, Mixer, Mixing, Store
from predict.model.reach import Reach, TopK, larger, smaller, triangle
from predict.workloads import Count, Number


@dataclass(frozen=True, slots=True)
class Attention(Mixer):
    """MHA, GQA (Ainslie et al. 2023) or MQA: groups of query heads share each of the `kv_heads`."""

    heads: int
    kv_heads: int
    head_dim: int
    qkv_bias: bool = False
    output_bias: bool = False
    qk_norm: bool = False  # norms on Q and K, one weight per element of a head (Qwen3, Gemma 3)
    reach: Reach = ALL
    gated: bool = False  # Q's matrix also makes a gate for every element of the output (Qwen3-Next)
    values: bool = True  # False: the keys before their norm are the values too, and V has no matrix (Gemma 4)
    shares_cache: bool = False  # reads an earlier layer's keys and values: neither matrices nor a cache of them
    extra_params: int = 0  # sinks, and norms over other widths than a head
    rotary: float = 1.0  # share of a head's elements with rotary positions

    @property
    def shards(self) -> int:
        """A query head each."""
        return self.heads

    @property
    def holds(self) -> tuple[Held, ...]:
        """K and V of each KV head, which a GPU has whole."""
        if self.shares_cache:
            return ()
        return (Held(Store.KV, 2 * self.kv_heads * self.head_dim, self.reach, shards=self.kv_heads),)

    @property
    def flop_per_pair(self) -> int:
        """FLOP of one query-key pair: Q.K and P.V each take a multiply-add per head and element."""
        return 4 * self.heads * self.head_dim

    @property
    def query_and_output(self) -> int:
        """Elements of Q and of the output for one token."""
        return 2 * self.heads * self.head_dim

    @property
    def other_params(self) -> int:
        """Norms on Q and, unless K is another layer's, on K; and what is extra."""
        norms = self.head_dim if self.shares_cache else 2 * self.head_dim
        return (norms if self.qk_norm else 0) + self.extra_params

    @property
    def has_wide_norms(self) -> bool:
        """Whether norms on Q and K have a weight for each element of every head (OLMo 2, Command R+)."""
        return self.extra_params >= self.heads * self.head_dim

    @property
    def text(self) -> str:
        """One line for a person: "GQA, 64 heads of 128, 8 KV heads"."""
        kind = "MHA" if self.kv_heads == self.heads else "MQA" if self.kv_heads == 1 else "GQA"
        shared = "" if kind == "MHA" else f", {self.kv_heads} KV head{'s' if self.kv_heads > 1 else ''}"
        cache = ", the cache of an earlier layer" if self.shares_cache else ""
        return f"{kind}, {self.heads} heads of {self.head_dim}{shared}{cache}"

    def linears(self, hidden: int) -> Iterator[Linear]:
        """Q, K, V and output projection; hidden: width of the residual stream."""
        kind, width = Component.ATTENTION_PROJECTIONS, self.heads * self.head_dim
        outputs = {"q": width * (2 if self.gated else 1)}
        if not self.shares_cache:
            outputs["k"] = self.kv_heads * self.head_dim
            if self.values:
                outputs["v"] = self.kv_heads * self.head_dim
        product = "qkv" if len(outputs) > 1 else "q"
        for name, size in outputs.items():
            yield Linear(f"attention.{name}", kind, hidden, size, self.qkv_bias, product=product, least=self.head_dim)
        yield Linear("attention.out", kind, width, hidden, self.output_bias, product="out", split=Split.INPUTS)

    def mixing(self, new: Count, cached: Count, *, square: bool) -> Iterator[Mixing]:
        """The scores and the weighted values. A shared cache is read by the layer that holds it."""
        pairs = new * (cached + new) if square else self.reach.pairs(new, cached)
        yield Mixing(
            "attention.scores",
            Component.ATTENTION_SCORES,
            self.flop_per_pair * pairs,
            next(iter(self.holds), None),
            reads=self.reach.seen(cached),
            writes=self.reach.kept(new),
            activations=self.query_and_output * new,
        )


@dataclass(frozen=True, slots=True)
class Indexer:
    """Ranks all earlier tokens for a sparse layer (DeepSeek-V3.2, 2025, section 2.1) by heads that share one key."""

    heads: int
    head_dim: int

    @property
    def norm_params(self) -> int:
        """The LayerNorm on the key: weight and bias."""
        return 2 * self.head_dim

    @property
    def held(self) -> Held:
        """One key per token."""
        return Held(Store.INDEX, self.head_dim)

    def linears(self, hidden: int, query_rank: int) -> Iterator[Linear]:
        """Q from the layer's query latent, K, and a weight for each head."""
        kind = Component.ATTENTION_PROJECTIONS
        yield Linear("indexer.q", kind, query_rank, self.heads * self.head_dim, split=Split.NONE)
        yield Linear("indexer.k", kind, hidden, self.head_dim, split=Split.NONE)
        yield Linear("indexer.weights", kind, hidden, self.heads, split=Split.NONE)

    def mixing(self, new: Count, cached: Count, chosen: int, *, square: bool) -> Mixing:
        """The index scores, two FLOP per head and element. A query with no more than `chosen` tokens needs none: it
        sees all of them. The weighted sum over heads is left out."""
        last = cached + new
        ranked = triangle(last) - triangle(larger(cached, smaller(last, chosen)))
        pairs = new * last if square else ranked
        return Mixing(
            "indexer.scores",
            Component.ATTENTION_SCORES,
            2 * self.heads * self.head_dim * pairs,
            self.held,
            reads=cached * smaller(larger(last - chosen, 0), 1),
            writes=new,
            activations=self.heads * self.head_dim * new,
        )


@dataclass(frozen=True, slots=True)
class LatentAttention(Mixer):
    """Multi-head latent attention (DeepSeek-V2, 2024, section 2.1): one cached latent vector expands to K and V.

    Instead, the expansion matrix can be multiplied into Q and into the output ("absorbed").
    """

    heads: int
    query_rank: int | None  # width of Q's own latent; None: Q is projected directly
    kv_rank: int  # width of the cached latent
    nope_dim: int  # elements of a head's query and key without position
    rope_dim: int  # elements of a head's query and key with rotary position
    value_dim: int  # elements of a head's value
    bias: bool = False
    reach: Reach = ALL
    indexer: Indexer | None = None  # None with a `TopK` reach: an earlier layer's choice is used again

    @property
    def shards(self) -> int:
        """A head each."""
        return self.heads

    @property
    def latent(self) -> Held:
        """The latent and the rotary key. Every head needs the whole of both, so that no GPU can do with a part."""
        return Held(Store.KV, self.kv_rank + self.rope_dim, self.reach)

    @property
    def holds(self) -> tuple[Held, ...]:
        """The latent, and the indexer's key."""
        return (self.latent, self.indexer.held) if self.indexer else (self.latent,)

    @property
    def flop_per_pair(self) -> int:
        """FLOP of one query-key pair with expanded keys and values."""
        return 2 * self.heads * (self.nope_dim + self.rope_dim + self.value_dim)

    @property
    def absorbed_flop_per_pair(self) -> int:
        """FLOP of one absorbed query and one cached latent: Q.K over latent and rotary key, P.V over the latent."""
        return 2 * self.heads * (2 * self.kv_rank + self.rope_dim)

    @property
    def query_and_output(self) -> int:
        """Elements of Q and of the output for one token."""
        return self.heads * (self.nope_dim + self.rope_dim + self.value_dim)

    @property
    def other_params(self) -> int:
        """Parameters of the norms on the two latents and on the indexer's key."""
        return (self.query_rank or 0) + self.kv_rank + (self.indexer.norm_params if self.indexer else 0)

    @property
    def text(self) -> str:
        """One line for a person."""
        index = f", indexer of {self.indexer.heads} heads" if self.indexer else ""
        return f"MLA, {self.heads} heads, latent {self.kv_rank} + {self.rope_dim} rotary{index}"

    def linears(self, hidden: int) -> Iterator[Linear]:
        """Down and up projections of Q and of KV, the output projection, and the indexer's."""
        query_width = self.heads * (self.nope_dim + self.rope_dim)
        kind = Component.ATTENTION_PROJECTIONS
        if self.query_rank is None:
            yield Linear("attention.q", kind, hidden, query_width, product="q")
        else:
            yield self._down("q_down", hidden, self.query_rank)
            yield Linear("attention.q_up", kind, self.query_rank, query_width, product="q_up")
        yield self._down("kv_down", hidden, self.kv_rank + self.rope_dim)
        yield self.expansion
        width = self.heads * self.value_dim
        yield Linear("attention.out", kind, width, hidden, self.bias, product="out", split=Split.INPUTS)
        if self.indexer:
            yield from self.indexer.linears(hidden, self.query_rank or hidden)

    def _down(self, name: str, hidden: int, rank: int) -> Linear:
        """A matrix to a latent, which every GPU needs whole."""
        kind, product = Component.ATTENTION_PROJECTIONS, "qkv_down" if self.query_rank else name
        return Linear(f"attention.{name}", kind, hidden, rank, self.bias, product=product, split=Split.NONE)

    @property
    def expansion(self) -> Linear:
        """The matrix that expands a latent to every head's key and value."""
        outputs = self.heads * (self.nope_dim + self.value_dim)
        return Linear("attention.kv_up", Component.ATTENTION_PROJECTIONS, self.kv_rank, outputs, product="kv_up")

    def mixing(self, new: Count, cached: Count, *, square: bool) -> Iterator[Mixing]:
        """The index scores if there are any, then scores and weighted values over the tokens within reach."""
        if self.indexer and isinstance(self.reach, TopK):
            yield self.indexer.mixing(new, cached, self.reach.tokens, square=square)
        pairs = new * (cached + new) if square else self.reach.pairs(new, cached)
        seen = self.reach.seen(cached)
        yield Mixing(
            "attention.scores",
            Component.ATTENTION_SCORES,
            self._score_flop(pairs, seen),
            self.latent,
            reads=seen,
            writes=self.reach.kept(new),
            activations=self.query_and_output * new,
        )

    def _score_flop(self, pairs: Count, seen: Count) -> Number:
        """FLOP of one sequence. For cached latents, the cheaper of two ways: expand the latents to keys and values
        again (usual for prompts) or multiply absorbed queries with the latents (usual for decode)."""
        plain = self.flop_per_pair * pairs
        if not np.any(seen):
            return plain
        expanded = plain + 2 * self.expansion.inputs * self.expansion.outputs * seen
        cheaper = smaller(expanded, self.absorbed_flop_per_pair * pairs)
        return np.where(seen > 0, cheaper, plain) if isinstance(seen, np.ndarray) else cheaper
