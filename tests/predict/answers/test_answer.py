"""The answer about a model: each number against one worked out by hand, and what is said where a number is absent."""

import math

import pytest

from predict.answers.answer import answer
from predict.answers.question import Question
from predict.errors import BadQuantity, MissingCeiling
from predict.expected.model_pass import expected_check, expected_decode
from predict.formulas.memory import OPTIMIZERS, WEIGHT_FORMATS, Recompute
from predict.gpus import GPUS, resolve
from predict.model.passes import Logits, Mask
from predict.model.presets import PRESETS, find_model
from predict.resources import Resource
from predict.units import find_dtype

# What the command line promises for every model that a GPU can serve.
PROMISED = """params active_params forward_flop flop_mlp flop_attention_projections flop_attention_scores flop_vocab
forward_flop_napkin train_flop train_flop_napkin weight_bytes gradient_bytes optimizer_bytes training_state_bytes
activation_bytes_per_layer activation_bytes kv_bytes_per_token kv_bytes kv_capacity_tokens max_batch min_gpus_weights
min_gpus_training ridge_flop_per_byte batch_to_saturate prefill_s decode_step_s ttft_s tpot_s decode_tokens_per_s mfu
mbu usd_per_1m_tokens train_days train_usd""".split()

# Llama-3-70B: 80 layers of 8192, 64 heads and 8 KV heads of 128, MLP of 28672, vocabulary 128256, untied.
PARAMS = 70_553_706_496
LAYER_MLP, LAYER_PROJECTIONS = 3 * 8192 * 28672, 2 * 8192 * 8192 + 2 * 8192 * 1024
H100_BYTES, H100_FLOP_PER_S, H100_BYTES_PER_S = 81559 * 2**20, 989.4e12, 3.35e12


def ask(model="llama-3-70b", gpu="h100", **asked):
    asked.setdefault("overhead_bytes", 0.0)  # the engine's own memory is test_capacity's
    return Question(find_model(model), resolve(gpu), **asked)


def values(*args, **asked):
    return {line.key: line.value for section in answer(ask(*args, **asked)).sections for line in section.lines}


def notes(*args, **asked):
    return "\n".join(answer(ask(*args, **asked)).notes)


@pytest.fixture(scope="module")
def lesson():
    return values(gpus=2, batch=8, seq=8192, context=8192)


def test_every_promised_key_is_there_and_no_key_stands_twice(lesson):
    assert [key for key in PROMISED if key not in lesson] == []
    keys = [line.key for section in answer(ask(gpus=2)).sections for line in section.lines]
    assert len(keys) == len(set(keys))


