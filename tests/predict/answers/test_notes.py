"""Notes: words instead of keys, what changes a decision first, and nothing twice."""

import re

import pytest

from predict.answers.estimate import estimate
from predict.answers.lines import Weight
from predict.model.presets import PRESETS
from tests.predict.answers.asked import MACHINES, answered


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", PRESETS)
def test_notes_have_words_and_options_but_no_key_of_the_json(name, machine):
    found = answered(name, machine)
    keys = {key for key in found.flat() if "_" in key}
    for note in found.notes:
        assert keys & set(re.findall(r"\w+", note)) == set(), note
        assert not re.search(r"e[+]\d\d", note), note  # 8.5e+10


@pytest.mark.parametrize("machine", MACHINES)
def test_what_changes_a_decision_comes_first(machine):
    remarks = answered("llama-3-8b", machine).answer.remarks
    assert [note.weight for note in remarks] == sorted(note.weight for note in remarks)
    assert len({note.text for note in remarks}) == len(remarks)


def test_a_chunk_that_holds_the_prompt_is_said():
    found = estimate("llama-3-8b", gpu="h100", seq="1k", chunk="2k")
    assert found["chunked_prefill_s"] == found["prefill_s"]
    assert "a chunk of 2,048 tokens holds the whole prompt: chunked prefill is one pass" in found.notes
    assert "holds the whole prompt" not in "".join(estimate("llama-3-8b", gpu="h100", seq="4k", chunk="2k").notes)


def test_a_misfit_is_a_decision_and_a_missing_calibration_an_absence():
    weights = {note.text: note.weight for note in estimate("llama-3.1-405b", gpu="mi300x", overhead=0).answer.remarks}
    by_start = {text.split(":")[0]: weight for text, weight in weights.items()}
    assert by_start["the weights do not fit into 206.1 GB (192 GiB)"] is Weight.DECISION
    assert by_start["no expected time, only the bound"] is Weight.ABSENT
