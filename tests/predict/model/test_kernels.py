"""The kernels of a pass, against what engines launch for models that everybody knows."""

import pytest

from predict.gpus import resolve
from predict.model.config.reader import from_config
from predict.model.kernels import decode_kernels, pass_kernels, prefill_kernels
from predict.model.kinds import KernelKind
from predict.model.layout import Layout
from predict.model.linear import Component
from predict.model.passes import Logits, forward, touched_experts
from predict.model.presets import PRESETS, find_model
from predict.model.replica import Replica
from predict.units import DTYPES, Formats
from tests.predict.model.config.test_compressed import DEEPSEEK_V4_FLASH
from tests.predict.model.config.test_gemma import GEMMA_3N_E4B, GEMMA_4_26B
from tests.predict.model.config.test_mamba import MAMBA2_2_7B, NEMOTRON_3_NANO
from tests.predict.model.config.test_mamba_hybrids import FALCON_H1, JAMBA
from tests.predict.model.config.test_other_hybrids import KIMI, LFM2, MINIMAX

H100 = resolve("h100")
BF16, FP8, FP32 = DTYPES["bf16"], DTYPES["fp8"], DTYPES["fp32"]


def replica(model, **asked):
    return Replica(find_model(model) if isinstance(model, str) else model, H100, **asked)


def told(kernels):
    """Name -> (count, op, sizes in the op's order); a list where one name has several shapes."""
    found = {}
    for kernel in kernels:
        found.setdefault(kernel.name, []).append((kernel.count, kernel.op, tuple(kernel.dims.values())))
    return {name: rows[0] if len(rows) == 1 else rows for name, rows in found.items()}


def test_a_decode_step_of_llama_3_8b_is_ten_kinds_of_kernel():
    # 32 layers of 4096, 32 heads and 8 KV heads of 128, MLP of 14336, vocabulary of 128256; 16 requests.
    assert told(decode_kernels(replica("llama-3-8b"), 16, 4095)) == {
        "qkv": (32, "matmul", (16, 4096 + 2 * 1024, 4096)),
        "out": (32, "matmul", (16, 4096, 4096)),
        "attention": (32, "attention_decode", (16, 4096, 32, 8, 128)),
        "gate_up": (32, "matmul", (16, 2 * 14336, 4096)),
        "down": (32, "matmul", (16, 4096, 14336)),
        "vocab": (1, "matmul", (16, 128256, 4096)),
        "add_norm": (64, "add_rmsnorm", (16, 4096)),  # 65 norms, of which the first has nothing to add
        "norm": (1, "rmsnorm", (16, 4096)),
        "rope": (32, "rope", (16, 32 + 8, 128)),
        "activation": (32, "swiglu", (16, 14336)),
    }


def test_a_prompt_goes_through_all_layers_and_its_last_token_to_the_vocabulary():
    found = told(prefill_kernels(replica("llama-3-8b"), 2, 512))
    assert found["gate_up"] == (32, "matmul", (1024, 28672, 4096))
    assert found["attention"] == (32, "attention_prefill", (2, 512, 32, 8, 128))
    assert found["vocab"] == (1, "matmul", (2, 128256, 4096))
    every = told(prefill_kernels(replica("llama-3-8b"), 2, 512, Logits.ALL))
    assert every["vocab"] == (1, "matmul", (1024, 128256, 4096))


def test_two_gpus_halve_heads_and_widths_and_sum_twice_a_layer():
    kernels = decode_kernels(replica("llama-3-8b", layout=Layout(2)), 16, 4095)
    found = told(kernels)
    assert found["qkv"] == (32, "matmul", (16, 3072, 4096))
    assert found["out"] == (32, "matmul", (16, 4096, 2048))
    assert found["attention"] == (32, "attention_decode", (16, 4096, 16, 4, 128))
    assert found["down"] == (32, "matmul", (16, 4096, 7168))
    assert found["vocab"] == (1, "matmul", (16, 64128, 4096))
    assert found["rope"] == (32, "rope", (16, 20, 128))
    assert found["activation"] == (32, "swiglu", (16, 7168))
    assert found["add_norm"] == (64, "add_rmsnorm", (16, 4096))
    assert found["all_reduce"] == (64, None, (2, 16 * 4096 * 2))
    assert kernels[-1].kind is KernelKind.LINK
    assert "one GPU is measured" in kernels[-1].reason


def test_sixteen_gpus_hold_copies_of_eight_kv_heads():
    found = told(decode_kernels(replica("llama-3-8b", layout=Layout(16)), 1, 99))
    assert found["qkv"] == (32, "matmul", (1, 2 * 128 + 2 * 128, 4096))
    assert found["attention"] == (32, "attention_decode", (1, 100, 2, 1, 128))


