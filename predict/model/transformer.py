"""A transformer as a list of linear layers: its parameters, and the matrices that a token goes through.

Parameters and FLOP both come from `Block.linears`, so they cannot disagree.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from predict.model.elementwise import RMS_ELEMENTWISE, Elementwise
from predict.model.storage import AS_TRAINED, REST_BITS, SIXTEEN_BITS, MatrixBits, Storage
from predict.units import count
from predict.workloads import Number, stored_bytes


class Component(StrEnum):
    """The group that a part of a pass belongs to. The lessons use the same groups."""

    MLP = "mlp"
    ATTENTION_PROJECTIONS = "attention_projections"
    ATTENTION_SCORES = "attention_scores"
    VOCAB = "vocab"
    NORMS = "norms"


@dataclass(frozen=True, slots=True)
class Linear:
    """A weight matrix of shape (inputs, outputs), or several equal copies."""

    name: str
    component: Component
    inputs: int
    outputs: int
    bias: bool = False
    copies: int = 1  # number of experts
    active: int = 1  # copies that one token goes through
    weight_bits: float = 16  # of a stored weight; a bias takes 16

    @property
    def params(self) -> int:
        """Parameters of all copies: weights and bias."""
        return self.copies * (self.inputs + self.bias) * self.outputs

    @property
    def active_params(self) -> int:
        """Parameters that one token goes through."""
        return self.active * (self.inputs + self.bias) * self.outputs

    def stored_bytes(self, bits: float | None = None) -> Number:
        """Bytes of all copies, weights and bias: in `bits` each, or (None) as the checkpoint stores them."""
        if bits is not None:
            return stored_bytes(self.params, bits)
        weights = stored_bytes(self.copies * self.inputs * self.outputs, self.weight_bits)
        return weights + stored_bytes(self.copies * self.bias * self.outputs, REST_BITS)


@dataclass(frozen=True, slots=True)
class Attention:
    """MHA, GQA (Ainslie et al. 2023) or MQA: groups of query heads share each of the `kv_heads`."""

    heads: int
    kv_heads: int
    head_dim: int
    qkv_bias: bool = False
    output_bias: bool = False
    qk_norm: bool = False

    @property
    def kv_elements_per_token(self) -> int:
        """Elements that one layer caches per token: K and V of each KV head."""
        return 2 * self.kv_heads * self.head_dim

    @property
    def cache_shards(self) -> int:
        """Most GPUs that can split a token's cache; more GPUs must copy heads."""
        return self.kv_heads

    @property
    def flop_per_pair(self) -> int:
        """FLOP of one query-key pair: Q.K and P.V each take a multiply-add per head and element."""
        return 4 * self.heads * self.head_dim

    @property
    def query_and_output(self) -> int:
        """Elements of Q and of the output for one token."""
        return 2 * self.heads * self.head_dim

    @property
    def norm_params(self) -> int:
        """Parameters of the norms on Q and K (Qwen3, Gemma 3): one weight per element of a head."""
        return 2 * self.head_dim if self.qk_norm else 0

    @property
    def text(self) -> str:
        """One line for a person: "GQA, 64 heads of 128, 8 KV heads"."""
        kind = "MHA" if self.kv_heads == self.heads else "MQA" if self.kv_heads == 1 else "GQA"
        shared = "" if kind == "MHA" else f", {self.kv_heads} KV head{'s' if self.kv_heads > 1 else ''}"
        return f"{kind}, {self.heads} heads of {self.head_dim}{shared}"

    def linears(self, hidden: int) -> Iterator[Linear]:
        """Q, K, V and output projection; hidden: width of the residual stream."""
        width, kv_width = self.heads * self.head_dim, self.kv_heads * self.head_dim
        for name, inputs, outputs, bias in (
            ("attention.q", hidden, width, self.qkv_bias),
            ("attention.k", hidden, kv_width, self.qkv_bias),
            ("attention.v", hidden, kv_width, self.qkv_bias),
            ("attention.out", width, hidden, self.output_bias),
        ):
            yield Linear(name, Component.ATTENTION_PROJECTIONS, inputs, outputs, bias)


