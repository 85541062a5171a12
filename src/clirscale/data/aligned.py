"""Parallel retrieval sets: one collection a language, aligned by ids or by lines. A new one is a YAML file.

:func:`read` is for sets like Belebele (Bandarkar et al., ACL 2024, arXiv:2308.16884): each record has a query and the
passage that answers it, and the same ids in every language. :func:`read_bitext` is for sentences and their
translations, like Tatoeba (Artetxe & Schwenk, TACL 2019), BUCC or FLORES (NLLB Team 2022): the query is a sentence, the
relevant passage its translation.

Both take one file a language. Its name is a pattern with ``{lang}`` in it, such as ``data/{lang}.jsonl``; what stands
there is the language, or its code where ``codes`` maps codes to tags (``eng_Latn: en``).
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clirscale.data import judgements, sources
from clirscale.data.sources import Source
from clirscale.data.tasks import Passage, Passages, Query, RetrievalTask
from clirscale.errors import DataError, nearest

log = logging.getLogger(__name__)

_LANG = "{lang}"


def read(
    path: str | None,
    hub: str | None = None,
    revision: str | None = None,
    files: str = "{lang}.jsonl",
    languages: Sequence[str] | None = None,
    codes: Mapping[str, str] | None = None,
    query: str = "question",
    query_id: str | Sequence[str] = "id",
    passage: str = "passage",
    passage_id: str | Sequence[str] = "passage_id",
) -> RetrievalTask:
    """Read records of a query and its passage: JSON lines (plain, ``.gz``, ``.zst``) or Parquet.

    A passage that several records have is one candidate. The passages of one id, in all languages, are relevant to the
    queries of all records that have it. Ids get the language in front: ``de:ID``; where an id has several keys, they
    are joined by ``#``.

    Args:
        path: the folder.
        hub: dataset on the Hugging Face hub, for where the folder is missing.
        revision: commit of that dataset.
        files: names of the files, with ``{lang}``.
        languages: tags of the languages to read; None takes every file.
        codes: tags of the languages by what stands in the files' names; names that are absent are tags themselves.
        query: key of the query's text.
        query_id: key of its id, or several keys that identify it together.
        passage: key of the passage's text.
        passage_id: key of its id, or several.

    Raises:
        DataError: files are missing, malformed or have nothing in common; the message names file and line.
    """
    source, found = _find(path, hub, revision, files, languages, codes)
    keys = _Keys(query, _listed(query_id), passage, _listed(passage_id))
    parts = [_read_records(lang, file, keys) for lang, file in found.items()]
    translations: dict[str, list[str]] = {}
    for part in parts:
        for name in part.passages:
            translations.setdefault(name, []).append(f"{part.lang}:{name}")
    if len(parts) > 1 and all(len(ids) == 1 for ids in translations.values()):
        raise DataError(
            f"{source.path}: no passage id is there in two languages ({_sample(parts)}); passage_id is "
            f"{', '.join(keys.passage_id)}: it must be the same in all translations"
        )
    name = _name(path, hub)
    return RetrievalTask(
        name,
        [query for part in parts for query, _ in part.queries],
        Passages((Passage(f"{part.lang}:{i}", part.lang, t) for part in parts for i, t in part.passages.items()), name),
        {query.id: dict.fromkeys(translations[about], 1) for part in parts for query, about in part.queries},
        drops={what: count for part in parts for what, count in part.drops.items()},
        sources=_editions(source, found),
    )


def read_bitext(
    path: str | None,
    hub: str | None = None,
    revision: str | None = None,
    files: str = "{lang}.txt",
    languages: Sequence[str] | None = None,
    codes: Mapping[str, str] | None = None,
    text: str = "text",
    text_id: str | None = None,
) -> RetrievalTask:
    """Read sentences and their translations: every sentence is a query, and a passage.

    Files are text, one sentence a line (the n-th lines of all files are translations of each other), or with ids:
    ``.tsv`` (id, tab, sentence; no header), JSON lines or Parquet with the key ``text_id``. Any may be compressed.

    The settings are ``cross`` and ``multi``: within one language a sentence would only have to find itself. In the
    multilingual pool, it is no candidate for itself. Sentences that are repeated in a file are separate candidates, of
    which one is relevant, as in LASER's evaluation of Tatoeba.

    Args:
        path: the folder.
        hub: dataset on the Hugging Face hub, for where the folder is missing.
        revision: commit of that dataset.
        files: names of the files, with ``{lang}``, such as ``{lang}.devtest`` or ``tatoeba.deu-eng.{lang}``.
        languages: tags of the languages to read; None takes every file.
        codes: tags of the languages by what stands in the files' names; names that are absent are tags themselves.
        text: key of the sentence in JSON and Parquet.
        text_id: key of its id there; None aligns by line.

    Raises:
        DataError: files are missing, malformed or not aligned; the message names file and line.
    """
    source, found = _find(path, hub, revision, files, languages, codes)
    if len(found) < 2:
        raise DataError(f"{source.path}: has {', '.join(found)} only; a sentence needs a translation to be found")
    columns = {lang: _read_sentences(file, text, text_id) for lang, file in found.items()}
    if not _has_ids(files, text_id):
        _check_lengths(found, columns)
    languages_of: dict[str, list[str]] = {}
    for lang, column in columns.items():
        for name in column:
            languages_of.setdefault(name, []).append(lang)
    items = [(lang, name, sentence) for lang, column in columns.items() for name, sentence in column.items()]
    translated = [item for item in items if len(languages_of[item[1]]) > 1]
    if not translated:
        raise DataError(f"{source.path}: no id is there in two files; the id must be the same in all translations")
    alone = Counter(f"queries without a translation ({lang})" for lang, *_ in items) - Counter(
        f"queries without a translation ({lang})" for lang, *_ in translated
    )
    name = _name(path, hub)
    return RetrievalTask(
        name,
        [Query(f"{lang}:{i}", lang, i, sentence) for lang, i, sentence in translated],
        Passages((Passage(f"{lang}:{i}", lang, sentence) for lang, i, sentence in items), name),
        {f"{lang}:{i}": {f"{other}:{i}": 1 for other in languages_of[i] if other != lang} for lang, i, _ in translated},
        excluded={f"{lang}:{i}": frozenset([f"{lang}:{i}"]) for lang, i, _ in translated},
        drops=alone,
        settings=("cross", "multi"),
        sources=_editions(source, found),
    )


def _name(path: str | None, hub: str | None) -> str:
    return Path(path).name if path is not None else str(hub)


def _editions(source: Source, found: Mapping[str, Path]) -> dict[str, str]:
    """Return what the task says about its sources."""
    editions = source.digests(found.values())
    if source.revision is not None:
        editions["revision"] = source.revision
    return editions


def _find(
    path: str | None,
    hub: str | None,
    revision: str | None,
    files: str,
    languages: Sequence[str] | None,
    codes: Mapping[str, str] | None,
) -> tuple[Source, dict[str, Path]]:
    """Return the folder and the file of each language, in alphabetical order."""
    if files.count(_LANG) != 1:
        raise DataError(f"{_name(path, hub)}: files is {files!r}; it must have {_LANG} once, as {{lang}}.jsonl has")
    tags = dict(codes or {})
    code_of = {tag: code for code, tag in tags.items()}
    if len(code_of) < len(tags):
        tag = Counter(tags.values()).most_common(1)[0][0]
        raise DataError(f"{_name(path, hub)}: codes maps two codes to {tag!r}; each language needs a tag of its own")
    wanted = None if languages is None else list(dict.fromkeys(languages))
    if wanted == []:
        raise DataError(f"{_name(path, hub)}: no language is asked for; null takes all")
    names = ["*"] if wanted is None else [code_of.get(tag, tag) for tag in wanted]
    source = sources.folder(path, hub, revision, [files.replace(_LANG, name) for name in names])
    pattern = re.compile(re.escape(files).replace(re.escape(_LANG), "([^/]+)"))
    there = {}
    for file in sorted(source.path.glob(files.replace(_LANG, "*"))):
        if match := pattern.fullmatch(file.relative_to(source.path).as_posix()):
            there[tags.get(match[1], match[1])] = file
    if not there:
        raise DataError(f"{source.path}: has no file of the form {files}; place them there, or name their form (files)")
    for tag in wanted or ():
        if tag not in there:
            missing = files.replace(_LANG, code_of.get(tag, tag))
            raise DataError(f"{source.path}: has no {missing} for language {tag!r}; {nearest(tag, there)}")
    return source, {tag: there[tag] for tag in sorted(wanted or there)}


@dataclass(frozen=True, slots=True)
class _Keys:
    """What the parts of a record are called in a file; an id may have several."""

    query: str
    query_id: list[str]
    passage: str
    passage_id: list[str]


@dataclass
class _Part:
    """What is read in one language.

    Attributes:
        queries: each with the id of its passage.
        passages: texts by id.
        drops: counts of what was left out.
    """

    lang: str
    queries: list[tuple[Query, str]] = field(default_factory=list)
    passages: dict[str, str] = field(default_factory=dict)
    drops: Counter[str] = field(default_factory=Counter)


def _read_records(lang: str, file: Path, keys: _Keys) -> _Part:
    part = _Part(lang)
    places: dict[str, str] = {}
    for place, record in judgements.records(file):
        about = _identifier(record, keys.passage_id, place)
        passage = _text(record, keys.passage, place)
        if part.passages.setdefault(about, passage) != passage:
            part.drops[f"texts that differ from the first of their passage id ({lang})"] += 1
        name = _identifier(record, keys.query_id, place)
        if name in places:
            raise DataError(
                f"{place}: query id {name!r} stands at {places[name]} already; remove one, or make query_id a list of "
                "keys that identify the query together"
            )
        places[name] = place
        part.queries.append((Query(f"{lang}:{name}", lang, name, _text(record, keys.query, place)), about))
    if not part.queries:
        raise DataError(f"{file}: has no record; fetch it again, or leave {lang!r} out (languages)")
    for what, count in part.drops.items():
        log.warning("%s: %d %s; the first was taken", file, count, what)
    return part


def _sample(parts: Sequence[_Part]) -> str:
    return ", ".join(f"{part.lang}: {next(iter(part.passages))!r}" for part in parts[:2])


def _has_ids(files: str, id_key: str | None) -> bool:
    return id_key is not None or ".tsv" in Path(files).suffixes


def _read_sentences(file: Path, text_key: str, id_key: str | None) -> dict[str, str]:
    """Return the sentences of a file by id, or by their number from 1."""
    found: dict[str, str] = {}
    places: dict[str, str] = {}
    for place, name, sentence in _sentences(file, text_key, id_key):
        if name in found:
            raise DataError(f"{place}: id {name!r} stands at {places[name]} already; remove one, or rename it")
        found[name], places[name] = sentence, place
    if not found:
        raise DataError(f"{file}: has no sentence; fetch it again, or leave its language out (languages)")
    return found


def _sentences(file: Path, text_key: str, id_key: str | None) -> Iterator[tuple[str, str, str]]:
    """Yield place, id and text of each sentence."""
    if {".jsonl", ".parquet"} & set(file.suffixes):
        for number, (place, record) in enumerate(judgements.records(file), 1):
            name = str(number) if id_key is None else _identifier(record, [id_key], place)
            yield place, name, _text(record, text_key, place)
        return
    for number, (place, line) in enumerate(judgements.lines(file), 1):
        if place != f"{file}:{number}":
            raise DataError(f"{file}:{number}: is blank, which would shift what follows against the other languages")
        if ".tsv" not in file.suffixes:
            yield place, str(number), line.strip()
            continue
        name, tab, sentence = line.partition("\t")
        if not tab or not sentence.strip():
            raise DataError(f"{place}: must be an id, a tab and a sentence; is {line[:60]!r}")
        yield place, judgements.identifier({"id": name}, ["id"], place), sentence.strip()


def _check_lengths(found: Mapping[str, Path], columns: Mapping[str, Mapping[str, str]]) -> None:
    """Raise a DataError if files that are aligned by line differ in their number of lines."""
    usual = Counter(map(len, columns.values())).most_common(1)[0][0]
    like = next(found[lang] for lang, column in columns.items() if len(column) == usual)
    for lang, column in columns.items():
        if len(column) != usual:
            raise DataError(
                f"{found[lang]}: has {len(column)} sentences, {like.name} has {usual}; the n-th lines must be "
                "translations of each other"
            )


def _listed(keys: str | Sequence[str]) -> list[str]:
    return [keys] if isinstance(keys, str) else list(keys)


def _identifier(record: Mapping[str, Any], keys: Sequence[str], place: str) -> str:
    for key in keys:
        _check_key(record, key, place)
    return "#".join(judgements.identifier(record, [key], place) for key in keys)


def _text(record: Mapping[str, Any], key: str, place: str) -> str:
    _check_key(record, key, place)
    found = judgements.text(record, key, place).strip()
    if not found:
        raise DataError(f"{place}: {key!r} is empty; fill it in or remove the record")
    return found


def _check_key(record: Mapping[str, Any], key: str, place: str) -> None:
    if key not in record:
        others = nearest(key, record) if record else "the record has no key"
        raise DataError(f"{place}: no key {key!r} in the record; {others}")
