"""The Python call gives what the command prints."""

import inspect
import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

import predict
from predict import estimate
from predict.__main__ import app
from predict.answers.estimate import OPTIONS
from predict.errors import BadModel, UnknownGpu
from predict.gpus import GPUS
from predict.model.presets import find_model

RUNNER = CliRunner()


def test_it_gives_the_very_json_of_the_command():
    asked = ["llama-3-70b", "--gpu", "h100", "--gpus", "2", "--batch", "8", "--seq", "8k", "--price", "2.5"]
    printed = RUNNER.invoke(app, ["model", *asked, "--json"]).stdout
    assert estimate("llama-3-70b", gpu="h100", gpus=2, batch=8, seq="8k", price=2.5).to_json() + "\n" == printed


def test_texts_and_values_ask_the_same():
    texts = estimate("llama-3-8b", gpu="h100", seq="4k", hbm="80GB", draft="qwen3-0.6b")
    draft = find_model("qwen3-0.6b")
    values = estimate(find_model("llama-3-8b"), gpu=GPUS["h100-sxm"], seq=4096, hbm=80e9, draft=draft, tokens=15e12)
    assert texts.flat() | {"training_tokens": 0} == values.flat() | {"training_tokens": 0}


def test_shares_are_read_in_percent():
    asked = {"gpu": "h100", "draft": "qwen3-0.6b"}
    percents = estimate("llama-3-8b", mfu="45%", mbu="80%", accept="75%", **asked)
    assert percents.flat() == estimate("llama-3-8b", mfu=0.45, mbu=0.8, accept=0.75, **asked).flat()


def test_a_number_is_found_by_its_key_with_its_unit_and_formula():
    found = estimate("llama-3-8b", gpu="h100", batch=4)
    assert found["weight_bytes"] == found.lines["weight_bytes"].value == 2 * 8_030_261_248
    assert found.lines["tpot_s"].unit == "s"
    assert "tpot_s" in found
    assert json.loads(found.to_json())["notes"] == list(found.notes)
    with pytest.raises(KeyError, match=r"no tpot in this estimate: did you mean tpot_s\? its notes"):
        found["tpot"]


def test_a_config_file_is_a_model_and_a_preset_goes_before_a_file_of_its_name(tmp_path, monkeypatch):
    fields = {"model_type": "llama", "vocab_size": 128256, "hidden_size": 4096, "intermediate_size": 14336}
    fields |= {"num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8}
    (tmp_path / "config.json").write_text(json.dumps(fields))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "llama-3-8b").mkdir()
    preset = estimate("llama-3-8b", gpu="h100")["params"]
    assert estimate(tmp_path / "config.json", gpu="h100")["params"] == preset
    assert estimate("config.json", gpu="h100")["params"] == preset


def test_bad_input_raises_what_the_command_says_in_one_line():
    with pytest.raises(BadModel, match="did you mean llama-3-8b"):
        estimate("llama-3-8", gpu="h100")
    with pytest.raises(BadModel, match=r"cannot read none.json"):
        estimate("none.json", gpu="h100")
    with pytest.raises(UnknownGpu):
        estimate("llama-3-8b", gpu="h1000")


def test_every_option_of_the_command_is_an_argument():
    arguments = inspect.signature(estimate).parameters
    assert set(OPTIONS) == set(arguments) - {"model"}
    assert all(arguments[name].kind is inspect.Parameter.KEYWORD_ONLY for name in OPTIONS)


def test_the_package_loads_it_only_when_it_is_asked_for():
    code = "import predict, sys; sys.exit('predict.answers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert predict.Estimate is type(estimate("llama-3-8b", gpu="h100"))
    with pytest.raises(AttributeError, match="has no attribute 'estimates'"):
        predict.estimates  # noqa: B018
