import pytest

pytest.importorskip("triton")
from kernels.triton.plan import Target, missing_unit, reads_operands_in_place


@pytest.mark.parametrize("architecture", [87, 103, 110, 121])
def test_relatives_of_known_architectures_multiply_as_these_do(architecture):
    """Orin, B300, Thor and GB10."""
    assert missing_unit("bf16", architecture) is None
    assert (missing_unit("fp8", architecture) is None) == (architecture >= 89)
    assert missing_unit("fp32", architecture) is None
    assert Target(architecture, 48).shared_bytes >= 99 * 1024


def test_a_format_without_a_unit_is_named():
    assert missing_unit("fp8", 86) == "sm86 has no fp8 tensor cores; supported: sm89, sm90, sm100, sm120"


def test_wide_products_of_hopper_and_blackwell_read_their_operands_in_place():
    wide = {
        architecture
        for architecture in (80, 89, 90, 100, 103, 120)
        if reads_operands_in_place(64, "bf16", architecture)
    }
    assert wide == {90, 100, 103}
    assert not reads_operands_in_place(32, "bf16", 90)
    assert not reads_operands_in_place(64, "fp32", 90)
