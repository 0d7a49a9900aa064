"""Ours against the best peer, on made-up runs whose ratios can be worked out by hand."""

import math

import pytest
from typer import unstyle

from bench.record import RoofSet, Status
from predict.gpus import GPUS
from reports.report import page
from reports.run.frame import to_frame
from reports.run.leaderboard import against_peers, leaderboard, leaderboard_table, peer_tables
from reports.run.load import Run
from reports.run.machine import machine_lines
from reports.run.terminal import run_page
from tests.factories import MEASURED, make_environment, make_record, unstable

ROOFS = RoofSet(GPUS["h200-sxm"].roofs, MEASURED)


def matmul(m, implementation, time_s, **others):
    dims = {"m": m, "n": 4096, "k": 4096}
    return make_record("matmul", dims, implementation=implementation, time_s=time_s, roofs=ROOFS, **others)


def rmsnorm(rows, implementation, time_s, **others):
    dims = {"rows": rows, "cols": 4096}
    return make_record("rmsnorm", dims, implementation=implementation, time_s=time_s, roofs=ROOFS, **others)


# Against the best: 2/1, 3/6 and 8/8. Against torch alone: 2/1, 3/12 and 8/8.
MATMULS = (
    matmul(1, "torch", 1e-3),
    matmul(1, "triton", 2e-3),
    matmul(16, "quack", 6e-3),
    matmul(16, "torch", 12e-3),
    matmul(16, "triton", 3e-3),
    matmul(16, "triton@64x64", 1e-3),  # tuned: neither ours nor a peer
    matmul(64, "torch", 8e-3),
    matmul(64, "triton", 8e-3),
)
# 1/4 and, by the slower of two peers since the faster one is wrong, 6/3.
NORMS = (
    rmsnorm(1, "triton", 1e-3),
    rmsnorm(1, "liger", 4e-3),
    rmsnorm(1, "torch", 9e-3),
    rmsnorm(8, "triton", 6e-3),
    rmsnorm(8, "liger", 1e-3, status=Status.INCORRECT),
    rmsnorm(8, "torch_compile", 3e-3),
)


def rows_of(*records):
    return against_peers(to_frame(records))


def test_each_workload_is_held_against_its_fastest_peer():
    rows = rows_of(*MATMULS)
    assert rows["m"].tolist() == [1, 16, 64]
    assert rows["peer"].tolist() == ["torch", "quack", "torch"]
    assert rows["ratio"].tolist() == pytest.approx([2, 0.5, 1])
    assert rows["library_ratio"].tolist() == pytest.approx([2, 0.25, 1])
    assert rows["our_s"].tolist() == pytest.approx([2e-3, 3e-3, 8e-3])
    assert rows["peer_s"].tolist() == pytest.approx([1e-3, 6e-3, 8e-3])


def test_the_faster_of_ours_counts_and_is_no_peer_of_itself():
    times_s = {"triton": 4e-3, "triton_graph": 3e-3, "torch_graph": 2e-3, "torch": 9e-3}
    rows = rows_of(*(matmul(1, name, time_s) for name, time_s in times_s.items()))
    assert rows["ratio"].tolist() == pytest.approx([1.5])
    assert rows["peer"].tolist() == ["torch_graph"]


def test_means_are_geometric_and_shares_count_what_is_as_fast():
    matmuls, norms = leaderboard(rows_of(*MATMULS, *NORMS))
    assert (matmuls.op, matmuls.dtype, matmuls.shapes) == ("matmul", "bf16", 3)
    assert matmuls.ratio == pytest.approx(1)  # the cube root of 2 * 1/2 * 1
    assert matmuls.share == pytest.approx(2 / 3)
    assert matmuls.library_ratio == pytest.approx(0.5 ** (1 / 3))  # of 2 * 1/4 * 1
    assert (norms.op, norms.shapes) == ("rmsnorm", 2)
    assert norms.ratio == pytest.approx(math.sqrt(1 / 4 * 2))
    assert norms.share == 0.5
    assert norms.library_ratio is None


def test_dtypes_stand_apart_and_ops_keep_their_order():
    found = leaderboard(
        rows_of(
            *NORMS, *(matmul(1, name, 1e-3, dtype=dtype) for dtype in ("fp16", "bf16") for name in ("torch", "triton"))
        )
    )
    assert [(each.op, each.dtype) for each in found] == [("matmul", "bf16"), ("matmul", "fp16"), ("rmsnorm", "bf16")]


