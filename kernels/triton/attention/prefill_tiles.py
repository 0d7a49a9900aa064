"""Attention's Triton kernels: a block of queries stays on chip while keys and values pass; scores never leave the chip.

One kernel computes every mask (none, causal, window, varlen), whole rows or parts of them. Keys and values come by
pointers (any strides, any architecture), by the host's descriptors, or by descriptors that each program makes, which is
what Triton can warp-specialize on Hopper.
"""

# ruff: noqa: SIM108  (branches on constants are taken when compiling)

import triton
import triton.language as tl


@triton.jit
def attention_kernel(
    q_ptr,
    k_source,
    v_source,
    out_ptr,
    lse_ptr,
    offsets_ptr,
    stride_qb,
    stride_qh,
    stride_qs,
    stride_kb,
    stride_kh,
    stride_ks,
    stride_vb,
    stride_vh,
    stride_vs,
    stride_outb,
    stride_outh,
    stride_outs,
    batch_size,
    heads,
    queries,
    keys,
    window,
    keys_per_part,
    section,
    scale_log2,
    GROUP: tl.constexpr,
    PACK: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    MASK: tl.constexpr,
    IN_PARTS: tl.constexpr,
    OPERANDS: tl.constexpr,
    ORDER: tl.constexpr,
    WARP_SPECIALIZE: tl.constexpr,
):
    """q: (batch, heads, queries, HEAD_DIM), k, v: (batch, heads/GROUP, keys, HEAD_DIM), out: (parts*batch, heads,
    queries, HEAD_DIM), lse: (parts*batch, heads, queries) fp32 or None. Reads q and writes out once. Each block of
    BLOCK_M rows reads the keys and values that its mask shows, mostly from L2.

    The last query stands at the last key. A row is a query of one head; with PACK heads of a group, rows are the heads
    of a query in turn. With offsets, (sequences + 1,), batch is 1, and queries and keys are tokens of sequences end to
    end (varlen). Program (block and head, part) attends over keys_per_part keys, or over all where not IN_PARTS.
    `section` heads share L2. scale_log2: scale*log2(e).
    """
    pairs = batch_size * (heads // PACK)
    blocks = tl.num_programs(0) // pairs
    block, pair = find_block(tl.program_id(0), blocks, pairs, section)
    batch = pair // (heads // PACK)
    first_head = pair % (heads // PACK) * PACK
    kv_head = first_head // GROUP
    if offsets_ptr is None:
        token = 0
    else:
        sequence = _find_sequence(offsets_ptr, blocks - tl.cdiv(queries, BLOCK_M), block, BLOCK_M)
        token = tl.load(offsets_ptr + sequence)
        queries = tl.load(offsets_ptr + sequence + 1) - token
        keys = queries
        block -= token // BLOCK_M + sequence
        if block * BLOCK_M >= queries:
            return

    # A block may start beyond 2**31 elements, so its start is int64; offsets inside a block are 32-bit.
    first_row = block * BLOCK_M
    row = first_row + tl.arange(0, BLOCK_M)
    offs_d = tl.arange(0, HEAD_DIM)
    batch64, head64, kv_head64 = batch.to(tl.int64), first_head.to(tl.int64), kv_head.to(tl.int64)
    token64 = tl.cast(token, tl.int64)
    place = token64 + first_row // PACK
    q_base = q_ptr + batch64 * stride_qb + head64 * stride_qh
    k_base = batch64 * stride_kb + kv_head64 * stride_kh + token64 * stride_ks
    v_base = batch64 * stride_vb + kv_head64 * stride_vh + token64 * stride_vs
    if OPERANDS == "own_descriptors":
        q_base += token64 * stride_qs
        q_block = tl.make_tensor_descriptor(q_base, [queries, HEAD_DIM], [stride_qs, 1], [BLOCK_M, HEAD_DIM])
        k = tl.make_tensor_descriptor(k_source + k_base, [keys, HEAD_DIM], [stride_ks, 1], [BLOCK_N, HEAD_DIM])
        v = tl.make_tensor_descriptor(v_source + v_base, [keys, HEAD_DIM], [stride_vs, 1], [BLOCK_N, HEAD_DIM])
        q = q_block.load([first_row, 0])
    else:
        q_rows = q_base + place * stride_qs + _row_offsets(row, first_row, stride_qh, stride_qs, PACK)
        q = tl.load(q_rows[:, None] + offs_d[None, :], mask=(row < queries * PACK)[:, None], other=0.0)
        if OPERANDS == "descriptors":
            k, v = k_source, v_source
        else:
            k, v = k_source + k_base, v_source + v_base

    start, left, whole, end = _find_keys(
        first_row, queries, keys, window, keys_per_part, PACK, BLOCK_M, BLOCK_N, MASK, IN_PARTS
    )

    MAY_BE_EMPTY: tl.constexpr = MASK == "window" or IN_PARTS
    head_keys = (batch, kv_head, token, keys)
    seen = (left, whole, row // PACK + keys - queries, window)
    out, row_max, row_sum = _attend_in_order(
        q, k, v, stride_ks, stride_vs, head_keys, seen, scale_log2, start, end,
        BLOCK_N, MASK, MAY_BE_EMPTY, offsets_ptr is not None, OPERANDS, ORDER, WARP_SPECIALIZE,
    )  # fmt: skip
    if MAY_BE_EMPTY:  # rows that saw no key of a part, and those beyond the queries
        row_sum = tl.where(row_sum > 0, row_sum, 1.0)
    out = out / row_sum[:, None]
    if IN_PARTS:
        batch64 += tl.program_id(1) * batch_size
    in_rows = row < queries * PACK
    out_base = out_ptr + batch64 * stride_outb + head64 * stride_outh + place * stride_outs
    out_rows = out_base + _row_offsets(row, first_row, stride_outh, stride_outs, PACK)
    tl.store(out_rows[:, None] + offs_d[None, :], out.to(out_ptr.dtype.element_ty), mask=in_rows[:, None])
    if lse_ptr is not None:
        lse = (row_max + tl.log2(row_sum)) * 0.6931471805599453  # times ln(2), for a natural logarithm
        lse_base = lse_ptr + (batch64 * heads + head64) * queries + place
        tl.store(lse_base + _row_offsets(row, first_row, queries, 1, PACK), lse, mask=in_rows)


@triton.jit
def merge_parts_kernel(
    partial_out_ptr,
    partial_lse_ptr,
    out_ptr,
    stride_outb,
    stride_outh,
    stride_outs,
    heads,
    queries,
    rows,
    parts,
    HEAD_DIM: tl.constexpr,
    BLOCK_M: tl.constexpr,
):
    """partials: (parts, rows[, HEAD_DIM]) fp32, out: (batch, heads, queries, HEAD_DIM), rows = batch*heads*queries.
    Reads the partials once and writes out once: the mean of each row's parts, weighed by their log-sum-exps."""
    row = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    row64 = row.to(tl.int64)
    offs_d = tl.arange(0, HEAD_DIM)
    in_rows = row < rows
    largest = tl.full((BLOCK_M,), float("-inf"), dtype=tl.float32)
    total = tl.zeros((BLOCK_M,), dtype=tl.float32)
    out = tl.zeros((BLOCK_M, HEAD_DIM), dtype=tl.float32)
    for part in range(parts):
        place = tl.cast(part, tl.int64) * rows + row64
        lse = tl.load(partial_lse_ptr + place, mask=in_rows, other=0.0)
        one = tl.load(partial_out_ptr + place[:, None] * HEAD_DIM + offs_d[None, :], mask=in_rows[:, None], other=0.0)
        # Never -inf: every row sees the first key, which is in the first part.
        new_largest = tl.maximum(largest, lse)
        weight = tl.exp(lse - new_largest)
        correction = tl.exp(largest - new_largest)
        total = total * correction + weight
        out = out * correction[:, None] + one * weight[:, None]
        largest = new_largest
    pair = row // queries
    batch64, head64, query64 = (pair // heads).to(tl.int64), (pair % heads).to(tl.int64), (row % queries).to(tl.int64)
    out_rows = out_ptr + batch64 * stride_outb + head64 * stride_outh + query64 * stride_outs
    out = (out / total[:, None]).to(out_ptr.dtype.element_ty)
    tl.store(out_rows[:, None] + offs_d[None, :], out, mask=in_rows[:, None])


@triton.jit
def find_block(program, blocks, pairs, section):
    """The block of rows, and the pair of batch and head, that a program takes. `section` pairs, whose keys and values
    stay in L2 together, come first; of these the last and longest blocks, so that short ones fill the tail."""
    first = program // (blocks * section) * section
    inside = program - first * blocks
    pairs_here = min(section, pairs - first)
    return blocks - 1 - inside // pairs_here, first + inside % pairs_here


@triton.jit
def _find_sequence(offsets_ptr, sequences, slot, BLOCK_M: tl.constexpr):
    """The sequence that owns a slot of varlen attention. Slots of sequence i begin at offsets[i] // BLOCK_M + i, which
    leaves room for all of its blocks. So no lengths are summed, and the number of slots depends on none."""
    SEARCH: tl.constexpr = 128
    begun = 0
    for first in range(0, sequences, SEARCH):
        index = first + tl.arange(0, SEARCH)
        offset = tl.load(offsets_ptr + index, mask=index < sequences, other=0)
        begun += tl.sum(((index < sequences) & (offset // BLOCK_M + index <= slot)).to(tl.int32), 0)
    return begun - 1


@triton.jit
def _find_keys(
    first_row,
    queries,
    keys,
    window,
    keys_per_part,
    PACK: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    MASK: tl.constexpr,
    IN_PARTS: tl.constexpr,
):
    """Returns start, left, whole, end: some rows of a block see the keys from start to end, and all rows see those from
    left to whole. All but the end are multiples of BLOCK_N."""
    low = first_row // PACK + keys - queries
    high = min((first_row + BLOCK_M - 1) // PACK, queries - 1) + keys - queries
    if MASK == "full":
        end = keys
        whole = keys // BLOCK_N * BLOCK_N
    else:
        end = high + 1
        whole = (low + 1) // BLOCK_N * BLOCK_N
    if MASK == "window":
        start = max(low - window + 1, 0) // BLOCK_N * BLOCK_N
        left = min(tl.cdiv(max(high - window + 1, 0), BLOCK_N) * BLOCK_N, end)
        whole = max(whole, left)
    elif IN_PARTS:
        start = tl.program_id(1) * keys_per_part
        left = start
        end = min(end, start + keys_per_part)
        whole = max(start, min(whole, end))
    else:
        start = 0
        left = 0
    return start, left, whole, end


@triton.jit
def _row_offsets(row, first_row, stride_h, stride_s, PACK: tl.constexpr):
    """Offsets of rows from the first head of the first row's query; int64 only where heads take part."""
    if PACK == 1:
        offsets = (row - first_row) * stride_s
    else:
        offsets = (row // PACK - first_row // PACK) * stride_s + (row % PACK).to(tl.int64) * stride_h
    return offsets


@triton.jit
def _attend_in_order(
    q,
    k,
    v,
    stride_ks,
    stride_vs,
    head_keys,
    seen,
    scale_log2,
    start,
    end,
    BLOCK_N: tl.constexpr,
    MASK: tl.constexpr,
    MAY_BE_EMPTY: tl.constexpr,
    VARLEN: tl.constexpr,
    OPERANDS: tl.constexpr,
    ORDER: tl.constexpr,
    WARP_SPECIALIZE: tl.constexpr,
):
    """Take in all keys from start to end. Returns what `_attend` does."""
    row_max = tl.full((q.shape[0],), float("-inf"), dtype=tl.float32)
    row_sum = tl.zeros((q.shape[0],), dtype=tl.float32)
    out = tl.zeros((q.shape[0], q.shape[1]), dtype=tl.float32)
    if ORDER == "overlapped":
        out, row_max, row_sum = _attend_overlapped(
            q, k, v, head_keys, seen, scale_log2, start, end, out, row_max, row_sum,
            BLOCK_N, MASK, MAY_BE_EMPTY, VARLEN, OPERANDS,
        )  # fmt: skip
    elif ORDER == "one_loop" or WARP_SPECIALIZE:  # Hopper specializes a single loop, and not around a branch
        MASKED: tl.constexpr = "edges" if ORDER == "one_loop" else "always"
        out, row_max, row_sum = _attend(
            q, k, v, stride_ks, stride_vs, head_keys, seen, scale_log2, start, end, out, row_max, row_sum,
            BLOCK_N, MASK, MAY_BE_EMPTY, VARLEN, OPERANDS, WARP_SPECIALIZE, MASKED,
        )  # fmt: skip
    else:
        for part in tl.static_range(0 if MASK == "window" else 1, 3):  # left edge, whole blocks, right edge
            first = start if part == 0 else (seen[0] if part == 1 else seen[1])
            last = seen[0] if part == 0 else (seen[1] if part == 1 else end)
            out, row_max, row_sum = _attend(
                q, k, v, stride_ks, stride_vs, head_keys, seen, scale_log2, first, last, out, row_max, row_sum,
                BLOCK_N, MASK, MAY_BE_EMPTY, VARLEN, OPERANDS, WARP_SPECIALIZE, "never" if part == 1 else "always",
            )  # fmt: skip
    return out, row_max, row_sum


@triton.jit
def _attend(
    q,
    k,
    v,
    stride_ks,
    stride_vs,
    head_keys,
    seen,
    scale_log2,
    start,
    end,
    out,
    row_max,
    row_sum,
    BLOCK_N: tl.constexpr,
    MASK: tl.constexpr,
    MAY_BE_EMPTY: tl.constexpr,
    VARLEN: tl.constexpr,
    OPERANDS: tl.constexpr,
    WARP_SPECIALIZE: tl.constexpr,
    MASKED: tl.constexpr,
):
    """Take in the keys from start to end. Returns sums of values weighed by 2**(score - row_max), and each row's
    maximum and sum of weights. `head_keys`: see `load_block`; `seen`: see `_weigh`."""
    HEAD_DIM: tl.constexpr = q.shape[1]
    RAGGED: tl.constexpr = MASKED != "never"
    for first in tl.range(start, end, BLOCK_N, warp_specialize=WARP_SPECIALIZE):
        column = first + tl.arange(0, BLOCK_N)
        block = load_block(k, stride_ks, head_keys, first, HEAD_DIM, BLOCK_N, RAGGED, OPERANDS)
        scores = tl.dot(q, tl.trans(block), input_precision="ieee")
        weights, correction, row_max, row_sum = _weigh(
            scores, first, column, head_keys, seen, scale_log2, row_max, row_sum, MASK, MAY_BE_EMPTY, MASKED
        )
        out = out * correction[:, None]
        block = load_block(v, stride_vs, head_keys, first, HEAD_DIM, BLOCK_N, RAGGED, OPERANDS)
        if RAGGED and VARLEN and OPERANDS == "descriptors":
            block = _without_next_sequence(block, first, head_keys, BLOCK_N)
        out = tl.dot(weights.to(block.dtype), block, out, input_precision="ieee")
    return out, row_max, row_sum


@triton.jit
def _attend_overlapped(
    q,
    k,
    v,
    head_keys,
    seen,
    scale_log2,
    start,
    end,
    out,
    row_max,
    row_sum,
    BLOCK_N: tl.constexpr,
    MASK: tl.constexpr,
    MAY_BE_EMPTY: tl.constexpr,
    VARLEN: tl.constexpr,
    OPERANDS: tl.constexpr,
):
    """`_attend` with values one block behind keys: their product runs while the exponentials of a block are taken, and
    only the next scores wait for it. Weights wait in fp32, since Triton would move rounded ones to shared memory."""
    HEAD_DIM: tl.constexpr = q.shape[1]
    weights = tl.zeros((q.shape[0], BLOCK_N), dtype=tl.float32)
    correction = tl.full((q.shape[0],), 1.0, dtype=tl.float32)
    outside = -BLOCK_N - head_keys[2]  # where descriptors find zeros: values that no weight has met yet might be NaN
    for first in tl.range(start, end, BLOCK_N):
        keys_here = load_block(k, 0, head_keys, first, HEAD_DIM, BLOCK_N, MASKED=True, OPERANDS=OPERANDS)
        scores = tl.dot(q, tl.trans(keys_here), input_precision="ieee")
        before = tl.where(first > start, first - BLOCK_N, outside)
        values = load_block(v, 0, head_keys, before, HEAD_DIM, BLOCK_N, MASKED=True, OPERANDS=OPERANDS)
        out = tl.dot(weights.to(values.dtype), values, out * correction[:, None], input_precision="ieee")
        weights, correction, row_max, row_sum = _weigh(
            scores, first, first + tl.arange(0, BLOCK_N), head_keys, seen, scale_log2, row_max, row_sum,
            MASK, MAY_BE_EMPTY, MASKED="edges",
        )  # fmt: skip
    last = tl.where(end > start, (end - 1) // BLOCK_N * BLOCK_N, outside)
    block = load_block(v, 0, head_keys, last, HEAD_DIM, BLOCK_N, MASKED=True, OPERANDS=OPERANDS)
    if VARLEN and OPERANDS == "descriptors":
        block = _without_next_sequence(block, last, head_keys, BLOCK_N)
    out = tl.dot(weights.to(block.dtype), block, out * correction[:, None], input_precision="ieee")
    return out, row_max, row_sum


@triton.jit
def _weigh(
    scores,
    first,
    column,
    head_keys,
    seen,
    scale_log2,
    row_max,
    row_sum,
    MASK: tl.constexpr,
    MAY_BE_EMPTY: tl.constexpr,
    MASKED: tl.constexpr,
):
    """Weights of a block of keys, the factor by which they lessen those before it, and the rows' new maxima and sums.
    `seen`: left, whole (all rows see the keys from left to whole), each row's position, and the window. Where MASKED,
    "always" or at the "edges" outside of left to whole, a row may not see all keys; where MAY_BE_EMPTY, it may see
    none."""
    left, whole, position, window = seen
    if MASKED == "edges":
        if (first < left) | (first >= whole):
            scores = _hide(scores, column, head_keys[3], position, window, MASK)
    elif MASKED == "always":
        scores = _hide(scores, column, head_keys[3], position, window, MASK)
    new_max = tl.maximum(row_max, tl.max(scores, 1) * scale_log2)
    if MASKED != "never" and MAY_BE_EMPTY:
        shift = tl.where(new_max == float("-inf"), 0.0, new_max)
    else:
        shift = new_max
    weights = tl.exp2(scores * scale_log2 - shift[:, None])
    correction = tl.exp2(row_max - shift)
    return weights, correction, new_max, row_sum * correction + tl.sum(weights, 1)


@triton.jit
def _hide(scores, column, keys, position, window, MASK: tl.constexpr):
    """Scores, with -inf where a row does not see a key."""
    if MASK == "full":
        seen = (column < keys)[None, :]
    else:
        seen = column[None, :] <= position[:, None]
    if MASK == "window":
        seen &= column[None, :] > (position - window)[:, None]
    return tl.where(seen, scores, float("-inf"))


@triton.jit
def _without_next_sequence(block, first, head_keys, BLOCK_N: tl.constexpr):
    """Values of this sequence, and zeros. Weights of the next sequence are zero, but zero times NaN is NaN."""
    return tl.where((first + tl.arange(0, BLOCK_N) < head_keys[3])[:, None], block, 0.0)


@triton.jit
def load_block(
    source,
    stride,
    head_keys,
    first,
    HEAD_DIM: tl.constexpr,
    BLOCK_N: tl.constexpr,
    MASKED: tl.constexpr,
    OPERANDS: tl.constexpr,
):
    """BLOCK_N rows of a head from `first` on. `head_keys`: batch and K/V head, which the host's descriptors need, where
    its sequence begins, and how many keys that has. Rows beyond them are zeros: by the program's descriptors always, by
    the host's where no sequence follows, by pointers where MASKED."""
    batch, kv_head, token, keys = head_keys
    if OPERANDS == "descriptors":
        block = source.load([batch, kv_head, token + first, 0]).reshape(BLOCK_N, HEAD_DIM)
    elif OPERANDS == "own_descriptors":
        block = source.load([first, 0])
    else:
        offs_n = tl.arange(0, BLOCK_N)
        rows = source + tl.cast(first, tl.int64) * stride + offs_n * stride
        tile = rows[:, None] + tl.arange(0, HEAD_DIM)[None, :]
        if MASKED:
            block = tl.load(tile, mask=(offs_n < keys - first)[:, None], other=0.0)
        else:
            block = tl.load(tile)
    return block
