"""Parameters of the networks beside a decoder: vision towers, and the projectors behind them.

A text token does not go through them, but the weights take memory. The layouts are those of `transformers`.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from predict.errors import BadModel
from predict.model.config.fields import Fields

Counter = Callable[[Fields, Fields, int], int]  # the tower's fields, those of the whole, the width of the decoder


def vision_params(fields: Fields, hidden: int) -> int:
    """Parameters of tower and projector. hidden: width of the decoder. 0 if there are none, if the layout is not known,
    or if a size is missing: `nested.left_out` then names what is not counted."""
    kind = fields.values.get("model_type")
    counter = VISION.get(kind) if isinstance(kind, str) else None
    if counter is None or not isinstance(fields.values.get("vision_config"), Mapping):
        return 0
    tower = fields.inside("vision_config")
    assert tower is not None
    tower.use("model_type", "num_heads", "num_attention_heads", "head_dim", "torch_dtype", "dtype", *WITHOUT_WEIGHTS)
    try:
        return counter(tower, fields, hidden)
    except BadModel:
        del fields.inner["vision_config"]
        fields.used.discard("vision_config")
        return 0


WITHOUT_WEIGHTS = (
    "fullatt_block_indexes",
    "window_size",
    "spatial_patch_size",
    "out_hidden_size",
    "vocab_size",
    "pixel_shuffle_ratio",
    "vision_feature_layer",
    "rope_parameters",
    "attention_dropout",
    "merge_type",
    "video_attn_type",
    "pos_emb_type",
    "text_hidden_size",
)


def _linear(inputs: int, outputs: int, *, bias: bool = True) -> int:
    return (inputs + bias) * outputs


def _encoder(layers: int, width: int, mlp: int, *, gated: bool = False, bias: bool = True, norm: int = 2) -> int:
    """Layers of Q, K, V and output, an MLP, and two norms of `norm` vectors each. The biases of a gated MLP and of
    attention are there or not together."""
    attention = 4 * _linear(width, width, bias=bias)
    feed_forward = (2 if gated else 1) * _linear(width, mlp, bias=bias) + _linear(mlp, width, bias=bias)
    return layers * (attention + feed_forward + 2 * norm * width)


def _patches(tower: Fields, width: int, *, bias: bool, frames: int = 1) -> int:
    """The convolution that makes a vector of each patch of an image, or of `frames` images of a video."""
    side = tower.size("patch_size")
    return _linear(tower.size("in_channels", 3) * frames * side * side, width, bias=bias)


def _siglip(tower: Fields) -> int:
    """SigLIP (Zhai et al. 2023): learned positions, LayerNorms; a head that pools if `vision_use_head`."""
    width, mlp = tower.size("hidden_size"), tower.size("intermediate_size")
    positions = (tower.size("image_size") // tower.size("patch_size")) ** 2
    layers = _encoder(tower.layers("num_hidden_layers"), width, mlp)
    params = _patches(tower, width, bias=True) + positions * width + layers + 2 * width
    if tower.flag("vision_use_head", default=True):  # a query, attention, a norm and an MLP
        params += width + 4 * _linear(width, width) + 2 * width + _linear(width, mlp) + _linear(mlp, width)
    return params


def _gemma3(tower: Fields, _: Fields, hidden: int) -> int:
    width = tower.size("hidden_size")
    return _siglip(tower) + width + width * hidden  # a norm, and a matrix


def _mistral3(tower: Fields, whole: Fields, hidden: int) -> int:
    """Pixtral (2024): rotary positions, RMSNorms, a gated MLP; then patches are merged and go through two matrices."""
    width, merge = tower.size("hidden_size"), whole.size("spatial_merge_size", 2) ** 2
    tower.use("image_size")
    layers = _encoder(
        tower.layers("num_hidden_layers"), width, tower.size("intermediate_size"), gated=True, bias=False, norm=1
    )
    bias = whole.flag("multimodal_projector_bias", default=False)
    projector = width + _linear(merge * width, width, bias=False)
    projector += _linear(width, hidden, bias=bias) + _linear(hidden, hidden, bias=bias)
    return _patches(tower, width, bias=False) + width + layers + projector


def _merger(width: int, merge: int, hidden: int, *, norm: int) -> int:
    """Qwen's projector: a norm, and two matrices over `merge` patches at once."""
    return norm + _linear(merge * width, merge * width) + _linear(merge * width, hidden)


def _qwen2(tower: Fields, _: Fields, hidden: int) -> int:
    """Qwen2-VL: LayerNorms, an MLP. `hidden_size` is the decoder's."""
    width, merge = tower.size("embed_dim"), tower.size("spatial_merge_size", 2) ** 2
    layers = _encoder(tower.layers("depth"), width, tower.size("mlp_ratio", 4) * width)
    patches = _patches(tower, width, bias=False, frames=tower.size("temporal_patch_size", 2))
    return patches + layers + _merger(width, merge, tower.size("hidden_size", hidden), norm=2 * width)


