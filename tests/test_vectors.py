"""Published, counted and measured numbers, one row each of tests/data/vectors.csv, against what predict says.

A row is answered, within its own tolerance (0: exactly); a measured row is bounded: no napkin is slower than a GPU.
"""

import csv
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from predict.errors import BadModel
from predict.expected.refined import estimate, with_estimate
from predict.formulas import memory, money, parallel, serving, speculation
from predict.formulas.memory import Recompute
from predict.gpus import resolve, ridge_flop_per_byte
from predict.model.attention import Attention
from predict.model.layout import Layout
from predict.model.linear import Component
from predict.model.mlp import Experts, Mlp
from predict.model.passes import Mask, forward, kv_bytes, kv_bytes_per_token, training_step
from predict.model.presets import find_model
from predict.model.replica import Replica
from predict.model.transformer import Block, Model
from predict.resources import Ceiling, Resource
from predict.roofline import predict
from predict.units import find_dtype
from predict.workloads import make_workload

CSV = Path(__file__).parent / "data" / "vectors.csv"
PALM_PARAMS = 540.35e9  # Chowdhery et al. 2022, table 1


@dataclass(frozen=True)
class Row:
    """One line of the file; `params` holds what the quantity depends on."""

    number: int
    model: str
    quantity: str
    params: Mapping[str, Any]
    expected: float
    unit: str
    tolerance: float

    def __getitem__(self, name: str) -> Any:
        return self.params[name]

    @property
    def id(self) -> str:
        return f"{self.model}-{self.quantity}-{self.number}"


def read_rows():
    with CSV.open(newline="", encoding="utf-8") as file:
        for number, line in enumerate(csv.DictReader(file), start=1):
            params, expected, tolerance = json.loads(line["params"]), float(line["expected"]), float(line["tolerance"])
            yield Row(number, line["model"], line["quantity"], params, expected, line["unit"], tolerance)


ROWS = list(read_rows())


# The shapes that rows carry, and where a model has them.
SHAPE: Mapping[str, Callable[[Model], object]] = {
    "hidden": lambda model: model.hidden,
    "layers": lambda model: model.layers,
    "heads": lambda model: model.heads,
    "kv_heads": lambda model: model.blocks[0].mixer.kv_heads,
    "head_dim": lambda model: model.blocks[0].mixer.head_dim,
    "qkv_bias": lambda model: model.blocks[0].mixer.qkv_bias,
    "q_lora": lambda model: model.blocks[0].mixer.query_rank,
    "kv_lora": lambda model: model.blocks[0].mixer.kv_rank,
    "qk_nope": lambda model: model.blocks[0].mixer.nope_dim,
    "qk_rope": lambda model: model.blocks[0].mixer.rope_dim,
    "rope": lambda model: model.blocks[0].mixer.rope_dim,
    "v_head": lambda model: model.blocks[0].mixer.value_dim,
    "kind": lambda model: "mla" if model.is_latent else "kv",
    "kv": kv_bytes_per_token,
    "mlp": lambda model: "swiglu_3mat" if model.blocks[0].mlp.gated else "gelu_2mat",
    "intermediate": lambda model: model.blocks[0].mlp.intermediate,
    "moe_intermediate": lambda model: model.blocks[-1].mlp.intermediate,
    "first_dense": lambda model: sum(block.layers for block in model.blocks if not isinstance(block.mlp, Experts)),
    "experts": lambda model: model.blocks[-1].mlp.copies,
    "top_k": lambda model: model.blocks[-1].mlp.active,
    "shared": lambda model: model.blocks[-1].mlp.shared.intermediate // model.blocks[-1].mlp.intermediate,
    "vocab": lambda model: model.vocab,
    "pos_embed": lambda model: model.position_params // model.hidden,
    "tied": lambda model: model.tied,
    "active_excl_input_embedding": lambda model: model.active_params - model.embedding_params,
}
PADDED_VOCAB = 51_200  # GPT-3 in Korthikanti et al. 2022: its 50,257 tokens, padded


def preset(row):
    return find_model(row.model)


def dense(layers, heads, head_dim, *, kv_heads=None):
    """A model of which only layers, heads and width count here: an MLP of 4H, no vocabulary to speak of."""
    hidden = heads * head_dim
    block = Block(layers, hidden, Attention(heads, kv_heads or heads, head_dim), Mlp(4 * hidden, gated=False), 0)
    return Model("dense", "gpt2", hidden, 1, (block,), tied=True, final_norm_params=0, context_limit=None)


