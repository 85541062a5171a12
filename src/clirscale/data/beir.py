"""Test collections in the layout of BEIR (Thakur et al., NeurIPS 2021 Datasets and Benchmarks, arXiv:2104.08663).

A folder holds ``corpus.jsonl`` (``_id``, ``title``, ``text``), ``queries.jsonl`` (``_id``, ``text``) and
``qrels/SPLIT.tsv`` (``query-id``, ``corpus-id``, ``score``, with a header). JSON lines may be compressed (``.gz``,
``.zst``). Read as well is what mteb publishes on the Hugging Face hub: ``qrels/SPLIT.jsonl``, and Parquet files
``corpus/SPLIT-00000-of-00001.parquet``, likewise for ``queries``, and for ``qrels``, ``default`` or ``data``.

CQADupStack is one such folder for each of twelve forums, and its score the mean over the forums. With ``subsets``, each
forum gets a language tag of its own, so that its index is its own and the macro-average of the monolingual setting over
languages is the one over forums.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clirscale.data import judgements
from clirscale.data.judgements import Judgement
from clirscale.data.sources import folder
from clirscale.data.tasks import Passage, Query, RetrievalTask
from clirscale.errors import DataError, nearest

_CORPUS = ("corpus.jsonl", "corpus.jsonl.gz", "corpus.jsonl.zst", "{}corpus/{split}-*.parquet", "{}corpus/*.parquet")
_QUERIES = tuple(pattern.replace("corpus", "queries") for pattern in _CORPUS)
_QRELS = (
    "qrels/{split}.tsv",
    "qrels/{split}.jsonl",
    *(f"{{}}{where}/{{split}}-*.parquet" for where in ("qrels", "default", "data")),
)
_CHOICES = {
    "identical_ids": ("keep", "exclude"),
    "empty": ("drop", "error"),
    "unknown": ("error", "drop"),
    "negative": ("error", "zero"),
}


def read(
    path: str | None,
    hub: str | None = None,
    revision: str | None = None,
    split: str = "test",
    lang: str = "en",
    query_lang: str | None = None,
    *,
    identical_ids: str,
    subsets: Sequence[str] | None = None,
    empty: str = "drop",
    unknown: str = "error",
    negative: str = "error",
) -> RetrievalTask:
    """Read a collection. The corpus is streamed; ids of subsets are ``SUBSET/ID``.

    A passage is title, a blank and text, as in BEIR. The language is the record's ``metadata.lang`` or ``lang`` where
    it has one, else what the arguments say. The settings are those in which a passage is relevant to a query: a
    collection in one language has ``mono`` only; queries in several languages over an English corpus have ``cross``.

    Args:
        path: the folder; with ``subsets``, the folder of their folders.
        hub: dataset on the Hugging Face hub, for where the folder is missing.
        revision: commit of that dataset.
        split: of the qrels. Only queries that are judged in it are taken.
        lang: of passages, and of queries unless ``query_lang`` says otherwise.
        query_lang: of queries.
        identical_ids: ``exclude`` takes the passage with the query's own id from its candidates, ``keep`` does not.
            BEIR's evaluation always excludes: right where queries are passages of the corpus (ArguAna, Quora), wrong
            where both are numbered independently. Hence no default.
        subsets: names of folders, each read as a collection of its own, tagged by :func:`forum_tag`.
        empty: passages without title and text: ``drop`` them and their judgements, counted, or ``error``.
        unknown: judgements of queries or passages that do not exist: ``error``, or ``drop`` them, counted.
        negative: grades below 0: ``error``, or ``zero`` to take them as not relevant, as trec_eval does; counted.

    Raises:
        DataError: files are missing or malformed; the message names file and line.
    """
    name = Path(path).name if path else str(hub)
    _check_choices(name, identical_ids=identical_ids, empty=empty, unknown=unknown, negative=negative)
    names = _subset_names(name, subsets)
    # Without a hub, these are only what a message tells the user to place.
    wanted = patterns(split) if hub else [_CORPUS[0], _QUERIES[0], _QRELS[0].format(split=split)]
    source = folder(path, hub, revision, [f"{sub}{file}" for sub in names for file in wanted])
    parts = []
    for sub in names:
        tag = sub.removesuffix("/") if subsets else None
        files = find(source.path / sub, split)
        parts.append(Layout(files, sub, lang, query_lang or lang, tag, drop_empty=empty == "drop"))
    sources = source.digests(file for part in parts for file in part.files.all)
    if source.revision is not None:
        sources["revision"] = source.revision
    return judgements.assemble(
        name,
        parts,
        split,
        sources,
        settings=("mono",) if subsets else None,
        exclude_identical=identical_ids == "exclude",
        drop_unknown=unknown == "drop",
        negative_is_zero=negative == "zero",
    )


def forum_tag(lang: str, subset: str) -> str:
    """Return a language tag for one of several collections in a language: its name as BCP 47's private use.

    Subtags have at most 8 letters or digits, so that longer names are cut into pieces.

    >>> forum_tag("en", "android"), forum_tag("en", "mathematica")
    ('en-x-android', 'en-x-mathemat-ica')
    """
    pieces = re.findall(r"[a-z0-9]{1,8}", subset.lower())
    return "-".join([lang, "x", *pieces])


@dataclass(frozen=True, slots=True)
class Files:
    """The files of one collection."""

    corpus: list[Path]
    queries: list[Path]
    qrels: list[Path]

    @property
    def all(self) -> list[Path]:
        """Every file."""
        return [*self.corpus, *self.queries, *self.qrels]


def patterns(split: str, config: str = "") -> list[str]:
    """Return the glob patterns of every file that a collection may have.

    Args:
        split: of the qrels.
        config: prefix of the Parquet folders, such as ``sw-`` in ``sw-corpus``.
    """
    return [p.format(config, split=split) for p in (*_CORPUS, *_QUERIES, *_QRELS) if not config or p.startswith("{}")]


def find(place: Path, split: str, config: str = "") -> Files:
    """Return the files of the collection in a folder; of several forms, the first in the order of :func:`patterns`.

    Raises:
        DataError: one is missing; the message says what was looked for.
    """
    found = []
    for what, candidates in (("corpus", _CORPUS), ("queries", _QUERIES), (f"qrels of {split!r}", _QRELS)):
        looked_for = [p.format(config, split=split) for p in candidates if not config or p.startswith("{}")]
        files = next((files for pattern in looked_for if (files := sorted(place.glob(pattern)))), None)
        if files is None:
            others = sorted(file.name for file in place.glob("qrels/*")) if candidates is _QRELS else []
            hint = f"; there are {', '.join(others)}" if others else ""
            raise DataError(f"{place}: no {what}; looked for {', '.join(looked_for)}{hint}")
        judgements.check_shards(files)
        found.append(files)
    return Files(*found)


@dataclass(frozen=True)
class Layout:
    """A collection in this layout: the whole task, or one part of several.

    Attributes:
        files: what is read.
        prefix: put before every id.
        lang: of passages that do not say theirs.
        query_lang: the same for queries.
        forum: name for :func:`forum_tag`, None to leave languages as they are.
        drop_empty: leave out passages without title and text, else raise an error.
        drops: counts of what was left out.
        empty_ids: the passages that were left out.
    """

    files: Files
    prefix: str
    lang: str
    query_lang: str
    forum: str | None = None
    drop_empty: bool = True
    drops: Counter[str] = field(default_factory=Counter)
    empty_ids: set[str] = field(default_factory=set)

    def qrels(self) -> Iterator[Judgement]:
        """Yield the judgements of the split."""
        for file in self.files.qrels:
            for row in judgements.beir_qrels(file):
                yield row._replace(query=self.prefix + row.query, passage=self.prefix + row.passage)

    def queries(self) -> Iterator[tuple[str, Query]]:
        """Yield place and content of each query, judged or not.

        Raises:
            DataError: a text is empty.
        """
        for file in self.files.queries:
            for place, record in judgements.records(file):
                query_id = self.prefix + judgements.identifier(record, ("_id", "id"), place)
                text = judgements.text(record, "text", place).strip()
                if not text:
                    raise DataError(f"{place}: query {query_id!r} has no text; fill it in or remove the line")
                yield place, Query(query_id, self._tag(record, self.query_lang, place), query_id, text)

    def passages(self) -> Iterator[tuple[str, Passage]]:
        """Yield place and content of each passage.

        Raises:
            DataError: one is empty, and they are not to be left out.
        """
        for file in self.files.corpus:
            for place, record in judgements.records(file):
                passage_id = self.prefix + judgements.identifier(record, ("_id", "id"), place)
                text = judgements.titled(record, place)
                if text:
                    yield place, Passage(passage_id, self._tag(record, self.lang, place), text)
                elif self.drop_empty:
                    self.drops["passages without text"] += 1
                    self.empty_ids.add(passage_id)
                else:
                    raise DataError(
                        f"{place}: passage {passage_id!r} has neither title nor text; remove it, or leave such passages"
                        " out with empty=drop"
                    )

    def _tag(self, record: dict[str, Any], default: str, place: str) -> str:
        metadata = record.get("metadata")
        lang = metadata.get("lang") if isinstance(metadata, dict) else None
        lang = lang or record.get("lang") or default
        if not isinstance(lang, str):
            raise DataError(f"{place}: the language is {lang!r}; must be a tag such as 'sw'")
        return sys.intern(forum_tag(lang, self.forum) if self.forum else lang)


def _check_choices(name: str, **given: str) -> None:
    for key, value in given.items():
        if value not in _CHOICES[key]:
            raise DataError(f"{name}: {key} is {value!r}; {nearest(str(value), _CHOICES[key])}")


def _subset_names(name: str, subsets: Sequence[str] | None) -> list[str]:
    """Return the subsets' folders with a slash, or the empty name of the whole."""
    if subsets is None:
        return [""]
    tags = {forum_tag("", subset): subset for subset in subsets}
    if not subsets or len(tags) < len(subsets) or forum_tag("", "") in tags:
        raise DataError(
            f"{name}: subsets is {list(subsets)}; must be names of folders that differ in letters or digits"
        )
    return [f"{subset}/" for subset in subsets]
