"""Mamba and Mamba-2, alone and between attention, MLPs and experts: Mamba, Falcon-Mamba, Mamba-2, Nemotron-H."""

import math
from dataclasses import replace

from predict.errors import BadModel
from predict.model.config.fields import Fields
from predict.model.config.hybrid import state_bits
from predict.model.config.layers import FULL, LINEAR, decoder
from predict.model.config.parts import grouped_attention, routed_experts
from predict.model.mixer import Mixer
from predict.model.mlp import Experts, Mlp
from predict.model.state_space import Mamba, Mamba2
from predict.model.transformer import Block, Model

# Layers of Nemotron-H: the letters of `hybrid_override_pattern`, and the names of `layers_block_type` old and new.
MLP, MOE = "mlp", "moe"
LAYERS = {"M": LINEAR, "*": FULL, "-": MLP, "E": MOE, "mamba": LINEAR, "attention": FULL}
# Fields of the code that change nothing that is counted.
CODE = (
    "chunk_size",
    "mamba_chunk_size",
    "norm_before_gate",
    "num_logits_to_keep",
    "num_query_groups",
    "rescale_prenorm_residual",
    "time_step_floor",
    "time_step_limit",
    "time_step_max",
    "time_step_min",
    "time_step_rank",
    "time_step_init_scheme",
    "time_step_scale",
    "use_associative_scan",
    "use_mamba_kernels",
    "use_mambapy",
)


def mamba(fields: Fields) -> Model:
    """Mamba (Gu and Dao 2023) and Falcon-Mamba (TII 2024): every layer is a mixer, and none has an MLP."""
    hidden, layers = fields.size("hidden_size"), fields.layers("num_hidden_layers")
    rank = fields.get("time_step_rank")
    mixer = Mamba(
        channels=fields.size_or_none("intermediate_size") or fields.size("expand", 2) * hidden,
        state_dim=fields.size("state_size", 16),
        step_rank=math.ceil(hidden / 16) if rank in (None, "auto") else fields.size("time_step_rank"),
        kernel=fields.size("conv_kernel", 4),
        bias=fields.flag("use_bias", default=False),
        conv_bias=fields.flag("use_conv_bias", default=True),
    )
    fields.use(*CODE, "expand", "mixer_rms_eps")
    return decoder(fields, [Block(layers, hidden, mixer, None, hidden)], tied=True)


