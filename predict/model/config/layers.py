"""Models whose layers are described one by one: hybrids, shared caches, layers of several shapes."""

from collections.abc import Collection, Iterable

from predict.errors import BadModel
from predict.model.config.fields import Fields
from predict.model.linear import Linear
from predict.model.transformer import Block, Model, merged

FULL, SLIDING, LINEAR = "full_attention", "sliding_attention", "linear_attention"


def decoder(
    fields: Fields,
    layers: Iterable[Block],
    *,
    tied: bool = False,
    position_params: int = 0,
    extra: tuple[Linear, ...] = (),
    extra_params: int = 0,
) -> Model:
    """A model of these layers by the usual names, with one RMSNorm at the end and `extra_params` besides."""
    hidden = fields.size("hidden_size")
    return Model(
        fields.name,
        fields.architecture,
        hidden,
        fields.size("vocab_size"),
        merged(layers),
        tied=fields.flag("tie_word_embeddings", default=tied),
        final_norm_params=hidden + extra_params,
        context_limit=fields.size_or_none("max_position_embeddings"),
        position_params=position_params,
        extra=extra,
    )


def layer_types(fields: Fields, known: Collection[str]) -> list[str] | None:
    """The entries of `layer_types`, one for each layer; None if it is absent. Raises BadModel for another number of
    entries and for a kind that is not known."""
    if not (types := fields.items("layer_types")):
        return None
    layers = fields.layers("num_hidden_layers")
    spelled = fields.spelled("layer_types")
    if len(types) != layers:
        raise BadModel(f"{fields.origin}: {spelled} has {len(types)} entries for num_hidden_layers={layers}")
    if unknown := [kind for kind in types if kind not in known]:
        raise BadModel(f"{fields.origin}: {spelled}: unknown {unknown[0]!r}; known: {', '.join(known)}")
    return [str(kind) for kind in types]