def test_flop_by_component_are_two_for_each_weight_and_token(lesson):
    tokens = 8 * 8192
    assert lesson["flop_mlp"] == 2 * tokens * 80 * LAYER_MLP
    assert lesson["flop_attention_projections"] == 2 * tokens * 80 * LAYER_PROJECTIONS
    # A causal prompt has S(S+1)/2 query-key pairs a head; a pair costs 4 x 128.
    assert lesson["flop_attention_scores"] == 8 * 80 * 64 * 4 * 128 * (8192 * 8193 // 2)
    assert lesson["flop_vocab"] == 2 * tokens * 8192 * 128256
    parts = ("flop_mlp", "flop_attention_projections", "flop_attention_scores", "flop_vocab")
    assert lesson["forward_flop"] == sum(lesson[part] for part in parts)
    assert lesson["forward_flop_napkin"] == 2 * PARAMS * tokens
    assert lesson["train_flop"] == 3 * lesson["forward_flop"]
    assert lesson["train_flop_napkin"] == 6 * PARAMS * tokens


def test_memory_by_tenant(lesson):
    assert lesson["weight_bytes"] == 2 * PARAMS
    assert lesson["kv_bytes_per_token"] == 2 * 80 * 8 * 128 * 2
    assert lesson["kv_bytes"] == 8 * 8192 * 327_680
    assert lesson["gradient_bytes"] == 2 * PARAMS
    assert lesson["optimizer_bytes"] == 12 * PARAMS
    assert lesson["training_state_bytes"] == 16 * PARAMS
    # A token: two norms 6, inputs of attention and MLP 2, Q and out 2, K and V 1/4, MLP 4 tensors of 7, for each of
    # 8192 units: 48.5; 4 bytes of statistics a norm. Scores: 64 heads x 8192 keys x (4 + 2); flash: 64 x 4.
    token = 48.5 * 8192 + 8
    assert lesson["activation_bytes_per_layer"] == 8 * 8192 * (token + 64 * 8192 * 6)
    assert lesson["activation_bytes"] == 80 * lesson["activation_bytes_per_layer"]
    assert lesson["activation_bytes_selective"] == 80 * 8 * 8192 * (token + 64 * 4)
    assert lesson["activation_bytes_full"] == 80 * 8 * 8192 * 8192 * 2


def test_what_fits_on_two_gpus(lesson):
    free = 2 * H100_BYTES - 2 * PARAMS
    assert lesson["kv_capacity_tokens"] == free // 327_680 == 91_351
    assert lesson["max_batch"] == free // (8192 * 327_680) == 11
    assert lesson["max_context"] == 91_351 // 8
    assert lesson["serving_bytes"] == 2 * PARAMS + 8 * 8192 * 327_680
    assert lesson["min_gpus_weights"] == 2  # 141.1 / 85.5 = 1.65
    assert lesson["min_gpus_training"] == 14  # 1128.9 / 85.5 = 13.2


def test_eighty_decimal_gigabytes_are_another_answer_and_the_page_says_so():
    nominal = values(gpus=2, batch=8, seq=8192, context=8192, hbm_bytes=80e9)
    # 160e9 - 141.107e9 = 18.893e9, over 2.684e9 a request: 7; 1128.86e9 / 80e9 = 14.11.
    assert (nominal["max_batch"], nominal["min_gpus_training"]) == (7, 15)
    said = notes(gpus=2, batch=8, seq=8192, context=8192)
    assert "the largest batch would be 7 with --hbm 80GB: the driver reports 85.52 GB per GPU" in said
    assert "GPUs for the training state would be 15 with --hbm 80GB" in said
    assert "--hbm" not in notes(gpus=2, batch=8, seq=8192, context=8192, hbm_bytes=80e9)


@pytest.mark.parametrize(("gpu", "size_gb"), [("l4", 24), ("a10", 24), ("rtx-a6000", 48), ("h100", 80), ("h200", 141)])
def test_the_nominal_size_is_the_one_on_the_box(gpu, size_gb):
    assert ask(gpu=gpu).nominal_bytes == size_gb * 10**9


def test_prefill_is_compute_over_both_gpus(lesson):
    # Only the last position of the 8 prompts is projected to the vocabulary.
    flop = lesson["forward_flop"] - lesson["flop_vocab"] + 8 * 2 * 8192 * 128256
    assert lesson["prefill_s"] == pytest.approx(flop / (2 * H100_FLOP_PER_S))
    every = values(gpus=2, batch=8, seq=8192, context=8192, logits=Logits.ALL)
    assert every["prefill_s"] == pytest.approx(lesson["forward_flop"] / (2 * H100_FLOP_PER_S))
    assert lesson["ttft_s"] == lesson["prefill_s"]
    assert lesson["prefill_bound"] == "tensor.bf16"
    assert lesson["mfu"] == pytest.approx(1)
    assert lesson["ridge_flop_per_byte"] == pytest.approx(H100_FLOP_PER_S / H100_BYTES_PER_S)


def test_decode_reads_all_but_the_input_embedding_and_the_cache(lesson):
    read = 2 * (PARAMS - 128256 * 8192) + 8 * 8192 * 327_680 + 8 * 327_680  # and appends one token a request
    assert lesson["decode_bytes"] == read
    assert lesson["decode_step_s"] == pytest.approx(read / (2 * H100_BYTES_PER_S))
    assert lesson["decode_bound"] == "dram"
    assert lesson["decode_tokens_per_s"] == pytest.approx(8 / lesson["tpot_s"])
    assert lesson["mbu"] == pytest.approx(1)
    # 8 tokens x 2 x (multiplied weights) and 8 x 80 x 64 x 4 x 128 x 8193 for the scores, over the time and two peaks.
    flop = 16 * (80 * (LAYER_MLP + LAYER_PROJECTIONS) + 8192 * 128256) + 8 * 80 * 64 * 512 * 8193
    assert lesson["decode_flop"] == flop
    assert lesson["decode_mfu"] == pytest.approx(flop / lesson["tpot_s"] / (2 * H100_FLOP_PER_S))


def test_without_a_cache_a_token_costs_the_whole_sequence_again():
    found = values("llama-3-8b", "h100", batch=1, seq=8192, context=8191)
    # The forward pass of 8192 tokens, but the logits of the last position only: 8191 x 2 x 4096 x 128256 FLOP less.
    spared = 8191 * 2 * 4096 * 128256
    assert found["uncached_step_s"] == pytest.approx((found["forward_flop"] - spared) / H100_FLOP_PER_S)


def test_mfu_and_mbu_lower_the_roofs_and_are_what_is_reached():
    bound, found = values(gpus=2, seq=8192), values(gpus=2, seq=8192, mfu=0.5, mbu=0.7)
    assert found["prefill_s"] == pytest.approx(bound["prefill_s"] / 0.5)
    assert found["decode_step_s"] == pytest.approx(bound["decode_step_s"] / 0.7)
    assert (found["mfu"], found["mbu"]) == (pytest.approx(0.5), pytest.approx(0.7))
    assert "bounds at full peak rates" in notes(gpus=2)
    assert "bounds at full peak rates" not in notes(gpus=2, mfu=0.5, mbu=0.7)


def test_the_pretraining_box_of_the_lesson():
    found = values(gpus=1024, seq=2048, mfu=0.4, tokens=15e12, usd_per_gpu_hour=2.0)
    # 6 x 70.55e9 x 15e12 / (1024 x 989.4e12 x 0.4) = 1.567e7 s = 181.3 days; the exact count differs by 0.4 %.
    assert found["train_days_napkin"] == pytest.approx(6 * PARAMS * 15e12 / (1024 * H100_FLOP_PER_S * 0.4) / 86400)
    assert found["train_days"] == pytest.approx(found["train_flop"] / 2048 * 15e12 / (1024 * 395.76e12) / 86400)
    assert found["train_usd"] == pytest.approx(found["train_days"] * 24 * 1024 * 2)
    assert found["train_gpu_hours"] == pytest.approx(found["train_days"] * 24 * 1024)


def test_more_gpus_than_heads_train_but_do_not_serve():
    found, said = values(gpus=1024), notes(gpus=1024)
    assert [key for key in ("prefill_s", "decode_step_s", "max_batch", "usd_per_1m_tokens") if key in found] == []
    assert "1,024 GPUs cannot share the 64 heads" in said
    assert "no tokens that fit, largest batch and longest context" in said


def test_recomputation_counts_in_the_bound_but_not_in_mfu():
    plain, full = values(seq=4096), values(seq=4096, recompute=Recompute.FULL)
    assert full["train_flop"] == plain["train_flop"]
    # The layers once more, but not the logits.
    assert full["train_hardware_flop"] == plain["train_flop"] + plain["forward_flop"] - plain["flop_vocab"]
    ratio = full["train_hardware_flop"] / plain["train_flop"]
    assert full["train_days"] == pytest.approx(plain["train_days"] * ratio)
    same = values(seq=4096, recompute=Recompute.FULL, mfu=0.4)
    assert same["train_days"] == pytest.approx(plain["train_days"] / 0.4)
    assert full["activation_bytes"] == 80 * 2 * 4096 * 8192


def test_a_dollar_buys_a_million_tokens_at_the_decode_rate(lesson):
    rate = 8 / lesson["decode_step_s"]
    assert lesson["usd_per_1m_tokens"] == pytest.approx(2 * 2.0 / (rate * 3600) * 1e6)
    prompts = 8 * 8192 / lesson["prefill_s"]
    assert lesson["usd_per_1m_prompt_tokens"] == pytest.approx(2 * 2.0 / (prompts * 3600) * 1e6)


def test_break_even_against_a_price():
    found = values(gpus=2, batch=8, token_price_usd_per_1m=10.0)
    assert found["break_even_tokens_per_s"] == pytest.approx(2 * 2.0 / 3600 / 10.0 * 1e6)
    assert found["break_even_utilization"] == pytest.approx(found["usd_per_1m_tokens"] / 10.0)


def test_quantized_weights_count_their_scales_and_the_page_says_what_stays_wide():
    found = values("llama-3-8b", "h200", weights=WEIGHT_FORMATS["int4"], kv=find_dtype("fp8"))
    assert found["weight_bytes"] == pytest.approx(8_030_261_248 * 4.125 / 8)
    assert found["kv_bytes_per_token"] == 65_536
    said = notes("llama-3-8b", "h200", weights=WEIGHT_FORMATS["int4"])
    assert "embeddings and head in 16 bits" in said
    assert "h200-sxm multiplies no int4" in said
    # Weights only: 4.125 / 16 of the ridge.
    assert found["batch_to_saturate_napkin"] == pytest.approx(found["ridge_flop_per_byte"] * 4.125 / 16)


def test_a_format_that_the_gpu_does_not_multiply_is_refused():
    with pytest.raises(MissingCeiling, match="compute=int4: h100-sxm"):
        ask(weights=WEIGHT_FORMATS["int4"], compute=find_dtype("int4"))
    assert values("llama-3-8b", "a100", compute=find_dtype("int4"))["ridge_flop_per_byte"] == pytest.approx(
        1248 / 2.039
    )


def test_the_batch_that_saturates():
    found = values("llama-3-8b", "h100", context=1)
    ridge = H100_FLOP_PER_S / H100_BYTES_PER_S
    assert found["batch_to_saturate_napkin"] == pytest.approx(ridge)
    assert found["batch_to_saturate"] == pytest.approx(ridge / (1 - 2 * ridge / 4096))
    # Hardly any cache: 2 x 7.505e9 FLOP a token against 15.01e9 bytes a step and 131,072 x 2 bytes a token.
    linear = 2 * (8_030_261_248 - 4096 * 128256 - 65 * 4096)
    flop_s = (linear + 4 * 32 * 32 * 128 * 2) / H100_FLOP_PER_S
    bytes_s = 2 * (8_030_261_248 - 4096 * 128256) / H100_BYTES_PER_S, 2 * 131_072 / H100_BYTES_PER_S
    assert found["batch_to_saturate_with_kv"] == math.ceil(bytes_s[0] / (flop_s - bytes_s[1]))
    assert "no batch saturates decode at 8,192 cached tokens" in notes("llama-3-8b", "h100", context=8192)
    assert "no batch saturates a 768 x 768 matrix" in notes("gpt-2-small", "b200", compute=find_dtype("fp4"))


def test_a_mixture_saturates_with_as_many_more_tokens_as_it_has_weights_for_each_that_a_token_takes():
    # Qwen3-30B-A3B: 30,532,122,624 parameters, 3,353,032,704 for a token; of both 151,936 x 2048 are only looked up and
    # 48 x (2 x 2048 + 2 x 128) + 2048 are norms. 9.94 times the ridge of 295.3.
    found = values("qwen3-30b-a3b", "h100")
    ridge, other = H100_FLOP_PER_S / H100_BYTES_PER_S, 151_936 * 2048 + 48 * 4352 + 2048
    more = (30_532_122_624 - other) / (3_353_032_704 - other)
    assert found["batch_to_saturate_napkin"] == pytest.approx(ridge * more) == pytest.approx(2934, abs=1)
    # An expert's 2048 x 768 matrix sees 8 of 128 tokens.
    assert found["batch_to_saturate"] == pytest.approx(128 / 8 * ridge / (1 - ridge / 2048 - ridge / 768))


def test_a_context_over_the_limit_is_a_note():
    assert "a context of 9,000 tokens is over the 8,192 that llama-3-70b supports" in notes(gpus=2, context=9000)
    both = notes(gpus=2, seq=9000, context=9000)
    assert "prompts of 9,000 tokens are over the 8,192 that llama-3-70b supports" in both
    assert both.count("over the 8,192") == 1
    assert "over the" not in notes(gpus=2, context=8192, seq=8192)


def test_what_does_not_fit_is_said():
    assert "the weights do not fit into 85.52 GB" in notes(gpus=1)
    assert values(gpus=1)["max_batch"] == 0
    assert "batch 64 at 8,192 does not fit" in notes(gpus=2, batch=64, context=8192)
    assert "heads do not divide by 3" in notes(gpus=3)
    assert "cache is held 2 times" in notes(gpus=16, tp=16)


def test_speculation_with_a_free_perfect_draft_makes_k_plus_one_tokens_a_step():
    found = values("llama-3-70b", "h200", gpus=2, draft=find_model("gpt-2-small"), acceptance=1.0, context=128)
    assert found["speculation_k"] == 16
    assert found["speculation_tokens"] == 17
    assert 10 < found["speculation_speedup"] < 17
    assert found["speculation_tpot_s"] == pytest.approx(found["tpot_s"] / found["speculation_speedup"])


def test_speculation_stops_paying_where_the_batch_is_compute_bound_already():
    found = values("llama-3-8b", "h100", context=16, draft=find_model("qwen3-0.6b"), acceptance=0.6)
    k, ridge = found["speculation_k"], found["ridge_flop_per_byte"]
    assert ridge / (k + 1) < found["speculation_stops_at_batch"] < ridge


def test_speculation_has_an_expected_speed_up_where_both_models_are_calibrated():
    asked = {"batch": 4, "context": 2048, "acceptance": 0.8}
    found = values("llama-3-8b", "h100", draft=find_model("llama-3.2-1b"), **asked)
    replica, draft = ask("llama-3-8b", "h100", **asked).replica(), ask("llama-3.2-1b", "h100", **asked).replica()
    k = found["speculation_k_expected"]
    # (1 - 0.8^(k+1)) / 0.2 tokens for k steps of the draft and a check of k + 1 tokens, over one token a step.
    step_s, draft_s = (expected_decode(each, 4, 2048).time_s for each in (replica, draft))
    check_s = expected_check(replica, 4, k + 1, 2048).time_s
    tokens = (1 - 0.8 ** (k + 1)) / 0.2
    assert found["speculation_speedup_expected"] == pytest.approx(tokens * step_s / (k * draft_s + check_s))
    assert found["speculation_tpot_expected_s"] == pytest.approx(step_s / found["speculation_speedup_expected"])
    # Launches and checks cost more than the bound says.
    assert found["speculation_speedup_expected"] < found["speculation_speedup"]
    assert "no expected speed-up by speculation" in notes("llama-3-8b", "mi300x", draft=find_model("llama-3.2-1b"))


def test_speculation_of_a_mixture_pays_from_a_batch_that_reads_most_experts_anyway():
    # One token reads 4 of 128 experts, three to check read almost 12: checks cost nearly as many steps as they make
    # tokens. At batch 30 a step reads 128 x (1 - (1 - 4/128)^30) = 79 experts, checks of 90 tokens 121.
    asked = {"gpus": 2, "draft": find_model("gpt-oss-20b"), "acceptance": 0.75, "context": 7168}
    found = values("gpt-oss-120b", "h100", batch=30, **asked)
    assert found["speculation_speedup"] > 1
    assert 1 < found["speculation_starts_at_batch"] <= 30 < found["speculation_stops_at_batch"]
    drafts_too_much = {"draft": find_model("qwen3-4b"), "acceptance": 0.1}
    never = values("qwen3-4b", "h100", **drafts_too_much)
    assert never["speculation_speedup"] < 1
    assert "speculation_stops_at_batch" not in never
    assert "speculation pays at no batch" in notes("qwen3-4b", "h100", **drafts_too_much)


def test_a_cached_prefix_and_chunks():
    found = values("llama-3-8b", "h100", seq=8192, prefix=4096, chunk=2048)
    # The second half of the prompt: half the linear work, three quarters of the query-key pairs.
    pairs = 4096 * 4096 + 4096 * 4097 // 2
    linear = found["flop_mlp"] + found["flop_attention_projections"]
    flop = linear / 2 + 32 * 32 * 512 * pairs + 2 * 4096 * 128256  # and the last position's logits
    assert found["prefix_ttft_s"] == pytest.approx(flop / H100_FLOP_PER_S)
    # 2048 tokens are compute-bound on their own; each of the four chunks projects its last position.
    last_s = 2 * 4096 * 128256 / H100_FLOP_PER_S
    assert found["chunked_prefill_s"] == pytest.approx(found["prefill_s"] + 3 * last_s)
    assert found["chunk_stall_s"] > found["chunked_prefill_s"] / 4  # the last chunk meets the most keys


def test_gpt_2_counted_as_the_lesson_counts():
    found = values("gpt-2-small", "a100", seq=1024, mask=Mask.FULL)
    assert found["forward_flop"] == 291_648_307_200
    assert found["train_flop"] == 874_944_921_600
    assert values("gpt-2-small", "a100", seq=1024, mask=Mask.FULL, logits=Logits.LAST)["flop_vocab"] == 2 * 768 * 50257


ABLE = [gpu.name for gpu in GPUS.values() if {Resource.TENSOR_BF16, Resource.DRAM} <= gpu.roofs.keys()]


def assert_is_answered(name, gpu):
    found = values(name, gpu, batch=2, seq=512, context=512)
    assert all(isinstance(value, str) or math.isfinite(value) for value in found.values())
    assert found["decode_step_s"] > 0


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_answered(name):
    assert_is_answered(name, "h100-sxm")


@pytest.mark.parametrize("name", ["llama-3-8b", "deepseek-v3"])
@pytest.mark.parametrize("gpu", ABLE)
def test_every_gpu_that_has_its_roofs_answers(name, gpu):
    assert_is_answered(name, gpu)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"batch": 0}, "batch must be a positive whole number, not 0"),
        ({"seq": -1}, "seq must be"),
        ({"context": -1}, "context must not be negative"),
        ({"batch": 8, "micro_batch": 30}, "micro-batch=30 is over the 8 sequences of the batch"),
        ({"gpus": 100_000}, "gpus=100000 is more than"),
        ({"mfu": 1.1}, "mfu must be above 0 and at most 1"),
        ({"mbu": 0}, "mbu must be"),
        ({"tokens": -1.0}, "tokens must be positive"),
        ({"usd_per_gpu_hour": 0.0}, "price must be positive"),
        ({"hbm_bytes": 0.0}, "hbm must be positive"),
        ({"overhead_bytes": 1e12}, "an overhead of 1.00 TB leaves nothing of the 85.5 GB of a GPU"),
        ({"acceptance": 1.5}, "accept must be from 0 to 1"),
        ({"seq": 100, "prefix": 100}, "prefix=100 must be less"),
        ({"chunk": 0}, "chunk must be"),
    ],
)
def test_a_question_without_sense_names_the_field(asked, message):
    with pytest.raises(BadQuantity, match=message):
        ask(**asked)