def active_param_count(row):
    assert row.params.get("include_lm_head", True)
    return preset(row).active_params - (0 if row["include_input_embedding"] else preset(row).embedding_params)


def forward_flop(row):
    mask = Mask.CAUSAL if row["causal"] else Mask.FULL
    return forward(preset(row), row["batch"], row["seq"], mask=mask).flop


def kv_bytes_of_a_token(row):
    return kv_bytes_per_token(preset(row), 8 * row["dtype_bytes"])


def weight_bytes(row):
    return memory.weight_bytes(preset(row).params, 8 * row["dtype_bytes"])


def adam_state_bytes(row):
    assert memory.OPTIMIZERS["adam"].state_bytes_per_param == row["bytes_per_param"]
    return memory.training_state(preset(row).params).total_bytes


def activation_bytes_per_layer(row):
    policies = {"none": Recompute.NONE, "selective_or_flash": Recompute.FLASH, "full_recompute": Recompute.FULL}
    return memory.activation_bytes_per_layer(
        row["batch"],
        row["seq"],
        row["hidden"],
        row["heads"],
        recompute=Recompute.FLASH if row.params.get("attn") == "sdpa" else policies[row["policy"]],
        dropout=row.params.get("dropout", True),
    )


def activation_bytes_total(row):
    return row["layers"] * memory.activation_bytes_per_layer(row["batch"], row["seq"], row["hidden"], row["heads"])


def palm_flop_per_token(*, attention):
    """6N + 12LHQT of PaLM's appendix B: L = 118, H = 48 heads, Q = 256, T = 2048."""
    step = training_step(dense(118, 48, 256), 1, 2048, mask=Mask.FULL)
    scores = step.component_flop(Component.ATTENTION_SCORES) / 2048
    return money.train_flop(PALM_PARAMS, 1) + (scores if attention else 0)


def train_flop_per_token(row):
    if row.model == "PaLM-540B":
        assert (row["N"], row["layers"], row["heads"], row["head_dim"], row["seq"]) == (PALM_PARAMS, 118, 48, 256, 2048)
        return palm_flop_per_token(attention=True)
    assert row["causal"]
    return training_step(preset(row), 1, row["seq"]).flop / row["seq"]


def mfu(row):
    flop = palm_flop_per_token(attention=row["attention"]) * row["tokens_per_s"]
    return serving.mfu(flop, 1, row["chips"] * row["peak"])


def train_days(row):
    flop = money.train_flop(row.params.get("N") or row["P"], row.params.get("D") or row["T"], row["factor"])
    if "tflops" in row.params:  # what is reached, not a peak
        return money.train_s(flop, row["gpus"], row["tflops"] * 1e12, 1) / money.SECONDS_PER_DAY
    return money.train_s(flop, row["gpus"], row["peak"], row["mfu"]) / money.SECONDS_PER_DAY


def train_usd(row):
    if "gpu_hours" in row.params:
        return money.usd_for_gpu_hours(row["gpu_hours"], row["usd_per_hr"])
    return money.train_usd(money.train_flop(row["N"], row["D"]), row["peak"], row["mfu"], row["usd_per_hr"])


def ridge(row):
    roofs = {Resource.TENSOR_BF16: Ceiling(row["peak"], "row"), Resource.DRAM: Ceiling(row["bw"], "row")}
    return ridge_flop_per_byte(roofs, Resource.TENSOR_BF16)


def decode_step_of_an_int8_model(row):
    weights = memory.weight_bytes(row["params"], 8)
    cache = row["batch"] * row["kv_bytes"]
    return 1e3 * serving.mixed_step_s(row["params"], row["batch"], weights, cache, row["flops"], row["bw"])


