"""XQuAD-R and other sets in LAReQA's format (Roy et al., EMNLP 2020, arXiv:2004.05484).

A folder holds one file a language, ``<lang>.json``: SQuAD's JSON with a ``sentence_breaks`` list in every paragraph.
Every sentence of every paragraph is a candidate. A question's relevant candidates are the sentences, in all
languages, in which the answers to the question of that id begin.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clirscale.data.files import existing
from clirscale.data.tasks import Passage, Query, RetrievalTask
from clirscale.errors import DataError, nearest

log = logging.getLogger(__name__)


def read(path: str, languages: Sequence[str] | None = None, context: bool = False) -> RetrievalTask:
    """Read a retrieval task in LAReQA's format.

    Passage ids are ``{lang}_{paragraph number}_{sentence number}``, numbered from 0 through the file; query ids are
    ``{lang}:{question id}``. A question whose answer begins in no sentence is left out in that language, with a
    warning, as in LAReQA's code. A sentence that stands twice in its paragraph is one text with one meaning: both
    candidates are relevant.

    Args:
        path: the folder.
        languages: only these; None takes every file in the folder.
        context: append the paragraph to each sentence, as LAReQA's encoder sees it.

    Raises:
        DataError: the folder or a language is missing, or a file is malformed; the message names file and place.
    """
    folder = existing(path, folder=True)
    found = {file.stem: file for file in sorted(folder.glob("*.json"))}
    if not found:
        raise DataError(f"{folder}: holds no .json file; give the folder with LAReQA's en.json, de.json …")
    wanted = list(found) if languages is None else list(dict.fromkeys(languages))
    if not wanted:
        raise DataError(f"{folder}: no language is asked for; null takes all of {', '.join(found)}")
    queries: list[Query] = []
    passages: list[Passage] = []
    relevant: dict[str, dict[str, int]] = {}
    for lang in wanted:
        if lang not in found:
            raise DataError(f"{folder}: has no {lang}.json; {nearest(lang, found)}")
        asked: set[str] = set()
        skipped: list[str] = []
        for number, paragraph in enumerate(_paragraphs(found[lang])):
            sentences = [paragraph.text[start:end] for start, end in paragraph.breaks]
            ids = [f"{lang}_{number}_{i}" for i in range(len(sentences))]
            suffix = f" {paragraph.text}" if context else ""
            passages += [Passage(i, lang, text + suffix) for i, text in zip(ids, sentences, strict=True)]
            for question in paragraph.questions:
                if question.id in asked:
                    raise DataError(f"{question.place}: question id {question.id!r} occurs twice in the file")
                asked.add(question.id)
                begin = question.answer_start
                answer = next((i for i, (start, end) in enumerate(paragraph.breaks) if start <= begin < end), None)
                if answer is None:
                    skipped.append(question.id)
                    continue
                queries.append(Query(f"{lang}:{question.id}", lang, question.id, question.text))
                same = (i for i, text in zip(ids, sentences, strict=True) if text == sentences[answer])
                relevant.setdefault(question.id, {}).update(dict.fromkeys(same, 1))
        if skipped:
            log.warning(
                "%s: %d questions left out, whose answer begins in no sentence (the first: %s)",
                found[lang],
                len(skipped),
                skipped[0],
            )
    qrels = {query.id: relevant[query.group_id] for query in queries}
    return RetrievalTask("xquad_r", tuple(queries), tuple(passages), qrels)


@dataclass(frozen=True, slots=True)
class _Question:
    id: str
    text: str
    answer_start: int
    place: str


@dataclass(frozen=True, slots=True)
class _Paragraph:
    text: str
    breaks: list[tuple[int, int]]
    questions: list[_Question]


def _paragraphs(file: Path) -> Iterator[_Paragraph]:
    """Yield the checked paragraphs of all articles of a file."""
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
            yield _paragraph(paragraph, f"{place}.paragraphs[{p}]")


def _paragraph(content: Any, place: str) -> _Paragraph:
    text: str = _get(content, "context", str, place)
    if isinstance(content, dict) and "sentence_breaks" not in content:
        raise DataError(
            f"{place}: no 'sentence_breaks'; this is SQuAD's own format, take the files of LAReQA, which add them"
        )
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
    questions = []
    for i, question in enumerate(_get(content, "qas", list, place)):
        where = f"{place}.qas[{i}]"
        answers = _get(question, "answers", list, where)
        if len(answers) != 1:
            raise DataError(f"{where}: has {len(answers)} answers; LAReQA's format has exactly one to a question")
        start = _get(answers[0], "answer_start", int, f"{where}.answers[0]")
        questions.append(
            _Question(_get(question, "id", str, where), _get(question, "question", str, where), start, where)
        )
    return _Paragraph(text, breaks, questions)


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
