"""Tuning end to end with a made-up kernel on the CPU, and the numbers of its tables from records with round times."""

import csv
import importlib
import io
import itertools
import json
from dataclasses import dataclass, replace

import pytest
import torch
from typer.testing import CliRunner

from bench import __main__ as cli
from bench import cases, store, tune
from bench.cases import find_implementation
from bench.commands import carrying_out
from bench.env import CudaStatus
from bench.lab import Lab
from bench.record import Status
from bench.runner import Runner
from bench.sampling import Budget
from bench.suites import TUNING, tuning_workloads
from kernels import reference
from kernels.implementation import EVERYWHERE, Implementation
from kernels.unsupported import Unsupported
from predict.errors import BadRun, BadWorkload
from predict.units import find_dtype
from predict.workloads import make_workload
from reports.__main__ import app as reports_app
from tests.bench.test_runner import at_half_the_roof
from tests.factories import make_environment, make_record
from tests.fakes import FakeBench, FakeSampler, InProcessBench, cpu_environment

pytest.importorskip("triton")
from triton.runtime.errors import OutOfResources

RUNNER = CliRunner()
US = 1e-6


@dataclass(frozen=True)
class Made:
    """A configuration that multiplies what it copies, and takes as long as it says for 1000 and for 2000 elements."""

    name: str
    times_s: tuple[float, float] = (1 * US, 1 * US)
    factor: float = 1.0
    error: Exception | None = None


WIDE, NARROW = Made("wide", (2 * US, 10 * US)), Made("narrow", (4 * US, 5 * US))
DEFAULT = Made("chosen", (3 * US, 5 * US))


def made_copy(x, out, *, config=DEFAULT):
    MadeTimer.config = config
    if config.error:
        raise config.error
    return out.copy_(x * config.factor)


class MadeTimer:
    """Says of each configuration what it says of itself; of the probe, 1000 times as long as its elements in ns."""

    config = DEFAULT  # of the latest call

    def prepare(self, preparation):
        elements = len(preparation.bind(0)())
        times_s = dict(zip((1000, 2000), MadeTimer.config.times_s, strict=True))
        return FakeSampler([times_s.get(elements, elements * 1e-9)])


@pytest.fixture
def kernel(monkeypatch):
    """A stream_copy whose launcher has these configurations, tuned on 1000 and 2000 elements; the one probe, a copy of
    4000, moves 8 bytes in each ns."""

    def make(*configs):
        row = Implementation(
            "stream_copy", "triton", made_copy, ("fp32",), EVERYWHERE,
            configs={config.name: config for config in configs},
        )  # fmt: skip
        others = [each for each in cases.IMPLEMENTATIONS if (each.op, each.name) != ("stream_copy", "triton")]
        monkeypatch.setattr(cases, "IMPLEMENTATIONS", (*others, row))
        shapes = {"stream_copy": tuple(copy_of(n) for n in (1000, 2000))}
        monkeypatch.setattr("bench.suites.TUNING", shapes)
        monkeypatch.setattr("bench.runner.roof_probes", lambda _: [copy_of(4000)])
        monkeypatch.setattr("bench.env.choose_device", lambda _: "cuda")
        monkeypatch.setattr("bench.worker.WorkerBench", lambda *_, **__: made_bench())

    return make


def copy_of(n):
    return make_workload("stream_copy", {"n": n}, find_dtype("fp32"))


def made_bench():
    return InProcessBench(Lab(cpu_environment(), MadeTimer(), Budget(0.01, 0.0), monitor=None))


def invoke(out, *options):
    return RUNNER.invoke(cli.app, ["tune", "--op", "stream_copy", "--out", str(out), *options])


def rows_of(result):
    """The rows of a --json run, by workload and configuration."""
    (tuning,) = json.loads(result.stdout)["tunings"]
    return {
        (ranking["workload"], row["configuration"]): row for ranking in tuning["rankings"] for row in ranking["rows"]
    }


