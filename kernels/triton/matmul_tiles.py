"""Triton kernels of the matrix product: tiles in grouped order, sums in registers, scales applied at the end.

Operands come by pointers (any strides, any architecture, split-K), or by tensor descriptors in persistent programs. The
host makes the descriptors, or the kernel itself, which is what Triton can warp-specialize on Hopper.
"""

# ruff: noqa: SIM108  (branches on constants are taken when compiling)

import triton
import triton.language as tl

# Elements of k that Hopper's tensor cores sum before that sum is added to one in fp32: they add fp8 products in about
# 14 bits (DeepSeek-V3 technical report, arXiv 2412.19437, section 3.3.2), 13 of them fractional (SageAttention2, arXiv
# 2411.10958).
FP8_PROMOTION_K = tl.constexpr(128)


@triton.jit
def matmul_kernel(
    a_ptr,
    b_ptr,
    out_ptr,
    a_scale_ptr,
    b_scale_ptr,
    m,
    n,
    k,
    stride_am,
    stride_ak,
    stride_bk,
    stride_bn,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    GROUP_M: tl.constexpr,
    EVEN_K: tl.constexpr,
    INPUT_PRECISION: tl.constexpr,
):
    """a: (m, k), b: (k, n), out: (splits, m, n) row-major, scales: (m,) and (n,), or None. Program (tile, s) sums the
    s-th part of the reduction. Reads a n/BLOCK_N times and b m/BLOCK_M times, mostly from L2, and scales once per tile.
    Writes each out once."""
    split = tl.program_id(1)
    tile_m, tile_n = _tile_in_group(tl.program_id(0), m, n, BLOCK_M, BLOCK_N, GROUP_M)

    steps = tl.cdiv(k, BLOCK_K)
    steps_per_split = tl.cdiv(steps, tl.num_programs(1))
    first_step = split * steps_per_split
    last_step = min(first_step + steps_per_split, steps)

    # A tile may start beyond 2**31 elements, so its start is int64. Offsets inside a tile are 32-bit, which saves
    # registers.
    row = tile_m.to(tl.int64) * BLOCK_M
    column = tile_n.to(tl.int64) * BLOCK_N
    depth = first_step.to(tl.int64) * BLOCK_K
    offs_m = tl.arange(0, BLOCK_M)
    offs_n = tl.arange(0, BLOCK_N)
    offs_k = tl.arange(0, BLOCK_K)
    a_base = a_ptr + row * stride_am + depth * stride_ak
    b_base = b_ptr + depth * stride_bk + column * stride_bn
    a_tile = offs_m[:, None] * stride_am + offs_k[None, :] * stride_ak
    b_tile = offs_k[:, None] * stride_bk + offs_n[None, :] * stride_bn
    a_step = tl.cast(BLOCK_K, tl.int64) * stride_ak
    b_step = tl.cast(BLOCK_K, tl.int64) * stride_bk
    in_m = offs_m < m - tile_m * BLOCK_M
    in_n = offs_n < n - tile_n * BLOCK_N

    accumulator = _zeros(BLOCK_M, BLOCK_N, a_ptr.dtype.element_ty)
    for step in range(first_step, last_step):
        if EVEN_K:
            a = tl.load(a_base + a_tile, mask=in_m[:, None], other=0.0)
            b = tl.load(b_base + b_tile, mask=in_n[None, :], other=0.0)
        else:
            in_k = offs_k < k - step * BLOCK_K
            a = tl.load(a_base + a_tile, mask=in_m[:, None] & in_k[None, :], other=0.0)
            b = tl.load(b_base + b_tile, mask=in_k[:, None] & in_n[None, :], other=0.0)
        accumulator = _multiply(a, b, accumulator, INPUT_PRECISION)
        a_base += a_step
        b_base += b_step

    if a_scale_ptr is not None:
        a_scale = tl.load(a_scale_ptr + row + offs_m, mask=in_m, other=0.0)
        b_scale = tl.load(b_scale_ptr + column + offs_n, mask=in_n, other=0.0)
        out = accumulator.to(tl.float32) * a_scale[:, None] * b_scale[None, :]
    else:
        out = accumulator
    out_base = out_ptr + (split.to(tl.int64) * m + row) * n + column
    tl.store(
        out_base + offs_m[:, None] * n + offs_n[None, :],
        out.to(out_ptr.dtype.element_ty),
        mask=in_m[:, None] & in_n[None, :],
    )


