import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clirscale.errors import ClirscaleError
from clirscale.retrieval import search
from clirscale.retrieval.search import POOL, PassageIndex

IDS = st.lists(st.text("ab1_é字\U0001f600", min_size=1, max_size=4), min_size=1, max_size=25, unique=True)
# Small whole numbers: products are exact, and ties are many. Halves and signs give negative and zero scores.
COMPONENT = st.sampled_from([-1.0, -0.5, -0.0, 0.0, 0.5, 1.0])


@st.composite
def problems(draw):
    ids = draw(IDS)
    langs = [draw(st.sampled_from(["de", "en", "zh"])) for _ in ids]
    vectors = [[draw(COMPONENT) for _ in range(2)] for _ in ids]
    queries = [[draw(COMPONENT) for _ in range(2)] for _ in range(draw(st.integers(1, 6)))]
    return ids, langs, np.array(vectors, np.float32), np.array(queries, np.float32)


def trec_order(ids, scores, members):
    """Score descending, then id descending."""
    return sorted(members, key=lambda i: (scores[i], ids[i]), reverse=True)


def every_pair(n, m):
    query, passage = np.divmod(np.arange(n * m), m)
    return query, passage


@settings(max_examples=100, deadline=None)
@given(problems(), st.integers(1, 30), st.sampled_from([1, 100, 10**9]))
def test_rankings_are_those_of_sorting(problem, depth, block_bytes):
    ids, langs, vectors, queries = problem
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "_BLOCK_BYTES", block_bytes)
        query, passage = every_pair(len(queries), len(ids))
        found = PassageIndex(ids, langs, vectors).search(queries, query, passage, depth)
    for q in range(len(queries)):
        scores = vectors @ queries[q]
        for corpus in (*set(langs), POOL):
            members = [i for i in range(len(ids)) if corpus in (POOL, langs[i])]
            expected = trec_order(ids, scores, members)
            top, top_scores = found.top(corpus, np.array([q]), depth)
            assert top[0].tolist() == expected[:depth]
            assert top_scores[0].tolist() == [scores[i] for i in expected[:depth]]
            ranks = (found.rank_in_pool if corpus == POOL else found.rank_in_language)[query == q]
            for rank, i in enumerate(expected, 1):
                assert ranks[i] == rank


def test_scores_that_differ_in_the_last_bit_are_not_a_tie():
    one = np.float32(0.7)
    vectors = np.array([[one], [np.nextafter(one, np.float32(1))], [np.nextafter(one, np.float32(0))]])
    found = PassageIndex(["a", "b", "c"], ["en"] * 3, vectors).search(np.ones((1, 1), np.float32), *every_pair(1, 3), 3)
    assert found.rank_in_pool.tolist() == [2, 1, 3]
    assert found.top(POOL, np.array([0]), 3)[1][0].tolist() == vectors[[1, 0, 2], 0].tolist()


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_scores_of_any_size_come_back_in_order(values):
    vectors = np.array(values, np.float32)[:, None]
    ids = [f"p{i:02}" for i in range(len(values))]
    found = PassageIndex(ids, ["en"] * len(ids), vectors).search(np.ones((1, 1), np.float32), *every_pair(1, 1), 99)
    top, scores = found.top("en", np.array([0]), 99)
    assert scores[0].tolist() == sorted(values, reverse=True)
    assert vectors[top[0], 0].tolist() == scores[0].tolist()


def test_minus_zero_ties_with_zero(monkeypatch):
    monkeypatch.setattr(search.faiss, "pairwise_distances", lambda *_: np.array([[-0.0, 0.0]], np.float32))
    one = np.ones((1, 1), np.float32)
    found = PassageIndex(["b", "a"], ["en", "en"], np.ones((2, 1), np.float32)).search(one, *every_pair(1, 2), 2)
    assert found.rank_in_pool.tolist() == [1, 2]


def test_blocks_give_the_same_as_one_search(monkeypatch):
    rng = np.random.default_rng(0)
    vectors, queries = (rng.integers(-3, 4, (n, 6)).astype(np.float32) for n in (300, 70))
    index = PassageIndex([f"p{i}" for i in range(300)], [("de", "en", "zh")[i % 3] for i in range(300)], vectors)
    query, passage = every_pair(70, 300)
    whole = index.search(queries, query, passage, 10)
    monkeypatch.setattr(search, "_BLOCK_BYTES", 300 * 32 * 16)  # 16 queries
    cut = index.search(queries, query, passage, 10)
    np.testing.assert_array_equal(cut.rank_in_pool, whole.rank_in_pool)
    np.testing.assert_array_equal(cut.rank_in_language, whole.rank_in_language)
    for corpus in index.languages:
        np.testing.assert_array_equal(cut.top_keys[corpus], whole.top_keys[corpus])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_vectors_that_are_not_finite(bad):
    good, broken = np.ones((3, 2), np.float32), np.full((3, 2), bad, np.float32)
    broken[0] = 1
    with pytest.raises(ClirscaleError, match=r"2 of 3 passage vectors are not finite.*Lower contrast\.lr"):
        PassageIndex(["a", "b", "c"], ["en"] * 3, broken)
    with pytest.raises(ClirscaleError, match="2 of 3 query vectors are not finite"):
        PassageIndex(["a", "b", "c"], ["en"] * 3, good).search(broken, *every_pair(3, 3), 1)


def test_scores_that_overflow():
    large = np.full((1, 2), 1e30, np.float32)
    with pytest.raises(ClirscaleError, match="vectors are too large"), np.errstate(over="ignore"):
        PassageIndex(["a"], ["en"], large).search(large, *every_pair(1, 1), 1)
