"""Leaks: training groups whose text or id is also in the evaluation set.

Texts are compared whole, after Unicode normalisation (NFKC), case folding and collapsing of white space, among texts
of one primary language (``pt-BR`` meets ``pt``). A text that was edited or embedded in a longer one is not found.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal

from clirscale.data.groups import Pool
from clirscale.data.tasks import Passage, Query, RetrievalTask


@dataclass(frozen=True, slots=True)
class Leak:
    """A training group that meets the evaluation set.

    Attributes:
        kind: what is shared: the text of the training ``query`` or ``passage``, or the ``group_id``.
        group_id: the training group.
        lang: language of the training text; None for a shared group id.
        evaluation_id: a query or passage of the evaluation set that shares it.
    """

    kind: Literal["query", "passage", "group_id"]
    group_id: str
    lang: str | None
    evaluation_id: str


def find_leaks(pool: Pool, tasks: Sequence[RetrievalTask]) -> list[Leak]:
    """Return every meeting of the pool with the tasks, in the order of the pool.

    A training query or passage is compared with evaluation queries and passages alike; of several equal evaluation
    texts the first is named, queries before passages. The evaluation sets are gone through once, and only what the pool
    shares with them is kept: they may be larger than memory.
    """
    trained = {
        (_primary(lang), normalise(text))
        for group in pool
        for lang, pair in group.pairs.items()
        for text in (pair.query, pair.passage)
    }
    texts: dict[tuple[str, str], str] = {}  # primary language and normalised text -> evaluation id
    group_ids: dict[str, str] = {}
    for task in tasks:
        for item in chain[Query | Passage](task.queries, task.passages):
            key = _primary(item.lang), normalise(item.text)
            if key in trained:
                texts.setdefault(key, item.id)
        for query in task.queries:
            group_ids.setdefault(query.group_id, query.id)

    leaks = []
    for group in pool:
        if group.group_id in group_ids:
            leaks.append(Leak("group_id", group.group_id, None, group_ids[group.group_id]))
        for lang, pair in group.pairs.items():
            kinds: tuple[tuple[Literal["query", "passage"], str], ...] = (
                ("query", pair.query),
                ("passage", pair.passage),
            )
            for kind, text in kinds if texts else ():
                if (found := texts.get((_primary(lang), normalise(text)))) is not None:
                    leaks.append(Leak(kind, group.group_id, lang, found))
    return leaks


def counts(leaks: Iterable[Leak]) -> dict[str, dict[str, int]]:
    """Return how many leaks there are by language and kind."""
    found: dict[str, Counter[str]] = {}
    for leak in leaks:
        found.setdefault(leak.lang or "", Counter())[leak.kind] += 1
    return {lang: dict(by_kind) for lang, by_kind in sorted(found.items())}


def normalise(text: str) -> str:
    """Return ``text`` in the form in which texts are compared.

    >>> normalise("  Ｓｔｒａßｅ\\n1 ") == normalise("STRASSE 1")
    True
    """
    # Case folding can undo the normal form (Unicode Standard, section 3.13, D146): restore it.
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(folded.split())


def _primary(lang: str) -> str:
    return lang.split("-")[0].lower()