def test_a_tuning_run_measures_the_roofs_then_the_choice_and_every_configuration_shape_by_shape(kernel, tmp_path):
    kernel(WIDE, NARROW)
    result = invoke(tmp_path / "run", "--json")
    assert result.exit_code == 0, result.output
    data = json.loads(result.stdout)
    assert data["records"] == str(tmp_path / "run" / "records.jsonl")
    assert data["environment"]["name"] == "Fake CPU"
    records = store.read(tmp_path / "run" / "records.jsonl").records
    names = ("triton", "triton@wide", "triton@narrow")
    assert [record.key for record in records[-6:]] == list(
        itertools.product(("stream_copy-n1000-fp32", "stream_copy-n2000-fp32"), names)
    )
    assert {record.workload.id for record in records[:-6]} == {"stream_copy-n4000-fp32"}
    assert all(record.check.passed for record in records)


def test_the_json_holds_ranks_ratios_shares_of_the_roof_and_geometric_means(kernel, tmp_path):
    kernel(WIDE, NARROW)
    result = invoke(tmp_path / "run", "--json")
    (tuning,) = json.loads(result.stdout)["tunings"]
    assert (tuning["op"], tuning["dtype"]) == ("stream_copy", "fp32")
    small, large = tuning["rankings"]
    assert (small["workload"], small["roof"]) == ("stream_copy-n1000-fp32", "measured")
    # 1000 elements are 8000 bytes, 1 us at the probe's 8 bytes a ns.
    assert [
        (row["configuration"], row["rank"], row["time_s"], row["times_best"], row["of_roof"]) for row in small["rows"]
    ] == [
        ("wide", 1, pytest.approx(2 * US), 1.0, pytest.approx(1 / 2)),
        ("default", None, pytest.approx(3 * US), pytest.approx(1.5), pytest.approx(1 / 3)),
        ("narrow", 2, pytest.approx(4 * US), pytest.approx(2.0), pytest.approx(1 / 4)),
    ]
    assert {row["configuration"]: row["times_best"] for row in large["rows"]} == {
        "wide": pytest.approx(2.0), "narrow": 1.0, "default": 1.0,
    }  # fmt: skip
    assert small["rows"][0]["relative_error"] == 0.0
    assert small["rows"][0]["relative_bound"] > 0.0
    assert (small["rows"][0]["status"], small["rows"][0]["reason"]) == ("measured", None)
    root_two = pytest.approx(2**0.5)
    assert tuning["scores"] == [
        {"configuration": "narrow", "times_best": root_two, "measured": 2, "best_at": 1},
        {"configuration": "wide", "times_best": root_two, "measured": 2, "best_at": 1},
    ]
    mean = pytest.approx(1.5**0.5)
    assert tuning["default"] == {"configuration": "default", "times_best": mean, "measured": 2, "best_at": 1}


def test_the_table_shows_the_same_numbers(kernel, tmp_path):
    kernel(WIDE, NARROW)
    result = invoke(tmp_path / "run")
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["stream_copy-n1000-fp32"] in lines
    # configuration, rank, time, +-, times best, % of measured
    assert ["wide", "1", "2.00", "us", "0.0", "%", "1.00x", "50.0", "%"] in [line[:9] for line in lines]
    assert ["default", "-", "3.00", "us", "0.0", "%", "1.50x", "33.3", "%"] in [line[:9] for line in lines]
    assert ["narrow", "1.41x", "2", "of", "2", "1"] in lines
    # sqrt(1.5 * 1) = 1.22
    text = " ".join(result.stdout.split())
    assert (
        "the launcher's default takes 1.22x the time of the fastest configuration, geometric mean over 2 shapes" in text
    )
    assert "none is faster at 1" in text
    assert str(tmp_path / "run" / "records.jsonl") in result.stdout


def test_the_tables_lose_nothing_on_a_narrow_terminal_and_csv_has_a_row_for_each_configuration(
    kernel, monkeypatch, tmp_path
):
    kernel(WIDE, NARROW)
    printed = {}
    for width in (40, 200):
        monkeypatch.setenv("COLUMNS", str(width))
        printed[width] = invoke(tmp_path / "run", "--resume").stdout.partition("records ")[0]
        assert max(map(len, printed[width].splitlines())) <= width
    assert set(printed[40].split()) == set(printed[200].split())
    rows = list(csv.DictReader(io.StringIO(invoke(tmp_path / "run", "--resume", "--csv").stdout)))
    found = rows_of(invoke(tmp_path / "run", "--resume", "--json"))
    assert {(row["workload"], row["configuration"]): float(row["time_s"]) for row in rows} == {
        key: row["time_s"] for key, row in found.items()
    }


