"""The sections at the lessons' inputs, and everywhere else."""

import json
import math
from functools import partial

import numpy as np
import pytest

from predict.gpus import GPUS
from predict.model.presets import PRESETS, find_model
from reports.explore.answering import answer
from reports.explore.contents import SECTIONS, charts_of, controls_of
from reports.explore.controls import CONTROLS
from reports.explore.state import State
from reports.explore.worker import Request


def ask(section, **texts):
    return SECTIONS[section].answer(State.of(texts.items()))


def values(answered, command=0):
    return {each.key: each.value for each in answered.numbers if each.command == command}


def ends(rows):
    """How far the bars of a chart reach together, by group."""
    found = {}
    for row in rows:
        found[row["group"]] = found.get(row["group"], 0) + row["end"] - row["start"]
    return found


def at(rows, series, x):
    (found,) = {row["y"] for row in rows if row["series"] == series and row["x"] == x}
    return found


gpt_2 = partial(ask, model="gpt-2-small", gpu="a100", seq="1024", attention="full")


def test_flop_of_gpt_2_small_are_the_lessons():
    """12 layers of 16BSH^2, 8BSH^2 and 4BS^2H, and 2BSHV."""
    batch, seq, hidden, vocab = 1, 1024, 768, 50257
    found = gpt_2("flop")
    told = values(found)
    assert told["flop_mlp"] == 12 * 16 * batch * seq * hidden**2
    assert told["flop_attention_projections"] == 12 * 8 * batch * seq * hidden**2
    assert told["flop_attention_scores"] == 12 * 4 * batch * seq**2 * hidden
    assert told["flop_vocab"] == 2 * batch * seq * hidden * vocab
    assert ends(found.data["flop"]) == {"FLOP": told["forward_flop"]}


def test_a_model_of_half_the_layers_has_half_the_flop_in_them():
    whole, half = values(gpt_2("flop")), values(gpt_2("flop", layers="6"))
    assert half["flop_mlp"] * 2 == whole["flop_mlp"]
    assert half["flop_vocab"] == whole["flop_vocab"]


def test_a_step_is_three_times_forward_and_its_bars_add_up():
    found = ask("backward", model="gpt-2-small", gpu="a100", seq="1024", recompute="full")
    told, bars = values(found), ends(found.data["step"])
    assert bars["backward"] == pytest.approx(2 * bars["forward"])
    assert sum(bars.values()) == pytest.approx(told["train_hardware_flop"])
    assert bars["forward"] * 3 == pytest.approx(told["train_flop"])


@pytest.mark.parametrize("batch", ["1", "33", "512"])
def test_the_batch_stands_on_the_curves(batch):
    found = ask("time", batch=batch, context="256")
    told = values(found)
    assert at(found.data["steps"], "bound", int(batch)) == told["tpot_s"]
    assert at(found.data["steps"], "expected", int(batch)) == pytest.approx(told["decode_step_expected_s"], rel=1e-12)
    knee = next(row["x"] for row in found.data["steps_marks"] if row["label"].strip() == "knee")
    assert knee == told["batch_to_saturate_with_kv"]


def test_a_batch_that_does_not_fit_is_said_before_its_times():
    for section in ("time", "phases", "parallelism"):
        found = ask(section, model="llama-3.1-405b")
        assert found.is_alarm
        # 405.9e9 parameters of 2 bytes, and 2 x 126 layers x 8 x 128 x 2 bytes for 2048 tokens
        assert found.says[0].startswith("Does not fit: serving needs 813 GB of")
    assert ask("time", batch="4096").is_alarm
    assert ask("backward", batch="64").says[0].startswith("Does not fit: training needs")
    assert ask("dollars", model="llama-3.1-405b", train_gpus="1").says[0].startswith("Does not fit: training needs")
    assert not ask("time").is_alarm


def test_a_draft_model_is_what_the_section_speaks_of_first_and_its_best_depth_is_marked():
    texts = {"model": "llama-3-70b", "gpus": "4", "draft": "llama-3.2-1b", "batch": "8"}
    found = ask("speculation", **texts)
    told = values(found, command=3)
    assert found.says[0].startswith(f"With llama-3.2-1b at batch 8, best is to draft {told['speculation_k']}:")
    gains = {row["x"]: row["y"] for row in found.data["depths"] if row["series"] == "this draft, bound"}
    assert max(gains, key=gains.get) == told["speculation_k"]
    assert gains[told["speculation_k"]] == told["speculation_speedup"]
    (best,) = (row["x"] for row in found.data["depths_marks"] if "best" in row["label"])
    assert best == told["speculation_k"]
    expected = {row["x"]: row["y"] for row in found.data["depths"] if row["series"] == "this draft, expected"}
    assert max(expected, key=expected.get) == told["speculation_k_expected"]


