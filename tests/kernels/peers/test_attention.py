"""Other people's attention: what is handed to them, and that what comes back is right.

Packages that are not installed are stood in for by modules with the same signatures, which compute the op in fp32.
"""

import gc
import itertools
import math
import sys

import pytest
import torch

from bench.cases import bind
from kernels import catalog, reference
from kernels.constants import MLA_SCALE
from kernels.peers import flashinfer, packages
from kernels.pytorch import attention as eager_attention
from kernels.pytorch import compiled_attention
from kernels.unsupported import Unsupported
from predict.units import find_dtype
from predict.workloads import make_workload
from tests.kernels.peers.test_peers import module, names_of, on_a_gpu
from tests.kernels.pytorch import test_attention as eager_tests
from tests.kernels.pytorch.test_attention import held_to_reference
from tests.kernels.pytorch.test_eager import inputs_of, is_right

# Head widths that the packages take; the rest as for the PyTorch implementations.
SMALL = eager_tests.DIMS
DIMS = {op: {**dims, "head_dim": 64} for op, dims in SMALL.items() if "head_dim" in dims}
DIMS["attention_mla"] = {**SMALL["attention_mla"], "latent": 512, "rope": 64}
SQUARE, CACHE = DIMS["attention_prefill"], DIMS["attention_decode"]
ALL_PACKAGES = ("flash-attn", "flash-attn-3", "flashinfer-python")


@pytest.fixture
def rows(monkeypatch):
    """All rows, as if every package were installed."""
    return names_of(monkeypatch, *ALL_PACKAGES)


def seen(queries, keys, window):
    """(queries, keys): what meets, the last query at the last key: from the definition, number by number."""
    before = keys - queries
    return torch.tensor(
        [[row + before - window < column <= row + before for column in range(keys)] for row in range(queries)]
    )


def attend(q, k, v, meets=None, scale=None):
    """q: (tokens, heads, width), k, v: (keys, kv_heads, any): what a right kernel makes of one sequence: in fp32,
    rounded to q's format."""
    group = q.shape[1] // k.shape[1]
    heads_q, heads_k, heads_v = (each.float().transpose(0, 1) for each in (q, k, v))
    heads_k, heads_v = (each.repeat_interleave(group, dim=0) for each in (heads_k, heads_v))
    scores = heads_q @ heads_k.mT * (q.shape[-1] ** -0.5 if scale is None else scale)
    if meets is not None:
        scores = scores.masked_fill(~meets, -math.inf)
    return (torch.softmax(scores, dim=-1) @ heads_v).transpose(0, 1).to(q.dtype)


# torch.compile and FlexAttention: the graphs that the compiler would be given, run as they are


@pytest.mark.parametrize(
    ("op", "dtype"),
    [
        ("attention_prefill", "fp32"),
        ("attention_full", "fp32"),
        ("attention_window", "bf16"),
        ("attention_chunk", "fp16"),
        ("attention_decode", "bf16"),
        ("attention_decode_fp8", "bf16"),
        ("attention_mla", "fp16"),
    ],
)
def test_each_naive_form_is_one_graph_and_right(op, dtype, rows, graphs):
    assert held_to_reference(rows[op, "torch_compile"], DIMS[op], dtype)
    assert len(graphs) == 1


def test_each_window_is_compiled_for(graphs):
    q, k, v = inputs_of("attention_window", DIMS["attention_window"], "fp32")
    for window in (3, 3, 4):
        expected = eager_attention.attention_window_naive(q, k, v, window=window)
        torch.testing.assert_close(compiled_attention.compiled_window(q, k, v, window=window), expected)
    assert len(graphs) == 2


@pytest.mark.filterwarnings("ignore:.*flex_attention called without torch.compile")
@pytest.mark.parametrize(
    ("op", "changes"),
    [
        ("attention_prefill", {"seq": 150}),
        ("attention_full", {}),
        ("attention_window", {"seq": 300}),
        ("attention_chunk", {"context": 150}),
        ("attention_decode", {}),
    ],
)
def test_flex_attention_is_right(op, changes, rows, graphs):
    assert held_to_reference(rows[op, "flex"], {**DIMS[op], **changes}, "fp32")
    assert len(graphs) == 1


