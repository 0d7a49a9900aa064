from dataclasses import replace

import pytest
import torch

from kernels import reference
from kernels.constants import ARCHITECTURES

pytest.importorskip("triton")
from kernels.triton.attention import decode
from kernels.triton.attention.decode import Cache, DecodeConfig, Tile
from kernels.triton.plan import Target

DTYPES = ("fp32", "fp16", pytest.param("bf16", marks=pytest.mark.gpu))
TORCH = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
FP8 = torch.float8_e4m3fn
# batch, heads, kv_heads, context, head_dim: one key, ragged and whole blocks; groups of 1, 4, 7 and 16
SHAPES = (
    (3, 2, 2, 1, 64),
    (1, 8, 2, 17, 128),
    (1, 14, 2, 64, 64),
    (3, 16, 1, 65, 64),
    (1, 4, 1, 200, 256),
    (1, 1, 1, 200, 64),
)
SMALL = DecodeConfig(16, 4, 2)
GARBAGE = 10**9  # as a page, it would be far outside

interpreted = pytest.mark.skipif(torch.cuda.is_available(), reason="looks into memory that only the interpreter shares")


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def make(batch, heads, kv_heads, context, head_dim, dtype, device):
    """One query a sequence, k and v; strided as they come out of one projection."""
    qkv = torch.randn(batch, context, heads + 2 * kv_heads, head_dim, dtype=TORCH[dtype], device=device).transpose(1, 2)
    q, k, v = qkv.split((heads, kv_heads, kv_heads), dim=1)
    return q[:, :, -1], k, v


def allowed_error(op, tensors, dtype):
    """Twice what a plain computation in this format is off by, and the rounding of the output."""
    truth = op(*tensors)
    plain = (op(*tensors, precision=dtype).double() - truth).abs().max()
    return 2 * plain + 2 * torch.finfo(TORCH[dtype]).eps * truth.abs().max()


def error(actual, op, tensors):
    return (actual.double() - op(*tensors)).abs().max()


def check(actual, op, tensors, dtype):
    assert actual.dtype == tensors[0].dtype
    assert actual.shape == tensors[0].shape
    assert actual.is_contiguous()
    assert error(actual, op, tensors) <= allowed_error(op, tensors, dtype)


def planned(q, cache, *, splits=1, config=SMALL):
    """What the planned launches make of q: (batch, heads, queries, head_dim), where nothing was before."""
    out = torch.full(q.shape, torch.nan, dtype=q.dtype, device=q.device)
    for launch in decode.plan_decode(q, cache, out, splits=splits, config=config):
        launch.run()
    return out


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_decode(shape, dtype, device):
    tensors = make(*shape, dtype, device)
    check(decode.attention_decode(*tensors), reference.attention_decode, tensors, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("queries", "heads", "kv_heads", "context", "head_dim"),
    [(1, 4, 1, 65, 64), (2, 14, 2, 2, 64), (5, 4, 1, 17, 128), (8, 8, 2, 200, 64), (16, 4, 1, 65, 64)],
)
def test_verify(queries, heads, kv_heads, context, head_dim, dtype, device):
    q = torch.randn(2, heads, queries, head_dim, dtype=TORCH[dtype], device=device)
    k, v = (torch.randn(2, kv_heads, context, head_dim, dtype=TORCH[dtype], device=device) for _ in range(2))
    check(decode.attention_verify(q, k, v), reference.attention_chunk, (q, k, v), dtype)


@pytest.mark.parametrize(("heads", "queries"), [(8, 16), (71, 1), (128, 1)])
def test_as_many_rows_as_registers_hold(heads, queries, device):
    """71 heads share one K/V head in Falcon-7B."""
    q = torch.randn(1, heads, queries, 64, dtype=torch.float16, device=device)
    k, v = (torch.randn(1, 1, 40, 64, dtype=torch.float16, device=device) for _ in range(2))
    check(decode.attention_verify(q, k, v), reference.attention_chunk, (q, k, v), "fp16")


