"""The load of a run: lengths, requests in flight by Little's law, and what options say instead of the file."""

import pytest

from predict.errors import BadQuantity
from reports.served.load import Given, fill, find_load
from reports.served.log import ServedLog, Spread

NOTHING = Given()


def served(**fields):
    """10 requests/s of 100 tokens in and 11 out: TTFT 0.5 s, TPOT 0.05 s."""
    known = {
        "file": "log.json",
        "form": "a tool",
        "requests": 1000,
        "isl": 100.0,
        "osl": 11.0,
        "requests_per_s": 10.0,
        "output_tokens_per_s": 110.0,
        "total_tokens_per_s": 1110.0,
        "ttft": Spread(0.5),
        "tpot": Spread(0.05),
    }
    return ServedLog(**{**known, **fields})


def test_requests_in_flight_are_rate_times_latency():
    # Latency: 0.5 + 10 x 0.05 = 1 s.
    load = find_load(served(), NOTHING)
    assert load.in_flight == pytest.approx(10 * 1.0)
    assert load.decoding == pytest.approx(10 * 0.5)
    assert any("TTFT + 10 x TPOT (Little's law)" in note for note in load.notes)


def test_a_latency_in_the_file_goes_before_one_that_is_added_up():
    load = find_load(served(latency=Spread(1.2)), NOTHING)
    assert (load.in_flight, load.decoding) == pytest.approx((12, 10 * (1.2 - 0.5)))


def test_what_the_tool_counted_goes_before_both_and_the_user_before_all():
    assert find_load(served(latency=Spread(1.2), in_flight=11.5), NOTHING).in_flight == 11.5
    assert find_load(served(latency=Spread(1.2), in_flight=11.5), Given(concurrency=16.0)).in_flight == 16


def test_without_times_the_limit_of_a_closed_loop_stands_for_requests_in_flight():
    load = find_load(served(ttft=None, tpot=None, most_in_flight=8.0), NOTHING)
    assert (load.in_flight, load.decoding) == (8, None)
    assert find_load(served(ttft=None, tpot=None), NOTHING).in_flight is None


def test_a_decoding_request_holds_its_prompt_and_half_of_its_output_on_average():
    # 10 decode steps after 100, 101, ... 109 cached tokens.
    assert find_load(served(), NOTHING).context == round(sum(range(100, 110)) / 10)


def test_a_length_that_is_told_with_the_other_is_the_rest():
    log = served(isl=None, osl=None, tokens=111.0, output_tokens_per_s=None, ttft=None, tpot=None)
    for given in (Given(osl=11), Given(isl=100)):
        filled = fill(log, given)
        assert (filled.isl, filled.osl, filled.output_tokens_per_s) == (100, 11, 110)


def test_a_batch_whose_latency_is_known_needs_its_size_and_lengths():
    log = ServedLog(file="log.json", form="a tool", latency=Spread(2.0))
    filled = fill(log, Given(isl=100, osl=11, concurrency=8.0))
    assert (filled.requests_per_s, filled.output_tokens_per_s, filled.total_tokens_per_s) == (4, 44, 444)
    assert find_load(filled, Given(concurrency=8.0)).in_flight == 8
    with pytest.raises(BadQuantity, match="does not say how many requests its batch has: give --concurrency"):
        fill(log, Given(isl=100, osl=11))


@pytest.mark.parametrize(
    ("fields", "given", "message"),
    [
        ({"isl": None, "osl": None}, NOTHING, "how long prompts and outputs are: give --isl and --osl, in tokens"),
        ({"isl": None, "osl": None, "tokens": 111.0}, NOTHING, "give one of --isl and --osl"),
        ({"isl": None, "osl": None, "tokens": 111.0}, Given(isl=111), "has 111 tokens per request"),
    ],
)
def test_missing_lengths_are_asked_for_by_their_options(fields, given, message):
    with pytest.raises(BadQuantity, match=message):
        fill(served(**fields), given)


@pytest.mark.parametrize("osl", [0.4, 1.0])
def test_requests_of_one_token_have_no_decode_step(osl):
    with pytest.raises(BadQuantity, match=f"makes {osl:.3g} tokens per request: there is no decode step to compare"):
        find_load(fill(served(osl=osl), NOTHING), NOTHING)


def test_cached_prompt_tokens_come_from_the_file_or_the_user():
    assert find_load(served(cached=40.4), NOTHING).cached == 40
    assert find_load(served(cached=40.4), Given(prefix=0)).cached == 0
    with pytest.raises(BadQuantity, match="prefix=100 must be less than the 100 tokens of the prompt"):
        find_load(served(), Given(prefix=100))


def test_tokens_of_a_step_are_one_unless_file_or_user_say_more():
    assert find_load(served(), NOTHING).tokens_per_step == 1
    assert find_load(served(tokens_per_step=2.8), NOTHING).tokens_per_step == 2.8
    assert find_load(served(tokens_per_step=2.8), Given(tokens_per_step=3.0)).tokens_per_step == 3
