import ir_measures
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clirscale.errors import ClirscaleError
from clirscale.retrieval.search import POOL, DenseScorer, PassageIndex

LANGUAGES = ["de", "en", "zh"]
IDS = st.lists(st.text("ab1_é字\U0001f600", min_size=1, max_size=4), min_size=1, max_size=25, unique=True)
# Small whole numbers: products are exact, and ties are many. Halves and signs give negative and zero scores.
COMPONENT = st.sampled_from([-1.0, -0.5, -0.0, 0.0, 0.5, 1.0])
VECTOR = st.lists(COMPONENT, min_size=2, max_size=2).filter(any)


class Given:
    """A scorer that has its scores."""

    def __init__(self, scores):
        self.matrix = np.asarray(scores, np.float32)

    def scores(self, queries, passages):
        return self.matrix[queries][:, passages]

    def pairs(self, queries, passages):
        return self.matrix[queries, passages]


@st.composite
def problems(draw):
    ids = draw(IDS)
    codes = np.array([draw(st.integers(0, 2)) for _ in ids])
    vectors = np.array([draw(VECTOR) for _ in ids], np.float32)
    queries = np.array([draw(VECTOR) for _ in range(draw(st.integers(1, 6)))], np.float32)
    excluded = draw(st.dictionaries(st.integers(0, len(queries) - 1), st.sets(st.integers(0, len(ids) - 1))))
    return ids, codes, vectors, queries, {q: np.array(sorted(p), dtype=np.int64) for q, p in excluded.items()}


def every_pair(n, m):
    query, passage = np.divmod(np.arange(n * m), m)
    return query, passage


def find(ids, codes, scorer, n, depth=10, excluded=None, query_lang="en", **how):
    judged = every_pair(n, len(ids))
    index = PassageIndex(ids, np.asarray(codes), LANGUAGES)
    return index.search(scorer, n, [query_lang] * n, *judged, depth, excluded or {}, **how)


