"""The page at several widths: nothing is wider, and no number is lost."""

import re

import pytest

from predict.answers.answer import answer
from predict.answers.lines import BOTH, SERVING, TRAINING
from predict.answers.page import page
from predict.answers.question import Question
from predict.gpus import resolve
from predict.model.presets import find_model

ASKED = {
    "dense": ("llama-3-8b", "h100", {}),
    "two GPUs": ("llama-3-70b", "h100", {"gpus": 2, "batch": 4, "seq": 8192, "context": 8192}),
    "mixture": ("deepseek-v3", "b200", {"gpus": 8}),
    "does not fit": ("gemma-3-27b", "l4", {"batch": 3}),
    "training": ("llama-3-70b", "h100", {"gpus": 64, "batch": 64}),
}


def shown(name, uses, width, *, explain=False):
    model, gpu, asked = ASKED[name]
    question = Question(find_model(model), resolve(gpu), **asked)
    text = page(question, answer(question), uses, explain=explain, width=width)
    return re.sub(r"\x1b\[\d+m", "", text)


def numbers(text):
    return sorted(re.findall(r"\d[\d.,]*", text))


@pytest.mark.parametrize("width", [80, 100, 120])
@pytest.mark.parametrize("uses", [SERVING, TRAINING, BOTH], ids=["serve", "train", "all"])
@pytest.mark.parametrize("name", ASKED)
def test_no_line_is_wider_than_the_page(name, uses, width):
    for explain in (False, True):
        lines = shown(name, uses, width, explain=explain).splitlines()
        assert [line for line in lines if len(line) > width] == []


@pytest.mark.parametrize("name", ASKED)
def test_a_narrow_page_has_every_number_of_a_wide_one(name):
    narrow, wide = numbers(shown(name, BOTH, 80)), numbers(shown(name, BOTH, 200))
    # A table that is cut repeats the names of its rows: the batches.
    assert [number for number in wide if number not in narrow] == []
    assert {number for number in narrow if number not in wide} == set()


def test_the_verdict_comes_first_and_the_notes_last():
    lines = shown("two GPUs", SERVING, 100).splitlines()
    assert lines[0] == "llama-3-70b on 2 x h100-sxm"
    assert lines[1].startswith("Fits: ")
    assert "Notes" in lines


def test_a_page_of_both_uses_says_which_verdict_is_whose():
    lines = shown("dense", BOTH, 100).splitlines()
    assert lines[1].startswith("Serving: Fits: ")
    assert sum(line.startswith("Training: Does not fit: ") for line in lines) == 1
    assert shown("dense", SERVING, 100).splitlines()[1].startswith("Fits: ")


def test_a_use_has_its_sections():
    serving, training = shown("dense", SERVING, 100), shown("dense", TRAINING, 100)
    for title in (
        "Memory: ",
        "Prefill: ",
        "Decode: ",
        "Where the time goes: decode",
        "Decode over the batch",
        "serving at",
    ):
        assert title in serving
        assert title not in training
    for title in ("Forward pass: ", "Training: ", "Where the time goes: training step", "training at"):
        assert title in training
        assert title not in serving


def test_details_and_arithmetic_are_explained_only_when_asked():
    plain, explained = shown("dense", SERVING, 100), shown("dense", SERVING, 100, explain=True)
    assert "8,030,261,248 x 16 / 8" in explained
    assert "8,030,261,248" not in plain
    assert explained.count("4.561 ms") > plain.count("4.561 ms")


def test_parts_that_overlap_are_said_to():
    # Two GPUs send in prefill while they compute; in a decode step of one GPU all parts wait for memory.
    assert "Their own bounds add up to" in shown("two GPUs", SERVING, 100)
    decode = shown("dense", SERVING, 100).partition("decode step, at least")[2].partition("Decode over")[0]
    assert "add up" not in decode
