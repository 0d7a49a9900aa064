"""Other people's kernels: what is handed to them, and that what comes back is right.

Packages that are not installed are stood in for by modules with the same signatures, which compute the op in fp32.
"""

import dataclasses
import importlib.machinery
import importlib.metadata
import importlib.util
import json
import sys
import types

import pytest
import torch
from typer.testing import CliRunner

from bench import env
from bench.cases import IMPLEMENTATIONS, find_implementation, implementation_names, make_inputs
from bench.lab import Job, Lab
from bench.record import Status
from bench.sampling import Budget
from kernels import __main__ as cli
from kernels import catalog, reference
from kernels.peers import liger, packages, quack
from kernels.pytorch import compiled, eager
from kernels.unsupported import Unsupported
from predict.units import find_dtype
from predict.workloads import make_workload
from tests.fakes import FakeSampler, InProcessBench, cpu_environment
from tests.kernels.pytorch.test_eager import ROWWISE, inputs_of, is_right
from tests.older import need_fp8_on_a_cpu

COMPILED = {
    "rmsnorm": compiled.rmsnorm,
    "add_rmsnorm": compiled.add_rmsnorm,
    "layernorm": compiled.layernorm,
    "add_layernorm": compiled.add_layernorm,
    "softmax": compiled.softmax,
    "swiglu": compiled.swiglu,
    "gelu": compiled.gelu,
    "rope": compiled.rope,
}
FORMULAS = {
    "rmsnorm": compiled._rmsnorm,
    "add_rmsnorm": compiled._add_rmsnorm,
    "layernorm": compiled._layernorm,
    "add_layernorm": compiled._add_layernorm,
    "softmax": compiled._softmax,
    "swiglu": compiled._swiglu,
    "gelu": compiled._gelu,
    "rope": compiled._rope,
}
W8A16 = {"m": 3, "n": 6, "k": 64}
W4A16 = {"m": 3, "n": 16, "k": 256}


# torch.compile


@pytest.fixture
def graph_options(monkeypatch):
    """The options that each captured graph would be compiled with; graphs are run as they are."""
    captured = []

    def backend(graph, _, **options):
        captured.append(options.get("options") or {})
        return graph.forward

    monkeypatch.setattr(compiled, "_BACKEND", backend)
    compiled._compile.cache_clear()
    yield captured
    compiled._compile.cache_clear()


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("op", ROWWISE)
def test_formulas_are_right(op, dtype):
    assert is_right(FORMULAS[op], getattr(reference, op), inputs_of(op, ROWWISE[op], dtype), dtype)


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_the_formula_with_int8_weights_is_right(dtype):
    assert is_right(compiled._w8a16, reference.matmul_w8a16, inputs_of("matmul_w8a16", W8A16, dtype), dtype)


def test_the_formula_with_int8_operands_is_right():
    inputs = inputs_of("matmul_scaled", {"m": 17, "n": 24, "k": 40}, "int8")
    assert is_right(compiled._scaled_int8, reference.matmul_scaled, inputs, "int8", "bf16")


@pytest.mark.parametrize("op", ROWWISE)
def test_each_op_is_one_graph_and_right(op, graph_options):
    assert is_right(COMPILED[op], getattr(reference, op), inputs_of(op, ROWWISE[op], "fp32"), "fp32")
    assert graph_options == [{}]


def test_only_one_row_times_int8_weights_is_tuned(graph_options):
    for m in (1, 2):
        inputs = inputs_of("matmul_w8a16", {**W8A16, "m": m}, "bf16")
        assert is_right(compiled.w8a16, reference.matmul_w8a16, inputs, "bf16")
    inputs = inputs_of("matmul_scaled", {"m": 17, "n": 24, "k": 40}, "int8")
    assert is_right(compiled.scaled_int8, reference.matmul_scaled, inputs, "int8", "bf16")
    assert graph_options == [{"coordinate_descent_tuning": True}, {}, {}]


def test_every_shape_is_compiled_once_and_none_runs_uncompiled(graph_options):
    limit = torch._dynamo.config.recompile_limit
    shapes = range(2, limit + 4)
    for _ in range(2):
        for cols in shapes:
            x = torch.randn(3, cols)
            torch.testing.assert_close(compiled.softmax(x), torch.softmax(x, dim=1))
    assert len(graph_options) == len(shapes)


