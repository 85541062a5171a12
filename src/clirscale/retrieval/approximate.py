"""Approximate search by indexes of FAISS, for corpora where exact search takes too long.

Each ranking that is asked for, of a language and of the pool of all, has an index of its own. What an index finds is
scored again by the exact scorer, so that scores and ties are those of exact search; passages that it does not find are
not retrieved. How much of the top of exact search it finds, its recall, is measured on a sample of the queries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import faiss
import numpy as np

from clirscale.retrieval.search import NOTHING, POOL, DenseScorer, Floats, Ints, PassageIndex, Rankings, Ranks

Kind = Literal["ivf", "hnsw", "sq"]

_SHARD = 65_536  # vectors added at a time
_TRAINING = 200_000  # vectors that an index is trained on, at most


def search(
    index: PassageIndex,
    kind: Kind,
    scorer: DenseScorer,
    n_queries: int,
    query_lang: Sequence[str],
    judged_query: Ints,
    judged_passage: Ints,
    depth: int,
    excluded: Mapping[int, Ints],
    *,
    sample: int,
    seed: int,
) -> tuple[Rankings, float]:
    """Rank the passages that approximate indexes find for each query.

    The arguments are those of :meth:`PassageIndex.search`, and:

    Args:
        kind: ``ivf`` (k-means cells, a sixteenth of which are looked into), ``hnsw`` (a graph of neighbours) or ``sq``
            (8 bits a component, all passages).
        sample: number of queries on which the recall is measured.
        seed: of the sample and of the indexes' training.

    Returns:
        The rankings, with infinite ranks for what was not found, and the share of the top ``depth`` of exact search
        that is in the top ``depth`` here, the mean over the sample and the rankings.
    """
    members = {lang: np.flatnonzero(index.lang_codes == code) for code, lang in enumerate(index.languages)}
    members[POOL] = np.arange(len(index.place))
    found = {name: _candidates(scorer, rows, n_queries, kind, depth, seed) for name, rows in members.items()}
    keys = {name: _keys(index, scorer, passages, excluded) for name, passages in found.items()}
    judged_keys = index.keys(scorer.pairs(judged_query, judged_passage), judged_passage)
    ranks = _ranks(index, keys, query_lang, judged_query, judged_passage, judged_keys)
    rankings = Rankings({name: top[:, :depth] for name, top in keys.items()}, *ranks, index.by_place)
    chosen = np.sort(np.random.default_rng(seed).permutation(n_queries)[:sample])
    none = np.empty(0, dtype=np.int64)
    exact = index.search(
        DenseScorer(_Rows(scorer.queries, chosen), scorer.passages, scorer.device),
        len(chosen),
        [query_lang[q] for q in chosen],
        none,
        none,
        depth,
        {i: excluded[q] for i, q in enumerate(chosen.tolist()) if q in excluded},
    )
    return rankings, _recall(rankings, exact, chosen)


def _candidates(scorer: DenseScorer, rows: Ints, n_queries: int, kind: Kind, depth: int, seed: int) -> Ints:
    """Return passages (n_queries, k) that an index finds, -1 where there are fewer; twice the depth, to re-score."""
    built = _build(scorer, rows, kind, seed)
    k = min(2 * depth, len(rows))
    if kind == "hnsw":
        built.hnsw.efSearch = max(128, 2 * k)
    found = np.empty((n_queries, k), dtype=np.int64)
    for begin in range(0, n_queries, _SHARD):
        block = slice(begin, min(begin + _SHARD, n_queries))
        found[block] = built.search(np.ascontiguousarray(scorer.queries[block]), k)[1]
    return np.where(found >= 0, rows[found], -1)


def _build(scorer: DenseScorer, rows: Ints, kind: Kind, seed: int) -> Any:
    dim = scorer.passages[rows[:1]].shape[1]
    cells = max(1, min(4 * int(len(rows) ** 0.5), len(rows) // 39))
    built: Any = faiss.index_factory(
        dim, {"ivf": f"IVF{cells},Flat", "hnsw": "HNSW32,Flat", "sq": "SQ8"}[kind], faiss.METRIC_INNER_PRODUCT
    )
    if kind == "ivf":
        built.cp.seed = seed
        built.nprobe = max(1, cells // 16)
    if not built.is_trained:
        chosen = np.random.default_rng(seed).permutation(len(rows))[:_TRAINING]
        built.train(scorer.passages[rows[np.sort(chosen)]])
    if kind != "hnsw" and getattr(faiss, "get_num_gpus", lambda: 0)() > 0:  # faiss-cpu knows of none
        built = faiss.index_cpu_to_all_gpus(built)
    threads = faiss.omp_get_max_threads()
    if kind == "hnsw":
        faiss.omp_set_num_threads(1)  # the graph depends on the order in which threads add to it
    try:
        for begin in range(0, len(rows), _SHARD):
            built.add(np.ascontiguousarray(scorer.passages[rows[begin : begin + _SHARD]]))
    finally:
        faiss.omp_set_num_threads(threads)
    return built


def _keys(index: PassageIndex, scorer: DenseScorer, passages: Ints, excluded: Mapping[int, Ints]) -> Ints:
    """Return the keys of candidates (n, k), descending, by exact scores."""
    query, column = np.nonzero(passages >= 0)
    keys = np.full(passages.shape, NOTHING)
    chosen = passages[query, column]
    keys[query, column] = index.keys(scorer.pairs(query, chosen), chosen)
    for row, without in excluded.items():
        keys[row, np.isin(passages[row], without)] = NOTHING
    return np.sort(keys, axis=1)[:, ::-1]


def _ranks(
    index: PassageIndex,
    keys: Mapping[str, Ints],
    query_lang: Sequence[str],
    judged_query: Ints,
    judged_passage: Ints,
    judged_keys: Ints,
) -> tuple[Ranks, Ranks, Ranks]:
    """Return the ranks of judged passages among what was found: in their language, the pool, the pool without own."""
    ranks = np.full((3, len(judged_query)), np.inf)
    languages = np.array(index.languages, dtype=object)
    for pair, (query, passage, key) in enumerate(zip(judged_query, judged_passage, judged_keys, strict=True)):
        language, pool = keys[languages[index.lang_codes[passage]]][query], keys[POOL][query]
        if key in language:
            ranks[0, pair] = 1 + np.count_nonzero(language > key)
        if key in pool:
            above = pool[pool > key]
            own = languages[index.lang_codes[index.by_place[above & 0xFFFFFFFF]]] == query_lang[query]
            ranks[1:, pair] = 1 + len(above), 1 + len(above) - np.count_nonzero(own)
    return ranks[0], ranks[1], ranks[2]


def _recall(found: Rankings, exact: Rankings, chosen: Ints) -> float:
    shares = []
    for name, wanted in exact.top_keys.items():
        top = found.top_keys[name][chosen]
        for row, keys in zip(top, wanted, strict=True):
            there = keys[keys != NOTHING]
            shares.append(np.isin(there, row).mean() if len(there) else 1.0)
    return float(np.mean(shares))


class _Rows:
    """Some rows of a source of vectors."""

    def __init__(self, source: Any, rows: Ints) -> None:
        self._source, self._rows = source, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, rows: slice | Ints) -> Floats:
        vectors: Floats = self._source[self._rows[rows]]
        return vectors
