"""The parts that families share: attention, experts, windows, and a model of equal or alternating layers."""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace

from predict.errors import BadModel
from predict.model.attention import Attention, LatentAttention
from predict.model.config.fields import Fields
from predict.model.elementwise import RMS_ELEMENTWISE, Elementwise
from predict.model.linear import Component, Linear
from predict.model.mixer import ALL
from predict.model.mlp import Experts, Mlp
from predict.model.reach import Chunk, Reach, Window
from predict.model.transformer import Block, Model, merged


def multi_head(fields: Fields, hidden: str, heads: str, *, bias: bool) -> Attention:
    """Multi-head attention; `hidden` and `heads` are the names of the fields."""
    head_dim = fields.divided(hidden, heads)
    return Attention(fields.size(heads), fields.size(heads), head_dim, qkv_bias=bias, output_bias=bias)


def grouped_attention(
    fields: Fields,
    *,
    qkv_bias: bool = False,
    output_bias: bool = False,
    qk_norm: bool = False,
    mha_if_absent: bool = False,
    head_dim_default: int | None = None,
) -> Attention:
    """Attention by the usual names. Raises BadModel if the heads do not divide."""
    heads = fields.size("num_attention_heads")
    # null means MHA; in some families an absent field does too
    is_mha = fields.has("num_key_value_heads") or mha_if_absent
    kv_heads = fields.size("num_key_value_heads", heads if is_mha else None)
    if heads % kv_heads:
        raise BadModel(
            f"{fields.origin}: num_attention_heads={heads} is not a multiple of num_key_value_heads={kv_heads}"
        )
    head_dim = fields.size_or_none("head_dim") or head_dim_default
    if head_dim is None:
        head_dim = fields.divided("hidden_size", "num_attention_heads")
    return Attention(heads, kv_heads, head_dim, qkv_bias, output_bias, qk_norm)


def routed_experts(
    fields: Fields, copies_field: str, width: int, shared: Mlp | None = None, *, active_default: int | None = None
) -> Experts:
    """Experts of `width`; raises BadModel if a token takes more of them than there are."""
    copies, active = fields.size(copies_field), fields.size("num_experts_per_tok", active_default)
    if active > copies:
        raise BadModel(f"{fields.origin}: num_experts_per_tok={active} is more than {copies_field}={copies}")
    groups, chosen = _groups(fields, copies, active)
    return Experts(copies, active, width, shared, groups=groups, active_groups=chosen)


def _groups(fields: Fields, copies: int, active: int) -> tuple[int, int]:
    """Groups of experts, and how many a token chooses (DeepSeek-V2, 2024, section 2.2.2); 1 of 1 if that limits
    nothing."""
    groups, chosen = fields.get("n_group"), fields.get("topk_group")
    if fields.get("topk_method") == "greedy" or type(groups) is not int or type(chosen) is not int:
        return 1, 1
    is_limit = 1 <= chosen < groups <= copies and copies % groups == 0 and active <= chosen * copies // groups
    return (groups, chosen) if is_limit else (1, 1)


def qwen_windows(fields: Fields) -> Iterator[int | None]:
    """The window of each layer, of Qwen2 and Qwen3: none below max_window_layers."""
    if not fields.flag("use_sliding_window", default=False):
        fields.use("sliding_window", "max_window_layers")
        return itertools.repeat(None)
    window, first = fields.size("sliding_window", 4096), fields.count("max_window_layers")
    return (window if i >= first else None for i in itertools.count())


def every_nth_full(fields: Fields, period: int, window: int | None = None) -> Iterator[int | None]:
    """The window of each layer where every `period`-th sees everything (sliding_window_pattern says another period).
    The default of sliding_window is `window`; null means none."""
    if fields.has("sliding_window") and fields.get("sliding_window") is None:
        return itertools.repeat(None)
    found, every = fields.size("sliding_window", window), fields.size("sliding_window_pattern", period)
    return (found if (i + 1) % every else None for i in itertools.count())


def exaone_windows(fields: Fields) -> Iterator[int | None]:
    """The window of each layer of EXAONE 4. A pattern of letters is repeated: L has the window, G sees all."""
    pattern = fields.get("sliding_window_pattern")
    if not isinstance(pattern, str):
        return every_nth_full(fields, 4, 4096)
    window = fields.size_or_none("sliding_window")
    return (window if letter == "L" else None for letter in itertools.cycle(pattern))