def test_copies_of_the_model_share_the_requests():
    found = told(decode_kernels(replica("llama-3-8b", layout=Layout(dp=4)), 10, 99))
    assert found["down"] == (32, "matmul", (3, 4096, 14336))


def test_stages_work_on_parts_of_the_batch_and_are_counted_together():
    found = told(decode_kernels(replica("llama-3-8b", layout=Layout(pp=4)), 16, 99))
    assert found["down"] == (32, "matmul", (4, 4096, 14336))


def test_gpt_2_has_layer_norms_a_plain_mlp_and_no_rotary_positions():
    found = told(decode_kernels(replica("gpt-2-small"), 1, 127))
    assert found["qkv"] == (12, "matmul", (1, 3 * 768, 768))
    assert found["out"] == (12, "matmul", (1, 768, 768))  # as wide as its input, and yet not one with Q, K and V
    assert found["up"] == (12, "matmul", (1, 3072, 768))
    assert "rope" not in found
    assert (found["add_norm"], found["norm"]) == ((24, "add_layernorm", (1, 768)), (1, "layernorm", (1, 768)))
    assert found["activation"] == (12, "gelu", (1, 3072))


def test_gemma_3_attends_within_windows_in_five_of_six_layers():
    # 26 layers, every sixth sees everything; windows of 512; 4 heads and one KV head of 256; norms of Q and K.
    found = told(prefill_kernels(replica("gemma-3-1b"), 1, 2048))
    assert found["attention"] == [
        (22, "attention_window", (1, 2048, 512, 4, 1, 256)),
        (4, "attention_prefill", (1, 2048, 4, 1, 256)),
    ]
    assert (found["q_norm"], found["k_norm"]) == ((26, "rmsnorm", (8192, 256)), (26, "rmsnorm", (2048, 256)))
    # Four norms a layer: two add to the residual stream, two do not.
    assert (found["add_norm"][0], found["norm"][0]) == (52, 52 + 1)
    short = told(prefill_kernels(replica("gemma-3-1b"), 1, 512))
    assert short["attention"] == (26, "attention_prefill", (1, 512, 4, 1, 256))
    step = told(decode_kernels(replica("gemma-3-1b"), 2, 2047))
    assert step["attention"] == [
        (22, "attention_decode", (2, 512, 4, 1, 256)),
        (4, "attention_decode", (2, 2048, 4, 1, 256)),
    ]


def test_experts_are_grouped_products_of_the_rows_that_come_to_them():
    # Qwen3-30B-A3B: 48 layers of 2048, 128 experts of 768, 8 active, 32 heads and 4 KV heads of 128.
    kernels = {kernel.name: kernel for kernel in decode_kernels(replica("qwen3-30b-a3b"), 16, 1023)}
    assert tuple(kernels["router"].dims.values()) == (16, 128, 2048)
    assert kernels["router"].kind is KernelKind.ROUTER
    first, last = kernels["experts_gate_up"], kernels["experts_down"]
    assert first.kind is KernelKind.EXPERTS
    assert first.op == last.op == "moe_experts"
    # Tokens come to 128 * (1 - (1 - 8/128)^16) = 128 * (1 - 0.3561) = 82.4 experts.
    assert dict(first.dims) == {"tokens": 16, "experts": 82, "active": 8, "n": 1536, "k": 2048}
    assert dict(last.dims) == {"tokens": 16, "experts": 82, "active": 8, "n": 2048, "k": 768}
    assert first.amounts.flop == 2 * 16 * 8 * 1536 * 2048
    assert dict(kernels["experts_activation"].dims) == {"rows": 16 * 8, "cols": 768}
    assert dict(kernels["q_norm"].dims) == {"rows": 16 * 32, "cols": 128}


def test_each_of_eight_gpus_has_an_eighth_of_the_experts_and_the_tokens_of_all():
    layout = Layout(1, dp=8, ep=8)
    kernels = {kernel.name: kernel for kernel in decode_kernels(replica("qwen3-30b-a3b", layout=layout), 128, 1023)}
    # 128 tokens x 8 experts are 1024 rows, of which 128 come to each GPU, to one of its 16 experts each.
    assert dict(kernels["experts_down"].dims) == {"tokens": 128, "experts": 16, "active": 1, "n": 2048, "k": 768}
    assert kernels["router"].dims["m"] == 16
    assert kernels["all_to_all"].count == 2 * 48


