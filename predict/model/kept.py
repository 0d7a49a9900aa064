"""The tensors that a mixer and an MLP keep of one token for the backward pass.

The rules are those of PyTorch's autograd on the code of `transformers`: a matrix keeps its input, a norm and an
activation function keep what their gradients need, FlashAttention keeps Q, K, V, its output and the log-sum-exp of each
query. Recurrent layers keep what the kernels of flash-linear-attention and mamba_ssm save.

Left out are the places of routed tokens, under 0.3 % of a layer; what one matrix for Q, K and V keeps beside their
copies with positions, up to 15 % in such families; and the scores of an indexer, which is trained by itself.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from predict.errors import BadModel
from predict.model.attention import Attention, LatentAttention
from predict.model.elementwise import Elementwise, Norm
from predict.model.linear_attention import GatedDeltaNet
from predict.model.mixer import Mixer
from predict.model.mlp import Experts, Mlp
from predict.model.short_conv import GatedConv
from predict.model.side_by_side import SideBySide
from predict.model.state_space import Mamba, Mamba2
from predict.workloads import Count, Number

ELEMENT_BYTES = 2
FP32_BYTES = 4
DELTA_CHUNK = 64  # tokens of a chunk of the gated delta rule; each token keeps a row of the chunk's matrix


class Kernels(StrEnum):
    """How the ops between the matrices run. It decides what they keep."""

    EAGER = "eager"  # op by op, as the code of `transformers` is written
    FUSED = "fused"  # each norm, SwiGLU and set of experts is one kernel (Liger-Kernel, torch.compile, Megatron)


@dataclass(frozen=True, slots=True)
class Kept:
    """Tensors that one layer keeps of one token."""

    what: str
    bytes: Number
    split: bool = False  # tensor parallelism divides it; the rest is whole on every GPU, unless the sequence is divided


def norm_bytes(norm: Norm, kernels: Kernels) -> int:
    """Bytes that a norm keeps per element, without its statistics."""
    return norm.fused_bytes if kernels is Kernels.FUSED else norm.eager_bytes


def mixer_tensors(mixer: Mixer, elementwise: Elementwise, keys: Count | None, kernels: Kernels) -> Iterator[Kept]:
    """What a mixer keeps besides its input. keys: those whose scores are kept; None: no scores are. Raises BadModel for
    a kind whose kernels are not known."""
    match mixer:
        case Attention():
            yield from _attention(mixer, elementwise, kernels)
            yield _scores(mixer.heads, elementwise, keys)
        case LatentAttention():
            yield from _latent(mixer, elementwise, kernels)
            yield _scores(mixer.heads, elementwise, keys)
        case GatedDeltaNet():
            yield from _delta_net(mixer)
        case Mamba2():
            yield from _mamba_2(mixer)
        case Mamba():
            yield from _mamba(mixer)
        case GatedConv():
            # Both gates, the convolution's input and result, and the product, as in the code of transformers.
            yield Kept("gates, convolution and product", 6 * ELEMENT_BYTES * mixer.width, split=True)
        case SideBySide():
            for each in mixer.mixers:
                yield from mixer_tensors(each, elementwise, keys, kernels)
        case _:
            raise BadModel(f"what a layer of {mixer.text} keeps for its backward pass is not known")


def mlp_tensors(mlp: Mlp | Experts, hidden: int, elementwise: Elementwise, kernels: Kernels) -> Iterator[Kept]:
    """What an MLP or a mixture keeps besides its input."""
    if isinstance(mlp, Mlp):
        yield Kept("inside the MLP", _inside(mlp, elementwise, kernels), split=True)
    else:
        yield from _experts(mlp, hidden, elementwise, kernels)


def _attention(attention: Attention, elementwise: Elementwise, kernels: Kernels) -> Iterator[Kept]:
    """Q, K and V as attention reads them, its output, and what norms on Q and K and a gate keep besides. A gate keeps
    itself and the product; op by op, attention's output in the product's layout too."""
    width = attention.heads * attention.head_dim
    kv_heads = 0 if attention.shares_cache else attention.kv_heads
    kv_width = kv_heads * attention.head_dim
    if attention.qk_norm or attention.has_wide_norms:
        statistics = 2 if attention.has_wide_norms else attention.heads + kv_heads
        size = norm_bytes(elementwise.norm, kernels) * (width + kv_width) + FP32_BYTES * statistics
        yield Kept("norms of Q and K", size, split=True)
    yield Kept("Q, K, V and attention's output", ELEMENT_BYTES * (2 * width + 2 * kv_width), split=True)
    if attention.gated:
        tensors = 2 if kernels is Kernels.FUSED else 3
        yield Kept("attention's gate", tensors * ELEMENT_BYTES * width, split=True)


def _latent(attention: LatentAttention, elementwise: Elementwise, kernels: Kernels) -> Iterator[Kept]:
    """Each latent is normed and enters a matrix. K is put together from two parts; V stays in what it was cut from."""
    norm, latents = norm_bytes(elementwise.norm, kernels), [attention.kv_rank]
    if attention.query_rank:
        latents.append(attention.query_rank)
    yield Kept("latents and their norms", sum((norm + ELEMENT_BYTES) * width + FP32_BYTES for width in latents))
    query = attention.heads * (attention.nope_dim + attention.rope_dim)
    output = attention.heads * attention.value_dim
    tensors = 2 * query + attention.expansion.outputs + output
    yield Kept("Q, K, V and attention's output", ELEMENT_BYTES * tensors, split=True)
    if indexer := attention.indexer:
        yield Kept("the indexer's Q and K", ELEMENT_BYTES * (indexer.heads + 1) * indexer.head_dim)


def _scores(heads: int, elementwise: Elementwise, keys: Count | None) -> Kept:
    """Eager attention keeps the softmax of all keys; FlashAttention the log-sum-exp in fp32."""
    if keys is None:
        return Kept("log-sum-exp", FP32_BYTES * heads, split=True)
    each = ELEMENT_BYTES if elementwise.softmax_bits == 16 else FP32_BYTES + ELEMENT_BYTES
    return Kept("attention scores", each * heads * keys, split=True)


def _delta_net(layer: GatedDeltaNet) -> Iterator[Kept]:
    """Source: flash-linear-attention, `ChunkGatedDeltaRuleFunction.forward`: Q and K of each value head with two
    statistics, V, the decay in fp32, the strength, and a row of the chunk's matrix. The gated norm keeps its two inputs
    (the recurrence's output and z), and the output matrix its own."""
    yield Kept("input of the convolution", ELEMENT_BYTES * layer.conv.channels, split=True)
    yield Kept("Q and K of each value head", ELEMENT_BYTES * layer.value_heads * 2 * layer.key_dim, split=True)
    yield Kept("values, outputs, gate and product", 4 * ELEMENT_BYTES * layer.width, split=True)
    of_head = ELEMENT_BYTES * (DELTA_CHUNK + 1) + FP32_BYTES * (1 + 2 + 1)
    yield Kept("decays, strengths, chunks, statistics", of_head * layer.value_heads, split=True)


def _mamba(layer: Mamba) -> Iterator[Kept]:
    """Source: mamba_ssm, `MambaInnerFn.forward`: x and its gate, the step's latent with both projections of the state,
    these once more by themselves, and the scan's output. The convolution and the steps are computed again."""
    tensors = 3 * layer.width + layer.step_rank + 4 * layer.state_dim
    yield Kept("input, projections and output of the scan", ELEMENT_BYTES * tensors, split=True)


def _mamba_2(layer: Mamba2) -> Iterator[Kept]:
    """Source: mamba_ssm, `MambaSplitConv1dScanCombinedFn.forward`: all that the first matrix makes, the scan's output,
    and the norm's statistic. The convolution and the output matrix's input are computed again."""
    yield Kept(
        "output of the first matrix", ELEMENT_BYTES * (layer.width + layer.conv.channels + layer.heads), split=True
    )
    yield Kept("output of the scan", ELEMENT_BYTES * layer.width + (FP32_BYTES if layer.norm else 0), split=True)


def _inside(mlp: Mlp, elementwise: Elementwise, kernels: Kernels) -> int:
    """The widened tensors: gate, its activation, up and their product, or up and its activation."""
    gated = 3 if kernels is Kernels.FUSED else 4
    plain = 1 if elementwise.relu else 2
    return (gated if mlp.gated else plain) * ELEMENT_BYTES * mlp.intermediate


def _experts(experts: Experts, hidden: int, elementwise: Elementwise, kernels: Kernels) -> Iterator[Kept]:
    """Every chosen expert takes a copy of the token, and its result is kept to be weighed. A loop over experts keeps
    the weighed result as well, which one kernel for all experts does not."""
    yield Kept("router", FP32_BYTES * experts.copies)
    if experts.latent:
        yield Kept("latents of the token and of the result", 2 * ELEMENT_BYTES * experts.latent)
    copies, width = 2 if kernels is Kernels.FUSED else 3, experts.latent or hidden
    yield Kept("copies for experts", experts.active * copies * ELEMENT_BYTES * width)
    one = Mlp(experts.intermediate, gated=experts.gated)
    inside = experts.active * _inside(one, elementwise, kernels)
    if experts.shared:
        inside += _inside(experts.shared, elementwise, kernels)
    yield Kept("inside the experts", inside, split=True)
    if experts.shared_gate:
        yield Kept("result of the shared expert", ELEMENT_BYTES * hidden)