def test_flex_attention_skips_blocks_that_hold_nothing():
    # 3 blocks of 128 queries and keys: 2 each hold the window of 100 but for the first; causal, 1, 2 and 3.
    windowed = compiled_attention._block_mask(384, 384, 100, "cpu")
    assert [(windowed.kv_num_blocks + windowed.full_kv_num_blocks)[0, 0, row].item() for row in range(3)] == [1, 2, 2]
    causal = compiled_attention._block_mask(384, 384, 384, "cpu")
    assert causal.full_kv_num_blocks[0, 0].tolist() == [0, 1, 2]
    # The last 128 queries of 384 tokens see two whole blocks and half of their own.
    assert compiled_attention._block_mask(128, 384, 384, "cpu").full_kv_num_blocks[0, 0].tolist() == [2]
    assert compiled_attention._block_mask(384, 384, 384, "cpu") is causal


@pytest.mark.filterwarnings("ignore:.*flex_attention called without torch.compile")
@pytest.mark.parametrize("op", ["attention_full", "attention_decode"])
def test_flex_attention_without_a_mask_makes_nothing_in_the_timed_call(op, rows, graphs):
    # Else the compiled call begins with kernels that write the count and the index of its one block.
    rows[op, "flex"].run(*inputs_of(op, DIMS[op], "fp32"))
    assert not {"ones", "zeros"} & {getattr(node.target, "__name__", None) for node in graphs[0].graph.nodes}


def test_what_flex_attention_does_not_take_is_declined():
    x = torch.randn(1, 2, 4, 8)
    with pytest.raises(Unsupported, match="head_dim=8; supported: from 16"):
        compiled_attention.flex_full(x, x, x)


# varlen_attn: the signature of torch/nn/attention/varlen.py, PyTorch 2.12 and 2.13


def varlen_attn(
    query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, return_aux=None, scale=None, window_size=(-1, -1),
    enable_gqa=False, seqused_k=None, block_table=None, num_splits=None,
):  # fmt: skip
    assert cu_seq_q is cu_seq_k
    assert cu_seq_q.dtype == torch.int32
    lengths = cu_seq_q.diff()
    assert (max_q, max_k) == (lengths.max(), lengths.max())
    assert type(max_q) is int
    assert enable_gqa == (query.shape[1] != key.shape[1])
    assert window_size[1] == 0
    window = max_k if window_size[0] == -1 else window_size[0] + 1
    starts = cu_seq_q.tolist()
    return torch.cat(
        [
            attend(*(each[first:last] for each in (query, key, value)), seen(last - first, last - first, window))
            for first, last in itertools.pairwise(starts)
        ]
    )


def varlen_attn_2_11(
    query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, return_aux=None, scale=None, window_size=(-1, -1),
):  # fmt: skip
    """As PyTorch 2.11 has it: the kernel finds fewer heads of K by itself."""
    fewer = query.shape[1] != key.shape[1]
    return varlen_attn(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, window_size=window_size, enable_gqa=fewer)


@pytest.mark.parametrize("function", [varlen_attn, varlen_attn_2_11])
@pytest.mark.parametrize("kv_heads", [2, 4])
@pytest.mark.parametrize("op", ["attention_packed", "attention_window"])
def test_varlen_attn_is_called_as_it_wants_to_be(op, kv_heads, function, rows, monkeypatch):
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", function)
    on_a_gpu(monkeypatch, (8, 0))
    assert held_to_reference(rows[op, "varlen"], {**DIMS[op], "kv_heads": kv_heads}, "bf16")


def test_an_older_pytorch_has_no_varlen_attn(monkeypatch):
    on_a_gpu(monkeypatch, (9, 0))
    inputs = inputs_of("attention_packed", DIMS["attention_packed"], "bf16")
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", lambda query, *, is_causal: 1 / 0)
    with pytest.raises(Unsupported, match=r"lacks window_size; supported: PyTorch 2\.11 and later"):
        eager_attention.prepare_varlen_packed(*inputs)
    monkeypatch.setitem(sys.modules, "torch.nn.attention.varlen", None)
    with pytest.raises(Unsupported, match=r"supported: PyTorch 2\.11 and later"):
        eager_attention.prepare_varlen_packed(*inputs)


# flash-attn: the signatures of flash_attn/flash_attn_interface.py (2) and hopper/flash_attn_interface.py (3),
# Dao-AILab/flash-attention at 2.8.4. Tokens come before heads, and masks end at the last key.