@triton.jit
def split_k_reduce_kernel(
    partials_ptr, out_ptr, a_scale_ptr, b_scale_ptr, size, n, SPLIT_K: tl.constexpr, BLOCK: tl.constexpr
):
    """partials: (SPLIT_K, size) fp32 or int32, out: (size,) in rows of n, scales: (size/n,) and (n,), or None. Reads
    each partial once, in order. Writes out once."""
    offsets = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = offsets < size
    total = tl.zeros((BLOCK,), dtype=partials_ptr.dtype.element_ty)
    for split in tl.static_range(SPLIT_K):
        total += tl.load(partials_ptr + tl.cast(split, tl.int64) * size + offsets, mask=inside, other=0)
    if a_scale_ptr is not None:
        a_scale = tl.load(a_scale_ptr + offsets // n, mask=inside, other=0.0)
        b_scale = tl.load(b_scale_ptr + offsets % n, mask=inside, other=0.0)
        out = total.to(tl.float32) * a_scale * b_scale
    else:
        out = total
    tl.store(out_ptr + offsets, out.to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit
def matmul_persistent_kernel(
    a_source,
    b_source,
    out_source,
    a_scale_ptr,
    b_scale_ptr,
    m,
    n,
    k,
    stride_a,
    stride_b,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    GROUP_M: tl.constexpr,
    A_IS_TRANSPOSED: tl.constexpr,
    B_IS_TRANSPOSED: tl.constexpr,
    INPUT_PRECISION: tl.constexpr,
    WARP_SPECIALIZE: tl.constexpr,
    FLATTEN: tl.constexpr,
    HALVES: tl.constexpr,
    OWN_DESCRIPTORS: tl.constexpr,
):
    """a: (k, m) where transposed, else (m, k); b: (n, k) where transposed, else (k, n); out: (m, n). All are the host's
    descriptors, or pointers of which each program makes its OWN_DESCRIPTORS: Hopper's warp specialization splits a tile
    over two groups of warps, which it cannot do to a descriptor whose block the host has fixed.

    Reads a n/BLOCK_N times and b m/BLOCK_M times, mostly from L2, and writes out once. Each program takes every
    num_programs-th tile, and loads the next one while it stores the last. A tile is stored in two halves, which leaves
    half a tile of shared memory for one more stage of loads. Where HALVES, b's blocks are half a tile wide and summed
    one after the other, so that promotion takes a second sum of half a tile only."""
    if OWN_DESCRIPTORS:
        a_desc = _describe(a_source, m, k, stride_a, BLOCK_M, BLOCK_K, A_IS_TRANSPOSED)
        b_desc = _describe(b_source, n, k, stride_b, BLOCK_N, BLOCK_K, not B_IS_TRANSPOSED)
        out_desc = tl.make_tensor_descriptor(out_source, [m, n], [n, 1], [BLOCK_M, BLOCK_N // 2])
    else:
        a_desc, b_desc, out_desc = a_source, b_source, out_source
    HALF: tl.constexpr = BLOCK_N // 2
    tiles = tl.cdiv(m, BLOCK_M) * tl.cdiv(n, BLOCK_N)
    steps = tl.cdiv(k, BLOCK_K)
    for tile in tl.range(tl.program_id(0), tiles, tl.num_programs(0), flatten=FLATTEN, warp_specialize=WARP_SPECIALIZE):
        tile_m, tile_n = _tile_in_group(tile, m, n, BLOCK_M, BLOCK_N, GROUP_M)
        row = tile_m * BLOCK_M
        column = tile_n * BLOCK_N
        if HALVES:
            left = _zeros(BLOCK_M, HALF, a_desc.dtype)
            right = _zeros(BLOCK_M, HALF, a_desc.dtype)
        else:
            accumulator = _zeros(BLOCK_M, BLOCK_N, a_desc.dtype)
        for step in range(steps):
            if A_IS_TRANSPOSED:
                a = a_desc.load([step * BLOCK_K, row]).T
            else:
                a = a_desc.load([row, step * BLOCK_K])
            b = _load_b(b_desc, step * BLOCK_K, column, B_IS_TRANSPOSED)
            if HALVES:
                left = _multiply(a, b, left, INPUT_PRECISION)
                b = _load_b(b_desc, step * BLOCK_K, column + HALF, B_IS_TRANSPOSED)
                right = _multiply(a, b, right, INPUT_PRECISION)
            else:
                accumulator = _multiply(a, b, accumulator, INPUT_PRECISION)
        if not HALVES:
            left, right = tl.split(tl.permute(tl.reshape(accumulator, (BLOCK_M, 2, HALF)), (0, 2, 1)))
        left = _scaled(left, a_scale_ptr, b_scale_ptr, row, column, m, n, BLOCK_M, HALF)
        out_desc.store([row, column], left.to(out_desc.dtype))
        right = _scaled(right, a_scale_ptr, b_scale_ptr, row, column + HALF, m, n, BLOCK_M, HALF)
        out_desc.store([row, column + HALF], right.to(out_desc.dtype))


@triton.jit
def _describe(ptr, rows, k, stride, BLOCK: tl.constexpr, BLOCK_K: tl.constexpr, ACROSS_K: tl.constexpr):
    """A descriptor of a matrix (rows, k), stored as (k, rows) where ACROSS_K."""
    if ACROSS_K:
        desc = tl.make_tensor_descriptor(ptr, [k, rows], [stride, 1], [BLOCK_K, BLOCK])
    else:
        desc = tl.make_tensor_descriptor(ptr, [rows, k], [stride, 1], [BLOCK, BLOCK_K])
    return desc


@triton.jit
def _load_b(b_desc, depth, column, IS_TRANSPOSED: tl.constexpr):
    """The block of b whose first number is b[depth, column]."""
    if IS_TRANSPOSED:
        b = b_desc.load([column, depth]).T
    else:
        b = b_desc.load([depth, column])
    return b


@triton.jit
def _tile_in_group(tile, m, n, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, GROUP_M: tl.constexpr):
    """Row and column of a tile, by its number. Neighbors share GROUP_M rows of tiles, so that the columns of b that
    they read are still in L2."""
    tiles_m = tl.cdiv(m, BLOCK_M)
    tiles_n = tl.cdiv(n, BLOCK_N)
    group = tile // (GROUP_M * tiles_n)
    first_m = group * GROUP_M
    rows_in_group = min(tiles_m - first_m, GROUP_M)
    tile_m = first_m + (tile % (GROUP_M * tiles_n)) % rows_in_group
    tile_n = (tile % (GROUP_M * tiles_n)) // rows_in_group
    return tile_m, tile_n


@triton.jit
def _zeros(BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, operand: tl.constexpr):
    """Sums, all zero: int32 for int8 operands, else fp32."""
    if operand == tl.int8:
        accumulator = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.int32)
    else:
        accumulator = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    return accumulator


@triton.jit
def _multiply(a, b, accumulator, INPUT_PRECISION: tl.constexpr):
    """Return accumulator + a @ b in the accumulator's format. Only Hopper needs the limit on products summed in fewer
    bits."""
    if a.dtype == tl.float8e4nv:
        PROMOTION_K: tl.constexpr = a.shape[1] if a.shape[1] < FP8_PROMOTION_K else FP8_PROMOTION_K
        total = tl.dot(a, b, accumulator, max_num_imprecise_acc=PROMOTION_K)
    else:
        total = tl.dot(a, b, accumulator, input_precision=INPUT_PRECISION, out_dtype=accumulator.dtype)
    return total


@triton.jit
def _scaled(part, a_scale_ptr, b_scale_ptr, row, column, m, n, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """part: (ROWS, COLUMNS) at (row, column) of the result, times the scales if there are any."""
    if a_scale_ptr is not None:
        offs_m = row + tl.arange(0, ROWS)
        offs_n = column + tl.arange(0, COLUMNS)
        a_scale = tl.load(a_scale_ptr + offs_m, mask=offs_m < m, other=0.0)
        b_scale = tl.load(b_scale_ptr + offs_n, mask=offs_n < n, other=0.0)
        result = part.to(tl.float32) * a_scale[:, None] * b_scale[None, :]
    else:
        result = part
    return result
