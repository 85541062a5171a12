"""Exact search over passages in several languages: complete rankings in bounded memory.

Every setting ranks the same scores: a language's own ranking is that of the multilingual pool restricted to the
language. So each query is scored once against every passage, a shard of passages and a block of queries at a time, and
what the measures need is read off: the rank of each judged passage, by counting what stands above it, and the top of
each ranking. Counting and selecting are linear in the number of passages.

**Exact.** A sum of floats depends on its order, and a matrix product takes another order for another shape: with
float32, the last bits of a score change with the size of a block, and with them ties and ranks. :class:`DenseScorer`
makes the order irrelevant:

1. Components are rounded to multiples of 2^-24. From 1/2 on float32 has no finer digits, so these do not move, and
   smaller ones by 2^-25 at most.
2. Each product of two components, and so each sum of products, is a multiple of 2^-48.
3. Each product, and each sum of some of them, is at most |q||p| in size: by Cauchy and Schwarz, for the components of
   any subset of the dimensions.
4. Double precision holds every multiple of 2^-48 up to 2^(53 - 48) = 32 in size. So where |q||p| <= 32, as is checked,
   no product and no addition rounds, fused or not, in whatever order, on however many threads, on whatever device.

This holds for any way of computing the product of matrices by adding products, which is what BLAS libraries do. Only
the result is rounded, to float32. Vectors need not be normalised, but ones much shorter than 1 lose digits on the grid.

**Order.** It is trec_eval's: score (float32) descending, then passage id descending (by UTF-8 bytes). Both are packed
into one integer, the *key*: above, the bits of the score, mapped so that integers compare as the floats do; below, the
passage's place in the order of ids. The keys of a query never tie.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch

from clirscale.errors import ClirscaleError

#: Name of the ranking of all languages together, beside those of single languages.
POOL = "*"

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Ranks = npt.NDArray[np.float64]
Ids: TypeAlias = pa.ChunkedArray | Sequence[str]

#: Key of what is not retrieved: below every other.
NOTHING = np.int64(np.iinfo(np.int64).min)

_SHARD = 16_384  # passages whose vectors are in memory at a time
_BLOCK_BYTES = 200_000_000  # working memory of a block of queries …
_BYTES_PER_SCORE = 24  # … and what one score takes of it: 8 as a double, 4 as a float, 40 in the parts being sorted
_PARTS = 8  # of a block that a thread sorts, one after the other; it has the keys of one in memory
_MERGED = 1_000_000  # keys of languages that are merged at a time
_PAIRS = 1024  # whose vectors are in memory, and mostly in the processor's caches, at a time
_NAMED = 5  # ids in a message
_GRID = 2.0**24
_LARGEST_PRODUCT = 31.0  # of two norms; below 32, because the norms are rounded themselves


class VectorSource(Protocol):
    """Vectors by row, in memory or on disk."""

    def __len__(self) -> int: ...
    def __getitem__(self, rows: slice | Ints) -> Floats: ...


class Scorer(Protocol):
    """Scores queries against passages, the same pair always alike; ``-inf`` for what is not retrieved."""

    def scores(self, queries: slice, passages: slice | Ints) -> Floats:
        """Return the matrix of scores (queries, passages)."""
        ...

    def pairs(self, queries: Ints, passages: Ints) -> Floats:
        """Return the scores of m pairs (m,)."""
        ...


class DenseScorer:
    """Dot products of vectors, exact to the float32 that they are rounded to.

    The passages of the last slice that was asked for stay in memory, in double precision: every block of queries is
    scored against them.

    Args:
        queries: vectors.
        passages: vectors of the same dimension; read by shards.
        device: where the products are computed; the scores are the same everywhere. It must have float64.
        query_ids: names for messages; the numbers of the rows by default.
        passage_ids: the same for passages.
    """

    def __init__(
        self,
        queries: VectorSource,
        passages: VectorSource,
        device: torch.device | str = "cpu",
        query_ids: Ids | None = None,
        passage_ids: Ids | None = None,
    ) -> None:
        self.queries, self.passages, self.device = queries, passages, torch.device(device)
        self._sources = {"query": (queries, query_ids), "passage": (passages, passage_ids)}
        self._kept: tuple[slice, _OnGrid, torch.Tensor] | None = None

    def scores(self, queries: slice, passages: slice | Ints) -> Floats:
        """See :class:`Scorer`.

        Raises:
            ClirscaleError: a vector is zero, is not finite, or is too long for exact sums.
        """
        left = self.vectors("query", queries)
        right, moved = self._moved(passages)
        _check_products(left.longest * right.longest)
        found: Floats = (self._move(left) @ moved.T).cpu().numpy().astype(np.float32)
        found += np.float32(0)  # makes -0.0 the same as 0.0 in bits, too
        return found

    def pairs(self, queries: Ints, passages: Ints) -> Floats:
        """See :class:`Scorer`; computed on the processor, which gives the same."""
        found = np.empty(len(queries), dtype=np.float32)
        for begin in range(0, len(queries), _PAIRS):
            part = slice(begin, begin + _PAIRS)
            rows, of_pair = np.unique(queries[part], return_inverse=True)
            left, right = self.vectors("query", rows), self.vectors("passage", passages[part])
            _check_products(left.longest * right.longest)
            found[part] = np.einsum("ij,ij->i", left.values[of_pair], right.values)
        return found + np.float32(0)

    def vectors(self, kind: Literal["query", "passage"], rows: slice | Ints) -> _OnGrid:
        """Return some vectors, rounded to the grid.

        Raises:
            ClirscaleError: one is zero, there or on the grid, or not finite.
        """
        source, ids = self._sources[kind]
        values = source[rows].astype(np.float64)
        values *= _GRID
        np.rint(values, out=values)
        values /= _GRID
        norms = np.sqrt(np.einsum("ij,ij->i", values, values))
        bad = np.flatnonzero(~(np.isfinite(norms) & (norms > 0)))
        if len(bad):
            raise ClirscaleError(
                f"{kind} vectors are zero or not finite: {_names(np.arange(len(source))[rows][bad], ids)}. Training "
                "diverged, or 16-mixed overflows. Lower contrast.lr, or use trainer.precision=32-true"
            )
        return _OnGrid(values, float(norms.max(initial=0)))

    def _moved(self, passages: slice | Ints) -> tuple[_OnGrid, torch.Tensor]:
        if self._kept is None or not isinstance(passages, slice) or self._kept[0] != passages:
            self._kept = None  # frees the memory before more is taken
            vectors = self.vectors("passage", passages)
            moved = self._move(vectors)
            if not isinstance(passages, slice):
                return vectors, moved
            self._kept = passages, vectors, moved
        return self._kept[1:]

    def _move(self, vectors: _OnGrid) -> torch.Tensor:
        return torch.from_numpy(vectors.values).to(self.device)


@dataclass(frozen=True)
class _OnGrid:
    """Vectors of multiples of 2^-24, and the largest of their norms."""

    values: Doubles
    longest: float


def _check_products(largest: float) -> None:
    if largest > _LARGEST_PRODUCT:
        raise ClirscaleError(
            f"vectors of length up to {largest**0.5:.3g} are too long for exact search; normalise them"
        )


def _names(rows: Ints, ids: Ids | None) -> str:
    rows = np.unique(rows)
    named = [f"row {row}" if ids is None else str(ids[row]) for row in rows[:_NAMED].tolist()]
    return ", ".join(named) + " …" * (len(rows) > _NAMED)


@dataclass(frozen=True)
class Rankings:
    """What a search found for n queries, m of whose pairs with a passage are judged.

    Attributes:
        top_keys: by language, and by :data:`POOL`, the keys of the top passages: (n, depth or fewer), best first;
            :data:`NOTHING` where fewer were retrieved.
        rank_in_language: (m,) rank of each judged passage among those of its language, from 1; inf if not retrieved.
        rank_in_pool: (m,) the same among all.
        rank_without_own: (m,) the same among those that are not in the query's language; NaN for a passage in that
            language.
        by_place: (number of passages,) the passage at each place of the order of ids.
    """

    top_keys: dict[str, Ints]
    rank_in_language: Ranks
    rank_in_pool: Ranks
    rank_without_own: Ranks
    by_place: Ints

    def top(self, corpus: str, queries: Ints, depth: int) -> tuple[Ints, Floats]:
        """Return passages and scores of the top of a ranking, best first: (len(queries), depth or fewer) each.

        Where fewer were retrieved the passage is -1 and the score NaN.
        """
        keys = self.top_keys[corpus][queries, :depth]
        passages = np.where(keys == NOTHING, -1, self.by_place[keys & 0xFFFFFFFF])
        return passages, _flip((keys >> 32).astype(np.int32)).view(np.float32)


class PassageIndex:
    """The passages of a task, by order of ids and by language.

    Args:
        ids: of the passages, all different; they break ties.
        lang_codes: (number of passages,) the language of each, as a position in ``languages``.
        languages: names.
    """

    def __init__(self, ids: Ids, lang_codes: npt.NDArray[Any], languages: Sequence[str]) -> None:
        if not isinstance(ids, pa.ChunkedArray):
            ids = pa.chunked_array([pa.array(ids, pa.large_string())])
        self.by_place: Ints = pc.sort_indices(ids).to_numpy().astype(np.int64)
        self.place: Ints = _inverse(self.by_place)
        self.lang_codes, self.languages = lang_codes, list(languages)

    def search(
        self,
        scorer: Scorer,
        n_queries: int,
        query_lang: Sequence[str],
        judged_query: Ints,
        judged_passage: Ints,
        depth: int,
        excluded: Mapping[int, Ints] | None = None,
        *,
        shard: int = _SHARD,
        block_bytes: int = _BLOCK_BYTES,
    ) -> Rankings:
        """Rank all passages for each query.

        The result does not depend on ``shard`` and ``block_bytes``. Memory is taken for the rankings that are returned,
        the vectors of a shard, and a block.

        Args:
            scorer: of the queries and these passages.
            n_queries: how many there are.
            query_lang: (n_queries,) language of each.
            judged_query: (m,) the query of each judged pair, ascending.
            judged_passage: (m,) its passage.
            depth: how many passages of the top of each ranking to keep.
            excluded: by query, passages that are no candidates for it.
            shard: passages scored at a time.
            block_bytes: working memory.

        Raises:
            ClirscaleError: a vector is not finite, is zero or too long.
            ValueError: the judged pairs are not in the order of queries.
        """
        if (np.diff(judged_query) < 0).any():
            raise ValueError("the judged pairs are not in the order of queries")
        excluded = excluded or {}
        without = _Excluded(excluded)
        judged_keys = self.keys(scorer.pairs(judged_query, judged_passage), judged_passage)
        judged_keys[is_excluded(judged_query, judged_passage, excluded)] = NOTHING
        state = _Search(self, n_queries, query_lang, judged_query, judged_passage, judged_keys, depth)
        threads = torch.get_num_threads()
        with ThreadPoolExecutor(threads) as pool:
            for columns in _slices(slice(0, len(self.place)), shard):
                these = _shard(columns, self.lang_codes)
                width = columns.stop - columns.start + min(depth, len(self.place))
                for block in _slices(slice(0, n_queries), block_bytes // (_BYTES_PER_SCORE * width)):
                    scores = scorer.scores(block, columns)
                    parts = list(_slices(block, len(scores) // (_PARTS * threads)))
                    views = [scores[part.start - block.start : part.stop - block.start] for part in parts]
                    list(pool.map(partial(self._add, state, without, these), parts, views))
        return state.rankings()

    def _add(self, state: _Search, without: _Excluded, shard: _Shard, queries: slice, scores: Floats) -> None:
        keys = self.keys(np.take(scores, shard.order, axis=1), shard.columns.start + shard.order)
        keys[without.inside(queries, shard)] = NOTHING
        state.add(queries, shard, keys)

    def keys(self, scores: Floats, passages: Ints) -> Ints:
        """Return the keys of scores whose last axis goes along ``passages``."""
        keys = _flip(scores.view(np.int32)).astype(np.int64)
        keys <<= 32
        keys |= self.place[passages]
        keys[scores == -np.inf] = NOTHING
        return keys


@dataclass(frozen=True)
class _Shard:
    """Some passages, in an order in which each language is a slice."""

    columns: slice  # which passages
    order: Ints  # their numbers, counted from the first of them
    languages: dict[int, slice]  # by code, those that there are


def _shard(columns: slice, lang_codes: npt.NDArray[Any]) -> _Shard:
    order = np.argsort(lang_codes[columns], kind="stable")
    codes, begins = np.unique(lang_codes[columns][order], return_index=True)
    ends = np.append(begins[1:], len(order))
    spans = zip(codes.tolist(), begins.tolist(), ends.tolist(), strict=True)
    return _Shard(columns, order, {code: slice(begin, end) for code, begin, end in spans})


class _Search:
    """What is known of the rankings after some of the passages."""

    def __init__(
        self,
        index: PassageIndex,
        n_queries: int,
        query_lang: Sequence[str],
        judged_query: Ints,
        judged_passage: Ints,
        judged_keys: Ints,
        depth: int,
    ) -> None:
        self._index, self._n_queries, self._depth = index, n_queries, depth
        self._judged_query, self._judged_keys = judged_query, judged_keys
        self._judged_lang = index.lang_codes[judged_passage]
        self._own_lang = codes_of(query_lang, index.languages)[judged_query]
        self._above = np.zeros((3, len(judged_query)), dtype=np.int64)  # in the pool, its language, the query's
        sizes = np.bincount(index.lang_codes, minlength=len(index.languages)).tolist()
        self._tops = [np.full((n_queries, min(depth, size)), NOTHING) for size in sizes]

    def add(self, queries: slice, shard: _Shard, keys: Ints) -> None:
        """Count and keep what some queries find in a shard; safe to call in threads for different queries."""
        for code, columns in shard.languages.items():
            top = self._tops[code]
            top[queries] = _largest(np.concatenate([top[queries], keys[:, columns]], axis=1), top.shape[1])
        self._count(queries, shard, keys)

    def _count(self, queries: slice, shard: _Shard, keys: Ints) -> None:
        """Count the keys above each judged one."""
        pairs = slice(*np.searchsorted(self._judged_query, (queries.start, queries.stop)))
        judged = (self._judged_query[pairs] - queries.start, self._judged_keys, self._judged_lang, self._own_lang)
        none = slice(0, 0)
        counts = []
        for row, key, lang, own in zip(judged[0].tolist(), *(part[pairs].tolist() for part in judged[1:]), strict=True):
            above = keys[row] > key
            found = (above, above[shard.languages.get(lang, none)], above[shard.languages.get(own, none)])
            counts.append([np.count_nonzero(part) for part in found])
        self._above[:, pairs] += np.array(counts, dtype=np.int64).reshape(-1, 3).T

    def rankings(self) -> Rankings:
        """Return the outcome, once all passages were added."""
        ranks = 1.0 + self._above
        ranks[:, self._judged_keys == NOTHING] = np.inf
        pool, language, own = ranks
        with np.errstate(invalid="ignore"):  # inf - inf
            without_own = np.where(np.isinf(pool), np.inf, pool - own + 1)
        without_own[self._judged_lang == self._own_lang] = np.nan
        tops = dict(zip(self._index.languages, self._tops, strict=True))
        return Rankings({**tops, POOL: self._pool()}, language, pool, without_own, self._index.by_place)

    def _pool(self) -> Ints:
        """Return the top of all languages, which is the top of their tops."""
        kept = sum(top.shape[1] for top in self._tops)
        pool = np.empty((self._n_queries, min(self._depth, kept)), dtype=np.int64)
        for rows in _slices(slice(0, self._n_queries), _MERGED // max(1, kept)):
            pool[rows] = _largest(np.concatenate([top[rows] for top in self._tops], axis=1), self._depth)
        return pool


class _Excluded:
    """Pairs that are no candidates, in the order of queries."""

    def __init__(self, excluded: Mapping[int, Ints]) -> None:
        pairs = [(query, passage) for query in sorted(excluded) for passage in excluded[query]]
        self._query, self._passage = np.array(pairs, dtype=np.int64).reshape(-1, 2).T

    def inside(self, queries: slice, shard: _Shard) -> tuple[Ints, Ints]:
        """Return rows and columns of these pairs in the matrix of some queries and a shard in its order."""
        pairs = slice(*np.searchsorted(self._query, (queries.start, queries.stop)))
        query, passage = self._query[pairs], self._passage[pairs]
        here = (passage >= shard.columns.start) & (passage < shard.columns.stop)
        return query[here] - queries.start, _inverse(shard.order)[passage[here] - shard.columns.start]


def is_excluded(queries: Ints, passages: Ints, excluded: Mapping[int, Ints]) -> npt.NDArray[np.bool_]:
    """Return which of m pairs (m,) are no candidates."""
    pairs = zip(queries.tolist(), passages.tolist(), strict=True)
    return np.fromiter((q in excluded and p in excluded[q] for q, p in pairs), dtype=bool, count=len(queries))


def codes_of(names: Sequence[str], languages: Sequence[str]) -> Ints:
    """Return positions (n,) in ``languages``, -1 for those that are not there."""
    position = {lang: code for code, lang in enumerate(languages)}
    return np.array([position.get(name, -1) for name in names], dtype=np.int64)


def _slices(rows: slice, size: int) -> Iterator[slice]:
    """Cut rows into slices of a size, of 1 where that is less."""
    size = max(1, size)
    return (slice(begin, min(begin + size, rows.stop)) for begin in range(rows.start, rows.stop, size))


def _flip(bits: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Map the bits of floats to integers of the same order, and back: negative floats have theirs reversed."""
    return bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))


def _inverse(permutation: Ints) -> Ints:
    inverse = np.empty_like(permutation)
    inverse[permutation] = np.arange(len(permutation))
    return inverse


def _largest(keys: Ints, depth: int) -> Ints:
    """Return the largest ``depth`` keys of each row, descending; all where there are fewer. Reorders ``keys``."""
    if depth < keys.shape[1]:
        keys.partition(keys.shape[1] - depth, axis=1)
        keys = keys[:, keys.shape[1] - depth :]
    return np.sort(keys, axis=1)[:, ::-1]
