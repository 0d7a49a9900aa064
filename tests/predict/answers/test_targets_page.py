"""What the page shows of a search."""

from predict.answers.targets_page import FRONT_POINTS, spread


def test_the_points_shown_are_even_along_the_front_where_most_of_it_is_crowded():
    # Each doubling of the speed halves the rate of a GPU. 50 more points lie between 1 and 2 tokens/s.
    doublings = [2.0**power for power in range(FRONT_POINTS)]
    speeds = sorted([*doublings, *(1 + index / 51 for index in range(1, 51))], reverse=True)
    front = [{"gpu": "g", "tokens_per_s_per_user": speed, "tokens_per_s_per_gpu": 128 / speed} for speed in speeds]
    assert [point["tokens_per_s_per_user"] for point in spread(front)] == doublings[::-1]
    assert spread(front[:1]) == front[:1]