def assert_equal(one, other):
    for corpus, keys in one.top_keys.items():
        np.testing.assert_array_equal(keys, other.top_keys[corpus])
    for name in ("rank_in_language", "rank_in_pool", "rank_without_own"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def trec_order(ids, scores, members):
    """Score descending, then id descending."""
    return sorted(members, key=lambda i: (scores[i], ids[i]), reverse=True)


@settings(max_examples=100, deadline=None)
@given(problems(), st.integers(1, 30), st.sampled_from([1, 3, 1000]), st.sampled_from([1, 100, 10**9]))
def test_rankings_are_those_of_sorting(problem, depth, shard, block_bytes):
    ids, codes, vectors, queries, excluded = problem
    scorer = DenseScorer(queries, vectors)
    found = find(ids, codes, scorer, len(queries), depth, excluded, shard=shard, block_bytes=block_bytes)
    query, _ = every_pair(len(queries), len(ids))
    for q in range(len(queries)):
        scores = vectors @ queries[q]
        for corpus in (*{LANGUAGES[c] for c in codes}, POOL, "not en"):
            inside = [corpus in (POOL, LANGUAGES[c]) or (corpus == "not en" and LANGUAGES[c] != "en") for c in codes]
            members = [i for i in range(len(ids)) if inside[i] and i not in excluded.get(q, ())]
            expected = trec_order(ids, scores, members)
            ranks = {POOL: found.rank_in_pool, "not en": found.rank_without_own}.get(corpus, found.rank_in_language)
            for rank, i in enumerate(expected, 1):
                assert ranks[query == q][i] == rank
            if corpus == "not en":
                continue
            top, top_scores = found.top(corpus, np.array([q]), depth)
            assert top[0][top[0] >= 0].tolist() == expected[:depth]
            assert top_scores[0][top[0] >= 0].tolist() == [scores[i] for i in expected[:depth]]
        for i in excluded.get(q, ()):
            assert found.rank_in_pool[query == q][i] == np.inf


@settings(max_examples=50, deadline=None)
@given(problems())
def test_ties_are_those_of_trec_eval(problem):
    ids, codes, vectors, queries, _ = problem
    found = find(ids, codes, DenseScorer(queries, vectors), len(queries))
    for q, query in enumerate(queries):
        run = {"q": {i: float(s) for i, s in zip(ids, vectors @ query, strict=True)}}
        for passage, passage_id in enumerate(ids):
            rank = ir_measures.calc_aggregate([ir_measures.RR], {"q": {passage_id: 1}}, run)[ir_measures.RR]
            assert 1 / found.rank_in_pool[q * len(ids) + passage] == pytest.approx(rank, abs=1e-9)


@pytest.mark.parametrize("dim", [5, 384])
def test_shards_and_blocks_of_any_size_give_the_same_to_the_bit(dim):
    rng = np.random.default_rng(0)
    vectors, queries = (rng.standard_normal((n, dim)).astype(np.float32) for n in (600, 33))
    for part in (vectors, queries):
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    vectors[300:400] = vectors[:100]  # duplicates: ties, which differ in the last bits for other shapes of a product
    ids, codes = [f"p{i * 7919 % 600}" for i in range(600)], np.arange(600) % 3
    whole = find(ids, codes, DenseScorer(queries, vectors), 33, shard=100_000)
    assert (whole.rank_in_pool.reshape(33, -1)[:, :100] != whole.rank_in_pool.reshape(33, -1)[:, 300:400]).all()
    for shard, block_bytes in ((1000, 10**9), (47, 10**9), (100_000, 10**5), (333, 1)):
        assert_equal(find(ids, codes, DenseScorer(queries, vectors), 33, shard=shard, block_bytes=block_bytes), whole)


@settings(max_examples=25, deadline=None)
@given(problems())
def test_rankings_with_ties_and_excluded_pairs_are_the_same_in_shards_and_blocks(problem):
    ids, codes, vectors, queries, excluded = problem
    vectors = np.concatenate([vectors, vectors])  # each twice
    ids, codes = [*ids, *(f"{name}'" for name in ids)], np.concatenate([codes, codes])
    scorer = DenseScorer(queries, vectors)
    whole = find(ids, codes, scorer, len(queries), excluded=excluded, shard=100_000, block_bytes=10**9)
    for shard, block_bytes in ((1, 10**9), (7, 1), (7, 10_000), (1000, 3000)):
        assert_equal(
            find(ids, codes, scorer, len(queries), excluded=excluded, shard=shard, block_bytes=block_bytes), whole
        )


def test_queries_rank_alike_in_other_company():
    rng = np.random.default_rng(3)
    vectors, queries = (rng.standard_normal((n, 96)).astype(np.float32) / 16 for n in (500, 40))
    ids, codes = [f"p{i}" for i in range(500)], np.arange(500) % 3
    together = find(ids, codes, DenseScorer(queries, vectors), 40)
    for q in (0, 17, 39):
        alone = find(ids, codes, DenseScorer(queries[q : q + 1], vectors), 1)
        np.testing.assert_array_equal(alone.rank_in_pool, together.rank_in_pool.reshape(40, -1)[q])
        np.testing.assert_array_equal(alone.top_keys[POOL][0], together.top_keys[POOL][q])


def test_sums_are_exact_up_to_the_longest_vectors_that_are_accepted():
    rng = np.random.default_rng(4)
    vectors, queries = (rng.standard_normal((n, 300)).astype(np.float32) for n in (40, 9))
    for part in (vectors, queries):
        part *= np.float32(5.5) / np.linalg.norm(part, axis=1, keepdims=True)
    vectors[:9] = queries  # the largest products: 5.5 squared is 30.25
    left, right = ([[round(float(x) * 2**24) for x in row] for row in part] for part in (queries, vectors))
    exact = [[float(np.float32(sum(a * b for a, b in zip(x, y, strict=True)) / 2**48)) for y in right] for x in left]
    assert DenseScorer(queries, vectors).scores(slice(0, 9), slice(0, 40)).tolist() == exact


def test_ranks_without_the_querys_own_language_are_not_defined_for_passages_in_it():
    found = find(["a", "b", "c"], [0, 1, 0], Given([[0.1, 0.5, 0.3]]), 1, query_lang="en")
    np.testing.assert_array_equal(found.rank_without_own, [2, np.nan, 1])
    found = find(["a", "b", "c"], [0, 1, 0], Given([[0.1, 0.5, 0.3]]), 1, query_lang="sw")  # no passage is in it
    np.testing.assert_array_equal(found.rank_without_own, found.rank_in_pool)


def test_judged_pairs_out_of_order():
    index = PassageIndex(["a", "b"], np.array([0, 0]), LANGUAGES)
    with pytest.raises(ValueError, match="not in the order of queries"):
        index.search(Given([[1, 2], [3, 4]]), 2, ["en"] * 2, np.array([1, 0]), np.array([0, 0]), 5)


def test_scores_are_dot_products_rounded_once():
    rng = np.random.default_rng(1)
    vectors, queries = (rng.standard_normal((n, 384)).astype(np.float32) for n in (50, 20))
    for part in (vectors, queries):
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    scorer = DenseScorer(queries, vectors)
    scores = scorer.scores(slice(0, 20), slice(0, 50))
    np.testing.assert_allclose(scores, queries.astype(np.float64) @ vectors.astype(np.float64).T, atol=2e-7)
    # By integers, for which no sum rounds: float32 of the exact dot product of the vectors on the grid.
    left, right = ([[round(float(x) * 2**24) for x in row] for row in part] for part in (queries, vectors))
    exact = [[np.float32(sum(a * b for a, b in zip(x, y, strict=True)) / 2**48) for y in right] for x in left]
    np.testing.assert_array_equal(scores, np.array(exact, np.float32))
    query, passage = every_pair(20, 50)
    np.testing.assert_array_equal(scorer.pairs(query, passage), scores.ravel())
    np.testing.assert_array_equal(scorer.scores(slice(3, 7), np.array([9, 2])), scores[3:7][:, [9, 2]])


def test_scores_that_differ_in_the_last_bit_are_not_a_tie():
    one = np.float32(0.7)
    scores = np.array([[one, np.nextafter(one, np.float32(1)), np.nextafter(one, np.float32(0))]])
    found = find(["a", "b", "c"], [1, 1, 1], Given(scores), 1)
    assert found.rank_in_pool.tolist() == [2, 1, 3]
    assert found.top(POOL, np.array([0]), 3)[1][0].tolist() == scores[0, [1, 0, 2]].tolist()


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_scores_of_any_size_come_back_in_order(values):
    values = np.array(values, np.float32) + np.float32(0)
    found = find([f"p{i:02}" for i in range(len(values))], [1] * len(values), Given([values]), 1, 99)
    top, scores = found.top("en", np.array([0]), 99)
    assert scores[0].tolist() == sorted(values.tolist(), reverse=True)
    assert values[top[0]].tolist() == scores[0].tolist()


def test_minus_zero_ties_with_zero():
    vectors = np.float32([[-1, 1], [1, -1], [1, 1]])
    scorer = DenseScorer(np.float32([[1e-9, 1e-9]]) + np.float32([[0, 1]]) * 0 + np.float32([[1, 1]]), vectors)
    assert str(scorer.scores(slice(0, 1), slice(0, 2)).tolist()) == "[[0.0, 0.0]]"
    assert find(["b", "a", "c"], [1] * 3, scorer, 1).rank_in_pool.tolist() == [2, 3, 1]


def test_what_is_not_retrieved_has_no_rank():
    found = find(["a", "b", "c"], [0, 1, 1], Given([[-np.inf, 0.5, -np.inf]]), 1)
    assert found.rank_in_pool.tolist() == [np.inf, 1, np.inf]
    assert found.rank_in_language.tolist() == [np.inf, 1, np.inf]
    assert found.top(POOL, np.array([0]), 3)[0].tolist() == [[1, -1, -1]]
    assert found.top("de", np.array([0]), 3)[0].tolist() == [[-1]]


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0])
def test_vectors_that_are_zero_or_not_finite(bad):
    good, broken = np.ones((3, 2), np.float32), np.full((3, 2), bad, np.float32)
    broken[0] = 1
    for queries, passages, kind in ((good, broken, "passage"), (broken, good, "query")):
        message = rf"vectors? of a {kind}|{kind} vectors are zero or not finite.*Lower contrast\.lr"
        with pytest.raises(ClirscaleError, match=message):
            find(["a", "b", "c"], [1] * 3, DenseScorer(queries, passages), 3)


