"""Heads that are no vocabulary."""

import pytest

from predict.model.config.reader import from_config

HIDDEN, VOCAB = 64, 100
LLAMA = {
    "model_type": "llama",
    "hidden_size": HIDDEN,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": VOCAB,
}
BODY = from_config(LLAMA, "it").params - HIDDEN * VOCAB


@pytest.mark.parametrize(
    ("changes", "head_params", "note"),
    [
        ({"architectures": ["LlamaForCausalLM"]}, HIDDEN * VOCAB, None),
        ({"architectures": None}, HIDDEN * VOCAB, None),
        (
            {"architectures": ["LlamaForSequenceClassification"], "num_labels": 5},
            5 * HIDDEN,
            "LlamaForSequenceClassification has 5 outputs instead of the vocabulary",
        ),
        (
            {"architectures": ["LlamaForSequenceClassification"], "id2label": {"0": "LABEL_0"}},
            HIDDEN,
            "LlamaForSequenceClassification has 1 output instead of the vocabulary",
        ),
        (
            {"architectures": ["LlamaForSequenceClassification"], "tie_word_embeddings": True},
            2 * HIDDEN,
            "LlamaForSequenceClassification has 2 outputs instead of the vocabulary",
        ),
        (
            {"architectures": ["LlamaForTokenClassification"]},
            2 * (HIDDEN + 1),
            "LlamaForTokenClassification has 2 outputs instead of the vocabulary",
        ),
        (
            {"architectures": ["Qwen2ForRewardModel"]},
            HIDDEN * (HIDDEN + 1) + HIDDEN + 1,
            "Qwen2ForRewardModel has 1 output instead of the vocabulary",
        ),
        ({"architectures": ["LlamaModel"]}, 0, "LlamaModel has no outputs instead of the vocabulary"),
    ],
)
def test_the_head_that_architectures_names(changes, head_params, note):
    model = from_config(LLAMA | changes, "it")
    assert model.params == BODY + head_params
    assert model.notes == ((note,) if note else ())
    assert sum(linear.params for linear in model.outer_linears()) == head_params
