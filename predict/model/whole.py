"""A layer of a model, and the whole model, as one workload each; or why no op is that.

The ops (`block_forward`, `model_forward` and their like) have norms, positions and an activation function of their own:
Llama's with a gated MLP, GPT-2's without a gate. Those of a model, its norms on Q and K, and its biases take about as
long, or too little to matter. What would change the matrices, or the tokens that a query sees, is a reason for none.
"""

from predict.errors import BadWorkload
from predict.model.attention import Attention
from predict.model.mlp import Mlp
from predict.model.products import heads_on_gpu
from predict.model.replica import Replica
from predict.model.transformer import Block, Model
from predict.units import DType
from predict.workloads import Workload, make_workload

WIDE_BITS = 16  # of weights and caches that the ops take in the format of activations


def decode_layer(replica: Replica, batch: int, context: int, dtype: DType | None = None) -> Workload | str:
    """What one GPU does in a layer for a token of each of `batch` requests after `context` cached ones: block_decode,
    or in one line why no op is that. `dtype` is that of activations and weights; None: as the replica's formats say.
    With dp copies of the model it is the copy with most requests."""
    return _narrow_cache(replica) or _layer(replica, "block_decode", _requests(replica, batch), context + 1, dtype)


def prefill_layer(replica: Replica, batch: int, seq: int, dtype: DType | None = None) -> Workload | str:
    """What one GPU does in a layer for `batch` prompts of `seq` tokens: block_forward, or why no op is that."""
    return _layer(replica, "block_forward", _requests(replica, batch), seq, dtype)


def decode_model(replica: Replica, batch: int, context: int, dtype: DType | None = None) -> Workload | str:
    """A whole decode step after `context` cached tokens, without the embedding: model_decode, or why no op is that."""
    layer = decode_layer(replica, batch, context, dtype)
    return layer if isinstance(layer, str) else _model(replica, "model_decode", layer)


def prefill_model(replica: Replica, batch: int, seq: int, dtype: DType | None = None) -> Workload | str:
    """A whole pass over `batch` prompts of `seq` tokens that ends with the logits of their last positions, without the
    embedding: model_forward, or why no op is that."""
    layer = prefill_layer(replica, batch, seq, dtype)
    return layer if isinstance(layer, str) else _model(replica, "model_forward", layer)


def _requests(replica: Replica, batch: int) -> int:
    return -(-batch // replica.layout.dp)


def _narrow_cache(replica: Replica) -> str:
    bits = replica.formats.kv_bits
    return f"the op of a layer has no cache of {bits:g} bits" if bits < WIDE_BITS else ""


def _layer(replica: Replica, op: str, batch: int, tokens: int, dtype: DType | None) -> Workload | str:
    """The workload that all layers of the model are, if there is one."""
    model, tp = replica.model, replica.layout.tp
    for block in model.blocks:
        if reason := _why_not(block, replica, tokens):
            others = "" if len(model.blocks) == 1 else f"{block.layers} of {model.layers} layers: "
            return f"{others}{reason}"
    shapes = [_dims(block, tp) for block in model.blocks]
    if any(shape != shapes[0] for shape in shapes):
        return f"its {model.layers} layers are not alike: {model.text.split('; ', 1)[1]}"
    length = "seq" if op == "block_forward" else "context"
    try:
        return make_workload(op, {"batch": batch, length: tokens, **shapes[0]}, dtype or replica.formats.activation)
    except BadWorkload as error:
        return str(error)


def _model(replica: Replica, op: str, layer: Workload) -> Workload | str:
    """The workload of all layers like `layer` and of the vocabulary, if one GPU has them all."""
    model = replica.model
    if replica.layout.gpus > 1:
        return f"no single GPU has the whole model: {replica.layout.text}"
    if reason := _why_no_end(model, replica):
        return reason
    return make_workload(op, {**layer.dims, "layers": model.layers, "vocab": model.vocab}, layer.dtype)


def _why_not(block: Block, replica: Replica, tokens: int) -> str:
    """Why no op is a layer of `block` where a query sees up to `tokens` tokens; empty if one is."""
    mixer, mlp = block.mixer, block.mlp
    if not isinstance(mixer, Attention):
        return f"no op is a layer with {mixer.text.split(',')[0]}" if mixer else "no op is a layer without attention"
    if not isinstance(mlp, Mlp):
        return f"no op is a layer with {mlp.text}" if mlp else "no op is a layer without an MLP"
    reasons = {
        "attention and MLP of a layer read the same input, those of the op one after the other": (
            block.elementwise.parallel
        ),
        "the query matrix makes a gate too": mixer.gated,
        "it reads the cache of an earlier layer": mixer.shares_cache,
        "its keys are its values too": not mixer.values,
        f"a query sees not all earlier tokens ({mixer.reach.text}), one of the op does": _is_limited(mixer, tokens),
        "it has matrices outside attention and MLP": bool(block.extra),
    }
    narrow = min((_bits(replica, linear.weight_bits) for linear in block.linears), default=WIDE_BITS)
    reasons[f"weights of {narrow:.3g} bits, the op has those of activations"] = narrow < WIDE_BITS
    return next((reason for reason, holds in reasons.items() if holds), "")


def _why_no_end(model: Model, replica: Replica) -> str:
    """Why no op ends as the model does; empty if one does."""
    if model.head is not None or model.extra or (model.embedding_dim or model.hidden) != model.hidden:
        return "it has matrices outside its layers besides the vocabulary's"
    narrow = min(_bits(replica, linear.weight_bits) for linear in model.output_linears())
    return f"a vocabulary of {narrow:.3g} bits, the op has one of activations" if narrow < WIDE_BITS else ""


def _bits(replica: Replica, stored: float) -> float:
    return stored if replica.formats.weight_bits is None else replica.formats.weight_bits


def _is_limited(attention: Attention, tokens: int) -> bool:
    """Whether some query sees fewer tokens than there are."""
    return attention.reach.pairs(tokens, 0) != tokens * (tokens + 1) // 2


def _dims(block: Block, tp: int) -> dict[str, int]:
    """The shape of one GPU's part of a layer. The residual stream is whole on each GPU."""
    attention, mlp = block.mixer, block.mlp
    assert isinstance(attention, Attention)
    assert isinstance(mlp, Mlp)
    heads, kv_heads = heads_on_gpu(attention, tp)
    return {
        "heads": round(heads),
        "kv_heads": round(kv_heads),
        "head_dim": attention.head_dim,
        "inner": -(-mlp.intermediate // tp),
        "hidden": block.hidden,
        "matrices": 3 if mlp.gated else 2,
    }
