"""The training pool and the held-out retrieval task: facts divided by hash, then put into eleven languages."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from functools import cache

from babel.core import get_global

from clirscale.data.cldr.facts import Claim, Fact, facts
from clirscale.data.cldr.names import LANGUAGES
from clirscale.data.cldr.wording import render
from clirscale.data.groups import ParallelGroup, Pool
from clirscale.data.tasks import Passage, Passages, Query, RetrievalTask

_AT_MOST = 300  # facts of one relation, so that codes and scripts of languages do not outweigh the rest
_HELD_OUT_SHARE = 0.105  # of the facts are candidates for the task


@dataclass(frozen=True)
class Division:
    """The facts by use."""

    training: tuple[Fact, ...]
    held_out: tuple[Fact, ...]


@cache
def division() -> Division:
    """Divide the facts by a hash of their group id.

    In the task a question must have one right passage in each language. A fact whose passage would answer another
    question of the task as well, even in part ("the złoty is the money of Poland" and "what do people in Poland pay
    with?"), therefore goes to training. Narrow questions choose first, since one like "what is written in Latin
    script?" excludes a hundred others.
    """
    held_out: set[str] = set()
    asked: set[Claim] = set()
    stated: set[Claim] = set()
    chosen = _selected()
    candidates = [fact for fact in chosen if _position(fact.group_id) < _HELD_OUT_SHARE]
    for fact in sorted(candidates, key=lambda fact: (len(fact.asked), _position(fact.group_id))):
        if asked.isdisjoint(fact.stated) and stated.isdisjoint(fact.asked):
            held_out.add(fact.group_id)
            asked |= fact.asked
            stated |= fact.stated
    return Division(
        training=tuple(fact for fact in chosen if fact.group_id not in held_out),
        held_out=tuple(fact for fact in chosen if fact.group_id in held_out),
    )


def _selected() -> tuple[Fact, ...]:
    """Return the facts, of each relation a sample of at most 300 by a hash of their group id."""
    taken: Counter[str] = Counter()
    kept = set()
    for fact in sorted(facts(), key=lambda fact: _position(fact.group_id, "sample")):
        taken[fact.relation] += 1
        if taken[fact.relation] <= _AT_MOST:
            kept.add(fact.group_id)
    return tuple(fact for fact in facts() if fact.group_id in kept)


def _position(group_id: str, purpose: str = "division") -> float:
    """A place in [0, 1) that depends on the id and on what it is for alone."""
    digest = hashlib.blake2b(group_id.encode(), digest_size=8, person=f"cldr-{purpose}".encode()).digest()
    return int.from_bytes(digest, "big") / 2**64


@cache
def training_pool() -> Pool:
    """Return the training pool, "cldr": every fact that the held-out task does not use, in eleven languages."""
    groups = (
        ParallelGroup(fact.group_id, {lang: render(fact, lang, held_out=False) for lang in LANGUAGES})
        for fact in division().training
    )
    return Pool("cldr", groups)


@cache
def held_out_task() -> RetrievalTask:
    """Return the retrieval task, "cldr".

    Its questions are worded with templates that training never uses, about (relation, entity) pairs that training
    never asks about. The candidates are the passages that answer them: many differ in one name only. Ids are
    "language:group_id" for queries and passages alike; the passages of a query's group have grade 1 in every language.
    """
    queries, passages = [], []
    for fact in division().held_out:
        for lang in LANGUAGES:
            pair = render(fact, lang, held_out=True)
            queries.append(Query(f"{lang}:{fact.group_id}", lang, fact.group_id, pair.query))
            passages.append(Passage(f"{lang}:{fact.group_id}", lang, pair.passage))
    relevant = {fact.group_id: {f"{lang}:{fact.group_id}": 1 for lang in LANGUAGES} for fact in division().held_out}
    qrels = {query.id: relevant[query.group_id] for query in queries}
    return RetrievalTask("cldr", tuple(queries), Passages(passages, "cldr"), qrels)


def cldr_version() -> str:
    """Return the version of the CLDR that the installed babel carries, such as "47": another gives other facts."""
    return str(get_global("cldr")["version"])
