"""`python -m bench` as a user meets it on a machine without a GPU, and the GPU path with a bench that is made up."""

import json
import subprocess
import sys

import pytest
import torch
from typer.testing import CliRunner

from bench import __main__ as cli
from bench import evidence, store
from bench.commands import carrying_out
from bench.lab import Outcome
from bench.record import Status
from bench.runner import Runner, plan_of
from bench.selection import of_suite
from bench.worker import WorkerLost
from predict.expected.probes import PROBES
from predict.gpus import GPUS
from predict.roofline import predict
from reports.__main__ import app as reports_app
from reports.run.load import load_records
from tests.bench.test_runner import at_half_the_roof, took
from tests.factories import make_environment
from tests.fakes import FakeBench, cpu_environment, make_lab_of_a_small_cache

RUNNER = CliRunner()
NO_CUDA = pytest.mark.skipif(torch.cuda.is_available(), reason="about machines without a GPU")


def run(*arguments, cwd=None):
    return subprocess.run(
        [sys.executable, "-m", "bench", *arguments], capture_output=True, text=True, check=False, cwd=cwd
    )


@pytest.fixture
def gpu_box(monkeypatch):
    """A machine whose GPU answers with what it is told to."""

    def make(answer=at_half_the_roof, **environment):
        bench = FakeBench(answer, make_environment(**environment))
        monkeypatch.setattr("bench.env.choose_device", lambda _: "cuda")
        monkeypatch.setattr("bench.worker.WorkerBench", lambda *_, **__: bench)
        return bench

    return make


