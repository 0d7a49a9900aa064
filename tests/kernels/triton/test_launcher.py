import gc
import weakref
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.cases import bind, find_implementation, make_inputs
from tests.tiny import OURS, tiny_workload

pytest.importorskip("triton")
import triton
from triton.tools.tensor_descriptor import TensorDescriptor

from kernels.triton import matmul, quantized, rowwise, stream
from kernels.triton.attention import decode
from kernels.triton.attention import prefill as attention
from kernels.triton.launcher import Launcher, Planned
from kernels.triton.plan import Launch, cdiv, next_power_of_2
from kernels.unsupported import Unsupported

interpreted = pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU needs memory at every address")


def plan_alone(launcher, *args, **kwargs):
    return launcher.plan(*args, **kwargs).run()


def prepared(op, device, index):
    """A call of an op of ours and its inputs."""
    workload = tiny_workload(op)
    implementation = find_implementation(workload, "triton", "cuda")
    inputs = make_inputs(workload, device, index=index)
    if implementation.prepare:
        inputs = bind(implementation.prepare, workload)(*inputs)
    return bind(implementation.run, workload), inputs


def flat(result):
    return result if isinstance(result, tuple) else (result,)


@pytest.mark.parametrize("op", OURS)
def test_a_recorded_call_computes_what_a_fresh_plan_does(op, device, monkeypatch):
    """A second call, on other numbers: whatever a plan had computed itself would be the first call's."""
    run, inputs = prepared(op, device, 0)
    run(*inputs)
    run, inputs = prepared(op, device, 1)
    results = flat(run(*inputs))
    run, inputs = prepared(op, device, 1)  # anew: ops that append write to their inputs
    monkeypatch.setattr(Launcher, "__call__", plan_alone)
    expected = flat(run(*inputs))
    assert len(results) == len(expected)
    for result, right in zip(results, expected, strict=True):
        assert (result.shape, result.stride(), result.dtype) == (right.shape, right.stride(), right.dtype)
        assert torch.equal(result.nan_to_num(), right.nan_to_num())


@st.composite
def laid_out(draw, *shape, dtype):
    """A tensor of this shape: dimensions in any order in memory, mostly the last one last; rows apart, beginning
    anywhere."""
    *outer, last = range(len(shape))
    order = draw(st.sampled_from(([*outer, last], [*outer[::-1], last], [last, *outer])))
    strides, step = [0] * len(shape), 1
    for index, dim in enumerate(reversed(order)):
        strides[dim] = step
        step *= shape[dim]
        step += draw(st.sampled_from((0, 0, 1, 8, 16))) if index == 0 else 0
    offset = draw(st.sampled_from((0, 0, 1, 2, 4, 8, 16, 20)))
    memory = torch.zeros(offset + step, dtype=dtype)
    return memory.as_strided(shape, strides, offset)


HALF = (torch.float16,)
FLOATS = (torch.float16, torch.float32)
SIZES = st.sampled_from((1, 8, 16, 33, 64, 100, 128))


@st.composite
def calls(draw):
    """A launcher of ours, tensors and options."""
    m, n, k = draw(SIZES), draw(SIZES), draw(SIZES)
    heads = draw(st.sampled_from((2, 4)))
    launcher, shapes, dtypes, options = draw(
        st.sampled_from(
            (
                (matmul.matmul, [(m, k), (k, n)], FLOATS, {"config": st.sampled_from((None, matmul.ROWS_16))}),
                (matmul.linear_backward, [(m, n), (m, k), (n, k)], FLOATS, {}),
                (rowwise.rmsnorm, [(m, n), (n,)], FLOATS, {"config": st.sampled_from((None, rowwise.CONFIGS[0]))}),
                (rowwise.swiglu, [(m, n), (m, n)], FLOATS, {}),
                (rowwise.rope, [(m, heads, 2 * n), (m, n), (m, n)], FLOATS, {}),
                (attention.attention_prefill, [(1, 4, m, 64), *[(1, heads, m, 64)] * 2], FLOATS, {}),
                (attention.attention_window, [(1, 4, m, 64), *[(1, heads, m, 64)] * 2], HALF, {"window": SIZES}),
                (attention.attention_chunk, [(1, 4, min(m, n), 64), *[(1, heads, n, 64)] * 2], HALF, {}),
                (decode.attention_decode, [(1, 4, 64), *[(1, heads, 10 * n, 64)] * 2], HALF, {}),
            )
        )
    )
    dtype = draw(st.sampled_from(dtypes))
    tensors = [draw(laid_out(*shape, dtype=dtype)) for shape in shapes]
    return launcher, tensors, {name: draw(values) for name, values in options.items()}


def elsewhere(tensor):
    """A tensor of the same layout in memory of its own."""
    length = 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    memory = torch.zeros(tensor.storage_offset() + length, dtype=tensor.dtype)
    return memory.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())


