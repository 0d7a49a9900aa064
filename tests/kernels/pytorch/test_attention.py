"""PyTorch's own attention, against fp64: every row of a CPU as a run calls it, and what stays out of the timing."""

import math

import pytest
import torch
from torch.nn.attention import SDPBackend

from bench.cases import IMPLEMENTATIONS, bind, find_implementation, needed_bytes
from bench.working_memory import working_bytes
from kernels import reference
from kernels.pytorch import attention as eager_attention
from kernels.unsupported import Unsupported
from predict.units import GIB, find_dtype
from predict.workloads import make_workload
from tests.kernels.pytorch.test_eager import inputs_of, is_right

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:kernels.pytorch.attention")  # why an SDPA backend declines

# Groups of 2, lengths that are no multiple of anything.
SQUARE = {"batch": 2, "seq": 37, "heads": 4, "kv_heads": 2, "head_dim": 16}
CACHE = {"batch": 2, "context": 37, "heads": 4, "kv_heads": 2, "head_dim": 16}
DIMS = {
    "attention_prefill": SQUARE,
    "attention_full": SQUARE,
    "attention_window": {**SQUARE, "window": 5},
    "attention_chunk": {**CACHE, "queries": 9},
    "attention_packed": {"tokens": 47, "sequences": 3, "heads": 4, "kv_heads": 2, "head_dim": 16},
    "attention_backward": SQUARE,
    "linear_backward": {"m": 5, "n": 7, "k": 9},
    "attention_decode": CACHE,
    "attention_decode_fp8": CACHE,
    "attention_paged": {**CACHE, "page": 8},
    "attention_mla": {"batch": 2, "context": 37, "heads": 4, "latent": 32, "rope": 8},
}
CPU_ROWS = [row for row in IMPLEMENTATIONS if row.op in DIMS and "cpu" in row.devices and row.package == "torch"]


def named(rows):
    return [pytest.param(row, id=f"{row.op}-{row.name}") for row in rows]


def held_to_reference(row, dims, dtype, device=None):
    """Whether a row is right, called as a run does: prepared, with the dimensions that it takes by keyword."""
    workload = make_workload(row.op, dims, find_dtype(dtype))
    inputs = inputs_of(row.op, dims, dtype, *((device,) if device else ()))
    prepared = None if row.prepare is None else bind(row.prepare, workload)(*inputs)
    return is_right(bind(row.run, workload), bind(row.reference, workload), inputs, dtype, prepared=prepared)


@pytest.mark.parametrize("dtype", ["fp64", "fp32", "bf16", "fp16"])
@pytest.mark.parametrize("row", named(CPU_ROWS))
def test_every_row_of_a_cpu_is_right(row, dtype):
    if dtype not in row.dtypes:
        pytest.skip(f"takes {', '.join(row.dtypes)}")
    assert held_to_reference(row, DIMS[row.op], dtype)


@pytest.mark.parametrize("op", DIMS)
def test_every_op_has_a_row_for_a_cpu_in_every_format(op):
    formats = {dtype for row in CPU_ROWS if row.op == op for dtype in row.dtypes}
    assert formats >= ({"bf16", "fp16"} if op == "attention_decode_fp8" else {"fp32", "bf16", "fp16"})


@pytest.mark.parametrize(
    ("op", "changes"),
    [
        ("attention_window", {"window": 1}),
        ("attention_window", {"window": 37}),
        ("attention_window", {"window": 99}),
        ("attention_chunk", {"queries": 1}),
        ("attention_chunk", {"queries": 37}),
        ("attention_full", {"seq": 1, "kv_heads": 4}),
        ("attention_packed", {"sequences": 47}),
        ("attention_packed", {"sequences": 1}),
        ("attention_backward", {"seq": 2}),
        ("attention_backward", {"kv_heads": 1}),
        ("attention_paged", {"page": 64}),
        ("attention_paged", {"page": 1}),
    ],
)
def test_extreme_sizes_are_right(op, changes):
    for row in CPU_ROWS:
        if row.op == op:
            assert held_to_reference(row, {**DIMS[op], **changes}, "fp32"), row.name


