import faiss
import numpy as np
import pytest

from clirscale.errors import ClirscaleError
from clirscale.retrieval import approximate
from clirscale.retrieval.search import POOL, DenseScorer, PassageIndex

N, PASSAGES, DIM, DEPTH = 60, 1500, 16, 10
LANGUAGES = ["de", "en", "zh"]


def normal(seed, n):
    vectors = np.random.default_rng(seed).standard_normal((n, DIM)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def problem():
    index = PassageIndex([f"p{i}" for i in range(PASSAGES)], np.arange(PASSAGES) % 3, LANGUAGES)
    judged = np.repeat(np.arange(N), 3), np.random.default_rng(2).integers(0, PASSAGES, 3 * N)
    return index, DenseScorer(normal(0, N), normal(1, PASSAGES)), judged


def find(problem, kind, seed=0, sample=N, excluded=None):
    index, scorer, judged = problem
    return approximate.search(
        index, kind, scorer, N, ["en"] * N, *judged, DEPTH, excluded or {}, sample=sample, seed=seed
    )


def exactly(problem, excluded=None):
    index, scorer, judged = problem
    return index.search(scorer, N, ["en"] * N, *judged, DEPTH, excluded or {})


@pytest.mark.parametrize(("kind", "least"), [("ivf", 0.2), ("hnsw", 0.95), ("sq", 0.99)])
def test_the_recall_is_that_of_the_tops(problem, kind, least):
    found, recall = find(problem, kind)
    exact = exactly(problem)
    shares = [
        len(set(found.top(name, [q], DEPTH)[0][0]) & set(exact.top(name, [q], DEPTH)[0][0])) / DEPTH
        for name in (*LANGUAGES, POOL)
        for q in range(N)
    ]
    assert recall == pytest.approx(np.mean(shares))
    assert least <= recall <= 1


@pytest.mark.parametrize("kind", ["ivf", "hnsw", "sq"])
def test_scores_are_exact_and_the_same_seed_gives_the_same(problem, kind):
    found, recall = find(problem, kind)
    again, _ = find(problem, kind)
    _, scorer, _ = problem
    for name in (*LANGUAGES, POOL):
        np.testing.assert_array_equal(found.top_keys[name], again.top_keys[name])
        passages, scores = found.top(name, np.arange(N), DEPTH)
        query, column = np.nonzero(passages >= 0)
        np.testing.assert_array_equal(scores[query, column], scorer.pairs(query, passages[query, column]))
    assert find(problem, kind, sample=N)[1] == recall


def test_ranks_are_those_of_exact_search_where_all_is_found(problem):
    found, recall = find(problem, "sq")
    exact = exactly(problem)
    assert recall == 1
    for name in ("rank_in_language", "rank_in_pool", "rank_without_own"):
        ours, theirs = getattr(found, name), getattr(exact, name)
        near = theirs <= DEPTH
        np.testing.assert_array_equal(ours[near], theirs[near])
    assert np.isinf(found.rank_in_pool[exact.rank_in_pool > 2 * DEPTH]).all()


def test_excluded_passages_are_not_found(problem):
    best = exactly(problem).top(POOL, np.array([0]), 1)[0][0]
    found, recall = find(problem, "hnsw", excluded={0: best})
    assert best[0] not in found.top(POOL, np.array([0]), DEPTH)[0][0]
    assert recall > 0.9


def test_judged_passages_that_are_not_found_have_no_rank(problem):
    found, _ = find(problem, "ivf")
    index, _, (queries, passages) = problem
    for pair, (query, passage) in enumerate(zip(queries, passages, strict=True)):
        if passage in found.top(POOL, np.array([query]), DEPTH)[0][0]:
            assert found.rank_in_pool[pair] <= DEPTH
        else:
            assert found.rank_in_pool[pair] > DEPTH
    own = index.lang_codes[passages] == LANGUAGES.index("en")
    np.testing.assert_array_equal(np.isnan(found.rank_without_own), own)
    assert np.isinf(found.rank_in_pool).any()


def test_bad_vectors_are_refused_before_faiss_sees_them(problem):
    vectors = normal(1, PASSAGES)
    vectors[7] = np.nan
    index, _, judged = problem
    scorer = DenseScorer(normal(0, N), vectors, passage_ids=[f"p{i}" for i in range(PASSAGES)])
    for kind in ("ivf", "hnsw", "sq"):
        with pytest.raises(ClirscaleError, match=r"passage vectors are zero or not finite: p7\. "):
            find((index, scorer, judged), kind)


def test_a_corpus_of_one_language_is_indexed_once(monkeypatch):
    built = []
    factory = faiss.index_factory
    monkeypatch.setattr(faiss, "index_factory", lambda *args: built.append(args) or factory(*args))
    index = PassageIndex([f"p{i}" for i in range(50)], np.zeros(50, dtype=np.int64), ["de"])
    none = np.empty(0, dtype=np.int64)
    scorer = DenseScorer(normal(0, 5), normal(1, 50))
    found, recall = approximate.search(index, "sq", scorer, 5, ["de"] * 5, none, none, 60, {}, sample=5, seed=0)
    assert (len(built), recall) == (1, 1)
    np.testing.assert_array_equal(found.top_keys["de"], found.top_keys[POOL])


@pytest.mark.parametrize(("kind", "moved"), [("ivf", True), ("hnsw", False), ("sq", False)])
def test_indexes_go_to_gpus_that_can_hold_them(problem, monkeypatch, kind, moved):
    calls = []
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 2, raising=False)
    monkeypatch.setattr(faiss, "index_cpu_to_all_gpus", lambda index: calls.append(index) or index, raising=False)
    found, _ = find(problem, kind)
    assert bool(calls) == moved
    assert np.isfinite(found.rank_in_pool).any()
