"""Triton kernels of attention over a cache, for one query or a few: split along the keys, then merged.

One kernel serves every form of cache. The query heads of a K/V head, and the queries of its sequence, are the rows of
one product, so each key and value is read once. Pages change addresses only: the same numbers give the same bits.
"""

# ruff: noqa: SIM108  (branches on constants are taken when compiling)

import triton
import triton.language as tl

# Maxima start at the lowest finite number: a row that has met no key is then scaled by exp2(0), not by NaN.
LOWEST = tl.constexpr(-3.4028234663852886e38)


@triton.jit
def attention_decode_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    k_scale_ptr,
    v_scale_ptr,
    table_ptr,
    lengths_ptr,
    out_ptr,
    max_ptr,
    sum_ptr,
    stride_qb,
    stride_qh,
    stride_qs,
    stride_kb,
    stride_kh,
    stride_ks,
    stride_vb,
    stride_vh,
    stride_vs,
    stride_tb,
    kv_heads,
    capacity,
    scale_log2,
    QUERIES: tl.constexpr,
    GROUP: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_N: tl.constexpr,
    PAGE: tl.constexpr,
):
    """q: (batch, kv_heads*GROUP, QUERIES, HEAD_DIM), k, v: (batch, kv_heads, capacity, HEAD_DIM); or (pages, kv_heads,
    PAGE, HEAD_DIM) with a table (batch, capacity/PAGE) and lengths (batch,). The queries are a sequence's last tokens.
    A cache in fp8, or in words of four fp8 numbers, has scales (kv_heads,).

    Program (sequence and K/V head, split) attends over its part of the keys, for all heads of the group and all
    queries. Reads k and v once. Writes out (batch, heads, QUERIES, HEAD_DIM) once; or where there are max and sum
    (batch, heads, QUERIES, splits), those and sums not yet divided (..., splits, HEAD_DIM), fp32."""
    split = tl.program_id(1)
    splits = tl.num_programs(1)
    sequence_head = tl.program_id(0).to(tl.int64)
    batch = sequence_head // kv_heads
    kv_head = sequence_head % kv_heads
    length = sequence_length(lengths_ptr, batch, capacity)
    part = keys_per_split(length, splits, BLOCK_N)
    start = split * part
    end = min(start + part, length)

    offs_d = tl.arange(0, HEAD_DIM)
    ELEMENTS: tl.constexpr = HEAD_DIM // 4 if k_ptr.dtype.element_ty == tl.int32 else HEAD_DIM  # words of four fp8
    offs_e = tl.arange(0, ELEMENTS)
    offs_n = tl.arange(0, BLOCK_N)
    offs_r = tl.arange(0, ROWS)
    in_rows = offs_r < GROUP * QUERIES
    query = offs_r % QUERIES
    q_base = q_ptr + batch * stride_qb + kv_head * GROUP * stride_qh
    q_rows = (offs_r // QUERIES).to(tl.int64) * stride_qh + query.to(tl.int64) * stride_qs
    q = tl.load(q_base + q_rows[:, None] + offs_d[None, :], mask=in_rows[:, None], other=0.0)
    if k_scale_ptr is not None:
        q, score_scale = _rows_in_fp16(q, scale_log2 * tl.load(k_scale_ptr + kv_head) * _unit(k_ptr))
    else:
        score_scale = scale_log2
    last_key = length - QUERIES + query  # the last that a row may see: its own

    # A block may start beyond 2**31 elements, so its start is int64; offsets inside a block are 32-bit.
    k_tile = offs_n[:, None] * stride_ks + offs_e[None, :]
    v_tile = offs_n[:, None] * stride_vs + offs_e[None, :]
    k_base = k_ptr + kv_head * stride_kh
    v_base = v_ptr + kv_head * stride_vh
    if table_ptr is not None:
        table_ptr += batch * stride_tb
        pages = _pages(table_ptr, start, end, BLOCK_N, PAGE)
    else:
        k_base += batch * stride_kb + start.to(tl.int64) * stride_ks
        v_base += batch * stride_vb + start.to(tl.int64) * stride_vs

    row_max = tl.full((ROWS,), LOWEST, dtype=tl.float32)
    row_sum = tl.zeros((ROWS,), dtype=tl.float32)
    accumulator = tl.zeros((ROWS, HEAD_DIM), dtype=tl.float32)
    for position in tl.range(start, end, BLOCK_N, disallow_acc_multi_buffer=True):
        in_cache = position + offs_n < end
        if table_ptr is not None:
            k_ptrs = _in_pages(k_base, pages, position, stride_kb, stride_ks, k_tile, offs_e, BLOCK_N, PAGE)
            v_ptrs = _in_pages(v_base, pages, position, stride_vb, stride_vs, v_tile, offs_e, BLOCK_N, PAGE)
            # Loaded a block ahead, so that no key waits for its address.
            pages = _pages(table_ptr, position + BLOCK_N, end, BLOCK_N, PAGE)
        else:
            k_ptrs = k_base + k_tile
            v_ptrs = v_base + v_tile
            k_base += tl.cast(BLOCK_N, tl.int64) * stride_ks
            v_base += tl.cast(BLOCK_N, tl.int64) * stride_vs
        k = _widened(tl.load(k_ptrs, mask=in_cache[:, None], other=0.0), q.dtype)
        scores = tl.dot(q, tl.trans(k), input_precision="ieee") * score_scale
        if QUERIES == 1:
            scores = tl.where(in_cache[None, :], scores, float("-inf"))
        else:
            seen = in_cache[None, :] & (position + offs_n[None, :] <= last_key[:, None])
            scores = tl.where(seen, scores, float("-inf"))
        new_max = tl.maximum(row_max, tl.max(scores, 1))
        weights = tl.exp2(scores - new_max[:, None])
        correction = tl.exp2(row_max - new_max)
        row_sum = row_sum * correction + tl.sum(weights, 1)
        v = _widened(tl.load(v_ptrs, mask=in_cache[:, None], other=0.0), q.dtype)
        accumulator = tl.dot(weights.to(v.dtype), v, accumulator * correction[:, None], input_precision="ieee")
        row_max = new_max

    if v_scale_ptr is not None:
        accumulator *= tl.load(v_scale_ptr + kv_head) * _unit(v_ptr)
    first_row = sequence_head * (GROUP * QUERIES)
    store_rows(accumulator, row_max, row_sum, first_row, in_rows, length, out_ptr, max_ptr, sum_ptr, ROWS, HEAD_DIM)


@triton.jit
def store_rows(
    accumulator,
    row_max,
    row_sum,
    first_row,
    in_rows,
    length,
    out_ptr,
    max_ptr,
    sum_ptr,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """Write ROWS rows of the result from the first on; where there are max and sum, this split's part of them."""
    offs_r = tl.arange(0, ROWS)
    offs_d = tl.arange(0, WIDTH)
    if max_ptr is None:
        out = accumulator * (1.0 / tl.where(length > 0, row_sum, 1.0))[:, None]  # no keys: zeros
        tile = offs_r[:, None] * WIDTH + offs_d[None, :]
        tl.store(out_ptr + first_row * WIDTH + tile, out.to(out_ptr.dtype.element_ty), mask=in_rows[:, None])
    else:
        splits = tl.num_programs(1)
        first_part = first_row * splits + tl.program_id(1)
        parts = offs_r * splits
        tl.store(max_ptr + first_part + parts, row_max, mask=in_rows)
        tl.store(sum_ptr + first_part + parts, row_sum, mask=in_rows)
        tile = parts[:, None] * WIDTH + offs_d[None, :]
        tl.store(out_ptr + first_part * WIDTH + tile, accumulator, mask=in_rows[:, None])


@triton.jit
def attention_merge_kernel(
    parts_ptr,
    max_ptr,
    sum_ptr,
    lengths_ptr,
    out_ptr,
    capacity,
    splits,
    rows_per_sequence,
    WIDTH: tl.constexpr,
    BLOCK_S: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """parts: (rows, splits, WIDTH), max, sum: (rows, splits), fp32, out: (rows, WIDTH). Program (row, part of WIDTH)
    reads its parts once, with the row's sums and maxima, rescales them to the common maximum, and writes out once. A
    split without keys has a sum of 0."""
    row = tl.program_id(0).to(tl.int64)
    length = sequence_length(lengths_ptr, row // rows_per_sequence, capacity)
    offs_s = tl.arange(0, BLOCK_S)
    offs_d = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    inside = offs_s < splits
    first_part = row * splits
    part_max = tl.load(max_ptr + first_part + offs_s, mask=inside, other=LOWEST)
    part_sum = tl.load(sum_ptr + first_part + offs_s, mask=inside, other=0.0)
    tile = offs_s[:, None] * WIDTH + offs_d[None, :]
    parts = tl.load(parts_ptr + first_part * WIDTH + tile, mask=inside[:, None], other=0.0)
    scale = tl.exp2(part_max - tl.max(part_max, 0))
    merged = tl.sum(parts * scale[:, None], 0) / tl.where(length > 0, tl.sum(part_sum * scale, 0), 1.0)
    tl.store(out_ptr + row * WIDTH + offs_d, merged.to(out_ptr.dtype.element_ty))


@triton.jit
def sequence_length(lengths_ptr, batch, capacity):
    """Keys of a sequence: its length, at most the capacity; without lengths, the capacity."""
    if lengths_ptr is not None:
        length = min(tl.load(lengths_ptr + batch), capacity)
    else:
        length = capacity
    return length


@triton.jit
def keys_per_split(length, splits, BLOCK_N: tl.constexpr):
    """Keys of a part: whole blocks, and at least one."""
    return max(tl.cdiv(tl.cdiv(length, splits), BLOCK_N), 1) * BLOCK_N


@triton.jit
def _pages(table_ptr, position, end, BLOCK_N: tl.constexpr, PAGE: tl.constexpr):
    """The page of the BLOCK_N keys from `position` on, or of each key where pages are shorter. As loaded: the compiled
    pipeline would wait here for any computation on it. Reads no entry of keys beyond the end."""
    if PAGE >= BLOCK_N:
        pages = tl.load(table_ptr + position // PAGE, mask=position < end, other=0)
    else:
        keys = position + tl.arange(0, BLOCK_N)
        pages = tl.load(table_ptr + keys // PAGE, mask=keys < end, other=0)
    return pages


@triton.jit
def _in_pages(base, pages, position, stride_page, stride_key, tile, columns, BLOCK_N: tl.constexpr, PAGE: tl.constexpr):
    """Addresses of the BLOCK_N keys from `position` on, a multiple of BLOCK_N; by `tile` where they share a page."""
    pages = pages.to(tl.int64)
    if PAGE >= BLOCK_N:
        ptrs = base + pages * stride_page + position % PAGE * stride_key + tile
    else:
        in_page = tl.arange(0, BLOCK_N) % PAGE * stride_key
        ptrs = base + pages[:, None] * stride_page + (in_page[:, None] + columns[None, :])
    return ptrs


@triton.jit
def _rows_in_fp16(q, scale):
    """q: (rows, HEAD_DIM) as fp16, and the factor for its products. fp16 holds every fp8 number exactly. A power of two
    brings a row of bf16 into fp16's range."""
    if q.dtype == tl.float16:
        rows = q
        factor = scale
    else:
        wide = q.to(tl.float32)
        exponent = tl.max(tl.abs(wide), 1).to(tl.int32, bitcast=True) & 0x7F800000
        power = tl.maximum(exponent.to(tl.float32, bitcast=True), 1.1754943508222875e-38)
        rows = (wide / power[:, None]).to(tl.float16)
        factor = (power * scale)[:, None]
    return rows, factor


@triton.jit
def _unit(cache_ptr):
    """The factor that `_widened` leaves out."""
    unit: tl.constexpr = 256.0 if cache_ptr.dtype.element_ty == tl.int32 else 1.0
    return unit


@triton.jit
def _widened(x, dtype: tl.constexpr):
    """An operand of a product: fp8 as `dtype`; words of four fp8 numbers as fp16, times 2**-8."""
    if x.dtype == tl.int32:
        even, odd = _two_in_fp16(x << 8), _two_in_fp16(x)
        first = tl.join(even.to(tl.int16), (even >> 16).to(tl.int16))
        second = tl.join(odd.to(tl.int16), (odd >> 16).to(tl.int16))
        halves = tl.join(first, second).reshape(x.shape[0], x.shape[1] * 4)
        wide = _detached(halves.to(tl.float16, bitcast=True))
    elif x.dtype == tl.float8e4nv:
        wide = _detached(x.to(dtype))
    else:
        wide = x
    return wide


@triton.jit
def _two_in_fp16(words):
    """The fp8 numbers in the upper bytes of both halves of each word, as fp16 times 2**-8, without hardware that
    converts: four bits of exponent, biased by 7, move to fp16's five, biased by 15. NaN stays NaN."""
    magnitude = (words >> 1) & 0x3F803F80
    return words & -0x7FFF8000 | magnitude | (magnitude + 0x00800080) & 0x40004000


@triton.jit
def _detached(x):
    """Return x through a sum over an axis of one, which compiles to nothing. Without it, Triton carries the layout of
    the product's operand back through the conversion to the 8-bit load, and reads shared memory byte by byte."""
    return tl.sum(x.reshape(x.shape[0], x.shape[1], 1), 2)
