"""Every arithmetic that a page explains has the value of its line, for every preset on several machines."""

import pytest

from predict.answers.arithmetic import amount, number, product, quotient, rounded_down, rounded_up, seconds
from predict.answers.estimate import estimate
from predict.model.presets import PRESETS
from tests.predict.answers.arithmetic import evaluate
from tests.predict.answers.asked import MACHINES, answered

WITHIN = 1e-3  # a time or an amount is shown with five figures


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", PRESETS)
def test_the_arithmetic_of_every_line_is_its_value(name, machine):
    lines = [line for line in answered(name, machine).lines.values() if line.arithmetic]
    assert len(lines) > 15  # fewer where a model of few heads cannot be served by that many GPUs
    wrong = {line.key: (line.arithmetic, line.value) for line in lines if not _agrees(line)}
    assert wrong == {}


def _agrees(line):
    return evaluate(line.arithmetic) == pytest.approx(line.value, rel=WITHIN)


def test_windows_are_a_sum_over_the_tokens_that_layers_keep():
    found = estimate("gemma-3-27b", gpu="h100", seq=8192, batch=3).lines["kv_bytes"]
    # 10 of 62 layers see all 8192 tokens, 52 the latest 1024; 2 x 16 KV heads x 128 x 2 B a layer: 8,192.
    assert found.value == 3 * (8192 * 10 * 8192 + 1024 * 52 * 8192)
    assert found.arithmetic == "3 x (1,024 x 425,984 + 8,192 x 81,920)"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1,024 x 2 + 3", 2051),
        ("2 x (1 + 1 / 4)", 2.5),
        ("max(dram 4.5 ms, link 20 us)", 4.5e-3),
        ("max(1,000, 20)", 1000),
        ("rounded up(10 / 4) + rounded down(10 / 4)", 5),
        ("6 TFLOP / 2", 3e12),
        ("1.5e-3 x 2^3", 0.012),
    ],
)
def test_the_evaluator_reads_what_a_page_writes(text, value):
    assert evaluate(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["42.6 % of the pass", "2 elements x 16 bits", "10 / 4, rounded down"])
def test_words_are_not_arithmetic(text):
    with pytest.raises(ValueError, match="not arithmetic"):
        evaluate(text)


def test_the_writers_write_what_the_evaluator_reads():
    assert evaluate(rounded_up(quotient(7, 2))) == 4
    assert evaluate(rounded_down(product(3, 2.5))) == 7
    assert evaluate(seconds(0.0123456)) == pytest.approx(0.0123456, rel=1e-4)
    assert evaluate(amount(31.842e12, "FLOP")) == pytest.approx(31.842e12, rel=1e-4)
    assert number(8_030_261_248) == "8,030,261,248"