@dataclass(frozen=True, slots=True)
class LatentAttention:
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

    @property
    def kv_elements_per_token(self) -> int:
        """Elements that one layer caches per token: the latent and the rotary key, both shared by all heads."""
        return self.kv_rank + self.rope_dim

    @property
    def cache_shards(self) -> int:
        """1: every head needs the whole latent, so each tensor-parallel GPU holds a copy."""
        return 1

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
    def norm_params(self) -> int:
        """Parameters of the norms on the two latents."""
        return (self.query_rank or 0) + self.kv_rank

    @property
    def text(self) -> str:
        """One line for a person."""
        return f"MLA, {self.heads} heads, latent {self.kv_rank} + {self.rope_dim} rotary"

    def linears(self, hidden: int) -> Iterator[Linear]:
        """Down and up projections of Q and of KV, and the output projection."""
        query_width = self.heads * (self.nope_dim + self.rope_dim)
        kind = Component.ATTENTION_PROJECTIONS
        if self.query_rank is None:
            yield Linear("attention.q", kind, hidden, query_width)
        else:
            yield Linear("attention.q_down", kind, hidden, self.query_rank, self.bias)
            yield Linear("attention.q_up", kind, self.query_rank, query_width)
        yield Linear("attention.kv_down", kind, hidden, self.kv_rank + self.rope_dim, self.bias)
        yield self.expansion
        yield Linear("attention.out", kind, self.heads * self.value_dim, hidden, self.bias)

    @property
    def expansion(self) -> Linear:
        """The matrix that expands a latent to every head's key and value."""
        outputs = self.heads * (self.nope_dim + self.value_dim)
        return Linear("attention.kv_up", Component.ATTENTION_PROJECTIONS, self.kv_rank, outputs)


@dataclass(frozen=True, slots=True)
class Mlp:
    """Feed-forward layer: an up and a down matrix, and a gate matrix if `gated`."""

    intermediate: int
    gated: bool  # SwiGLU, GeGLU; Shazeer 2020
    bias: bool = False

    @property
    def text(self) -> str:
        """One line for a person."""
        return f"{'gated ' if self.gated else ''}MLP of {self.intermediate}"

    def linears(self, hidden: int) -> Iterator[Linear]:
        """Gate if there is one, up and down."""
        for name in ("mlp.gate", "mlp.up") if self.gated else ("mlp.up",):
            yield Linear(name, Component.MLP, hidden, self.intermediate, self.bias)
        yield Linear("mlp.down", Component.MLP, self.intermediate, hidden, self.bias)


@dataclass(frozen=True, slots=True)
class Experts:
    """Mixture of experts: a router sends each token to some of the experts, which are gated MLPs."""

    copies: int  # number of experts
    active: int  # experts that one token goes to
    intermediate: int  # width of one expert
    shared: Mlp | None = None  # an MLP that every token goes through

    @property
    def text(self) -> str:
        """One line for a person."""
        shared = f" + shared {self.shared.text}" if self.shared else ""
        return f"{self.copies} experts of {self.intermediate}, {self.active} active{shared}"

    def linears(self, hidden: int) -> Iterator[Linear]:
        """Router, experts and the shared MLP."""
        yield Linear("mlp.router", Component.MLP, hidden, self.copies)
        for name, inputs, outputs in (
            ("mlp.expert_gate", hidden, self.intermediate),
            ("mlp.expert_up", hidden, self.intermediate),
            ("mlp.expert_down", self.intermediate, hidden),
        ):
            yield Linear(name, Component.MLP, inputs, outputs, copies=self.copies, active=self.active)
        if self.shared:
            yield from self.shared.linears(hidden)


@dataclass(frozen=True, slots=True)
class Block:
    """Equal layers."""

    layers: int
    hidden: int  # width of the residual stream
    attention: Attention | LatentAttention
    mlp: Mlp | Experts
    norm_params: int  # of one layer, without the norms inside attention
    window: int | None = None  # latest tokens that a query sees, its own included; None: all
    elementwise: Elementwise = RMS_ELEMENTWISE  # what is computed between the matrices
    bits: MatrixBits = SIXTEEN_BITS  # of a stored weight, on average over the layers

    def linears(self) -> Iterator[Linear]:
        """The matrices of one layer."""
        for linear in (*self.attention.linears(self.hidden), *self.mlp.linears(self.hidden)):
            yield replace(linear, weight_bits=self.bits.of(linear.name))

    @property
    def layer_norm_params(self) -> int:
        """Parameters of all norms of one layer."""
        return self.norm_params + self.attention.norm_params

    @property
    def params(self) -> int:
        """Parameters of all layers of this block."""
        return self.layers * (sum(linear.params for linear in self.linears()) + self.layer_norm_params)

    @property
    def active_params(self) -> int:
        """Parameters that one token goes through in all layers of this block."""
        return self.layers * (sum(linear.active_params for linear in self.linears()) + self.layer_norm_params)


