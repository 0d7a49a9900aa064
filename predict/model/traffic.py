"""Bytes that each GPU of a layout sends to the others in a pass, inside its node and between nodes.

- **all-reduce**: tensor parallelism sums the outputs of attention and of the MLP over tp GPUs (Megatron-LM, Shoeybi et
  al. 2019, section 3).
- **all-to-all**: with dp copies of the attention, a token goes to the GPUs that hold its experts, once to each, in the
  format of the products. From each comes back one sum, in the format of activations (DeepSeek-V3, 2024, section 3.2;
  DeepEP). With dp = 1 every GPU has every token, and an all-reduce sums the experts' outputs.
- **pipeline**: a stage hands its activations to the next one.

Each kind is the least that must be sent: what a GPU keeps is not counted, nor is padding.
"""

from dataclasses import dataclass
from enum import StrEnum

from predict.formulas import parallel
from predict.gpus import Gpu
from predict.model.layout import Layout
from predict.model.mlp import Experts
from predict.model.transformer import Block, Model
from predict.units import Formats
from predict.workloads import Number


class Exchange(StrEnum):
    """Why GPUs send."""

    ALL_REDUCE = "all-reduce"
    ALL_TO_ALL = "all-to-all"
    PIPELINE = "pipeline"


@dataclass(frozen=True, slots=True)
class Sent:
    """Bytes that each GPU sends in a pass for one kind of exchange."""

    exchange: Exchange
    link_bytes: Number  # to GPUs of its node
    network_bytes: Number  # to other nodes


@dataclass(frozen=True, slots=True)
class Traffic:
    """The exchanges of `model` under `layout` on `gpu`."""

    model: Model
    layout: Layout
    gpu: Gpu
    formats: Formats

    def nodes(self, gpus: int) -> int:
        """Nodes that `gpus` neighbors are on: one if it is not known how many GPUs a node has."""
        return -(-gpus // (self.gpu.gpus_per_node or gpus))

    def sent(self, tokens: Number, *, stages: int) -> tuple[Sent, ...]:
        """What each GPU sends in a pass of `tokens` tokens for each of the dp copies. `stages` is the number of stages
        that a time is counted for: 1 if they work at the same time, pp if the pass goes through all of them before the
        next one can begin."""
        share = tokens * self.model.hidden * stages / self.layout.pp
        return self._all_reduce(share), self._all_to_all(share), self._pipeline(tokens * self.model.hidden, stages)

    def _all_reduce(self, elements: Number) -> Sent:
        """Over tp GPUs. What crosses nodes is summed inside them before, and each GPU sends its part of it."""
        tp, nodes = self.layout.tp, self.nodes(self.layout.tp)
        sums = sum(block.layers * all_reduces(block, self.layout) for block in self.model.blocks)
        message = sums * elements * self._activation_bytes
        inside = parallel.all_reduce_bytes(message, tp // nodes, in_switch=self.gpu.may_reduce_in_switch)
        return Sent(Exchange.ALL_REDUCE, inside, parallel.all_reduce_bytes(message * nodes / tp, nodes))

    def _all_to_all(self, elements: Number) -> Sent:
        """Over the GPUs of a stage. The tp GPUs of a copy send a part of its tokens each."""
        layout, stage, nodes = self.layout, self.layout.stage_gpus, self.nodes(self.layout.stage_gpus)
        there_and_back = min(self.formats.compute.bytes, self._activation_bytes) + self._activation_bytes
        inside = between = 0.0
        for block in self.model.blocks:
            if layout.dp > 1 and isinstance(block.mlp, Experts):
                width = (block.mlp.latent or block.hidden) / block.hidden
                bytes_each = block.layers * width * there_and_back / layout.tp
                inside += bytes_each * (stage // nodes - 1) * _hit(block.mlp, layout.ep)
                between += bytes_each * (nodes - 1) * _hit(block.mlp, min(layout.ep, nodes))
        return Sent(Exchange.ALL_TO_ALL, elements * inside, elements * between)

    def _pipeline(self, elements: Number, stages: int) -> Sent:
        """To the next stage. The tp GPUs of a copy send a part of its activations each. Of stages that work at the same
        time, the one that sends to another node takes longest."""
        message = elements * self._activation_bytes / self.layout.tp
        handed = min(stages, self.layout.pp - 1)
        crossing = min(handed, self.nodes(self.layout.gpus) - 1)
        return Sent(Exchange.PIPELINE, (handed - crossing) * message, crossing * message)

    @property
    def _activation_bytes(self) -> float:
        return self.formats.activation.bytes


def all_reduces(block: Block, layout: Layout) -> int:
    """All-reduces of a layer: after the mixer, and after an MLP or experts that get every token of the copy. Where both
    read the same input, one sums both."""
    exchanges_all = layout.dp > 1 and isinstance(block.mlp, Experts)
    mixes, follows = block.mixer is not None, block.mlp is not None and not exchanges_all
    return max(mixes, follows) if block.elementwise.parallel else mixes + follows


def _hit(experts: Experts, parts: int) -> float:
    return parallel.expert_hit_share(experts.copies, experts.active, parts, experts.groups, experts.active_groups)
