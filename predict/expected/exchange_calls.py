"""The calls by which the GPUs of a machine exchange activations in a layer."""

from collections.abc import Iterator

from predict.expected.calls import Call, Family
from predict.expected.share import Share
from predict.formulas import parallel
from predict.model.kinds import KernelKind
from predict.model.mlp import Experts
from predict.model.storage import wide_format
from predict.model.traffic import all_reduces
from predict.model.transformer import Block
from predict.units import DTYPES, Formats
from predict.workloads import Number

BF16 = DTYPES["bf16"].name


def exchange_calls(block: Block, share: Share) -> Iterator[Call]:
    """Sums over tensor-parallel GPUs, by the faster of the engine's own all-reduce and the library's; and for copies of
    the attention, the way of the tokens to the experts of all GPUs and back."""
    layout = share.layout
    message_bytes = share.tokens * block.hidden * share.activation_bytes
    if layout.tp > 1 and (sums := all_reduces(block, layout)):
        yield _call(share, "all_reduce", layout.tp, message_bytes, sums * block.layers, any_kernel=True)
    if layout.dp > 1 and isinstance(block.mlp, Experts):
        yield from _to_experts(block.mlp, block, share)


def _to_experts(experts: Experts, block: Block, share: Share) -> Iterator[Call]:
    """All-to-all there and back: each GPU sends a part of its copy's tokens to the GPUs that hold their experts."""
    gpus = share.layout.stage_gpus
    hit = parallel.expert_hit_share(
        experts.copies, experts.active, share.layout.ep, experts.groups, experts.active_groups
    )
    elements = share.tokens / share.tp * gpus * hit * (experts.latent or block.hidden)
    for element_bytes in (min(share.formats.compute.bytes, share.activation_bytes), share.activation_bytes):
        yield _call(share, "all_to_all", gpus, elements * element_bytes, block.layers)


def _call(share: Share, op: str, gpus: int, message_bytes: Number, count: int, *, any_kernel: bool = False) -> Call:
    formats = Formats(compute=wide_format(share.replica.gpu))
    family = Family(op, formats, ((BF16,),), any_kernel=any_kernel)
    return Call(KernelKind.LINK, family, {"gpus": gpus, "message_bytes": message_bytes}, count)
