"""Several machines in one view: order, prices, reasons, and the forms of the command."""

import csv
import io
import json

import pytest
from typer.testing import CliRunner

from predict import estimate
from predict.__main__ import app
from predict.answers.comparison import compare_machines, machine_table
from predict.answers.lines import Use
from predict.answers.machine import read_machines
from predict.errors import BadQuantity, MissingCeiling, UnknownGpu

RUNNER = CliRunner()
ASKED = ["model", "llama-3-70b", "--batch", "32"]


def run(*arguments):
    return RUNNER.invoke(app, [*ASKED, *arguments])


def names(machines):
    return [(machine.gpu.name, machine.gpus, machine.usd_per_gpu_hour) for machine in machines]


def test_every_count_of_every_gpu_is_asked_and_a_repeated_option_adds_to_the_list():
    listed = names(read_machines(["h100,h200"], ["2, 4"], "h100=2.5,h200-sxm=3.5"))
    assert listed == [("h100-sxm", 2, 2.5), ("h100-sxm", 4, 2.5), ("h200-sxm", 2, 3.5), ("h200-sxm", 4, 3.5)]
    assert names(read_machines(["h100", "h200"], ["2", "4"], "h200=3.5,h100=2.5")) == listed
    assert names(read_machines(["h100,h100-sxm"], [], None)) == [("h100-sxm", 1, None)]
    assert names(read_machines(["h100,l4"], [], "2")) == [("h100-sxm", 1, 2.0), ("l4", 1, 2.0)]


@pytest.mark.parametrize(
    ("gpu", "gpus", "price", "message"),
    [
        ("h100", "1", "h100=2,l4=1", "price names l4, which --gpu does not ask for; it asks for h100-sxm"),
        ("h100,l4,b200", "1", "h100=2", "price names no l4 and no b200: give a price for each GPU"),
        ("h100,l4", "1", "h100=2,1", "price must be one number, or a price for each GPU"),
        ("h100", "1", "h100=2,h100-sxm=3", "price names h100-sxm twice"),
        ("h100", "1", "h100=much", "price must be a number"),
        ("h100", "1.5", None, "gpus must be a positive whole number, not 1.5"),
        ("h100", "2,,4", None, "gpus must be a number"),
    ],
)
def test_prices_and_counts_that_do_not_fit_the_machines_are_refused(gpu, gpus, price, message):
    with pytest.raises(BadQuantity, match=message):
        read_machines([gpu], [gpus], price)


def test_a_gpu_that_is_not_known_is_named():
    with pytest.raises(UnknownGpu, match="h1000"):
        read_machines(["h100,h1000"], [], None)
    with pytest.raises(UnknownGpu, match="h1000"):
        read_machines(["h100"], [], "h1000=2")


def test_what_fits_comes_first_and_the_cheapest_token_before():
    rows = compare_machines("llama-3-70b", read_machines(["l4,h100,h200"], ["2,1024"], "l4=.1,h100=3,h200=3"), {})
    table = machine_table(rows, Use.SERVE).rows
    # Two L4 hold no 141 GB, however cheap; 64 heads cannot be split over 1024; the H200 reads faster than the H100.
    order = [(row["gpu"], row["gpus"], row["fits"]) for row in table]
    assert order[:3] == [("h200-sxm", 2, True), ("h100-sxm", 2, True), ("l4", 2, False)]
    assert [fits for *_, fits in order[3:]] == [None] * 3
    assert table[-1]["reason"] == (
        "no times: 1,024 GPUs cannot share the 64 heads of one replica; serve with fewer, or with copies (--dp)"
    )


def test_a_machine_without_a_peak_is_a_row_and_what_is_wrong_everywhere_an_error():
    rows = compare_machines("llama-3-8b", read_machines(["h100,a100"], [], None), {"compute": "fp8"})
    assert [row.estimate is None for row in rows] == [False, True]
    assert rows[1].reason(Use.SERVE).startswith("compute=fp8: a100-sxm-80gb has no peak for it")
    with pytest.raises(MissingCeiling, match="compute=fp8: v100"):
        compare_machines("llama-3-8b", read_machines(["v100,a100"], [], None), {"compute": "fp8"})
    with pytest.raises(BadQuantity, match="batch must be a positive whole number, not 0"):
        compare_machines("llama-3-8b", read_machines(["h100,a100"], [], None), {"batch": "0"})


