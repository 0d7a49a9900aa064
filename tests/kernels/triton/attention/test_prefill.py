import itertools
from dataclasses import replace
from functools import partial

import pytest
import torch

from kernels import reference
from kernels.constants import ARCHITECTURES
from kernels.shapes import AttentionSizes
from kernels.unsupported import Unsupported

pytest.importorskip("triton")
from triton.runtime.errors import OutOfResources

from kernels.triton.attention import prefill as attention
from kernels.triton.attention.prefill import CAUSAL, AttentionConfig, Variant
from kernels.triton.plan import Target
from tests.kernels.triton.attention.test_decode import assert_mismatches_are_refused

HAS_CUDA = torch.cuda.is_available()
DTYPES = ("fp32", "fp16", pytest.param("bf16", marks=pytest.mark.gpu))
TORCH = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
SMALL = AttentionConfig(32, 16, 4, 2)
WINDOW = 37
# Ways in for keys and values, orders of a block's steps, and a loop that masks every block, as Hopper's warps do.
WAYS_IN = (
    SMALL,
    AttentionConfig(16, 32, 4, 2),
    replace(SMALL, order="one_loop"),
    *(
        replace(SMALL, operands=operands, order=order)
        for operands, order in itertools.product(
            ("descriptors", "own_descriptors"), ("loops", "one_loop", "overlapped")
        )
    ),
    replace(SMALL, operands="own_descriptors", warp_specialize=True),
)

interpreted = pytest.mark.skipif(HAS_CUDA, reason="a GPU needs tiles of its own architecture")


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def make(batch, heads, kv_heads, seq, head_dim, dtype="fp16", device="cpu", *, context=None):
    """q, k and v, strided as they come out of one projection."""
    q = torch.randn(batch, seq, heads, head_dim, dtype=TORCH[dtype], device=device).transpose(1, 2)
    kv = torch.randn(batch, context or seq, 2 * kv_heads, head_dim, dtype=TORCH[dtype], device=device).transpose(1, 2)
    return q, *kv.split(kv_heads, dim=1)


def make_packed(lengths, heads, kv_heads, head_dim, dtype="fp16", device="cpu"):
    tokens = sum(lengths)
    q, k, v = (
        torch.randn(tokens, count, head_dim, dtype=TORCH[dtype], device=device) for count in (heads, kv_heads, kv_heads)
    )
    offsets = torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32, device=device)
    return q, k, v, offsets


def is_right(actual, reference_op, *tensors, **dims):
    """Off from fp64 by no more than twice what a plain computation in this format is, and four roundings."""
    dtype = next(name for name, known in TORCH.items() if known == actual.dtype)
    truth = reference_op(*tensors, **dims)
    plain = (reference_op(*tensors, **dims, precision=dtype).double() - truth).abs().max()
    allowed = 2 * plain + 4 * torch.finfo(actual.dtype).eps * truth.abs().max()
    return actual.shape == truth.shape and bool((actual.double() - truth).abs().max() <= allowed)


def launched(q, k, v, variant=CAUSAL, config=SMALL, lse=None, **arguments):
    """What the kernels leave in an output of NaN; the interpreter runs configurations of every architecture."""
    out = torch.full_like(q, torch.nan)
    for launch in attention.plan_attention(q, k, v, out, config=config, variant=variant, lse=lse):
        known = {name: value for name, value in arguments.items() if name in launch.arguments}
        replace(launch, arguments={**launch.arguments, **known}).run()
    return out


