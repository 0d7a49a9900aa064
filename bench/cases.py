"""Inputs and implementations of each op to measure. Only here do predict and kernels meet."""

import functools
import itertools
import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import torch
from torch import Tensor

from bench.callables import is_callable, load
from bench.working_memory import working_bytes
from kernels import reference
from kernels.catalog import list_implementations
from kernels.constants import ADAMW_BETAS, FILL_VALUE, INT4_GROUP, INT4_PER_WORD
from kernels.implementation import Implementation, Intermediate, Result
from kernels.precision import TORCH_DTYPES
from kernels.reference import forward_with_lse
from kernels.shapes import BlockSizes, BlockWeights, ModelSizes
from kernels.unsupported import Unsupported
from predict.errors import BadWorkload
from predict.expert_rows import RULES, expert_rows
from predict.guess_rule import accepted_guesses
from predict.peak_memory import operand_bytes, peak_bytes, saved_activation_bytes
from predict.serving_loop import RULES as SERVING
from predict.suggest import unknown
from predict.units import GIB, DType, find_dtype
from predict.workloads import OPS, Workload, complete_dims, dim_names, make_workload

Inputs = tuple[Tensor, ...]
Run = Callable[..., Result]

IMPLEMENTATIONS: tuple[Implementation, ...] = list_implementations()

REFERENCE_SCRATCH_BYTES = 1 * GIB  # kernels.reference works in blocks, whose memory stays under this
# The same for PLAIN_OPS: their references hold one fp64 block of each operand and of the result, of 128 MiB each.
PLAIN_SCRATCH_BYTES = GIB // 2
PLAIN_OPS = frozenset({"launch", "matmul", "stream_read", "stream_write", "stream_copy", "stream_triad"})
ROPE_BASE = 500_000.0  # Llama-3's
_MANY = 1000
CONFIGURED = "@"  # separates an implementation and its configuration: triton@128x64-w8-s3


@dataclass(frozen=True, slots=True)
class Maker:
    """Makes random tensors of a workload's dtype; on one device the same seed makes the same numbers."""

    dtype: torch.dtype
    device: torch.device
    generator: torch.Generator

    def normal(self, *shape: int, scale: float = 1.0) -> Tensor:
        """Normal numbers with standard deviation `scale`; zeros would hide errors and draw less power."""
        return torch.randn(shape, dtype=self.dtype, device=self.device, generator=self.generator).mul_(scale)

    def quantized(self, *shape: int) -> Tensor:
        """Normal numbers rounded to the 8-bit dtype, with standard deviation 1 for fp8 and 32 for int8."""
        if self.dtype != torch.int8:
            wide = torch.randn(shape, dtype=torch.float16, device=self.device, generator=self.generator)
            return wide.to(self.dtype)
        return self.int8(*shape)

    def int8(self, *shape: int) -> Tensor:
        """Normal whole numbers with standard deviation 32, clamped to -127..127."""
        wide = torch.randn(shape, dtype=torch.float16, device=self.device, generator=self.generator)
        return wide.mul_(32).round_().clamp_(-127, 127).to(torch.int8)

    def words(self, *shape: int) -> Tensor:
        """int32 numbers with all bits random."""
        return torch.randint(-(2**31), 2**31, shape, dtype=torch.int32, device=self.device, generator=self.generator)

    def scales(self, *shape: int, mean: float, dtype: torch.dtype | None = None) -> Tensor:
        """Positive numbers, uniform from 0.5 to 1.5 times `mean`."""
        uniform = torch.rand(shape, dtype=torch.float32, device=self.device, generator=self.generator)
        return uniform.add_(0.5).mul_(mean).to(dtype or self.dtype)


@dataclass(frozen=True, slots=True)
class Case:
    """How an op is called."""

    make_inputs: Callable[[Workload, Maker], Inputs]
    # Position of the input that the op writes its result to; None where it returns the result.
    output: int | None = None
    # Dimensions that the op's functions take by keyword, because the shapes of the inputs do not tell them.
    keywords: tuple[str, ...] = ()
    # The result's format, the widest if it has several; None means the workload's.
    result_format: str | None = None
    # Whether the host's time is part of the op: a GPU is then timed while work is issued to it.
    as_issued: bool = False
    # The parts of the inputs that a call writes to, besides `output`.
    appended: Callable[[Inputs], Inputs] | None = None


