"""A transformer as a list of linear layers: its parameters, and the matrices that a token goes through.

Parameters and FLOP both come from `Block.linears`, so they cannot disagree. What a layer keeps of the past and how its
tokens meet is its mixer's to tell (`mixer`).
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

from predict.model.attention import LatentAttention
from predict.model.elementwise import RMS_ELEMENTWISE, Elementwise
from predict.model.linear import Component, Linear
from predict.model.mixer import Mixer
from predict.model.mlp import Experts, Mlp
from predict.model.storage import AS_TRAINED, REST_BITS, SIXTEEN_BITS, MatrixBits, Storage
from predict.units import count
from predict.workloads import Number, stored_bytes


@dataclass(frozen=True)
class Block:
    """Equal layers: a mixer, an MLP, or both."""

    layers: int
    hidden: int  # width of the residual stream
    mixer: Mixer | None  # None: the layer is an MLP only
    mlp: Mlp | Experts | None  # None: the layer is a mixer only
    norm_params: int  # of one layer: norms and other vectors outside mixer and MLP
    extra: tuple[Linear, ...] = ()  # matrices of one layer outside mixer and MLP
    elementwise: Elementwise = RMS_ELEMENTWISE  # what is computed between the matrices
    bits: MatrixBits = SIXTEEN_BITS  # of a stored weight, on average over the layers
    numbers: tuple[int, ...] = field(default=(), compare=False)  # of the layers in the model; empty: in a row

    @cached_property
    def linears(self) -> tuple[Linear, ...]:
        """The matrices of one layer. Every count asks for them, so they are listed once."""
        parts = (part.linears(self.hidden) for part in (self.mixer, self.mlp) if part)
        return tuple(linear.stored_in(self.bits.of(linear.name)) for linear in itertools.chain(*parts, self.extra))

    @property
    def other_params(self) -> int:
        """Parameters of one layer that are no matrices: norms, and what mixer and MLP have besides."""
        return self.norm_params + sum(part.other_params for part in (self.mixer, self.mlp) if part)

    @property
    def params(self) -> int:
        """Parameters of all layers of this block."""
        return self.layers * (sum(linear.params for linear in self.linears) + self.other_params)

    @property
    def active_params(self) -> int:
        """Parameters that one token goes through in all layers of this block."""
        return self.layers * (sum(linear.active_params for linear in self.linears) + self.other_params)

    @property
    def only_reads_cache(self) -> bool:
        """Whether the layers read an earlier layer's cache and keep none: no later token needs what they make of an
        earlier one (Gemma 3n, where all such layers are the last)."""
        return self.mixer is not None and self.mixer.shares_cache

    @property
    def window(self) -> int | None:
        """The most tokens that a layer caches of a sequence: its window or chunk; None: all, or no cache."""
        return self.mixer.reach.limit if self.mixer else None


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
    position_params: int = 0  # parameters of learned positions and other tables that are looked up
    embedding_dim: int | None = None  # width of the embedding if not `hidden`: OPT-350m projects in and out
    extra: tuple[Linear, ...] = ()  # matrices outside the layers that every token goes through
    notes: tuple[str, ...] = ()  # what a reader of its configuration should know
    storage: Storage = AS_TRAINED  # how its checkpoint is stored
    head: tuple[Linear, ...] | None = None  # what the last hidden state goes through if not a plain vocabulary matrix
    vision_params: int = 0  # of networks beside the decoder: they take memory, and no FLOP of a text token

    @property
    def layers(self) -> int:
        """Number of layers."""
        return sum(block.layers for block in self.blocks)

    @property
    def mixers(self) -> tuple[Mixer, ...]:
        """The mixers of the blocks that have one."""
        return tuple(block.mixer for block in self.blocks if block.mixer)

    @property
    def heads(self) -> int:
        """Heads, or groups of them, that every layer can be divided into: the most GPUs that share all layers evenly.
        Layers of 24 and of 16 heads give 8."""
        return math.gcd(*(mixer.shards for mixer in self.mixers)) or 1

    @property
    def embedding_params(self) -> int:
        """Parameters of the input embedding. They are looked up, not multiplied."""
        return self.vocab * (self.embedding_dim or self.hidden)

    @property
    def outputs(self) -> int:
        """Numbers that the head makes of a position: its logits, or the labels of a classifier; 0 without a head."""
        return self.vocab if self.head is None else self.head[-1].outputs if self.head else 0

    @property
    def params(self) -> int:
        """All parameters of the decoder. Shared parameters count once."""
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
        layers = sum(block.layers * linear.stored_bytes() for block in self.blocks for linear in block.linears)
        outer = sum(linear.stored_bytes() for linear in self.outer_linears())
        rest = self.other_params + self.position_params + self.vision_params
        return layers + outer + stored_bytes(rest, REST_BITS) + (0 if self.tied else self.embedding_bytes())

    def expert_bytes(self, bits: float | None = None) -> Number:
        """Bytes of all experts that a token chooses among: in `bits` each, or (None) as the checkpoint stores them."""
        experts = ((block.layers, each) for block in self.blocks for each in block.linears if each.copies > 1)
        return sum(layers * linear.stored_bytes(bits) for layers, linear in experts)

    def embedding_bytes(self, bits: float | None = None) -> Number:
        """Bytes of the input embedding: in `bits` each, or (None) as the checkpoint stores it."""
        return stored_bytes(self.embedding_params, self.storage.embedding_bits if bits is None else bits)

    @property
    def other_params(self) -> int:
        """Parameters of all layers that are no matrices, and of the last norm."""
        return self.final_norm_params + sum(block.layers * block.other_params for block in self.blocks)

    @property
    def kv_elements_per_token(self) -> float:
        """Elements that all layers together cache per token until a window is full, without the keys of an index."""
        return self._of_mixers(lambda mixer: mixer.kv_elements_per_token)

    @property
    def kv_elements_beyond_windows(self) -> float:
        """Elements that all layers together cache per token once windows and chunks are full."""
        return self._of_mixers(lambda mixer: mixer.kv_elements_beyond_windows)

    @property
    def window_elements(self) -> float:
        """Elements that all full windows and chunks hold of one sequence."""
        return self._of_mixers(lambda mixer: mixer.window_elements)

    @property
    def index_elements_per_token(self) -> float:
        """Elements of index keys that all sparse layers together cache per token."""
        return self._of_mixers(lambda mixer: mixer.index_elements_per_token)

    def _of_mixers(self, each: Callable[[Mixer], float]) -> float:
        return sum(block.layers * each(block.mixer) for block in self.blocks if block.mixer)

    @property
    def is_mixture(self) -> bool:
        """Whether a token goes through only part of the parameters."""
        return self.active_params != self.params

    @property
    def experts(self) -> Experts | None:
        """The experts of the most layers."""
        mixtures = [block for block in self.blocks if isinstance(block.mlp, Experts)]
        largest = max(mixtures, key=lambda block: block.layers, default=None)
        return largest.mlp if largest and isinstance(largest.mlp, Experts) else None

    @property
    def multiplied_weights(self) -> int:
        """Weights of all matrices that tokens are multiplied by, every expert's included."""
        return sum(layers * linear.copies * linear.inputs * linear.outputs for layers, linear in self._multiplied())

    @property
    def active_weights(self) -> int:
        """The weights that one token is multiplied by."""
        return sum(layers * linear.active * linear.inputs * linear.outputs for layers, linear in self._multiplied())

    @property
    def is_latent(self) -> bool:
        """Whether the cache holds latent vectors instead of keys and values."""
        return any(isinstance(mixer, LatentAttention) for mixer in self.mixers)

    @property
    def window(self) -> int | None:
        """The narrowest window or chunk of any layer."""
        return min((block.window for block in self.blocks if block.window), default=None)

    @property
    def text(self) -> str:
        """One line for a person: layers, width, attention, MLP."""
        active = f", {count(self.active_params)} active" if self.is_mixture else ""
        mixers = _listed((block.layers, block.mixer.text) for block in self.blocks if block.mixer)
        mlps = _listed((block.layers, block.mlp.text) for block in self.blocks if block.mlp)
        reach = [(block.layers, block.mixer.reach.text) for block in self.blocks if block.mixer]
        reaches = [f"{text} in {layers} layers" for text, layers in _counted(reach).items() if text]
        beside = f", {count(self.vision_params)} of vision beside them" if self.vision_params else ""
        size = f"{count(self.params)} parameters{active}{beside}"
        return "; ".join((f"{size}: {self.layers} layers of {self.hidden}", *filter(None, (mixers, mlps)), *reaches))

    def outer_linears(self) -> Iterator[Linear]:
        """The matrices outside the layers."""
        yield from self.input_linears()
        yield from self.output_linears()

    def input_linears(self) -> Iterator[Linear]:
        """The matrices outside the layers that every token goes through: OPT-350m's projection, and what is extra."""
        if self.embedding_dim and self.embedding_dim != self.hidden:
            yield self._stored(Linear("embedding.in", Component.VOCAB, self.embedding_dim, self.hidden))
        yield from map(self._stored, self.extra)

    def output_linears(self) -> Iterator[Linear]:
        """The matrices that only positions with logits go through: OPT-350m's projection, and the output head."""
        width = self.embedding_dim or self.hidden
        if width != self.hidden:
            yield self._stored(Linear("embedding.out", Component.VOCAB, self.hidden, width))
        head = (Linear("vocab", Component.VOCAB, width, self.vocab),) if self.head is None else self.head
        yield from map(self._stored, head)

    def _stored(self, linear: Linear) -> Linear:
        return linear.stored_in(self.storage.outer.of(linear.name))

    def _multiplied(self) -> Iterator[tuple[int, Linear]]:
        """Every matrix and its number of layers."""
        yield from ((block.layers, linear) for block in self.blocks for linear in block.linears)
        yield from ((1, linear) for linear in self.outer_linears())

    @property
    def _outside_params(self) -> int:
        outside = sum(linear.params for linear in self.outer_linears())
        embedding = 0 if self.tied else self.embedding_params
        return outside + embedding + self.position_params + self.final_norm_params


def merged(layers: Iterable[Block]) -> tuple[Block, ...]:
    """Equal layers as one block each, in the order of the first."""
    numbers: dict[Block, list[int]] = {}
    first = 0
    for layer in layers:
        numbered = layer.numbers or range(first, first + layer.layers)
        numbers.setdefault(replace(layer, layers=1), []).extend(numbered)
        first += layer.layers
    return tuple(replace(one, layers=len(found), numbers=tuple(sorted(found))) for one, found in numbers.items())


def _counted(texts: Iterable[tuple[int, str]]) -> dict[str, int]:
    """Layers of each text, in the order of the first."""
    counts: dict[str, int] = {}
    for layers, text in texts:
        counts[text] = counts.get(text, 0) + layers
    return counts


def _listed(texts: Iterable[tuple[int, str]]) -> str:
    """The text if it is the same for all layers, else each with its number of layers."""
    counts = _counted(texts)
    return (
        next(iter(counts)) if len(counts) == 1 else "; ".join(f"{layers} x {text}" for text, layers in counts.items())
    )
