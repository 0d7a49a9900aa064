"""Whole models against measurements: each kind of point, what cannot be asked, and what beats its bound."""

import csv
import io
import json

import pytest
from typer.testing import CliRunner

from predict.answers.estimate import estimate
from predict.answers.measured import static_tokens_per_s
from predict.commands.arguments import question_of
from predict.errors import BadModel, BadQuantity
from predict.units import GIB
from reports.__main__ import app
from reports.accuracy.endtoend import judge, tallies
from reports.accuracy.endtoend_points import Point

SERVED = "llama-3-8b --gpu h100 --batch 4 --seq 128 --context 192"
TRAINED = "llama-3-8b --gpu h100 --gpus 8 --batch 16 --recompute full --tokens 1e12"
HEADING = "source,model,gpu,gpus,kind,workload,measured quantity,unit,measured,arguments,note"


def point(kind, unit, measured=1.0, arguments=SERVED, workload=""):
    return Point(2, "a source", "llama-3-8b", "h100", kind, workload, unit, measured, arguments, "")


def judged(*points, folder=None):
    return judge(points, lambda text: question_of(text, folder))


def run(*arguments):
    return CliRunner().invoke(app, ["validate", *map(str, arguments)])


def written(folder, *rows):
    file = folder / "points.csv"
    file.write_text("\n".join([HEADING, *rows]) + "\n", encoding="utf-8")
    return file


def row(kind="tpot", unit="s", measured="0.01", arguments=SERVED, gpu="h100-sxm"):
    return f'a source,llama-3-8b,{gpu},1,{kind},"4 requests, 128 in 128 out",time,{unit},{measured},{arguments},a note'


@pytest.mark.parametrize(
    ("kind", "unit", "key"),
    [("tpot", "s", "decode_step_expected_s"), ("ttft", "s", "ttft_one_expected_s")],
)
def test_times_of_serving_are_those_of_the_answer(kind, unit, key):
    found = estimate("llama-3-8b", gpu="h100", batch=4, seq=128, context=192)
    (one,) = judged(point(kind, unit, 0.02))
    assert one.expected == pytest.approx(found[key])
    assert one.error == pytest.approx(abs(found[key] / 0.02 - 1))
    (in_ms,) = judged(point(kind, "ms", 20))
    assert in_ms.ratio == pytest.approx(one.ratio)


def test_training_is_a_rate_a_time_or_hours_of_gpus():
    found = estimate("llama-3-8b", gpu="h100", gpus=8, batch=16, recompute="full", tokens=1e12)
    step_s, tokens = found["train_step_expected_s"], 16 * 2048
    rate, step, hours = judged(
        *(
            point(kind, unit, arguments=TRAINED)
            for kind, unit in (("train_tps", "tokens/s/GPU"), ("train_step", "s"), ("gpu_hours", "h"))
        )
    )
    assert rate.expected == pytest.approx(tokens / step_s / 8)
    assert step.expected == pytest.approx(step_s)
    assert hours.expected == pytest.approx(8 * 1e12 / tokens * step_s / 3600)
    assert rate.bound == pytest.approx(tokens / found["train_step_s"] / 8)


def test_lengths_come_from_the_workload_or_from_what_the_mean_context_adds():
    q = question_of(SERVED, None)
    told, adding = judged(
        point("static_tps", "tokens/s", workload="static batch 4, 64 in, 32 out"), point("static_tps", "tokens/s")
    )
    assert told.expected == pytest.approx(static_tokens_per_s(q, 64, 32).expected)
    assert adding.expected == pytest.approx(static_tokens_per_s(q, 128, 2 * (192 - 128)).expected)


def test_sizes_are_judged_by_themselves():
    weights, cache, training = judged(
        point("weights_gib", "GiB"), point("kv_tokens", "tokens"), point("train_mem", "GiB", arguments=TRAINED)
    )
    assert weights.expected == pytest.approx(2 * 8_030_261_248 / GIB)
    assert cache.expected == estimate("llama-3-8b", gpu="h100", batch=4, seq=128, context=192)["kv_capacity_tokens"]
    held = estimate("llama-3-8b", gpu="h100", gpus=8, batch=16, recompute="full")["training_bytes_per_gpu"]
    assert training.expected == pytest.approx(held / GIB)
    assert not any(each.beats_bound for each in (weights, cache, training))