def each_sequence(q, k, v, causal, window_size):
    for each in (q, k, v):
        assert each.stride(-1) == 1
    queries, keys = q.shape[1], k.shape[1]
    assert window_size == (-1, -1) or (causal and window_size[1] == 0)
    window = keys if window_size[0] == -1 else window_size[0] + 1
    meets = seen(queries, keys, window) if causal else None
    return torch.stack([attend(*one, meets) for one in zip(q, k, v, strict=True)])


class Recorded(torch.autograd.Function):
    """Whose forward pass can be counted, and whose backward pass is autograd's of the formula."""

    forwards = 0

    @staticmethod
    def forward(ctx, q, k, v, causal, window_size):
        Recorded.forwards += 1
        ctx.save_for_backward(q, k, v)
        return each_sequence(q, k, v, causal, window_size)

    @staticmethod
    def backward(ctx, grad):
        leaves = [each.detach().float().requires_grad_() for each in ctx.saved_tensors]
        with torch.enable_grad():
            out = each_sequence(*leaves, True, (-1, -1))
        grads = torch.autograd.grad(out, leaves, grad.float())
        return *(one.to(grad.dtype) for one in grads), None, None


def flash_attn_func_2(
    q, k, v, dropout_p=0.0, softmax_scale=None, causal=False, window_size=(-1, -1), softcap=0.0, alibi_slopes=None,
    deterministic=False, return_attn_probs=False,
):  # fmt: skip
    assert (dropout_p, softmax_scale, softcap) == (0.0, None, 0.0)
    assert q.shape[1] == k.shape[1]
    return Recorded.apply(q, k, v, causal, window_size)


def flash_attn_func_3(
    q, k, v, softmax_scale=None, causal=False, qv=None, q_descale=None, k_descale=None, v_descale=None,
    window_size=(-1, -1), attention_chunk=0, softcap=0.0, num_splits=1, pack_gqa=None, deterministic=False, sm_margin=0,
    return_attn_probs=False,
):  # fmt: skip
    assert (softmax_scale, qv) == (None, None)
    assert q.shape[1] == k.shape[1]  # or num_splits=1 would leave the context of few queries in one piece
    return Recorded.apply(q, k, v, causal, window_size)


def flash_attn_varlen_func_2(
    q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, dropout_p=0.0, softmax_scale=None, causal=False,
    window_size=(-1, -1), softcap=0.0, alibi_slopes=None, deterministic=False, return_attn_probs=False,
    block_table=None,
):  # fmt: skip
    assert (causal, window_size) == (True, (-1, -1))
    return varlen_attn(
        q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, window_size=(-1, 0), enable_gqa=True
    )


def flash_attn_varlen_func_3(
    q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, seqused_q=None, seqused_k=None, softmax_scale=None,
    causal=False, qv=None, q_descale=None, k_descale=None, v_descale=None, window_size=(-1, -1), attention_chunk=0,
    softcap=0.0, num_splits=1, pack_gqa=None, deterministic=False, sm_margin=0, return_attn_probs=False,
):  # fmt: skip
    return flash_attn_varlen_func_2(
        q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, causal=causal, window_size=window_size
    )


def cached(q, k_cache, v_cache, lengths, table, causal):
    """The last queries of each sequence of a cache, or of its pages."""
    assert causal or q.shape[1] == 1
    out = []
    for index, query in enumerate(q):
        parts = [
            each[table[index].long()].flatten(0, 1) if table is not None else each[index] for each in (k_cache, v_cache)
        ]
        length = len(parts[0]) if lengths is None else int(lengths[index])
        out.append(attend(query, *(each[:length] for each in parts), seen(len(query), length, length)))
    return torch.stack(out)


def flash_attn_with_kvcache_2(
    q, k_cache, v_cache, k=None, v=None, rotary_cos=None, rotary_sin=None, cache_seqlens=None, cache_batch_idx=None,
    cache_leftpad=None, block_table=None, softmax_scale=None, causal=False, window_size=(-1, -1), softcap=0.0,
    rotary_interleaved=True, alibi_slopes=None, num_splits=0, return_softmax_lse=False,
):  # fmt: skip
    assert (k, v, softmax_scale, num_splits) == (None, None, None, 0)
    assert block_table is None or k_cache.shape[1] % 256 == 0
    return cached(q, k_cache, v_cache, cache_seqlens, block_table, causal)