def test_controls_that_do_nothing_in_a_use_are_left_out():
    serving, training = (ask("memory", use=use).controls for use in ("serve", "train"))
    assert {name for name, stops in serving.items() if not stops.shown} == {"optimizer", "zero", "recompute", "kernels"}
    assert all(stops.shown for stops in training.values())
    assert not ask("answer", use="train").controls["draft"].shown
    assert ask("answer").controls["draft"].shown


def test_slots_put_their_steps_into_the_formula():
    """500 and 10 tokens in two slots: 510 of 2 x 500."""
    found = ask("batching", lengths="500,10", slots="2")
    assert next(each.arithmetic for each in found.numbers if each.command == 1) == "510 / (2 x 500)"


def test_the_use_of_a_prompt_is_that_of_the_prompt_alone():
    """A batch of prompts may be bound by FLOP where one alone is bound by memory."""
    found = ask("phases", model="deepseek-v3", gpu="h200", gpus="8", batch="64")
    used = {row["row"]: row["end"] for row in found.data["used"]}
    assert used["prefill: bandwidth"] > used["prefill: FLOP/s"]


def test_memory_and_flop_meet_at_the_knee():
    """Up to there memory takes longer, from there on FLOP do."""
    found = ask("time", context="256")
    knee = values(found)["batch_to_saturate_with_kv"]
    rows = found.data["steps"]
    for batch in (1, 64, 512, 1024, 4096):
        assert (at(rows, "FLOP", batch) >= at(rows, "memory", batch)) == (batch >= knee)


def test_without_a_cache_the_knee_is_the_ridge():
    found = ask("time", context="0")
    assert values(found)["batch_to_saturate_napkin"] == pytest.approx(989.4e12 / 3.35e12)
    assert any(row["label"].strip() == "knee" for row in found.data["steps_marks"])


@pytest.mark.parametrize(
    "texts",
    [
        {},
        {"gpus": "4", "model": "llama-3-70b", "batch": "20"},
        {"gpu": "l40s", "model": "llama-3-70b"},
        {"use": "train"},
        {"use": "train", "gpus": "8", "zero": "1", "batch": "8"},
        {"use": "train", "gpus": "8", "zero": "2", "batch": "8", "recompute": "full", "optimizer": "adam"},
        {"use": "train", "gpus": "8", "zero": "0", "batch": "16", "kernels": "fused"},
    ],
)
def test_tenants_are_what_one_gpu_holds_and_the_alarm_is_for_what_does_not_fit(texts):
    found = ask("memory", **texts)
    told = values(found)
    held = sum(ends(found.data["tenants"]).values())
    (limit,) = (row["x"] for row in found.data["tenants_marks"])
    if texts.get("use") == "train":
        kept = 3.5e9  # of the runtime, on a card of over 35 GB
        assert held == pytest.approx(told["training_bytes_per_gpu"] + kept)
    else:
        assert held == pytest.approx(told["serving_bytes_per_gpu"])
    assert found.is_alarm == (held > limit)
    assert ("does not fit" in ends(found.data["tenants"])) == found.is_alarm
    assert found.is_alarm == ("Does not fit" in found.says[0])


def test_a_request_takes_its_prompt_and_its_steps():
    found = ask("phases", seq="4096", generated="101", batch="4")
    told = values(found)
    assert "--context 4146" in found.commands[0]  # 4096 and half of 101, the mean over the request
    assert values(found, command=1)["serving.latency_s"] == told["ttft_one_s"] + 100 * told["tpot_s"]
    bound = [row for row in found.data["request"] if row["row"].startswith("bound")]
    assert bound[0]["end"] == bound[1]["start"] == told["ttft_one_s"]
    texts = {each.key: each.text for each in found.numbers}
    assert [row["text"] for row in bound] == [texts["ttft_one_s"], f"100 x {texts['tpot_s']}"]


def test_the_cache_of_a_7b_model_is_the_lessons():
    """2 x 2 bytes x 32 layers x 4096: 524,288 bytes a token. The card of 40 GB holds about 50 requests of 1024."""
    found = ask("cache", model="llama-2-7b", gpu="a100", seq="1024", batch="1")
    assert values(found)["kv_bytes_per_token"] == 2 * 2 * 32 * 4096
    assert at(found.data["growth"], "KV cache", 1024.0) == 524_288 * 1024
    of_40_gb = found.commands.index(next(each for each in found.commands if each.endswith("--hbm 40GB")))
    assert 35 < values(found, command=of_40_gb)["max_batch"] < 50  # less than 50: an engine keeps its own memory