def test_a_wrong_configuration_is_incorrect_never_timed_and_fails_the_command(kernel, tmp_path):
    kernel(WIDE, Made("half", factor=0.5))
    result = invoke(tmp_path / "run", "--json")
    assert result.exit_code == 1
    row = rows_of(result)["stream_copy-n1000-fp32", "half"]
    assert row["status"] == "incorrect"
    assert row["relative_error"] == pytest.approx(0.5)
    assert row["reason"].startswith("wrong result: relative error 0.5")
    assert [row[name] for name in ("rank", "time_s", "times_best", "of_roof")] == [None] * 4
    shown = invoke(tmp_path / "run", "--resume")
    assert shown.exit_code == 1
    assert "incorrect: half: wrong result: relative error 0.5" in shown.stdout
    assert ["half", "-", "0", "of", "2", "0"] in [line.split() for line in shown.stdout.splitlines()]


def test_what_does_not_apply_is_skipped_with_its_reason_and_fails_nothing(kernel, tmp_path):
    declines = Unsupported("tall takes 64 rows and more")
    kernel(WIDE, Made("tall", error=declines), Made("taller", error=declines))
    result = invoke(tmp_path / "run")
    assert result.exit_code == 0, result.output
    assert result.stdout.count("skipped: tall, taller: tall takes 64 rows and more") == 2  # once a shape
    row = rows_of(invoke(tmp_path / "run", "--resume", "--json"))["stream_copy-n2000-fp32", "tall"]
    assert (row["status"], row["reason"], row["rank"]) == ("skipped", "tall takes 64 rows and more", None)


def test_a_configuration_too_large_for_the_card_is_skipped_but_as_the_choice_itself_it_is_a_crash(kernel, tmp_path):
    too_large = Made("huge", error=OutOfResources(300_000, 232_448, "shared memory"))
    kernel(WIDE, too_large)
    row = rows_of(invoke(tmp_path / "run", "--json"))["stream_copy-n1000-fp32", "huge"]
    assert row["status"] == "skipped"
    assert row["reason"].startswith("huge does not fit: out of resource: shared memory, Required: 300000")
    with pytest.raises(OutOfResources):
        find_implementation(copy_of(4), "triton", "cpu").run(torch.ones(4), torch.zeros(4), config=too_large)


def test_a_crash_is_listed_and_fails_the_command(kernel, tmp_path):
    kernel(WIDE, Made("broken", error=RuntimeError("illegal address")))
    result = invoke(tmp_path / "run", "--json")
    assert result.exit_code == 1
    row = rows_of(result)["stream_copy-n1000-fp32", "broken"]
    assert row["status"] == "crashed"
    assert "illegal address" in row["reason"]


def test_a_tuning_where_nothing_works_still_prints(kernel, tmp_path):
    kernel(Made("tall", error=Unsupported("never")))
    result = invoke(tmp_path / "run")
    assert result.exit_code == 0, result.output
    assert "the launcher's default could not be compared" in result.stdout


def test_a_run_that_was_stopped_goes_on_where_it_was(kernel, monkeypatch, tmp_path):
    kernel(WIDE, NARROW)

    class Stopping(InProcessBench):
        def run(self, job):
            if job == tune.tuning_jobs(tuning_workloads("stream_copy", None), "cpu")[2]:
                raise KeyboardInterrupt
            return super().run(job)

    monkeypatch.setattr("bench.worker.WorkerBench", lambda *_, **__: Stopping(made_bench()._lab))
    stopped = invoke(tmp_path / "run")
    assert stopped.exit_code == 130
    assert f"go on with --out {tmp_path / 'run'} --resume" in stopped.stderr
    kept = (tmp_path / "run" / "records.jsonl").read_text()
    assert [record.implementation for record in store.read(tmp_path / "run" / "records.jsonl").records[-2:]] == [
        "triton", "triton@wide",
    ]  # fmt: skip
    monkeypatch.setattr("bench.worker.WorkerBench", lambda *_, **__: made_bench())
    resumed = invoke(tmp_path / "run", "--resume", "--json")
    assert resumed.exit_code == 0, resumed.output
    text = (tmp_path / "run" / "records.jsonl").read_text()
    assert text.startswith(kept)
    assert text.count("\n") == kept.count("\n") + 4
    whole = invoke(tmp_path / "whole", "--json")
    assert json.loads(resumed.stdout)["tunings"] == json.loads(whole.stdout)["tunings"]