def flash_attn_with_kvcache_3(
    q, k_cache, v_cache, k=None, v=None, qv=None, rotary_cos=None, rotary_sin=None, cache_seqlens=None,
    cache_batch_idx=None, cache_leftpad=None, page_table=None, cu_seqlens_q=None, cu_seqlens_k_new=None,
    max_seqlen_q=None, rotary_seqlens=None, q_descale=None, k_descale=None, v_descale=None, softmax_scale=None,
    causal=False, window_size=(-1, -1), attention_chunk=0, softcap=0.0, rotary_interleaved=True,
    scheduler_metadata=None, num_splits=0, pack_gqa=None, sm_margin=0, return_softmax_lse=False,
):  # fmt: skip
    assert (k, v, num_splits) == (None, None, 0)
    if page_table is not None:  # planned as it is called
        planned = (len(q), 1, page_table.shape[1] * k_cache.shape[1], q.shape[2], k_cache.shape[2], q.shape[3])
        assert scheduler_metadata.tolist() == [*planned, k_cache.shape[1]]
    if qv is None:
        assert softmax_scale is None
        return cached(q, k_cache, v_cache, cache_seqlens, page_table, causal)
    assert (softmax_scale, causal) == (MLA_SCALE, False)
    assert (q.shape[1:], k_cache.shape[2:], v_cache.shape[2:]) == ((1, 4, 64), (1, 64), (1, 512))
    assert all(each.stride(-1) == 1 for each in (q, qv, k_cache, v_cache))
    wide_q, wide_k = torch.cat((q, qv), dim=-1), torch.cat((k_cache, v_cache), dim=-1)
    return torch.stack([attend(*one, scale=softmax_scale) for one in zip(wide_q, wide_k, v_cache, strict=True)])


def get_scheduler_metadata(
    batch_size, max_seqlen_q, max_seqlen_k, num_heads_q, num_heads_kv, headdim, cache_seqlens,
    qkv_dtype=torch.bfloat16, headdim_v=None, cu_seqlens_q=None, cu_seqlens_k_new=None, cache_leftpad=None,
    page_size=None, max_seqlen_k_new=0, causal=False, window_size=(-1, -1), attention_chunk=0, has_softcap=False,
    num_splits=0, pack_gqa=None, sm_margin=0,
):  # fmt: skip
    assert len(cache_seqlens) == batch_size
    assert (qkv_dtype, causal) == (torch.float16, False)
    return torch.tensor(
        [batch_size, max_seqlen_q, max_seqlen_k, num_heads_q, num_heads_kv, headdim, page_size], dtype=torch.int32
    )


@pytest.fixture
def flash(monkeypatch):
    """A made-up flash-attn 2 and 3 on a made-up H100."""
    for title, version in (("flash_attn", 2), ("flash_attn_interface", 3)):
        made = module(title)
        for name in ("flash_attn_func", "flash_attn_varlen_func", "flash_attn_with_kvcache"):
            setattr(made, name, globals()[f"{name}_{version}"])
        made.get_scheduler_metadata = get_scheduler_metadata if version == 3 else None
        monkeypatch.setitem(sys.modules, title, made)
    on_a_gpu(monkeypatch, (9, 0))


@pytest.mark.parametrize("name", ["flash_attn", "flash_attn_3"])
@pytest.mark.parametrize(
    "op",
    [
        "attention_prefill",
        "attention_full",
        "attention_window",
        "attention_chunk",
        "attention_packed",
        "attention_backward",
        "attention_decode",
    ],
)
def test_flash_attn_is_called_as_it_wants_to_be(op, name, rows, flash):
    assert held_to_reference(rows[op, name], DIMS[op], "bf16")


@pytest.mark.parametrize(("name", "page"), [("flash_attn", 256), ("flash_attn_3", 8)])
def test_flash_attn_reads_pages(name, page, rows, flash):
    assert held_to_reference(rows["attention_paged", name], {**DIMS["attention_paged"], "page": page}, "fp16")


def test_flash_attn_3_reads_latents(rows, flash):
    row, dims = rows["attention_mla", "flash_attn_3"], DIMS["attention_mla"]
    assert held_to_reference(row, dims, "bf16")
    q, cache = inputs_of("attention_mla", dims, "bf16")
    *queries, keys, values = row.prepare(q, cache, latent=512)
    assert all(each.is_contiguous() for each in queries)
    assert values.data_ptr() == cache.data_ptr()  # the cache stays one
    assert keys.data_ptr() == cache.data_ptr() + 512 * 2