@pytest.mark.parametrize(
    "records",
    [
        [matmul(1, "torch", 1e-3)],
        [matmul(1, "triton", 1e-3)],
        [matmul(1, "triton", 1e-3), matmul(2, "torch", 1e-3)],
        [matmul(1, "triton@64x64", 1e-3), matmul(1, "torch", 1e-3)],
        [matmul(1, "triton", 1e-3), matmul(1, "triton@64x64", 1e-3)],
        [matmul(1, "triton", 1e-3, status=Status.INCORRECT), matmul(1, "torch", 1e-3)],
        [matmul(1, "triton", 1e-3), matmul(1, "torch", 1e-3, status=Status.THROTTLED)],
        [matmul(1, "triton", 1e-3, status=Status.CRASHED)],
    ],
)
def test_without_ours_or_without_a_peer_nothing_is_said(records):
    run = Run(tuple(records))
    assert leaderboard(against_peers(run.frame)) == ()
    assert "best peer" not in page.render(run, ())
    assert "best peer" not in run_page(run, 100)


def test_without_the_library_there_is_no_mean_against_it():
    (found,) = leaderboard(rows_of(matmul(1, "triton", 1e-3), matmul(1, "quack", 2e-3)))
    assert found.library_ratio is None
    assert leaderboard_table([found]).rows == (("matmul", "bf16", "1", "0.50x", "100 %", "", ""),)


@pytest.mark.parametrize("shaky", [2, 3])
def test_a_shape_whose_time_is_unstable_on_either_side_does_not_count(shaky):
    records = [matmul(1, "triton", 1e-3), matmul(1, "torch", 2e-3), matmul(2, "triton", 9e-3), matmul(2, "torch", 3e-3)]
    records[shaky] = unstable(records[shaky])
    rows = rows_of(*records)
    (found,) = leaderboard(rows)
    assert (found.shapes, found.unstable) == (1, 1)
    assert (found.ratio, found.share, found.library_ratio) == pytest.approx((0.5, 1.0, 0.5))
    (table,) = peer_tables(rows)
    assert table.rows[1][1:3] == (("~9.00 ms", "3.00 ms") if shaky == 2 else ("9.00 ms", "~3.00 ms"))


def test_over_unstable_shapes_alone_there_is_no_mean():
    (found,) = leaderboard(rows_of(unstable(matmul(1, "triton", 1e-3)), matmul(1, "torch", 2e-3)))
    assert leaderboard_table([found]).rows == (("matmul", "bf16", "0", "", "", "", "1"),)


def test_what_all_shapes_share_is_said_once():
    matmuls, norms = peer_tables(rows_of(*MATMULS, *NORMS))
    assert (matmuls.shared, matmuls.titles[0]) == ("n 4096, k 4096, bf16", "m")
    assert matmuls.rows[1] == ("16", "3.00 ms", "6.00 ms", "quack", "0.50x")
    assert (norms.shared, norms.rows[1][1:]) == ("cols 4096, bf16", ("6.00 ms", "3.00 ms", "torch_compile", "2.00x"))
    (alone,) = peer_tables(rows_of(*MATMULS[:2]))
    assert alone.rows == (("2.00 ms", "1.00 ms", "torch", "2.00x"),)


def test_the_report_has_a_summary_and_every_shape():
    run = Run(MATMULS + NORMS)
    section = page.render(run, ()).partition("## Leaderboard: ours against the best peer\n")[2]
    section = section.partition("\n## ")[0]
    assert "| matmul | bf16 | 3 | 1.00x | 66.7 % | 0.79x |" in section  # the cube root of 1/2 is 0.794
    assert "| rmsnorm | bf16 | 2 | 0.71x | 50.0 % |  |" in section
    assert "### matmul: ours vs the best peer\n\nn 4096, k 4096, bf16\n\n| m | ours |" in section
    assert "| 16 | 3.00 ms | 6.00 ms | quack | 0.50x |" in section
    assert "\n\n\n" not in section


@pytest.mark.parametrize("width", [80, 120])
def test_the_terminal_shows_the_summary(width):
    text = unstyle(run_page(Run(MATMULS + NORMS), width))
    assert "ours against the best peer" in text
    lines = [line.split() for line in text.partition("ours against the best peer")[2].splitlines()]
    assert ["matmul", "bf16", "3", "1.00x", "66.7", "%", "0.79x"] in lines
    assert ["rmsnorm", "bf16", "2", "0.71x", "50.0", "%"] in lines
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width


def test_a_run_of_a_cpu_has_no_column_for_what_is_not_there():
    text = run_page(Run(NORMS), 100)
    assert "best peer" in text
    assert "cuBLAS" not in text


def test_versions_of_optional_packages_stand_beside_the_others():
    environment = make_environment(packages={"quack-kernels": "0.6.5", "liger-kernel": "0.8.5"})
    assert "Python 3.11.7, liger-kernel 0.8.5, quack-kernels 0.6.5, commit" in machine_lines(environment)[1]
    assert "liger" not in machine_lines(make_environment())[1]


def test_other_packages_make_another_environment():
    environments = [make_environment(packages=packages) for packages in ({}, {"liger-kernel": "0.8.5"}, {})]
    run = tuple(make_record(environment=each) for each in environments)
    assert len(Run(run).environments) == 2
