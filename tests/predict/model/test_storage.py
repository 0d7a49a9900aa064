"""How a checkpoint is stored: its bytes, held and read, each worked out by hand."""

from dataclasses import replace

from predict.gpus import resolve
from predict.model.attention import Attention
from predict.model.linear import Component, Linear
from predict.model.mlp import Experts, Mlp
from predict.model.passes import decode_step
from predict.model.replica import Replica
from predict.model.storage import MatrixBits, Storage
from predict.model.transformer import Block, Model
from predict.units import DTYPES, Formats

# Two layers of 8: Q, K, V and out of 8 x 8 with biases on Q, K, V, a gated MLP of 16, vocabulary 32, norms of 8.
PLAIN = Model(
    "tiny", "llama", 8, 32, (Block(2, 8, Attention(2, 2, 4, qkv_bias=True), Mlp(16, gated=True), 16),), False, 8, 64
)
ATTENTION, BIASES, MLP, HEAD, NORMS = 2 * 4 * 64, 2 * 3 * 8, 2 * 3 * 128, 256, 2 * 16 + 8


def test_a_checkpoint_takes_two_bytes_for_each_weight_unless_it_says_otherwise():
    assert PLAIN.params == ATTENTION + BIASES + MLP + 2 * HEAD + NORMS
    assert PLAIN.stored_bytes() == 2 * PLAIN.params
    assert PLAIN.stored_bytes(4) == PLAIN.params / 2


def test_each_matrix_takes_its_own_bits_and_biases_norms_and_the_rest_take_sixteen():
    narrow = replace(PLAIN.blocks[0], bits=MatrixBits((("attention.q", 8), ("mlp.down", 4)), rest=16))
    model = replace(PLAIN, blocks=(narrow,), storage=Storage(outer=MatrixBits((("vocab", 8),))))
    # Q is a quarter of attention, down a third of the MLP; the head takes 8 bits, the input embedding 16.
    wide = 2 * (ATTENTION * 3 // 4 + BIASES + MLP * 2 // 3 + HEAD + NORMS)
    assert model.stored_bytes() == wide + ATTENTION // 4 + MLP // 3 // 2 + HEAD
    assert replace(model, tied=True).stored_bytes() == model.stored_bytes() - 2 * HEAD


def test_a_decode_step_reads_the_stored_bytes_of_all_but_the_input_embedding():
    model = replace(PLAIN, blocks=(replace(PLAIN.blocks[0], bits=MatrixBits(rest=4.5)),))
    read = decode_step(model, 1, 4).weight_bytes
    assert read == (ATTENTION + MLP) * 4.5 / 8 + 2 * (BIASES + HEAD + NORMS)
    assert read == model.stored_bytes() - model.embedding_bytes() == model.stored_bytes() - 2 * HEAD
    assert decode_step(model, 1, 4, formats=Formats(8)).weight_bytes == PLAIN.params - HEAD


def test_a_step_reads_its_share_of_narrow_experts():
    experts = Linear("mlp.expert_up", Component.MLP, 8, 16, bias=True, copies=4, active=1, weight_bits=4.25)
    assert experts.stored_bytes() == 4 * (128 * 4.25 / 8 + 16 * 2)
    block = Block(1, 8, Attention(2, 2, 4), Experts(4, 1, 16), 16, bits=MatrixBits((("mlp.expert_up", 4.25),)))
    model = replace(PLAIN, blocks=(block,))
    up = next(part for part in decode_step(model, 1, 4).parts if part.name == "mlp.expert_up")
    assert up.weight_bytes == 128 * 4.25 / 8  # one token goes to one expert of the four


def test_a_replica_holds_what_the_checkpoint_stores_or_every_weight_in_the_bits_asked_for():
    model = replace(PLAIN, blocks=(replace(PLAIN.blocks[0], bits=MatrixBits(rest=8)),))
    held = (ATTENTION + MLP) + 2 * (BIASES + 2 * HEAD + NORMS)
    assert Replica(model, resolve("h100")).weight_bytes == held
    assert Replica(model, resolve("h100")).mean_weight_bits == 8 * held / PLAIN.params
    assert Replica(model, resolve("h100"), formats=Formats(8, 16, DTYPES["bf16"])).weight_bytes == PLAIN.params