def implementation_names(op: str, device: str) -> tuple[str, ...]:
    """Names of the implementations of `op` that are measured on `device`, without duplicates."""
    return tuple(dict.fromkeys(row.name for row in IMPLEMENTATIONS if row.op == op and device in row.devices))


def compiles(op: str, name: str) -> bool:
    """Whether this implementation of `op` compiles each new shape, which takes seconds."""
    return any(row.compiles for row in IMPLEMENTATIONS if row.op == op and row.name == name)


def stores_scores(op: str, name: str) -> bool:
    """Whether this implementation of `op` writes the scores of attention to memory."""
    stored = {Intermediate.SCORES, Intermediate.WIDE_SCORES}
    return any(stored.intersection(row.writes) for row in IMPLEMENTATIONS if row.op == op and row.name == name)


def find_implementation(workload: Workload, name: str, device: str) -> Implementation:
    """The implementation `name` of this workload; `triton@128x64-w8-s3` is `triton` with that configuration fixed,
    `my.kernels:my_gemm` a user's function.

    Raises BadWorkload for an unknown name, listing the known ones, Unsupported if the implementation does not take the
    dtype or the device, and BadCallable for a function that cannot be imported.
    """
    if is_callable(name):
        return as_implementation(workload.op, name, load(name))
    name, at, config = name.partition(CONFIGURED)
    row = _find_row(workload, name, device)
    if not at:
        return row
    if config not in row.configs:
        raise BadWorkload(unknown(f"configuration of {workload.op} by {name}", config, row.configs))
    return replace(row, name=f"{name}{CONFIGURED}{config}", run=_held_to(row, config))


def reference_of(op: str) -> Run:
    """The function that says what an op means."""
    own = (row.own_reference for row in IMPLEMENTATIONS if row.op == op and row.own_reference)
    found: Run = getattr(reference, op, None) or next(own)
    return found


def as_implementation(op: str, name: str, run: Run, *, captures: bool = True) -> Implementation:
    """A user's function as an implementation of `op`."""
    return Implementation(op, name, run, package="", captures=captures, own_reference=reference_of(op), foreign=True)


def _held_to(row: Implementation, config: str) -> Run:
    """The launcher with one fixed configuration. Raises Unsupported where the device has too little for it; the same
    error is a crash where the launcher itself chose the configuration."""
    from triton.runtime.errors import OutOfResources  # noqa: PLC0415 - Triton exists only on Linux

    def run(*inputs: Tensor) -> Result:
        try:
            return row.run(*inputs, config=row.configs[config])
        except OutOfResources as error:
            raise Unsupported(f"{config} does not fit: {error}") from None

    return run


def _find_row(workload: Workload, name: str, device: str) -> Implementation:
    rows = [row for row in IMPLEMENTATIONS if row.op == workload.op and row.name == name]
    if not rows:
        known = dict.fromkeys(row.name for row in IMPLEMENTATIONS if row.op == workload.op)
        raise BadWorkload(unknown(f"implementation of {workload.op}", name, known))
    here = [row for row in rows if device in row.devices]
    if not here:
        raise Unsupported(f"{name} does not run on a {device}")
    for row in here:
        if workload.dtype.name in row.dtypes:
            return row
    taken = ", ".join(dtype for row in here for dtype in row.dtypes)
    raise Unsupported(f"{workload.op} by {name} does not take {workload.dtype.name}; it takes {taken}")


def bind(run: Run, workload: Workload) -> Run:
    """`run` of an implementation or a reference, with its keyword dimensions bound."""
    return functools.partial(run, **keywords_of(workload))


def keywords_of(workload: Workload) -> dict[str, int]:
    """The dimensions that the functions of an op take by keyword."""
    dims = complete_dims(workload.op, workload.dims)
    return {name: dims[name] for name in CASES[workload.op].keywords}


def written_parts(workload: Workload, inputs: Sequence[Tensor]) -> Inputs:
    """The inputs, or parts of them, that a call may write to."""
    case = CASES[workload.op]
    if workload.op == "launch":  # what it writes is what was there
        return tuple(inputs)
    output = () if case.output is None else (inputs[case.output],)
    return *output, *(case.appended(tuple(inputs)) if case.appended else ())