def of_the_authors(fields: Fields) -> Model:
    """Mamba and Mamba-2 as their authors publish them (state-spaces/mamba, `MambaConfig`), with the defaults of that
    code. Raises BadModel for the variants with attention or MLPs."""
    hidden, layers = fields.size("hidden_size"), fields.layers("num_hidden_layers")
    settings = fields.inside("ssm_cfg")
    assert settings is not None
    if fields.items("attn_layer_idx") or fields.count("d_intermediate", 0):
        raise BadModel(f"{fields.origin}: attention and MLPs in the Mamba authors' format are not supported")
    width, kernel = settings.size("expand", 2) * hidden, settings.size("d_conv", 4)
    mixer: Mamba | Mamba2
    if settings.text("layer") == "Mamba2":
        head_dim = settings.size("headdim", 64)
        if width % head_dim:
            raise BadModel(f"{fields.origin}: headdim={head_dim} does not divide the {width} channels of Mamba-2")
        mixer = Mamba2(width // head_dim, head_dim, settings.size("ngroups", 1), settings.size("d_state", 128), kernel)
    else:
        mixer = Mamba(width, settings.size("d_state", 16), math.ceil(hidden / 16), kernel)
    multiple = fields.size("pad_vocab_size_multiple", 8)
    vocab = -(-fields.size("vocab_size") // multiple) * multiple
    fields.use("attn_cfg", "rms_norm", "fused_add_norm", "tie_embeddings", "num_key_value_heads")
    tied = fields.flag("tie_embeddings", default=True)
    model = decoder(fields, [Block(layers, hidden, mixer, None, hidden)], tied=tied)
    return replace(model, vocab=vocab, architecture="mamba2" if isinstance(mixer, Mamba2) else "mamba")


def mamba2(fields: Fields) -> Model:
    """Mamba-2 (Dao and Gu 2024): every layer is a mixer, and none has an MLP."""
    hidden, layers = fields.size("hidden_size"), fields.layers("num_hidden_layers")
    mixer = Mamba2(
        heads=fields.size("num_heads"),
        head_dim=fields.size("head_dim"),
        groups=fields.size("n_groups"),
        state_dim=fields.size("state_size"),
        kernel=fields.size("conv_kernel", 4),
        bias=fields.flag("use_bias", default=False),
        conv_bias=fields.flag("use_conv_bias", default=True),
    )
    width = fields.size("expand", 2) * hidden
    if width != mixer.width:
        raise BadModel(f"{fields.origin}: expand x hidden_size={width} is not num_heads x head_dim={mixer.width}")
    fields.use(*CODE)
    fields.agrees("rms_norm", value=True)
    return decoder(fields, [Block(layers, hidden, mixer, None, hidden)])


def nemotron_h(fields: Fields) -> Model:
    """Nemotron-H (NVIDIA 2025): each layer is one of Mamba-2, attention, an MLP without a gate, or experts."""
    hidden, types = fields.size("hidden_size"), _types(fields)
    mixers: dict[str, Mixer] = {}
    mlps: dict[str, Mlp | Experts] = {}
    bias = fields.flag("mlp_bias", default=False)
    if LINEAR in types:
        mixers[LINEAR] = _nemotron_mamba(fields)
    if FULL in types:
        mixers[FULL] = grouped_attention(fields, mha_if_absent=True)
    if MLP in types:
        mlps[MLP] = Mlp(fields.size("intermediate_size"), gated=False, bias=bias)
    if MOE in types:
        mlps[MOE] = _nemotron_experts(fields, bias=bias)
    fields.use(*CODE, "attention_bias", "expand", "num_hidden_layers", "intermediate_size")
    return decoder(fields, [Block(1, hidden, mixers.get(kind), mlps.get(kind), hidden) for kind in types])


def _types(fields: Fields) -> list[str]:
    pattern = fields.text("hybrid_override_pattern")
    fields.use("hybrid_override_pattern", "layers_block_type", "layer_types")
    if pattern is not None:
        return _known_kinds(fields, [*pattern])
    if not (kinds := layer_kinds(fields, "layers_block_type")):
        raise BadModel(f"{fields.origin}: hybrid_override_pattern or layers_block_type is missing")
    return kinds


def layer_kinds(fields: Fields, name: str) -> list[str]:
    """The kinds of layers that a field lists, by their newer names. Raises BadModel for one that is not known."""
    return _known_kinds(fields, fields.items(name))


def _known_kinds(fields: Fields, named: list[object]) -> list[str]:
    known = {**LAYERS, **{kind: kind for kind in (LINEAR, FULL, MLP, MOE)}}
    if unknown := [kind for kind in named if not isinstance(kind, str) or kind not in known]:
        raise BadModel(f"{fields.origin}: unknown kind of layer {unknown[0]!r}; known: {', '.join(known)}")
    return [known[str(kind)] for kind in named]


def _nemotron_mamba(fields: Fields) -> Mamba2:
    return Mamba2(
        heads=fields.size("mamba_num_heads"),
        head_dim=fields.size("mamba_head_dim"),
        groups=fields.size("mamba_n_groups" if fields.has("mamba_n_groups") else "n_groups"),
        state_dim=fields.size("ssm_state_size"),
        kernel=fields.size("mamba_d_conv" if fields.has("mamba_d_conv") else "conv_kernel", 4),
        bias=fields.flag("use_bias", default=False),
        conv_bias=fields.flag("mamba_conv_bias" if fields.has("mamba_conv_bias") else "use_conv_bias", default=True),
        state_bits=state_bits(fields, "mamba_ssm_cache_dtype") or 32,  # the default of the code
    )


def _nemotron_experts(fields: Fields, *, bias: bool) -> Experts:
    """Experts without a gate, in a latent of their own in Nemotron 3 Super."""
    shared = Mlp(fields.size("moe_shared_expert_intermediate_size"), gated=False, bias=bias)
    routed = routed_experts(fields, "n_routed_experts", fields.size("moe_intermediate_size"), shared)
    fields.use("n_shared_experts", "moe_shared_expert_overlap")
    return Experts(
        routed.copies,
        routed.active,
        routed.intermediate,
        shared,
        gated=False,
        latent=fields.size_or_none("moe_latent_size"),
        latent_bias=bias,
    )
