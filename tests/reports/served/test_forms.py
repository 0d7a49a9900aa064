"""Every form is read into seconds, requests/s and tokens/s, and everything else is refused in one line."""

import json
from pathlib import Path

import pytest

from predict.errors import BadLog
from reports.served.forms import FORMS, read_logs
from reports.served.log import Spread

DATA = Path(__file__).resolve().parents[2] / "data" / "served"


def one(name):
    (log,) = read_logs(DATA / name).logs
    return log


def changed(tmp_path, name, **fields):
    """The file `name` with other fields; a field of None is left out."""
    log = {**json.loads((DATA / name).read_text()), **fields}
    path = tmp_path / name
    path.write_text(json.dumps({key: value for key, value in log.items() if value is not None}))
    return path


def test_vllm_serve_is_read_in_seconds_and_per_request():
    log = one("vllm_serve.json")
    assert (log.form, log.model) == ("vLLM bench serve", "meta-llama/Meta-Llama-3-8B-Instruct")
    assert (log.isl, log.osl) == (655_360 / 640, 81_920 / 640) == (1024, 128)
    assert (log.requests_per_s, log.output_tokens_per_s, log.total_tokens_per_s) == (20, 2560, 23_040)
    assert log.ttft == pytest.approx(Spread(0.2, 0.18, 0.45))
    assert log.tpot.mean_s == pytest.approx(0.022)
    assert log.latency is None  # not asked for with --percentile-metrics
    assert (log.asked_per_s, log.most_in_flight) == (None, 64)


def test_lists_of_each_request_give_the_latency_that_the_summary_lacks():
    log = one("vllm_serve_detailed.json")
    # Two requests take 0.04 + 100 x 0.010 and 0.06 + 100 x 0.010, two 0.04 + 1.1 and 0.06 + 1.1.
    assert log.latency.mean_s == pytest.approx((1.04 + 1.06 + 1.14 + 1.16) / 4)
    assert (log.asked_per_s, log.most_in_flight) == (0.5, None)


def test_vllm_throughput_tells_prompt_and_output_only_together():
    log = one("vllm_throughput.json")
    assert (log.tokens, log.isl, log.osl, log.output_tokens_per_s) == (1152, None, None, None)
    assert (log.requests_per_s, log.total_tokens_per_s) == (20, 23_040)


def test_vllm_latency_tells_one_time():
    log = one("vllm_latency.json")
    assert (log.latency, log.requests_per_s) == (Spread(1.5, 1.5, 1.5098), None)


def test_every_line_of_sglang_is_a_run_with_its_own_concurrency():
    first, second = read_logs(DATA / "sglang_serving.jsonl").logs
    assert [first.file, second.file] == ["sglang_serving.jsonl, run 1", "sglang_serving.jsonl, run 2"]
    assert (first.run, second.run) == (1, 2)
    assert (first.in_flight, second.in_flight) == (0.919, 59.88)
    assert (first.model, first.gpus) == (None, None)  # older versions do not say
    assert (second.model, second.gpus) == ("meta-llama/Meta-Llama-3-8B-Instruct", 1)
    assert second.asked_per_s is None  # Infinity
    assert second.latency.mean_s == pytest.approx(2.994)
    assert second.kv is None  # "auto" asks for nothing


def test_trtllm_tells_model_gpu_and_formats():
    log = one("trtllm_throughput.json")
    assert (log.gpu, log.gpus, log.weights, log.kv) == ("NVIDIA H100 80GB HBM3", 1, "FP8", "FP8")
    assert (log.requests, log.isl, log.osl, log.in_flight) == (3000, 128, 128, 1200)
    assert (log.ttft, log.tpot) == (None, None)  # not streamed
    assert log.duration_s == pytest.approx(15)
    assert one("trtllm_latency.json").tpot.mean_s == pytest.approx(0.007)


def test_newer_aiperf_tells_model_and_load_under_models_and_phases(tmp_path):
    options = {
        "models": {"strategy": "round_robin", "items": [{"name": "meta-llama/Meta-Llama-3-8B-Instruct"}]},
        "phases": [
            {"name": "warmup", "kind": "concurrency", "concurrency": 8},
            {"name": "profiling", "kind": "poisson", "concurrency": 64, "rate": 20.0},
        ],
    }
    (log,) = read_logs(changed(tmp_path, "aiperf.json", input_config=options)).logs
    assert (log.form, log.model) == ("AIPerf", "meta-llama/Meta-Llama-3-8B-Instruct")
    assert (log.most_in_flight, log.asked_per_s) == (64, 20)


def test_options_of_aiperf_in_another_form_are_left_out(tmp_path):
    options = {"models": ["llama"], "phases": "profiling"}
    (log,) = read_logs(changed(tmp_path, "aiperf.json", input_config=options)).logs
    assert (log.model, log.most_in_flight, log.asked_per_s) == (None, None, None)


@pytest.mark.parametrize(("name", "form"), [("aiperf.json", "AIPerf"), ("genai_perf.json", "GenAI-Perf")])
def test_aiperf_and_genai_perf_have_the_same_numbers_and_other_options(name, form):
    log = one(name)
    assert (log.form, log.model, log.most_in_flight) == (form, "meta-llama/Meta-Llama-3-8B-Instruct", 64)
    assert (log.isl, log.osl, log.requests) == (1024, 128, 640)
    assert (log.ttft.mean_s, log.tpot.mean_s, log.latency.mean_s) == pytest.approx((0.2, 0.022, 2.994))


