"""The search for a server: what it finds is in time, the cheapest, and on the front; what it cannot find is named."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from predict.answers.asking import ask
from predict.answers.machine import read_machines
from predict.answers.points import expected_values, point_values
from predict.answers.search import Search, pareto, search
from predict.answers.targets import Measure, Targets
from predict.errors import BadQuantity, MissingCeiling
from predict.expected.server import expected_load
from predict.formulas.memory import WEIGHT_FORMATS
from predict.model.server import Server


def find(targets, model="llama-3-8b", gpu="h100", gpus="1", price=None, weights=(None,), **fields) -> Search:
    machines = read_machines([gpu], [gpus], price)
    return search(ask(model, {"gpu": "h100", "seq": targets.isl, **fields}), machines, weights, targets)


def test_the_best_is_in_time_and_one_more_request_is_not():
    found = find(Targets(1000, 200, ttft_s=0.2, tpot_s=0.01), chunk=8192).best
    assert found.ttft_s <= 0.2
    assert found.tpot_s <= 0.01
    more = Server(found.server.replica, found.server.request).at(np.array([found.batch + 1.0]))
    assert more.tpot_s[0] > 0.01
    assert found.tokens_per_s == found.requests_per_s * 200
    # $2 an hour for that many tokens a second.
    assert found.usd_per_1m_tokens == pytest.approx(2 / (found.tokens_per_s * 3600) * 1e6)


def test_without_limits_the_best_makes_the_most_tokens_of_all_batches():
    found = find(Targets(1000, 200), chunk=2048).best
    server = found.server
    every = server.at(np.arange(1.0, server.largest_batch + 1))
    assert found.tokens_per_s == pytest.approx(every.tokens_per_s.max())


def test_a_price_decides_between_machines():
    # An H200 decodes 4.8/3.35 = 1.43 times as fast as an H100 and holds more.
    assert find(Targets(500, 500), gpu="h100,h200").best.question.gpu.name == "h200-sxm"
    assert find(Targets(500, 500), gpu="h100,h200", price="h100=1,h200=9").best.question.gpu.name == "h100-sxm"


def test_equal_prices_are_decided_by_the_fewest_gpus():
    points = find(Targets(100, 100), gpus="4,2,1").points
    assert points[0].usd_per_1m_tokens <= min(point.usd_per_1m_tokens for point in points) * (1 + 1e-6)
    equal = [point for point in points if math.isclose(point.usd_per_1m_tokens, points[0].usd_per_1m_tokens)]
    assert [point.gpus for point in equal] == sorted(point.gpus for point in equal)


def test_replicas_serve_the_requests_that_are_asked():
    alone = find(Targets(1000, 200, tpot_s=0.01)).best
    asked = 3.5 * alone.requests_per_s
    found = find(Targets(1000, 200, tpot_s=0.01, requests_per_s=asked)).best
    assert (found.replicas, found.gpus) == (4, 4)
    # Each gets 3.5/4 of what it could serve, with fewer running requests and shorter steps.
    assert found.requests_per_s * 4 >= asked
    assert found.batch < alone.batch
    assert found.tpot_s < alone.tpot_s
    assert found.usd_per_hour == 8
    assert found.usd_per_1m_tokens == pytest.approx(8 / (asked * 200 * 3600) * 1e6)
    # At expected times these replicas serve fewer, at a higher price.
    expected = expected_values(found)
    rate = 4 * expected["requests_per_s_expected"]
    assert rate < asked
    assert expected["usd_per_1m_tokens_expected"] == pytest.approx(8 / (rate * 200 * 3600) * 1e6)
    less = find(Targets(1000, 200, tpot_s=0.01, requests_per_s=1e-3)).best
    assert (less.replicas, less.batch) == (1, 1)


def test_layouts_are_searched_for_models_with_experts():
    # Latents cannot be split over tensor-parallel GPUs: copies of the attention hold eight times the requests.
    found = find(Targets(1000, 1000), model="deepseek-v3", gpu="b200", gpus="8", weights=(WEIGHT_FORMATS["fp8"],))
    assert (found.best.server.replica.layout.dp, found.best.server.replica.layout.ep) == (8, 8)
    fixed = find(Targets(1000, 1000), "deepseek-v3", "b200", "8", weights=(WEIGHT_FORMATS["fp8"],), tp="8")
    assert fixed.best.server.replica.layout.tp == 8
    assert fixed.best.tokens_per_s < found.best.tokens_per_s
    with pytest.raises(BadQuantity, match="pp=2: continuous batching"):
        find(Targets(1000, 1000), gpus="2", pp="2")


def test_expected_times_decide_where_they_are_asked():
    by_bound = find(Targets(1000, 200, tpot_s=0.015), gpu="h100,mi355x").best
    found = find(Targets(1000, 200, tpot_s=0.015, by=Measure.EXPECTED), gpu="h100,mi355x", gpus="1,2")
    assert by_bound.question.gpu.name == "mi355x"
    assert found.best.question.gpu.name == "h100-sxm"
    assert found.reasons == ("1 x mi355x, 2 x mi355x: no calibration of matmul in bf16 for mi355x is known",)
    values, expected = point_values(found.best), expected_values(found.best)
    assert values["tpot_s"] < expected["tpot_expected_s"] <= 0.015
    assert expected["usd_per_1m_tokens_expected"] == pytest.approx(found.best.usd_per_1m_tokens)
    assert values["usd_per_1m_tokens"] < expected["usd_per_1m_tokens_expected"]
    more = np.array([found.best.batch + 1.0])
    server = found.best.server
    assert found.best.batch == server.largest_batch or expected_load(server, more).tpot_s[0] > 0.015
    speeds = [point.tokens_per_s_per_user for point in found.fronts]
    assert speeds == sorted(speeds, reverse=True)
    with pytest.raises(MissingCeiling, match="no calibration of matmul in bf16 for mi355x"):
        find(Targets(1000, 200, by=Measure.EXPECTED), gpu="mi355x")


def test_formats_are_compared_where_several_are_asked():
    formats = (WEIGHT_FORMATS["bf16"], WEIGHT_FORMATS["fp8"])
    points = find(Targets(1000, 200), gpu="h100,a100", weights=formats).points
    products = {(point.question.gpu.name, point.question.weights_name): point.question.formats for point in points}
    # The H100 multiplies fp8, the A100 does not.
    assert products["h100-sxm", "fp8"].compute.name == "fp8"
    assert products["a100-sxm-80gb", "fp8"].compute.name == "bf16"
    assert points[0].question.weights_name == "fp8"
    kept = find(Targets(1000, 200), weights=formats, compute="bf16").points
    assert {point.question.compute_dtype.name for point in kept} == {"bf16"}


def test_what_is_out_of_reach_says_what_is_nearest():
    with pytest.raises(
        BadQuantity, match=r"no configuration reaches TTFT 1.00 ms and TPOT 1.00 us; the nearest has TTFT"
    ):
        find(Targets(1000, 200, 1e-3, 1e-6), gpu="h100,h200", gpus="1,2")
    # Alone a request of 8B in bf16 takes 15.01e9/3.35e12 s a step: 4.5 ms.
    with pytest.raises(BadQuantity, match=r"TPOT 4\.5\d ms \(1 x h100-sxm, bf16, batch 1"):
        find(Targets(1000, 200, tpot_s=1e-3))
    found = find(Targets(1000, 200, tpot_s=5e-3), gpu="h100,l4")
    assert [point.question.gpu.name for point in found.points] == ["h100-sxm"]
    assert "1 x l4, bf16, batch 1" in found.reasons[0]


def test_what_does_not_fit_anywhere_says_how_much_it_needs():
    with pytest.raises(
        BadQuantity, match=r"llama-3-70b does not fit with one request: it needs 141 GB of 80.2 GB, at least 2 GPUs"
    ):
        find(Targets(1000, 200), model="llama-3-70b", gpu="h100,l4")
    assert find(Targets(1000, 200), model="llama-3-70b", gpus="1,2").reasons == (
        "1 x h100-sxm: llama-3-70b does not fit with one request: it needs 141 GB of 80.2 GB, at least 2 GPUs",
    )
    with pytest.raises(MissingCeiling, match="compute=fp8"):
        find(Targets(1000, 200), gpu="a100", compute="fp8")


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ({"osl": 1}, "osl must be at least 2"),
        ({"isl": 0}, "isl must be a positive whole number"),
        ({"ttft_s": 0}, "ttft must be positive"),
        ({"tpot_s": -1}, "tpot must be positive"),
        ({"requests_per_s": 0}, "requests-per-s must be positive"),
    ],
)
def test_targets_out_of_range_are_refused(targets, message):
    with pytest.raises(BadQuantity, match=message):
        Targets(**{"isl": 1000, "osl": 200, **targets})


def test_machines_without_expected_times_are_compared_by_bounds():
    with pytest.raises(MissingCeiling, match="for mi300x is known; leave out --by to compare by bounds"):
        find(Targets(1000, 200, by=Measure.EXPECTED), model="llama-3.2-1b", gpu="mi300x", gpus="1")


points_2d = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=40)


@given(points_2d)
def test_no_point_of_a_front_is_dominated_and_every_other_is(points):
    x, y = np.array(points, dtype=float).T
    front = pareto(x, y)
    chosen = {(x[index], y[index]) for index in front}
    assert len(chosen) == len(front)
    assert list(x[front]) == sorted(x[front], reverse=True)

    def beats(a, b):
        return a != b and a[0] >= b[0] and a[1] >= b[1]

    every = {(float(a), float(b)) for a, b in points}
    assert chosen == {each for each in every if not any(beats(other, each) for other in every)}


def test_rounding_puts_no_point_on_a_front():
    # 0.1 + 0.2 is the same speed as 0.3, so that the second point beats the first: it gives more of y.
    assert list(pareto(np.array([0.1 + 0.2, 0.3, 0.2]), np.array([5.0, 6.0, 7.0]))) == [1, 2]


def test_the_front_of_a_gpu_runs_from_the_fastest_to_the_cheapest():
    found = find(Targets(1000, 200, ttft_s=0.5), gpu="h100,l4", gpus="1,2")
    for name in ("h100-sxm", "l4"):
        front = [point for point in found.fronts if point.question.gpu.name == name]
        speeds = [point.tokens_per_s_per_user for point in front]
        rates = [point.tokens_per_s_per_gpu for point in front]
        assert len(front) > 10
        assert speeds == sorted(speeds, reverse=True)
        assert rates == sorted(rates)
        assert max(point.ttft_s for point in front) <= 0.5
        best = max(point.tokens_per_s_per_gpu for point in found.points if point.question.gpu.name == name)
        assert rates[-1] == pytest.approx(best, rel=0.02)
