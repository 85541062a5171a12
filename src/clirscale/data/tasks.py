"""Retrieval tasks: queries, candidate passages and their relevance, in several languages."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from clirscale.errors import DataError

SETTINGS = ("mono", "cross", "multi")

_SCHEMA = pa.schema([("id", pa.large_string()), ("lang", pa.large_string()), ("text", pa.large_string())])
_ROWS = 50_000  # of a batch: what is in memory as Python objects at a time
_IN_MEMORY = 1_000_000_000  # bytes; a larger corpus is kept in a temporary file


@dataclass(frozen=True, slots=True)
class Query:
    """A question. ``group_id`` is shared by its translations; ``id`` is unique in the task."""

    id: str
    lang: str
    group_id: str
    text: str


@dataclass(frozen=True, slots=True)
class Passage:
    """A candidate. ``id`` is unique in the task."""

    id: str
    lang: str
    text: str


class Passages(Sequence[Passage]):
    """The candidates of a task, by columns: corpora of tens of millions of passages fit, and are read in one pass.

    Up to 1 GB they are held in memory; beyond, in a temporary file that is mapped into memory and goes with the
    process, so that the corpus may be larger than memory.

    Args:
        passages: any iterable, consumed once.
        name: of the task, for messages.

    Raises:
        DataError: an id is empty or has white space in it, or a text is empty or no Unicode.
    """

    def __init__(self, passages: Iterable[Passage], name: str) -> None:
        self._table = _table(_batches(passages, name))
        #: (n,) ids, in order.
        self.ids: pa.ChunkedArray = self._table["id"]
        self.languages: list[str] = sorted(self._table["lang"].unique().to_pylist())
        codes = pc.index_in(self._table["lang"], value_set=pa.array(self.languages, pa.large_string()))
        #: (n,) the language of each, as a position in :attr:`languages`.
        self.lang_codes: npt.NDArray[np.int32] = codes.to_numpy().astype(np.int32)

    def __len__(self) -> int:
        return int(self._table.num_rows)

    @overload
    def __getitem__(self, row: int) -> Passage: ...
    @overload
    def __getitem__(self, row: slice) -> list[Passage]: ...
    def __getitem__(self, row: int | slice) -> Passage | list[Passage]:
        if isinstance(row, slice):
            return [self[i] for i in range(*row.indices(len(self)))]
        if not -len(self) <= row < len(self):
            raise IndexError(row)
        return Passage(*(column[row % len(self)].as_py() for column in self._table.columns))

    def __iter__(self) -> Iterator[Passage]:
        for batch in self._table.to_batches(max_chunksize=_ROWS):
            yield from map(Passage, *(column.to_pylist() for column in batch.columns))

    def iter_texts(self) -> Iterator[str]:
        """Yield the texts in order, a batch of them in memory at a time."""
        for batch in self._table.to_batches(max_chunksize=_ROWS):
            yield from batch.column(2).to_pylist()

    def texts(self, rows: Sequence[int] | npt.NDArray[np.int64]) -> list[str]:
        """Return the texts of some rows."""
        found: list[str] = self._table["text"].take(pa.array(np.asarray(rows, dtype=np.int64))).to_pylist()
        return found

    def find(self, ids: Iterable[str]) -> dict[str, int]:
        """Return the row of each id that occurs."""
        wanted = pa.array(sorted(set(ids)), pa.large_string())
        found: dict[str, int] = {}
        begin = 0
        for chunk in self.ids.chunks:
            for row in np.flatnonzero(pc.is_in(chunk, value_set=wanted)).tolist():
                found[chunk[row].as_py()] = begin + row
            begin += len(chunk)
        return found

    def rows_in(self, lang: str | None) -> npt.NDArray[np.int64]:
        """Return the rows in a language, ascending; None for all."""
        if lang is None:
            return np.arange(len(self))
        return np.flatnonzero(self.lang_codes == self.languages.index(lang))

    @cached_property
    def id_order(self) -> npt.NDArray[np.int64]:
        """(n,) rows in ascending order of their ids, by UTF-8 bytes."""
        order: npt.NDArray[np.int64] = pc.sort_indices(self.ids).to_numpy().astype(np.int64)
        return order

    @cached_property
    def repeated_id(self) -> str | None:
        """An id that occurs twice, None if there is none."""
        counts = pc.value_counts(self.ids)
        repeated = counts.filter(pc.greater(pc.struct_field(counts, "counts"), 1))
        return repeated[0]["values"].as_py() if len(repeated) else None

    @cached_property
    def digest(self) -> str:
        """SHA-256 of ids, languages and texts, whatever their order."""
        digest = hashlib.sha256()
        for begin in range(0, len(self), _ROWS):
            rows = self._table.take(pa.array(self.id_order[begin : begin + _ROWS]))
            for row in zip(*(column.to_pylist() for column in rows.columns), strict=True):
                digest.update(json.dumps(row, ensure_ascii=False).encode())
        return digest.hexdigest()


@dataclass(frozen=True)
class RetrievalTask:
    """An evaluation set.

    Attributes:
        name: what the set is called in messages.
        queries: the queries of all languages; any iterable.
        passages: the candidates of all languages: the multilingual pool; any iterable of :class:`Passage`.
        qrels: relevance grade, from 0, by query id and passage id; a pair that is absent has grade 0. Passages of every
            language are listed: the settings restrict them.
        excluded: by query id, ids of passages that are no candidates for it, such as BEIR's documents with the
            query's own id.
        drops: what the reader left out, in words, with counts.
        settings: which of ``mono``, ``cross`` and ``multi`` make sense.
        sources: SHA-256 of each file that was read, by its name in the set's folder, and what else says which edition
            of the set this is.

    Raises:
        DataError: an id is repeated, empty or has white space in it, a text is empty, the qrels name an id that does
            not exist, or a grade is negative.
    """

    name: str
    queries: Sequence[Query]
    passages: Passages
    qrels: Mapping[str, Mapping[str, int]]
    excluded: Mapping[str, frozenset[str]] = field(default_factory=dict)
    drops: Mapping[str, int] = field(default_factory=dict)
    settings: Sequence[str] = SETTINGS
    sources: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "queries", tuple(self.queries))
        object.__setattr__(self, "passages", _collected(self.passages, self.name))
        if not self.queries or not self.passages:
            raise DataError(f"{self.name}: no {'passage' if self.queries else 'query'} in the task")
        if unknown := set(self.settings) - set(SETTINGS):
            raise DataError(f"{self.name}: {min(unknown)!r} is no setting; there are {', '.join(SETTINGS)}")
        query_ids = {q.id for q in self.queries}
        if len(query_ids) < len(self.queries):
            raise DataError(f"{self.name}: a query id occurs more than once")
        if (repeated := self.passages.repeated_id) is not None:
            raise DataError(f"{self.name}: passage id {repeated!r} occurs more than once")
        for query in self.queries:
            _check_item(self.name, "query", query.id, query.text)
        for query_id, grades in self.qrels.items():
            if query_id not in query_ids:
                raise DataError(f"{self.name}: the qrels name query {query_id!r}, which does not exist")
            if unknown := grades.keys() - self.judged_rows.keys():
                raise DataError(f"{self.name}: the qrels name passage {min(unknown)!r}, which does not exist")
            for passage_id, grade in grades.items():
                if grade < 0:  # pytrec_eval can fail to return on these
                    raise DataError(
                        f"{self.name}: query {query_id!r} has grade {grade} for passage {passage_id!r}; use 0 for what "
                        "is not relevant"
                    )

    @cached_property
    def judged_rows(self) -> dict[str, int]:
        """The row of each judged passage, by id; those that do not exist are left out."""
        return self.passages.find({passage_id for grades in self.qrels.values() for passage_id in grades})

    @cached_property
    def languages(self) -> list[str]:
        """Languages of the queries and passages, in alphabetical order."""
        return sorted({q.lang for q in self.queries} | set(self.passages.languages))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of queries, passages, qrels and what is excluded, whatever their order."""
        digest = hashlib.sha256()
        for q in sorted(self.queries, key=lambda q: q.id):
            digest.update(json.dumps([q.id, q.lang, q.group_id, q.text], ensure_ascii=False).encode())
        digest.update(self.passages.digest.encode())
        for query_id in sorted(self.qrels):
            digest.update(json.dumps([query_id, sorted(self.qrels[query_id].items())]).encode())
        for query_id in sorted(self.excluded):
            digest.update(json.dumps([query_id, sorted(self.excluded[query_id])]).encode())
        digest.update(json.dumps(sorted(self.settings)).encode())
        return digest.hexdigest()


