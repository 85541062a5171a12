"""MIRACL (Zhang et al., TACL 2023, doi:10.1162/tacl_a_00595): Wikipedia in 18 languages, each searched by itself.

A folder holds what ``miracl/miracl`` and ``miracl/miracl-corpus`` hold on the Hugging Face hub:
``miracl-v1.0-sw/topics/topics.miracl-v1.0-sw-dev.tsv`` (query id and query between tabs),
``miracl-v1.0-sw/qrels/qrels.miracl-v1.0-sw-dev.tsv`` (TREC qrels, zeros written) and
``miracl-corpus-v1.0-sw/docs-0.jsonl.gz``, ``docs-1.jsonl.gz`` … (``docid``, ``title``, ``text``).

The published reduction for less machine time is mteb's ``MIRACLRetrievalHardNegatives``: at most 1,000 queries a
language, and as corpus the 250 best passages of three retrievers for each. It comes as Parquet files in mteb's layout
(``sw-corpus/dev-00000-of-00001.parquet``, likewise ``sw-queries`` and ``sw-qrels``). Its numbers do not compare with
those of the full corpus, so that which one was read is part of the task's sources.

Query and document ids repeat across languages. Where one language is read, ids are the published ones, so that run
files go with the published qrels; where several are, ids are ``LANGUAGE:ID``: what follows the first colon is the
published one.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from clirscale.data import beir, judgements
from clirscale.data.files import existing
from clirscale.data.judgements import Judgement
from clirscale.data.sources import folder
from clirscale.data.tasks import Passage, Passages, Query, RetrievalTask
from clirscale.errors import DataError, nearest

log = logging.getLogger(__name__)

#: Passages of the published corpora, by language.
PASSAGES = {
    "ar": 2_061_414, "bn": 297_265, "de": 15_866_222, "en": 32_893_221, "es": 10_373_953, "fa": 2_207_172,
    "fi": 1_883_509, "fr": 14_636_953, "hi": 506_264, "id": 1_446_315, "ja": 6_953_614, "ko": 1_486_752,
    "ru": 9_543_918, "sw": 131_924, "te": 518_079, "th": 542_166, "yo": 49_043, "zh": 4_934_368,
}  # fmt: skip

_DOCID = re.compile(r"[^#\s]+#\d+")
_CORPORA = ("full", "hard_negatives")


def read(
    path: str | None,
    hub: str | None = None,
    revision: str | None = None,
    corpus_hub: str | None = None,
    corpus_revision: str | None = None,
    hard_negatives_hub: str | None = None,
    hard_negatives_revision: str | None = None,
    *,
    languages: Sequence[str],
    split: str = "dev",
    corpus: str = "full",
) -> RetrievalTask:
    """Read one language or several; the setting is monolingual. The corpus is streamed.

    A passage is title, a blank and text: MIRACL's baselines index both (project-miracl/miracl, issue 18).

    Args:
        path: the folder.
        hub: dataset with topics and qrels on the Hugging Face hub, for where the folder is missing.
        revision: its commit.
        corpus_hub: dataset with the full corpus.
        corpus_revision: its commit.
        hard_negatives_hub: dataset with the reduction: its topics, qrels and corpus.
        hard_negatives_revision: its commit.
        languages: of MIRACL, such as ``[sw, yo]``.
        split: ``dev`` or ``train``; the judgements of the test sets are not public.
        corpus: ``full`` or ``hard_negatives``.

    Raises:
        DataError: files are missing or malformed; the message names file and line.
    """
    if corpus not in _CORPORA:
        raise DataError(f"miracl: corpus is {corpus!r}; {nearest(str(corpus), _CORPORA)}")
    if not languages or len(set(languages)) < len(languages):
        raise DataError(f"miracl: languages is {list(languages)}; give at least one, and each once, such as [sw, yo]")
    for lang in languages:
        if lang not in PASSAGES:
            raise DataError(f"miracl: has no language {lang!r}; {nearest(lang, PASSAGES)}")
    if corpus == "hard_negatives":
        return _hard_negatives(path, hard_negatives_hub, hard_negatives_revision, languages, split)
    names = [name for lang in languages for name in (_topics(lang, split), _qrels(lang, split))]
    judged = folder(path, hub, revision, names)
    shards = folder(path, corpus_hub, corpus_revision, [f"{_corpus(lang)}/docs-*.jsonl.gz" for lang in languages])
    parts = [
        _Layout(
            lang=lang,
            prefix=f"{lang}:" if len(languages) > 1 else "",
            topics=judged.path / _topics(lang, split),
            judged=judged.path / _qrels(lang, split),
            shards=_shards(shards.path / _corpus(lang)),
        )
        for lang in languages
    ]
    sources = judged.digests([existing(str(judged.path / name)) for name in names])
    sources |= shards.digests(file for part in parts for file in part.shards)
    editions = {"corpus": corpus, "revision": judged.revision, "corpus_revision": shards.revision}
    sources |= {key: value for key, value in editions.items() if value is not None}
    task = judgements.assemble("miracl", parts, split, sources, settings=("mono",))
    _warn_if_not_full(task.passages)
    return task


def _hard_negatives(
    path: str | None, hub: str | None, revision: str | None, languages: Sequence[str], split: str
) -> RetrievalTask:
    source = folder(path, hub, revision, [p for lang in languages for p in beir.patterns(split, f"{lang}-")])
    parts = [
        beir.Layout(
            beir.find(source.path, split, f"{lang}-"),
            prefix=f"{lang}:" if len(languages) > 1 else "",
            lang=lang,
            query_lang=lang,
        )
        for lang in languages
    ]
    sources = source.digests(file for part in parts for file in part.files.all) | {"corpus": "hard_negatives"}
    if source.revision is not None:
        sources["revision"] = source.revision
    return judgements.assemble("miracl", parts, split, sources, settings=("mono",))


def _topics(lang: str, split: str) -> str:
    return f"miracl-v1.0-{lang}/topics/topics.miracl-v1.0-{lang}-{split}.tsv"


def _qrels(lang: str, split: str) -> str:
    return f"miracl-v1.0-{lang}/qrels/qrels.miracl-v1.0-{lang}-{split}.tsv"


def _corpus(lang: str) -> str:
    return f"miracl-corpus-v1.0-{lang}"


def _shards(place: Path) -> list[Path]:
    """Return the corpus files in order of their numbers.

    Raises:
        DataError: there is none, or a number between 0 and the highest is missing.
    """
    numbered = {}
    for file in place.glob("docs-*.jsonl.gz"):
        if match := re.fullmatch(r"docs-(\d+)\.jsonl\.gz", file.name):
            numbered[int(match[1])] = file
    for number in range(max(numbered, default=0) + 1):
        if number not in numbered:
            raise DataError(
                f"{place / f'docs-{number}.jsonl.gz'}: this part of the corpus is missing; fetch it from"
                " miracl/miracl-corpus on the Hugging Face hub"
            )
    return [numbered[number] for number in sorted(numbered)]


@dataclass(frozen=True)
class _Layout:
    """The collection of one language; ids get ``prefix``."""

    lang: str
    prefix: str
    topics: Path
    judged: Path
    shards: list[Path]
    drops: Counter[str] = field(default_factory=Counter)
    empty_ids: set[str] = field(default_factory=set)

    def qrels(self) -> Iterator[Judgement]:
        for row in judgements.trec_qrels(self.judged):
            yield row._replace(query=self.prefix + row.query, passage=self.prefix + row.passage)

    def queries(self) -> Iterator[tuple[str, Query]]:
        for place, line in judgements.lines(self.topics):
            fields = line.split("\t")
            if len(fields) != 2 or not fields[1].strip():
                raise DataError(f"{place}: must be a query id, a tab and the query, without header; is {line[:60]!r}")
            query_id = self.prefix + judgements.identifier({"query id": fields[0]}, ["query id"], place)
            yield place, Query(query_id, self.lang, query_id, fields[1].strip())

    def passages(self) -> Iterator[tuple[str, Passage]]:
        for file in self.shards:
            for place, record in judgements.records(file):
                docid = judgements.identifier(record, ["docid"], place)
                if not _DOCID.fullmatch(docid):
                    raise DataError(f"{place}: docid {docid!r} is not of the form ARTICLE#PASSAGE; is this MIRACL's?")
                if text := judgements.titled(record, place):
                    yield place, Passage(self.prefix + docid, self.lang, text)
                else:
                    self.drops["passages without text"] += 1
                    self.empty_ids.add(self.prefix + docid)


def _warn_if_not_full(passages: Passages) -> None:
    for code, lang in enumerate(passages.languages):
        count = int((passages.lang_codes == code).sum())
        if count != PASSAGES[lang]:
            log.warning(
                "miracl: %s passages in %r, the published corpus has %s: measures do not compare with published ones",
                f"{count:,}",
                lang,
                f"{PASSAGES[lang]:,}",
            )