def test_a_layout_of_its_own_is_compiled_for(graph_options):
    x = torch.randn(4, 6)
    for each in (x, x.t().contiguous().t(), x.double(), x.clone()):
        compiled.softmax(each)
    assert len(graph_options) == 3


def test_wrong_inputs_never_reach_the_compiler(graph_options):
    x = torch.randn(3, 4)
    with pytest.raises(ValueError, match="swiglu: input 1 must have shape"):
        compiled.swiglu(x, x[:2])
    with pytest.raises(ValueError, match="rmsnorm: weight must have shape"):
        compiled.rmsnorm(x, x[0, :2])
    with pytest.raises(ValueError, match="matmul_w8a16: weight must be int8"):
        compiled.w8a16(x, x, x[0, :3])
    with pytest.raises(Unsupported, match="does not support fp8; supported: int8"):
        compiled.scaled_int8(*inputs_of("matmul_scaled", {"m": 17, "n": 8, "k": 8}, "fp8"))
    assert graph_options == []


@pytest.mark.gpu
@pytest.mark.parametrize("op", ROWWISE)
def test_what_the_compiler_makes_is_right_and_can_be_captured(op, device):
    inputs = inputs_of(op, ROWWISE[op], "bf16", device)
    assert is_right(COMPILED[op], getattr(reference, op), inputs, "bf16")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        COMPILED[op](*inputs)
    graph.replay()


# tinygemm


def test_tinygemm_is_handed_what_pytorch_packs(monkeypatch):
    """The packing for a GPU is checked up to the byte that holds two weights; a CPU kernel of the same arithmetic says
    whether the scales mean what they should."""
    given = {}

    def pack(pairs, inner_k_tiles):
        given["tiles"] = inner_k_tiles
        assert pairs.dtype == torch.uint8
        assert pairs.is_contiguous()
        return torch.stack((pairs >> 4, pairs & 0xF), dim=-1).flatten(1).int()

    def multiply(x, q, group, scales_and_zeros):
        packed = torch._convert_weight_to_int4pack_for_cpu(q, 1)
        return torch._weight_int4pack_mm_for_cpu(x, packed, group, scales_and_zeros)

    monkeypatch.setattr(torch, "_convert_weight_to_int4pack", pack)
    monkeypatch.setattr(torch, "_weight_int4pack_mm", multiply)
    on_a_gpu(monkeypatch, (8, 0))
    inputs = inputs_of("matmul_w4a16", W4A16, "bf16")
    prepared = eager.prepare_tinygemm(*inputs)
    assert given == {"tiles": 8}
    assert prepared[0] is inputs[0]
    assert prepared[2].shape == (2, 16, 2)  # groups, n, scale and zero
    assert is_right(eager.tinygemm, reference.matmul_w4a16, inputs, "bf16", prepared=prepared)


def on_a_gpu(monkeypatch, capability):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)