def hunyuan_attention(fields: Fields) -> Attention:
    """Attention of Hunyuan, dense or with experts."""
    bias = fields.flag("attention_bias", default=False)
    fields.agrees("use_qk_norm", value=True)
    fields.agrees("use_cla", value=False)
    fields.use("cla_share_factor")
    fields.agrees("mlp_bias", value=False)
    fields.use("attention_head_dim", "norm_type", "add_classification_head", "class_num", "pool_type", "im_start_id")
    return grouped_attention(fields, qkv_bias=bias, output_bias=bias, qk_norm=True, mha_if_absent=True)


def with_wide_norms(attention: Attention) -> Attention:
    """The same with norms on Q and K that have a weight for each element of every head."""
    return replace(attention, extra_params=(attention.heads + attention.kv_heads) * attention.head_dim)


def qwen_mlps(fields: Fields, experts: Experts) -> Iterator[Mlp | Experts]:
    """Experts in every decoder_sparse_step-th layer, but not in mlp_only_layers."""
    dense = Mlp(fields.size("intermediate_size"), gated=True)
    only_dense, step = fields.items("mlp_only_layers"), fields.size("decoder_sparse_step", 1)
    return (dense if i in only_dense or (i + 1) % step else experts for i in itertools.count())


def dense_then_experts(fields: Fields, *, bias: bool = False) -> Iterator[Mlp | Experts]:
    """DeepSeek's layers: dense ones first, then experts and one MLP of all shared experts, or as mlp_layer_types says.
    Raises BadModel if that has not one entry for each layer."""
    dense = Mlp(fields.size("intermediate_size"), gated=True, bias=bias)
    width, shared = fields.size("moe_intermediate_size"), fields.count("n_shared_experts")
    together = Mlp(shared * width, gated=True, bias=bias) if shared else None
    experts = routed_experts(fields, "n_routed_experts", width, together)
    if kinds := fields.items("mlp_layer_types"):
        fields.use("first_k_dense_replace", "moe_layer_freq")
        _check_each_layer(fields, "mlp_layer_types", kinds)
        return (experts if kind == "sparse" else dense for kind in kinds)
    first, step = fields.count("first_k_dense_replace"), fields.size("moe_layer_freq", 1)
    return (dense if i < first or i % step else experts for i in itertools.count())


def rms_model(
    fields: Fields,
    attention: Attention | LatentAttention,
    mlps: Iterable[Mlp | Experts],
    windows: Iterator[int | None] | None = None,
    *,
    norms: int = 2,
    outer_norms: int = 1,
    elementwise: Elementwise = RMS_ELEMENTWISE,
    tied: bool = False,
    head_bias: bool = False,
) -> Model:
    """A model with one attention shape, whose layers differ in their MLP or window. Equal layers become one block.

    norms, outer_norms: of a layer, and outside the layers; each is as wide as the residual stream. `layer_types` of the
    configuration replaces `windows`.
    """
    hidden, layers = fields.size("hidden_size"), fields.layers("num_hidden_layers")
    norm = hidden * elementwise.norm.params
    reaches: Iterable[Reach] = (Window(window) if window else ALL for window in windows or itertools.repeat(None))
    if types := fields.items("layer_types"):
        _check_each_layer(fields, "layer_types", types)
        reaches = [_reach(fields, kind) for kind in types]
    each = []
    for mlp, reach, _ in zip(mlps, reaches, range(layers), strict=False):
        mixer = replace(attention, reach=reach)
        each.append(Block(1, hidden, mixer, mlp, norms * norm, elementwise=elementwise))
    vocab = fields.size("vocab_size")
    return Model(
        fields.name,
        fields.architecture,
        hidden,
        vocab,
        merged(each),
        tied=fields.flag("tie_word_embeddings", default=tied),
        final_norm_params=outer_norms * norm,
        context_limit=fields.size_or_none("max_position_embeddings"),
        head=(Linear("vocab", Component.VOCAB, hidden, vocab, bias=True),) if head_bias else None,
    )


def _check_each_layer(fields: Fields, name: str, kinds: list[object]) -> None:
    """Raise BadModel if the list has not one entry for each layer."""
    if len(kinds) != (layers := fields.layers("num_hidden_layers")):
        raise BadModel(f"{fields.origin}: {name} has {len(kinds)} entries for num_hidden_layers={layers}")


def _reach(fields: Fields, kind: object) -> Reach:
    """What a layer of this type sees. Raises BadModel if the type is not known."""
    match kind:
        case "full_attention" | "attention":
            return ALL
        case "sliding_attention":
            return Window(fields.size("sliding_window"))
        case "chunked_attention":
            return Chunk(fields.size("attention_chunk_size"))
        case _:
            known = "full_attention, sliding_attention, chunked_attention"
            raise BadModel(f"{fields.origin}: layer_types: unknown {kind!r}; known: {known}")