def told(call, tensors, options, started):
    """What a call starts, and returns, in words that do not say where memory lies: the error where it declines."""
    names = {tensor.data_ptr(): f"input {index}" for index, tensor in enumerate(tensors)}

    def name(tensor):
        return names.setdefault(tensor.data_ptr(), f"memory {len(names)}"), tensor.dtype

    def tell(value):
        if isinstance(value, TensorDescriptor):
            return name(value.base), tuple(value.shape), tuple(value.strides), value.block_shape
        return name(value) if isinstance(value, torch.Tensor) else value

    started.clear()
    try:
        results = flat(call(*tensors, **options))
    except (Unsupported, ValueError) as error:
        return str(error)
    launches = [
        (launch.kernel, launch.grid, launch.num_warps, launch.num_stages, launch.needs_scratch, list(map(tell, values)))
        for launch, values in started
    ]
    return launches, [(name(each), each.shape, each.stride()) for each in results]


@interpreted
@settings(max_examples=300)
@given(calls())
def test_what_is_recorded_is_what_a_fresh_plan_says(call):
    """Of any shapes, strides, offsets, formats and options, at a first call, at a second and for other memory."""
    launcher, tensors, options = call
    started = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Launch, "start", lambda launch, values: started.append((launch, values)))
        fresh = told(lambda *args, **kwargs: launcher.plan(*args, **kwargs).run(), tensors, options, started)
        assert told(launcher, tensors, options, started) == fresh
        assert told(launcher, tensors, options, started) == fresh
        assert told(launcher, [elsewhere(tensor) for tensor in tensors], options, started) == fresh


@interpreted
@pytest.mark.parametrize("offset", [0, 1, 2, 4])
def test_bytes_are_read_as_words_where_they_are_aligned(offset, monkeypatch):
    """Two calls that differ in where the weight begins in its memory, by less than a word or by a word."""
    started = []
    monkeypatch.setattr(Launch, "start", lambda launch, values: started.append(values[1].dtype))
    x, scale = torch.zeros(1, 64, dtype=torch.float16), torch.zeros(8, dtype=torch.float16)
    for _ in range(2):
        quantized.matmul_w8a16(x, torch.zeros(520, dtype=torch.int8)[offset : offset + 512].view(8, 64), scale)
    assert started[0] == started[-1] == (torch.int32 if offset in (0, 4) else torch.int8)


def counted():
    """A launcher without launches, and what it was planned for."""
    planned = []

    @Launcher
    def launcher(x, *, option=0):
        planned.append((x.shape, option))
        return Planned(torch.empty(x.shape), ())

    return launcher, planned


ONES = torch.ones(64, 64)


@pytest.mark.parametrize(
    ("tensor", "option", "plans"),
    [
        (ONES.clone(), 0, 1),
        (torch.ones(64 * 64 + 16)[16:].view(64, 64), 0, 1),  # as well aligned
        (torch.ones(64 * 64 + 4)[4:].view(64, 64), 0, 2),
        (ONES[1:], 0, 2),
        (ONES.t(), 0, 2),
        (ONES.double(), 0, 2),
        (ONES.to("meta"), 0, 2),
        (ONES, 1, 2),
    ],
    ids=["elsewhere", "aligned", "offset", "shape", "strides", "format", "device", "option"],
)
def test_a_plan_is_made_once_for_each_layout(tensor, option, plans):
    launcher, planned = counted()
    for _ in range(2):
        launcher(ONES, option=0)
        launcher(tensor, option=option)
    assert len(planned) == plans


def test_records_are_bounded_and_the_oldest_is_forgotten():
    launcher, planned = counted()
    for length in range(1, 258):  # 256 are kept
        launcher(torch.ones(length))
    launcher(torch.ones(2))
    assert len(planned) == 257
    launcher(torch.ones(1))
    assert len(planned) == 258


def test_no_tensor_outlives_its_call(device):
    x = torch.ones(3, 77, device=device)
    kept = [weakref.ref(x), *(weakref.ref(rowwise.softmax(x)) for _ in range(2))]
    del x
    gc.collect()
    assert [each() for each in kept] == [None] * 3


def test_tensors_that_share_an_address_are_told_apart(device):
    """Which of the two is read and which is written cannot be seen where both are one."""
    x = torch.arange(37, dtype=torch.float32, device=device)
    for source, out in ((x, x), (x, torch.zeros_like(x)), (torch.ones_like(x), x), (x, x)):
        expected = source.clone()
        assert stream.stream_copy(source, out) is out
        assert torch.equal(out, expected)


def test_a_view_that_begins_elsewhere_is_not_recorded():
    @Launcher
    def second_row(x):
        return Planned(x[1], ())

    with pytest.raises(AssertionError, match="views must begin where"):
        second_row(torch.ones(2, 3))


def test_a_launch_says_which_argument_it_lacks(device):
    x = torch.ones(3, device=device)
    launch = stream.plan_write(x, config=stream.DEFAULT)
    with pytest.raises(AssertionError, match="stream_write_kernel takes out_ptr, n, VALUE, BLOCK; not out_ptr, VALUE"):
        replace(launch, arguments={"out_ptr": x}).run()


@given(st.integers(0, 2**40), st.integers(1, 2**20))
def test_integers_are_rounded_up_as_triton_does(number, divisor):
    assert cdiv(number, divisor) == triton.cdiv(number, divisor)
    assert next_power_of_2(number + 1) == triton.next_power_of_2(number + 1)
