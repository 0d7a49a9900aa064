"""Every reach against loops over queries and keys."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from predict.model.reach import Chunk, Everything, TopK, Window

sees = {
    Everything: lambda query, key, tokens: True,
    Window: lambda query, key, tokens: query - key < tokens,
    Chunk: lambda query, key, tokens: key // tokens == query // tokens,
}
counts, sizes = st.integers(0, 30), st.integers(1, 12)


@pytest.mark.parametrize("kind", sees)
@given(st.integers(1, 30), counts, sizes)
def test_pairs_and_cached_tokens_are_those_that_a_loop_counts(kind, new, cached, tokens):
    reach = kind() if kind is Everything else kind(tokens)
    pairs = [(query, key) for query in range(cached, cached + new) for key in range(query + 1)]
    seen = [(query, key) for query, key in pairs if sees[kind](query, key, tokens)]
    assert reach.pairs(new, cached) == len(seen)
    assert reach.seen(cached) == len({key for _, key in seen if key < cached})


@pytest.mark.parametrize("kind", [Window, Chunk])
@given(counts, sizes)
def test_a_layer_keeps_enough_for_every_later_query_and_no_more(kind, context, tokens):
    # The most of the context that any query up to one reach later sees, the query's own place counted.
    reach = kind(tokens)
    needed = (
        max(sum(1 for key in range(length) if sees[kind](length - 1, key, tokens)) for length in range(1, context + 1))
        if context
        else 0
    )
    assert reach.kept(context) == needed
    assert reach.limit == tokens


def test_a_chunk_starts_anew_at_every_multiple():
    # Chunks of 4: tokens 0-3, 4-7. 6 queries see 1+2+3+4 and 1+2; with 5 cached the next sees token 4 and its own.
    chunk = Chunk(4)
    assert chunk.pairs(6, 0) == 10 + 3
    assert [chunk.seen(cached) for cached in (0, 3, 4, 5)] == [0, 3, 0, 1]
    assert [chunk.pairs(1, cached) for cached in (0, 3, 4, 5)] == [1, 4, 1, 2]
    assert [chunk.kept(context) for context in (0, 3, 4, 9)] == [0, 3, 4, 4]


@given(st.integers(1, 30), counts, sizes)
def test_the_best_k_are_at_most_k_and_all_stay_cached(new, cached, tokens):
    reach = TopK(tokens)
    assert reach.pairs(new, cached) == sum(min(query + 1, tokens) for query in range(cached, cached + new))
    assert reach.kept(cached) == cached
    assert reach.limit is None
    assert reach.seen(cached) == min(cached, tokens - 1)  # one place is the query's own


@pytest.mark.parametrize("reach", [Everything(), Window(7), Chunk(7), TopK(7)], ids=str)
def test_arrays_count_what_single_sizes_count(reach):
    new, cached = np.array([[1.0], [5.0], [20.0]]), np.array([0.0, 6.0, 7.0, 50.0])
    for i, j in np.ndindex(3, 4):
        assert reach.pairs(new, cached)[i, j] == reach.pairs(int(new[i, 0]), int(cached[j]))
    assert list(reach.seen(cached)) == [reach.seen(int(count)) for count in cached]
    assert list(reach.kept(cached)) == [reach.kept(int(count)) for count in cached]


def test_a_reach_says_what_it_is():
    assert [reach.text for reach in (Everything(), Window(4096), Chunk(8192), TopK(2048))] == [
        "",
        "window of 4096",
        "chunks of 8192",
        "the best 2048 tokens",
    ]