def test_a_folder_that_holds_records_needs_resume(kernel, tmp_path):
    kernel(WIDE)
    assert invoke(tmp_path / "run").exit_code == 0
    result = invoke(tmp_path / "run")
    assert isinstance(result.exception, BadRun)
    assert "--resume adds to them" in str(result.exception)


def test_reports_read_the_folder_of_a_tuning(monkeypatch, tmp_path):
    monkeypatch.setattr("bench.env.choose_device", lambda _: "cuda")
    monkeypatch.setattr("bench.worker.WorkerBench", lambda *_, **__: FakeBench(at_half_the_roof))
    out = tmp_path / "run"
    result = RUNNER.invoke(cli.app, ["tune", "--op", "attention_prefill", "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert "% of" in result.stdout
    assert "datasheet" in result.stdout
    name = store.read(out / "records.jsonl").records[-1].implementation
    assert name.startswith("triton@")
    for command in ("render", "show"):
        read = RUNNER.invoke(reports_app, [command, str(out)])
        assert read.exit_code == 0, read.output
    assert name in (out / "report.md").read_text()


def test_the_default_folder_names_the_op():
    folder = carrying_out.default_folder(make_environment(utc="2026-01-02T03:04:05+00:00"), "tune-matmul")
    assert str(folder) == "runs/20260102T030405Z-h200-sxm-tune-matmul"


MATMUL = make_record().workload  # m 16, n 8192, k 8192 in bf16


def rank(*records):
    return tune.rank(records).rows


def config(name, time_s, **changes):
    return make_record(implementation=f"triton@{name}", time_s=time_s, **changes)


def choice(time_s, **changes):
    return make_record(implementation="triton", time_s=time_s, **changes)


def test_equal_times_share_a_rank_and_both_are_best():
    rows = rank(choice(2e-3), config("b", 1e-3), config("a", 1e-3), config("c", 4e-3))
    assert [(row.configuration, row.rank, row.times_best) for row in rows] == [
        ("b", 1, 1.0), ("a", 1, 1.0), ("default", None, 2.0), ("c", 3, 4.0),
    ]  # fmt: skip
    (tuning,) = tune.read_tunings([config("b", 1e-3), config("a", 1e-3)], [MATMUL])
    assert [(score.configuration, score.best_at) for score in tuning.scores] == [("a", 1), ("b", 1)]


def test_a_row_is_a_share_of_the_datasheet_roof_with_the_doubt_of_its_median():
    (row,) = rank(config("a", 1e-3))
    # (16*8192 + 8192*8192 + 16*8192) elements of 2 bytes over 1 TB/s are 134.7 us; six samples are 0.96 to 1.04 ms.
    assert row.of_roof == pytest.approx(0.1347, rel=1e-3)
    assert row.half_width == pytest.approx(0.04)
    assert (row.relative_error, row.relative_bound) == (1e-3, 2e-3)


def test_a_default_choice_that_no_configuration_reaches_is_below_one():
    rows = rank(choice(0.5e-3), config("a", 1e-3))
    assert [(row.configuration, row.times_best) for row in rows] == [("default", 0.5), ("a", 1.0)]
    (tuning,) = tune.read_tunings([choice(0.5e-3), config("a", 1e-3)], [MATMUL])
    assert tuning.default == tune.Score("default", 0.5, 1, 1)


@pytest.mark.parametrize("status", [Status.IMPOSSIBLE, Status.THROTTLED])
def test_a_time_that_is_in_doubt_ranks_nowhere(status):
    rows = rank(config("fast", 1e-9, status=status), config("a", 1e-3))
    assert [(row.configuration, row.rank, row.time_s) for row in rows] == [("a", 1, 1e-3), ("fast", None, None)]
    assert rows[1].reason == f"made up: {status}"


def test_a_mean_is_over_the_shapes_that_a_configuration_ran_on():
    other = {"m": 32, "n": 8192, "k": 8192}
    records = [
        choice(1e-3), config("a", 1e-3), config("b", 2e-3), config("never", 1.0, status=Status.SKIPPED),
        choice(4e-3, dims=other), config("a", 8e-3, dims=other), config("b", 1.0, dims=other, status=Status.CRASHED),
        config("c", 1e-3, dims=other),
    ]  # fmt: skip
    (tuning,) = tune.read_tunings(records, [MATMUL, make_workload("matmul", other, MATMUL.dtype)])
    # a: 1 and 8, b: 2, c: 1; the default: 1 and 4.
    assert tuning.scores == (
        tune.Score("c", 1.0, 1, 1),
        tune.Score("b", 2.0, 1, 0),
        tune.Score("a", pytest.approx(8**0.5), 2, 1),
        tune.Score("never", None, 0, 0),
    )
    assert tuning.default == tune.Score("default", pytest.approx(2.0), 2, 1)


def test_other_shapes_and_other_implementations_are_left_out_and_dtypes_kept_apart():
    half = make_workload("matmul", MATMUL.dims, find_dtype("fp16"))
    records = [
        make_record(implementation="torch"), make_record(implementation="triton_wide"), config("a", 1e-3),
        config("a", 1e-3, dims={"m": 1, "n": 1, "k": 1}), replace(config("a", 2e-3), workload=half),
    ]  # fmt: skip
    found = tune.read_tunings(records, [MATMUL, half])
    assert [(each.dtype, [row.time_s for row in each.rankings[0].rows]) for each in found] == [
        ("bf16", [1e-3]), ("fp16", [2e-3]),
    ]  # fmt: skip
    assert tune.read_tunings(records, [make_workload("matmul", {"m": 2, "n": 2, "k": 2}, MATMUL.dtype)]) == ()


def test_a_configuration_is_found_by_name_and_given_to_the_launcher(kernel):
    kernel(WIDE, Made("half", factor=0.5))
    row = find_implementation(copy_of(4), "triton@half", "cpu")
    assert row.name == "triton@half"
    assert row.run(torch.ones(4), torch.zeros(4)).tolist() == [0.5] * 4
    with pytest.raises(BadWorkload, match="unknown configuration of stream_copy by triton 'x'; known: wide, half"):
        find_implementation(copy_of(4), "triton@x", "cpu")
    with pytest.raises(BadWorkload, match="unknown configuration of stream_copy by torch 'wide'; known: none"):
        find_implementation(copy_of(4), "torch@wide", "cpu")
    with pytest.raises(Unsupported, match="does not take fp16"):
        find_implementation(make_workload("stream_copy", {"n": 4}, find_dtype("fp16")), "triton@wide", "cpu")


def test_every_configurable_op_has_shapes_to_be_tuned_on():
    tunable = {row.op for row in cases.IMPLEMENTATIONS if row.configs}
    assert {"attention_prefill", "attention_decode"} <= tunable
    assert tunable <= TUNING.keys()
    for op in tunable:
        assert tune.find_workloads(op, None) == tuning_workloads(op, None)


def test_different_configurations_of_a_module_have_different_names():
    modules = {importlib.import_module(row.run.__module__) for row in cases.IMPLEMENTATIONS if row.configs}
    for module in modules:
        assert len({each.name for each in module.CONFIGS}) == len(set(module.CONFIGS)), module.__name__


def test_shapes_to_be_tuned_on_are_those_of_their_op_each_once():
    for op, workloads in TUNING.items():
        assert {workload.op for workload in workloads} == {op}
        assert len({workload.id for workload in workloads}) == len(workloads)
    assert {workload.dtype.name for workload in tuning_workloads("matmul_scaled", None)} == {"fp8", "int8"}


def test_a_dtype_is_that_of_all_shapes():
    names = {workload.id for workload in tuning_workloads("matmul_scaled", find_dtype("int8"))}
    assert len(names) == len(TUNING["matmul_scaled"]) / 2
    assert all(name.endswith("-int8") for name in names)
    with pytest.raises(BadWorkload, match="takes dtype fp8 or int8, not bf16"):
        tuning_workloads("matmul_scaled", find_dtype("bf16"))


def test_a_real_launcher_runs_the_configuration_it_is_given(device):
    generator = torch.Generator(device).manual_seed(0)
    q, k, v = (torch.randn(1, heads, 70, 64, generator=generator, device=device) for heads in (2, 1, 1))
    dims = {"batch": 1, "seq": 70, "heads": 2, "kv_heads": 1, "head_dim": 64}
    workload = make_workload("attention_prefill", dims, find_dtype("fp32"))
    row = find_implementation(workload, "triton@64x16-w8-s2", "cuda")
    truth = reference.attention_prefill(q, k, v)
    assert (row.run(q, k, v).double() - truth).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--op", "matmull"], "unknown op 'matmull': did you mean matmul?"),
        (["--op", "launch"], "launch has no configurations to tune; ops that have some: "),
        (["--op", "attention_prefill", "--dtype", "fp64"], "attention_prefill by triton does not take fp64; it takes"),
        (["--op", "attention_prefill", "--dtype", "fp1"], "unknown dtype 'fp1'"),
        (["--op", "attention_prefill"], "tuning needs a CUDA device, and none was found"),
    ],
)
def test_what_cannot_be_tuned_is_refused_before_anything_is_made(monkeypatch, tmp_path, arguments, message):
    monkeypatch.setattr("bench.env.cuda_status", lambda: CudaStatus(False, "no NVIDIA driver is loaded", False))
    result = RUNNER.invoke(cli.app, ["tune", *arguments, "--out", str(tmp_path / "run")])
    assert isinstance(result.exception, (BadRun, BadWorkload))
    assert message in str(result.exception)
    assert not (tmp_path / "run").exists()