@dataclass(frozen=True, slots=True)
class Model:
    """A decoder-only transformer."""

    name: str
    architecture: str  # `model_type` of its config.json
    hidden: int  # the same in every block
    vocab: int
    blocks: tuple[Block, ...]
    tied: bool  # the output reuses the input embedding
    final_norm_params: int
    context_limit: int | None  # longest supported sequence
    position_params: int = 0  # parameters of learned positions
    embedding_dim: int | None = None  # width of the embedding if not `hidden`: OPT-350m projects in and out
    notes: tuple[str, ...] = ()  # what a reader of its configuration should know
    storage: Storage = AS_TRAINED  # how its checkpoint is stored
    head: tuple[Linear, ...] | None = None  # what the last hidden state goes through if not a plain vocabulary matrix
    vision_params: int = 0  # of networks beside the decoder: they take memory, and no FLOP of a text token

    @property
    def layers(self) -> int:
        """Number of layers."""
        return sum(block.layers for block in self.blocks)

    @property
    def heads(self) -> int:
        """Query heads of a layer."""
        return self.blocks[0].attention.heads

    @property
    def embedding_params(self) -> int:
        """Parameters of the input embedding. They are looked up, not multiplied."""
        return self.vocab * (self.embedding_dim or self.hidden)

    @property
    def params(self) -> int:
        """All parameters. Shared parameters count once."""
        return self._outside_params + sum(block.params for block in self.blocks)

    @property
    def active_params(self) -> int:
        """Parameters that one token goes through, embeddings included: all except the experts not chosen."""
        return self._outside_params + sum(block.active_params for block in self.blocks)

    @property
    def stored_params(self) -> int:
        """All parameters that a machine must hold: those of the decoder, and of the networks beside it."""
        return self.params + self.vision_params

    def stored_bytes(self, bits: float | None = None) -> Number:
        """Bytes of all weights: in `bits` each, or (None) as the checkpoint stores them."""
        if bits is not None:
            return stored_bytes(self.stored_params, bits)
        layers = sum(block.layers * linear.stored_bytes() for block in self.blocks for linear in block.linears())
        outer = sum(linear.stored_bytes() for linear in self.outer_linears())
        rest = self.norm_params + self.position_params + self.vision_params
        return layers + outer + stored_bytes(rest, REST_BITS) + (0 if self.tied else self.embedding_bytes())

    def embedding_bytes(self, bits: float | None = None) -> Number:
        """Bytes of the input embedding: in `bits` each, or (None) as the checkpoint stores it."""
        return stored_bytes(self.embedding_params, self.storage.embedding_bits if bits is None else bits)

    @property
    def norm_params(self) -> int:
        """Parameters of all norms."""
        return self.final_norm_params + sum(block.layers * block.layer_norm_params for block in self.blocks)

    @property
    def kv_elements_per_token(self) -> int:
        """Elements that all layers together cache per token."""
        return sum(block.layers * block.attention.kv_elements_per_token for block in self.blocks)

    @property
    def is_mixture(self) -> bool:
        """Whether a token goes through only part of the parameters."""
        return self.active_params != self.params

    @property
    def is_latent(self) -> bool:
        """Whether the cache holds latent vectors instead of keys and values."""
        return any(isinstance(block.attention, LatentAttention) for block in self.blocks)

    @property
    def window(self) -> int | None:
        """The narrowest sliding window of any layer."""
        return min((block.window for block in self.blocks if block.window), default=None)

    @property
    def text(self) -> str:
        """One line for a person: layers, width, attention, MLP."""
        active = f", {count(self.active_params)} active" if self.is_mixture else ""
        attention = ", ".join(dict.fromkeys(block.attention.text for block in self.blocks))
        mlps: dict[str, int] = {}
        for block in self.blocks:
            mlps[block.mlp.text] = mlps.get(block.mlp.text, 0) + block.layers
        mlp = next(iter(mlps)) if len(mlps) == 1 else "; ".join(f"{layers} x {text}" for text, layers in mlps.items())
        windowed = sum(block.layers for block in self.blocks if block.window)
        window = f"; window of {self.window} in {windowed} layers" if windowed else ""
        size = f"{count(self.params)} parameters{active}"
        return f"{size}: {self.layers} layers of {self.hidden}; {attention}; {mlp}{window}"

    def outer_linears(self) -> Iterator[Linear]:
        """The matrices outside the layers: the output head, and OPT-350m's projections."""
        width, bits = self.embedding_dim or self.hidden, self.storage.outer
        linears = (Linear("vocab", Component.VOCAB, width, self.vocab),) if self.head is None else self.head
        if width != self.hidden:
            inner = Linear("embedding.in", Component.VOCAB, width, self.hidden)
            linears = (inner, Linear("embedding.out", Component.VOCAB, self.hidden, width), *linears)
        for linear in linears:
            yield replace(linear, weight_bits=bits.of(linear.name))

    @property
    def _outside_params(self) -> int:
        heads = sum(linear.params for linear in self.outer_linears())
        embedding = 0 if self.tied else self.embedding_params
        return heads + embedding + self.position_params + self.final_norm_params