OPS = {
    "prefill": (attention.attention_prefill, reference.attention_prefill, {}),
    "full": (attention.attention_full, reference.attention_full, {}),
    "window": (partial(attention.attention_window, window=WINDOW), reference.attention_window, {"window": WINDOW}),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("seq", [1, 17, 65, 130])
def test_awkward_lengths(op, seq, dtype, device):
    run, meaning, dims = OPS[op]
    tensors = make(1, 2 if seq < 100 else 1, 1, seq, 64, dtype, device)
    out = run(*tensors)
    assert is_right(out, meaning, *tensors, **dims)
    assert out.stride() == tensors[0].stride()  # tokens can be read as rows of hidden states


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("batch", "heads", "kv_heads", "head_dim"), [(2, 2, 2, 64), (1, 3, 1, 128), (1, 4, 2, 64), (1, 2, 1, 256)]
)
def test_groups_and_head_dimensions(batch, heads, kv_heads, head_dim, dtype, device):
    tensors = make(batch, heads, kv_heads, 70, head_dim, dtype, device)
    assert is_right(attention.attention_prefill(*tensors), reference.attention_prefill, *tensors)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("queries", "context", "heads"), [(1, 65, 4), (1, 20, 71), (17, 17, 2), (20, 131, 4), (33, 600, 2), (130, 200, 1)]
)
def test_chunks(queries, context, heads, dtype, device):
    tensors = make(1, heads, 1, queries, 64, dtype, device, context=context)
    assert is_right(attention.attention_chunk(*tensors), reference.attention_chunk, *tensors)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("lengths", [(0, 1, 39, 0, 34, 1), (130,), (1, 64, 65), (0, 0, 1)])
def test_packed_sequences(lengths, dtype, device):
    tensors = make_packed(lengths, 2, 1, 64, dtype, device)
    out = attention.attention_packed(*tensors)
    assert is_right(out, reference.attention_packed, *tensors)
    assert out.is_contiguous()


def test_more_packed_sequences_than_are_searched_at_a_time(device):
    lengths = [2, *[0] * 126, 1, 3, 0, 40, 0, 5]
    q, k, v, offsets = make_packed(lengths, 1, 1, 64, "fp16", device)
    config = SMALL if not HAS_CUDA else None
    assert is_right(
        attention.attention_packed(q, k, v, offsets, config=config), reference.attention_packed, q, k, v, offsets
    )


@interpreted
@pytest.mark.parametrize("config", WAYS_IN, ids=lambda config: config.name)
def test_every_way_in_and_mask(config):
    q, k, v = make(1, 1, 1, 75, 64)
    variants = ((CAUSAL, reference.attention_prefill, {}), (Variant("full"), reference.attention_full, {}))
    for variant, meaning, dims in (*variants, (Variant("window", 13), reference.attention_window, {"window": 13})):
        assert is_right(launched(q, k, v, variant, config), meaning, q, k, v, **dims), variant
    chunk = make(1, 2, 1, 20, 64, context=70)
    for variant in (Variant(keys_per_part=32), Variant(pack=2), Variant(pack=2, keys_per_part=64)):
        if variant.pack == 1 or config.operands != "own_descriptors":
            assert is_right(launched(*chunk, variant, config), reference.attention_chunk, *chunk), variant
    packed = make_packed((33, 0, 1, 17), 1, 1, 64)
    *rows, offsets = packed
    out = launched(*(tensor.transpose(0, 1).unsqueeze(0) for tensor in rows), Variant(offsets=offsets), config)
    assert is_right(out[0].transpose(0, 1), reference.attention_packed, *packed)


@interpreted
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of NumPy, which interprets
@pytest.mark.parametrize("config", WAYS_IN, ids=lambda config: config.name)
def test_infinite_values_reach_only_blocks_that_see_them(config):
    q, k, v = make(1, 1, 1, 40, 64)
    v[:, :, 0] = torch.inf
    assert (launched(q, k, v, config=config) == torch.inf).all()  # each query sees the first key; no zero met it
    q, k, v = make(1, 1, 1, 70, 64, context=100)
    v[:, :, 64:] = torch.inf  # the first 32 queries see 62 keys at most
    out = launched(q, k, v, Variant(keys_per_part=32), config)
    assert out[:, :, :32].isfinite().all()
    assert not out[:, :, 64:].isfinite().any()


@interpreted
@pytest.mark.parametrize("order", ["loops", "overlapped"])
@pytest.mark.parametrize("blocks", [(64, 16), (16, 64)])
def test_windows_and_blocks_of_any_ratio(blocks, order):
    q, k, v = make(1, 1, 1, 50, 64, "fp32")
    operands = "pointers" if order == "loops" else "own_descriptors"
    config = AttentionConfig(*blocks, 4, 1, operands, order)
    for window in (1, 16, 17, 33, 50):
        out = launched(q, k, v, Variant("window", window), config)
        assert is_right(out, reference.attention_window, q, k, v, window=window), window
        if window == 1:
            assert torch.equal(out, v)  # a weight of exactly 1
    torch.testing.assert_close(out, attention.attention_prefill(q, k, v), rtol=1e-5, atol=1e-5)