def test_a_kernel_without_configurations_in_a_dtype_says_so(monkeypatch, kernel):
    kernel(WIDE)
    row = cases.IMPLEMENTATIONS[-1]
    bare = Implementation(row.op, row.name, row.run, ("fp16",), EVERYWHERE)
    monkeypatch.setattr(cases, "IMPLEMENTATIONS", (*cases.IMPLEMENTATIONS, bare))
    with pytest.raises(BadRun, match="stream_copy has no configurations to tune in fp16"):
        tune.find_workloads("stream_copy", find_dtype("fp16"))


def test_without_a_gpu_the_command_is_one_line_and_exit_status_2(monkeypatch, refusal, tmp_path):
    monkeypatch.setattr("bench.env.choose_device", lambda _: "cpu")
    said = refusal(cli.app, "tune", "--op", "attention_prefill", "--out", tmp_path / "run")
    assert said.startswith("error: tuning needs a CUDA device")
    assert not (tmp_path / "run").exists()


def test_a_plan_of_a_tuning_says_what_it_is(kernel, tmp_path):
    kernel(WIDE)
    plan = tune.tuning_plan(tuning_workloads("stream_copy", None), tmp_path / "run")
    assert plan.name == "tuning stream_copy"
    assert Runner(plan, made_bench()).run()


