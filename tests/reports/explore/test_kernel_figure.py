"""The figure of one kernel: which kernel, whose points, whose curves."""

import pytest

from reports.explore.contents import SECTIONS
from reports.explore.kernel import with_kernel
from reports.explore.points import read_sources
from reports.explore.state import State
from tests.reports.explore.test_points import CPU_RUN, table

QKV = (6144, 4096)  # of llama-3-8b: (32 + 2 x 8) heads of 128, 4096 wide


def figure(sources, section="time", **texts):
    state = State.of(texts.items())
    return with_kernel(SECTIONS[section].answer(state), SECTIONS[section].kernel, state, sources)


@pytest.fixture
def h100(tmp_path):
    rows = [(m, *QKV, m * 1e-3) for m in (1, 16, 256, 4096)] + [(m, 8192, 8192, 1.0) for m in (1, 2, 4)]
    return read_sources([], [table(tmp_path / "h100.parquet", rows)])


@pytest.fixture(scope="module")
def cpu():
    return read_sources([CPU_RUN], [])


def test_without_sources_the_models_first_kernel_is_drawn_on_the_pages_gpu():
    found = figure(())
    assert found.controls["kernel_time"].shown == "matmul bf16 n=6144 k=4096"
    assert found.controls["points"].shown == "none"
    assert found.commands[-1] == "napkin-bench predict kernel matmul n=6144 k=4096 m=1 --gpu h100-sxm --dtype bf16"
    assert found.data["kernel_time_points"] == []
    assert found.says[-1] == "The kernel is drawn without measured points."


def test_points_of_the_pages_gpu_are_drawn_and_named(h100):
    found = figure(h100, batch="16")
    assert [(row["x"], row["y"]) for row in found.data["kernel_time_points"]] == [
        (m, pytest.approx(m * 1e-6)) for m in (1, 16, 256, 4096)
    ]
    says = found.data["kernel_time_points"][0]["says"]
    assert says == "1.000 us by cublas, tables of h100-sxm: matmul n 6,144, k 4,096, m 1 in bf16"
    assert found.data["kernel_time_marks"] == [{"x": 16, "label": "this size", "says": "m 16"}]


def test_bound_expected_and_refined_are_lines_of_their_own(h100):
    series = {row["series"] for row in figure(h100).data["kernel_time"]}
    assert series == {"bound", "memory", "FLOP", "expected", "refined"}


def test_other_measured_kernels_are_offered_too(h100):
    choices = [value for value, _ in figure(h100).controls["kernel_time"].choices]
    assert "matmul bf16 n=8192 k=8192" in choices
    found = figure(h100, kernel_time="matmul bf16 n=8192 k=8192")
    assert [row["x"] for row in found.data["kernel_time_points"]] == [1, 2, 4]


def test_a_kernel_that_is_not_offered_is_not_drawn(h100):
    assert figure(h100, kernel_time="matmul bf16 n=7 k=7").controls["kernel_time"].shown == "matmul bf16 n=6144 k=4096"


def test_points_may_be_left_out_or_chosen_by_name(h100):
    assert figure(h100, points="none").data["kernel_time_points"] == []


def test_an_address_of_somebody_with_other_points_draws_none_and_says_so(h100):
    found = figure(h100, points="run elsewhere")
    assert found.data["kernel_time_points"] == []
    assert "No measured points are called 'run elsewhere' here" in found.says[-1]


def test_points_of_the_pages_gpu_are_drawn_and_those_of_others_when_they_are_chosen(h100, cpu):
    assert figure((*cpu, *h100)).controls["points"].shown == "tables of h100-sxm"
    assert figure((*cpu, *h100), gpu="b200").controls["points"].shown == "none"  # not another machine's unasked


@pytest.mark.parametrize("section", ["time", "phases", "cache"])
def test_a_cpus_points_stand_over_its_own_roofs(cpu, section):
    control, cpus = f"kernel_{section}", "run AMD EPYC"
    choices = figure(cpu, section, points=cpus).controls[control].choices
    measured = next(value for value, label in choices if label.startswith("measured at"))
    found = figure(cpu, section, points=cpus, **{control: measured})
    assert found.says[-1].startswith("The kernel is drawn for AMD EPYC, with ")
    points = found.data[f"kernel_{section}_points"]
    bound = {row["x"]: row["y"] for row in found.data[f"kernel_{section}"] if row["series"] == "bound"}
    assert len(points) >= 3
    assert not any("predict kernel" in command for command in found.commands)  # no command knows this machine
    assert {row["series"] for row in found.data[f"kernel_{section}"]} <= {"bound", "memory", "FLOP"}
    assert max(bound) == max(row["x"] for row in [*points, *found.data[f"kernel_{section}_marks"]])


def test_a_kernel_whose_roof_a_machine_lacks_is_not_drawn_and_the_section_goes_on(cpu):
    found = figure(cpu, points="run AMD EPYC", compute="fp8", weights="fp8")
    assert found.says[-1].startswith("The kernel is not drawn: no tensor.fp8 roof is known for this machine")
    assert found.numbers
    assert "kernel_time" not in found.data
