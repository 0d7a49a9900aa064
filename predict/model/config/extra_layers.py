"""Layers that guess several tokens ahead (multi-token prediction): `transformers` leaves them out, and so do we."""

from collections.abc import Iterator

from predict.model.config.fields import Fields
from predict.model.transformer import Model
from predict.units import count


def left_out_layers(model: Model, fields: Fields) -> Iterator[str]:
    """A note that says how large the layers are, where a configuration has any.

    Each is one more layer, like the last; a matrix that joins the hidden state with the next token's embedding; and
    three norms (DeepSeek-V3 2024, section 2.2). Embedding and head are the model's own.
    """
    number = fields.count("num_nextn_predict_layers", 0) * fields.size("mtp_transformer_layers", 1)
    fields.use("mtp_use_dedicated_embeddings", "use_mtp", "mtp_layers_block_type")
    fields.use("mtp_hybrid_override_pattern")
    if number and not all(block.mixer and block.mlp for block in model.blocks):
        yield f"{number} x layers that guess further tokens (MTP) are not counted; their size is not known"
    elif number:
        last = max(model.blocks, key=lambda block: block.numbers[-1:])
        params = number * (last.params // last.layers + 2 * model.hidden**2 + 3 * model.hidden)
        what = f"{number} layer{'s' if number > 1 else ''} that guess{'' if number > 1 else 'es'} further tokens (MTP)"
        yield f"{what}, about {count(params)} parameters, {'are' if number > 1 else 'is'} not counted"
