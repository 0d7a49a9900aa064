"""The model's size: what is beside the decoder, and what its reader remarks."""

from predict.answers.answer import answer
from predict.answers.question import Question
from predict.gpus import resolve
from predict.model.config.reader import from_config

SMALL = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 100,
}
TOWER = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 56,
    "patch_size": 14,
}
PIXTRAL = {"model_type": "mistral3", "text_config": SMALL, "vision_config": TOWER}


def lines_and_notes(config):
    found = answer(Question(from_config(config, "it"), resolve("h100"), seq=128))
    return {line.key: line for section in found.sections for line in section.lines}, found.notes


def test_vision_has_a_line_and_is_part_of_what_the_file_holds():
    # 2 layers of 4 x 32 x 32 + 3 x 32 x 48 + 2 x 32; patches of 3 x 14 x 14; a norm; then a norm and matrices of
    # 128 x 32, 32 x 64 and 64 x 64.
    vision = 2 * (4 * 32 * 32 + 3 * 32 * 48 + 2 * 32) + 3 * 14 * 14 * 32 + 32
    vision += 32 + 128 * 32 + 32 * 64 + 64 * 64
    lines, notes = lines_and_notes(PIXTRAL)
    params = from_config(SMALL, "it").params
    assert lines["params"].value == params
    assert lines["vision_params"].value == vision
    assert lines["stored_params"].value == params + vision
    assert lines["weight_bytes"].value == 2 * (params + vision)
    assert "training counts the decoder alone, without the vision beside it" in notes


def test_a_model_without_vision_has_no_such_lines():
    lines, notes = lines_and_notes(SMALL)
    assert not lines.keys() & {"vision_params", "stored_params"}
    assert "training counts" not in "".join(notes)


def test_what_the_reader_of_a_file_remarks_is_told():
    _, notes = lines_and_notes(SMALL | {"odd": 1})
    assert "fields of the config that were not used: odd" in notes
