"""Retrieval tasks: queries, candidate passages and their relevance, in several languages."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from clirscale.errors import DataError


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


@dataclass(frozen=True)
class RetrievalTask:
    """An evaluation set.

    Attributes:
        name: what the task is called in records and reports.
        queries: the queries of all languages.
        passages: the candidates of all languages: the multilingual pool.
        qrels: relevance grade, from 0, by query id and passage id; a pair that is absent has grade 0. Passages of every
            language are listed: the settings restrict them.

    Raises:
        DataError: an id is repeated, empty or has white space in it, a text is empty, the qrels name an id that does
            not exist, or a grade is negative.
    """

    name: str
    queries: tuple[Query, ...]
    passages: tuple[Passage, ...]
    qrels: Mapping[str, Mapping[str, int]]

    def __post_init__(self) -> None:
        query_ids = {q.id for q in self.queries}
        passage_ids = {p.id for p in self.passages}
        if not query_ids or not passage_ids:
            raise DataError(f"{self.name}: no {'passage' if query_ids else 'query'} in the task")
        if len(query_ids) < len(self.queries) or len(passage_ids) < len(self.passages):
            raise DataError(f"{self.name}: a query id or passage id occurs more than once")
        items: tuple[Query | Passage, ...] = (*self.queries, *self.passages)
        for item in items:
            if item.id.split() != [item.id]:
                kind = type(item).__name__.lower()
                raise DataError(
                    f"{self.name}: {kind} id {item.id!r} is empty or has white space, which TREC files split"
                )
            if not item.text.strip():
                raise DataError(f"{self.name}: {type(item).__name__.lower()} {item.id!r} has no text")
        for query_id, grades in self.qrels.items():
            if query_id not in query_ids:
                raise DataError(f"{self.name}: the qrels name query {query_id!r}, which does not exist")
            unknown = grades.keys() - passage_ids
            if unknown:
                raise DataError(f"{self.name}: the qrels name passage {min(unknown)!r}, which does not exist")
            for passage_id, grade in grades.items():
                if grade < 0:  # pytrec_eval can fail to return on these
                    raise DataError(
                        f"{self.name}: query {query_id!r} has grade {grade} for passage {passage_id!r}; use 0 for what "
                        "is not relevant"
                    )

    @cached_property
    def languages(self) -> list[str]:
        """Languages of the queries and passages, in alphabetical order."""
        return sorted({q.lang for q in self.queries} | {p.lang for p in self.passages})

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of queries, passages and qrels, whatever their order."""
        digest = hashlib.sha256()
        for q in sorted(self.queries, key=lambda q: q.id):
            digest.update(json.dumps([q.id, q.lang, q.group_id, q.text], ensure_ascii=False).encode())
        for p in sorted(self.passages, key=lambda p: p.id):
            digest.update(json.dumps([p.id, p.lang, p.text], ensure_ascii=False).encode())
        for query_id in sorted(self.qrels):
            digest.update(json.dumps([query_id, sorted(self.qrels[query_id].items())]).encode())
        return digest.hexdigest()
