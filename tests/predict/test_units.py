import pytest

from predict.errors import BadWorkload
from predict.units import DTYPES, GB, GIB, binary_bytes, duration, find_dtype, percent, si


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (3.35e12, "B/s", "3.35 TB/s"),
        (989.4e12, "FLOP/s", "989 TFLOP/s"),
        (2250e12, "FLOP/s", "2.25 PFLOP/s"),
        (0, "B", "0 B"),
        (12.3, "W", "12.3 W"),
        (1.0, "x", "1.00 x"),
    ],
)
def test_si_keeps_three_figures_with_a_decimal_prefix(value, unit, text):
    assert si(value, unit) == text


@pytest.mark.parametrize(
    ("time_s", "text"),
    [(2.807e-5, "28.1 us"), (1.5, "1.50 s"), (0.0125, "12.5 ms"), (3e-9, "3.00 ns"), (3e-10, "0.300 ns")],
)
def test_duration_takes_the_largest_unit_that_leaves_a_figure_before_the_point(time_s, text):
    assert duration(time_s) == text


def test_percent_keeps_three_figures():
    assert percent(0.9312) == "93.1 %"
    assert percent(0.00123) == "0.123 %"
    assert percent(1.043) == "104 %"


def test_binary_and_decimal_bytes_are_kept_apart():
    assert GIB / GB == 1024**3 / 1000**3
    assert binary_bytes(80 * 2**30) == "80 GiB"
    assert binary_bytes(512) == "512 B"


def test_tf32_is_stored_in_32_bits_and_fp4_in_half_a_byte():
    assert find_dtype("tf32").bytes == 4
    assert find_dtype("fp4").bytes == 0.5
    assert find_dtype("bf16").bytes == 2


def test_an_unknown_dtype_is_refused_with_the_known_ones():
    with pytest.raises(BadWorkload, match=r"unknown dtype 'bf17'; known: fp64, .*fp4"):
        find_dtype("bf17")
    assert all(DTYPES[name].name == name for name in DTYPES)