LLAMA = PRESETS["llama-3-8b"].config
FP8_FILE = {"quant_method": "fp8", "activation_scheme": "dynamic", "modules_to_not_convert": ["lm_head"]}
AWQ_FILE = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True}


def test_a_checkpoint_in_fp8_multiplies_its_layers_in_fp8_and_its_head_in_bf16():
    shipped = from_config({**LLAMA, "quantization_config": FP8_FILE}, "m")
    kernels = {each.name: each for each in decode_kernels(replica(shipped, formats=Formats(compute=FP8)), 16, 99)}
    assert (kernels["qkv"].op, kernels["qkv"].dtype) == ("matmul_scaled", FP8)
    assert (kernels["vocab"].op, kernels["vocab"].dtype) == ("matmul", BF16)
    assert kernels["attention"].dtype == BF16
    # On a GPU without fp8 only the weights are narrow.
    assert told(decode_kernels(replica(shipped), 16, 99))["qkv"] == (32, "matmul_w8a16", (16, 6144, 4096))


def test_a_checkpoint_in_int4_multiplies_in_16_bits():
    shipped = from_config({**LLAMA, "quantization_config": AWQ_FILE}, "m")
    found = told(decode_kernels(replica(shipped), 16, 99))
    assert found["down"] == (32, "matmul_w4a16", (16, 4096, 14336))
    assert found["vocab"] == (1, "matmul", (16, 128256, 4096))


def test_a_shape_that_an_op_does_not_take_is_told_with_the_reason():
    # tp 32 leaves 14336 / 32 = 448 inputs of the last matrix, which are not whole groups of 128 weights.
    shipped = from_config({**LLAMA, "quantization_config": AWQ_FILE}, "m")
    kernels = {kernel.name: kernel for kernel in decode_kernels(replica(shipped, layout=Layout(32)), 1, 99)}
    assert kernels["down"].op is None
    assert "k=448 is not a multiple of 128" in kernels["down"].reason
    assert kernels["down"].amounts.flop == 2 * 4096 * 448


def test_a_cache_in_fp8_is_read_in_fp8():
    found = told(decode_kernels(replica("llama-3-8b", formats=Formats(kv_bits=8)), 16, 4095))
    assert found["attention"] == (32, "attention_decode_fp8", (16, 4096, 32, 8, 128))


def test_a_cache_that_no_op_reads_is_told():
    four, eight = (replica("llama-3-8b", formats=Formats(kv_bits=bits)) for bits in (4, 8))
    step = {kernel.name: kernel for kernel in decode_kernels(four, 1, 99)}["attention"]
    assert (step.op, step.reason) == (None, "no op lets a query attend to a cache of 4 bits")
    guesses = {kernel.name: kernel for kernel in pass_kernels(eight, 1, 5, cached=99)}["attention"]
    assert guesses.reason == "no op lets several queries attend to a cache of 8 bits"


def test_whole_chunks_are_sequences_of_their_own():
    # Llama 4 Scout attends within chunks of 8192 in three of four layers: 40 heads, 8 KV heads of 128.
    found = told(prefill_kernels(replica("llama-4-scout"), 2, 16384))
    assert found["attention"] == [
        (36, "attention_packed", (2 * 2, 2 * 16384, 40, 8, 128)),
        (12, "attention_prefill", (2, 16384, 40, 8, 128)),
    ]
    begun = prefill_kernels(replica("llama-4-scout"), 1, 10000)
    reasons = [kernel.reason for kernel in begun if kernel.name == "attention" and not kernel.op]
    assert reasons == ["no op attends within chunks of 8192 to 10,000 tokens, which are no whole chunks"]


def test_a_machine_without_16_bits_runs_the_list_in_fp32():
    kernels = decode_kernels(replica("llama-3-8b"), 1, 99, dtype=FP32)
    assert {kernel.dtype for kernel in kernels} == {FP32}
    qkv = next(kernel for kernel in kernels if kernel.name == "qkv")
    assert qkv.amounts.bytes == 4 * (4096 + 6144 + 4096 * 6144)


