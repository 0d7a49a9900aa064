"""What engines multiply as one, and a GPU's part of it."""

from predict.model.attention import Attention
from predict.model.linear import Component, Linear, Split
from predict.model.mlp import Mlp
from predict.model.products import heads_on_gpu, products


def test_matrices_with_the_same_input_are_one_product():
    linears = [*Attention(8, 2, 64).linears(512), *Mlp(2048, gated=True).linears(512)]
    found = {product.name: (product.outputs, product.inputs) for product in products(linears)}
    assert found == {"qkv": (512 + 2 * 128, 512), "out": (512, 512), "gate_up": (4096, 512), "down": (512, 2048)}


def test_gpus_divide_outputs_of_the_first_and_inputs_of_the_last():
    linears = [*Attention(8, 2, 64).linears(512), *Mlp(2048, gated=True).linears(512)]
    found = {product.name: (product.outputs, product.inputs) for product in products(linears, 4)}
    # Two KV heads on four GPUs: each has one, so that there are copies.
    assert found == {"qkv": (128 + 2 * 64, 512), "out": (512, 128), "gate_up": (1024, 512), "down": (512, 512)}
    assert heads_on_gpu(Attention(8, 2, 64), 4) == (2, 1)


def test_a_matrix_that_says_nothing_is_a_product_by_itself():
    same = [Linear("altup.in", Component.RESIDUAL, 8, 8, split=Split.NONE)] * 3
    assert [(each.name, each.outputs) for each in products(same, 2)] == [("altup_in", 8)] * 3


def test_formats_divide_a_product():
    q, k, v, _ = Attention(8, 2, 64).linears(512)
    (product,) = products([q.stored_in(4.0), k, v])
    assert product.weight_bits == (4 * 512 + 16 * 256) / 768
    assert [(part.name, part.outputs, part.weight_bits) for part in product.by_bits] == [
        ("q", 512, 4),
        ("k_v", 256, 16),
    ]
