"""Products of fp8 on Hopper: how long its tensor cores sum them by themselves, in compiled code; and what that costs,
in an emulation of their sums."""

import textwrap

import pytest
import torch

from bench.cases import make_inputs, result_format
from bench.check import check
from kernels import reference
from kernels.triton.promotion import why_imprecise
from predict.units import find_dtype
from predict.workloads import make_workload
from tests.kernels.triton.test_compile import run_compiling

FRESH, ADDED = "0", "%p1"
WITHOUT_END = "sums products of fp8 in 14 bits for as long as a loop runs"


def product(begins, register="%r1", formats="e4m3.e4m3"):
    return (
        f"\twgmma.mma_async.sync.aligned.m64n64k32.f32.{formats} {{{register},%r2,%r3}}, %rd1, %rd2, {begins}, 1, 1;\n"
    )


def loop(body, *, before=""):
    return f"{before}$L__BB0_1:\n{body}\t@%p2 bra \t$L__BB0_1;\n"


def test_sums_that_begin_anew_every_128_are_taken():
    assert why_imprecise(loop(product(FRESH) + 3 * product(ADDED))) is None  # 4 products of 32
    twice = product(FRESH) + 3 * product(ADDED)
    assert why_imprecise(loop(twice + twice)) is None
    assert why_imprecise(loop(product(FRESH) + product(FRESH, "%r9") + 3 * product(ADDED))) is None  # two sums
    assert why_imprecise("add.f32 %r1, %r2, %r3;") is None


def test_a_longer_sum_is_counted():
    assert why_imprecise(loop(product(FRESH) + 7 * product(ADDED))) == (
        "sums 160 products of fp8 in 14 bits, where 128 are the most"
    )  # 5 products of 32 are the first too many


def test_a_sum_that_a_loop_continues_has_no_end():
    assert why_imprecise(loop(4 * product(ADDED))) == WITHOUT_END
    assert why_imprecise(loop(product(ADDED), before=product(FRESH))) == WITHOUT_END
    inner = loop(product(FRESH) + product(ADDED)).replace("BB0_1", "BB0_2")
    assert why_imprecise(loop(inner + product(ADDED, "%r9"))) == WITHOUT_END


def test_other_formats_may_be_summed_as_long_as_they_like_and_what_is_not_understood_is_not_passed():
    assert why_imprecise(loop(4 * product(ADDED, formats="bf16.bf16"))) is None
    assert why_imprecise(loop(4 * product(ADDED, formats="e5m2.e4m3"))) == WITHOUT_END
    with pytest.raises(AssertionError, match="another way"):
        why_imprecise("wgmma.mma_async.sync.aligned.m64n64k32.f32.e4m3.e4m3 written in another way;")


def test_every_default_of_fp8_on_hopper_is_promoted_and_one_that_is_not_fails(tmp_path):
    rows = run_compiling(
        textwrap.dedent("""
        import importlib.util, json, sys
        from dataclasses import asdict, replace
        from pathlib import Path
        from kernels.triton import compile, matmul, matmul_tiles, plan
        target = plan.Target(90, 128)
        launches = matmul.ahead_of_time(target, "fp8")
        source = Path(matmul_tiles.__file__).read_text()
        dropped = source.replace(", max_num_imprecise_acc=PROMOTION_K", "")
        later = source.replace("FP8_PROMOTION_K = tl.constexpr(128)", "FP8_PROMOTION_K = tl.constexpr(256)")
        assert len({source, dropped, later}) == 3
        def doctor(launch, text, name):
            path = Path(FOLDER) / f"{name}.py"
            path.write_text(text)
            spec = importlib.util.spec_from_file_location(name, path)
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return replace(launch, kernel=getattr(module, launch.kernel.__name__))
        def go(launch):
            return asdict(compile.compile_launch(launch, target, "fp8", default=True))
        wide = next(launch for launch in launches if "halves" in launch.config)
        long, *_ = matmul._plan_meta(64, 8192, 8192, dtype="fp8", config=matmul.ROWS_64, target=target)
        json.dump([[go(launch) for launch in launches], go(doctor(wide, dropped, "dropped")), go(long),
                   go(doctor(long, later, "later"))], sys.stdout)
        """).replace("FOLDER", repr(str(tmp_path)))
    )
    defaults, dropped, long, later = rows
    assert [(row["config"], row["status"], row["reason"]) for row in defaults if row["status"] != "compiled"] == []
    assert sum("QGMMA" in row["instructions"] for row in defaults) == 4  # wide, square, small and 64 rows
    assert (dropped["status"], dropped["reason"]) == ("failed", WITHOUT_END)
    assert long["status"] == "compiled"  # 256 elements of k a step, promoted twice
    assert (later["status"], later["reason"]) == (
        "failed", "sums 160 products of fp8 in 14 bits, where 128 are the most",
    )  # fmt: skip