def test_deepseek_v3_absorbs_the_expansion_of_its_latents_in_decode():
    # 61 layers of 7168, 128 heads of 128 + 64, latents of 1536 and 512.
    kernels = {kernel.name: kernel for kernel in decode_kernels(replica("deepseek-v3"), 16, 4095)}
    assert tuple(kernels["qkv_down"].dims.values()) == (16, 1536 + 512 + 64, 7168)
    assert tuple(kernels["q_up"].dims.values()) == (16, 128 * 192, 1536)
    assert (kernels["attention"].op, *kernels["attention"].dims.values()) == ("attention_mla", 16, 4096, 128, 512, 64)
    assert dict(kernels["absorbed_k"].dims) == {"tokens": 16, "experts": 128, "active": 128, "n": 512, "k": 128}
    assert dict(kernels["absorbed_v"].dims) == {"tokens": 16, "experts": 128, "active": 128, "n": 128, "k": 512}
    assert kernels["absorbed_k"].op == kernels["absorbed_v"].op == "moe_experts"
    assert "kv_up" not in kernels
    assert kernels["gate_up"].count == 3  # dense layers, of 18432
    assert dict(kernels["shared_gate_up"].dims) == {"m": 16, "n": 2 * 2048, "k": 7168}
    assert dict(kernels["rope"].dims) == {"tokens": 16, "heads": 128 + 1, "head_dim": 64}


def test_deepseek_v3_expands_its_latents_in_a_prompt():
    kernels = {kernel.name: kernel for kernel in prefill_kernels(replica("deepseek-v3"), 1, 1024)}
    assert tuple(kernels["kv_up"].dims.values()) == (1024, 128 * (128 + 128), 512)
    assert kernels["attention"].reason == "no op attends with keys of 192 and values of 128"
    assert kernels["attention"].amounts.flop == 1024 * 1025 // 2 * 128 * 2 * (192 + 128)


def test_each_of_two_gpus_needs_the_whole_latent_and_half_of_the_heads():
    found = told(decode_kernels(replica("deepseek-v3", layout=Layout(2)), 1, 99))
    assert found["qkv_down"][2] == (1, 2112, 7168)
    assert found["q_up"][2] == (1, 64 * 192, 1536)
    assert found["attention"][2] == (1, 100, 64, 512, 64)


def test_a_recurrence_has_no_op_and_says_so():
    # Qwen3-Next: 36 of 48 layers are gated delta nets of 32 heads of 128 x 128.
    kernels = {kernel.name: kernel for kernel in decode_kernels(replica("qwen3-next-80b-a3b"), 1, 99)}
    assert tuple(kernels["linear_attention_qkvz"].dims.values()) == (1, 2 * 16 * 128 + 2 * 32 * 128, 2048)
    recurrence = kernels["recurrence"]
    assert (recurrence.count, recurrence.op, recurrence.kind) == (36, None, KernelKind.RECURRENCE)
    assert "gated delta net" in recurrence.reason
    assert recurrence.amounts.flop == 6 * 32 * 128 * 128  # three multiply-adds for each element of the state
    assert kernels["attention_gate"].count == 12


# Bamba in small: Mamba-2 of 16 heads of 16 with one group and a state of 32 in three layers, attention in the fourth.
BAMBA = {
    "model_type": "bamba",
    "hidden_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "intermediate_size": 512,
    "vocab_size": 1000,
    "max_position_embeddings": 4096,
    "attn_layer_indices": [3],
    "mamba_n_heads": 16,
    "mamba_d_head": 16,
    "mamba_n_groups": 1,
    "mamba_d_state": 32,
    "mamba_d_conv": 4,
}


def test_a_mamba_hybrid_has_two_matrices_and_three_kernels_that_no_op_computes():
    kernels = {kernel.name: kernel for kernel in decode_kernels(replica(from_config(BAMBA, "m")), 2, 99)}
    # In: gate and x of 256, B and C of 32 each, a step for each of 16 heads.
    assert tuple(kernels["mamba_in"].dims.values()) == (2, 256 + 256 + 2 * 32 + 16, 128)
    assert tuple(kernels["mamba_out"].dims.values()) == (2, 128, 256)
    assert {name: kernels[name].reason for name in ("conv", "recurrence", "gated_norm")} == {
        "conv": "no op computes a short convolution",
        "recurrence": "no op computes the recurrence of Mamba-2",
        "gated_norm": "no op computes a norm and a gate",
    }
    recurrence = kernels["recurrence"]
    assert recurrence.count == 3
    # Two multiply-adds for each element of the state; the state is read and written in 16 bits, and so are x and y.
    state = 16 * 16 * 32
    assert recurrence.amounts.flop == 2 * 4 * state
    assert recurrence.amounts.bytes == 2 * 2 * (2 * state + 2 * 256)
    assert (kernels["attention"].count, kernels["gate_up"].count) == (1, 4)


def test_positions_rotate_a_part_of_each_head_or_nothing():
    # Qwen3-Next rotates a quarter of heads of 256, in the 12 layers of 48 that attend: 16 heads and 2 KV heads.
    assert told(decode_kernels(replica("qwen3-next-80b-a3b"), 1, 99))["rope"] == (12, "rope", (1, 18, 64))
    assert told(decode_kernels(replica("smollm3-3b"), 1, 99))["rope"][0] == 27  # three of four layers of 36
    assert told(decode_kernels(replica("llama-4-scout"), 1, 99))["rope"][0] == 36  # of 48: those with chunks
    assert "rope" not in told(decode_kernels(replica("opt-13b"), 1, 99))