def test_a_quarter_of_the_kv_heads_caches_a_quarter():
    full, grouped = (values(ask("cache", model="llama-2-7b", kv_heads=heads)) for heads in ("32", "8"))
    assert full["kv_bytes_per_token"] == 4 * grouped["kv_bytes_per_token"]


def test_cards_are_drawn_up_to_their_memory_and_beyond_it_only_in_red():
    found = ask("cache", model="llama-3-8b", batch="64", seq="8192")
    for size_gb in (24, 40, 80, 141, 192):
        rows = [row for row in found.data["room"] if row["row"] == f"{size_gb} GB" and row["end"] > row["start"]]
        inside = [row for row in rows if row["group"] != "does not fit"]
        assert max(row["end"] for row in inside) == pytest.approx(size_gb * 1e9)
        assert all(row["start"] >= size_gb * 1e9 for row in rows if row["group"] == "does not fit")


def test_speculation_of_the_lesson():
    """70 % accepted, 5 drafted at a fifteenth of the cost: (1 - 0.7^6) / 0.3 tokens over 5/15 + 1 steps, 2.2x."""
    tokens = (1 - 0.7**6) / 0.3
    found = ask("speculation", accept="70%", depth="5", cost="6.666666%")
    assert values(found, 0)["speculation.expected_tokens"] == pytest.approx(tokens)
    assert values(found, 1)["speculation.speedup"] == pytest.approx(tokens / (5 / 15 + 1), rel=1e-6)
    gains = {depth: (1 - 0.7 ** (depth + 1)) / 0.3 / (depth / 15 + 1) for depth in range(1, 17)}
    assert values(found, 2)["speculation.best_k"] == max(gains, key=gains.get)
    assert at(found.data["depths"], "checking costs one step", 5.0) == pytest.approx(gains[5], rel=1e-6)


def test_rounds_keep_guesses_up_to_the_first_wrong_one():
    found = ask("speculation", accept="50%", depth="3")
    for row in dict.fromkeys(each["row"] for each in found.data["rounds"]):
        groups = [each["group"] for each in found.data["rounds"] if each["row"] == row]
        kept = groups.count("kept")
        assert groups == [*["kept"] * kept, *["rejected", "not read", "not read"][: 3 - kept], "the target's own"]


def test_a_draft_stops_paying_where_its_curve_falls_to_one():
    texts = {"model": "llama-3-70b", "gpus": "4", "draft": "llama-3.2-1b"}
    told = values(ask("speculation", **texts), command=3)
    found = ask("speculation", **texts, depth=str(told["speculation_k"]))
    gains = {row["x"]: row["y"] for row in found.data["gains"]}
    assert gains[1] == pytest.approx(told["speculation_speedup"])
    assert all((gain > 1) == (batch < told["speculation_stops_at_batch"]) for batch, gain in gains.items())


def test_batches_and_slots_of_the_lesson():
    found = ask("batching", lengths="500,10", slots="2")
    assert values(found, 1)["serving.static_batch_utilization"] == 510 / 1000
    assert ends(row for row in found.data["slots"] if row["row"].startswith("static")) == {"works": 510, "idles": 490}
    told = values(found)
    fits = {row["by"] for row in found.data["trade_points"] if row["y"] * row["x"] > told["max_batch"] + 0.5}
    assert fits == {"does not fit"}


def test_more_gpus_are_what_their_own_question_says():
    found = ask("parallelism", model="llama-3-70b", gpus="8", batch="16")
    for gpus in (1, 2, 4, 8, 16):
        told = values(ask("time", model="llama-3-70b", gpus=str(gpus), batch="16"))
        assert at(found.data["spread"], "bound", gpus) == told["tpot_s"]
    prompts = ask("parallelism", model="llama-3-70b", gpus="4", batch="2", phase="prefill")
    assert at(prompts.data["spread"], "bound", 4) == values(prompts)["ttft_s"]


def test_dollars_of_the_lesson():
    """70.55e9 parameters, 15e12 tokens, 40 % of 989.4 TFLOP/s, $2: 6PT / (0.4 peak) / 3600 x 2, and attention."""
    found = ask("dollars", model="llama-3-70b", seq="4096", train_gpus="1024")
    napkin = 6 * 70.553706496e9 * 15e12 / (0.4 * 989.4e12) / 3600 * 2
    told = values(found)
    assert napkin < told["train_usd"] < 1.05 * napkin
    assert at(found.data["run"], "training", 0.4) == pytest.approx(told["train_usd"])
    served = values(found, 1)
    assert at(found.data["tokens"], "bound", 1) == pytest.approx(served["usd_per_1m_tokens"])