def test_bad_vectors_are_named():
    vectors = np.ones((9, 2), np.float32)
    vectors[[1, 2, 3, 4, 6, 8]] = np.nan
    names = [f"p{i}" for i in range(9)]
    scorer = DenseScorer(np.ones((1, 2), np.float32), vectors, passage_ids=names)
    message = "^passage vectors are zero or not finite: p1, p2, p3, p4, p6 …. Training diverged"
    with pytest.raises(ClirscaleError, match=message):
        scorer.scores(slice(0, 1), slice(0, 9))
    with pytest.raises(ClirscaleError, match=r"not finite: p6, p8\. "):
        scorer.pairs(np.zeros(4, dtype=np.int64), np.array([8, 6, 8, 0]))
    with pytest.raises(ClirscaleError, match=r"not finite: row 8\. "):
        DenseScorer(np.ones((1, 2), np.float32), vectors).scores(slice(0, 1), slice(7, 9))


def test_a_vector_that_is_zero_on_the_grid():
    short = np.full((1, 2), 2.0**-26, np.float32)
    with pytest.raises(ClirscaleError, match="query vectors are zero or not finite: row 0"):
        DenseScorer(short, np.ones((1, 2), np.float32)).scores(slice(0, 1), slice(0, 1))


def test_vectors_too_long_for_exact_sums():
    long = np.full((1, 2), 5, np.float32)
    with pytest.raises(ClirscaleError, match=r"length up to 7\.07 are too long for exact search; normalise them"):
        find(["a"], [1], DenseScorer(long, long), 1)
