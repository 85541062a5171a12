r"""BM25, the lexical reference: what shared terms find, without a model.

**Indexes.** The passages of each language are an index of their own, as one would set up a search engine: with the
language's stemmer, and with the document frequencies and the mean length of these passages alone. A query is analysed
like the index that it is put to, whatever its own language. In the multilingual pool the scores of all indexes are
compared as they are.

**Terms.** Text is normalised (NFKC, case folded) and cut into words: runs of letters, marks and digits of any script.
Words in scripts that are written without spaces (Han, kana, Thai, Lao, Burmese, Khmer), and in Hangul, whose words
carry their particles, become overlapping pairs of characters, as in Lucene's CJKAnalyzer; a character has its marks
with it. Other words are stemmed where Snowball has a stemmer for the index's language. There are no stop words:
frequent terms weigh next to nothing.

**Weights.** Lucene's variant (Kamphuis et al., ECIR 2020) with Anserini's k1 = 0.9 and b = 0.4, as in the BM25
baselines of BEIR, Mr. TyDi and MIRACL; a term counts as often as the query has it.
"""

from __future__ import annotations

import re
import unicodedata
from array import array
from collections.abc import Iterator, Sequence
from itertools import pairwise

import bm25s
import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import Stemmer

from clirscale.data.tasks import RetrievalTask

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

# Combining marks, such as the vowel signs of Devanagari and Thai: \w does not match them, so words would break there.
_MARKS = re.escape("".join(chr(c) for c in range(0x20000) if unicodedata.category(chr(c)).startswith("M")))
# Thai and Lao; Burmese; Khmer; iteration marks of Han; kana; kana and Han; Hangul; Han; Han.
_PAIRED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff"
    "\u31f0-\u31ff\u3400-\u9fff\uac00-\ud7a3\uf900-\ufaff\U00020000-\U0003ffff"
)
_WORD = re.compile(rf"[\w{_MARKS}]+")
_HAS_PAIRED = re.compile(f"[{_PAIRED}]")
_RUN = re.compile(f"[{_PAIRED}]+|[^{_PAIRED}]+")
_CHARACTER = re.compile(f".[{_MARKS}]*")
# Soft hyphen and zero-width joiner stand within words; the underscore, which \w matches, between them.
_TRANSLATION = {0x00AD: None, 0x200D: None, ord("_"): " "}

# Weights are rounded to multiples of 2⁻²⁴, so that sums of them in float64 are exact, in whatever order.
_SCALE = 2.0**24
_PAIRS = 100_000  # of query and passage in memory at a time


class LexicalScorer:
    """Scores of a task's queries and passages by BM25.

    Holds 8 bytes for each distinct term of each passage, and several times that while the indexes are built.

    Args:
        task: whose queries and passages are meant by the rows.
        k1: how slowly repeated terms saturate, from 0.
        b: how much long passages are held back, 0 to 1.
    """

    def __init__(self, task: RetrievalTask, *, k1: float = 0.9, b: float = 0.4) -> None:
        if k1 < 0 or not 0 <= b <= 1:
            raise ValueError(f"k1 must be at least 0 and b from 0 to 1; they are {k1} and {b}")
        indexes = [_Index(lang) for lang in task.passages.languages]
        for row, (code, text) in enumerate(zip(task.passages.lang_codes, task.passages.iter_texts(), strict=True)):
            indexes[code].add(row, text)
        queries = [words(query.text) for query in task.queries]
        order = np.concatenate([index.rows for index in indexes])
        # The indexes have no term in common: (passages, terms of all indexes) and (queries, terms of all indexes).
        self._weights = sp.block_diag([index.weights(k1, b) for index in indexes], format="csr")[np.argsort(order)]
        self._counts = sp.hstack([index.counts(queries) for index in indexes], format="csr")

    def scores(self, queries: slice, passages: slice | Ints) -> Floats:
        """Return the scores of some queries and passages: (queries, passages).

        -inf where they share no term: such a passage is not retrieved.
        """
        product = self._weights[passages].astype(np.float64) @ self._counts[queries].T.tocsr()
        return _retrieved(product.T.toarray())

    def pairs(self, queries: Ints, passages: Ints) -> Floats:
        """Return the scores of m pairs, (m,): the same as in :meth:`scores`."""
        scores = np.empty(len(queries))
        for begin in range(0, len(scores), _PAIRS):
            part = slice(begin, begin + _PAIRS)
            weights = self._weights[passages[part]].astype(np.float64)
            scores[part] = self._counts[queries[part]].multiply(weights).sum(axis=1)
        return _retrieved(scores)


