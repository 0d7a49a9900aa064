"""What the controls say, as a question and as the command that asks the same."""

import functools
import json
import random
import shlex
from pathlib import Path

import pytest

from predict.commands.arguments import question_of
from predict.errors import BadModel, BadQuantity, NapkinError, UnknownGpu
from reports.explore.controls import CONTROLS, SHAPE, SHARED
from reports.explore.state import State

LLAMA = {
    "model_type": "llama",
    "vocab_size": 1000,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
TRAINING = ("recompute", "optimizer", "zero", "kernels", "price", "tokens", "mfu", "attention")


def state(**texts):
    return State.of(texts.items())


def test_without_an_address_the_page_asks_for_a_small_model_on_one_gpu():
    assert state().command() == "napkin-bench predict model llama-3-8b --gpu h100-sxm --gpus 1"
    q = state().question()
    assert (q.model.name, q.gpu.name, q.gpus, q.batch, q.seq, q.context) == ("llama-3-8b", "h100-sxm", 1, 1, 2048, 2048)


def test_names_are_read_under_any_spelling():
    said = state(model="Llama 3 70B", gpu="h200", draft="qwen3 0.6b")
    assert (said["model"], said["gpu"], said["draft"]) == ("llama-3-70b", "h200-sxm", "qwen3-0.6b")


@pytest.mark.parametrize(
    ("query", "error", "said"),
    [
        ([("bach", "1")], BadQuantity, "unknown parameter 'bach': did you mean batch"),
        ([("batch", "1"), ("batch", "2")], BadQuantity, "batch is given twice"),
        ([("lengths", "1," * 101)], BadQuantity, "lengths has more than 200 characters"),
        ([("model", "lama-3-8b")], BadModel, "unknown model 'lama-3-8b': did you mean llama-3-8b"),
        ([("model", "../config.json")], BadModel, "unknown model"),
        ([("gpu", "h101")], UnknownGpu, "unknown GPU 'h101'"),
        ([("gpu", "mine.JSON")], BadQuantity, "the page reads no file of a GPU"),
        ([("weights", "bf17")], BadQuantity, "Weights must be one of .*, not 'bf17'"),
        ([("recompute", "some")], BadQuantity, "Recomputation must be one of none"),
    ],
)
def test_what_no_control_can_say_is_refused(query, error, said):
    with pytest.raises(error, match=said):
        State.of(query)


@pytest.mark.parametrize("text", ["0", "65", "1.5", "many"])
def test_a_count_is_a_whole_number_within_its_bounds(text):
    with pytest.raises(BadQuantity, match="Slots must be a"):
        state(slots=text).size("slots", 1, 64)


def test_a_command_leaves_out_what_is_a_default_and_quotes_what_a_shell_would_read():
    assert state(recompute="none", price="2").command("recompute", "price").endswith("--gpus 1")
    odd = State.of([("file", "my $(model).json")], json.dumps(LLAMA).encode())
    assert shlex.split(odd.command())[3:5] == ["--config", "my $(model).json"]


def test_changes_of_the_shape_are_changes_of_the_configuration():
    said = state(kv_heads="32", layers="16")
    assert "--set num_hidden_layers=16 --set num_key_value_heads=32" in said.command()
    assert said.question().model.layers == 16


def test_of_two_controls_of_one_field_the_later_counts():
    """A section that trains has GPUs of its own."""
    said = state(gpus="2", train_gpus="64")
    assert said.question().gpus == 2
    assert said.question("train_gpus").gpus == 64
    assert said.command("train_gpus").count("--gpus") == 1


def test_cached_tokens_leave_the_prompt_as_it_is():
    q = state(context="64").question()
    assert (q.seq, q.context) == (2048, 64)
    assert state(context="64", model="gpt-2-small").question().seq == 1024  # all that it supports
    assert state(context="64").command().endswith("--context 64 --seq 2048")


def test_an_empty_control_is_at_its_default_and_reads_no_file():
    assert state(model="", gpu="", batch="").command() == state().command()


def test_an_acceptance_without_a_draft_asks_nothing():
    assert state(accept="50%").question("draft", "accept").draft is None
    assert state(accept="50%", draft="qwen3-0.6b").question("draft", "accept").acceptance == 0.5


def test_the_same_question_is_asked_once():
    assert state(batch="3").question() is state(batch="3", depth="7").question()


def random_texts(chance):
    """Texts of some controls: stops, choices, and shapes that divide."""
    texts = {"model": chance.choice(["llama-3-8b", "gpt-2-small", "qwen3-30b-a3b", "gemma-3-27b", "deepseek-v3"])}
    for name in chance.sample([*SHARED, *TRAINING], 6):
        control = CONTROLS[name]
        options = control.stops or tuple(value for value, _ in control.choices)
        texts.setdefault(name, chance.choice(options))
    if chance.random() < 0.3:
        texts["layers"] = str(chance.randrange(1, 20))
    return {name: text for name, text in texts.items() if text}


def answered(asks):
    """What a question assumes, or why it is refused."""
    try:
        return asks().assumptions()
    except NapkinError as error:
        return f"{type(error).__name__}: {error}"


def test_the_command_asks_the_same_question():
    """Read as the command line reads it, or refused in the same words."""
    chance, asked = random.Random(18), 0
    for _ in range(150):
        said = state(**random_texts(chance))
        arguments = said.command(*TRAINING).removeprefix("napkin-bench predict model ")
        ours = answered(functools.partial(said.question, *TRAINING))
        assert ours == answered(functools.partial(question_of, arguments, Path()))
        asked += not isinstance(ours, str)
    assert asked > 100


def test_a_dropped_configuration_is_the_model():
    q = State.of([("file", "tiny.json"), ("model", "llama-3-70b")], json.dumps(LLAMA).encode()).question()
    # Embedding and head of 1000 x 64; a layer has 4 matrices of 64 x 64, 3 of 64 x 128, 2 norms; one norm at the end.
    assert q.model.params == 2 * 1000 * 64 + 2 * (4 * 64 * 64 + 3 * 64 * 128 + 2 * 64) + 64
    assert q.model.name == "tiny"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "tiny.json is not valid JSON"),
        (b"[1]", "tiny.json holds no JSON object"),
        (b"[" * 100_000, "tiny.json is not"),
        (b"\xff\xfe\x00", "tiny.json is not"),
        (b"{}", "tiny.json"),
        (json.dumps({**LLAMA, "num_hidden_layers": 10**9}).encode(), "more than the 10000 layers"),
    ],
)
def test_what_is_no_model_gets_one_line(content, said):
    with pytest.raises(BadModel, match=said):
        State.of([("file", "tiny.json")], content).question()


def test_a_file_is_named_without_its_folder_and_without_signs_that_a_terminal_obeys():
    assert State.of([("file", "../../\x1b[31mx.json")]).file == r"\x1b[31mx.json"


def test_every_stop_and_choice_is_read():
    for name, control in CONTROLS.items():
        for text in (control.default, *control.stops, *(value for value, _ in control.choices)):
            assert state(**{name: text})[name] == text


def test_controls_of_the_shape_begin_as_the_model_has_it():
    assert {CONTROLS[name].default for name in SHAPE} == {""}