def test_verifying_one_token_is_decoding(device):
    q, k, v = make(2, 8, 2, 75, 64, "fp16", device)
    assert torch.equal(decode.attention_verify(q.unsqueeze(2), k, v).squeeze(2), decode.attention_decode(q, k, v))


def test_no_query_sees_a_later_token(device):
    q = torch.randn(1, 4, 3, 64, dtype=torch.float16, device=device)
    k, v = (torch.randn(1, 2, 40, 64, dtype=torch.float16, device=device) for _ in range(2))
    before = decode.attention_verify(q, k, v)
    k[:, :, -1], v[:, :, -1] = torch.nan, torch.nan
    after = decode.attention_verify(q, k, v)
    assert after[:, :, 2].isnan().all()
    # The last value is weighed by 0 in the other rows, but it lies in their block: what is not a number spreads there.
    k[:, :, -1], v[:, :, -1] = 1e4, 6e4
    after = decode.attention_verify(q, k, v)
    assert torch.equal(after[:, :, :2], before[:, :, :2])
    assert not torch.equal(after[:, :, 2], before[:, :, 2])


@pytest.mark.parametrize("splits", [2, 3, 7, 256])
def test_splits_agree_and_repeat(splits, device):
    q, k, v = make(2, 4, 1, 150, 64, "fp32", device)
    once, parts, again = (decode.attention_decode(q, k, v, splits=n, config=SMALL) for n in (1, splits, splits))
    torch.testing.assert_close(parts, once, rtol=1e-5, atol=1e-6)
    assert torch.equal(parts, again)
    check(parts, reference.attention_decode, (q, k, v), "fp32")


def test_splits_agree_where_rows_see_no_key_of_a_split(device):
    """16 queries over 33 keys in splits of 16: the last split holds one key, that only the last query sees."""
    q = torch.randn(1, 2, 16, 64, device=device)
    k, v = (torch.randn(1, 1, 33, 64, device=device) for _ in range(2))
    once, parts = (planned(q, Cache(k, v), splits=n) for n in (1, 3))
    torch.testing.assert_close(parts, once, rtol=1e-5, atol=1e-6)
    check(parts, reference.attention_chunk, (q, k, v), "fp32")


def test_any_strides_and_what_lies_between_and_beyond_is_not_read(device):
    store = torch.full((2, 96, 3, 2, 64), torch.nan, dtype=torch.float16, device=device)
    k, v = store[:, :90:2, 0].transpose(1, 2).normal_(), store[:, 1:90:2, 2].transpose(1, 2).normal_()
    q = torch.randn(2, 16, 64, dtype=torch.float16, device=device)[:, ::2]
    check(decode.attention_decode(q, k, v), reference.attention_decode, (q, k, v), "fp16")
    wide = torch.randn(2, 3, 8, 64, dtype=torch.float16, device=device).transpose(1, 2)
    check(decode.attention_verify(wide, k, v), reference.attention_chunk, (wide, k, v), "fp16")