def test_json_is_a_list_of_the_answers_of_each_machine():
    found = json.loads(run("--gpu", "h100,h200", "--gpus", "2,1024", "--price", "h100=2.5,h200=3.5", "--json").stdout)
    alone = json.loads(estimate("llama-3-70b", gpu="h100", gpus=2, batch=32, price=2.5).to_json())
    assert [(each["gpu"], each["gpus"]) for each in found[::2]] == [("h100-sxm", 2), ("h200-sxm", 2)]
    assert found[0] == alone


def test_csv_has_the_numbers_of_the_json_and_the_reasons():
    asked = ("--gpu", "h100", "--gpu", "h200", "--gpus", "2", "--gpus", "1024")
    rows = list(csv.DictReader(io.StringIO(run(*asked, "--csv").stdout)))
    alone = estimate("llama-3-70b", gpu="h200", gpus=2, batch=32)
    assert float(rows[0]["tpot_s"]) == alone["tpot_s"]
    assert float(rows[0]["decode_tokens_per_s_per_gpu"]) == alone["decode_tokens_per_s"] / 2
    assert rows[0]["fits"] == "true"
    assert "1,024 GPUs cannot share" in rows[-1]["reason"]
    assert run(*asked, "--markdown").stdout.startswith("| GPU | n | fits |")


def test_the_page_fits_its_width_and_tells_what_is_missing():
    page = run("--gpu", "h100,mi300x,mi325x", "--gpus", "2,1024").stdout
    assert all(len(line) <= 100 for line in page.splitlines())
    assert "- 1024 x h100-sxm: no times: 1,024 GPUs cannot share the 64 heads" in page
    assert "mi300x, mi325x: bounds only" in page.replace("\n    ", " ")


def test_training_is_another_table():
    page = run("--gpu", "h100,h200", "--gpus", "8,16", "--train").stdout
    assert page.startswith("llama-3-70b: training steps of 32 x 2,048 tokens")
    assert "tokens/s/GPU" in page
    assert "TPOT" not in page
    assert "TPOT" in run("--gpu", "h100,h200", "--gpus", "8,16", "--all").stdout
    rows = list(csv.DictReader(io.StringIO(run("--gpu", "h100", "--gpus", "8,16", "--train", "--csv").stdout)))
    found = estimate("llama-3-70b", gpu="h100", gpus=8, batch=32)
    (eight,) = (row for row in rows if row["gpus"] == "8")
    assert float(eight["train_tokens_per_s_per_gpu"]) == pytest.approx(32 * 2048 / found["train_step_s"] / 8)
    assert float(eight["train_step_expected_s"]) == pytest.approx(found["train_step_expected_s"])
    assert float(eight["train_usd_expected"]) == pytest.approx(found["train_usd_expected"])


def test_one_machine_has_its_lines_as_csv_and_markdown():
    rows = list(csv.DictReader(io.StringIO(run("--gpu", "h100", "--gpus", "2", "--csv").stdout)))
    found = estimate("llama-3-70b", gpu="h100", gpus=2, batch=32)
    assert [row["key"] for row in rows] == list(found.lines)
    (tpot,) = (row for row in rows if row["key"] == "tpot_s")
    assert (float(tpot["value"]), tpot["unit"]) == (found["tpot_s"], "s")
    markdown = run("--gpu", "h100", "--gpus", "2", "--markdown").stdout
    assert "| TPOT | 23.95 ms | a step makes one token per request |" in markdown
    title, verdict, *_ = markdown.split("\n\n")
    assert title.startswith("# ")
    assert [line[:2] for line in verdict.splitlines()] == ["- "] * 3
    assert "## Where the time goes: decode step, at least " in markdown
    assert "## Decode over the batch" in markdown


def test_the_arithmetic_is_of_one_machine():
    result = RUNNER.invoke(app, [*ASKED, "--gpu", "h100,h200", "--explain"])
    assert isinstance(result.exception, BadQuantity)
    assert "--explain shows the arithmetic of one machine" in str(result.exception)


def test_one_form_at_a_time():
    result = RUNNER.invoke(app, [*ASKED, "--gpu", "h100", "--json", "--csv"])
    assert isinstance(result.exception, BadQuantity)
    assert str(result.exception) == "give one of --json or --csv"
