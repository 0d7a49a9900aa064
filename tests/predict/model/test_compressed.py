"""Attention over a window and over compressed entries, counted by hand and by loops."""

from hypothesis import given
from hypothesis import strategies as st

from predict.model.compressed import CompressedAttention, Compressor, EntryIndex
from predict.model.mixer import Store
from predict.model.reach import Entries, Window

# 4 heads of 6 in 2 groups; Q's latent 7, output latent 3 a group; a window of 5.
WINDOWED = CompressedAttention(heads=4, head_dim=6, query_rank=7, groups=2, output_rank=3, window=5)
HEAVY = CompressedAttention(4, 6, 7, 2, 3, 5, Compressor(rate=8, width=6))
SPARSE = CompressedAttention(4, 6, 7, 2, 3, 5, Compressor(4, 6, overlaps=True), EntryIndex(2, 3, chosen=2))
counts = st.integers(0, 40)


def shapes(mixer, hidden):
    return {linear.name: (linear.inputs, linear.outputs) for linear in mixer.linears(hidden)}


def test_every_layer_has_one_vector_for_all_heads_and_an_output_in_groups():
    # A group of 2 heads, 12 wide, has a matrix of its own to 3 of the 6 outputs.
    assert shapes(WINDOWED, 16) == {
        "attention.q_down": (16, 7),
        "attention.q_up": (7, 24),
        "attention.kv": (16, 6),
        "attention.out_down": (12, 6),
        "attention.out": (6, 16),
    }
    assert WINDOWED.other_params == 7 + 6 + 4  # norms of Q's latent and of the vector, a sink a head
    assert [(held.store, held.elements, held.reach) for held in WINDOWED.holds] == [(Store.KV, 6, Window(5))]


def test_a_compressor_adds_two_matrices_a_table_and_a_norm():
    assert shapes(HEAVY, 16).items() - shapes(WINDOWED, 16).items() == {
        ("compressor.kv", (16, 6)),
        ("compressor.weights", (16, 6)),
    }
    assert HEAVY.other_params - WINDOWED.other_params == 8 * 6 + 6
    # Entries of 6 for 8 tokens, and up to 7 tokens, projected and weighed, that wait for theirs.
    assert [(held.store, held.elements) for held in HEAVY.holds[1:]] == [(Store.KV, 6), (Store.CONV, 7 * 2 * 6)]
    assert HEAVY.kv_elements_per_token == 6 + 6 / 8
    assert HEAVY.kv_elements_beyond_windows == 6 / 8


def test_an_index_adds_small_queries_and_compressed_keys_of_its_own():
    # Overlapping entries: two projections of each token, of the vector (12) and of the index key (6).
    assert shapes(SPARSE, 16).items() - shapes(WINDOWED, 16).items() == {
        ("compressor.kv", (16, 12)),
        ("compressor.weights", (16, 12)),
        ("indexer.q", (7, 2 * 3)),
        ("indexer.compressor.kv", (16, 6)),
        ("indexer.compressor.weights", (16, 6)),
        ("indexer.weights", (16, 2)),
    }
    assert SPARSE.other_params - WINDOWED.other_params == (4 * 12 + 6) + (4 * 6 + 3)
    # Waiting: up to 3 tokens' projections and weights, and one half of those of the last 4.
    assert SPARSE.holds[2].elements == 3 * 2 * 12 + 4 * 2 * 6
    assert SPARSE.holds[4].elements == 3 * 2 * 6 + 4 * 2 * 3
    assert SPARSE.index_elements_per_token == 3 / 4
    assert SPARSE.text == "4 heads of 6 with one KV vector, an entry for 4 tokens, the best 2"


@given(st.integers(1, 40), counts, st.integers(1, 6), st.integers(1, 5))
def test_entries_are_seen_from_their_last_token_on(new, cached, rate, chosen):
    queries = [tokens // rate for tokens in range(cached + 1, cached + new + 1)]
    assert Entries(rate).pairs(new, cached) == sum(queries)
    assert Entries(rate, chosen).pairs(new, cached) == sum(min(entries, chosen) for entries in queries)
    assert Entries(rate).pairs_within(new, cached, chosen) == sum(each for each in queries if each <= chosen)
    assert Entries(rate).kept(cached) == cached // rate
    own = queries[0] - cached // rate  # the entry that the first query completes itself
    assert Entries(rate).seen(cached) == cached // rate
    assert Entries(rate, chosen).seen(cached) == min(cached // rate, chosen - own)


@given(st.integers(1, 40), counts)
def test_scores_are_those_of_window_and_entries(new, cached):
    seen = range(cached + 1, cached + new + 1)
    window, index, entries = SPARSE.mixing(new, cached, square=False)
    each = 4 * 4 * 6  # two products of 4 heads of 6
    assert window.flop == each * sum(min(tokens, 5) for tokens in seen)
    assert entries.flop == each * sum(min(tokens // 4, 2) for tokens in seen)
    assert index.flop == 2 * 2 * 3 * sum(tokens // 4 for tokens in seen if tokens // 4 > 2)
    made = (cached + new) // 4 - cached // 4
    assert entries.writes == index.writes == made
    assert index.reads == (cached // 4 if (cached + new) // 4 > 2 else 0)
    assert [work.name for work in HEAVY.mixing(new, cached, square=False)] == ["attention.scores", "attention.entries"]
    assert len(list(WINDOWED.mixing(new, cached, square=False))) == 1


def test_an_index_reads_the_keys_and_attention_the_entries():
    _, index, entries = SPARSE.mixing(1, 20, square=False)
    assert index.held is not None
    assert entries.held is not None
    assert (index.held.store, index.held.elements) == (Store.INDEX, 3)
    assert (entries.held.store, entries.held.elements) == (Store.KV, 6)
    assert (index.reads, entries.reads) == (5, 2)