def test_tinygemm_declines_before_it_packs(monkeypatch):
    with pytest.raises(Unsupported, match="does not support fp16; supported: bf16"):
        eager.prepare_tinygemm(*inputs_of("matmul_w4a16", W4A16, "fp16"))
    with pytest.raises(Unsupported, match="n=12; supported: multiples of 8"):
        eager.prepare_tinygemm(*inputs_of("matmul_w4a16", {**W4A16, "n": 12}, "bf16"))
    on_a_gpu(monkeypatch, (7, 5))
    with pytest.raises(Unsupported, match=r"does not run on compute capability 7\.5; supported: 8\.0 and later"):
        eager.prepare_tinygemm(*inputs_of("matmul_w4a16", W4A16, "bf16"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(Unsupported, match="no CUDA device"):
        eager.prepare_tinygemm(*inputs_of("matmul_w4a16", W4A16, "bf16"))


@pytest.mark.gpu
def test_tinygemm_is_right(device):
    inputs = inputs_of("matmul_w4a16", {"m": 5, "n": 48, "k": 384}, "bf16", device)
    prepared = eager.prepare_tinygemm(*inputs)
    assert is_right(eager.tinygemm, reference.matmul_w4a16, inputs, "bf16", prepared=prepared)


# Liger-Kernel


def in_fp32(op, *tensors):
    """What a right kernel returns: computed in fp32, rounded to the format of the first tensor."""
    result = getattr(reference, op)(*tensors, precision="fp32")
    outputs = result if isinstance(result, tuple) else (result,)
    rounded = tuple(each.to(tensors[0].dtype) for each in outputs)
    return rounded if isinstance(result, tuple) else rounded[0]


# The signatures of liger_kernel/transformers/functional.py, linkedin/Liger-Kernel at v0.8.2.


def liger_rms_norm(X, W, eps, offset: float = 0.0, casting_mode: str = "llama", in_place: bool = True):  # noqa: N803
    assert (eps, offset, casting_mode) == (1e-6, 0.0, "gemma")
    return in_fp32("rmsnorm", X, W)


def liger_fused_add_rms_norm(
    X,  # noqa: N803
    R,  # noqa: N803
    W,  # noqa: N803
    eps,
    offset: float = 0.0,
    casting_mode: str = "llama",
    in_place: bool = True,
):
    assert (eps, offset, casting_mode) == (1e-6, 0.0, "gemma")
    return in_fp32("add_rmsnorm", X, R, W)


def liger_softmax(x):
    return in_fp32("softmax", x)


def liger_swiglu(a, b):
    return in_fp32("swiglu", a, b)


def liger_rope(q, k, cos, sin, position_ids=None, unsqueeze_dim=1):
    """As liger_kernel/ops/rope.py: (batch, heads, tokens, head_dim), stored by tokens, or else it would copy; cos and
    sin (1, tokens, head_dim), of which the first half is read; in place."""
    for x in (q, k):
        assert x.transpose(1, 2).is_contiguous()
        tokens = x[0].transpose(0, 1)
        half = cos.shape[-1] // 2
        assert cos.shape == sin.shape == (1, len(tokens), x.shape[-1])
        tokens.copy_(in_fp32("rope", tokens.clone(), cos[0, :, :half], sin[0, :, :half]))
    return q, k


def module(name, functions=()):
    made = types.ModuleType(name)
    made.__spec__ = importlib.machinery.ModuleSpec(name, None)
    for function in functions:
        setattr(made, function.__name__, function)
    return made


@pytest.fixture
def made_up_liger(monkeypatch):
    """A made-up Liger-Kernel."""
    functions = (liger_rms_norm, liger_fused_add_rms_norm, liger_softmax, liger_swiglu, liger_rope)
    functional = module("liger_kernel.transformers.functional", functions)
    package, transformers = module("liger_kernel"), module("liger_kernel.transformers")
    transformers.functional = functional
    for each in (package, transformers, functional):
        monkeypatch.setitem(sys.modules, each.__name__, each)


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("op", ["rmsnorm", "add_rmsnorm", "softmax", "swiglu"])
def test_liger_is_called_as_it_wants_to_be(op, dtype, made_up_liger):
    assert is_right(getattr(liger, op), getattr(reference, op), inputs_of(op, ROWWISE[op], dtype), dtype)


@pytest.mark.parametrize("heads", [2, 5, 40])
def test_liger_turns_copies(heads, made_up_liger):
    inputs = inputs_of("rope", {**ROWWISE["rope"], "heads": heads}, "bf16")
    before = [each.clone() for each in inputs]
    prepared = liger.prepare_rope(*inputs)
    assert is_right(liger.rope, liger.rope_of_q_and_k, inputs, "bf16", prepared=prepared)
    assert all(torch.equal(*pair) for pair in zip(inputs, before, strict=True))


def test_heads_are_split_where_padding_costs_least():
    splits = {heads: [part.shape[1] for part in liger._q_and_k(torch.empty(1, heads, 2))] for heads in (2, 3, 32, 40)}
    assert splits == {2: [1, 1], 3: [2, 1], 32: [16, 16], 40: [32, 8]}


def test_what_liger_does_not_take_is_declined():
    x = torch.empty(1, 65537)
    for run, inputs in (
        (liger.rmsnorm, (x, x[0])),
        (liger.add_rmsnorm, (x, x, x[0])),
        (liger.softmax, (x,)),
        (liger.swiglu, (x, x)),
    ):
        with pytest.raises(Unsupported, match="65537 columns; supported: to 65536"):
            run(*inputs)
    with pytest.raises(Unsupported, match="at least 2 heads"):
        liger.prepare_rope(*inputs_of("rope", {**ROWWISE["rope"], "heads": 1}, "fp32"))


# quack: the signatures of quack/rmsnorm.py, softmax.py and gemm_interface.py, Dao-AILab/quack at v0.6.4.


def rmsnorm(
    x, weight=None, bias=None, residual=None, out_dtype=None, residual_dtype=None, eps=1e-6, prenorm=False,
    weight_offset=0.0,
):  # fmt: skip
    assert (bias, out_dtype, residual_dtype, eps, weight_offset) == (None, None, None, 1e-6, 0.0)
    assert prenorm == (residual is not None)
    return in_fp32("rmsnorm", x, weight) if residual is None else in_fp32("add_rmsnorm", x, residual, weight)


def softmax(x):
    assert x.dim() == 2
    return in_fp32("softmax", x)


def gemm(A, B, out=None, bias=None, alpha=1.0, out_dtype=None, tuned=True):  # noqa: N803
    assert not tuned
    return in_fp32("matmul", A, B)


@pytest.fixture
def made_up_quack(monkeypatch):
    """A made-up quack on a made-up H100."""
    package, interface = module("quack", (rmsnorm, softmax)), module("quack.gemm_interface", (gemm,))
    package.gemm_interface = interface
    for each in (package, interface):
        monkeypatch.setitem(sys.modules, each.__name__, each)
    on_a_gpu(monkeypatch, (9, 0))


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("op", ["rmsnorm", "add_rmsnorm", "softmax"])
def test_quack_is_called_as_it_wants_to_be(op, dtype, made_up_quack):
    assert is_right(getattr(quack, op), getattr(reference, op), inputs_of(op, ROWWISE[op], dtype), dtype)


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_quack_multiplies_untuned(dtype, made_up_quack):
    inputs = inputs_of("matmul", {"m": 3, "n": 16, "k": 24}, dtype)
    assert is_right(quack.matmul, reference.matmul, inputs, dtype)


def test_what_quack_does_not_take_is_declined(made_up_quack, monkeypatch):
    with pytest.raises(Unsupported, match="n=12, k=24; supported: multiples of 8"):
        quack.matmul(*inputs_of("matmul", {"m": 3, "n": 12, "k": 24}, "bf16"))
    on_a_gpu(monkeypatch, (8, 0))
    for op in ("rmsnorm", "add_rmsnorm", "softmax"):
        with pytest.raises(Unsupported, match=rf"{op}: quack does not run on compute capability 8\.0"):
            getattr(quack, op)(*inputs_of(op, ROWWISE[op], "bf16"))


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("liger_kernel", lambda: liger.softmax(torch.randn(2, 3))),
        ("quack", lambda: quack.softmax(torch.randn(2, 3))),
    ],
)
def test_a_package_that_cannot_be_imported_is_a_reason_not_a_crash(name, call, monkeypatch):
    on_a_gpu(monkeypatch, (9, 0))
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(Unsupported, match="is installed but cannot be imported"):
        call()