def test_a_window_longer_than_the_context_is_causal(device):
    q, k, v = make(1, 1, 1, 20, 64, "fp32", device)
    for window in (20, 21, 2**40):
        out = attention.attention_window(q, k, v, window=window)
        torch.testing.assert_close(out, attention.attention_prefill(q, k, v), rtol=1e-5, atol=1e-5)


@interpreted
def test_wrong_masks_are_caught():
    q, k, v = make(1, 1, 1, 80, 64)
    for window in (12, 14):
        assert not is_right(
            launched(q, k, v, Variant("window", window)), reference.attention_window, q, k, v, window=13
        )
    assert not is_right(launched(q, k, v, Variant("full")), reference.attention_prefill, q, k, v)
    # One key more in the context than there is: every query stands one key too far to the left.
    longer = torch.cat((k, k[:, :, :1]), dim=2), torch.cat((v, v[:, :, :1]), dim=2)
    assert not is_right(launched(q, *longer), reference.attention_prefill, q, k, v)
    parts = Variant(keys_per_part=32)
    chunk = make(1, 1, 1, 5, 64, context=100)
    assert is_right(launched(*chunk, parts), reference.attention_chunk, *chunk)
    assert not is_right(launched(*chunk, parts, parts=3), reference.attention_chunk, *chunk)


@interpreted
@pytest.mark.parametrize("section", [1, 4, 100])
def test_every_block_of_every_head_has_a_program(section):
    q, k, v = make(2, 3, 3, 33, 64)
    assert is_right(launched(q, k, v, section=min(section, 6)), reference.attention_prefill, q, k, v)


def test_a_chunk_of_all_tokens_is_a_prompt(device):
    q, k, v = make(1, 2, 1, 70, 64, "fp16", device)
    assert torch.equal(attention.attention_chunk(q, k, v, config=None), attention.attention_prefill(q, k, v))


def test_the_log_sum_exp_of_each_row(device):
    q, k, v = make(1, 4, 2, 70, 64, "fp32", device)
    out, lse = attention.attention_forward(q, k, v)
    assert torch.equal(out, attention.attention_prefill(q, k, v))
    scores = (q.double() @ k.double().repeat_interleave(2, dim=1).mT / 8).masked_fill(
        torch.ones(70, 70, dtype=torch.bool, device=device).triu(1), -torch.inf
    )
    torch.testing.assert_close(lse.double(), scores.logsumexp(dim=-1), rtol=1e-6, atol=1e-5)


def test_large_scores_do_not_overflow(device):
    q, k, v = (30 * tensor for tensor in make(1, 2, 1, 70, 64, "fp32", device))
    for run, meaning, dims in OPS.values():
        # Exponents to 10^4 are rounded at 10^4 * 2^-24 = 6e-4, which is how much the weights of values to 100 are off.
        torch.testing.assert_close(run(q, k, v), meaning(q, k, v, **dims).float(), rtol=1e-3, atol=1e-2)


def test_a_query_that_picks_one_key_gets_its_value(device):
    keys = 100 * torch.eye(64, dtype=torch.float16, device=device).view(1, 1, 64, 64)
    values = torch.randn(1, 1, 64, 64, dtype=torch.float16, device=device)
    order = torch.randperm(64, device=device)
    assert torch.equal(attention.attention_full(keys[:, :, order], keys, values), values[:, :, order])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of NumPy, which interprets
def test_what_is_not_a_number_stays_in_its_head_and_sequence(device):
    q, k, v = make(2, 2, 2, 20, 64, "fp16", device)
    k[0, 1], v[1, 0] = torch.nan, torch.nan
    for run, _, _ in OPS.values():
        spoilt = run(q, k, v).isnan().any(dim=(2, 3))
        assert spoilt.tolist() == [[False, True], [True, False]]
    q, k, v, offsets = make_packed((30, 21, 29), 2, 1, 64, "fp16", device)
    k[30:51], v[30:51] = torch.inf, torch.nan
    spoilt = attention.attention_packed(q, k, v, offsets).isnan().any(dim=(1, 2))
    assert not spoilt[:30].any()
    assert spoilt[30:51].all()
    assert not spoilt[51:].any()


