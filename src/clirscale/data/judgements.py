"""What test collections share: lines and records with their places, relevance judgements, and how they are joined.

Places are ``file:line`` for text and ``file: row N`` for Parquet, both from 1, for messages.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from io import BufferedReader
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from clirscale.data.files import open_bytes
from clirscale.data.tasks import Passage, Passages, Query, RetrievalTask
from clirscale.errors import DataError, nearest

_HEADER = ["query-id", "corpus-id", "score"]
_SHARD = re.compile(r"-(\d+)-of-(\d+)\.parquet$")
_ROWS = 10_000  # of a Parquet file that are Python objects at a time


class Judgement(NamedTuple):
    """The grade of a passage for a query, and where it was read."""

    query: str
    passage: str
    grade: int
    place: str


def lines(file: Path) -> Iterator[tuple[str, str]]:
    """Yield place and text, without its line break, of each line that is not blank.

    Raises:
        DataError: the file cannot be read, is cut off, or is not UTF-8.
    """
    number = 0
    try:
        with open_bytes(file) as stream, BufferedReader(stream) as raw_lines:
            for number, raw in enumerate(raw_lines, 1):
                text = raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw  # byte order mark
                if text.strip():
                    yield f"{file}:{number}", text.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{file}:{number}: not UTF-8 (byte {error.start + 1} of the line); convert it") from error
    except OSError as error:
        raise DataError(
            f"{file}:{number + 1}: cannot be read on from here ({error}); is it cut off? Fetch it again"
        ) from error


def records(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield place and content of each record of a JSON-lines or Parquet file, by its ending.

    Raises:
        DataError: the file cannot be read, is cut off, or a line is no JSON object.
    """
    if file.suffix == ".parquet":
        yield from _parquet(file)
        return
    for place, line in lines(file):
        try:
            record = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            raise DataError(f"{place}: not JSON ({error}); each line must be one JSON object") from error
        if not isinstance(record, dict):
            raise DataError(f"{place}: is a JSON {type(record).__name__}; each line must be one JSON object")
        yield place, record