def test_a_time_below_or_a_rate_over_the_bound_beats_it():
    slow, fast = judged(point("tpot", "s", 1.0), point("tpot", "s", 1e-6))
    assert (slow.beats_bound, fast.beats_bound) == (False, True)
    slow, fast = judged(*(point("train_tps", "tokens/s/GPU", rate, TRAINED) for rate in (1.0, 1e9)))
    assert (slow.beats_bound, fast.beats_bound) == (False, True)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"kind": "speed"}, "kind must be one of tpot, ttft"),
        ({"unit": "miles"}, "it is read in s, ms"),
        ({"measured": float("nan")}, "missing or not positive"),
        ({"arguments": "llama-3-9b --gpu h100"}, "unknown model"),
        ({"arguments": "llama-3-8b --gpu h1000"}, "h1000"),
        ({"arguments": "llama-3-8b"}, "--gpu"),
        ({"arguments": "llama-3-8b --gpu h100 --speed 3"}, "not of `predict model`"),
        ({"arguments": "llama-3-8b --gpu h100 --batch many"}, "batch must be a number"),
        ({"arguments": "llama-3-8b --gpu h100,h200"}, "several machines"),
        ({"arguments": "--gpu h100"}, "name of a preset"),
        ({"arguments": "'llama-3-8b --gpu h100"}, "cannot be read"),
        ({"arguments": "llama-3-8b --gpu h100 --help"}, "help"),
        ({"arguments": "--config nowhere.json --gpu h100"}, "nowhere.json"),
        ({"arguments": "llama-3-8b --gpu mi300x"}, "mi300x"),
        ({"kind": "inflight_tps", "unit": "tokens/s", "workload": "8 in 1 out"}, "do not decode"),
    ],
)
def test_what_has_no_expected_time_has_a_reason(tmp_path, changed, reason):
    (one,) = judged(point(**{"kind": "tpot", "unit": "s", **changed}), folder=tmp_path)
    assert one.expected is None
    assert reason in one.reason


def test_points_are_counted_by_kind_and_gpu():
    found = tallies(judged(point("tpot", "s", 0.02), point("tpot", "s", 0.04), point("speed", "s")))
    assert [(tally.kind, tally.gpu, len(tally.judged)) for tally in found] == [
        ("tpot", "h100-sxm", 2),
        ("speed", "h100", 1),
    ]
    first, second = found[0].errors
    assert found[0].median_error == found[0].mean_error == pytest.approx((first + second) / 2)
    assert (found[1].median_error, found[1].errors) == (None, [])


def test_a_config_is_relative_to_the_file(tmp_path):
    sizes = {"model_type": "gpt2", "n_embd": 256, "n_head": 4, "n_layer": 2, "vocab_size": 1000, "n_positions": 512}
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "tiny.json").write_text(json.dumps(sizes))
    q = question_of("--config configs/tiny.json --gpu h100 --batch 2", tmp_path)
    assert (q.model.hidden, q.batch) == (256, 2)
    with pytest.raises(BadModel):
        question_of("--config configs/other.json --gpu h100", tmp_path)
    with pytest.raises(BadQuantity, match="No closing quotation"):
        question_of("'", tmp_path)


def test_the_command_prints_every_form(tmp_path):
    file = written(tmp_path, row(), row(measured="1e-9"), row(kind="speed"), "broken")
    (tpot, speed, broken) = json.loads(run("--endtoend", file, "--json").stdout)
    assert (tpot["kind"], tpot["gpu"], tpot["points"], tpot["with_expected"], tpot["beat_bound"]) == (
        "tpot", "h100-sxm", 2, 2, 1,
    )  # fmt: skip
    assert tpot["mean_error"] > tpot["median_error"] * 0.99
    assert "line 3" in tpot["faster_than_bound"][0]
    assert (speed["with_expected"], speed["median_error"], speed["beat_bound"]) == (0, None, 0)
    assert list(broken["without_expected"].values()) == [1]
    rows = list(csv.DictReader(io.StringIO(run("--endtoend", file, "--csv").stdout)))
    assert [each["kind"] for each in rows] == ["tpot", "speed", ""]
    assert "| tpot | h100-sxm | 2 | 2 |" in run("--endtoend", file, "--markdown").stdout
    page = run("--endtoend", file).stdout
    assert "beats its bound: line 3" in page
    assert all(len(line) <= 100 for line in page.splitlines())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "has no column kind and no unit"),
        (HEADING + "\n", "no points"),
        ("kind,unit,measured\ntpot,s,1\n", "has no column arguments"),
        (None, "No such file"),
    ],
)
def test_a_file_that_is_no_table_of_points_is_one_line(tmp_path, content, said):
    file = tmp_path / "points.csv"
    if content is not None:
        file.write_text(content)
    found = run("--endtoend", file)
    assert said in str(found.exception)


@pytest.mark.parametrize("option", [("--gate",), ("--out", "x"), ("--gpu", "h100"), ("--leave-out", "h200")])
def test_options_of_tables_are_not_ignored_without_tables(option, tmp_path):
    found = run("--endtoend", written(tmp_path, row()), *option)
    assert "are of measured tables" in str(found.exception)
    assert found.output == ""


def test_neither_tables_nor_points_is_said():
    assert "give measured tables, or --endtoend" in str(run().exception)
