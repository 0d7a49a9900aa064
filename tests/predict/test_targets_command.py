"""Targets on the command line: page, forms, files, and bad input."""

import csv
import io
import json
import sys

import pytest
from typer.testing import CliRunner

from predict.__main__ import app
from predict.errors import BadQuantity, UnknownGpu

RUNNER = CliRunner()
ASKED = "model llama-3-8b --isl 1000 --osl 200 --ttft 0.5 --tpot 20ms --gpu h100,a100 --gpus 1,2".split()


def run(*more, asked=ASKED):
    return RUNNER.invoke(app, [*asked, *more])


def test_the_page_opens_with_the_best_and_fits_its_width():
    page = run("--price", "h100=2.5,a100=1.5").stdout
    head, best = page.splitlines()[:2]
    assert head == "llama-3-8b: 1,000 tokens in, 200 out; TTFT 500 ms and TPOT 20.0 ms at most"
    assert best.startswith("Best: 1 x h100-sxm, bf16, batch ")
    assert all(len(line) <= 100 for line in page.splitlines())
    for part in ("Best of each machine", "Pareto front of each GPU", "Notes", "expected"):
        assert part in page


def test_json_holds_the_best_flat_and_lists_machines_and_fronts():
    found = json.loads(run("--json").stdout)
    assert (found["isl"], found["osl"], found["ttft_target_s"], found["tpot_target_s"]) == (1000, 200, 0.5, 0.02)
    assert found["machines"][0].items() <= found.items()
    assert {(each["gpu"], each["gpus"]) for each in found["machines"]} == {
        ("h100-sxm", 1), ("h100-sxm", 2), ("a100-sxm-80gb", 1), ("a100-sxm-80gb", 2),
    }  # fmt: skip
    assert found["tpot_expected_s"] > found["tpot_s"]
    assert found["total_gpus"] == found["gpus"]
    assert all(each["tpot_s"] > 0 for each in found["front"])


def test_explain_puts_the_numbers_into_the_formulas():
    found = json.loads(run("--json").stdout)
    page = run("--explain").stdout
    (line,) = (line for line in page.splitlines() if line.startswith("tokens/s "))
    assert line.endswith(f"{found['requests_per_s']:.4g} x 200")
    steps = found["mixed_steps_per_request"] * found["mixed_step_s"]
    steps += found["decode_steps_per_request"] * found["decode_step_s"]
    assert found["requests_per_s"] == pytest.approx(1 / steps)
    latency = found["batch"] / found["requests_per_s"]
    assert found["tpot_s"] == pytest.approx((latency - found["ttft_s"]) / 199)


def test_expected_times_are_another_search():
    found = json.loads(run("--by", "expected", "--json").stdout)
    assert found["by"] == "expected"
    assert found["tpot_expected_s"] <= 0.02
    assert all(each["tpot_expected_s"] is not None for each in found["front"])
    page = run("--by", "expected").stdout
    assert "Best of each machine by expected times" in page
    assert all(len(line) <= 100 for line in page.splitlines())
    costs = [each["usd_per_1m_tokens_expected"] for each in found["machines"]]
    assert costs == sorted(costs)


def test_csv_and_markdown_are_the_table_of_machines():
    rows = list(csv.DictReader(io.StringIO(run("--csv").stdout)))
    found = json.loads(run("--json").stdout)["machines"]
    assert [float(row["tokens_per_s"]) for row in rows] == [each["tokens_per_s"] for each in found]
    assert run("--markdown").stdout.startswith("| GPU | n | batch | chunk | TTFT |")


def test_the_fronts_are_drawn_and_written(tmp_path):
    page = run("--out", str(tmp_path / "fronts")).stdout
    assert page.splitlines()[-2:] == [str(tmp_path / "fronts" / name) for name in ("front.csv", "front.png")]
    assert (tmp_path / "fronts" / "front.png").read_bytes().startswith(b"\x89PNG")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "fronts" / "front.csv").read_text())))
    assert len(rows) == len(json.loads(run("--json").stdout)["front"])


def test_a_figure_without_matplotlib_is_one_line_before_the_search(tmp_path, monkeypatch, refusal):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for name in [name for name in sys.modules if name.startswith("reports")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr("predict.commands.targets.search", lambda *_: pytest.fail("searched"))
    said = refusal(app, *ASKED, "--out", tmp_path)
    assert said == (
        "error: python -m program model needs matplotlib, which is not installed: pip install 'napkin-bench[reports]'\n"
    )


def test_without_a_gpu_the_usual_ones_are_searched():
    found = json.loads(run("--json", asked="model llama-3-8b --isl 1k --osl 200".split()).stdout)
    assert found["isl"] == 1024
    assert {each["gpu"] for each in found["machines"]} == {"a100-sxm-80gb", "l40s", "h100-sxm", "h200-sxm", "b200"}


def test_replicas_are_told():
    page = run("--requests-per-s", "500").stdout
    assert "500 requests/s" in page.splitlines()[0]
    assert " replicas (" in page.splitlines()[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--isl 1000", "give both --isl and --osl"),
        ("--ttft 1", "give both --isl and --osl"),
        ("--out x", "give both --isl and --osl"),
        ("--isl 1000 --osl 200 --tpot soon", "tpot must be a number such as 0.03, 30ms or 2s"),
        ("--isl 10.5 --osl 200", "isl must be a positive whole number"),
        ("--isl 1000 --osl 200 --by guess", "by must be one of bound, expected, not 'guess'"),
        ("--by expected", "give both --isl and --osl"),
        ("--isl 1000 --osl 200 --batch 4", "leave out --batch"),
        ("--isl 1000 --osl 200 --price 2 --token-price 4", "leave out --token-price"),
        ("--isl 1000 --osl 200 --draft qwen3-0.6b", "leave out --draft"),
        ("--isl 1000 --osl 200 --train", "leave out --train and --all"),
        ("--isl 1e12 --osl 200", "tokens are more than 16,777,216"),
        ("--isl 1000 --osl 200 --tpot 1us", "no configuration reaches TPOT 1.00 us; the nearest has TTFT"),
        ("--isl 1000 --osl 200 --price l4=1", "price names l4"),
        ("--isl 1000 --osl 200 --weights bf16,fp7", "unknown weight format 'fp7'"),
        ("--isl 1000 --osl 200 --json --csv", "give one of --json or --csv"),
    ],
)
def test_bad_targets_are_one_line(arguments, message):
    result = run(asked=["model", "llama-3-8b", "--gpu", "h100", *arguments.split()])
    assert isinstance(result.exception, BadQuantity)
    assert message in str(result.exception)


def test_a_model_without_a_gpu_and_without_targets_names_the_option():
    result = run(asked=["model", "llama-3-8b"])
    assert isinstance(result.exception, UnknownGpu)
    assert "Missing option '--gpu'" in str(result.exception)


def test_a_search_of_four_gpus_tries_four_counts_of_each():
    found = run("--json", asked="model llama-3-70b --isl 4000 --osl 500 --gpu a100,h100,h200,b200".split())
    assert len(json.loads(found.stdout)["machines"]) > 8