def test_norms_over_all_heads_are_as_wide_as_these():
    found = told(decode_kernels(replica("olmo-2-7b"), 8, 99))  # 32 layers, 32 heads of 128
    assert found["q_norm"] == found["k_norm"] == (32, "rmsnorm", (8, 4096))


def test_a_chunk_of_a_prompt_and_guesses_attend_to_the_cache():
    found = told(pass_kernels(replica("llama-3-8b"), 4, 5, cached=2043, logits=Logits.ALL))
    assert found["attention"] == (32, "attention_chunk", (4, 5, 2048, 32, 8, 128))
    assert found["vocab"] == (1, "matmul", (20, 128256, 4096))


# Of every kind of layer that no preset has.
OTHERS = {
    "deepseek-v4": DEEPSEEK_V4_FLASH,
    "falcon-h1": FALCON_H1,
    "gemma-3n": GEMMA_3N_E4B,
    "gemma-4": GEMMA_4_26B,
    "jamba": JAMBA,
    "kimi-linear": KIMI,
    "lfm2": LFM2,
    "mamba-2": MAMBA2_2_7B,
    "minimax": MINIMAX,
    "nemotron-3": NEMOTRON_3_NANO,
}


@pytest.mark.parametrize("name", [*PRESETS, *OTHERS])
@pytest.mark.parametrize(("batch", "new", "cached"), [(4, 1, 3000), (2, 3000, 0)], ids=["decode", "prefill"])
def test_the_kernels_take_the_flop_of_the_pass(name, batch, new, cached):
    model = from_config(OTHERS[name], name) if name in OTHERS else find_model(name)
    kernels = pass_kernels(replica(model), batch, new, cached=cached)
    counted = [kernel for kernel in kernels if kernel.kind is not KernelKind.ELEMENTWISE]
    flop = sum(kernel.count * kernel.amounts.flop for kernel in counted)
    assert flop == pytest.approx(forward(model, batch, new, cached=cached, logits=Logits.LAST).flop, rel=1e-12)


MATRICES = {
    *(KernelKind.PROJECTIONS, KernelKind.RESIDUAL, KernelKind.MLP),
    *(KernelKind.ROUTER, KernelKind.EXPERTS, KernelKind.VOCAB),
}


def weight_bytes(kernel, touched):
    """What a product reads besides its rows, with exactly as many experts as tokens come to."""
    dims = kernel.dims
    rows = dims["m"] if "m" in dims else dims["tokens"] * dims["active"]
    read = kernel.count * (kernel.amounts.bytes_read - rows * dims["k"] * kernel.dtype.bytes)
    if kernel.kind is not KernelKind.EXPERTS or kernel.op is None:
        return read
    assert abs(dims["experts"] - touched) <= 0.5
    return read * touched / dims["experts"]


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize(("batch", "new", "cached"), [(4, 1, 3000), (2, 3000, 0)], ids=["decode", "prefill"])
def test_the_kernels_read_the_weights_of_the_pass(name, batch, new, cached):
    """But for biases, which no op adds (0.13 % at most), and the expansion of a latent, which is absorbed in 16 bits
    instead of the checkpoint's 8 (1.1 %). The experts that tokens come to are a whole number in the list, a mean in the
    pass."""
    model = find_model(name)
    experts = model.experts
    touched = touched_experts(experts.copies, experts.active, batch * new) if experts else None
    kernels = [each for each in pass_kernels(replica(model), batch, new, cached=cached) if each.kind in MATRICES]
    parts = forward(model, batch, new, cached=cached, logits=Logits.LAST).parts
    counted = sum(part.weight_bytes for part in parts if part.component is not Component.NORMS)
    allowed = 0.011 if model.is_latent else 0.0014
    assert sum(weight_bytes(kernel, touched) for kernel in kernels) == pytest.approx(counted, rel=allowed)


@pytest.mark.parametrize("name", PRESETS)
def test_every_kernel_is_an_op_or_says_why_not(name):
    for kernel in decode_kernels(replica(name), 8, 3000) + prefill_kernels(replica(name), 1, 3000):
        assert bool(kernel.op) != bool(kernel.reason)
        assert "unknown op" not in kernel.reason
        assert kernel.count > 0
        if workload := kernel.workload:
            assert workload.amounts == kernel.amounts
