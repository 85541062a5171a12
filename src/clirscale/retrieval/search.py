"""Exact search over passages in several languages: complete rankings in bounded memory.

Every setting ranks the same scores: a language's own ranking is that of the multilingual pool restricted to the
language. So each query is scored once against every passage, a shard of passages and a block of queries at a time, and
what the measures need is read off: the rank of each judged passage, by counting what stands above it, and the top of
each ranking. Counting and selecting are linear in the number of passages.

**Exact.** A sum of floats depends on its order, and a matrix product takes another order for another shape: with
float32, the last bits of a score change with the size of a block, and with them ties and ranks. :class:`DenseScorer`
makes the order irrelevant. Vectors are rounded to multiples of 2^-24 (float32 has no more digits at 1). Products are
then multiples of 2^-48, and so are all partial sums; by Cauchy and Schwarz these are at most |q||p| in size. Double
precision holds every multiple of 2^-48 up to 2^5 exactly, so as long as |q||p| <= 32 no addition rounds, fused or not,
in whatever order and on whatever device. Only the result is rounded, to float32.

**Order.** It is trec_eval's: score (float32) descending, then passage id descending (by UTF-8 bytes). Both are packed
into one integer, the *key*: above, the bits of the score, mapped so that integers compare as the floats do; below, the
passage's place in the order of ids. The keys of a query never tie.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

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
Ranks = npt.NDArray[np.float64]

#: Key of what is not retrieved: below every other.
NOTHING = np.int64(np.iinfo(np.int64).min)

_SHARD = 16_384  # passages whose vectors are in memory at a time, as float32 and as float64
_BLOCK_BYTES = 200_000_000  # working memory of a block of queries …
_BYTES_PER_SCORE = 40  # … and what one score takes of it: in float64, as float32, its key, and copies while sorting
_GRID = 2.0**24
_LARGEST_PRODUCT = 32.0


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

    Args:
        queries: vectors.
        passages: vectors of the same dimension; read by shards.
        device: where the products are computed; the scores are the same everywhere.
    """

    def __init__(self, queries: VectorSource, passages: VectorSource, device: torch.device | str = "cpu") -> None:
        self.queries, self.passages, self.device = queries, passages, torch.device(device)
        self._shard: tuple[slice, torch.Tensor] | None = None  # the last one: many blocks of queries meet it

    def scores(self, queries: slice, passages: slice | Ints) -> Floats:
        """See :class:`Scorer`.

        Raises:
            ClirscaleError: a vector is not finite, is zero, or is too long for exact sums.
        """
        left = self._exact("query", self.queries[queries])
        right = (
            self._exact("passage", self.passages[passages]) if isinstance(passages, np.ndarray) else self._of(passages)
        )
        _check_products(left, right)
        found: Floats = (left @ right.T).to(torch.float32).cpu().numpy()
        found += np.float32(0)  # makes -0.0 the same as 0.0 in bits, too
        return found

    def pairs(self, queries: Ints, passages: Ints) -> Floats:
        """See :class:`Scorer`."""
        found = np.empty(len(queries), dtype=np.float32)
        for begin in range(0, len(queries), _SHARD):
            rows = slice(begin, begin + _SHARD)
            left = self._exact("query", self.queries[queries[rows]])
            right = self._exact("passage", self.passages[passages[rows]])
            _check_products(left, right)
            found[rows] = (left * right).sum(dim=1).to(torch.float32).cpu().numpy()
        return found + np.float32(0)

    def _of(self, shard: slice) -> torch.Tensor:
        if self._shard is None or self._shard[0] != shard:
            self._shard = None  # before the next one takes memory
            self._shard = shard, self._exact("passage", self.passages[shard])
        return self._shard[1]

    def _exact(self, kind: str, vectors: Floats) -> torch.Tensor:
        norms = np.linalg.norm(vectors, axis=1)
        bad = int((~np.isfinite(norms) | (norms == 0)).sum())
        if bad:
            raise ClirscaleError(
                f"{bad} of {len(vectors)} {kind} vectors are zero or not finite: training diverged, or 16-mixed "
                "overflows. Lower contrast.lr, or use trainer.precision=32-true"
            )
        exact = torch.from_numpy(np.ascontiguousarray(vectors)).to(self.device, torch.float64)
        return exact.mul_(_GRID).round_().div_(_GRID)


def _check_products(left: torch.Tensor, right: torch.Tensor) -> None:
    largest = float(left.norm(dim=1).max() * right.norm(dim=1).max()) if len(left) and len(right) else 0.0
    if largest > _LARGEST_PRODUCT:
        raise ClirscaleError(
            f"vectors of length up to {largest**0.5:.3g} are too long for exact search; normalise them"
        )


@dataclass(frozen=True)
class Rankings:
    """What a search found for n queries, m of whose pairs with a passage are judged.

    Attributes:
        top_keys: by language, and by :data:`POOL`, the keys of the top passages: (n, depth or fewer), best first;
            :data:`NOTHING` where fewer were retrieved.
        rank_in_language: (m,) rank of each judged passage among those of its language, from 1; inf if not retrieved.
        rank_in_pool: (m,) the same among all.
        rank_without_own: (m,) the same among those that are not in the query's language; of no meaning for a passage in
            that language.
        by_place: (number of passages,) the passage at each place of the order of ids.
    """

    top_keys: dict[str, Ints]
    rank_in_language: Ranks
    rank_in_pool: Ranks
    rank_without_own: Ranks
    by_place: Ints

    def top(self, corpus: str, queries: Ints, depth: int) -> tuple[Ints, Floats]:
        """Return passages and scores of the top of a ranking, best first: (len(queries), depth or fewer) each.

        Where fewer were retrieved the passage is -1 and the score of no meaning.
        """
        keys = self.top_keys[corpus][queries, :depth]
        passages = np.where(keys == NOTHING, -1, self.by_place[keys & 0xFFFFFFFF])
        return passages, _flip((keys >> 32).astype(np.int32)).view(np.float32)