def test_what_cannot_serve_says_so():
    for name in ("time", "phases", "cache", "batching", "parallelism"):
        found = ask(name, model="gpt-2-small", gpus="32", gpu="l40s", seq="512")
        assert found.says[0].startswith("Cannot serve: l40s: the bandwidth between nodes of 8 is not known")
        assert found.is_alarm


def every_question():
    chance = np.random.default_rng(18)
    for name in PRESETS:
        gpu, gpus = chance.choice(["h100-sxm", "b200", "a100-sxm-80gb", "l40s", "rtx-4090"]), chance.choice([1, 8])
        use = chance.choice(["serve", "train"])
        yield {"model": name, "gpu": str(gpu), "gpus": str(gpus), "use": str(use), "batch": str(chance.choice([1, 40]))}


@pytest.mark.parametrize("texts", [pytest.param(each, id=each["model"]) for each in every_question()])
def test_every_section_answers_for_every_model(texts):
    """JSON without NaN, numbers of commands that are there, rows of charts that are there; a refusal in one line."""
    for section in SECTIONS.values():
        reply = answer(Request(section.name, tuple(texts.items()), None))
        found = json.loads(reply.body)
        assert reply.status in (200, 400), found
        if reply.status == 400:
            assert len(found["error"].splitlines()) == 1
            continue
        assert all(number[6] < len(found["commands"]) for number in found["numbers"])
        assert set(found["controls"]) <= set(CONTROLS)
        charts = tuple(chart.name for chart in charts_of(section))
        assert all(name.startswith(charts) for name in found["data"])
        for rows in found["data"].values():
            assert all(math.isfinite(value) for row in rows for value in row.values() if isinstance(value, float))


def test_every_section_has_the_controls_that_it_names_and_charts_of_its_own():
    names = [chart.name for section in SECTIONS.values() for chart in charts_of(section)]
    assert len(names) == len(set(names))
    assert all(name in CONTROLS for section in SECTIONS.values() for name in controls_of(section))


def test_each_line_of_a_chart_has_dashes_of_its_own_and_no_chart_has_rows():
    for chart in (each for section in SECTIONS.values() for each in charts_of(section)):
        text = json.dumps(chart.spec)
        assert '"values"' not in text
        for layer in chart.spec["layer"]:
            if scale := layer["encoding"].get("strokeDash", {}).get("scale"):
                dashes = [tuple(each) for each in scale["range"]]
                assert len(set(dashes)) == len(scale["domain"])


def test_shapes_stop_at_what_the_model_is_and_at_what_divides():
    found = ask("flop", model="llama-3-8b").controls
    assert found["hidden"].shown == "4096"
    assert "4096" in found["hidden"].stops
    assert all(int(stop) % 32 == 0 for stop in found["hidden"].stops)  # heads
    heads = ask("cache", model="llama-3-8b").controls["kv_heads"]
    assert (heads.shown, heads.stops) == ("8", ("1", "2", "4", "8", "16", "32"))
    assert ask("cache", model="deepseek-v3").controls["kv_heads"].stops == ()  # it caches latent vectors


def test_every_offered_shape_is_a_model():
    for name in ("llama-3-8b", "gpt-2-small", "qwen3-8b"):
        for control, found in ask("flop", model=name).controls.items():
            for stop in found.stops:
                assert State.of([("model", name), (control, stop)]).question().model.params


def test_a_gpu_without_the_format_is_refused_in_the_words_of_the_command():
    reply = answer(Request("time", (("compute", "fp4"), ("gpu", "h100")), None))
    assert reply.status == 400
    assert "compute=fp4" in json.loads(reply.body)["error"]
    assert "fp4" not in " ".join(GPUS["h100-sxm"].roofs)


def test_a_dropped_configuration_is_told_by_its_size():
    config = {"model_type": "llama", "vocab_size": 100, "hidden_size": 32, "intermediate_size": 48}
    config |= {"num_hidden_layers": 1, "num_attention_heads": 4}
    reply = answer(Request("config", (("name", "mine.json"),), json.dumps(config).encode()))
    assert json.loads(reply.body)["name"] == "mine"
    refused = answer(Request("config", (("name", "mine.json"),), b'{"model_type": "%s"}' % (b"x" * 5000)))
    assert refused.status == 400
    assert len(json.loads(refused.body)["error"]) < 700


def test_an_unknown_section_is_none():
    reply = answer(Request("tiem", (), None))
    assert reply.status == 404
    assert "did you mean time" in json.loads(reply.body)["error"]


def test_the_model_of_the_list_is_read_once():
    assert find_model("llama-3-8b") is find_model("Llama 3 8B")
