"""XQuAD-R, MLQA-R and other sets in LAReQA's format (Roy et al., EMNLP 2020, arXiv:2004.05484).

A folder holds one file a language, ``<lang>.json``: SQuAD's JSON with a ``sentence_breaks`` list in every paragraph.
Every sentence of every paragraph is a candidate. A question's relevant candidates are the sentences, in all
languages, in which the answers to the question of that id begin. In XQuAD-R each question is there in all 11
languages, in MLQA-R in 2 to 4 of 7.

Read as well is what these sets are made from, XQuAD (``xquad.<lang>.json``) and MLQA
(``dev-context-<lang>-question-<lang>.json``), and their Parquet files on the Hugging Face hub (``xquad.<lang>/
validation-*.parquet``). They have no sentence breaks: those are made by :mod:`clirscale.data.sentences`, and the
candidates differ from the published ones, as the task's ``sources`` say.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from clirscale.data import judgements, sentences, sources
from clirscale.data.tasks import Passage, Passages, Query, RetrievalTask
from clirscale.errors import DataError, nearest

log = logging.getLogger(__name__)

_LANG = r"(?P<lang>[a-z]{2,3}(?:-[A-Z][A-Za-z]{1,3})*)"  # de, pt-BR, zh-Hant
_SHARDS = r"validation-\d+-of-\d+\.parquet"
# Names relative to the folder, the published sentence breaks first.
_NAMES = [
    re.compile(name)
    for name in (
        rf"{_LANG}\.json",
        rf"xquad\.{_LANG}\.json",
        rf"dev-context-{_LANG}-question-(?P=lang)\.json",
        rf"xquad\.{_LANG}/{_SHARDS}",
        rf"mlqa\.{_LANG}\.(?P=lang)/{_SHARDS}",
        rf"{_LANG}/{_SHARDS}",
    )
]


def read(
    path: str | None,
    hub: str | None = None,
    revision: str | None = None,
    languages: Sequence[str] | None = None,
    context: bool = False,
) -> RetrievalTask:
    """Read a retrieval task in LAReQA's format.

    Passage ids are ``{lang}_{paragraph number}_{sentence number}``, numbered from 0 through the file; query ids are
    ``{lang}:{question id}``. A question whose answer begins in no sentence is left out in that language, with a
    warning, as in LAReQA's code. A sentence that stands twice in its paragraph is one text with one meaning: both
    candidates are relevant.

    Args:
        path: the folder.
        hub: dataset on the Hugging Face hub, for where the folder is missing.
        revision: commit of that dataset.
        languages: only these; None takes every language in the folder.
        context: append the paragraph to each sentence, as LAReQA's encoder sees it.

    Raises:
        DataError: the folder or a language is missing, or a file is malformed; the message names file and place.
    """
    source = sources.folder(path, hub, revision, _wanted_files(hub, languages))
    files = _files(source.path)
    wanted = list(files) if languages is None else list(dict.fromkeys(languages))
    if not wanted:
        raise DataError(f"{source.path}: no language is asked for; null takes all of {', '.join(files)}")
    for lang in wanted:
        if lang not in files:
            raise DataError(f"{source.path}: has no {lang}.json; {nearest(lang, files)}")
    parts = [_collect(lang, files[lang], context) for lang in wanted]
    editions = source.digests(file for lang in wanted for file in files[lang])
    if source.revision is not None:
        editions["revision"] = source.revision
    if rebuilt := [part.lang for part in parts if part.rebuilt]:
        editions["sentences"] = f"rebuilt: {sentences.NAME}"
        log.warning(
            "%s: no sentence breaks (%s), so they are made by %s: the candidates differ from LAReQA's, and measures do "
            "not compare with published ones",
            source.path,
            ", ".join(rebuilt),
            sentences.NAME,
        )
    queries = [query for part in parts for query in part.queries]
    relevant = _relevant(parts)
    name = Path(path).name if path is not None else str(hub)
    return RetrievalTask(
        name,
        queries,
        Passages(chain.from_iterable(part.passages for part in parts), name),
        {query.id: relevant[query.group_id] for query in queries},
        drops={what: count for part in parts for what, count in part.drops.items()},
        sources=editions,
    )


def _wanted_files(hub: str | None, languages: Sequence[str] | None) -> list[str]:
    """Return the patterns of what to fetch from the hub; without one, what a message tells the user to place."""
    names = ["*"] if languages is None else list(languages)
    if hub is None:
        return [f"{lang}.json" for lang in names]
    forms = (
        "{0}.json",
        "xquad.{0}.json",
        "dev-context-{0}-question-{0}.json",
        "xquad.{0}/validation-*.parquet",
        "mlqa.{0}.{0}/validation-*.parquet",
        "{0}/validation-*.parquet",
    )
    return [form.format(lang) for lang in names for form in forms]


def _files(folder: Path) -> dict[str, list[Path]]:
    """Return the files of each language, in alphabetical order; of several forms, the first."""
    candidates = sorted(chain(folder.glob("*.json"), folder.glob("*/validation-*.parquet")))
    found: dict[str, list[Path]] = {}
    for name in _NAMES:
        of_this_form: dict[str, list[Path]] = {}
        for file in candidates:
            if match := name.fullmatch(file.relative_to(folder).as_posix()):
                of_this_form.setdefault(match["lang"], []).append(file)
        found = of_this_form | found
    if not found:
        raise DataError(f"{folder}: holds no .json file; give the folder with LAReQA's en.json, de.json …")
    for files in found.values():
        judgements.check_shards(files)
    return dict(sorted(found.items()))


@dataclass
class _Part:
    """What is read in one language.

    Attributes:
        relevant: ids of the relevant passages by question id.
        rebuilt: the sentence breaks are not the published ones.
        unanswered: ids of the questions whose answer begins in no sentence.
        further_answers: how many answers there are after the first of their question.
    """

    lang: str
    queries: list[Query] = field(default_factory=list)
    passages: list[Passage] = field(default_factory=list)
    relevant: dict[str, list[str]] = field(default_factory=dict)
    rebuilt: bool = False
    unanswered: list[str] = field(default_factory=list)
    further_answers: int = 0

    @property
    def drops(self) -> dict[str, int]:
        """Counts of what was left out."""
        counts = {
            f"questions whose answer begins in no sentence ({self.lang})": len(self.unanswered),
            f"answers after the first of a question ({self.lang})": self.further_answers,
        }
        return {what: count for what, count in counts.items() if count}


def _relevant(parts: Iterable[_Part]) -> Mapping[str, Mapping[str, int]]:
    """Return the relevant passages of all languages, by question id."""
    found: dict[str, dict[str, int]] = {}
    for part in parts:
        for question, passages in part.relevant.items():
            found.setdefault(question, {}).update(dict.fromkeys(passages, 1))
    return found


def _collect(lang: str, files: Sequence[Path], context: bool) -> _Part:
    paragraphs = _paragraphs(files)
    part = _Part(lang, rebuilt=all(paragraph.breaks is None for paragraph in paragraphs))
    asked: set[str] = set()
    for number, paragraph in enumerate(paragraphs):
        breaks = sentences.split(paragraph.text, lang) if part.rebuilt else paragraph.breaks
        if breaks is None:
            raise DataError(
                f"{paragraph.place}: no 'sentence_breaks', which other paragraphs have; fetch the file again"
            )
        texts = [paragraph.text[start:end] for start, end in breaks]
        ids = [f"{lang}_{number}_{i}" for i in range(len(texts))]
        suffix = f" {paragraph.text}" if context else ""
        part.passages += [Passage(i, lang, text + suffix) for i, text in zip(ids, texts, strict=True)]
        for question in paragraph.questions:
            if question.id in asked:
                raise DataError(f"{question.place}: question id {question.id!r} occurs twice in the file")
            asked.add(question.id)
            begin = _answer_start(question, part)
            answer = next((i for i, (start, end) in enumerate(breaks) if start <= begin < end), None)
            if answer is None:
                part.unanswered.append(question.id)
                continue
            part.queries.append(Query(f"{lang}:{question.id}", lang, question.id, question.text))
            part.relevant[question.id] = [i for i, text in zip(ids, texts, strict=True) if text == texts[answer]]
    if part.unanswered:
        log.warning(
            "%s: %d questions left out, whose answer begins in no sentence (the first: %s)",
            files[0],
            len(part.unanswered),
            part.unanswered[0],
        )
    if not part.queries:
        raise DataError(
            f"{files[0]}: no question with an answer in it; leave {lang!r} out (languages), or fetch it again"
        )
    return part


def _answer_start(question: _Question, part: _Part) -> int:
    """Return where the first answer begins: LAReQA's format has no other; those of SQuAD's are counted."""
    others = len(question.answer_starts) - 1
    if others and not part.rebuilt:
        raise DataError(
            f"{question.place}: has {others + 1} answers; LAReQA's format has exactly one to a question: keep one"
        )
    part.further_answers += others
    return question.answer_starts[0]


@dataclass(frozen=True, slots=True)
class _Question:
    id: str
    text: str
    answer_starts: list[int]  # at least one
    place: str


@dataclass(frozen=True, slots=True)
class _Paragraph:
    text: str
    breaks: list[tuple[int, int]] | None
    questions: list[_Question]
    place: str


def _paragraphs(files: Sequence[Path]) -> list[_Paragraph]:
    """Return the checked paragraphs of all articles, in their order."""
    if files[0].suffix == ".parquet":
        return list(_parquet_paragraphs(files))
    return [paragraph for file in files for paragraph in _json_paragraphs(file)]


def _json_paragraphs(file: Path) -> Iterator[_Paragraph]:
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise DataError(f"{file}:{error.lineno}: not JSON ({error.msg}, column {error.colno})") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not UTF-8 (byte {error.start + 1})") from error
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror})") from error
    for a, article in enumerate(_get(content, "data", list, f"{file}")):
        place = f"{file}: data[{a}]"
        for p, paragraph in enumerate(_get(article, "paragraphs", list, place)):
            yield _json_paragraph(paragraph, f"{place}.paragraphs[{p}]")


def _json_paragraph(content: Any, place: str) -> _Paragraph:
    text: str = _get(content, "context", str, place)
    breaks = _breaks(content, text, place) if "sentence_breaks" in content else None
    questions = []
    for i, question in enumerate(_get(content, "qas", list, place)):
        where = f"{place}.qas[{i}]"
        starts = [
            _get(answer, "answer_start", int, f"{where}.answers[{a}]")
            for a, answer in enumerate(_get(question, "answers", list, where))
        ]
        questions.append(_question(question, starts, where))
    return _Paragraph(text, breaks, questions, place)


def _breaks(content: Any, text: str, place: str) -> list[tuple[int, int]]:
    breaks = []
    for i, span in enumerate(_get(content, "sentence_breaks", list, place)):
        match span:
            case [int(start), int(end)] if 0 <= start < end <= len(text):
                breaks.append((start, end))
            case _:
                raise DataError(
                    f"{place}.sentence_breaks[{i}]: must be [start, end] inside the context of {len(text)} characters, "
                    f"is {json.dumps(span)[:40]}"
                )
    return breaks


def _parquet_paragraphs(files: Sequence[Path]) -> Iterator[_Paragraph]:
    """Yield the paragraphs of rows ``id, context, question, answers``: one for each distinct context."""
    found: dict[str, _Paragraph] = {}
    for place, row in chain.from_iterable(map(judgements.records, files)):
        text: str = _get(row, "context", str, place)
        starts = _get(_get(row, "answers", dict, place), "answer_start", list, f"{place}: answers")
        paragraph = found.setdefault(text, _Paragraph(text, None, [], place))
        paragraph.questions.append(_question(row, starts, place))
    yield from found.values()


def _question(content: Any, answer_starts: list[int], place: str) -> _Question:
    if not answer_starts:
        raise DataError(f"{place}: has 0 answers; remove the question, its relevant sentence is unknown")
    return _Question(_get(content, "id", str, place), _get(content, "question", str, place), answer_starts, place)


def _get(content: Any, key: str, kind: type, place: str) -> Any:
    """Return ``content[key]``, checked to be of the JSON type ``kind``."""
    if not isinstance(content, dict):
        raise DataError(f"{place}: must be a JSON object with {key!r}, is a {type(content).__name__}")
    if key not in content:
        raise DataError(f"{place}: no {key!r} in it; {nearest(key, content) if content else 'it is empty'}")
    value = content[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise DataError(f"{place}.{key}: must be of type {kind.__name__}, is {json.dumps(value)[:40]}")
    return value
