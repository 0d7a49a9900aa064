"""What an answer says of its expected times."""

import pytest

from tests.predict.answers.test_answer import notes


@pytest.mark.parametrize(
    ("gpu", "gpus", "is_said"),
    [("b200", 8, True), ("gb200", 4, True), ("h200", 8, False), ("h100", 8, False), ("b200", 1, False)],
)
def test_sums_by_the_library_are_named_where_no_engines_own_kernel_was_measured(gpu, gpus, is_said):
    assert ("are NCCL's" in notes("llama-3-70b", gpu, gpus=gpus, tp=gpus, batch=16, context=2048)) is is_said