def test_masks_by_hand():
    # 2 queries at the end of 4 keys: the first meets keys 0 to 2, the second all; of a window of 2, two each.
    hidden = eager_attention._hidden(2, 4, 4, torch.device("cpu"))
    assert hidden.int().tolist() == [[0, 0, 0, 1], [0, 0, 0, 0]]
    hidden = eager_attention._hidden(2, 4, 2, torch.device("cpu"))
    assert hidden.int().tolist() == [[1, 0, 0, 1], [1, 1, 0, 0]]
    q = torch.randn(1, 1, 3, 8, dtype=torch.bfloat16)
    mask = eager_attention.prepare_window_mask(q, q, q, window=1)[3]
    assert mask.dtype == torch.bfloat16
    assert mask.tolist() == [[0 if key == query else -math.inf for key in range(3)] for query in range(3)]


def test_a_window_of_one_gives_the_values_back():
    q, k, v = inputs_of("attention_window", {**SQUARE, "kv_heads": 4, "window": 1}, "fp32")
    torch.testing.assert_close(eager_attention.attention_window_naive(q, k, v, window=1), v)


@pytest.mark.parametrize("length", [9, 37])
def test_pytorchs_own_bias_is_aligned_to_the_last_key(length):
    # The kernels behind it are for CUDA; the math backend is given the mask that the bias means.
    dims = {**DIMS["attention_chunk"], "queries": length}
    inputs = inputs_of("attention_chunk", dims, "fp32")

    def run(q, k, v):
        return eager_attention.attention_chunk_sdpa(q, k, v, backend=SDPBackend.MATH)

    assert is_right(run, reference.attention_chunk, inputs, "fp32")


def test_an_empty_sequence_is_left_out():
    q, k, v, _ = inputs_of("attention_packed", DIMS["attention_packed"], "fp32")
    offsets = torch.tensor([0, 0, 20, 20, 47], dtype=torch.int32)
    prepared = eager_attention.prepare_packed(q, k, v, offsets)
    assert is_right(
        eager_attention.attention_packed_naive,
        reference.attention_packed,
        (q, k, v, offsets),
        "fp32",
        prepared=prepared,
    )


# Backward: what is timed


BACKWARD = [row for row in CPU_ROWS if row.op == "attention_backward"]


@pytest.mark.parametrize("row", named([row for row in BACKWARD if row.prepare]))
def test_only_the_backward_pass_is_run(row, monkeypatch):
    inputs = inputs_of("attention_backward", SQUARE, "fp32")
    before = [each.clone() for each in inputs]
    prepared = row.prepare(*inputs)
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", lambda *_, **__: 1 / 0)
    first, second = row.run(*prepared), row.run(*prepared)
    assert all(map(torch.equal, first, second))  # what the forward pass keeps is kept
    assert all(not each.requires_grad for each in (*first, *inputs))
    assert all(each.grad is None for each in (*inputs, *prepared[:3]))
    assert all(map(torch.equal, inputs, before))


@pytest.mark.parametrize("row", named([row for row in BACKWARD if row.prepare]))
def test_a_fused_backward_pass_finds_tokens_before_heads(row):
    # What is stored otherwise, the kernels for CUDA copy before they begin.
    inputs = inputs_of("attention_backward", SQUARE, "fp32")
    *leaves, out, grad = row.prepare(*inputs)
    assert grad.stride() == out.stride()
    assert torch.equal(grad, inputs[4])
    if row.name != "sdpa_math":
        assert all(each.transpose(1, 2).is_contiguous() for each in leaves)