K = 28672
FRACTION_BITS = 13  # 14 in all
GROUP = 32  # products that an instruction adds at once


@pytest.fixture(scope="module")
def case():
    """Inputs as a run makes them, the exact result, what bounds its error, and the check of a sum."""
    workload = make_workload("matmul_scaled", {"m": 8, "n": 16, "k": K}, find_dtype("fp8"))
    inputs = make_inputs(workload, torch.device("cpu"), index=0)
    exact = reference.matmul_scaled(*inputs)
    baseline = reference.matmul_scaled(*inputs, precision="fp8")

    def judge(sums):
        a_scale, b_scale = inputs[2:]
        result = (sums * a_scale[:, None] * b_scale).to(torch.bfloat16)
        return check(result, exact, baseline, result_format(workload))

    a, b = (each.double() for each in inputs[:2])
    return a, b, judge


def sum_as_hopper(a, b, *, promotion_k, cut):
    """a @ b as the tensor cores add it, by DeepSeek-V3's report (3.3.2 and 3.5.2): the products of a group and the sum
    so far are shifted to the exponent of the largest of them, cut to 14 bits and added; every promotion_k, fp32 takes
    over."""
    total = torch.zeros(a.shape[0], b.shape[1])
    part = torch.zeros_like(total, dtype=torch.float64)
    for first in range(0, a.shape[1], GROUP):
        products = a[:, first : first + GROUP, None] * b[None, first : first + GROUP]  # exact: 4 bits by 4 bits
        unit = last_bit(torch.maximum(products.abs().amax(dim=1), part.abs()))
        part = cut(part / unit) * unit + (cut(products / unit[:, None]) * unit[:, None]).sum(dim=1)
        part = torch.trunc(part / last_bit(part)) * last_bit(part)  # SageAttention2: the sum keeps 13 bits of fraction
        if (first + GROUP) % promotion_k == 0:
            total += part.float()
            part.zero_()
    return total + part.float()


def last_bit(x):
    """What the last of 13 bits behind the point is worth at the exponent of x."""
    return torch.ldexp(torch.ones_like(x), torch.frexp(x).exponent - 1 - FRACTION_BITS)


# A product of two normal numbers of fp8 has 6 bits behind the point, so it loses something only where it is less than
# 2^(6 - 13) = 1/128 of the largest addend, and then up to the unit, 2^-13 of that. Products are about 1, their sum of k
# about sqrt(k): 11 after 128, 169 after 28672.
#   Promoted: only products under about 8/128 are cut, one in eight, at a unit of 8/8192.
#     28672/8 times half of that is 1.8, against 169: 1 % at the most, were all the bits behind it filled.
#   Never promoted: the unit is 128/8192 in the end, and all products under 1 are cut, two of three.
#     2/3 * 28672 times half of that is 149, against 169.
# Which way is cut decides whether losses add up (toward minus infinity, as a shift with its sign does) or mostly
# cancel (toward zero). The report's "sign-fill right shifting" reads as the first; both are held.


@pytest.mark.parametrize("cut", [torch.floor, torch.trunc])
def test_promoted_sums_pass_the_check_at_the_longest_k(case, cut):
    a, b, judge = case
    checked = judge(sum_as_hopper(a, b, promotion_k=128, cut=cut))
    assert checked.passed
    assert checked.relative_error < 0.01


def test_sums_that_are_never_promoted_fail_or_lose_far_more(case):
    a, b, judge = case
    exact = a @ b

    def error(promotion_k, cut):
        sums = sum_as_hopper(a, b, promotion_k=promotion_k, cut=cut).double()
        return ((sums - exact).norm() / exact.norm()).item()

    never = sum_as_hopper(a, b, promotion_k=K, cut=torch.floor)
    assert not judge(never).passed
    assert error(K, torch.floor) > 0.2  # 149/169 were the unit as large from the start
    assert error(K, torch.trunc) > 10 * error(128, torch.trunc)  # the unit is 16 times as large


def test_the_emulation_is_exact_where_nothing_is_cut():
    ones = torch.ones(1, 64, dtype=torch.float64)
    for promotion_k in (32, 64):
        assert sum_as_hopper(ones, ones.t(), promotion_k=promotion_k, cut=torch.floor).item() == 64
    # 1 and 31 of 2^-14: each is half of the last bit that is kept, and all are lost.
    small = torch.full((1, 32), 2.0**-14, dtype=torch.float64)
    small[0, 0] = 1
    assert sum_as_hopper(small, ones[:, :32].t(), promotion_k=32, cut=torch.trunc).item() == 1