def decode_step_of_12lh2(row):
    (block,) = dense(row["layers"], row["hidden"] // 128, 128).blocks
    return 1e3 * serving.decode_step_s(memory.weight_bytes(block.params), 0, row["bw"])


def absorbed_intensity(row):
    attention = preset(row).blocks[0].mixer
    return attention.absorbed_flop_per_pair / (attention.kv_elements_per_token * row["bytes"])


ANSWERS: Mapping[str, Callable[[Row], float]] = {
    "param_count": lambda row: preset(row).params,
    "active_param_count": active_param_count,
    "forward_flops_full_attention": forward_flop,
    "forward_flops_causal_attention": forward_flop,
    "train_flops_fwd_bwd": lambda row: training_step(preset(row), row["batch"], row["seq"], mask=Mask.FULL).flop,
    "kv_bytes_per_token": kv_bytes_of_a_token,
    "kv_bytes_context": lambda row: kv_bytes(preset(row), 1, row["seq"], 8 * row["dtype_bytes"]),
    "weight_bytes": weight_bytes,
    "min_gpus_weights": lambda row: memory.min_gpus(weight_bytes(row), row["hbm_bytes"]),
    "adam_state_bytes": adam_state_bytes,
    "quant_weight_bits": lambda row: memory.bits_per_weight(
        row["bits"], row["group"], row["scale_bits"], row["zero_bits"]
    ),
    "activation_bytes_per_layer": activation_bytes_per_layer,
    "activation_bytes_total": activation_bytes_total,
    "korthikanti_5as_over_h": lambda row: memory.attention_score_share(row["seq"], row["hidden"], row["heads"]),
    "selective_recompute_memory_saving": lambda row: memory.selective_memory_saving(
        row["seq"], row["hidden"], row["heads"]
    ),
    "selective_recompute_flop_overhead": lambda row: memory.selective_flop_overhead(
        row["seq"], row["hidden"], row["layers"], row["vocab"]
    ),
    "flops_per_token_train": train_flop_per_token,
    "mfu": mfu,
    "train_flops": lambda row: money.train_flop(row["N"], row["D"]),
    "train_days": train_days,
    "train_cost": train_usd,
    "serving_cost_per_1M": lambda row: money.usd_per_1m_tokens(row["usd_per_hr"], row["tok_per_s"]),
    "ridge": ridge,
    "gemm_ai": lambda row: serving.gemm_intensity(row["m"], row["n"], row["k"], row["bytes"]),
    "batch_to_saturate": lambda row: serving.batch_to_saturate(row["ridge"], row["n"], row["k"]),
    "spec_expected_tokens": lambda row: speculation.expected_tokens(row["alpha"], row["k"]),
    "spec_speedup": lambda row: speculation.speedup(row["alpha"], row["k"], row["c"]),
    "decode_step_ms_general": decode_step_of_an_int8_model,
    "decode_step_ms": decode_step_of_12lh2,
    "ttft_ms": lambda row: 1e3 * serving.prefill_s(row["N"], row["prompt"], row["peak"], row["mfu"]),
    "tpot_ms": lambda row: 1e3 * serving.decode_step_s(memory.weight_bytes(row["N"]), 0, row["bw"], row["mbu"]),
    "kv_crossover_batch": lambda row: serving.kv_crossover_batch(memory.weight_bytes(row["N"]), row["ctx"], row["kv"]),
    "decode_ceiling_tok_s": lambda row: serving.decode_ceiling_tokens_per_s(
        row["ctx"], row["kv"], row["bw"], row["mbu"]
    ),
    "pipeline_bubble": lambda row: parallel.pipeline_bubble(row["pp"], row["microbatches"]),
    "gemm_waves": lambda row: serving.gemm_waves(row["m"], row["n"], row["tile_m"], row["tile_n"], row["sms"]),
    "static_batch_utilization": lambda row: serving.static_batch_utilization(row["lengths"]),
    "paged_kv_utilization": lambda row: serving.paged_kv_utilization(row["len"], row["block"]),
    "mla_decode_ai_absorbed": absorbed_intensity,
}

A_TIME = "a measured time: the napkin bounds it; expected time meets it where its kernel is calibrated, see below"
A_RATE = "a measured rate: the napkin bounds it; the sum of calibrated kernels is held against it"
MEASURED: Mapping[str, str] = {
    "gemm_us_measured": A_TIME,
    "attn_prefill_us_measured": A_TIME,
    "attn_decode_us_measured": A_TIME,
    "decode_step_ms_measured": A_TIME,
    "decode_tok_s_measured": A_RATE,
    "spec_speedup_measured": "a ratio of two measured rates; the acceptance behind it was not published",
}
KERNELS = {
    "gemm_us_measured": "matmul",
    "attn_prefill_us_measured": "attention_prefill",
    "attn_decode_us_measured": "attention_decode",
}
SKUS = {
    "H100-SXM": "h100-sxm",
    "A100-80GB": "a100-sxm-80gb",
    "A100-80GB 330W": "a100-sxm-80gb",
    "A100-40GB": "a100-sxm-40gb",
}


def kernel_prediction(row):
    op = KERNELS[row.quantity]
    names = {"seq": "context"} if op == "attention_decode" else {}
    dims = {names.get(name, name): size for name, size in row.params.items() if name not in ("dtype", "causal")}
    assert row.params.get("causal", True)
    workload = make_workload(op, dims, find_dtype(row["dtype"]))
    gpu = resolve(SKUS[row.model])
    return with_estimate(predict(workload.amounts, gpu.roofs), estimate(workload, gpu))


def kernel_us(row):
    return 1e6 * kernel_prediction(row).napkin_s


def decode_ms(row):
    # 13B: the 12LH^2 parameters of kipply's table, L = 40, H = 5120.
    assert row["tp"] == 1
    weights = memory.weight_bytes(dense(40, 40, 128).params)
    return 1e3 * serving.decode_step_s(weights, 0, resolve(SKUS[row["gpu"]]).roofs[Resource.DRAM].per_s)


def decode_tokens_per_s(row):
    replica = Replica(preset(row), resolve(SKUS[row["gpu"]]), Layout(row["tp"]))
    return row["batch"] / replica.decode(row["batch"], context=1).napkin_s


def best_speedup(row):
    # All of 4 guesses accepted; more guesses would only raise it.
    return speculation.speedup(1, 4, row["c"])


BOUNDS: Mapping[str, Callable[[Row], float]] = {
    **dict.fromkeys(KERNELS, kernel_us),
    "decode_step_ms_measured": decode_ms,
    "decode_tok_s_measured": decode_tokens_per_s,
    "spec_speedup_measured": best_speedup,
}


def rows_of(quantities):
    return [pytest.param(row, id=row.id) for row in ROWS if row.quantity in quantities]


def test_no_row_is_lost_and_every_quantity_is_answered_or_bounded():
    assert len(ROWS) == 113
    assert len(rows_of(ANSWERS)) + len(rows_of(MEASURED)) == 113
    assert {row.quantity for row in ROWS} == ANSWERS.keys() | MEASURED.keys()
    assert ANSWERS.keys() & MEASURED.keys() == set()
    assert BOUNDS.keys() == MEASURED.keys()


@pytest.mark.parametrize("row", rows_of(ANSWERS))
def test_the_napkin_says_what_is_published(row):
    found = ANSWERS[row.quantity](row)
    assert found == (pytest.approx(row.expected, rel=row.tolerance, abs=0) if row.tolerance else row.expected)


@pytest.mark.parametrize("row", rows_of(MEASURED))
def test_nothing_measured_beats_the_napkin(row):
    bound = BOUNDS[row.quantity](row)
    assert bound > 0
    if row.unit in ("tok/s", "x"):
        assert bound >= row.expected
    else:
        assert bound <= row.expected


def test_the_napkin_is_within_30_percent_of_5_of_12_measured_kernels():
    # Bound over measured: matmuls 10.0/15.0, 40.1/51.6, 139/164, 556/698 us on H100, 16.5/24.1, 65.8/96.9, 3524/3743 on
    # A100; prefill 8.7/35.5 and 2224/3310; decode 1.3/13.6, 80/119 and 641/688.
    kernels = [row for row in ROWS if row.quantity in KERNELS]
    shares = [kernel_us(row) / row.expected for row in kernels]
    assert (sum(share >= 0.7 for share in shares), len(kernels)) == (5, 12)
    assert 1 / min(shares) == pytest.approx(10.8, abs=0.05)


def carries_shape(row):
    try:
        preset(row)
    except BadModel:
        return False
    return not SHAPE.keys().isdisjoint(row.params)


@pytest.mark.parametrize("row", [pytest.param(row, id=row.id) for row in ROWS if carries_shape(row)])
def test_the_preset_has_the_shape_that_the_row_gives(row):
    model = preset(row)
    given = {name: size for name, size in row.params.items() if name in SHAPE and size != PADDED_VOCAB}
    assert {name: SHAPE[name](model) for name in given} == given


def test_a_measured_speedup_of_gpt_fast_is_explained_by_an_acceptance():
    # 48.4/25.25 = 1.917 tokens/s over tokens/s; with k = 4 it takes 1.917*(1 + 4*0.1283) = 2.901 tokens a step, and
    # 1 + .73 + .73^2 + .73^3 + .73^4 = 2.936.
    (row,) = [row for row in ROWS if row.quantity == "spec_speedup_measured"]
    assert row["spec_tok_s"] / row["base_tok_s"] == pytest.approx(row.expected, rel=row.tolerance)
    assert speculation.implied_acceptance(row.expected, 4, row["c"]) == pytest.approx(0.73, abs=0.01)


@pytest.mark.parametrize("row", rows_of(KERNELS))
def test_expected_time_meets_what_is_measured(row):
    assert 1e6 * kernel_prediction(row).expected_s == pytest.approx(row.expected, rel=row.tolerance)
