"""Parallel groups from JSON lines: the format for your own training data.

One record a line, ``{"group_id": "…", "lang": "de", "query": "…", "passage": "…"}``; the records of one ``group_id``
are translations of each other. Further keys are ignored. Files may be compressed (``.gz``, ``.zst``).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from io import BufferedReader
from pathlib import Path

from clirscale.data.files import existing, open_bytes, stem
from clirscale.data.groups import Pair, ParallelGroup, Pool
from clirscale.errors import DataError, nearest

_KEYS = ("group_id", "lang", "query", "passage")


def read(path: str | Sequence[str]) -> Pool:
    """Read parallel groups, line by line: only the groups are held in memory.

    Args:
        path: a file, or several that together make the pool; a group may be spread over files.

    Returns:
        The pool, named after its files, groups in the order in which they first occur.

    Raises:
        DataError: a file is missing, empty or cut off, or a line is malformed; the message names file and line.
    """
    paths = [existing(p) for p in ([path] if isinstance(path, str) else path)]
    if not paths:
        raise DataError("data.path: names no file; give one, or a list of files")
    groups: dict[str, dict[str, Pair]] = {}
    for file in paths:
        line = None
        for place, line in _lines(file):
            group_id, lang, pair = _parse(line, place)
            pairs = groups.setdefault(group_id, {})
            if lang in pairs:
                raise DataError(
                    f"{place}: group {group_id!r} has a pair in {lang!r} already; a group has one pair a language: "
                    "remove this line or give it another group_id"
                )
            pairs[lang] = pair
        if line is None:
            raise DataError(f"{file}: no record in it; expected lines of JSON with the keys {', '.join(_KEYS)}")
    return Pool("+".join(map(stem, paths)), (ParallelGroup(name, pairs) for name, pairs in groups.items()))


def _lines(file: Path) -> Iterator[tuple[str, str]]:
    """Yield the place (``file:line``) and the text of each line that is not blank."""
    number = 0
    try:
        with open_bytes(file) as stream, BufferedReader(stream) as lines:
            for number, raw in enumerate(lines, 1):
                text = raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw  # byte order mark
                if text.strip():
                    yield f"{file}:{number}", text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{file}:{number}: not UTF-8 (byte {error.start + 1} of the line); convert the file to UTF-8"
        ) from error
    except OSError as error:
        raise DataError(
            f"{file}:{number + 1}: cannot be read on from here ({error}); is it cut off? Fetch or compress it again"
        ) from error


def _parse(line: str, place: str) -> tuple[str, str, Pair]:
    """Return the group id, the language and the pair of a record."""
    try:
        record = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{place}: not JSON ({error}); each line must be one JSON object") from error
    if not isinstance(record, dict):
        raise DataError(f"{place}: is a JSON {type(record).__name__}, not an object with the keys {', '.join(_KEYS)}")
    for key in _KEYS:
        if key not in record:
            others = nearest(key, record) if record else "the record has no key"
            raise DataError(f"{place}: no key {key!r} in the record; {others}")
        value = record[key]
        if not isinstance(value, str):
            raise DataError(f"{place}: {key!r} is {json.dumps(value)[:40]}, not text; put it in quotation marks")
        if not value.strip():
            raise DataError(f"{place}: {key!r} is empty; fill it in or remove the line")
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise DataError(
                f"{place}: {key!r} has half a surrogate pair (character {error.start + 1}), which is no Unicode text; "
                "write the file again with its characters whole"
            ) from error
    # Few languages, many records: intern the tag.
    return record["group_id"], sys.intern(record["lang"]), Pair(record["query"], record["passage"])