def _collected(passages: Iterable[Passage], name: str) -> Passages:
    return passages if isinstance(passages, Passages) else Passages(passages, name)


def _check_item(name: str, kind: str, item_id: str, text: str) -> None:
    if item_id.split() != [item_id]:
        raise DataError(f"{name}: {kind} id {item_id!r} is empty or has white space, which TREC files split")
    if not text.strip():
        raise DataError(f"{name}: {kind} {item_id!r} has no text")


def _batches(passages: Iterable[Passage], name: str) -> Iterator[pa.RecordBatch]:
    remaining = iter(passages)
    while rows := list(islice(remaining, _ROWS)):
        for passage in rows:
            _check_item(name, "passage", passage.id, passage.text)
        columns = [[p.id for p in rows], [p.lang for p in rows], [p.text for p in rows]]
        try:
            yield pa.record_batch([pa.array(column, pa.large_string()) for column in columns], schema=_SCHEMA)
        except UnicodeEncodeError as error:
            raise DataError(f"{name}: {error.object[:40]!r} has half a surrogate pair, which is no Unicode") from error


def _table(batches: Iterator[pa.RecordBatch]) -> pa.Table:
    """Return the batches as a table, in memory or, where they are too large, mapped from a temporary file."""
    held: list[pa.RecordBatch] = []
    size = 0
    for batch in batches:
        held.append(batch)
        size += batch.nbytes
        if size > _IN_MEMORY:
            return _mapped(held, batches)
    return pa.Table.from_batches(held, _SCHEMA)


def _mapped(held: list[pa.RecordBatch], rest: Iterator[pa.RecordBatch]) -> pa.Table:
    handle, name = tempfile.mkstemp(suffix=".arrow", prefix="clirscale-")
    os.close(handle)
    path = Path(name)
    try:
        with pa.OSFile(name, "wb") as file, pa.ipc.new_file(file, _SCHEMA) as writer:
            while held:
                writer.write_batch(held.pop(0))
            for batch in rest:
                writer.write_batch(batch)
        return pa.ipc.open_file(pa.memory_map(name)).read_all()
    except OSError as error:
        raise DataError(
            f"{path.parent}: no room for the corpus, which is larger than memory should hold ({error.strerror}); free "
            "space, or set TMPDIR to a folder that has some"
        ) from error
    finally:
        path.unlink(missing_ok=True)  # the mapping keeps it until the process ends