@pytest.mark.parametrize("row", named(BACKWARD))
def test_gradients_are_autograds_of_the_formula(row):
    """In fp64 from the definition, by another way than the reference's."""
    q, k, v, out, grad, lse = inputs_of("attention_backward", SQUARE, "fp32")
    leaves = [each.double().requires_grad_() for each in (q, k, v)]
    keys, values = (each.repeat_interleave(2, dim=1) for each in leaves[1:])
    scores = (leaves[0] @ keys.mT / 4).masked_fill(torch.ones(37, 37).triu(1) > 0, -math.inf)
    expected = torch.autograd.grad(torch.softmax(scores, dim=-1) @ values, leaves, grad.double())
    inputs = (q, k, v, out, grad, lse)
    actual = row.run(*(row.prepare(*inputs) if row.prepare else inputs))
    for one, other in zip(actual, expected, strict=True):
        # Sums of 37 or 74 products, each of a few roundings of 2^-24, of numbers near 1.
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=2e-5)


def test_a_backend_that_pads_is_declined(monkeypatch):
    inputs = inputs_of("attention_backward", SQUARE, "fp32")
    plain = eager_attention._through
    monkeypatch.setattr(eager_attention, "_through", lambda backend, sdpa: plain(backend, sdpa)[..., :16] * 1)
    with pytest.raises(Unsupported, match="pads head_dim=16; supported: multiples of 8"):
        eager_attention.prepare_backward(*inputs, backend=SDPBackend.FLASH_ATTENTION)


def test_a_node_in_python_runs_too():
    class Square(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx, grad):
            return 2 * ctx.saved_tensors[0] * grad

    x = torch.tensor([3.0], requires_grad=True)
    out = Square.apply(x)
    for _ in range(2):
        assert eager_attention.run_node(out, torch.tensor([5.0])).tolist() == [30.0]
    with pytest.raises(ValueError, match="no node of a graph made"):
        eager_attention.run_node(torch.ones(1), torch.ones(1))


# Declined and refused


def test_backends_of_pytorch_that_cannot_say_so():
    q, cache = inputs_of("attention_mla", DIMS["attention_mla"], "fp32")
    with pytest.raises(Unsupported, match="FLASH_ATTENTION backend declines"):
        eager_attention.attention_mla_sdpa(q, cache, latent=32, backend=SDPBackend.FLASH_ATTENTION)
    q, k, v = inputs_of("attention_full", SQUARE, "fp32")
    with pytest.raises(Unsupported, match="CUDNN_ATTENTION backend declines"):
        eager_attention.attention_full_sdpa(q, k, v, backend=SDPBackend.CUDNN_ATTENTION)


