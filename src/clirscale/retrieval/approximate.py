"""Approximate search by indexes of FAISS, for corpora where exact search takes too long.

Each ranking that is asked for, of a language and of the pool of all, has an index of its own. What an index finds is
scored again by the exact scorer, so that scores and ties are those of exact search; passages that it does not find are
not retrieved. How much of the top of exact search it finds, its recall, is measured on a sample of
the queries.

The same seed gives the same result: it draws the training sample and starts k-means. Graphs (``hnsw``) are built in one
thread, because the order in which threads add to them would matter. GPUs are used where faiss-gpu finds some, by
``ivf``; the other kinds exist on the CPU only. There the last bits of the centroids, and so what is found, may differ
from those of a CPU.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import faiss
import numpy as np

from clirscale.retrieval.search import (
    NOTHING,
    POOL,
    DenseScorer,
    Floats,
    Ints,
    PassageIndex,
    Rankings,
    Ranks,
    VectorSource,
    codes_of,
)

Kind = Literal["ivf", "hnsw", "sq"]

_SHARD = 65_536  # vectors added at a time
_TRAINING = 200_000  # vectors that an index is trained on, at most
_MOST_ON_GPU = 2048  # results a query that FAISS returns from a GPU


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
        The rankings, with infinite ranks for what is not among the 2 · ``depth`` passages that an index is asked for;
        and the share of the top ``depth`` of exact search that is in the top ``depth`` here, the mean over the rankings
        of the sample.

    Raises:
        ClirscaleError: a vector is not finite, is zero or too long.
    """
    keys = _found(index, kind, scorer, n_queries, depth, excluded, seed)
    judged_keys = index.keys(scorer.pairs(judged_query, judged_passage), judged_passage)
    ranks = _ranks(index, keys, codes_of(query_lang, index.languages), judged_query, judged_passage, judged_keys)
    rankings = Rankings({name: found[:, :depth] for name, found in keys.items()}, *ranks, index.by_place)
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


def _found(
    index: PassageIndex,
    kind: Kind,
    scorer: DenseScorer,
    n_queries: int,
    depth: int,
    excluded: Mapping[int, Ints],
    seed: int,
) -> dict[str, Ints]:
    """Return keys of candidates (n_queries, 2 · depth or fewer) by language and :data:`POOL`, best first."""
    keys: dict[str, Ints] = {}
    for name, rows in _members(index).items():
        if name == POOL and len(index.languages) == 1:
            keys[name] = keys[index.languages[0]]
        else:
            found = _candidates(scorer, rows, n_queries, kind, depth, seed)
            keys[name] = _keys(index, scorer, found, excluded)
    return keys


def _members(index: PassageIndex) -> dict[str, Ints]:
    members = {lang: np.flatnonzero(index.lang_codes == code) for code, lang in enumerate(index.languages)}
    return {**members, POOL: np.arange(len(index.place))}


def _candidates(scorer: DenseScorer, rows: Ints, n_queries: int, kind: Kind, depth: int, seed: int) -> Ints:
    """Return passages (n_queries, k) that an index finds, -1 where there are fewer; twice the depth, to re-score."""
    k = min(2 * depth, len(rows))
    found = np.full((n_queries, k), -1)
    if k:
        built = _build(scorer, rows, kind, k, seed)
        for begin in range(0, n_queries, _SHARD):
            block = slice(begin, min(begin + _SHARD, n_queries))
            found[block] = built.search(_vectors(scorer, "query", block), k)[1]
    return np.where(found >= 0, rows[found], -1) if k else found


def _build(scorer: DenseScorer, rows: Ints, kind: Kind, k: int, seed: int) -> Any:
    """Return an index of some passages that will be asked for k of them."""
    dim = scorer.passages[rows[:1]].shape[1]
    cells = max(1, min(4 * int(len(rows) ** 0.5), len(rows) // 39))  # k-means wants 39 vectors a cell
    built: Any = faiss.index_factory(
        dim, {"ivf": f"IVF{cells},Flat", "hnsw": "HNSW32,Flat", "sq": "SQ8"}[kind], faiss.METRIC_INNER_PRODUCT
    )
    if kind == "ivf":
        built.cp.seed = seed
        built.nprobe = max(1, cells // 16)
    if kind == "hnsw":
        built.hnsw.efSearch = max(128, 2 * k)
    if not built.is_trained:
        chosen = np.random.default_rng(seed).permutation(len(rows))[:_TRAINING]
        built.train(_vectors(scorer, "passage", rows[np.sort(chosen)]))
    if kind == "ivf" and k <= _MOST_ON_GPU and _gpus() > 0:
        built = faiss.index_cpu_to_all_gpus(built)
    with _threads(1 if kind == "hnsw" else faiss.omp_get_max_threads()):
        for begin in range(0, len(rows), _SHARD):
            built.add(_vectors(scorer, "passage", rows[begin : begin + _SHARD]))
    return built


def _vectors(scorer: DenseScorer, kind: Literal["query", "passage"], rows: slice | Ints) -> Floats:
    """Return vectors, after the checks of exact search, as FAISS wants them."""
    return np.ascontiguousarray(scorer.vectors(kind, rows).values, dtype=np.float32)


def _gpus() -> int:
    count: int = getattr(faiss, "get_num_gpus", lambda: 0)()  # faiss-cpu may not have it
    return count


@contextlib.contextmanager
def _threads(number: int) -> Iterator[None]:
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(number)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


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
    query_lang: Ints,
    judged_query: Ints,
    judged_passage: Ints,
    judged_keys: Ints,
) -> tuple[Ranks, Ranks, Ranks]:
    """Return the ranks of judged passages among what was found: in their language, the pool, the pool without own."""
    ranks = np.full((3, len(judged_query)), np.inf)
    codes = index.lang_codes[judged_passage]
    for pair, (query, code, key) in enumerate(zip(judged_query, codes, judged_keys, strict=True)):
        language, pool = keys[index.languages[code]][query], keys[POOL][query]
        if key in language:
            ranks[0, pair] = 1 + np.count_nonzero(language > key)
        if key in pool:
            above = pool[pool > key]
            own = index.lang_codes[index.by_place[above & 0xFFFFFFFF]] == query_lang[query]
            ranks[1:, pair] = 1 + len(above), 1 + len(above) - np.count_nonzero(own)
    ranks[2, codes == query_lang[judged_query]] = np.nan
    return ranks[0], ranks[1], ranks[2]


def _recall(found: Rankings, exact: Rankings, chosen: Ints) -> float:
    shares = []
    for name, wanted in exact.top_keys.items():
        for row, keys in zip(found.top_keys[name][chosen], wanted, strict=True):
            there = keys[keys != NOTHING]
            if len(there):
                shares.append(np.isin(there, row).mean())
    return float(np.mean(shares)) if shares else 1.0


class _Rows:
    """Some rows of a source of vectors."""

    def __init__(self, source: VectorSource, rows: Ints) -> None:
        self._source, self._rows = source, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, rows: slice | Ints) -> Floats:
        return self._source[self._rows[rows]]