@pytest.mark.parametrize("name", ["flash_attn", "flash_attn_3"])
def test_the_forward_pass_of_flash_attn_is_prepared_once(name, rows, flash):
    row, inputs = rows["attention_backward", name], inputs_of("attention_backward", SQUARE, "bf16")
    Recorded.forwards = 0
    prepared = row.prepare(*inputs)
    first, second = row.run(*prepared), row.run(*prepared)
    assert Recorded.forwards == 1
    assert all(map(torch.equal, first, second))
    assert all(not each.requires_grad for each in (*inputs, *first))


def test_prepared_layouts_leave_the_inputs_alone(rows, flash):
    inputs = inputs_of("attention_prefill", SQUARE, "bf16")
    before = [each.clone() for each in inputs]
    prepared = rows["attention_prefill", "flash_attn"].prepare(*inputs)
    assert [each.shape for each in prepared] == [(2, 37, 4, 64), (2, 37, 2, 64), (2, 37, 2, 64)]
    assert all(each.is_contiguous() for each in prepared)
    assert all(map(torch.equal, inputs, before))


def test_what_flash_attn_does_not_take_is_declined(rows, flash, monkeypatch):
    def prepare(op, name, dtype="bf16", **changes):
        dims = {**DIMS[op], **changes}
        workload = make_workload(op, dims, find_dtype(dtype))
        return bind(rows[op, name].prepare, workload)(*inputs_of(op, dims, dtype))

    with pytest.raises(Unsupported, match="flash-attn 2 does not support fp32; supported: bf16, fp16"):
        prepare("attention_prefill", "flash_attn", "fp32")
    with pytest.raises(Unsupported, match="head_dim=20; supported: multiples of 8 to 256"):
        prepare("attention_window", "flash_attn", head_dim=20)
    with pytest.raises(Unsupported, match="head_dim=264; supported: multiples of 8 to 256"):
        prepare("attention_decode", "flash_attn_3", head_dim=264)
    with pytest.raises(Unsupported, match="page=8; supported: multiples of 256"):
        prepare("attention_paged", "flash_attn")
    with pytest.raises(Unsupported, match="latent=128 and rope=64; supported: 512 and 64"):
        prepare("attention_mla", "flash_attn_3", latent=128)
    on_a_gpu(monkeypatch, (10, 0))
    assert prepare("attention_full", "flash_attn")
    with pytest.raises(Unsupported, match=r"flash-attn 3 does not run on compute capability 10\.0; supported: 9\.0 to"):
        prepare("attention_full", "flash_attn_3")
    on_a_gpu(monkeypatch, (7, 5))
    with pytest.raises(Unsupported, match=r"flash-attn 2 does not run on compute capability 7\.5; supported: 8\.0 and"):
        prepare("attention_backward", "flash_attn")
    with pytest.raises(Unsupported, match=r"varlen_attn does not run on compute capability 7\.5"):
        prepare("attention_packed", "varlen")


# FlashInfer: the signatures of flashinfer/prefill.py, decode.py and mla/_core.py, flashinfer-ai/flashinfer at 0.6.18


class Ragged:
    def __init__(
        self, float_workspace_buffer, kv_layout="NHD", use_cuda_graph=False, qo_indptr_buf=None, kv_indptr_buf=None,
        custom_mask_buf=None, mask_indptr_buf=None, backend="auto", jit_args=None, jit_kwargs=None,
    ):  # fmt: skip
        assert float_workspace_buffer.dtype == torch.uint8
        assert (kv_layout, use_cuda_graph) == ("NHD", False)
        self.backend = backend

    def plan(
        self, qo_indptr, kv_indptr, num_qo_heads, num_kv_heads, head_dim_qk, head_dim_vo=None, custom_mask=None,
        packed_custom_mask=None, causal=False, pos_encoding_mode="NONE", use_fp16_qk_reduction=False, window_left=-1,
        logits_soft_cap=None, sm_scale=None, rope_scale=None, rope_theta=None, q_data_type="float16", kv_data_type=None,
    ):  # fmt: skip
        assert qo_indptr.dtype == kv_indptr.dtype == torch.int32
        assert sm_scale is None
        self.starts = (qo_indptr.tolist(), kv_indptr.tolist())
        self.planned = (num_qo_heads, num_kv_heads, head_dim_qk, q_data_type, kv_data_type)
        self.causal, self.window_left = causal, window_left

    def run(self, q, k, v):
        assert self.planned == (q.shape[1], k.shape[1], q.shape[2], q.dtype, k.dtype)
        assert all(each.is_contiguous() for each in (q, k, v))
        out, (q_starts, k_starts) = torch.empty_like(q), self.starts
        assert (q_starts[-1], k_starts[-1]) == (len(q), len(k))
        for index in range(len(q_starts) - 1):
            rows, columns = (slice(starts[index], starts[index + 1]) for starts in self.starts)
            keys = columns.stop - columns.start
            window = keys if self.window_left < 0 else self.window_left + 1
            meets = seen(rows.stop - rows.start, keys, window) if self.causal else None
            out[rows] = attend(q[rows], k[columns], v[columns], meets)
        return out