@pytest.mark.parametrize("splits", [1, 4])
def test_large_scores_and_one_key_that_takes_all(splits, device):
    """Scores of 3e4 and more; where one is larger by over 200, its value is the result to the last bit."""
    q, k, v = (tensor.contiguous() for tensor in make(1, 4, 1, 60, 64, "fp16", device))
    k[0, 0, 37] = 64 * q[0, 0].sign()
    q = 64 * q[:, :1].sign().repeat(1, 4, 1)
    out = decode.attention_decode(q, k, v, splits=splits, config=SMALL)
    assert torch.equal(out, v[:, :1, 37].expand(1, 4, 64))
    assert not decode.attention_decode(q * 500, 500 * k, v, splits=splits, config=SMALL).isnan().any()


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # what no row is made of: 0 * inf
def test_a_key_of_weight_zero_changes_nothing(device):
    """Its score is -inf, and it is the first that is met."""
    q, k, v = (tensor.float().contiguous() for tensor in make(1, 2, 1, 16, 64, "fp16", device))
    q[..., 0] = 1.0
    k = torch.cat((k[:, :, :1], k), dim=2)
    v = torch.cat((v[:, :, :1], v), dim=2)
    k[:, :, 0, 0] = -torch.inf
    out = decode.attention_decode(q, k, v, splits=1, config=SMALL)
    expected = reference.attention_decode(q, k[:, :, 1:], v[:, :, 1:])
    torch.testing.assert_close(out, expected.float(), rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore:All-NaN slice:RuntimeWarning")  # the interpreter's maximum of a row
@pytest.mark.parametrize("splits", [1, 3])
def test_nan_stays_with_its_sequence_and_head(splits, device):
    q, k, v = (tensor.contiguous() for tensor in make(2, 4, 2, 40, 64, "fp16", device))
    k[0, 1, 35, 3] = torch.nan
    v[1, 0, 2, 7] = torch.nan
    q[1, 3, 5] = torch.nan
    bad = torch.zeros(2, 4, 64, dtype=torch.bool, device=device)
    bad[0, 2:], bad[1, :2, 7], bad[1, 3] = True, True, True
    assert torch.equal(decode.attention_decode(q, k, v, splits=splits, config=SMALL).isnan(), bad)


def test_keys_beyond_two_to_the_31_elements_are_found(device):
    """Keys 2**22 elements apart: key 512 begins at element 2**31. On a CPU memory that nobody touches is never there,
    on a GPU it is 4.3 GB."""
    stride, context, head_dim = 2**22, 514, 64
    options = {"dtype": torch.float16, "device": device}
    k = torch.empty(context * stride, **options).as_strided((1, 1, context, head_dim), (0, 0, stride, 1))
    k[:] = torch.randn(1, 1, context, head_dim)
    v, q = torch.randn(1, 1, context, head_dim, **options), torch.randn(1, 2, head_dim, **options)
    for tensors in ((q, k, v), (q, v, k)):
        for splits in (1, 5):  # five blocks of 128: the last part begins there
            out = decode.attention_decode(*tensors, splits=splits, config=decode.BLOCK_128)
            check(out, reference.attention_decode, tensors, "fp16")


def paged(lengths, page, dtype, device, *, kv_heads=1, head_dim=64, order="scattered"):
    """A cache of pages as large as the longest sequence and one more needs, half of them full of what is not a number;
    a table whose unused entries are garbage; lengths."""
    most = -(-max(lengths) // page) + 1
    count = 2 * len(lengths) * most
    k, v = (torch.randn(count, kv_heads, page, head_dim, dtype=TORCH[dtype], device=device) for _ in range(2))
    numbers = torch.randperm(count)[: count // 2]
    unused = torch.ones(count, dtype=torch.bool)
    unused[numbers] = False
    k[unused.to(device)], v[unused.to(device)] = torch.nan, torch.nan
    if order == "reversed":
        numbers = numbers.sort(descending=True).values
    elif order == "repeated":
        numbers[:] = numbers[0]
    table = numbers.view(len(lengths), most).int()
    for row, length in enumerate(lengths):
        used = -(-length // page)
        table[row, used:] = GARBAGE
        if used:  # tokens after the last: whatever was there before
            k[table[row, used - 1], :, (length - 1) % page + 1 :] = torch.nan
            v[table[row, used - 1], :, (length - 1) % page + 1 :] = torch.inf
    return k, v, table.to(device), torch.tensor(lengths, dtype=torch.int32, device=device)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("page", "order", "lengths"),
    [
        (16, "scattered", (0, 1, 15, 16, 17, 100)),
        (64, "reversed", (63, 64, 65, 0)),
        (256, "scattered", (255, 256, 257)),
        (32, "repeated", (96,)),
    ],
)
def test_paged(page, order, lengths, dtype, device):
    cache = paged(lengths, page, dtype, device, order=order)
    tensors = (torch.randn(len(lengths), 4, 64, dtype=TORCH[dtype], device=device), *cache)
    out = decode.attention_paged(*tensors)
    check(out, reference.attention_paged, tensors, dtype)
    assert not out[[length == 0 for length in lengths]].any()


@pytest.mark.parametrize("splits", [1, 2, 7])
def test_sequences_of_any_length_share_their_number_of_splits(splits, device):
    """Seven splits of at least 16 keys: of 70 keys five, of 17 two, of none none."""
    k, v, table, lengths = paged((70, 0, 17, 1), 16, "fp32", device)
    q = torch.randn(4, 2, 64, device=device)
    cache = Cache(k, v, table=table, lengths=lengths)
    out = planned(q.unsqueeze(2), cache, splits=splits).squeeze(2)
    check(out, reference.attention_paged, (q, k, v, table, lengths), "fp32")
    assert not out[1].any()


@pytest.mark.parametrize("page", [16, 64])
@pytest.mark.parametrize("splits", [1, 3])
def test_pages_give_the_same_bits_as_one_piece(page, splits, device):
    """Blocks of 32 keys: pages of half a block and of two. Sequences of several lengths, each beside its own alone."""
    lengths = (130, 97, 16)
    k, v, table, on_device = paged(lengths, page, "fp16", device, kv_heads=2)
    q = torch.randn(3, 6, 1, 64, dtype=torch.float16, device=device)
    config = DecodeConfig(32, 4, 3)
    out = planned(q, Cache(k, v, table=table, lengths=on_device), splits=splits, config=config)
    for row, length in enumerate(lengths):
        whole = (in_one_piece(cache, table[row : row + 1, : -(-length // page)], length) for cache in (k, v))
        expected = planned(q[row : row + 1], Cache(*whole), splits=splits, config=config)
        assert torch.equal(out[row : row + 1], expected)


def in_one_piece(cache, table, length):
    """(batch, kv_heads, length, head_dim), of pages."""
    return cache[table.long()].transpose(1, 2).flatten(2, 3)[:, :, :length].contiguous()


@pytest.mark.parametrize("page", [16, 32, 64, 128, 256])
def test_whole_pages_are_decoded_to_the_same_bits(page, device):
    """As they are launched: one choice of splits and configuration for 512 tokens, whatever they lie in."""
    k, v, table, lengths = paged((512, 512), page, "fp16", device)
    table = table[:, : 512 // page].contiguous()
    q = torch.randn(2, 4, 64, dtype=torch.float16, device=device)
    expected = decode.attention_decode(q, *(in_one_piece(each, table, 512) for each in (k, v)))
    assert torch.equal(decode.attention_paged(q, k, v, table, lengths), expected)


def test_a_wrong_page_does_not_pass(device):
    cache = paged((100,), 16, "fp16", device)
    tensors = (torch.randn(1, 4, 64, dtype=torch.float16, device=device), *cache)
    wrong = cache[2].clone()
    wrong[0, 3] = wrong[0, 2]
    out = decode.attention_paged(*tensors[:3], wrong, cache[3])
    assert error(out, reference.attention_paged, tensors) > allowed_error(reference.attention_paged, tensors, "fp16")


def test_a_table_without_columns_holds_empty_sequences(device):
    q, k = torch.ones(2, 2, 64, device=device), torch.ones(3, 1, 16, 64, device=device)
    table, lengths = (torch.zeros(shape, dtype=torch.int32, device=device) for shape in ((2, 0), (2,)))
    assert not decode.attention_paged(q, k, k, table, lengths).any()
    assert not planned(q.unsqueeze(2), Cache(k, k, table=table, lengths=lengths), splits=2).any()


def test_a_length_beyond_the_table_ends_with_it(device):
    k, v, table, lengths = paged((40,), 16, "fp16", device)
    q = torch.randn(1, 2, 64, dtype=torch.float16, device=device)
    full = torch.tensor([48], dtype=torch.int32, device=device)
    table, k, v = table[:, :3], k.nan_to_num(0.5), v.nan_to_num(0.5, posinf=0.5)
    table = table.contiguous()
    assert torch.equal(
        decode.attention_paged(q, k, v, table, lengths + 10**6), decode.attention_paged(q, k, v, table, full)
    )


def test_pages_beyond_two_to_the_31_elements_are_found(device):
    """Pages 2**22 elements apart: page 512 begins at element 2**31."""
    stride, options = 2**22, {"dtype": torch.float16, "device": device}
    pool = torch.empty(520 * stride, **options)
    k, v = (pool.as_strided((520, 1, 16, 64), (stride, 0, 64, 1), first) for first in (0, 16 * 64))
    table = torch.tensor([[519, 0, 513]], dtype=torch.int32, device=device)
    for number in table[0].tolist():
        k[number], v[number] = torch.randn(1, 16, 64), torch.randn(1, 16, 64)
    lengths = torch.tensor([41], dtype=torch.int32, device=device)
    tensors = (torch.randn(1, 2, 64, **options), k, v, table, lengths)
    check(decode.attention_paged(*tensors), reference.attention_paged, tensors, "fp16")


def fp8_tensors(batch, heads, kv_heads, context, head_dim, device, dtype="fp16"):
    q, k, v = make(batch, heads, kv_heads, context, head_dim, dtype, device)
    scales = (torch.rand(kv_heads, device=device) + 0.5 for _ in range(2))
    return q, k.contiguous().to(FP8), v.contiguous().to(FP8), *scales


def by_conversion(q, k, v, k_scale, v_scale, splits=1):
    """As a GPU does that has an instruction for it; `attention_decode_fp8` reads words where there is none."""
    return planned(q.unsqueeze(2), Cache(k, v, scales=(k_scale, v_scale)), splits=splits).squeeze(2)


FP8_WAYS = pytest.mark.parametrize("way", [decode.attention_decode_fp8, by_conversion], ids=["chosen", "converted"])


@FP8_WAYS
@pytest.mark.parametrize(
    "shape", [(3, 2, 2, 1, 64), (1, 8, 2, 65, 128), (2, 7, 1, 100, 64), (1, 16, 1, 17, 256)], ids=str
)
def test_fp8_cache(shape, way, device):
    tensors = fp8_tensors(*shape, device)
    check(way(*tensors), reference.attention_decode_fp8, tensors, "fp16")


@pytest.mark.gpu
def test_fp8_cache_under_bf16_queries(device):
    tensors = fp8_tensors(2, 8, 2, 300, 128, device, dtype="bf16")
    check(decode.attention_decode_fp8(*tensors), reference.attention_decode_fp8, tensors, "bf16")


@FP8_WAYS
def test_every_fp8_number_is_read_exactly(way, device):
    """One key has weight 1: what comes out is its value times the scale. 448 is the largest, 2**-9 the smallest."""
    codes = torch.arange(256, dtype=torch.uint8, device=device)
    codes[codes % 128 == 127] = 0  # no numbers; the interpreter's conversion knows nothing of them
    values = codes.view(4, 1, 1, 64).view(FP8)
    ones = torch.ones(1, device=device)
    q = torch.randn(4, 1, 64, dtype=torch.float16, device=device)
    out = way(q, torch.randn(4, 1, 1, 64, device=device).to(FP8), values, ones, 0.25 * ones)
    assert torch.equal(out, values.half().view(4, 1, 64) * 0.25)
    assert (out.max(), out.min(), out[0, 0, 1]) == (112.0, -112.0, 2.0**-11)


def test_what_is_no_fp8_number_stays_none(device):
    q, k, v, *scales = fp8_tensors(2, 2, 1, 20, 64, device)
    v.view(torch.uint8)[1, 0, 3, 4:6] = torch.tensor([127, 255], dtype=torch.uint8)
    bad = torch.zeros(2, 2, 64, dtype=torch.bool, device=device)
    bad[1, :, 4:6] = True
    assert torch.equal(decode.attention_decode_fp8(q, k, v, *scales).isnan(), bad)


@FP8_WAYS
def test_every_fp8_key_has_its_score(way, device):
    """One key for each number, which is its score; the value of key i is the i-th unit vector, so that weights come
    out. Numbers to 448 under a scale of 1/64 are scores to 7."""
    codes = torch.arange(256, dtype=torch.uint8, device=device)
    codes[codes % 128 == 127] = 0  # no number
    k = torch.zeros(1, 1, 256, 256, dtype=torch.uint8, device=device)
    k[0, 0, :, 5] = codes
    q = torch.zeros(1, 1, 256, dtype=torch.float16, device=device)
    q[..., 5] = 16.0  # and 1/sqrt(256)
    scale = torch.tensor([1 / 64], device=device)
    out = way(q, k.view(FP8), torch.eye(256, device=device).to(FP8).view(1, 1, 256, 256), scale, 64 * scale)
    expected = torch.softmax(codes.view(FP8).double() / 64, dim=0)
    torch.testing.assert_close(out.double().view(-1), expected, rtol=2**-9, atol=2**-24)


def test_a_wrong_scale_does_not_pass(device):
    tensors = fp8_tensors(1, 4, 2, 65, 64, device)
    allowed = allowed_error(reference.attention_decode_fp8, tensors, "fp16")
    for index in (3, 4):
        wrong = [tensor.flip(0) if position == index else tensor for position, tensor in enumerate(tensors)]
        assert error(decode.attention_decode_fp8(*wrong), reference.attention_decode_fp8, tensors) > allowed


@interpreted
@pytest.mark.parametrize("magnitude", [1e-30, 1.0, 1e30])
def test_queries_of_any_magnitude_meet_fp8_keys(magnitude, device):
    """bf16 reaches where fp16 does not; fp32 takes the same way through the kernel, and the interpreter knows it."""
    q, k, v, k_scale, v_scale = fp8_tensors(1, 4, 1, 50, 64, device)
    wide = q.float().mul(magnitude)
    wide[0, 1] = 0.0
    k_scale = k_scale / magnitude
    out = by_conversion(wide, k, v, k_scale, v_scale)
    truth = reference.attention_decode_fp8(wide, k, v, k_scale, v_scale)
    assert (out.double() - truth).abs().max() <= allowed_error(
        reference.attention_decode_fp8, (wide.mul(1 / magnitude).half(), k, v, k_scale * magnitude, v_scale), "fp16"
    )


def assert_mismatches_are_refused(call):
    """Of heads, shapes and formats of K and V, and no keys at all."""
    with pytest.raises(ValueError, match="multiple of kv_heads=3"):
        call(kv_heads=3)
    with pytest.raises(ValueError, match="v must have shape"):
        call(v_length=7)
    with pytest.raises(ValueError, match="share one dtype"):
        call(dtype=torch.float16)
    with pytest.raises(ValueError, match="must be at least 1"):
        call(length=0, v_length=0)


def test_bad_inputs_are_refused(device):
    def call(heads=4, kv_heads=2, length=8, v_length=8, dtype=torch.float32):
        k, v = (torch.ones(1, kv_heads, n, 64, device=device, dtype=dtype) for n in (length, v_length))
        decode.attention_decode(torch.ones(1, heads, 64, device=device), k, v)

    assert_mismatches_are_refused(call)
    x = torch.ones(1, 2, 8, 64, device=device)
    with pytest.raises(ValueError, match="must have shape"):
        decode.attention_decode(torch.ones(64, device=device), x, x)
    with pytest.raises(ValueError, match="8 queries are more than the context of 7"):
        decode.attention_verify(x, x[:, :, :7], x[:, :, :7])


def test_unsupported_inputs_are_refused(device):
    def call(x, **options):
        decode.attention_decode(x[:, :, 0], x, x, **options)

    with pytest.raises(ValueError, match="does not support head_dim=96; supported: 64, 128, 256"):
        call(torch.ones(1, 1, 4, 96, device=device))
    with pytest.raises(ValueError, match="does not support fp64; supported: fp32, bf16, fp16"):
        call(torch.ones(1, 1, 4, 64, device=device, dtype=torch.float64))
    with pytest.raises(ValueError, match="stride 1, not 2"):
        call(torch.ones(1, 1, 4, 128, device=device)[..., ::2])
    with pytest.raises(ValueError, match="does not support a stride"):
        call(torch.ones(1, 1, 1, 64, device=device).as_strided((1, 1, 1, 64), (0, 0, 2**23, 1)))
    x = torch.ones(1, 1, 4, 64, device=device)
    for splits in (0, 257):
        with pytest.raises(ValueError, match=f"splits={splits} is not supported; supported: 1 to 256"):
            call(x, splits=splits)
    with pytest.raises(ValueError, match=r"64-w4-s3 is not supported: IEEE fp32 is computed .* at most 32 keys"):
        call(x, config=decode.BLOCK_64)
    with pytest.raises(ValueError, match=r"256-w4-s9 is not supported: .* bytes of shared memory, of which there are"):
        call(x.half(), config=DecodeConfig(256, 4, 9))


def test_more_rows_than_fit_are_refused(device):
    def verify(queries, heads, head_dim, dtype=torch.float16):
        x = torch.ones(1, 1, 20, head_dim, dtype=dtype, device=device)
        decode.attention_verify(torch.ones(1, heads, queries, head_dim, dtype=dtype, device=device), x, x)

    with pytest.raises(ValueError, match="17 queries are not supported; supported: 1 to 16"):
        verify(17, 1, 64)
    with pytest.raises(ValueError, match="are 144 rows; supported in fp16 at head_dim=128: to 128"):
        verify(16, 9, 128)
    with pytest.raises(ValueError, match="1 queries of 129 heads for each K/V head are 129 rows; supported in fp16 at"):
        verify(1, 129, 64)
    with pytest.raises(ValueError, match="are 80 rows; supported in fp16 at head_dim=256: to 64"):
        verify(16, 5, 256)
    with pytest.raises(ValueError, match="are 64 rows; supported in fp32 at head_dim=128: to 32"):
        verify(16, 4, 128, torch.float32)
    q, k = torch.ones(1, 33, 256, dtype=torch.float16, device=device), torch.ones(1, 1, 9, 256, device=device).to(FP8)
    with pytest.raises(ValueError, match="are 33 rows; supported in fp8 at head_dim=256: to 32"):
        decode.attention_decode_fp8(q, k, k, *[torch.ones(1, device=device)] * 2)


def test_unsupported_caches_are_refused(device):
    q = torch.ones(1, 2, 64, dtype=torch.float16, device=device)
    one = torch.ones(1, device=device)
    table, lengths = (torch.zeros(shape, dtype=torch.int32, device=device) for shape in ((1, 4), (1,)))
    for page in (8, 48, 512):
        k = torch.ones(4, 1, page, 64, dtype=torch.float16, device=device)
        with pytest.raises(ValueError, match=f"does not support page={page}; supported: 16, 32, 64, 128, 256"):
            decode.attention_paged(q, k, k, table, lengths)
    k = torch.ones(4, 1, 16, 64, dtype=torch.float16, device=device)
    with pytest.raises(ValueError, match="must be contiguous"):
        decode.attention_paged(q, k, k, table.repeat(1, 2)[:, ::2], lengths)
    with pytest.raises(ValueError, match="table must have 2 dimensions"):
        decode.attention_paged(q, k, k, table.long(), lengths)
    k = torch.ones(1, 1, 16, 64, device=device).to(FP8)
    with pytest.raises(ValueError, match="attention_decode_fp8 does not support fp32; supported: bf16, fp16"):
        decode.attention_decode_fp8(q.float(), k, k, one, one)
    with pytest.raises(ValueError, match="k must be fp8, not fp16"):
        decode.attention_decode_fp8(q, k.half(), k.half(), one, one)


@interpreted
def test_words_of_fp8_begin_at_whole_words():
    """What sm80 and sm86 would read, which is what the interpreter stands for."""
    q, one = torch.ones(1, 2, 64).half(), torch.ones(1)
    k = torch.ones(1, 1, 16, 66).to(FP8)[..., :64]
    with pytest.raises(ValueError, match="before sm89 rows of k and v must begin at multiples of 4 bytes"):
        decode.attention_decode_fp8(q, k, k, one, one)
    with pytest.raises(ValueError, match="interpreter computes bf16"):
        decode.attention_decode(q.bfloat16(), k.bfloat16(), k.bfloat16())


def splits(programs, blocks, *, resident=3, sm_count=132):
    tile = Tile(block_bytes=32768, resident=resident)
    return decode.choose_splits(programs, blocks, part_bytes=programs * 4 * 128 * 4, tile=tile, sm_count=sm_count)


def test_a_cache_is_split_where_sms_would_be_idle():
    """Eight K/V heads and 132 SMs: at least three quarters of the programs that fit, and no second round."""
    for resident in (2, 3, 4):
        slots = resident * 132
        assert 0.75 * slots <= 8 * splits(8, 2048, resident=resident) <= slots
    assert 8 * splits(8, 2048, resident=1) % 132 == 0  # no SM idles
    assert splits(8, 1) == 1  # one block cannot be split
    assert splits(8, 10) <= 10
    assert splits(1, 2048) == 256


def test_a_cache_is_not_split_where_whole_rounds_fill_the_sms():
    """396 programs are all that 132 SMs hold: one round without a part to merge."""
    assert splits(396, 64) == 1
    assert splits(792, 64) == 1
    assert splits(400, 64) > 1  # four more would keep all others waiting


def test_no_part_is_empty():
    for blocks in range(1, 50):
        parts = splits(8, blocks)
        assert (parts - 1) * -(-blocks // parts) < blocks


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_chosen_configurations_fit(architecture):
    target = Target(architecture, 132)
    for dtype, most in (("fp32", 32 * 128), ("bf16", 128 * 128), ("fp8", 64 * 128)):
        for head_dim in decode.SUPPORTED_HEAD_DIMS:
            for rows in (16, 32, 64, 128):
                if rows * head_dim <= most:
                    config = decode.choose_config(rows=rows, head_dim=head_dim, dtype=dtype, target=target)
                    assert config in decode.CONFIGS
                    assert decode.why_not(config, rows=rows, head_dim=head_dim, dtype=dtype, target=target) is None


@pytest.mark.parametrize("architecture", [80, 90, 120])
@pytest.mark.parametrize("dtype", decode.SUPPORTED_DTYPES)
def test_launches_are_listed_once_and_cover_every_kind(architecture, dtype):
    target = Target(architecture, 132)
    launches = decode.ahead_of_time(target, dtype)
    names = [(launch.kernel, launch.config) for launch in launches]
    assert len(set(names)) == len(names) <= 14
    text = " ".join(launch.config for launch in launches)
    wanted = ["head_dim 64", "head_dim 128", "head_dim 256", "rows 32 split", "page 16", "page 64 split", "lengths"]
    if dtype != "fp32":
        wanted += ["rows 64", "rows 128", "fp8" if architecture >= 89 else "fp8 in words"]
    assert [kind for kind in wanted if kind not in text] == []
    every = decode.every_configuration(target, dtype)
    assert len({launch.config for launch in every}) == len(every) >= 2


def test_configurations_have_names_of_their_own():
    names = [config.name for config in decode.CONFIGS]
    assert len(set(names)) == len(names)
    assert decode.BLOCK_64.name == "64-w4-s3"
    assert replace(decode.BLOCK_64, num_warps=8).name == "64-w8-s3"
