"""`python -m reports import`: what it prints, at any width, and what it refuses."""

import csv
import io
import json
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from reports.__main__ import app
from reports.served.asked import ask_about
from reports.served.comparison import compare_log
from reports.served.forms import read_logs
from reports.served.load import Given
from reports.served.page import comparison_page, predict_command, runs_page

ROOT = Path(__file__).resolve().parents[3]
DATA = ROOT / "tests" / "data" / "served"
RUNNER = CliRunner()


def printed(*arguments):
    result = RUNNER.invoke(app, ["import", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def comparisons(name="vllm_serve.json", model="llama-3-8b"):
    asked = [ask_about(log, Given(), model, {"gpu": "h100"}) for log in read_logs(DATA / name).logs]
    return [compare_log(each.log, each.load, each.question, each.notes) for each in asked]


def test_the_page_in_the_documents_is_what_the_command_prints():
    text = (ROOT / "docs" / "served.md").read_text(encoding="utf-8")
    (command,) = [line for line in text.splitlines() if "reports import tests/data" in line]
    block = text.partition(command)[2].split("```")[2].strip("\n")
    _, _, _, name, path, *options = shlex.split(command)
    assert name == "import"
    assert printed(ROOT / path, *options).startswith(block)


def test_the_page_says_what_ran_its_share_and_where_a_token_goes():
    page = printed(DATA / "vllm_serve.json", "--model", "llama-3-8b", "--gpu", "h100", "--gpus", 1)
    assert "Ran: 640 requests of 1,024 tokens in and 128 out in 32.0 s; at most 64 at once, 59.9 in flight" in page
    assert "% of its roof: 2,560 tokens/s out" in page
    assert "Of a token's 22.0 ms: weights read 20 %" in page
    assert "not explained" in page


@pytest.mark.parametrize("width", [80, 100, 120])
def test_no_line_of_a_page_is_wider_than_asked(width):
    (found,) = comparisons()
    pages = comparison_page(found, width), runs_page(comparisons("sglang_serving.jsonl"), width)
    assert [line for page in pages for line in page.splitlines() if len(line) > width] == []


def test_json_has_every_number_under_its_unit():
    found = json.loads(printed(DATA / "vllm_serve.json", "--gpu", "h100", "--json"))
    assert (found["model"], found["gpu"], found["isl"], found["osl"]) == ("llama-3-8b", "h100-sxm", 1024, 128)
    assert (found["ttft_s"], found["ttft_p99_s"], found["tpot_s"]) == (0.2, 0.45, 0.022)
    assert found["tpot_of_bound"] == pytest.approx(found["tpot_bound_s"] / 0.022)
    assert found["tokens_per_s_of_expected"] == pytest.approx(2560 / found["tokens_per_s_expected"])
    assert sum(part["time_s"] for part in found["parts"]) == pytest.approx(found["step_s"])
    assert found["beaten"] == []


def test_csv_has_both_tables_in_si_units():
    first, second = printed(DATA / "vllm_serve.json", "--gpu", "h100", "--csv").strip().split("\n\n")
    rows = {row["key"]: row for row in csv.DictReader(io.StringIO(first))}
    assert (rows["tpot_s"]["measured"], rows["tokens_per_s"]["unit"]) == ("0.022", "tokens/s")
    parts = list(csv.DictReader(io.StringIO(second)))
    assert sum(float(part["share"]) for part in parts) == pytest.approx(1)


def test_markdown_has_what_the_page_has():
    text = printed(DATA / "vllm_serve.json", "--gpu", "h100", "--markdown")
    assert text.startswith("# llama-3-8b on 1 x h100-sxm: vllm_serve.json (vLLM bench serve)\n")
    assert "\n| TPOT | 22.0 ms |" in text
    assert "\n| weights read | 4.48 ms |" in text
    assert "\n## Notes\n" in text


def test_several_runs_are_a_row_each_and_one_of_them_a_page():
    arguments = (DATA / "sglang_serving.jsonl", "--model", "llama-3-8b", "--gpu", "h100")
    page = printed(*arguments)
    assert "sglang_serving.jsonl, 2 runs of SGLang bench_serving" in page
    assert "--run 1 shows where a token's time goes in that run" in page
    rows = list(csv.DictReader(io.StringIO(printed(*arguments, "--csv"))))
    assert [(row["run"], row["tokens_per_s"]) for row in rows] == [("1", "128.0"), ("2", "2560.0")]
    assert len(json.loads(printed(*arguments, "--json"))) == 2
    assert printed(*arguments, "--markdown").startswith("| run |")
    assert printed(*arguments, "--run", 2).startswith("llama-3-8b on 1 x h100-sxm: sglang_serving.jsonl, run 2 (")


def test_a_bound_that_is_beaten_stands_on_top_with_likely_causes(tmp_path):
    log = json.loads((DATA / "vllm_serve.json").read_text()) | {"mean_tpot_ms": 2.0}
    path = tmp_path / "fast.json"
    path.write_text(json.dumps(log))
    page = printed(path, "--gpu", "h100")
    assert page.splitlines()[1].startswith("Impossible: TPOT 2.00 ms beats its bound")
    assert "--tokens-per-step" in page
    assert "Where a token's time goes" not in page
    assert json.loads(printed(path, "--gpu", "h100", "--json"))["beaten"][0] == "tpot_s"


def test_a_model_that_does_not_fit_is_the_likely_cause_of_an_impossible_time(tmp_path):
    log = json.loads((DATA / "vllm_serve.json").read_text()) | {"model_id": "meta-llama/Meta-Llama-3-70B"}
    path = tmp_path / "large.json"
    path.write_text(json.dumps(log))
    page = " ".join(printed(path, "--gpu", "h100").split())
    assert "Likely causes: llama-3-70b does not fit on 1 x h100-sxm, so more GPUs or narrower formats ran." in page


def test_a_throughput_log_takes_its_lengths_and_model_from_options():
    options = ("--model", "llama-3-8b", "--gpu", "h100", "--osl", 128, "--concurrency", 256)
    found = json.loads(printed(DATA / "vllm_throughput.json", *options, "--json"))
    assert (found["isl"], found["osl"], found["in_flight"], found["tpot_s"]) == (1024, 128, 256, None)
    assert found["tokens_per_s"] == pytest.approx(20 * 128)


def test_a_model_may_be_a_file(tmp_path):
    config = {"model_type": "llama", "vocab_size": 128256, "num_key_value_heads": 8, "num_attention_heads": 32}
    config |= {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "max_position_embeddings": 8192,
    }
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    one = json.loads(printed(DATA / "vllm_serve.json", "--gpu", "h100", "--json"))
    other = json.loads(printed(DATA / "vllm_serve.json", "--gpu", "h100", "--model", path, "--json"))
    assert other["tpot_bound_s"] == one["tpot_bound_s"]


def test_a_page_names_the_command_that_shows_its_step_by_kernels():
    (found,) = comparisons()
    command = predict_command(found.question)
    assert command == (
        "python -m predict model llama-3-8b --gpu h100-sxm --gpus 1 --batch 56 --seq 1024 --context 1087"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["vllm_serve.json", "--model", "llama-3-70b", "--gpu", "h100"], "of another model than --model llama-3-70b"),
        (["vllm_serve.json"], "vllm_serve.json does not name its GPU: give --gpu"),
        (["vllm_serve.json", "--gpu", "h1000"], "unknown GPU 'h1000'"),
        (["vllm_serve.json", "--gpu", "h100", "--model", "lama-3-8b"], "did you mean llama-3-8b?"),
        (["vllm_serve.json", "--gpu", "h100", "--json", "--csv"], "give one of --json or --csv"),
        (["vllm_serve.json", "--gpu", "h100", "--isl", "many"], "isl must be a number such as 512"),
        (["vllm_serve.json", "--gpu", "h100", "--isl", "0"], "isl must be a whole number of at least 1, not 0"),
        (["vllm_serve.json", "--gpu", "h100", "--concurrency", "0"], "concurrency must be positive, not 0"),
        (["vllm_serve.json", "--gpu", "h100", "--tokens-per-step", "0.5"], "tokens-per-step must be at least 1"),
        (["vllm_serve.json", "--gpu", "h100", "--run", "2"], "vllm_serve.json holds one run: leave out --run"),
        (["vllm_throughput.json", "--model", "llama-3-8b", "--gpu", "h100"], "give one of --isl and --osl, in tokens"),
        (["trtllm_latency.json", "--gpu", "a100"], "NVIDIA H100 80GB HBM3, which is h100-sxm, not a100-sxm-80gb"),
        (["trtllm_latency.json", "--gpus", "8"], "ran on 1 GPU, not on 8: say --gpus 1"),
        (["sglang_serving.jsonl", "--gpu", "h100", "--run", "3"], "holds 2 runs: give --run 1 to 2, not 3"),
        (["nowhere.json"], "cannot read"),
    ],
)
def test_bad_input_is_one_line_that_says_what_to_do(refusal, arguments, message):
    name, *options = arguments
    assert message in refusal(app, "import", DATA / name, *options)