class PassageIndex:
    """The passages of a task, by order of ids and by language.

    Args:
        ids: of the passages; they break ties.
        lang_codes: (number of passages,) the language of each, as a position in ``languages``.
        languages: names.
    """

    def __init__(self, ids: pa.ChunkedArray | Sequence[str], lang_codes: npt.NDArray[Any], languages: Sequence[str]):
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

        The result does not depend on ``shard`` and ``block_bytes``.

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
        """
        excluded = excluded or {}
        judged_keys = self.keys(scorer.pairs(judged_query, judged_passage), judged_passage)
        judged_keys[is_excluded(judged_query, judged_passage, excluded)] = NOTHING
        state = _Search(self, n_queries, query_lang, judged_query, judged_passage, judged_keys, depth)
        for first in range(0, len(self.place), shard):
            columns = slice(first, min(first + shard, len(self.place)))
            # Language by language, so that each language is a slice.
            order = first + np.argsort(self.lang_codes[columns], kind="stable")
            rows = max(1, block_bytes // (_BYTES_PER_SCORE * len(order)))
            for begin in range(0, n_queries, rows):
                block = slice(begin, min(begin + rows, n_queries))
                keys = self.keys(scorer.scores(block, columns)[:, order - first], order)
                for query in range(block.start, block.stop) if excluded else ():
                    if query in excluded:
                        keys[query - begin, np.isin(order, excluded[query])] = NOTHING
                state.add(block, order, keys)
        return state.rankings()

    def keys(self, scores: Floats, passages: Ints) -> Ints:
        """Return the keys of scores whose last axis goes along ``passages``."""
        keys = _flip(scores.view(np.int32)).astype(np.int64)
        keys <<= 32
        keys |= self.place[passages]
        keys[scores == -np.inf] = NOTHING
        return keys


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
        self._index, self._depth = index, depth
        self._judged_query, self._judged_keys = judged_query, judged_keys
        self._judged_lang = index.lang_codes[judged_passage]
        position = {lang: code for code, lang in enumerate(index.languages)}
        self._query_lang = np.array([position.get(lang, -1) for lang in query_lang], dtype=np.int64)
        self._above = np.zeros((3, len(judged_query)), dtype=np.int64)  # in the pool, its language, the query's
        self._tops = {name: np.empty((n_queries, 0), dtype=np.int64) for name in (*index.languages, POOL)}

    def add(self, block: slice, passages: Ints, keys: Ints) -> None:
        """Count and keep what some queries find in some passages, which stand language by language."""
        codes = self._index.lang_codes[passages]
        slices = {int(c): slice(*np.searchsorted(codes, [c, c + 1]).tolist()) for c in np.unique(codes)}
        for code, columns in slices.items():
            self._merge(self._index.languages[code], block, _largest(keys[:, columns], self._depth))
        self._merge(POOL, block, _largest(keys, self._depth))
        none = slice(0, 0)
        first, last = np.searchsorted(self._judged_query, (block.start, block.stop))
        for pair in range(first, last):
            query = int(self._judged_query[pair])
            above = keys[query - block.start] > self._judged_keys[pair]
            self._above[0, pair] += np.count_nonzero(above)
            self._above[1, pair] += np.count_nonzero(above[slices.get(int(self._judged_lang[pair]), none)])
            self._above[2, pair] += np.count_nonzero(above[slices.get(int(self._query_lang[query]), none)])

    def _merge(self, corpus: str, block: slice, found: Ints) -> None:
        top = self._tops[corpus]
        size = min(self._depth, self._size(corpus))
        if not top.shape[1]:
            top = self._tops[corpus] = np.full((len(top), size), NOTHING)
        top[block] = _largest(np.concatenate([top[block], found], axis=1), size)

    def _size(self, corpus: str) -> int:
        if corpus == POOL:
            return len(self._index.lang_codes)
        return int(np.count_nonzero(self._index.lang_codes == self._index.languages.index(corpus)))

    def rankings(self) -> Rankings:
        """Return the outcome, once all passages were added."""
        ranks = 1.0 + self._above
        ranks[:, self._judged_keys == NOTHING] = np.inf
        pool, language, own = ranks
        with np.errstate(invalid="ignore"):
            without_own = np.where(np.isinf(pool), np.inf, pool - own + 1)
        return Rankings(self._tops, language, pool, without_own, self._index.by_place)


def is_excluded(queries: Ints, passages: Ints, excluded: Mapping[int, Ints]) -> npt.NDArray[np.bool_]:
    """Return which of m pairs (m,) are no candidates."""
    pairs = zip(queries.tolist(), passages.tolist(), strict=True)
    return np.fromiter((q in excluded and p in excluded[q] for q, p in pairs), dtype=bool, count=len(queries))


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