@interpreted
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("config", WAYS_IN[1:], ids=lambda config: config.name)
def test_the_next_sequence_is_not_read_by_descriptors_either(config):
    q, k, v, offsets = make_packed((30, 21), 1, 1, 64)
    k[30:], v[30:] = torch.nan, torch.nan
    rows = (tensor.transpose(0, 1).unsqueeze(0) for tensor in (q, k, v))
    out = launched(*rows, Variant(offsets=offsets), config)
    assert not out[0, 0, :30].isnan().any()


def test_any_strides(device):
    cache = torch.randn(2, 60, 2, 2, 64, dtype=torch.float16, device=device)  # 2 heads' keys and values lie together
    k, v = (cache[:, 20:53, :, index].transpose(1, 2) for index in range(2))
    wide = torch.randn(2, 2, 33, 65, dtype=torch.float16, device=device)  # rows of 130 bytes: no descriptor takes them
    tensors = (wide[..., 1:], k, v)
    for run, meaning, dims in OPS.values():
        assert is_right(run(*tensors), meaning, *tensors, **dims)
    every_head_the_same = torch.randn(1, 1, 33, 64, dtype=torch.float16, device=device).expand(2, 2, -1, -1)
    overlapping = torch.randn(500, dtype=torch.float16, device=device).as_strided((2, 2, 33, 64), (200, 100, 1, 1))
    for q in (every_head_the_same, overlapping):
        assert is_right(attention.attention_prefill(q, k, v), reference.attention_prefill, q, k, v)
    same_keys = every_head_the_same[:, :, :1].expand(-1, -1, 33, -1)
    for tensors in ((k, wide[..., :64], v), (k, same_keys, v)):
        assert is_right(attention.attention_prefill(*tensors), reference.attention_prefill, *tensors)


def spread(shape, strides, device):
    """Random numbers far apart in memory that is reserved but never touched."""
    size = sum((length - 1) * stride for length, stride in zip(shape, strides, strict=True)) + 1
    return torch.empty(size, dtype=torch.float16, device=device).as_strided(shape, strides).normal_()


@interpreted
def test_addresses_beyond_31_bits():
    far = 2**31 + 64
    q, k, v = (spread((2, 1, 20, 64), (far, 64, 64, 1), "cpu") for _ in range(3))
    assert is_right(launched(q, k, v), reference.attention_prefill, q, k, v)
    q, k, v = (spread((1, 2, 20, 64), (64, far, 64, 1), "cpu") for _ in range(3))
    for variant in (CAUSAL, Variant("window", 20), Variant(pack=2, keys_per_part=16)):
        kv = (k[:, :1], v[:, :1]) if variant.pack == 2 else (k, v)
        assert is_right(launched(q, *kv, variant), reference.attention_prefill, q, *kv), variant
    q, k, v = (spread((1, 1, 516, 64), (64, 64, 2**22, 1), "cpu") for _ in range(3))
    last = q[:, :, -8:]
    assert is_right(launched(last, k, v, config=AttentionConfig(16, 64, 4, 1)), reference.attention_chunk, last, k, v)


@pytest.mark.parametrize("op", [attention.attention_prefill, attention.attention_full, attention.attention_chunk])
def test_bad_inputs_are_refused(op, device):
    def call(heads=4, kv_heads=2, length=8, v_length=8, dtype=torch.float32):
        q = torch.ones(1, heads, 8, 64, device=device)
        op(q, *(torch.ones(1, kv_heads, n, 64, device=device, dtype=dtype) for n in (length, v_length)))

    assert_mismatches_are_refused(call)
    with pytest.raises(ValueError, match="must have shape"):
        op(torch.ones(64, device=device), *[torch.ones(1, 2, 8, 64, device=device)] * 2)


