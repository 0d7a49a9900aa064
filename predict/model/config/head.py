"""The matrices at the end of a model that does not end in its vocabulary: classifiers, reward models, embedders."""

import re
from dataclasses import replace

from predict.model.config.fields import Fields
from predict.model.linear import Component, Linear
from predict.model.transformer import Model

DEFAULT_LABELS = 2  # of `transformers`


def with_head(model: Model, fields: Fields) -> Model:
    """The model with the head that `architectures` names. A name that ends in Model, with no task, has none."""
    named = next((name for name in fields.items("architectures") if isinstance(name, str)), "")
    found = _head(named, model.hidden, fields)
    if found is None:
        return model
    outputs = f"{found[-1].outputs} output{'s' if found[-1].outputs > 1 else ''}" if found else "no outputs"
    note = f"{named} has {outputs} instead of the vocabulary"
    return replace(model, tied=False, head=found, notes=(*model.notes, note))


def _head(named: str, hidden: int, fields: Fields) -> tuple[Linear, ...] | None:
    """The matrices after the last hidden state; None if they are the vocabulary's."""
    if re.search(r"For(Sequence|Token)Classification$", named):
        return (_score(hidden, _labels(fields), bias=named.endswith("ForTokenClassification")),)
    if named.endswith("ForQuestionAnswering"):
        return (_score(hidden, 2, bias=True),)
    if named in ("Qwen2ForRewardModel", "Qwen2ForProcessRewardModel"):  # the code beside the weights has two layers
        outputs = 2 if "Process" in named else 1
        return (_score(hidden, hidden, bias=True, name="score.in"), _score(hidden, outputs, bias=True))
    if named.endswith("RewardModel"):
        return (_score(hidden, 1),)
    ends_in_states = named.endswith("Model") and not re.search(r"For|Chat|(LMHead|DoubleHeads)Model$", named)
    return () if ends_in_states else None


def _labels(fields: Fields) -> int:
    """Number of labels: `num_labels`, or as many as `id2label` names."""
    names = fields.get("id2label")
    return fields.size("num_labels", len(names) if isinstance(names, dict) and names else DEFAULT_LABELS)


def _score(inputs: int, outputs: int, *, bias: bool = False, name: str = "score") -> Linear:
    return Linear(name, Component.VOCAB, inputs, outputs, bias)
