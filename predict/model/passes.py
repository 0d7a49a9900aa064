"""A pass through a model as the sum of its parts: forward, decode step, uncached step, training step.

Convention: as in `workloads`, a multiply-add is 2 FLOP; softmax, norms and activations are not counted. Bytes are those
that the pass as a whole must move: it reads every multiplied weight once, reads and appends the cache once, and reads
and writes the states of recurrent layers once. `activation_bytes` counts the traffic between kernels separately. Sizes
are whole numbers, or float64 arrays for a whole sweep.
"""

import functools
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from predict import checks
from predict.formulas.memory import Recompute
from predict.model.layout import ONE_GPU, Layout
from predict.model.linear import Component, Linear
from predict.model.mixer import Held, Store
from predict.model.storage import REST_BITS
from predict.model.transformer import Block, Model
from predict.resources import matmul_unit
from predict.units import ALL_BF16, DType, Formats
from predict.workloads import Amounts, Count, Number, stored_bytes


class Mask(StrEnum):
    """Which query-key pairs count."""

    CAUSAL = "causal"  # those that causal attention needs
    FULL = "full"  # the full square, as the lessons count


class Logits(StrEnum):
    """Which positions are projected to the vocabulary."""

    ALL = "all"  # as in training
    LAST = "last"  # as in serving


@dataclass(frozen=True, slots=True)
class Part:
    """One kind of kernel, summed over all layers."""

    name: str
    component: Component
    flop: Number
    weight_bytes: Number = 0
    cache_bytes_read: Number = 0
    cache_bytes_written: Number = 0
    activation_bytes: Number = 0  # inputs and outputs if nothing is fused
    of_experts: bool = False  # the matrices of experts that a token chooses among
    cache_shards: int = 1  # most GPUs that can split the cache; more must copy it


@dataclass(frozen=True, slots=True)
class Pass:
    """The parts of one pass, and their sums."""

    parts: tuple[Part, ...]
    compute: DType

    @property
    def flop(self) -> Number:
        """FLOP of all parts."""
        return self._sum(lambda part: part.flop)

    @property
    def weight_bytes(self) -> Number:
        """Bytes of weights read."""
        return self._sum(lambda part: part.weight_bytes)

    @property
    def cache_bytes(self) -> Number:
        """Bytes of KV cache and of states read and written."""
        return self._sum(lambda part: part.cache_bytes_read + part.cache_bytes_written)

    @property
    def activation_bytes(self) -> Number:
        """Bytes between kernels if every kernel reads its inputs from DRAM and writes its outputs to DRAM."""
        return self._sum(lambda part: part.activation_bytes)

    @property
    def bytes(self) -> Number:
        """Compulsory bytes: weights and cache."""
        return self.weight_bytes + self.cache_bytes

    def component_flop(self, component: Component) -> Number:
        """FLOP of one component."""
        return self._sum(lambda part: part.flop if part.component == component else 0)

    def weight_bytes_on(self, layout: Layout) -> Number:
        """Bytes of weights that all GPUs of `layout` read together, if each reads its own once."""
        return self._sum(lambda part: part.weight_bytes if part.of_experts else layout.dp * part.weight_bytes)

    def cache_bytes_on(self, layout: Layout) -> Number:
        """Bytes of cache that all GPUs of `layout` read and write together, copies included."""
        return self._sum(
            lambda part: (part.cache_bytes_read + part.cache_bytes_written) * layout.cache_copies(part.cache_shards)
        )

    def amounts(self, layout: Layout = ONE_GPU) -> Amounts:
        """Amounts of one GPU of `layout`: an even share of the FLOP, of the weights that it holds and of its cache."""
        written = self._sum(lambda part: part.cache_bytes_written * layout.cache_copies(part.cache_shards))
        moved = self.weight_bytes_on(layout) + self.cache_bytes_on(layout)
        flop, read = self.flop, moved - written
        if layout.gpus > 1:
            flop, read, written = flop / layout.gpus, read / layout.gpus, written / layout.gpus
        return Amounts({matmul_unit(self.compute): flop}, bytes_read=read, bytes_written=written)

    def _sum(self, amount: Callable[[Part], Number]) -> Number:
        return functools.reduce(operator.add, map(amount, self.parts), 0)