# The list


def names_of(monkeypatch, *installed):
    monkeypatch.setattr(packages, "is_installed", lambda package: package in installed)
    return {(row.op, row.name): row for row in catalog.list_implementations()}


def test_packages_that_are_not_installed_have_no_rows(monkeypatch):
    bare = names_of(monkeypatch)
    assert not {name for _, name in bare} & {"liger", "quack"}
    both = names_of(monkeypatch, "liger-kernel", "quack-kernels")
    assert {op for op, name in both if name == "liger"} == {"rmsnorm", "add_rmsnorm", "softmax", "swiglu", "rope"}
    assert {op for op, name in both if name == "quack"} == {"matmul", "rmsnorm", "add_rmsnorm", "softmax"}
    assert {both[key].package for key in both.keys() - bare.keys()} == {"liger-kernel", "quack-kernels"}
    assert all(both[key].devices == ("cuda",) for key in both.keys() - bare.keys())


def test_every_row_names_the_package_it_comes_with(monkeypatch):
    rows = names_of(monkeypatch, "liger-kernel", "quack-kernels").values()
    assert {row.package for row in rows if row.name.startswith("triton")} <= {"triton"}
    assert {row.package for row in rows if row.name.startswith(("torch", "tinygemm"))} == {"torch"}


def test_installed_packages_are_found_without_importing_them(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if name == "quack" else None)
    monkeypatch.setattr(importlib.metadata, "version", {"quack-kernels": "0.6.5"}.__getitem__)
    assert not packages.is_installed("liger-kernel")
    assert packages.optional_versions() == {"quack-kernels": "0.6.5"}
    assert "quack" not in sys.modules
    assert env.environment("cpu", gpu=None, force=False, warm_cache=False).packages == {"quack-kernels": "0.6.5"}