def test_unsupported_inputs_are_refused(device):
    def calls(x, **options):
        offsets = torch.tensor([0, x.shape[2]], dtype=torch.int32, device=device)
        yield lambda: attention.attention_prefill(x, x, x, **options)
        yield lambda: attention.attention_full(x, x, x, **options)
        yield lambda: attention.attention_window(x, x, x, window=2, **options)
        yield lambda: attention.attention_chunk(x, x, x, **options)
        yield lambda: attention.attention_packed(*[x[0].transpose(0, 1)] * 3, offsets, **options)

    for x, message in (
        (torch.ones(1, 1, 4, 96, device=device), "does not support head_dim=96; supported: 64, 128, 256"),
        (torch.ones(1, 1, 4, 64, device=device, dtype=torch.float64), "not support fp64; supported: fp32, bf16, fp16"),
        (torch.ones(1, 1, 4, 128, device=device)[..., ::2], "head_dim must have stride 1, not 2"),
    ):
        for call in calls(x):
            with pytest.raises(Unsupported, match=message):
                call()
    x = torch.ones(1, 1, 4, 64, device=device)
    for call in calls(x, config=attention.HOPPER_128):
        with pytest.raises(Unsupported, match=f"{attention.HOPPER_128.name} is not supported: IEEE fp32 is"):
            call()
    with pytest.raises(ValueError, match="window=0 must be at least 1"):
        attention.attention_window(x, x, x, window=0)
    far = torch.empty(2**22 + 65, device=device).as_strided((1, 1, 2, 64), (64, 64, 2**22 + 1, 1))
    with pytest.raises(Unsupported, match="does not support a stride of 4194305"):
        attention.attention_prefill(far, far, far)


@interpreted
def test_the_interpreter_refuses_what_it_would_compute_wrongly_or_its_target_lacks():
    x = torch.ones(1, 1, 4, 64, dtype=torch.bfloat16)
    with pytest.raises(Unsupported, match="interpreter computes bf16"):
        attention.attention_prefill(x, x, x)
    x = x.half()
    with pytest.raises(Unsupported, match="not supported: sm80 has no hardware for descriptors"):
        attention.attention_prefill(x, x, x, config=attention.HOPPER_128)


@pytest.mark.parametrize(("architecture", "dtype"), [*itertools.product(ARCHITECTURES, ("fp32", "bf16", "fp16"))])
def test_every_choice_can_serve_and_is_tuned(architecture, dtype):
    target, offsets = Target(architecture, 100), torch.zeros(3, dtype=torch.int32)
    variants = (
        *(CAUSAL, Variant("full"), Variant("window", 9), Variant(offsets=offsets)),
        *(Variant(keys_per_part=256), Variant(pack=4), Variant(pack=4, keys_per_part=256)),
    )
    for head_dim, variant, describable in itertools.product((64, 128, 256), variants, (True, False)):
        config = attention.choose_config(
            head_dim=head_dim, dtype=dtype, target=target, variant=variant, describable=describable
        )
        assert config in attention.CONFIGS
        assert attention.why_not(config, dtype, target, variant) is None
        assert describable or config.operands == "pointers"


def test_each_architecture_has_configurations_of_its_own():
    hopper, blackwell, ada = Target(90, 132), Target(100, 148), Target(89, 128)
    assert attention.why_not(attention.HOPPER_SPECIALIZED, "bf16", hopper) is None
    packed = Variant(offsets=torch.zeros(2, dtype=torch.int32))
    assert attention.why_not(attention.HOPPER_128, "bf16", hopper, packed) is None
    for config, target, variant, reason in (
        (attention.HOPPER_SPECIALIZED, hopper, packed, "not for varlen"),
        (attention.BLACKWELL_128, hopper, CAUSAL, "four warps with descriptors of their own"),
        (attention.BLACKWELL_128, blackwell, packed, "descriptors of each program"),
        (attention.BLACKWELL_128, Target(120, 170), CAUSAL, "only sm90 and sm100"),
        (attention.HOPPER_SPECIALIZED, hopper, Variant(pack=4), "queries by pointers"),
        (attention.HOPPER_128, ada, CAUSAL, "no hardware for descriptors"),
        (attention.HOPPER_128, blackwell, CAUSAL, "only sm90 overlaps"),
        (replace(attention.AMPERE_128, order="overlapped"), hopper, CAUSAL, "of blocks that come by descriptors"),
        (attention.HOPPER_64, hopper, packed, "varlen by the host's descriptors needs loops"),
    ):
        assert reason in attention.why_not(config, "bf16", target, variant)