class Paged:
    def __init__(
        self, float_workspace_buffer, kv_layout="NHD", use_cuda_graph=False, use_tensor_cores=False,
        paged_kv_indptr_buffer=None, paged_kv_indices_buffer=None, paged_kv_last_page_len_buffer=None, backend="auto",
        jit_args=None,
    ):  # fmt: skip
        assert not float_workspace_buffer.any()
        assert kv_layout == "HND"
        self.use_tensor_cores = use_tensor_cores

    def plan(
        self, indptr, indices, last_page_len, num_qo_heads, num_kv_heads, head_dim, page_size, *,
        pos_encoding_mode="NONE", window_left=-1, q_data_type="float16", kv_data_type=None,
    ):  # fmt: skip
        assert indptr.dtype == indices.dtype == last_page_len.dtype == torch.int32
        assert len(indptr) == len(last_page_len) + 1
        assert indptr[-1] == len(indices)
        assert all(1 <= each <= page_size for each in last_page_len.tolist())
        self.table = (indptr.tolist(), indices.long(), last_page_len.tolist())
        self.planned = (num_qo_heads, num_kv_heads, head_dim, page_size, q_data_type, kv_data_type)

    def run(self, q, paged_kv_cache):
        k, v = paged_kv_cache
        assert self.planned == (q.shape[1], k.shape[1], q.shape[2], k.shape[2], q.dtype, k.dtype)
        indptr, indices, last = self.table
        out = []
        for index, query in enumerate(q):
            pages = indices[indptr[index] : indptr[index + 1]]
            length = (len(pages) - 1) * k.shape[2] + last[index]
            # (pages, kv_heads, page, head_dim) -> (tokens, kv_heads, head_dim)
            keys, values = (each[pages].float().transpose(1, 2).flatten(0, 1)[:length] for each in (k, v))
            out.append(attend(query.unsqueeze(0), keys, values)[0])
        return torch.stack(out)


class Latent:
    def __init__(
        self, float_workspace_buffer, use_cuda_graph=False, qo_indptr=None, kv_indptr=None, kv_indices=None,
        kv_len_arr=None, backend="auto",
    ):  # fmt: skip
        assert (use_cuda_graph, backend) == (False, "auto")

    def plan(
        self, qo_indptr, kv_indptr, kv_indices, kv_len_arr, num_heads, head_dim_ckv, head_dim_kpe, page_size, causal,
        sm_scale, q_data_type, kv_data_type, use_profiler=False,
    ):  # fmt: skip
        assert qo_indptr.dtype == kv_indptr.dtype == kv_indices.dtype == kv_len_arr.dtype == torch.int32
        assert qo_indptr.tolist() == list(range(len(kv_len_arr) + 1))
        assert (causal, sm_scale, q_data_type) == (False, MLA_SCALE, kv_data_type)
        self.table = (kv_indptr.tolist(), kv_indices.long(), kv_len_arr.tolist())
        self.planned = (num_heads, head_dim_ckv, head_dim_kpe, page_size, q_data_type)

    def run(self, q_nope, q_pe, ckv_cache, kpe_cache):
        page = ckv_cache.shape[1]
        assert self.planned == (q_nope.shape[1], q_nope.shape[2], q_pe.shape[2], page, q_nope.dtype)
        assert q_nope.is_contiguous()
        assert q_pe.is_contiguous()
        indptr, indices, lengths = self.table
        out = []
        for index, length in enumerate(lengths):
            pages = indices[indptr[index] : indptr[index + 1]]
            latents, ropes = (each[pages].flatten(0, 1)[:length, None] for each in (ckv_cache, kpe_cache))
            query = torch.cat((q_nope[index], q_pe[index]), dim=-1).unsqueeze(0)
            out.append(attend(query, torch.cat((latents, ropes), dim=-1), latents, scale=MLA_SCALE)[0])
        return torch.stack(out)


