"""Every preset against `transformers` on the meta device, to the unit. Runs where transformers is installed."""

import contextlib
import json

import pytest

from predict.model.presets import PRESETS, find_model

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

SAME_LAYOUT = {"kimi_k2": "deepseek_v3"}


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_has_the_parameters_that_transformers_builds(name):
    values = json.loads(json.dumps(dict(PRESETS[name].config)))
    kind = values.pop("model_type")
    values.pop("quantization_config", None)  # parameters are counted as they were trained
    config = transformers.AutoConfig.for_model(SAME_LAYOUT.get(kind, kind), **values)
    with torch.device("meta"), contextlib.redirect_stderr(None):
        built = transformers.AutoModelForCausalLM.from_config(config)
    assert find_model(name).params == sum(parameter.numel() for parameter in built.parameters())
