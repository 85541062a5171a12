"""Exact search over passages in several languages: complete rankings in bounded memory.

Every setting ranks the same scores: a language's own ranking is that of the multilingual pool restricted to the
language. So FAISS scores each query once against every passage, a block of queries at a time, and what the measures
need is read off: the rank of each judged passage, by counting what stands above it, and the top of each ranking.
Counting and selecting are linear in the number of passages. Asking a FAISS index for complete sorted rankings
(k = all) gives the same and takes several times as long, because it keeps a heap for each query
(``tests/benchmarks/bench_evaluate.py`` measures it).

The order is trec_eval's: score (float32) descending, then passage id descending (by UTF-8 bytes, which is how Python
orders strings). Both are packed into one integer, the *key*: above, the bits of the score, mapped so that integers
compare as the floats do; below, the passage's place in the order of ids. The keys of a query never tie.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import faiss
import numpy as np
import numpy.typing as npt

from clirscale.errors import ClirscaleError

#: Name of the ranking of all languages together, beside those of single languages.
POOL = "*"

# Working memory of a block of queries, and what one score takes of it: itself, its key, and copies while sorting.
_BLOCK_BYTES = 200_000_000
_BYTES_PER_SCORE = 32

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Rankings:
    """What a search found for n queries, m of whose pairs with a passage are judged.

    Attributes:
        top_keys: by language, and by :data:`POOL`, the keys of the top passages: (n, depth or fewer), best first.
        rank_in_language: (m,) rank of each judged passage among those of its language, from 1.
        rank_in_pool: (m,) rank of each judged passage among all, from 1.
        by_place: (number of passages,) the passage at each place of the order of ids.
    """

    top_keys: dict[str, Ints]
    rank_in_language: Ints
    rank_in_pool: Ints
    by_place: Ints

    def top(self, corpus: str, queries: Ints, depth: int) -> tuple[Ints, Floats]:
        """Return passages and scores of the top of a ranking, best first: (len(queries), depth or fewer) each."""
        keys = self.top_keys[corpus][queries, :depth]
        return self.by_place[keys & 0xFFFFFFFF], _flip((keys >> 32).astype(np.int32)).view(np.float32)


class PassageIndex:
    """Passages to be searched.

    Args:
        ids: of the passages; they break ties.
        languages: of the passages.
        vectors: (number of passages, dimensions).

    Raises:
        ClirscaleError: a vector is not finite.
    """

    def __init__(self, ids: Sequence[str], languages: Sequence[str], vectors: Floats) -> None:
        _check_finite("passage", vectors)
        tags = np.array(languages, dtype=object)
        members = {lang: np.flatnonzero(tags == lang) for lang in sorted(set(languages))}
        self.by_place: Ints = np.array(sorted(range(len(ids)), key=ids.__getitem__), dtype=np.int64)
        # The columns of the matrix of scores: language by language, so that each language is a slice.
        order = np.concatenate(list(members.values()))
        self._vectors = np.ascontiguousarray(vectors[order], dtype=np.float32)
        self._place = _inverse(self.by_place)[order]
        self._column = _inverse(order)
        ends = np.cumsum([len(m) for m in members.values()]).tolist()
        self._slices = {lang: slice(end - len(m), end) for (lang, m), end in zip(members.items(), ends, strict=True)}
        self._slice_of_passage = [self._slices[lang] for lang in languages]

    @property
    def languages(self) -> list[str]:
        """Languages of the passages, in alphabetical order."""
        return list(self._slices)

    def search(self, queries: Floats, judged_query: Ints, judged_passage: Ints, depth: int) -> Rankings:
        """Rank all passages for each query.

        Args:
            queries: vectors, (n, dimensions).
            judged_query: (m,) the query of each judged pair, ascending.
            judged_passage: (m,) its passage.
            depth: how many passages of the top of each ranking to keep.

        Raises:
            ClirscaleError: a vector is not finite, or so large that a score is not.
        """
        _check_finite("query", queries)
        n, size = len(queries), len(self._column)
        sizes = {lang: s.stop - s.start for lang, s in self._slices.items()} | {POOL: size}
        top_keys = {corpus: np.empty((n, min(depth, sizes[corpus])), dtype=np.int64) for corpus in sizes}
        rank_in_language = np.empty(len(judged_query), dtype=np.int64)
        rank_in_pool = np.empty(len(judged_query), dtype=np.int64)
        rows = max(1, _BLOCK_BYTES // (_BYTES_PER_SCORE * size))
        for begin in range(0, n, rows):
            block = slice(begin, min(begin + rows, n))
            keys = self._keys(queries[block])
            for lang, columns in self._slices.items():
                top_keys[lang][block] = _largest(keys[:, columns], depth)
            heads = np.concatenate([top_keys[lang][block] for lang in self._slices], axis=1)
            top_keys[POOL][block] = _largest(heads, depth)
            first, last = np.searchsorted(judged_query, (block.start, block.stop))
            for pair in range(first, last):
                passage = judged_passage[pair]
                row = keys[judged_query[pair] - begin]
                above = row > row[self._column[passage]]
                rank_in_language[pair] = 1 + np.count_nonzero(above[self._slice_of_passage[passage]])
                rank_in_pool[pair] = 1 + np.count_nonzero(above)
        return Rankings(top_keys, rank_in_language, rank_in_pool, self.by_place)

    def _keys(self, queries: Floats) -> Ints:
        """Return the key of every passage for each query: (number of queries, number of passages)."""
        scores = faiss.pairwise_distances(queries, self._vectors, faiss.METRIC_INNER_PRODUCT)
        if not np.isfinite(scores).all():
            raise ClirscaleError("a score is not a finite number: the vectors are too large")
        scores += np.float32(0)  # makes -0.0 the same as 0.0 in bits, too
        keys = _flip(scores.view(np.int32)).astype(np.int64)
        keys <<= 32
        keys |= self._place
        return keys


def _flip(bits: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Map the bits of floats to integers of the same order, and back: negative floats have theirs reversed."""
    return bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))


def _inverse(permutation: Ints) -> Ints:
    inverse = np.empty_like(permutation)
    inverse[permutation] = np.arange(len(permutation))
    return inverse


def _largest(keys: Ints, depth: int) -> Ints:
    """Return the largest ``depth`` keys of each row, descending; all where there are fewer."""
    if depth < keys.shape[1]:
        keys = np.partition(keys, keys.shape[1] - depth, axis=1)[:, -depth:]
    return np.sort(keys, axis=1)[:, ::-1]


def _check_finite(kind: str, vectors: Floats) -> None:
    bad = int((~np.isfinite(vectors).all(axis=1)).sum())
    if bad:
        raise ClirscaleError(
            f"{bad} of {len(vectors)} {kind} vectors are not finite numbers: training diverged, or 16-mixed overflows. "
            "Lower contrast.lr, or use trainer.precision=32-true"
        )