@pytest.fixture
def made_up_flashinfer(monkeypatch):
    """A made-up FlashInfer on a made-up H100."""
    package, latents = module("flashinfer"), module("flashinfer.mla")
    package.BatchPrefillWithRaggedKVCacheWrapper = Ragged
    package.BatchDecodeWithPagedKVCacheWrapper = Paged
    latents.BatchMLAPagedAttentionWrapper = Latent
    package.mla = latents
    monkeypatch.setitem(sys.modules, "flashinfer", package)
    monkeypatch.setattr(flashinfer, "_WORKSPACE_BYTES", 16)
    flashinfer._workspace.cache_clear()
    on_a_gpu(monkeypatch, (9, 0))
    yield
    flashinfer._workspace.cache_clear()


FLASHINFER = [
    *((op, "flashinfer") for op in DIMS if op != "attention_backward"),
    ("attention_chunk", "flashinfer_fa2"),
    *((op, "flashinfer_tensor_cores") for op in ("attention_decode", "attention_decode_fp8", "attention_paged")),
]


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
@pytest.mark.parametrize(("op", "name"), FLASHINFER)
def test_flashinfer_is_called_as_it_wants_to_be(op, name, dtype, rows, made_up_flashinfer):
    assert held_to_reference(rows[op, name], DIMS[op], dtype)


def test_few_queries_have_a_back_end_that_splits_their_context(rows, made_up_flashinfer):
    inputs = inputs_of("attention_chunk", DIMS["attention_chunk"], "bf16")
    for name, backend in (("flashinfer", "auto"), ("flashinfer_fa2", "fa2")):
        planned, *_ = rows["attention_chunk", name].prepare(*inputs)
        assert flashinfer._PLANNED[planned].backend == backend


def test_flashinfer_reads_pages_of_any_length(rows, made_up_flashinfer):
    q, k, v, table, _ = inputs_of("attention_paged", DIMS["attention_paged"], "bf16")
    inputs = (q, k, v, table, torch.tensor([37, 8], dtype=torch.int32))
    row = rows["attention_paged", "flashinfer"]
    prepared = row.prepare(*inputs)
    assert prepared[1] is k  # as they are
    assert is_right(row.run, reference.attention_paged, inputs, "bf16", prepared=prepared)


def test_a_context_is_paged_in_order_and_filled_up():
    cache = torch.arange(1, 2 * 3 * 5 * 2 + 1).view(2, 3, 5, 2)  # 2 sequences, 3 heads, 5 tokens: 2 pages of 4 each
    pages = flashinfer._in_pages(cache, 4)
    assert pages.shape == (4, 3, 4, 2)
    assert torch.equal(pages[2], cache[1, :, :4])
    assert torch.equal(pages[3, :, 0], cache[1, :, 4])
    assert not pages[3, :, 1:].any()


def test_plans_belong_to_their_inputs_and_end_with_them(rows, made_up_flashinfer):
    row = rows["attention_paged", "flashinfer"]
    workload = make_workload("attention_paged", DIMS["attention_paged"], find_dtype("bf16"))
    first, second = (inputs_of("attention_paged", workload.dims, "bf16") for _ in range(2))
    second = (*second[:3], second[3].flip(0), second[4])
    prepared = [row.prepare(*inputs) for inputs in (first, second)]
    held = len(flashinfer._PLANNED)
    for inputs, each in zip((first, second), prepared, strict=True):
        assert is_right(row.run, reference.attention_paged, inputs, "bf16", prepared=each)
    del each
    prepared.clear()
    gc.collect()
    assert len(flashinfer._PLANNED) == held - 2