def result_format(workload: Workload) -> DType:
    """The format to which a workload's result is rounded."""
    name = CASES[workload.op].result_format
    return workload.dtype if name is None else find_dtype(name)


def make_inputs(workload: Workload, device: torch.device, *, index: int) -> Inputs:
    """The `index`-th input set of a workload: reproducible, and another one for each index."""
    generator = torch.Generator(device).manual_seed(zlib.crc32(workload.id.encode()) + index)
    maker = Maker(TORCH_DTYPES[workload.dtype.name], device, generator)
    return CASES[workload.op].make_inputs(workload, maker)


def needed_bytes(workload: Workload, implementation: Implementation) -> float:
    """Device memory in bytes that a case needs: inputs, output, the check and working memory."""
    amounts = workload.amounts
    outputs = float(amounts.bytes_written) / result_format(workload).bytes
    checking = outputs * 8 * 5  # fp64 reference, baseline, and intermediates of comparing them with the output
    held = operand_bytes(workload)
    needed = held + checking + _scratch_bytes(workload)
    trains = workload.op == "block_train"
    reads_in_place = CASES[workload.op].as_issued and not trains  # a step on the inputs as they are
    if (implementation.prepare and not reads_in_place) or implementation.foreign:
        needed += min(float(amounts.bytes_read), held)  # the original inputs stay in memory beside prepared ones
    between = saved_activation_bytes(workload) if trains else peak_bytes(workload) - held
    needed += 5 * between  # intermediates between kernels: in 16 bits, and by the reference in fp64
    return needed + working_bytes(workload, implementation.writes)


def _scratch_bytes(workload: Workload) -> float:
    """Bytes that the reference allocates. That of a block or a model converts a matrix at a time to fp64. Plain ops get
    a tighter bound, so that the roof probes, which are plain, run where memory is short too."""
    if CASES[workload.op].as_issued:
        return REFERENCE_SCRATCH_BYTES + 8 * max(math.prod(shape) for shape in _block_shape(workload).weight_shapes)
    if workload.op not in PLAIN_OPS:
        return REFERENCE_SCRATCH_BYTES
    elements = float(workload.amounts.bytes) / workload.dtype.bytes
    return min(PLAIN_SCRATCH_BYTES, 4 * 8 * elements)


def _matmul_inputs(workload: Workload, maker: Maker) -> Inputs:
    """Activations (m, k), and the (k, n) view of a weight stored as (n, k), as in linear layers."""
    m, n, k = (workload.dims[name] for name in "mnk")
    return maker.normal(m, k), maker.normal(n, k).t()


def _scaled_inputs(workload: Workload, maker: Maker) -> Inputs:
    """8-bit activations and weight, and a scale for each of their rows, which keeps results near 1."""
    m, n, k = (workload.dims[name] for name in "mnk")
    a, weight = maker.quantized(m, k), maker.quantized(n, k)
    mean = k**-0.25 / (32 if maker.dtype == torch.int8 else 1)
    return a, weight.t(), *(maker.scales(rows, mean=mean, dtype=torch.float32) for rows in (m, n))


def _w8a16_inputs(workload: Workload, maker: Maker) -> Inputs:
    m, n, k = (workload.dims[name] for name in "mnk")
    return maker.normal(m, k), maker.int8(n, k), maker.scales(n, mean=1 / 32)