def test_genai_perf_of_2024_has_flat_options_and_other_units(tmp_path):
    flat = {"model": ["my-model"], "concurrency": 8, "request_rate": None}
    seconds = {"unit": "sec", "avg": 0.25}
    log = read_logs(changed(tmp_path, "genai_perf.json", input_config=flat, time_to_first_token=seconds)).logs[0]
    assert (log.model, log.most_in_flight, log.ttft) == ("my-model", 8, Spread(0.25))
    bad = changed(tmp_path, "genai_perf.json", time_to_first_token={"unit": "fortnights", "avg": 1})
    with pytest.raises(BadLog, match="time_to_first_token is in 'fortnights'; known units: ns"):
        read_logs(bad)


def test_lengths_that_a_summary_lacks_are_left_to_options(tmp_path):
    log = read_logs(changed(tmp_path, "aiperf.json", input_sequence_length=None, total_token_throughput=None)).logs[0]
    assert (log.isl, log.osl, log.total_tokens_per_s) == (None, 128, None)


def test_files_that_append_are_read_whole_however_they_are_laid_out(tmp_path):
    path = tmp_path / "appended.json"
    text = (DATA / "vllm_serve.json").read_text()
    path.write_text(f"\n{text}\n{json.dumps(json.loads(text), indent=2)}  \n")
    assert [log.file for log in read_logs(path).logs] == ["appended.json, run 1", "appended.json, run 2"]


def test_a_run_of_several_without_a_measurement_is_left_out_and_named(tmp_path):
    good = json.loads((DATA / "vllm_serve.json").read_text())
    path = tmp_path / "runs.jsonl"
    path.write_text("\n".join(json.dumps(each) for each in ({**good, "completed": 0}, good, {"loss": 1})))
    runs = read_logs(path)
    assert [log.run for log in runs.logs] == [2]
    first, third = runs.refused
    assert first.startswith("runs.jsonl, run 1: no request completed")
    assert third.startswith("runs.jsonl, run 3 is of no known form")
    assert read_logs(path, 2).refused == ()
    with pytest.raises(BadLog, match="run 1: no request completed"):
        read_logs(path, 1)


def test_zeros_that_stand_for_what_was_not_measured_are_absent(tmp_path):
    log = read_logs(changed(tmp_path, "vllm_serve.json", mean_ttft_ms=0, mean_tpot_ms=0.0)).logs[0]
    assert (log.ttft, log.tpot) == (None, None)


def test_lists_with_failed_requests_count_those_that_answered(tmp_path):
    firsts, gaps = [0.1, 0.0], [[0.2, 0.3], []]
    log = read_logs(changed(tmp_path, "vllm_serve.json", ttfts=firsts, itls=gaps, failed=1)).logs[0]
    assert log.latency.mean_s == pytest.approx(0.6)
    assert log.failed == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"completed": 0}, "no request completed (completed is 0): nothing was measured"),
        ({"mean_tpot_ms": float("nan")}, "mean_tpot_ms is nan, which no measurement gives"),
        ({"mean_ttft_ms": float("inf")}, "mean_ttft_ms is inf"),
        ({"mean_ttft_ms": -1.0}, "mean_ttft_ms is -1"),
        ({"duration": 0}, "duration is missing or 0"),
        ({"duration": "32 s"}, "duration must be a number, not '32 s'"),
        ({"completed": True}, "completed must be a number, not True"),
        ({"completed": 1.5}, "completed must be a whole number, not 1.5"),
        ({"max_concurrency": [64]}, "max_concurrency must be a number, not [64]"),
        ({"model_id": None}, "the nearest is vLLM bench serve, of which it lacks model_id"),
        ({"duration": None, "completed": None}, "of which it lacks duration, completed"),
    ],
)
def test_a_field_that_is_no_measurement_is_refused_by_its_name(tmp_path, fields, message):
    with pytest.raises(BadLog) as refused:
        read_logs(changed(tmp_path, "vllm_serve.json", **fields))
    assert message in str(refused.value)
    assert str(refused.value).startswith("vllm_serve.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not valid JSON (line 1: Expecting value)"),
        ("not JSON", "is not valid JSON (line 1: Expecting value)"),
        ('{"duration": 1', "is the file complete?"),
        ('{"duration": 1}\nrubbish', "is not valid JSON (line 2: Expecting value)"),
        ("[]", "log.json holds a list: give one result, or one on each line (jq -c '.[]' log.json)"),
        ("3", "log.json holds a number, not the object that a benchmark writes; import reads SGLang"),
        ("null", "log.json holds a null"),
        ('{"loss": 3}', "log.json is of no known form; import reads SGLang bench_serving (--output-file), vLLM"),
        (
            '{"metadata": {"session_num": 1}, "metrics": {}}',
            "holds AIPerf's records of each request: give the profile_export_",
        ),
        ('{"aiperf_version": "0.12", "metadata": {}, "metrics": {}}', "holds AIPerf's statistics over several runs"),
        ('{"version": "", "experiments": []}', "give profile_export_genai_perf.json beside it"),
        ('[{"benchmark": {}, "model": {}, "metric": {}}]', "give the file beside it without .pytorch"),
    ],
)
def test_a_file_of_another_kind_is_refused_in_one_line_that_says_what_to_give(tmp_path, text, message):
    path = tmp_path / "log.json"
    path.write_text(text)
    with pytest.raises(BadLog) as refused:
        read_logs(path)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_there_is_refused():
    with pytest.raises(BadLog, match=r"cannot read nowhere\.json: No such file"):
        read_logs(Path("nowhere.json"))


def test_no_form_hides_another():
    """The keys of each form are missing in the files of all others."""
    files = {path.name: read_logs(path).logs[0].form for path in DATA.iterdir()}
    assert len(files) == 9
    names = {form.name for form in FORMS}
    assert {form for form in files.values() if "Perf" not in form} == names - {"AIPerf or GenAI-Perf"}