def test_what_flashinfer_does_not_take_is_declined(rows, made_up_flashinfer, monkeypatch):
    def prepare(op, name="flashinfer", dtype="bf16", **changes):
        dims = {**DIMS[op], **changes}
        workload = make_workload(op, dims, find_dtype(dtype))
        return bind(rows[op, name].prepare, workload)(*inputs_of(op, dims, dtype))

    with pytest.raises(Unsupported, match="FlashInfer does not support fp32; supported: bf16, fp16"):
        prepare("attention_prefill", dtype="fp32")
    with pytest.raises(Unsupported, match="head_dim=80; supported: 64, 128, 256"):
        prepare("attention_packed", head_dim=80)
    with pytest.raises(Unsupported, match="5 heads to one of K and V; supported: 1, 2, 3, 4, 6, 8"):
        prepare("attention_decode", heads=10)
    assert prepare("attention_decode", "flashinfer_tensor_cores", heads=10)
    with pytest.raises(Unsupported, match="latent=256 and rope=64; supported: 512 and 64"):
        prepare("attention_mla", latent=256)
    q, k, v, table, _ = inputs_of("attention_paged", DIMS["attention_paged"], "bf16")
    with pytest.raises(Unsupported, match="an empty sequence; supported: from 1 token"):
        rows["attention_paged", "flashinfer"].prepare(q, k, v, table, torch.tensor([37, 0], dtype=torch.int32))
    on_a_gpu(monkeypatch, (7, 5))
    for op in ("attention_full", "attention_decode", "attention_mla"):
        with pytest.raises(Unsupported, match=r"FlashInfer does not run on compute capability 7\.5"):
            prepare(op)


# The list


@pytest.mark.parametrize(
    ("missing", "op", "name"),
    [
        ("flash_attn", "attention_full", "flash_attn"),
        ("flash_attn_interface", "attention_mla", "flash_attn_3"),
        ("flashinfer", "attention_decode", "flashinfer"),
    ],
)
def test_a_package_that_cannot_be_imported_is_a_reason_not_a_crash(missing, op, name, rows, monkeypatch):
    on_a_gpu(monkeypatch, (9, 0))
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.setattr(flashinfer, "_workspace", lambda device: None)
    with pytest.raises(Unsupported, match="is installed but cannot be imported"):
        held_to_reference(rows[op, name], DIMS[op], "bf16")


def test_packages_that_are_not_installed_have_no_rows(monkeypatch):
    bare, every = names_of(monkeypatch), names_of(monkeypatch, *ALL_PACKAGES)
    added = {key: every[key].package for key in every.keys() - bare.keys()}
    assert {op for op, name in added if name == "flash_attn"} == DIMS.keys() - {"attention_decode_fp8", "attention_mla"}
    assert {op for op, name in added if name == "flash_attn_3"} == DIMS.keys() - {"attention_decode_fp8"}
    assert {(op, name) for op, name in added if name.startswith("flashinfer")} == set(FLASHINFER)
    assert {package: name for (_, name), package in added.items() if package != "flashinfer-python"} == {
        "flash-attn": "flash_attn",
        "flash-attn-3": "flash_attn_3",
    }
    assert all(every[key].devices == ("cuda",) and every[key].dtypes == ("bf16", "fp16") for key in added)
    assert all(row.prepare for key, row in every.items() if key in added)


def test_version_4_of_flash_attn_alone_is_not_version_2(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object() if name == "flash_attn" else None)
    assert not packages.is_installed("flash-attn")


# On a GPU: every row that is installed


GPU_DIMS = {**DIMS, "attention_paged": {**CACHE, "page": 256, "context": 300}}
GPU_ROWS = [
    row
    for row in catalog.list_implementations()
    if row.op in DIMS and (row.name in ("torch_compile", "flex", "varlen") or row.package in ALL_PACKAGES)
]


@pytest.mark.gpu
@pytest.mark.parametrize("row", [pytest.param(row, id=f"{row.op}-{row.name}") for row in GPU_ROWS])
def test_every_row_is_right_on_a_gpu_and_can_be_captured(row, device):
    try:
        assert held_to_reference(row, GPU_DIMS[row.op], "bf16", device)
    except Unsupported as error:
        pytest.skip(str(error))
    workload = make_workload(row.op, GPU_DIMS[row.op], find_dtype("bf16"))
    inputs = inputs_of(row.op, GPU_DIMS[row.op], "bf16", device)
    prepared = inputs if row.prepare is None else bind(row.prepare, workload)(*inputs)
    bind(row.run, workload)(*prepared)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        bind(row.run, workload)(*prepared)
    graph.replay()
    torch.cuda.synchronize()