def _parquet(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    number = 0
    try:
        with pq.ParquetFile(file) as parquet:
            for batch in parquet.iter_batches(batch_size=_ROWS):
                for record in batch.to_pylist():
                    number += 1
                    yield f"{file}: row {number}", record
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{file}: cannot be read after row {number} ({error}); fetch it again") from error


def identifier(record: Mapping[str, Any], keys: Sequence[str], place: str) -> str:
    """Return the record's id: the value of the first of ``keys`` that it has, as text.

    Raises:
        DataError: it has none of them, or the value is neither text nor a whole number, empty, or has white space.
    """
    key = next((key for key in keys if key in record), None)
    if key is None:
        raise DataError(f"{place}: no key {keys[0]!r} in the record; it has {', '.join(record) or 'none at all'}")
    value = record[key]
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise DataError(f"{place}: {key!r} is {json.dumps(value, default=str)[:40]}, not text")
    if value.split() != [value]:
        raise DataError(f"{place}: {key!r} is {value!r}: empty, or with white space, at which TREC files are split")
    return value


def text(record: Mapping[str, Any], key: str, place: str) -> str:
    """Return a text of the record, empty where the key is absent or null.

    Raises:
        DataError: the value is something else.
    """
    value = record.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise DataError(f"{place}: {key!r} is {json.dumps(value, default=str)[:40]}, not text")
    return value


def titled(record: Mapping[str, Any], place: str) -> str:
    """Return title, a blank and text, stripped: empty only if there is neither.

    It is the passage that BEIR's encoders see, and that of MIRACL's baselines (project-miracl/miracl, issue 18).
    """
    return f"{text(record, 'title', place)} {text(record, 'text', place)}".strip()


def beir_qrels(file: Path) -> Iterator[Judgement]:
    """Yield BEIR's judgements: tab-separated with a header, or records (JSON lines, Parquet) of the same columns.

    Raises:
        DataError: the header or a line is malformed, or a score is not a whole number.
    """
    if file.suffix == ".tsv":
        yield from _tsv_qrels(file)
        return
    for place, record in records(file):
        query, passage = (identifier(record, [key], place) for key in _HEADER[:2])
        if "score" not in record:
            raise DataError(f"{place}: no key 'score' in the record; {nearest('score', record)}")
        yield Judgement(query, passage, _grade(record["score"], place), place)


def _tsv_qrels(file: Path) -> Iterator[Judgement]:
    rows = lines(file)
    place, header = next(rows, (f"{file}:1", ""))
    _check_header(header.split("\t"), place)
    for place, line in rows:
        fields = line.split("\t")
        if len(fields) != 3:
            raise DataError(f"{place}: has {len(fields)} columns; must be query-id, corpus-id and score between tabs")
        query, passage = (
            identifier({key: field}, [key], place) for key, field in zip(_HEADER, fields[:2], strict=False)
        )
        yield Judgement(query, passage, _grade(fields[2], place), place)


def _check_header(fields: list[str], place: str) -> None:
    found = [field.strip().replace("_", "-") for field in fields]
    if found == _HEADER:
        return
    expected = "<tab>".join(_HEADER)
    if sorted(found) == sorted(_HEADER):
        raise DataError(f"{place}: the columns are {', '.join(found)}; their order must be {expected}")
    if len(found) == 3 and re.fullmatch(r"-?\d+", found[2]):
        raise DataError(f"{place}: the header is missing; the first line must be {expected}, or a judgement is lost")
    raise DataError(f"{place}: the first line must be {expected}, is {'<tab>'.join(fields)[:80]!r}")


def trec_qrels(file: Path) -> Iterator[Judgement]:
    """Yield the judgements of a TREC file: query, an unused column, passage and grade between white space.

    Raises:
        DataError: a line is malformed, or a grade is not a whole number.
    """
    for place, line in lines(file):
        fields = line.split()
        if len(fields) != 4:
            raise DataError(f"{place}: has {len(fields)} columns; must be query, Q0, passage and grade, without header")
        yield Judgement(fields[0], fields[2], _grade(fields[3], place), place)


def _grade(value: Any, place: str) -> int:
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?\d+\s*", value):
        return int(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and value == value // 1:
        return int(value)
    raise DataError(f"{place}: the grade is {value!r}; must be a whole number")


def check_columns(judgements: Sequence[Judgement], query_ids: Collection[str]) -> None:
    """Raise a DataError if the column of passages holds the queries' ids, and that of queries does not."""
    right = sum(judgement.query in query_ids for judgement in judgements)
    swapped = [judgement for judgement in judgements if judgement.passage in query_ids]
    if len(swapped) > right:
        raise DataError(
            f"{swapped[0].place}: {swapped[0].passage!r} stands in the column of passages and is a query's id, like "
            f"{len(swapped)} of {len(judgements)}; the columns are swapped: the query comes first"
        )


class Part(Protocol):
    """A collection: the whole task, or one part of several whose ids differ."""

    @property
    def drops(self) -> Counter[str]:
        """Counts of what :meth:`passages` left out."""

    @property
    def empty_ids(self) -> set[str]:
        """The passages that :meth:`passages` left out because they have no text."""

    def qrels(self) -> Iterable[Judgement]:
        """Yield the judgements."""

    def queries(self) -> Iterable[tuple[str, Query]]:
        """Yield place and content of each query, judged or not."""

    def passages(self) -> Iterable[tuple[str, Passage]]:
        """Yield place and content of each passage."""


def assemble(
    name: str,
    parts: Sequence[Part],
    split: str,
    sources: Mapping[str, str],
    *,
    settings: Sequence[str] | None = None,
    exclude_identical: bool = False,
    drop_unknown: bool = False,
    negative_is_zero: bool = False,
) -> RetrievalTask:
    """Return the task that the parts make: the queries with a relevant passage, over the passages of all.

    Args:
        name: of the task, for messages.
        parts: each is read once.
        split: of the qrels, for messages.
        sources: what was read.
        settings: of the task; None takes those in which some passage is relevant to some query.
        exclude_identical: passages with a query's id are no candidates for it.
        drop_unknown: leave out judgements of what does not exist.
        negative_is_zero: take negative grades as 0.

    Raises:
        DataError: an id is repeated, the qrels do not fit, or no query has a relevant passage.
    """
    rows = [row for part in parts for row in part.qrels()]
    queries = _queries(parts)
    check_columns(rows, queries)
    passages = collect(name, lambda: (item for part in parts for item in part.passages()))
    found = passages.find(row.passage for row in rows)
    drops = sum((part.drops for part in parts), Counter[str]())
    empty_ids = {passage for part in parts for passage in part.empty_ids}
    qrels = join(rows, queries, found, empty_ids, drops, drop_unknown=drop_unknown, negative_is_zero=negative_is_zero)
    if not qrels:
        raise DataError(f"{name}: no query of split {split!r} has a relevant passage; is it the right split?")
    unjudged = len(queries) - len(qrels) - drops["queries without a relevant passage"]
    drops[f"queries without a judgement in {split}"] += unjudged
    kept = [query for query in queries.values() if query.id in qrels]
    identical = passages.find(qrels) if exclude_identical else {}
    return RetrievalTask(
        name,
        kept,
        passages,
        qrels,
        excluded={query: frozenset([query]) for query in identical},
        drops={what: count for what, count in drops.items() if count},
        settings=_settings(kept, passages, qrels, found) if settings is None else settings,
        sources=sources,
    )


def _queries(parts: Iterable[Part]) -> dict[str, Query]:
    """Return the queries by id, in their order."""
    queries: dict[str, Query] = {}
    places: dict[str, str] = {}
    for place, query in (item for part in parts for item in part.queries()):
        if query.id in places:
            raise DataError(f"{place}: query id {query.id!r} stands at {places[query.id]} already; remove one")
        places[query.id] = place
        queries[query.id] = query
    return queries


def collect(name: str, read: Callable[[], Iterable[tuple[str, Passage]]]) -> Passages:
    """Collect passages in one pass.

    Args:
        name: of the task, for messages.
        read: yields place and passage; called again only to say where a repeated id stands.

    Raises:
        DataError: an id occurs twice.
    """
    passages = Passages((passage for _, passage in read()), name)
    if (repeated := passages.repeated_id) is not None:
        first, second = islice((place for place, passage in read() if passage.id == repeated), 2)
        raise DataError(f"{second}: passage id {repeated!r} stands at {first} already; remove one, or rename it")
    return passages


def join(
    judgements: Iterable[Judgement],
    query_ids: Collection[str],
    passage_ids: Collection[str],
    empty_ids: Collection[str],
    drops: Counter[str],
    *,
    drop_unknown: bool = False,
    negative_is_zero: bool = False,
) -> dict[str, dict[str, int]]:
    """Return the judgements as qrels, in which every query has a relevant passage.

    Args:
        judgements: of one file or several.
        query_ids: all that exist, judged or not.
        passage_ids: the judged ones that exist.
        empty_ids: passages that were left out because they have no text.
        drops: what is left out is counted here.
        drop_unknown: leave out judgements of queries and passages that do not exist.
        negative_is_zero: take negative grades as 0.

    Raises:
        DataError: a query or passage does not exist, a grade is negative, or a pair has two different grades.
    """
    qrels: dict[str, dict[str, int]] = {}
    for judgement in judgements:
        query, passage, grade, place = judgement
        grades = qrels.setdefault(query, {}) if query in query_ids else None
        if grades is None or (passage not in passage_ids and passage not in empty_ids):
            if not drop_unknown:
                raise _unknown(judgement, query in query_ids)
            drops["judgements of unknown queries or passages"] += 1
            continue
        if passage in empty_ids:
            drops["judgements of passages without text"] += 1
            continue
        if grade < 0:
            if not negative_is_zero:
                raise DataError(
                    f"{place}: grade {grade} is negative; set it to 0 for what is not relevant, or read it so with "
                    "negative=zero"
                )
            drops["negative grades read as 0"] += 1
        if passage in grades:
            if grades[passage] != max(grade, 0):
                raise DataError(f"{place}: {query!r} and {passage!r} have grade {grades[passage]} above; keep one")
            drops["repeated judgements"] += 1
        grades[passage] = max(grade, 0)
    relevant = {query: grades for query, grades in qrels.items() if any(grade > 0 for grade in grades.values())}
    drops["queries without a relevant passage"] += len(qrels) - len(relevant)
    return relevant


def _unknown(judgement: Judgement, query_exists: bool) -> DataError:
    kind, name = ("passage", judgement.passage) if query_exists else ("query", judgement.query)
    return DataError(
        f"{judgement.place}: {kind} {name!r} does not exist; take queries, corpus and judgements of one release"
        " (BEIR's reader can leave such lines out: unknown=drop)"
    )


def _settings(
    queries: Sequence[Query], passages: Passages, qrels: Mapping[str, Mapping[str, int]], rows: Mapping[str, int]
) -> tuple[str, ...]:
    """Return the settings in which some passage is relevant to some query."""
    pairs = set()
    for query in queries:
        relevant = (rows[passage] for passage, grade in qrels[query.id].items() if grade > 0)
        pairs |= {(query.lang, passages.languages[passages.lang_codes[row]]) for row in relevant}
    present = {
        "mono": any(asked == answered for asked, answered in pairs),
        "cross": any(asked != answered for asked, answered in pairs),
        "multi": len(passages.languages) > 1,
    }
    return tuple(setting for setting, there in present.items() if there)


def check_shards(files: Sequence[Path]) -> None:
    """Raise a DataError if a Parquet file of a numbered series, ``test-00001-of-00004.parquet``, is missing."""
    for file in files:
        if not (match := _SHARD.search(file.name)):
            continue
        for number in range(int(match[2])):
            shard = f"{file.name[: match.start()]}-{number:0{len(match[1])}}-of-{match[2]}.parquet"
            if not file.with_name(shard).is_file():
                raise DataError(f"{file.with_name(shard)}: this part of the series is missing; fetch it again")