def test_a_package_without_metadata_has_no_version():
    assert packages.package_version("torch") == importlib.metadata.version("torch")
    assert packages.package_version("a-package-that-nobody-has") is None


def test_the_list_shows_versions():
    rows = json.loads(CliRunner().invoke(cli.app, ["list", "--json"]).stdout)
    assert {row["version"] for row in rows if row["package"] == "torch"} == {importlib.metadata.version("torch")}
    assert f"torch {importlib.metadata.version('torch')}" in CliRunner().invoke(cli.app, ["list"]).stdout


# Preparing inputs


@dataclasses.dataclass
class ThreeSets:
    """A timer that binds three input sets, and says how often inputs had been prepared by the time it began to run."""

    counted: list
    at_the_first_run: int = 0
    at_the_end: int = 0

    def prepare(self, preparation):
        runs = [preparation.bind(index) for index in range(3)]
        self.at_the_first_run = len(self.counted)
        for run in runs:
            run()
        self.at_the_end = len(self.counted)
        return FakeSampler([1e-3])


def test_inputs_are_prepared_once_a_set_and_never_while_the_clock_runs(monkeypatch):
    prepared = []

    def transpose(a, b):
        prepared.append((a, b))
        return a.t().contiguous(), b

    def run(a_t, b):
        assert len(a_t) == 7
        return a_t.t() @ b

    row = dataclasses.replace(find_implementation(SMALL, "torch", "cpu"), name="packed", run=run, prepare=transpose)
    monkeypatch.setattr("bench.cases.IMPLEMENTATIONS", (*IMPLEMENTATIONS, row))
    timer = ThreeSets(prepared)
    bench = InProcessBench(Lab(cpu_environment(), timer, Budget(0.01, 0.0), monitor=None))
    assert bench.run(Job(SMALL, "packed")).status is Status.MEASURED
    assert (timer.at_the_first_run, timer.at_the_end) == (3, 3)  # one of them for the check, and timed too
    for index, (a, b) in enumerate(prepared):
        assert all(map(torch.equal, (a, b), make_inputs(SMALL, torch.device("cpu"), index=index)))
    # Others are given the inputs as they are.
    assert bench.run(Job(SMALL, "torch")).status is Status.MEASURED
    assert len(prepared) == 3


SMALL = make_workload("matmul", {"m": 3, "n": 5, "k": 7}, find_dtype("fp32"))


def test_a_given_output_is_spoiled_before_the_check_even_where_inputs_are_prepared(monkeypatch):
    copy = make_workload("stream_copy", {"n": 1000}, find_dtype("fp32"))
    row = dataclasses.replace(
        find_implementation(copy, "torch", "cpu"),
        name="idle",
        run=lambda x, out: out,
        prepare=lambda x, out: (x.clone(), out),
    )
    monkeypatch.setattr("bench.cases.IMPLEMENTATIONS", (*IMPLEMENTATIONS, row))
    bench = InProcessBench(Lab(cpu_environment(), ThreeSets([]), Budget(0.01, 0.0), monitor=None))
    assert bench.run(Job(copy, "idle")).status is Status.INCORRECT


NEW = (
    ("matmul_scaled", {"m": 3, "n": 6, "k": 64}, ("fp8", "int8")),
    ("matmul_w8a16", {"m": 3, "n": 6, "k": 64}, ("bf16", "fp16")),
    ("matmul_w4a16", {"m": 3, "n": 16, "k": 128}, ("bf16", "fp16")),
    *((op, dims, ("fp32", "bf16", "fp16")) for op, dims in ROWWISE.items()),
)


@pytest.mark.parametrize(("op", "dims", "dtype"), [(op, dims, dtype) for op, dims, dtypes in NEW for dtype in dtypes])
def test_every_row_of_a_cpu_is_right_and_timed(op, dims, dtype):
    if dtype == "fp8":
        need_fp8_on_a_cpu()
    workload = make_workload(op, dims, find_dtype(dtype))
    bench = InProcessBench(Lab(cpu_environment(), ThreeSets([]), Budget(0.01, 0.0), monitor=None))
    names = implementation_names(op, "cpu")
    assert names
    for name in names:
        outcome = bench.run(Job(workload, name))
        assert (outcome.status, outcome.reason) == (Status.MEASURED, None), name
