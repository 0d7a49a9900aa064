"""The names that our matrices have in checkpoints, so that what a file says of modules is read of the right matrices.

One matrix has several names, because families name it differently and some fuse it with its neighbors (`qkv_proj`).
"""

from collections.abc import Mapping
from types import MappingProxyType

_ATTENTION = ("self_attn", "attention", "self_attention", "attn")
_OUT = ("o_proj", "out_proj", "dense", "c_proj", "wo", "o_b_proj")
_LINEAR = ("linear_attn", "self_attn")
_FUSED = ("qkv_proj", "query_key_value", "Wqkv", "W_pack", "c_attn", "wqkv")
_MLP = ("mlp", "feed_forward", "ffn", "mixer", "")
_MOE = ("mlp", "block_sparse_moe", "feed_forward", "mixer", "moe", "")
_SHARED = ("shared_experts", "shared_expert", "shared_mlp", "shared_experts_mlp")
_GATES, _UPS = ("gate_proj", "w1", "gate_up_proj", "w13"), ("up_proj", "w3", "gate_up_proj", "w13")
_DOWNS = ("down_proj", "w2")


def _under(parents: tuple[str, ...], *names: str) -> tuple[str, ...]:
    return tuple(f"{parent}.{name}" if parent else name for parent in parents for name in names)


def _of_experts(*names: str) -> tuple[str, ...]:
    return _under(_MOE, "experts", *_under(("experts.0", "experts"), *names))


def _of_shared(*names: str) -> tuple[str, ...]:
    return _under(_MOE, *_under(_SHARED, *names))


# Name of a matrix in a layer -> its paths within that layer. Routers, the gate of a shared expert, the weights of an
# indexer and the like are absent: they decide where a token goes, and checkpoints keep them in 16 bits.
IN_LAYER: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "attention.q": (*_under(_ATTENTION, "q_proj", *_FUSED), "mixer.q_proj"),
        "attention.k": (*_under(_ATTENTION, "k_proj", *_FUSED), "mixer.k_proj"),
        "attention.v": (*_under(_ATTENTION, "v_proj", *_FUSED), "mixer.v_proj"),
        "attention.out": (
            *_under(_ATTENTION, *_OUT),
            "mixer.o_proj",
        ),
        "attention.q_down": _under(("self_attn",), "q_a_proj", "fused_qkv_a_proj", "fused_qkv_a_proj_with_mqa"),
        "attention.q_up": _under(("self_attn",), "q_b_proj"),
        "attention.kv_down": _under(("self_attn",), "kv_a_proj_with_mqa", "fused_qkv_a_proj"),
        "attention.kv": _under(("self_attn",), "kv_proj"),
        "attention.out_down": _under(("self_attn",), "o_a_proj"),
        "attention.kv_up": _under(("self_attn",), "kv_b_proj"),
        "indexer.q": _under(("self_attn",), "indexer.wq_b", "compressor.indexer.q_b_proj"),
        "indexer.k": _under(("self_attn",), "indexer.wk"),
        "linear_attention.q": _under(_LINEAR, "in_proj_qkvz", "in_proj_qkv", "q_proj", "qkv_proj"),
        "linear_attention.k": _under(_LINEAR, "in_proj_qkvz", "in_proj_qkv", "k_proj", "qkv_proj"),
        "linear_attention.v": _under(_LINEAR, "in_proj_qkvz", "in_proj_qkv", "v_proj", "qkv_proj"),
        "linear_attention.z": _under(_LINEAR, "in_proj_qkvz", "in_proj_z", "g_proj", "output_gate"),
        "linear_attention.b": _under(_LINEAR, "in_proj_ba", "in_proj_b", "b_proj"),
        "linear_attention.a": _under(_LINEAR, "in_proj_ba", "in_proj_a", "a_proj"),
        "linear_attention.f_down": _under(_LINEAR, "forget_gate.f_a_proj", "f_a_proj"),
        "linear_attention.f_up": _under(_LINEAR, "forget_gate.f_b_proj", "f_b_proj"),
        "linear_attention.g_down": _under(_LINEAR, "g_a_proj"),
        "linear_attention.g_up": _under(_LINEAR, "g_b_proj"),
        "linear_attention.out": _under(_LINEAR, "out_proj", "o_proj"),
        "mamba.in": _under(("mixer", "mamba"), "in_proj"),
        "mamba.x": _under(("mixer", "mamba"), "x_proj"),
        "mamba.step": _under(("mixer", "mamba"), "dt_proj"),
        "mamba.out": _under(("mixer", "mamba"), "out_proj"),
        "conv.in": ("conv.in_proj",),
        "conv.out": ("conv.out_proj",),
        "mlp.gate": (*_under(_MLP, *_GATES), "shared_mlp.input_linear"),
        "mlp.up": (*_under(_MLP, *_UPS, "c_fc", "fc1", "fc_in", "dense_h_to_4h"), "shared_mlp.input_linear"),
        "mlp.down": (*_under(_MLP, *_DOWNS, "c_proj", "fc2", "fc_out", "dense_4h_to_h"), "shared_mlp.output_linear"),
        "mlp.latent_down": _under(_MOE, "fc1_latent_proj"),
        "mlp.latent_up": _under(_MOE, "fc2_latent_proj"),
        "mlp.expert_gate": (*_of_experts(*_GATES), "block_sparse_moe.input_linear"),
        "mlp.expert_up": (*_of_experts(*_UPS), "block_sparse_moe.input_linear"),
        "mlp.expert_down": (*_of_experts(*_DOWNS), "block_sparse_moe.output_linear"),
        "shared.gate": _of_shared(*_GATES, "input_linear"),
        "shared.up": _of_shared(*_UPS, "input_linear"),
        "shared.down": _of_shared(*_DOWNS, "output_linear"),
        "laurel.down": ("laurel.linear_left",),
        "laurel.up": ("laurel.linear_right",),
        "layer_input.gate": ("per_layer_input_gate",),
        "layer_input.out": ("per_layer_projection",),
    }
)
EMBEDDING = ("language_model.model.embed_tokens", "transformer.wte", "backbone.embeddings")
HEAD = ("lm_head", "language_model.lm_head", "embed_out", "output", "output_layer")
PREFIXES = (
    "model.layers.{}.",
    "model.language_model.layers.{}.",
    "language_model.model.layers.{}.",
    "model.decoder.layers.{}.",
    "transformer.h.{}.",
    "transformer.blocks.{}.",
    "gpt_neox.layers.{}.",
    "backbone.layers.{}.",
    "layers.{}.",
)
# The shared expert of these families lies beside the experts, under the name of a plain MLP.
PLAIN_SHARED = frozenset({"gemma4", "gemma4_text"})


def paths_of(matrix: str, architecture: str, *, beside_experts: bool) -> tuple[str, ...]:
    """Paths of a matrix within its layer. `beside_experts`: the layer has experts, so that an MLP is their shared one.
    Empty for a matrix that keeps 16 bits anyway."""
    kind, _, part = matrix.partition(".")
    if beside_experts and kind == "mlp" and f"shared.{part}" in IN_LAYER and architecture not in PLAIN_SHARED:
        matrix = f"shared.{part}"
    return IN_LAYER.get(matrix, ())