def words(text: str) -> list[str]:
    """Cut a text into words and, in scripts without spaces, pairs of characters; not stemmed.

    >>> words("Die Straße, 東京タワー")
    ['die', 'strasse', '東京', '京タ', 'タワ', 'ワー']
    """
    text = _normalised(text)
    found: list[str] = _WORD.findall(text)
    if not _HAS_PAIRED.search(text):
        return found
    return [term for word in found for run in _RUN.findall(word) for term in _terms(run)]


def _normalised(text: str) -> str:
    folded = unicodedata.normalize("NFKC", text).casefold().translate(_TRANSLATION)
    # Folding can leave what NFKC would compose, and gives the Turkish İ a dot of its own.
    return unicodedata.normalize("NFKC", folded).replace("i\u0307", "i")


def _terms(run: str) -> list[str]:
    """Return the terms of a run of characters that are all paired or all not."""
    if not _HAS_PAIRED.match(run):
        return [run]
    characters = _CHARACTER.findall(run)
    return [first + second for first, second in pairwise(characters)] or characters


class _Index:
    """The passages of a language; iterates over them as lists of term numbers, as often as bm25s wants."""

    def __init__(self, lang: str) -> None:
        try:
            self._stemmer = Stemmer.Stemmer(re.split("[-_]", lang.lower())[0])
        except KeyError:
            self._stemmer = None
        self._vocabulary: dict[str, int] = {}
        self._rows, self._terms, self._ends = array("q"), array("i"), array("q", [0])

    def add(self, row: int, text: str) -> None:
        """Add the passage of a row of the task."""
        vocabulary = self._vocabulary
        self._terms.extend([vocabulary.setdefault(term, len(vocabulary)) for term in self._stemmed(words(text))])
        self._ends.append(len(self._terms))
        self._rows.append(row)

    @property
    def rows(self) -> Ints:
        return np.array(self._rows, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[list[int]]:
        return (self._terms[begin:end].tolist() for begin, end in pairwise(self._ends))

    def weights(self, k1: float, b: float) -> sp.csr_array:
        """Return the weight of each term in each passage: (passages, terms)."""
        shape = (len(self), len(self._vocabulary))
        if not self._vocabulary:
            return sp.csr_array(np.zeros(shape, dtype=np.float32))  # no column
        built = bm25s.BM25(k1=k1, b=b, method="lucene").build_index_from_ids(
            list(self._vocabulary.values()), self, show_progress=False
        )
        weights: Floats = np.rint(built["data"] * _SCALE) / _SCALE
        by_term = sp.csc_array((weights, built["indices"], built["indptr"]), shape=shape)
        return by_term.tocsr()

    def counts(self, queries: Sequence[list[str]]) -> sp.csr_array:
        """Return how often each query has each term: (queries, terms)."""
        numbers = [
            [self._vocabulary[term] for term in self._stemmed(query) if term in self._vocabulary] for query in queries
        ]
        ends = np.cumsum([0, *map(len, numbers)])
        indices = np.array([number for query in numbers for number in query], dtype=np.int64)
        shape = (len(queries), len(self._vocabulary))
        counts = sp.csr_array((np.ones(len(indices)), indices, ends), shape=shape)
        counts.sum_duplicates()
        return counts

    def _stemmed(self, terms: list[str]) -> list[str]:
        return self._stemmer.stemWords(terms) if self._stemmer else terms


def _retrieved(scores: npt.NDArray[np.float64]) -> Floats:
    return np.where(scores > 0, scores, -np.inf).astype(np.float32)
