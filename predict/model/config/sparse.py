"""Latent attention over the tokens that an indexer chooses: DeepSeek-V3.2, GLM-5."""

from dataclasses import replace

from predict.errors import BadModel
from predict.model.attention import Indexer
from predict.model.config.fields import Fields
from predict.model.config.latent import latent_attention
from predict.model.config.layers import decoder
from predict.model.config.parts import dense_then_experts
from predict.model.reach import TopK
from predict.model.transformer import Block, Model

FULL, SHARED = "full", "shared"  # a layer with an indexer of its own; one that uses an earlier layer's choice


def deepseek_sparse(fields: Fields) -> Model:
    """DeepSeek-V3.2, where every layer has an indexer, and GLM-5, where layers may share one."""
    hidden = fields.size("hidden_size")
    indexer = Indexer(fields.size("index_n_heads"), fields.size("index_head_dim"))
    sparse = replace(latent_attention(fields), reach=TopK(fields.size("index_topk")))
    if sparse.query_rank is None:
        raise BadModel(f"{fields.origin}: q_lora_rank is missing: the indexer's queries come from Q's latent")
    fields.use("layer_types")  # every layer is sparse
    mixers = {FULL: replace(sparse, indexer=indexer), SHARED: sparse}
    parts = zip(_indexer_types(fields), dense_then_experts(fields), strict=False)
    return decoder(fields, [Block(1, hidden, mixers[kind], mlp, 2 * hidden) for kind, mlp in parts])


def _indexer_types(fields: Fields) -> list[str]:
    """Which layers have an indexer: a list, a text of F and S, or every `index_topk_freq`-th after an offset."""
    layers = fields.layers("num_hidden_layers")
    frequency, offset = fields.size("index_topk_freq", 1), fields.count("index_skip_topk_offset", 2)
    types = fields.items("indexer_types") if fields.get("indexer_types") is not None else None
    pattern = fields.get("index_topk_pattern")
    if types is None and pattern is not None:
        letters = {"F": FULL, "S": SHARED}
        listed = pattern if isinstance(pattern, str | list) else [pattern]
        types = [letters.get(each, each) if isinstance(each, str) else each for each in listed]
    if types is None:
        types = [FULL if max(i - offset + 1, 0) % frequency == 0 else SHARED for i in range(layers)]
    if len(types) != layers or any(kind not in (FULL, SHARED) for kind in types) or types[0] == SHARED:
        message = f"indexer_types must be {layers} of {FULL} or {SHARED}, the first {FULL}"
        raise BadModel(f"{fields.origin}: {message}")
    return [str(kind) for kind in types]