@pytest.mark.gpu
def test_a_kernel_is_tuned_on_this_card(monkeypatch, tmp_path):
    dims = {"batch": 2, "context": 1024, "heads": 8, "kv_heads": 2, "head_dim": 128}
    shape = make_workload("attention_decode", dims, find_dtype("bf16"))
    monkeypatch.setattr("bench.suites.TUNING", {"attention_decode": (shape,)})
    options = ["--op", "attention_decode", "--out", str(tmp_path / "run"), "--budget-s", "0.05", "--json"]
    result = RUNNER.invoke(cli.app, ["tune", *options])
    assert result.exit_code == 0, result.output
    rows = rows_of(result)
    assert len(rows) == 1 + len(find_implementation(shape, "triton", "cuda").configs)
    assert {row["status"] for row in rows.values()} <= {"measured", "skipped"}
    assert rows[shape.id, "default"]["times_best"] > 0.1


def test_configurations_that_a_kernel_rules_out_for_a_shape_are_not_tried():
    """matmul's tiles: of 16 or 32 rows for few, of 64 and more for many."""
    few, many = (make_workload("matmul", {"m": m, "n": 512, "k": 512}, find_dtype("bf16")) for m in (1, 4096))
    heights = [
        {
            int(job.implementation.partition("@")[2].partition("x")[0])
            for job in tune.tuning_jobs([workload], "cuda")[1:]
        }
        for workload in (few, many)
    ]
    assert heights[0] == {16}
    assert min(heights[1]) == 64