def test_a_tuner_leaves_out_what_would_be_padding_or_spill():
    def tried(**dims):
        return {
            config for config in attention.CONFIGS if attention.contends(config, {"heads": 32, "kv_heads": 8, **dims})
        }

    long = tried(seq=8192, head_dim=128)
    assert attention.HOPPER_128 in long
    assert attention.AMPERE_256 in long
    # At head_dim 256 sums, scores and weights are 128 x (256 + 2*128) numbers in 256 threads.
    assert attention.HOPPER_128 not in tried(seq=8192, head_dim=256)
    assert attention.HOPPER_256 in tried(seq=8192, head_dim=256)
    assert all(config.block_m <= 64 for config in tried(tokens=20, head_dim=128))
    assert attention.HOPPER_128 in tried(queries=32, head_dim=128)  # 128 rows of a group


def test_a_short_chunk_shares_blocks_and_a_long_context_is_cut():
    def chunk(queries, context, batch=1, heads=32):
        return AttentionSizes(batch, queries, context, heads, 8, 128)

    assert attention.is_verification(chunk(8, 8192), "bf16")  # 32 rows
    assert not attention.is_verification(chunk(17, 8192), "bf16")
    assert not attention.is_verification(chunk(16, 8192, heads=64), "bf16")  # 128 rows
    # 32 queries of 4 heads are a block: 8 of them, and 2 programs for each of 132 SMs take a part of 264/8 = 33 each.
    config, variant = attention.choose_chunk(chunk(32, 16384), dtype="bf16", target=Target(90, 132), describable=True)
    assert config == replace(attention.HOPPER_128, order="one_loop")
    assert (variant.pack, variant.keys_per_part) == (4, 512)  # 16384/33 = 496.5 keys, in blocks of 128
    # At least 256 keys to a part.
    assert attention.split_chunk(chunk(32, 600), config, Target(90, 132)) == Variant(pack=4, keys_per_part=384)
    # 512 queries are 4 blocks of 32 heads: 128 programs, of which an H200 holds twice as many.
    assert attention.split_chunk(chunk(512, 8192), config, Target(90, 132)) == Variant(keys_per_part=4096)
    assert attention.split_chunk(chunk(512, 8192, batch=8), config, Target(90, 132)) == Variant()


def test_offsets_are_never_read_by_the_host():
    offsets = torch.empty(9, dtype=torch.int32, device="meta")  # has no numbers to be read
    q = torch.empty(1, 4, 1000, 64, dtype=torch.float16, device="meta")
    (launch,) = attention.plan_attention(q, q, q, q, config=SMALL, variant=Variant(offsets=offsets))
    assert launch.grid == ((32 + 8) * 4, 1)  # 1000 tokens in blocks of 32, and a block more for each sequence


def test_more_queries_than_context_are_refused(device):
    q, k, v = make(1, 2, 2, 9, 64, "fp16", device, context=5)
    with pytest.raises(ValueError, match="9 queries are more than the context of 5"):
        attention.attention_chunk(q, k, v)


@pytest.mark.gpu
@pytest.mark.exhaustive
@pytest.mark.parametrize("head_dim", [64, 128, 256])
@pytest.mark.parametrize("config", [None, *attention.CONFIGS], ids=lambda config: config.name if config else "default")
def test_every_configuration_is_right_on_a_gpu(config, head_dim, device):
    tensors = make(2, 8, 2, 333, head_dim, "bf16", device)
    chunk = make(1, 8, 2, 45, head_dim, "bf16", device, context=1100)
    packed = make_packed((200, 0, 1, 333, 128), 8, 2, head_dim, "bf16", device)
    for run, meaning, inputs, dims in (
        (attention.attention_prefill, reference.attention_prefill, tensors, {}),
        (attention.attention_full, reference.attention_full, tensors, {}),
        (attention.attention_window, reference.attention_window, tensors, {"window": 100}),
        (attention.attention_chunk, reference.attention_chunk, chunk, {}),
        (attention.attention_packed, reference.attention_packed, packed, {}),
    ):
        try:
            out = run(*inputs, **dims, config=config)
        except (Unsupported, OutOfResources):
            assert config is not None
            continue
        assert is_right(out, meaning, *inputs, **dims), run.__name__
