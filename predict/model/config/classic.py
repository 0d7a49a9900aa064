"""GPT-2 and OPT: learned positions, LayerNorms and biases."""

from predict.model.config.fields import Fields
from predict.model.config.parts import multi_head
from predict.model.elementwise import LAYER, Elementwise
from predict.model.mlp import Mlp
from predict.model.transformer import Block, Model


def gpt2(fields: Fields) -> Model:
    """Radford et al. 2019."""
    hidden = fields.size("n_embd")
    positions = fields.size("n_positions")
    block = Block(
        layers=fields.layers("n_layer"),
        hidden=hidden,
        mixer=multi_head(fields, "n_embd", "n_head", bias=True),
        mlp=Mlp(fields.size("n_inner", 4 * hidden), gated=False, bias=True),
        norm_params=4 * hidden,  # two LayerNorms, weight and bias
        elementwise=Elementwise(LAYER, softmax_bits=16),
    )
    return Model(
        fields.name,
        fields.architecture,
        hidden,
        fields.size("vocab_size"),
        (block,),
        tied=fields.flag("tie_word_embeddings", default=True),
        final_norm_params=2 * hidden,
        context_limit=positions,
        position_params=positions * hidden,
    )


def opt(fields: Fields) -> Model:
    """Zhang et al. 2022. The embedding of OPT-350m is narrower than the layers."""
    hidden = fields.size("hidden_size")
    positions = fields.size("max_position_embeddings")
    bias = fields.flag("enable_bias", default=True)
    norm = 2 * hidden if fields.flag("layer_norm_elementwise_affine", default=True) else 0
    removed = fields.flag("_remove_final_layer_norm", default=False)
    final_norm = fields.flag("do_layer_norm_before", default=True) and not removed
    block = Block(
        layers=fields.layers("num_hidden_layers"),
        hidden=hidden,
        mixer=multi_head(fields, "hidden_size", "num_attention_heads", bias=bias),
        mlp=Mlp(fields.size("ffn_dim"), gated=False, bias=bias),
        norm_params=2 * norm,
        elementwise=Elementwise(LAYER, softmax_bits=16, relu=True),
    )
    return Model(
        fields.name,
        fields.architecture,
        hidden,
        fields.size("vocab_size"),
        (block,),
        tied=fields.flag("tie_word_embeddings", default=True),
        final_norm_params=norm if final_norm else 0,
        context_limit=positions,
        position_params=(positions + 2) * hidden,  # OPT's table starts at position 2
        embedding_dim=fields.size("word_embed_proj_dim", hidden),
    )