def forward(
    model: Model,
    batch: Count,
    seq: Count,
    *,
    cached: Count = 0,
    mask: Mask = Mask.CAUSAL,
    logits: Logits = Logits.ALL,
    formats: Formats = ALL_BF16,
) -> Pass:
    """Forward pass over `seq` new tokens per sequence, after `cached` tokens whose K and V are in the cache.

    With the full mask, a dense layer of width H with a 4H MLP takes 24BSH^2 + 4BS^2H FLOP, and the vocabulary 2BSHV.
    Where only the last position is projected, only that one goes through layers that cache nothing of their own.
    Raises BadQuantity for sizes that are not whole numbers.
    """
    checks.whole(batch=batch, seq=seq)
    checks.count(cached=cached)
    tokens, positions = batch * seq, batch * seq if logits is Logits.ALL else batch
    parts: list[Part] = []
    for block in model.blocks:
        new = 1 if logits is Logits.LAST and block.only_reads_cache else seq
        parts += [_linear_part(linear, block.layers, batch * new, formats) for linear in block.linears]
        parts += _mixing_parts(block, batch, new, cached + seq - new, mask, formats)
    parts += [_linear_part(linear, 1, tokens, formats) for linear in model.input_linears()]
    parts += [_linear_part(linear, 1, positions, formats) for linear in model.output_linears()]
    return Pass((*parts, _other_part(model, formats)), formats.compute)


def decode_step(model: Model, batch: Count, context: Count, *, formats: Formats = ALL_BF16) -> Pass:
    """One new token for each of `batch` sequences with `context` cached tokens.

    2 FLOP per weight and token. The step reads the whole cache and every weight that the batch needs once. Raises
    BadQuantity for sizes that are not whole numbers.
    """
    checks.count(context=context)
    return forward(model, batch, 1, cached=context, formats=formats)


def uncached_step(model: Model, batch: Count, context: Count, *, formats: Formats = ALL_BF16) -> Pass:
    """A decode step without a cache: all `context` + 1 tokens go through the model again, only the last position needs
    logits, and nothing is cached."""
    checks.count(context=context)
    whole = forward(model, batch, context + 1, logits=Logits.LAST, formats=formats)
    return replace(whole, parts=tuple(replace(part, cache_bytes_written=0) for part in whole.parts))


def training_step(
    model: Model, batch: Count, seq: Count, *, mask: Mask = Mask.CAUSAL, recompute: Recompute = Recompute.NONE
) -> Pass:
    """Forward and backward pass over a batch. FLOP only, because the traffic depends on the optimizer (see `memory`).

    The backward pass takes 2x the FLOP of the forward pass, one product for the input's gradient and one for the
    weight's: 3x in total. With FLASH, attention keeps no scores and its backward pass takes 2.5x (five matmuls for two,
    Dao 2023). SELECTIVE recomputes the scores (Korthikanti 2022). OPS recomputes every second matrix of a layer. FULL
    recomputes the layers but not the logits (Narayanan 2021, equation 3).
    """
    once = forward(model, batch, seq, mask=mask)
    scores = {Recompute.NONE: 3, Recompute.SELECTIVE: 4, Recompute.FULL: 4}.get(recompute, 3.5)
    layers = 4 if recompute is Recompute.FULL else 3
    times = {Component.ATTENTION_SCORES: scores, Component.VOCAB: 3}
    again = {linear.name for block in model.blocks for linear in block.linears[1::2]}

    def trained(part: Part) -> Part:
        repeats = 1 if recompute is Recompute.OPS and part.name in again else 0
        return Part(part.name, part.component, part.flop * (times.get(part.component, layers) + repeats))

    return Pass(tuple(trained(part) for part in once.parts), once.compute)


def kept_by_layers(model: Model) -> Iterator[tuple[int, Held]]:
    """What the layers of each block keep, with their number."""
    return ((block.layers, held) for block in model.blocks if block.mixer for held in block.mixer.holds)


def kv_bytes(model: Model, batch: Count, context: Count, kv_bits: float = 16) -> Number:
    """Cache of `batch` sequences of `context` tokens that grows with them: keys and values (MLA: the latents), and the
    keys of an index. A layer with a window or chunks caches at most that. Raises BadQuantity for sizes that are not
    whole numbers or `kv_bits` that are not positive."""
    checks.whole(batch=batch)
    checks.count(context=context)
    checks.positive(kv_bits=kv_bits)
    total: Number = 0
    for layers, held in kept_by_layers(model):
        if held.store.grows:
            total = total + batch * held.reach.kept(context) * stored_bytes(layers * held.elements, kv_bits)
    return total


def state_bytes(model: Model, batch: Count, formats: Formats = ALL_BF16) -> Number:
    """What `batch` sequences keep besides, whatever their length: states of recurrent layers, and the latest inputs of
    their convolutions. Raises BadQuantity for a batch that is not a whole number."""
    checks.whole(batch=batch)
    total: Number = 0
    for layers, held in kept_by_layers(model):
        if not held.store.grows:
            total = total + batch * stored_bytes(layers * held.elements, _bits(held, formats))
    return total