def test_a_run_prints_the_table_and_writes_records_report_and_figures(gpu_box, tmp_path):
    gpu_box()
    out = tmp_path / "run"
    result = RUNNER.invoke(cli.app, ["run", "--suite", "smoke", "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert "h200-sxm" in result.stdout
    assert "50.0 %" in result.stdout  # at half of every roof
    assert f"report   {out / 'report.md'}" in result.stdout
    # No suite but those with all probes calibrates; until then the constants that ship stand.
    assert {path.name for path in out.iterdir()} == {"records.jsonl", "report.md", "report.html", "figures"}
    assert "expected matmul in bf16: measured on h200-sxm; expected is off by " in " ".join(result.stdout.split())
    assert "measuring NVIDIA H200 (h200-sxm)" in result.stderr


def test_a_run_of_the_standard_suite_leaves_at_most_eight_files(gpu_box, tmp_path):
    """With evidence.txt, which is written beside them, and without report.html, which evidence takes away."""
    gpu_box()
    out = tmp_path / "run"
    result = RUNNER.invoke(cli.app, ["run", "--suite", "standard", "--no-calibrate", "--out", str(out)])
    assert result.exit_code == 0, result.output
    (out / "report.html").unlink()
    assert len([path for path in out.rglob("*") if path.is_file()]) + 1 <= evidence.MOST_FILES


def test_an_op_on_a_grid_is_measured_and_only_it_is_printed(gpu_box, tmp_path):
    gpu_box()
    out = tmp_path / "run"
    result = RUNNER.invoke(cli.app, ["run", "--op", "softmax", "rows=1,64", "cols=4k", "--out", str(out)])
    assert result.exit_code == 0, result.output
    records = store.read(out / "records.jsonl").records
    asked = {record.workload.id for record in records if record.workload.op == "softmax"}
    assert asked == {"softmax-rows1-cols4096-bf16", "softmax-rows64-cols4096-bf16"}
    assert "softmax" in result.stdout
    assert "stream_read" not in result.stdout  # roof probes are records, and in the report
    assert "stream_read" in (out / "report.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("form", ["--csv", "--markdown"])
def test_a_run_prints_what_show_prints_of_it(gpu_box, tmp_path, form):
    gpu_box()
    out = tmp_path / "run"
    result = RUNNER.invoke(cli.app, ["run", "--op", "softmax", "rows=1,64", "cols=4k", "--out", str(out), form])
    assert result.exit_code == 0, result.output
    shown = RUNNER.invoke(reports_app, ["show", str(out), form]).stdout
    of_op = "## softmax" if form == "--markdown" else "softmax-rows1"
    table = of_op + result.stdout.partition(of_op)[2].partition("\n\n## ")[0]
    assert table.count("\n") > 3
    assert table.strip() in shown


def test_a_file_of_shapes_and_an_implementation_are_measured(gpu_box, tmp_path):
    gpu_box()
    shapes, out = tmp_path / "shapes.csv", tmp_path / "run"
    shapes.write_text("op,m,n,k,rows,cols\nmatmul,1,8,8,,\nrmsnorm,,,,2,8\n")
    arguments = ["run", "--ops-from", str(shapes), "--implementation", "torch", "--out", str(out)]
    assert RUNNER.invoke(cli.app, arguments).exit_code == 0
    keys = {record.key for record in store.read(out / "records.jsonl").records}
    assert {("matmul-m1-n8-k8-bf16", "torch"), ("rmsnorm-rows2-cols8-bf16", "torch")} <= keys
    assert ("rmsnorm-rows2-cols8-bf16", "triton") not in keys


def test_a_model_s_passes_are_measured_kernel_by_kernel(gpu_box, tmp_path):
    gpu_box()
    out = tmp_path / "run"
    arguments = ["run", "--model", "llama-3-8b", "--phase", "decode", "--batch", "1,8", "--context", "8k"]
    result = RUNNER.invoke(cli.app, [*arguments, "--implementation", "torch,sdpa_flash", "--out", str(out)])
    assert result.exit_code == 0, result.output
    for batch in (1, 8):
        assert f"llama-3-8b, decode, batch {batch}, 8,192 cached tokens, bf16: where the time goes" in result.stdout
    passes = json.loads(RUNNER.invoke(reports_app, ["passes", str(out), "--json"]).stdout)
    assert [each["kernels"][0]["batch"] for each in passes] == [1, 8]
    for each in passes:
        # Every kernel took twice its bound, and so did their sum.
        assert each["measured_s"] == pytest.approx(2 * sum(row["bound_s"] for row in each["kernels"]))
        assert {row["kernel"]: row["count"] for row in each["kernels"]}["gate_up"] == 32
    assert "## llama-3-8b, decode, batch 8" in (out / "report.md").read_text(encoding="utf-8")
    lines = RUNNER.invoke(reports_app, ["passes", str(out), "--csv"]).stdout.splitlines()
    assert len(lines) == 1 + sum(len(each["kernels"]) for each in passes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--op", "matmul", "m=1", "n=1"], "matmul needs k="),
        (["m=1"], "m=1 is a dimension of which op? Give --op"),
        (["--suite", "quick", "--model", "llama-3-8b"], "--suite and --model: give one of them"),
        (["--dtype", "bf16"], "--dtype belongs to --op"),
        (["--op", ""], "unknown op ''"),
        (["--model", ""], "--model names no model"),
        (["--op", "matmul", "m=1", "n=8", "k=8", "--dtype", ""], "unknown dtype ''"),
        (["--op", "attention_decode", "context=8", "--batch", "4"], "--batch belongs to --model; the sizes of an op"),
        (["--suite", "smoke", "--tp", "2"], "--tp belongs to --model"),
        (["--phase", "decode"], "--phase belongs to --model"),
        (
            ["--model", "gpt2", "--batch", "1:501:1"],
            "these are 1,002 passes, more than 1,000; narrow the sizes, or say --yes",
        ),
        (["--model", "llama-3-8b", "--phase", "training"], "--phase must be one of decode, prefill"),
        (["--model", "llama-3-8b", "--batch", "none"], "--batch must be a number"),
        (["--model", "llama-3-8b", "--tp", "3"], "tp=3 does not divide"),
        (["--model", "llama-3-8b", "--dtype", "bf16,fp16"], "--model takes one --dtype"),
        (["--op", "matmul", "m=1:200:1", "n=1:200:1", "k=8"], "more than 10,000; narrow the grid, or say --yes"),
    ],
)
def test_what_cannot_be_measured_is_one_line_and_leaves_no_folder(gpu_box, refusal, tmp_path, arguments, message):
    gpu_box()
    assert message in refusal(cli.app, "run", *arguments, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_model_that_does_not_fit_is_refused_with_what_would(gpu_box, refusal, tmp_path):
    """141 GB of weights, and a card of 80 GiB."""
    gpu_box(memory_bytes=80 * 2**30)
    said = refusal(cli.app, "run", "--model", "llama-3-70b", "--out", tmp_path / "run")
    assert "--tp 2 measures one of 2 GPUs" in said


def test_reports_of_a_run_without_a_model_say_so(gpu_box, refusal, tmp_path):
    gpu_box()
    RUNNER.invoke(cli.app, ["run", "--op", "softmax", "rows=1", "cols=8", "--out", str(tmp_path / "run")])
    assert "holds no pass of a model" in refusal(reports_app, "passes", tmp_path / "run")


def test_json_is_all_that_a_script_finds_on_stdout(gpu_box, tmp_path):
    gpu_box()
    result = RUNNER.invoke(cli.app, ["run", "--suite", "smoke", "--out", str(tmp_path / "run"), "--json"])
    data = json.loads(result.stdout)
    assert data["count_by_status"] == {"measured": len(store.read(tmp_path / "run" / "records.jsonl").records)}
    assert data["environment"]["gpu"] == "h200-sxm"


def test_a_gpu_run_that_measured_all_probes_calibrates_itself(gpu_box, tmp_path):
    gpu_box()
    out = tmp_path / "run"
    arguments = ["run", "--suite", "calibration", "--out", str(out)]
    result = RUNNER.invoke(cli.app, arguments)
    assert result.exit_code == 0, result.output
    for op in ("matmul", "attention_prefill", "attention_decode"):
        assert f"{op} in bf16: calibrated from 16 probes" in result.stdout
        rests_on = next(line for line in (out / "report.md").read_text().splitlines() if line.startswith(f"- {op} in"))
        assert rests_on.startswith(f"- {op} in bf16: measured by this run")
        assert "; calibrated from 16 measured rows, h200-sxm on 2026-01-01" in rests_on
    own = load_records(out).calibrations
    assert own.keys() == {*((op, "bf16") for op in PROBES), ("matmul", "fp16")}  # a roof's probe is fp16
    assert own["matmul", "fp16"] == own["matmul", "bf16"]
    (out / "calibration.json").unlink()
    result = RUNNER.invoke(cli.app, [*arguments, "--resume", "--no-calibrate", "--json"])
    assert json.loads(result.stdout)["calibration"] is None
    assert not (out / "calibration.json").exists()


@pytest.mark.parametrize(("status", "code"), [("incorrect", 1), ("crashed", 1), ("timeout", 1), ("out_of_memory", 0)])
def test_a_failed_case_fails_the_run_and_is_kept(gpu_box, tmp_path, status, code):
    def answer(job):
        return Outcome(Status(status), "made up") if job.implementation == "naive" else at_half_the_roof(job)

    gpu_box(answer)
    result = RUNNER.invoke(cli.app, ["run", "--suite", "smoke", "--out", str(tmp_path / "run")])
    assert result.exit_code == code
    assert "made up" in result.stdout


def test_an_impossible_time_fails_the_run(gpu_box, tmp_path):
    gpu_box(lambda _: took(1e-9))
    result = RUNNER.invoke(cli.app, ["run", "--suite", "smoke", "--out", str(tmp_path / "run")])
    assert result.exit_code == 1
    assert "the timing or the formula is wrong" in " ".join(result.stdout.split())


def test_ctrl_c_keeps_what_was_measured_and_says_how_to_go_on(gpu_box, tmp_path):
    bench = gpu_box()

    def answer(job):
        if len(bench.jobs) > 35:
            raise KeyboardInterrupt
        return at_half_the_roof(job)

    bench.answer = answer
    result = RUNNER.invoke(cli.app, ["run", "--suite", "smoke", "--out", str(tmp_path / "run")])
    assert result.exit_code == 130
    assert f"go on with --out {tmp_path / 'run'} --resume" in result.stderr
    assert store.read(tmp_path / "run" / "records.jsonl").records


def test_a_mismatch_a_forced_card_and_an_unknown_card_are_warnings(gpu_box, tmp_path):
    gpu_box(forced=True, mismatches=("16 SMs, the table has 132",))
    result = RUNNER.invoke(cli.app, ["run", "--suite", "smoke", "--out", str(tmp_path / "a")])
    assert "MISMATCH: the driver says 16 SMs" in result.stderr
    assert "FORCED" in result.stderr
    gpu_box(gpu=None, name="NVIDIA X1")
    result = RUNNER.invoke(cli.app, ["run", "--suite", "smoke", "--out", str(tmp_path / "b")])
    assert "this card is not in the table" in result.stderr


def test_the_default_folder_names_time_and_device():
    folder = carrying_out.default_folder(make_environment(utc="2026-01-02T03:04:05+00:00"))
    assert str(folder) == "runs/20260102T030405Z-h200-sxm"


@NO_CUDA
def test_a_gpu_that_is_not_there_ends_with_status_2_and_the_way_to_predict(tmp_path):
    result = run("run", "--gpu", "h100", "--out", str(tmp_path / "run"))
    assert (result.returncode, result.stdout) == (2, "")
    assert "no CUDA device was found" in result.stderr
    assert "python -m predict kernel" in result.stderr
    assert "--gpu h100" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--gpu", "h1000"], "h1000"),
        (["doctor", "--gpu", "h1000"], "unknown GPU 'h1000'"),
        (
            ["run", "--gpu", "cpu", "--suite", "huge"],
            "no suite 'huge'; known: smoke, quick, standard, full, kernels, cal",
        ),
        (["list", "--gpu", "cpu", "--suite", "huge"], "no suite 'huge'"),
    ],
)
def test_bad_input_is_one_line_and_exit_status_2(refusal, arguments, message):
    assert message in refusal(cli.app, *arguments)


CPU_SMOKE = ("run", "--gpu", "cpu", "--suite", "smoke", "--out")


def test_a_folder_that_cannot_be_written_is_refused(monkeypatch, refusal):
    monkeypatch.setattr("bench.worker.WorkerBench", lambda *_, **__: FakeBench(at_half_the_roof, cpu_environment()))
    monkeypatch.setattr("bench.commands.carrying_out.announce", lambda *_: pytest.fail("began"))
    assert "cannot write /dev/null/run" in refusal(cli.app, *CPU_SMOKE, "/dev/null/run")


@pytest.mark.parametrize("option", [[], ["--resume"]])
def test_a_run_into_a_folder_that_holds_records_is_refused(monkeypatch, refusal, tmp_path, option):
    """Those of another machine, even with --resume."""
    Runner(plan_of(of_suite("smoke"), tmp_path), FakeBench(at_half_the_roof)).run()
    before = (tmp_path / "records.jsonl").read_bytes()
    monkeypatch.setattr("bench.worker.WorkerBench", lambda *_, **__: FakeBench(at_half_the_roof, cpu_environment()))
    assert "choose another --out" in refusal(cli.app, *CPU_SMOKE, tmp_path, *option)
    assert (tmp_path / "records.jsonl").read_bytes() == before


def test_list_says_what_would_run():
    result = RUNNER.invoke(cli.app, ["list", "--gpu", "cpu", "--suite", "smoke", "--json"])
    rows = json.loads(result.stdout)
    assert rows[0].keys() == {"workload", "implementation", "estimate_s"}
    assert (rows[0]["workload"], rows[0]["implementation"]) == ("launch-fp32", "torch")
    assert all(0.1 < row["estimate_s"] < 60 for row in rows)
    result = RUNNER.invoke(cli.app, ["list", "--gpu", "cpu", "--suite", "smoke"])
    heading, *lines = result.stdout.splitlines()
    assert heading.split() == ["workload", "implementation", "about"]
    assert [line.split()[:2] for line in lines] == [[row["workload"], row["implementation"]] for row in rows]
    assert all(line.split()[3] in ("s", "ms") for line in lines)
    total_s = sum(row["estimate_s"] for row in rows)
    assert f"{len(rows)} cases on " in result.stderr
    assert f"; about {total_s / 60:.1f} minutes by estimate" in result.stderr
    assert {row["workload"].partition("-")[0] for row in rows} >= {"matmul", "attention_prefill", "generate_cached"}


def test_a_card_without_a_datasheet_is_listed_without_estimates(monkeypatch):
    unknown = make_environment(gpu=None, name="NVIDIA X1")
    monkeypatch.setattr("bench.env.choose_device", lambda _: "cuda")
    monkeypatch.setattr("bench.env.environment", lambda *_, **__: unknown)
    result = RUNNER.invoke(cli.app, ["list", "--suite", "smoke"])
    heading, *lines = result.stdout.splitlines()
    assert {len(line.split()) for line in (heading, *lines)} == {2}  # a column without a number is left out
    count = len(lines)
    assert result.stderr == (
        f"{count} cases on NVIDIA X1; {count} have no estimate: no datasheet roof is known for them\n"
    )


def test_a_run_that_lost_its_worker_fails_says_so_in_a_line_and_still_reports(gpu_box, tmp_path):
    bench = gpu_box()

    def answer(job):
        if len(bench.jobs) > 35:
            raise WorkerLost("no new worker starts, 2 were tried: the worker ended while starting (exit status 1)")
        return at_half_the_roof(job)

    bench.answer = answer
    out = tmp_path / "run"
    result = RUNNER.invoke(cli.app, ["run", "--suite", "smoke", "--out", str(out)])
    assert result.exit_code == 1
    said = [line for line in result.stderr.splitlines() if line.startswith("ended early: no new worker starts")]
    assert len(said) == 1
    assert said[0].endswith(f"; go on with --out {out} --resume")
    assert (out / "report.md").exists()


def test_doctor_speaks_to_people_and_scripts():
    text = RUNNER.invoke(cli.app, ["doctor", "--gpu", "cpu"]).stdout
    findings = json.loads(RUNNER.invoke(cli.app, ["doctor", "--gpu", "cpu", "--json"]).stdout)
    assert {"level", "subject", "text", "remedy"} == findings[0].keys()
    assert all(finding["subject"] in text for finding in findings)


def test_the_smoke_suite_runs_for_real_on_this_cpu(monkeypatch, tmp_path):
    """In a worker process."""
    monkeypatch.setattr("bench.lab.make_lab", make_lab_of_a_small_cache)
    out = tmp_path / "run"
    result = RUNNER.invoke(
        cli.app, ["run", "--gpu", "cpu", "--suite", "smoke", "--budget-s", "0.02", "--out", str(out)]
    )
    assert result.exit_code == 0, result.output
    records = store.read(out / "records.jsonl").records
    assert {record.status for record in records} == {Status.MEASURED}
    assert all(record.check.passed for record in records)
    for record in records:
        assert record.prediction == predict(record.workload.amounts, record.roofs.measured)
    assert (out / "figures" / "roofline.png").exists()
    assert GPUS.keys().isdisjoint({record.environment.gpu for record in records})
