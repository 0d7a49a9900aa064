import pytest

from bench.record import Status
from reports.run.compare import compare
from reports.run.frame import to_frame
from reports.run.load import Run
from reports.run.tables import op_tables
from reports.run.terminal import comparison_page, run_page
from tests.factories import make_record


@pytest.mark.parametrize("width", [80, 100, 120])
def test_no_number_is_cut_however_narrow_the_terminal(width):
    sizes = [{"m": m, "n": n, "k": 8192} for m in (1, 1024, 65536) for n in (8192, 28672)]
    records = [make_record(dims=dims, implementation="torch_compiled", time_s=1e-2) for dims in sizes]
    records.append(make_record(dims=sizes[0], status=Status.THROTTLED))
    shown = run_page(Run(tuple(records)), width)
    assert "…" not in shown
    assert "65536" in shown
    assert "throttled" in shown


def test_a_status_has_a_column_of_its_own():
    (table,) = op_tables(to_frame([make_record(time_s=1e-3, status=Status.THROTTLED)]))
    row = dict(zip(table.titles, table.rows[0], strict=True))
    assert (row["measured"], row["status"]) == ("1.00 ms", "throttled")
    (plain,) = op_tables(to_frame([make_record()]))
    assert "status" not in plain.titles


def test_a_dimension_that_rows_leave_out_has_a_column_only_where_another_row_gives_it():
    llama = {"batch": 1, "context": 5, "heads": 2, "kv_heads": 1, "head_dim": 4, "inner": 6}
    alone = (make_record("block_decode", llama), make_record("block_decode", {**llama, "batch": 8}))
    (table,) = op_tables(to_frame(alone))
    assert table.titles[:2] == ("batch", "implementation")
    assert table.shared == "context 5, heads 2, kv_heads 1, head_dim 4, inner 6, bf16"
    (table,) = op_tables(to_frame((*alone, make_record("block_decode", {**llama, "matrices": 2}))))
    assert table.titles[:3] == ("batch", "matrices", "implementation")
    assert [row[:2] for row in table.rows] == [("1", "2"), ("1", "3"), ("8", "3")]


def test_a_comparison_puts_into_its_title_what_all_rows_share():
    heads = {"heads": 32, "kv_heads": 8, "head_dim": 128}
    run = Run(
        tuple(make_record("attention_prefill", {"batch": 1, "seq": seq, **heads}, time_s=1.0) for seq in (512, 16384))
    )
    lines = comparison_page(compare(run, run), 120).splitlines()
    assert any("batch1, heads32, kv_heads8, head_dim128, bf16" in line for line in lines)
    assert any(line.startswith("seq16384 ") for line in lines)