def _qwen25(tower: Fields, _: Fields, hidden: int) -> int:
    """Qwen2.5-VL: RMSNorms, a gated MLP."""
    width, merge = tower.size("hidden_size"), tower.size("spatial_merge_size", 2) ** 2
    layers = _encoder(tower.layers("depth"), width, tower.size("intermediate_size"), gated=True, norm=1)
    patches = _patches(tower, width, bias=False, frames=tower.size("temporal_patch_size", 2))
    return patches + layers + _merger(width, merge, tower.size("out_hidden_size", hidden), norm=width)


def _qwen3(tower: Fields, _: Fields, hidden: int) -> int:
    """Qwen3-VL: learned positions, LayerNorms; a further projector for each layer of `deepstack_visual_indexes`."""
    width, merge = tower.size("hidden_size"), tower.size("spatial_merge_size", 2) ** 2
    outputs = tower.size("out_hidden_size", hidden)
    layers = _encoder(tower.layers("depth"), width, tower.size("intermediate_size"))
    patches = _patches(tower, width, bias=True, frames=tower.size("temporal_patch_size", 2))
    positions = tower.size("num_position_embeddings", 2304) * width
    deep = len(tower.items("deepstack_visual_indexes")) * _merger(width, merge, outputs, norm=2 * merge * width)
    return patches + positions + layers + _merger(width, merge, outputs, norm=2 * width) + deep


def _kimi(tower: Fields, whole: Fields, hidden: int) -> int:
    """MoonViT (Kimi-VL 2025): learned positions on a grid, LayerNorms; a norm and two matrices over merged patches."""
    width = tower.size("hidden_size", tower.size_or_none("vt_hidden_size"))
    mlp = tower.size("intermediate_size", tower.size_or_none("vt_intermediate_size"))
    depth = tower.size("num_hidden_layers", tower.size_or_none("vt_num_hidden_layers"))
    tower.use("vt_num_attention_heads", "init_pos_emb_time", "pos_emb_time", "mm_hidden_size", "mm_projector_type")
    tower.use("projector_hidden_act", "projector_ln_eps", "projection_layer_norm_eps")
    rows = tower.size("pos_emb_height", tower.size("init_pos_emb_height", 64))
    columns = tower.size("pos_emb_width", tower.size("init_pos_emb_width", 64))
    sides = [side for side in tower.items("merge_kernel_size") if isinstance(side, int)] or [2, 2]
    merged = width * sides[0] * sides[-1]
    normed = whole.size("projection_hidden_size", width)
    projector = 2 * normed + _linear(merged, merged) + _linear(merged, hidden)
    whole.use("projection_layer_norm_eps", "use_unified_vision_chunk", "vision_chunk")
    layers = _encoder(depth, width, mlp)
    return _patches(tower, width, bias=True) + rows * columns * width + layers + 2 * width + projector


def _llama4(tower: Fields, _: Fields, hidden: int) -> int:
    """Llama 4's tower: a class vector, learned positions, LayerNorms; four patches shuffled into one, then matrices."""
    width, mlp = tower.size("hidden_size"), tower.size("intermediate_size")
    positions = (tower.size("image_size") // tower.size("patch_size")) ** 2 + 1
    layers = _encoder(tower.layers("num_hidden_layers"), width, mlp)
    inner, outer = tower.size("projector_input_dim"), tower.size("projector_output_dim")
    adapter = _linear(mlp, inner, bias=False) + _linear(outer, outer, bias=False)
    tower.use("multi_modal_projector_bias")  # which the code does not read
    projector = _linear(tower.size("vision_output_dim"), hidden, bias=False)
    return _patches(tower, width, bias=False) + width + positions * width + layers + 4 * width + adapter + projector


def _gemma4(tower: Fields, _: Fields, hidden: int) -> int:
    """Gemma 4's tower: grouped heads with norms on Q and K, a gated MLP, four RMSNorms a layer, tables of positions for
    rows and columns; then one matrix."""
    width, mlp, head_dim = tower.size("hidden_size"), tower.size("intermediate_size"), tower.size("head_dim")
    heads, kv_heads = tower.size("num_attention_heads"), tower.size("num_key_value_heads")
    attention = 2 * (heads + kv_heads) * head_dim * width
    layer = attention + 2 * head_dim + 3 * width * mlp + 4 * width
    positions = 2 * tower.size("position_embedding_size", 10240) * width
    tower.use("global_head_dim", "pooling_kernel_size", "standardize", "use_clipped_linears", "default_output_length")
    tower.use("max_position_embeddings", "attention_bias")  # the matrices have none
    patches = _patches(tower, width, bias=False)
    return patches + positions + tower.layers("num_hidden_layers") * layer + width * hidden


VISION: Mapping[str, Counter] = MappingProxyType(
    {
        "gemma3": _gemma3,
        "gemma4": _gemma4,
        "kimi_k25": _kimi,
        "llama4": _llama4,
        "mistral3": _mistral3,
        "qwen2_vl": _qwen2,
        "qwen2_5_vl": _qwen25,
        "qwen3_vl": _qwen3,
        "qwen3_vl_moe": _qwen3,
        "qwen3_5": _qwen3,
        "qwen3_5_moe": _qwen3,
    }
)