def _w4a16_inputs(workload: Workload, maker: Maker) -> Inputs:
    m, n, k = (workload.dims[name] for name in "mnk")
    return maker.normal(m, k), maker.words(n, k // INT4_PER_WORD), maker.scales(n, k // INT4_GROUP, mean=1 / 4)


def _expert_inputs(workload: Workload, maker: Maker) -> Inputs:
    """Rows in the order of their experts, a weight for each expert, and the offsets at which their rows begin."""
    dims = workload.dims
    rows = expert_rows(workload.op, dims).tolist()
    offsets = torch.tensor([0, *itertools.accumulate(rows)], dtype=torch.int32, device=maker.device)
    return maker.normal(sum(rows), dims["k"]), maker.normal(dims["experts"], dims["n"], dims["k"]), offsets


def _row_inputs(workload: Workload, maker: Maker) -> Inputs:
    """Tensors (rows, cols), then weights (cols,) around 1: as many of each as the op's amounts read. The bytes read at
    cols = 1 and `_MANY` rows tell both numbers: a tensor reads `_MANY` elements, a weight one. Raises BadWorkload for
    an op that reads anything else."""
    read = make_workload(workload.op, {"rows": _MANY, "cols": 1}, workload.dtype).amounts.bytes_read
    tensors, weights = divmod(int(read / workload.dtype.bytes), _MANY)
    rows, cols = workload.dims["rows"], workload.dims["cols"]
    if (tensors * rows + weights) * cols * workload.dtype.bytes != workload.amounts.bytes_read:
        raise BadWorkload(f"{workload.op} reads more than tensors (rows, cols) and weights (cols,): add it to CASES")
    return *(maker.normal(rows, cols) for _ in range(tensors)), *(maker.scales(cols, mean=1.0) for _ in range(weights))


def _rope_inputs(workload: Workload, maker: Maker) -> Inputs:
    """Vectors, then the cosines and sines of random angles."""
    tokens, heads, head_dim = (workload.dims[name] for name in ("tokens", "heads", "head_dim"))
    angles = maker.scales(tokens, head_dim // 2, mean=2 * math.pi, dtype=torch.float32)
    return maker.normal(tokens, heads, head_dim), angles.cos().to(maker.dtype), angles.sin().to(maker.dtype)


def _normals(*shapes: str) -> Callable[[Workload, Maker], Inputs]:
    """Makes normal tensors; each shape names its dimensions: "batch heads head_dim"."""
    return lambda workload, maker: tuple(
        maker.normal(*(workload.dims[name] for name in shape.split())) for shape in shapes
    )


_CACHE = ("batch kv_heads context head_dim",) * 2
_PROMPT = _normals("batch heads seq head_dim", *("batch kv_heads seq head_dim",) * 2)
_QUERIES = _normals("batch heads queries head_dim", *_CACHE)
_QUERY = _normals("batch heads head_dim", *_CACHE)


def _packed_inputs(workload: Workload, maker: Maker) -> Inputs:
    """Q, K and V of prompts end to end, with lengths that differ by at most 1, and the offset of each prompt."""
    dims = workload.dims
    length, longer = divmod(dims["tokens"], dims["sequences"])
    lengths = [length + (index < longer) for index in range(dims["sequences"])]
    offsets = torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32, device=maker.device)
    qkv = _normals("tokens heads head_dim", *("tokens kv_heads head_dim",) * 2)(workload, maker)
    return *qkv, offsets


def _backward_inputs(workload: Workload, maker: Maker) -> Inputs:
    """Q, K and V, the output of the forward pass, the gradient of the output, and the log-sum-exp."""
    q, k, v = _PROMPT(workload, maker)
    out, lse = forward_with_lse(q, k, v)
    return q, k, v, out, maker.normal(*q.shape), lse


def _fp8_cache_inputs(workload: Workload, maker: Maker) -> Inputs:
    """One query per sequence, an fp8 cache, and scales that bring it to a standard deviation near 1."""
    q, k, v = _QUERY(workload, maker)
    scales = (maker.scales(workload.dims["kv_heads"], mean=1 / 16, dtype=torch.float32) for _ in range(2))
    return q, *(cache.mul_(16).to(torch.float8_e4m3fn) for cache in (k, v)), *scales


def _paged_inputs(workload: Workload, maker: Maker) -> Inputs:
    """One query per sequence, pages in random order, the page table, and equal lengths."""
    dims = workload.dims
    each = -(-dims["context"] // dims["page"])
    pages = dims["batch"] * each
    shape = (pages, dims["kv_heads"], dims["page"], dims["head_dim"])
    order = torch.randperm(pages, dtype=torch.int32, device=maker.device, generator=maker.generator)
    lengths = torch.full((dims["batch"],), dims["context"], dtype=torch.int32, device=maker.device)
    q = maker.normal(dims["batch"], dims["heads"], dims["head_dim"])
    return q, maker.normal(*shape), maker.normal(*shape), order.view(dims["batch"], each), lengths


def _mla_inputs(workload: Workload, maker: Maker) -> Inputs:
    dims = workload.dims
    width = dims["latent"] + dims["rope"]
    return maker.normal(dims["batch"], dims["heads"], width), maker.normal(dims["batch"], dims["context"], width)


def _projection(workload: Workload, maker: Maker) -> Tensor:
    """The weight that makes Q, K and V, scaled so that they are about as large as the hidden states."""
    dims = workload.dims
    hidden = dims["heads"] * dims["head_dim"]
    rows = (dims["heads"] + 2 * dims["kv_heads"]) * dims["head_dim"]
    return maker.normal(rows, hidden, scale=hidden**-0.5)


def _cached_inputs(workload: Workload, maker: Maker) -> Inputs:
    """The new token's hidden state, the weight, and caches with the new token in the last position."""
    x = maker.normal(workload.dims["batch"], workload.dims["heads"] * workload.dims["head_dim"])
    return x, _projection(workload, maker), *_normals(*_CACHE)(workload, maker)


def _uncached_inputs(workload: Workload, maker: Maker) -> Inputs:
    dims = workload.dims
    x = maker.normal(dims["batch"], dims["context"], dims["heads"] * dims["head_dim"])
    return x, _projection(workload, maker)


def _block_shape(workload: Workload) -> BlockSizes:
    dims = complete_dims("block_forward", workload.dims)  # of a training step and of loops too, which are Llama's
    queries, keys = (dims["seq"], dims["seq"]) if "seq" in dims else (1, dims["context"])
    sizes = (dims[name] for name in ("heads", "kv_heads", "head_dim", "inner", "hidden", "matrices"))
    return BlockSizes(dims.get("batch", 1), queries, keys, *sizes)


def _rotary(sizes: BlockSizes, maker: Maker) -> Inputs:
    """Cosines and sines of all tokens' positions, if the block turns Q and K; the tokens are the last ones of each
    sequence."""
    if sizes.matrices == 2:
        return ()
    return _angles(range(sizes.keys - sizes.queries, sizes.keys), sizes, maker)


def _angles(positions: range, sizes: BlockSizes, maker: Maker) -> Inputs:
    """Cosines and sines of these positions in each of the sequences."""
    places = torch.tensor(positions, dtype=torch.float64, device=maker.device)
    pairs = torch.arange(0, sizes.head_dim, 2, dtype=torch.float64, device=maker.device)
    angles = torch.outer(places.repeat(sizes.batch), ROPE_BASE ** (-pairs / sizes.head_dim))
    return angles.cos().to(maker.dtype), angles.sin().to(maker.dtype)


def _block_weights(sizes: BlockSizes, maker: Maker) -> Inputs:
    """Norm weights around 1, and matrices scaled so that products are about as large as their inputs."""
    return tuple(
        _norm_weights(sizes, maker) if name.endswith("norm") else maker.normal(*shape, scale=shape[1] ** -0.5)
        for name, shape in zip(BlockWeights._fields, sizes.weight_shapes, strict=True)
    )


def _norm_weights(sizes: BlockSizes, maker: Maker, *layers: int) -> Tensor:
    """Weights of a norm, or of those of all `layers`: around 1; and biases around 0 if it is a LayerNorm, so small that
    what they give all tokens alike does not hide a wrong attention."""
    weights = maker.scales(*layers, *sizes.norm_shape, mean=1.0)
    if sizes.matrices == 2:
        weights[..., 1, :].sub_(1.0).mul_(0.5)
    return weights


def _model_weights(sizes: ModelSizes, maker: Maker) -> Inputs:
    """The weights of all layers, the final norm, and the vocabulary matrix."""
    block = sizes.block
    vocabulary = maker.normal(sizes.vocab, block.hidden, scale=block.hidden**-0.5)
    return *_layer_weights(block, sizes.layers, maker), _norm_weights(block, maker), vocabulary


def _layer_weights(block: BlockSizes, layers: int, maker: Maker) -> Inputs:
    """The weights of a block for each layer. What an MLP adds to the hidden states is scaled down to what attention
    adds, a mean over `keys` values: else the sum of all MLPs would hide a wrong attention."""
    return tuple(
        _norm_weights(block, maker, layers)
        if name.endswith("norm")
        else maker.normal(layers, *shape, scale=(shape[1] * (block.keys if name == "down" else 1)) ** -0.5)
        for name, shape in zip(BlockWeights._fields, block.weight_shapes, strict=True)
    )


def _hidden_states(sizes: BlockSizes, maker: Maker, *shape: int) -> Tensor:
    """Hidden states as small as attention's output, a mean over `keys` values: larger ones would hide a wrong attention
    in the residual sum. The norms undo this scale."""
    return maker.normal(*shape, sizes.hidden, scale=sizes.keys**-0.5)


def _block_forward_inputs(workload: Workload, maker: Maker) -> Inputs:
    sizes = _block_shape(workload)
    x = _hidden_states(sizes, maker, sizes.batch, sizes.queries)
    return x, *_rotary(sizes, maker), *_block_weights(sizes, maker)


def _block_decode_inputs(workload: Workload, maker: Maker) -> Inputs:
    """The new tokens' hidden states, angles, weights, and caches with the new token in the last position."""
    sizes = _block_shape(workload)
    x = _hidden_states(sizes, maker, sizes.batch)
    return x, *_rotary(sizes, maker), *_block_weights(sizes, maker), *_normals(*_CACHE)(workload, maker)


def _model_shape(workload: Workload) -> ModelSizes:
    return ModelSizes(_block_shape(workload), workload.dims["layers"], workload.dims["vocab"])


def _model_forward_inputs(workload: Workload, maker: Maker) -> Inputs:
    sizes = _model_shape(workload)
    x = _hidden_states(sizes.block, maker, sizes.block.batch, sizes.block.queries)
    return x, *_rotary(sizes.block, maker), *_model_weights(sizes, maker)


def _model_decode_inputs(workload: Workload, maker: Maker) -> Inputs:
    """The inputs of a model, and caches of all layers with the new token in the last position."""
    sizes = _model_shape(workload)
    x = _hidden_states(sizes.block, maker, sizes.block.batch)
    caches = _normals(*("layers batch kv_heads context head_dim",) * 2)(workload, maker)
    return x, *_rotary(sizes.block, maker), *_model_weights(sizes, maker), *caches


def _last_positions(inputs: Inputs) -> Inputs:
    """The last position of both caches, where the new token's K and V belong; the caches are the last two inputs."""
    k_cache, v_cache = inputs[-2:]
    return k_cache[..., -1, :], v_cache[..., -1, :]


def _block_train_inputs(workload: Workload, maker: Maker) -> Inputs:
    """Hidden states, gradient, angles, weights and AdamW's state. The gradient is scaled so that weight gradients are
    near 1. m and v are as large as earlier steps with such gradients leave them: m like a mean of independent
    gradients, v near their square."""
    sizes, full = _block_shape(workload), replace(maker, dtype=torch.float32)
    layers = complete_dims(workload.op, workload.dims)["layers"]
    x = _hidden_states(sizes, maker, sizes.batch, sizes.queries)
    grad = maker.normal(*x.shape, scale=(sizes.batch * sizes.queries) ** -0.5)
    master = torch.cat([each.flatten() for _ in range(layers) for each in _block_weights(sizes, full)])
    beta = ADAMW_BETAS[0]
    m = full.normal(len(master), scale=((1 - beta) / (1 + beta)) ** 0.5)
    v = full.scales(len(master), mean=1.0)
    return x, grad, *_rotary(sizes, maker), master.to(maker.dtype), master, m, v


def _serving_inputs(workload: Workload, maker: Maker) -> Inputs:
    """The tokens of all requests, which slot makes which of them when, the angles of tokens behind a prompt, weights,
    and K and V of the prompts."""
    dims, sizes = workload.dims, _block_shape(workload)
    requests, longest, context = dims["requests"], max(dims["long"], dims["short"]), dims["context"]
    steps = SERVING[workload.op](*(dims[name] for name in ("slots", "requests", "long", "short")))
    schedule = torch.tensor(
        [[(slot.request, slot.token) for slot in step] for step in steps], dtype=torch.int32, device=maker.device
    )
    x = _hidden_states(sizes, maker, requests, longest)
    prompts = (maker.normal(requests, sizes.kv_heads, context, sizes.head_dim) for _ in range(2))
    angles = _angles(range(context, context + longest), sizes, maker)
    return x, schedule, *angles, *_block_weights(sizes, maker), *prompts


def _tokens_inputs(workload: Workload, maker: Maker) -> Inputs:
    """The inputs of all tokens, their angles behind the prompt, weights, and K and V of the prompt."""
    dims, sizes = workload.dims, _block_shape(workload)
    count, context, layers = dims["tokens"] + dims.get("guesses", 0), dims["context"], dims["layers"]
    x = _hidden_states(sizes, maker, count)
    prompts = (maker.normal(layers, sizes.kv_heads, context, sizes.head_dim) for _ in range(2))
    angles = _angles(range(context, context + count), sizes, maker)
    return x, *angles, *_layer_weights(sizes, layers, maker), *prompts


def _drafted_inputs(workload: Workload, maker: Maker) -> Inputs:
    """The inputs of `generate_tokens` for the guesses behind the last token too, and what each step accepts."""
    x, *others = _tokens_inputs(workload, maker)
    dims = workload.dims
    right = list(accepted_guesses(dims["tokens"], dims["guesses"], dims["accepted"]))
    return x, torch.tensor(right, dtype=torch.int32, device=maker.device), *others


def _read_inputs(workload: Workload, maker: Maker) -> Inputs:
    """Positive numbers, because a sum that cancels to almost 0 cannot be checked."""
    return (maker.normal(workload.dims["n"]).abs_(),)


def _launch_inputs(_: Workload, maker: Maker) -> Inputs:
    return (torch.full((1,), FILL_VALUE, dtype=maker.dtype, device=maker.device),)


# Ops on (rows, cols) need no row of their own; every other op has one.
CASES: Mapping[str, Case] = MappingProxyType(
    {
        **{op: Case(_row_inputs) for op in OPS if dim_names(op) == ("rows", "cols")},
        "matmul": Case(_matmul_inputs),
        "matmul_scaled": Case(_scaled_inputs, result_format="bf16"),
        "matmul_w8a16": Case(_w8a16_inputs),
        "matmul_w4a16": Case(_w4a16_inputs),
        **dict.fromkeys(RULES, Case(_expert_inputs)),
        "rope": Case(_rope_inputs),
        "attention_prefill": Case(_PROMPT),
        "attention_full": Case(_PROMPT),
        "attention_window": Case(_PROMPT, keywords=("window",)),
        "attention_chunk": Case(_QUERIES),
        "attention_packed": Case(_packed_inputs),
        "attention_backward": Case(_backward_inputs),
        "linear_backward": Case(_normals("m n", "m k", "n k")),
        "attention_decode": Case(_QUERY),
        "attention_decode_fp8": Case(_fp8_cache_inputs),
        "attention_paged": Case(_paged_inputs),
        "attention_mla": Case(_mla_inputs, keywords=("latent",)),
        "generate_cached": Case(_cached_inputs, appended=_last_positions),
        "generate_uncached": Case(_uncached_inputs, keywords=("kv_heads", "head_dim")),
        "block_forward": Case(_block_forward_inputs, keywords=("head_dim",), as_issued=True),
        "block_decode": Case(_block_decode_inputs, as_issued=True, appended=_last_positions),
        "block_train": Case(
            _block_train_inputs, keywords=("kv_heads", "layers", "forwards"), result_format="fp32", as_issued=True
        ),
        "model_forward": Case(_model_forward_inputs, keywords=("head_dim",), as_issued=True),
        "model_decode": Case(_model_decode_inputs, as_issued=True, appended=_last_positions),
        **dict.fromkeys(SERVING, Case(_serving_inputs, as_issued=True)),
        "generate_tokens": Case(_tokens_inputs, as_issued=True),
        "generate_drafted": Case(_drafted_inputs, keywords=("guesses",), as_issued=True),
        "stream_read": Case(_read_inputs),
        "stream_write": Case(_normals("n"), output=0),
        "stream_copy": Case(_normals("n", "n"), output=1),
        "stream_triad": Case(_normals("n", "n", "n"), output=2),
        "launch": Case(_launch_inputs),
    }
)
