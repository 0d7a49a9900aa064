"""Triton kernels of attention's backward pass: sums of out*grad, then gradients of keys and values, then of queries.

Weights are computed again from the forward pass's log-sum-exp. Each program sums all that it writes in registers, so no
two add to the same number, and every run gives the same results.
"""

import triton
import triton.language as tl

from kernels.triton.attention.prefill_tiles import find_block, load_block


@triton.jit
def attention_delta_kernel(
    out_ptr,
    grad_ptr,
    delta_ptr,
    stride_outb,
    stride_outh,
    stride_outs,
    stride_gradb,
    stride_gradh,
    stride_grads,
    heads,
    seq,
    HEAD_DIM: tl.constexpr,
    BLOCK_M: tl.constexpr,
):
    """out, grad: (batch, heads, seq, HEAD_DIM), delta: (batch, heads, seq) fp32: the sum of out*grad in each row. Reads
    out and grad once, writes delta once."""
    blocks = tl.cdiv(seq, BLOCK_M)
    pair = tl.program_id(0) // blocks
    first = tl.program_id(0) % blocks * BLOCK_M
    batch, head = (pair // heads).to(tl.int64), (pair % heads).to(tl.int64)
    out_base = out_ptr + batch * stride_outb + head * stride_outh
    grad_base = grad_ptr + batch * stride_gradb + head * stride_gradh
    out = load_block(out_base, stride_outs, (0, 0, 0, seq), first, HEAD_DIM, BLOCK_M, MASKED=True, OPERANDS="pointers")
    grad = load_block(
        grad_base, stride_grads, (0, 0, 0, seq), first, HEAD_DIM, BLOCK_M, MASKED=True, OPERANDS="pointers"
    )
    delta = tl.sum(out.to(tl.float32) * grad.to(tl.float32), 1)
    offs_m = tl.arange(0, BLOCK_M)
    tl.store(delta_ptr + pair.to(tl.int64) * seq + first + offs_m, delta, mask=offs_m < seq - first)


@triton.jit
def attention_backward_keys_kernel(
    q_source,
    k_ptr,
    v_ptr,
    grad_source,
    lse_ptr,
    delta_ptr,
    dk_ptr,
    dv_ptr,
    stride_qb,
    stride_qh,
    stride_qs,
    stride_kb,
    stride_kh,
    stride_ks,
    stride_vb,
    stride_vh,
    stride_vs,
    stride_gradb,
    stride_gradh,
    stride_grads,
    stride_dkb,
    stride_dkh,
    stride_dks,
    stride_dvb,
    stride_dvh,
    stride_dvs,
    heads,
    seq,
    section,
    scale,
    GROUP: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    OPERANDS: tl.constexpr,
):
    """q, grad: (batch, heads, seq, HEAD_DIM), k, v, dk, dv: (batch, heads/GROUP, seq, HEAD_DIM), lse, delta: (batch,
    heads, seq) fp32. Reads k and v, and writes dk and dv, once. Each block of BLOCK_N keys reads the queries and
    upstream gradients of all heads of its group from its diagonal on, mostly from L2, which `section` K/V heads
    share."""
    kv_heads = heads // GROUP
    blocks = tl.cdiv(seq, BLOCK_N)
    from_last, pair = find_block(tl.program_id(0), blocks, tl.num_programs(0) // blocks, section)
    first = (blocks - 1 - from_last) * BLOCK_N  # the first keys are seen by most queries
    batch, kv_head = pair // kv_heads, pair % kv_heads
    batch64, kv_head64 = batch.to(tl.int64), kv_head.to(tl.int64)
    k_base = k_ptr + batch64 * stride_kb + kv_head64 * stride_kh
    v_base = v_ptr + batch64 * stride_vb + kv_head64 * stride_vh
    k = load_block(k_base, stride_ks, (0, 0, 0, seq), first, HEAD_DIM, BLOCK_N, MASKED=True, OPERANDS="pointers")
    v = load_block(v_base, stride_vs, (0, 0, 0, seq), first, HEAD_DIM, BLOCK_N, MASKED=True, OPERANDS="pointers")
    dk = tl.zeros((BLOCK_N, HEAD_DIM), dtype=tl.float32)
    dv = tl.zeros((BLOCK_N, HEAD_DIM), dtype=tl.float32)
    scale_log2 = scale * 1.4426950408889634  # log2(e)
    for head in range(kv_head * GROUP, kv_head * GROUP + GROUP):
        row_base = (batch64 * heads + head) * seq
        if OPERANDS == "descriptors":
            q, grad = q_source, grad_source
        else:
            head64 = tl.cast(head, tl.int64)
            q = q_source + batch64 * stride_qb + head64 * stride_qh
            grad = grad_source + batch64 * stride_gradb + head64 * stride_gradh
        dk, dv = _gather_keys(
            q, k, v, grad, lse_ptr + row_base, delta_ptr + row_base, stride_qs, stride_grads, batch, head, first, seq,
            scale_log2, dk, dv, BLOCK_M, OPERANDS,
        )  # fmt: skip
    dk_base = dk_ptr + batch64 * stride_dkb + kv_head64 * stride_dkh
    dv_base = dv_ptr + batch64 * stride_dvb + kv_head64 * stride_dvh
    _store_block(dk_base, stride_dks, first, seq, dk * scale)
    _store_block(dv_base, stride_dvs, first, seq, dv)


@triton.jit
def _gather_keys(
    q,
    k,
    v,
    grad,
    lse_ptr,
    delta_ptr,
    stride_qs,
    stride_grads,
    batch,
    head,
    first_key,
    seq,
    scale_log2,
    dk,
    dv,
    BLOCK_M: tl.constexpr,
    OPERANDS: tl.constexpr,
):
    """Add the contributions of the queries of one head to dk and dv; queries beyond the sequence are zeros and
    contribute zeros. Everything is transposed: rows are keys. Products begin at what would be subtracted from them,
    which takes fewer registers."""
    BLOCK_N: tl.constexpr = k.shape[0]
    HEAD_DIM: tl.constexpr = k.shape[1]
    column = first_key + tl.arange(0, BLOCK_N)
    for first in tl.range(first_key // BLOCK_M * BLOCK_M, seq, BLOCK_M):
        row = first + tl.arange(0, BLOCK_M)
        lse = tl.load(lse_ptr + row, mask=row < seq, other=0.0)
        shift = tl.broadcast_to((lse * (-1.4426950408889634 / scale_log2))[None, :], (BLOCK_N, BLOCK_M))
        queries = load_block(
            q, stride_qs, (batch, head, 0, seq), first, HEAD_DIM, BLOCK_M, MASKED=True, OPERANDS=OPERANDS
        )
        weights = tl.exp2(tl.dot(k, tl.trans(queries), shift, input_precision="ieee") * scale_log2)
        if OPERANDS == "descriptors":  # by pointers, a branch would move weights through shared memory
            if first < first_key + BLOCK_N:
                weights = tl.where(column[:, None] <= row[None, :], weights, 0.0)
        else:
            weights = tl.where(column[:, None] <= row[None, :], weights, 0.0)
        upstream = load_block(
            grad, stride_grads, (batch, head, 0, seq), first, HEAD_DIM, BLOCK_M, MASKED=True, OPERANDS=OPERANDS
        )
        dv = tl.dot(weights.to(upstream.dtype), upstream, dv, input_precision="ieee")
        delta = tl.load(delta_ptr + row, mask=row < seq, other=0.0)
        shift = tl.broadcast_to(-delta[None, :], (BLOCK_N, BLOCK_M))
        slopes = weights * tl.dot(v, tl.trans(upstream), shift, input_precision="ieee")
        dk = tl.dot(slopes.to(queries.dtype), queries, dk, input_precision="ieee")
    return dk, dv


@triton.jit
def attention_backward_queries_kernel(
    q_ptr,
    k_source,
    v_source,
    grad_ptr,
    lse_ptr,
    delta_ptr,
    dq_ptr,
    stride_qb,
    stride_qh,
    stride_qs,
    stride_kb,
    stride_kh,
    stride_ks,
    stride_vb,
    stride_vh,
    stride_vs,
    stride_gradb,
    stride_gradh,
    stride_grads,
    stride_dqb,
    stride_dqh,
    stride_dqs,
    heads,
    seq,
    section,
    scale,
    GROUP: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    OPERANDS: tl.constexpr,
):
    """q, grad, dq: (batch, heads, seq, HEAD_DIM), k, v: (batch, heads/GROUP, seq, HEAD_DIM), lse, delta: (batch, heads,
    seq) fp32. Reads q, grad, lse and delta, and writes dq, once. Each block of BLOCK_M queries reads the keys and
    values up to its diagonal, mostly from L2, which `section` heads share."""
    blocks = tl.cdiv(seq, BLOCK_M)
    block, pair = find_block(tl.program_id(0), blocks, tl.num_programs(0) // blocks, section)
    first = block * BLOCK_M
    batch, head = pair // heads, pair % heads
    kv_head = head // GROUP
    batch64, head64, kv_head64 = batch.to(tl.int64), head.to(tl.int64), kv_head.to(tl.int64)
    q_base = q_ptr + batch64 * stride_qb + head64 * stride_qh
    grad_base = grad_ptr + batch64 * stride_gradb + head64 * stride_gradh
    q = load_block(q_base, stride_qs, (0, 0, 0, seq), first, HEAD_DIM, BLOCK_M, MASKED=True, OPERANDS="pointers")
    grad = load_block(
        grad_base, stride_grads, (0, 0, 0, seq), first, HEAD_DIM, BLOCK_M, MASKED=True, OPERANDS="pointers"
    )
    row = first + tl.arange(0, BLOCK_M)
    row_base = pair.to(tl.int64) * seq
    lse_log2 = tl.load(lse_ptr + row_base + row, mask=row < seq, other=0.0) * 1.4426950408889634
    delta = tl.load(delta_ptr + row_base + row, mask=row < seq, other=0.0)
    if OPERANDS == "descriptors":
        k, v = k_source, v_source
    else:
        k = k_source + batch64 * stride_kb + kv_head64 * stride_kh
        v = v_source + batch64 * stride_vb + kv_head64 * stride_vh
    dq = tl.zeros((BLOCK_M, HEAD_DIM), dtype=tl.float32)
    scale_log2 = scale * 1.4426950408889634  # log2(e)
    whole = (first + 1) // BLOCK_N * BLOCK_N
    end = min(first + BLOCK_M, seq)
    dq = _gather_queries(
        q, k, v, grad, lse_log2, delta, stride_ks, stride_vs, batch, kv_head, row, 0, whole, seq,
        scale_log2, dq, BLOCK_N, OPERANDS, MASKED=False,
    )  # fmt: skip
    dq = _gather_queries(
        q, k, v, grad, lse_log2, delta, stride_ks, stride_vs, batch, kv_head, row, whole, end, seq,
        scale_log2, dq, BLOCK_N, OPERANDS, MASKED=True,
    )  # fmt: skip
    _store_block(dq_ptr + batch64 * stride_dqb + head64 * stride_dqh, stride_dqs, first, seq, dq * scale)


@triton.jit
def _gather_queries(
    q,
    k,
    v,
    grad,
    lse_log2,
    delta,
    stride_ks,
    stride_vs,
    batch,
    kv_head,
    row,
    start,
    end,
    seq,
    scale_log2,
    dq,
    BLOCK_N: tl.constexpr,
    OPERANDS: tl.constexpr,
    MASKED: tl.constexpr,
):
    """Add the contributions of the keys from start to end to dq."""
    HEAD_DIM: tl.constexpr = q.shape[1]
    for first in tl.range(start, end, BLOCK_N):
        keys = load_block(k, stride_ks, (batch, kv_head, 0, seq), first, HEAD_DIM, BLOCK_N, MASKED, OPERANDS)
        scores = tl.dot(q, tl.trans(keys), input_precision="ieee")
        weights = tl.exp2(scores * scale_log2 - lse_log2[:, None])
        if MASKED:
            column = first + tl.arange(0, BLOCK_N)
            weights = tl.where(column[None, :] <= row[:, None], weights, 0.0)
        values = load_block(v, stride_vs, (batch, kv_head, 0, seq), first, HEAD_DIM, BLOCK_N, MASKED, OPERANDS)
        slopes = tl.dot(grad, tl.trans(values), input_precision="ieee")
        slopes = weights * (slopes - delta[:, None])
        dq = tl.dot(slopes.to(keys.dtype), keys, dq, input_precision="ieee")
    return dq


@triton.jit
def _store_block(base, stride, first, seq, block):
    """Write a block of rows from `first` to the end of the sequence at most."""
    offs_m = tl.arange(0, block.shape[0])
    rows = base + tl.cast(first, tl.int64) * stride + offs_m * stride
    tile = rows[:, None] + tl.arange(0, block.shape[1])[None, :]
    tl.store(tile, block.to(base.dtype.element_ty), mask=(offs_m < seq - first)[:, None])
