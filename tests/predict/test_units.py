import pytest

from predict.errors import BadQuantity, BadWorkload
from predict.units import (
    DTYPES,
    GB,
    GIB,
    Kind,
    binary_bytes,
    duration,
    find_dtype,
    kind_of,
    people_count,
    percent,
    read_quantity,
    si,
)


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


@pytest.mark.parametrize(
    ("text", "kind", "number"),
    [
        ("512", Kind.SIZE, 512),
        ("8k", Kind.SIZE, 8 * 1024),
        ("1.5K", Kind.SIZE, 1536),
        ("1M", Kind.SIZE, 1024 * 1024),
        ("4_096", Kind.SIZE, 4096),
        ("131,072", Kind.SIZE, 131_072),
        ("1e3", Kind.SIZE, 1000),
        ("-4", Kind.SIZE, -4),
        ("125M", Kind.AMOUNT, 125_000_000),
        ("50e9", Kind.BYTES_PER_S, 50 * 10**9),
        ("50GB/s", Kind.BYTES_PER_S, 50 * 10**9),
        ("50 gb", Kind.BYTES_PER_S, 50 * 10**9),
        ("400Gb/s", Kind.BYTES_PER_S, 50 * 10**9),
        ("400Gbit/s", Kind.BYTES_PER_S, 50 * 10**9),
        ("400 Gbps", Kind.BYTES_PER_S, 50 * 10**9),
        ("80Gb", Kind.BYTES, 80 * 10**9),
        ("70.6B", Kind.AMOUNT, 70_600_000_000),
        ("15T", Kind.AMOUNT, 15_000_000_000_000),
        ("989.4TFLOP/s", Kind.AMOUNT, 989_400_000_000_000),
        ("80GB", Kind.BYTES, 80_000_000_000),
        ("80 GiB", Kind.BYTES, 80 * 2**30),
        ("450GB/s", Kind.BYTES, 450_000_000_000),
        ("80e9", Kind.BYTES, 80_000_000_000),
        ("30ms", Kind.SECONDS, 0.03),
        ("2", Kind.SECONDS, 2),
        (".5", Kind.PLAIN, 0.5),
        ("45%", Kind.SHARE, 0.45),
        ("100 %", Kind.SHARE, 1),
        ("0.45", Kind.SHARE, 0.45),
    ],
)
def test_numbers_are_read_as_people_write_them(text, kind, number):
    found = read_quantity(text, "x", kind)
    assert found == number
    assert type(found) is type(number)


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("many", Kind.SIZE, r"x must be a number such as 512, 8k \(8 x 1024\) or 1M \(1024 x 1024\), not 'many'"),
        ("", Kind.SIZE, "not ''"),
        ("k", Kind.SIZE, "not 'k'"),
        ("nan", Kind.PLAIN, "not 'nan'"),
        ("45%", Kind.PLAIN, "not '45%'"),
        ("1,4", Kind.SIZE, "not '1,4'"),  # a list, not a number
        ("80G", Kind.BYTES, r"80GB \(decimal\) or 80GiB \(binary\), not '80G'"),
        ("\u0663", Kind.SIZE, "must be a number"),  # a digit, but not of this alphabet
        ("1e99", Kind.AMOUNT, "too large"),
    ],
)
def test_a_number_that_is_not_understood_says_what_is(text, kind, message):
    with pytest.raises(BadQuantity, match=message):
        read_quantity(text, "x", kind)


def test_the_unit_in_a_name_says_what_a_number_counts():
    assert kind_of("hbm_bytes") is Kind.BYTES
    assert kind_of("bandwidth_bytes_per_s") is kind_of("link_between_nodes_bytes_per_s") is Kind.BYTES_PER_S
    assert kind_of("params") is kind_of("peak_flop_per_s") is Kind.AMOUNT
    assert kind_of("ttft_s") is Kind.SECONDS
    assert kind_of("tokens_per_s") is kind_of("seq") is Kind.SIZE


def test_counts_are_printed_for_people():
    assert people_count(15e12) == "15T"
    assert people_count(1.4e12) == "1.4T"
    assert people_count(160_605_224_960) == "160.6B"
    assert people_count(8192) == "8,192"