def resident_bytes(
    model: Model, batch: Count, context: Count, formats: Formats = ALL_BF16, layout: Layout = ONE_GPU
) -> Number:
    """Caches and states of `batch` sequences of `context` tokens on all GPUs of `layout` together, copies included.
    Raises BadQuantity for sizes that are not whole numbers."""
    checks.whole(batch=batch)
    checks.count(context=context)
    total: Number = 0
    for layers, held in kept_by_layers(model):
        kept = held.reach.kept(context) if held.store.grows else 1
        each = kept * stored_bytes(layers * held.elements, _bits(held, formats))
        total = total + batch * each * layout.cache_copies(held.shards)
    return total


def cache_bytes_per_token(model: Model, kv_bits: float = 16, layout: Layout = ONE_GPU) -> Number:
    """Bytes of keys, values, latents and index keys that one token adds on all GPUs of `layout` together, copies
    included, until a window is full."""
    total: Number = 0
    for layers, held in kept_by_layers(model):
        if held.store.grows:
            elements = layers * held.elements * held.reach.per_token
            total = total + stored_bytes(elements, kv_bits) * layout.cache_copies(held.shards)
    return total


def kv_bytes_per_token(model: Model, kv_bits: float = 16) -> Number:
    """Bytes of keys and values (MLA: of latents) that one token adds in all layers, until a window is full."""
    return stored_bytes(model.kv_elements_per_token, kv_bits)


def kv_bytes_beyond_windows(model: Model, kv_bits: float = 16) -> Number:
    """Bytes of keys and values that one token adds in all layers once windows and chunks are full."""
    return stored_bytes(model.kv_elements_beyond_windows, kv_bits)


def window_bytes(model: Model, kv_bits: float = 16) -> Number:
    """Bytes of keys and values that the full windows and chunks of one sequence hold."""
    return stored_bytes(model.window_elements, kv_bits)


def index_bytes_per_token(model: Model, kv_bits: float = 16) -> Number:
    """Bytes of index keys that one token adds in all sparse layers."""
    return stored_bytes(model.index_elements_per_token, kv_bits)


def touched_experts(copies: int, active: int, tokens: Count) -> Number:
    """Mean number of experts that `tokens` tokens use, if every token chooses evenly among all experts."""
    return copies * (1 - (1 - active / copies) ** tokens)


def _other_part(model: Model, formats: Formats) -> Part:
    """Norms, and all other parameters that are no matrices."""
    bits = REST_BITS if formats.weight_bits is None else formats.weight_bits
    return Part("norms", Component.NORMS, 0, weight_bytes=stored_bytes(model.other_params, bits))


def _linear_part(linear: Linear, layers: int, tokens: Count, formats: Formats) -> Part:
    read = linear.stored_bytes(formats.weight_bits)
    if linear.active < linear.copies:
        read = read / linear.copies * touched_experts(linear.copies, linear.active, tokens)
    elements = layers * tokens * linear.active * (linear.inputs + linear.outputs)
    return Part(
        linear.name,
        linear.component,
        flop=2 * layers * tokens * linear.active * linear.inputs * linear.outputs,
        weight_bytes=layers * read,
        activation_bytes=elements * formats.activation.bytes,
        of_experts=linear.copies > 1,
    )


def _mixing_parts(
    block: Block, batch: Count, new: Count, cached: Count, mask: Mask, formats: Formats
) -> Iterator[Part]:
    """The parts of a block's mixer."""
    if block.mixer is None:
        return
    for work in block.mixer.mixing(new, cached, square=mask is Mask.FULL):
        each: Number = 0
        if work.held:
            each = batch * stored_bytes(block.layers * work.held.elements, read_bits(work.held, formats))
        yield Part(
            work.name,
            work.component,
            flop=block.layers * batch * work.flop,
            cache_bytes_read=work.reads * each,
            cache_bytes_written=work.writes * each,
            activation_bytes=block.layers * batch * work.activations * formats.activation.bytes,
            cache_shards=work.held.shards if work.held else 1,
        )


def _bits(held: Held, formats: Formats) -> float:
    """Bits of one element that is held."""
    return formats.kv_bits if held.store.grows else held.bits or formats.activation.bits


def read_bits(held: Held, formats: Formats) -> float:
    """Bits of one element that a pass reads or writes. Index keys are often stored in 8 bits beside a 16-bit cache
    (DeepSeek-V3.2, 2025, section 2.1), and the bound must hold for them."""
    return min(8, formats.kv_bits) if held.store is Store.INDEX else _bits(held, formats)