def test_what_cudnn_finds_no_plan_for_is_declined(monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("cuDNN Frontend error: [cudnn_frontend] Error: No execution plans support the graph.")

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", refuse)
    with pytest.raises(Unsupported, match=r"CUDNN_ATTENTION backend declines: .*No execution plans support"):
        eager_attention.attention_full_sdpa(
            *inputs_of("attention_full", SQUARE, "bf16"), backend=SDPBackend.CUDNN_ATTENTION
        )


def test_nested_tensors_are_views_and_need_a_gpu():
    dims = {**DIMS["attention_packed"], "kv_heads": 4}
    q, k, v, offsets = inputs_of("attention_packed", dims, "fp32")
    nested = eager_attention.prepare_nested(q, k, v, offsets)
    for each, values in zip(nested, (q, k, v), strict=True):
        assert each.values().data_ptr() == values.data_ptr()
        assert [part.shape[0] for part in each.unbind()] == [16, 16, 15]
        assert each.nbytes >= values.nbytes  # by which a run knows what is read
    with pytest.raises(Unsupported, match="FLASH_ATTENTION backend declines"):
        eager_attention.attention_packed_sdpa_nested(*nested, backend=SDPBackend.FLASH_ATTENTION)


def test_what_nested_tensors_do_not_take_is_declined():
    q, k, v, offsets = inputs_of("attention_packed", DIMS["attention_packed"], "fp32")
    with pytest.raises(Unsupported, match="2 heads to one of K and V; supported: as many of each"):
        eager_attention.prepare_nested(q, k, v, offsets)
    with pytest.raises(Unsupported, match="an empty sequence; supported: from 1 token"):
        eager_attention.prepare_nested(q, q, q, torch.tensor([0, 20, 20, 47], dtype=torch.int32))


@pytest.mark.parametrize("lengths", [[37, 36], [0, 0]])
def test_only_sequences_of_one_length_are_gathered(lengths):
    q, k, v, table, _ = inputs_of("attention_paged", DIMS["attention_paged"], "fp32")
    with pytest.raises(Unsupported, match=r"torch_gather does not support .* supported: one length, from 1"):
        eager_attention.prepare_gather(q, k, v, table, torch.tensor(lengths, dtype=torch.int32))


def test_short_sequences_of_a_large_table_are_gathered():
    q, k, v, table, _ = inputs_of("attention_paged", DIMS["attention_paged"], "fp32")
    inputs = (q, k, v, table, torch.tensor([11, 11], dtype=torch.int32))  # 2 of 5 pages of 8
    prepared = eager_attention.prepare_gather(*inputs)
    assert torch.equal(prepared[3], table[:, :2].flatten())
    assert is_right(
        eager_attention.attention_paged_gather, reference.attention_paged, inputs, "fp32", prepared=prepared
    )


@pytest.mark.parametrize("row", named(CPU_ROWS))
def test_wrong_shapes_are_refused(row):
    dtype = row.dtypes[-1]
    workload = make_workload(row.op, DIMS[row.op], find_dtype(dtype))
    first, *others = inputs_of(row.op, DIMS[row.op], dtype)
    call = bind(row.prepare or row.run, workload)
    with pytest.raises(ValueError, match=r"attention_|linear_backward"):
        call(first[..., :-1], *others)
    if row.op != "attention_decode_fp8":  # whose cache has a format of its own
        with pytest.raises(ValueError, match=r"attention_|linear_backward"):
            call(first.double(), *others)


# Memory


def bytes_of(op, dims, name, dtype="bf16"):
    row = next(row for row in IMPLEMENTATIONS if (row.op, row.name) == (op, name))
    return working_bytes(make_workload(op, dims, find_dtype(dtype)), row.writes)


BIG = {"batch": 2, "seq": 1000, "heads": 8, "kv_heads": 2, "head_dim": 64}
BIG_CACHE = {"batch": 2, "context": 1000, "heads": 8, "kv_heads": 2, "head_dim": 64}


@pytest.mark.parametrize(
    ("op", "dims", "name", "expected"),
    [
        # 2 * 8 heads * 1000 * 1000 scores; 3 copies of 2 bytes.
        ("attention_full", BIG, "naive", 16e6 * 3 * 2),
        ("attention_prefill", BIG, "torch_compile", 16e6 * 3 * 2),
        # In fp32, with K and V of 16 * 1000 * 64 numbers.
        ("attention_prefill", BIG, "sdpa_math", 16e6 * 3 * 4 + 2 * 16e3 * 64 * 4),
        ("attention_backward", BIG, "naive", 16e6 * 6 * 2),
        # A mask of 1e6 numbers of 2 bytes, made of 2 truth values each.
        ("attention_window", {**BIG, "window": 9}, "sdpa_efficient_mask", 1e6 * 4),
        ("attention_window", {**BIG, "window": 9}, "sdpa_math_mask", 16e6 * 3 * 4 + 2 * 16e3 * 64 * 4 + 1e6 * 4),
        ("attention_window", {**BIG, "window": 9}, "flex", 3e6),
        ("attention_chunk", {**BIG_CACHE, "queries": 10}, "naive", 16e4 * 3 * 2),
        ("attention_chunk", {**BIG_CACHE, "queries": 10}, "sdpa_flash", 0),
        # 3000 tokens in 3 prompts, one after the other: 8 heads * 1000 * 1000.
        (
            "attention_packed",
            {"tokens": 3000, "sequences": 3, "heads": 8, "kv_heads": 2, "head_dim": 64},
            "naive",
            8e6 * 3 * 2,
        ),
        ("attention_decode", BIG_CACHE, "naive", 16e3 * 3 * 2),
        # Both caches of 2 * 2 * 1000 * 64 numbers once more, in 2 bytes each.
        ("attention_decode_fp8", BIG_CACHE, "torch_dequantize", 2 * 256e3 * 2),
        ("attention_paged", {**BIG_CACHE, "page": 16}, "torch_gather", 2 * 256e3 * 2),
        ("attention_mla", {"batch": 2, "context": 1000, "heads": 8, "latent": 512, "rope": 64}, "torch", 16e3 * 3 * 2),
        ("attention_full", BIG, "triton", 0),
        ("linear_backward", {"m": 5, "n": 7, "k": 9}, "torch", 0),
    ],
)
def test_working_memory_by_hand(op, dims, name, expected):
    assert bytes_of(op, dims, name) == expected


def test_wide_formats_are_not_widened():
    assert bytes_of("attention_prefill", BIG, "sdpa_math", "fp64") == 16e6 * 3 * 8 + 2 * 16e3 * 64 * 8


def test_needed_bytes_by_hand():
    # Q and O of 2*8*1000*64 numbers, K and V of 2*2*1000*64: 2*1,024,000 + 2*256,000 numbers of 2 bytes; the output
    # five times in 8 bytes; 1 GiB of the reference.
    base = (2 * 1_024_000 + 2 * 256_000) * 2 + 1_024_000 * 40 + GIB
    workload = make_workload("attention_window", {**BIG, "window": 9}, find_dtype("bf16"))
    assert needed_bytes(workload, find_implementation(workload, "flex", "cuda")) == base + 3e6
    # What is prepared: Q, K and V once more, and the mask.
    assert (
        needed_bytes(workload, find_implementation(workload, "sdpa_efficient_mask", "cuda"))
        == base + (1_024_000 + 2 * 256_000) * 2 + 4e6
    )


# On a GPU


CUDA_ROWS = [row for row in IMPLEMENTATIONS if row.op in DIMS and "cuda" in row.devices and row.package == "torch"]
GPU_DIMS = {
    **{op: {**dims, "head_dim": 64} for op, dims in DIMS.items() if "head_dim" in dims},
    "linear_backward": {"m": 48, "n": 64, "k": 32},
    "attention_mla": {"batch": 2, "context": 64, "heads": 16, "latent": 512, "rope": 64},
}


@pytest.mark.gpu
@pytest.mark.parametrize("row", named(CUDA_ROWS))
def test_every_row_of_a_gpu_is_right_or_says_why_not(row, device):
    dims = GPU_DIMS[row.op]
    if row.name.endswith("_nested"):
        dims = {**dims, "kv_heads": dims["heads"]}
    try:
        assert held_to_reference(row, dims, "bf16", device)
    except Unsupported as error:
        pytest.skip(str(error))


@pytest.mark.gpu
@pytest.mark.parametrize("row", named(CUDA_ROWS))
def test_every_row_but_one_can_be_captured(row, device):
    workload = make_workload(row.op, GPU_DIMS[row.op], find_dtype("bf16"))
    inputs = inputs_of(row.op, GPU_DIMS[row.op], "bf16", device)
    if (row.op, row.name) == ("attention_backward", "sdpa_math"):
        pytest.skip("autograd runs it on the stream of its forward pass")
    try:
        prepared = inputs if row.prepare is None else bind(row.prepare, workload)(*inputs)
        bind(row.run, workload)(*prepared)
    except Unsupported as error:
        pytest.skip(str(error))
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        bind(row.run, workload)(*prepared)
    graph.replay()
    torch.cuda.synchronize()
