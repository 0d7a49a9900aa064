"""Compressed attention and streams of the residual: DeepSeek-V4."""

from dataclasses import replace

from predict.errors import BadModel
from predict.model.compressed import CompressedAttention, Compressor, EntryIndex
from predict.model.config.fields import Fields
from predict.model.config.layers import decoder
from predict.model.config.parts import routed_experts
from predict.model.linear import Component, Linear, Split
from predict.model.mlp import Mlp
from predict.model.transformer import Block, Model

WINDOW, SPARSE, HEAVY = "sliding_attention", "compressed_sparse_attention", "heavily_compressed_attention"
OF_RATIO = {0: WINDOW, 4: SPARSE, 128: HEAVY}  # `compress_ratios` of the published files
SETTINGS = (  # they change nothing that is counted
    "compress_rope_theta",
    "hc_eps",
    "hc_sinkhorn_iters",
    "mlp_layer_types",
    "num_hash_layers",
    "num_key_value_heads",
    "qk_rope_head_dim",
)


def deepseek_v4(fields: Fields) -> Model:
    """DeepSeek-V4 (2026): windows with entries for 4 or for 128 tokens, experts in every layer, and `hc_mult` streams
    of the residual, mixed before and after attention and MLP (manifold-constrained hyper-connections)."""
    hidden, streams = fields.size("hidden_size"), fields.size("hc_mult")
    width = fields.size("moe_intermediate_size")
    bias = fields.flag("mlp_bias", default=False)
    fields.use("n_shared_experts", *SETTINGS)
    experts = routed_experts(fields, "n_routed_experts", width, Mlp(width, gated=True, bias=bias))
    weights = (2 + streams) * streams  # collapse, expand, and mix
    mixed = Linear("streams.mix", Component.RESIDUAL, streams * hidden, weights, split=Split.NONE)
    norms = 2 * hidden + 2 * (weights + 3)  # and what is added to the weights, and their scales
    mixers = _mixers(fields)
    blocks = [Block(1, hidden, mixers[kind], experts, norms, (mixed, mixed)) for kind in _types(fields)]
    model = decoder(fields, blocks, extra_params=streams + 1)
    collapse = Linear("streams.collapse", Component.RESIDUAL, streams * hidden, streams, split=Split.NONE)
    return replace(model, head=(collapse, Linear("vocab", Component.VOCAB, hidden, model.vocab)))


def _mixers(fields: Fields) -> dict[str, CompressedAttention]:
    rates = fields.inside("compress_rates")
    head_dim = fields.size("head_dim")
    sparse = rates.size(SPARSE, 4) if rates else fields.size("compress_rate_csa", 4)
    heavy = rates.size(HEAVY, 128) if rates else fields.size("compress_rate_hca", 128)
    windowed = CompressedAttention(
        heads=fields.size("num_attention_heads"),
        head_dim=head_dim,
        query_rank=fields.size("q_lora_rank"),
        groups=fields.size("o_groups"),
        output_rank=fields.size("o_lora_rank"),
        window=fields.size("sliding_window"),
    )
    if windowed.heads % windowed.groups:
        raise BadModel(f"{fields.origin}: num_attention_heads={windowed.heads} is not a multiple of {windowed.groups}")
    index = EntryIndex(fields.size("index_n_heads"), fields.size("index_head_dim"), fields.size("index_topk"))
    return {
        WINDOW: windowed,
        SPARSE: replace(windowed, compressor=Compressor(sparse, head_dim, overlaps=True), index=index),
        HEAVY: replace(windowed, compressor=Compressor(heavy, head_dim)),
    }


def _types(fields: Fields) -> list[str]:
    """The kind of each layer: listed, by ratios of compression, or two heavy ones and then both in turn. What is listed
    beyond the layers belongs to the layers that predict further tokens."""
    layers = fields.layers("num_hidden_layers")
    if ratios := fields.items("compress_ratios"):
        types: list[object] = [OF_RATIO.get(ratio, ratio) if isinstance(ratio, int) else ratio for ratio in ratios]
    else:
        turns = [SPARSE if i % 2 else HEAVY for i in range(max(layers - 2, 0))]
        types = [*fields.items("layer_types")] or [*[HEAVY] * min(layers, 2), *turns]
    if len(types) < layers:
        raise BadModel(f"{fields.origin}: the kinds of layers are {len(types)} for num_hidden_layers={layers}")
    if unknown := [kind for kind in types[:layers] if kind not in (WINDOW, SPARSE, HEAVY)]:
        raise BadModel(f"{fields.origin}: unknown kind of layer {unknown[0]!r}; known: {WINDOW}, {SPARSE}, {HEAVY}")
    return [str(kind) for kind in types[:layers]]