def test_optimizers_change_the_state():
    found = values(optimizer=OPTIMIZERS["adam-fp32-gradients"])
    assert found["training_state_bytes"] == 18 * PARAMS
    assert values(gpus=8)["zero_3_bytes_per_gpu"] == 2 * PARAMS


def test_expected_times_stand_beside_the_bound_where_kernels_are_calibrated():
    found = values("llama-3-8b", "a100", seq=2000, context=100)
    assert found["prefill_s"] < found["prefill_expected_s"] < 2 * found["prefill_s"]
    assert found["decode_step_s"] < found["decode_step_expected_s"] < 2 * found["decode_step_s"]
    absent = notes("llama-3-8b", "mi300x")
    assert "no expected time, only the bound: no calibration of matmul in bf16 for mi300x" in absent
    assert "are not calibrated" in notes("mixtral-8x7b", "h100")
    assert "decode_step_expected_s" not in values("deepseek-v3", "h100", gpus=16)


# gpt-fast's README (6ecad9b), A100-80GB, batch 1, bf16: tokens per second, and how far the sum of calibrated kernels
# may be off. Nothing is fitted to these; with 8 GPUs gpt-fast's all-reduce is shorter than the NCCL that is calibrated.
@pytest.mark.parametrize(
    ("model", "gpus", "tokens_per_s", "tolerance"),
    [
        ("llama-3.1-8b", 1, 93.89, 0.15),
        ("llama-2-70b", 8, 62.5, 0.15),
        ("llama-3.1-70b", 8, 58.78, 0.15),
        ("llama-2-7b", 8, 328.43, 0.25),
    ],
)
def test_expected_decoding_is_what_gpt_fast_measures(model, gpus, tokens_per_s, tolerance):
    found = values(model, "a100", gpus=gpus, context=100)
    assert 1 / found["decode_step_expected_s"] == pytest.approx(tokens_per_s, rel=tolerance)
