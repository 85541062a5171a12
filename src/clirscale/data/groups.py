"""Parallel groups: the unit of sampling, subsetting, bootstrap and leak checks."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from clirscale.errors import ConfigError, DataError, nearest


@dataclass(frozen=True, slots=True)
class Pair:
    """A query and a passage that answers it, in one language."""

    query: str
    passage: str


@dataclass(frozen=True, slots=True)
class ParallelGroup:
    """One question-passage pair in one or more languages, under one id. ``pairs`` maps a language tag to its pair."""

    group_id: str
    pairs: Mapping[str, Pair]


class Pool:
    """The parallel groups of a training set, in a fixed order.

    Args:
        name: what the pool is called in records and reports.
        groups: the groups; their ids must differ.

    Raises:
        DataError: there is no group, or two groups share an id.
    """

    def __init__(self, name: str, groups: Iterable[ParallelGroup]) -> None:
        self.name = name
        self.groups: tuple[ParallelGroup, ...] = tuple(groups)
        if not self.groups:
            raise DataError(f"{name}: no parallel group in it")
        repeated = [group_id for group_id, n in Counter(g.group_id for g in self.groups).items() if n > 1]
        if repeated:
            raise DataError(f"{name}: group id {repeated[0]!r} occurs more than once")

    def __len__(self) -> int:
        return len(self.groups)

    def __iter__(self) -> Iterator[ParallelGroup]:
        return iter(self.groups)

    @cached_property
    def groups_per_language(self) -> dict[str, int]:
        """Number of groups that have each language, languages in alphabetical order."""
        counts = Counter(lang for group in self.groups for lang in group.pairs)
        return dict(sorted(counts.items()))

    @property
    def languages(self) -> list[str]:
        """The languages that occur, in alphabetical order."""
        return list(self.groups_per_language)

    @property
    def pair_count(self) -> int:
        """Number of question-passage pairs, over all languages."""
        return sum(self.groups_per_language.values())

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the content, whatever the order of the groups."""
        digest = hashlib.sha256()
        for group in sorted(self.groups, key=lambda g: g.group_id):
            pairs = {lang: [pair.query, pair.passage] for lang, pair in sorted(group.pairs.items())}
            digest.update(json.dumps([group.group_id, pairs], ensure_ascii=False).encode())
        return digest.hexdigest()

    def in_languages(self, languages: Sequence[str]) -> Pool:
        """Return the pool with these languages only; groups left without a pair are dropped.

        Raises:
            ConfigError: a language does not occur in the pool.
        """
        for lang in languages:
            if lang not in self.groups_per_language:
                raise ConfigError("data.languages", f"no pair in {lang!r}; {nearest(lang, self.languages)}")
        kept = set(languages)
        groups = (
            ParallelGroup(g.group_id, {lang: pair for lang, pair in g.pairs.items() if lang in kept})
            for g in self.groups
        )
        return Pool(self.name, (g for g in groups if g.pairs))

    def subset(self, fraction: float, seed: int) -> Pool:
        """Return the nested, seed-keyed share of the groups.

        Groups are ordered by a keyed hash of their id and the first ``round(fraction * len(self))`` are kept (at
        least one), so that for one seed a smaller subset lies wholly in a larger one, whatever the order of the
        pool, and another seed gives another draw.

        Args:
            fraction: share of the groups, in (0, 1].
            seed: key of the hash.

        Raises:
            ConfigError: the fraction lies outside (0, 1].
        """
        if not 0 < fraction <= 1:
            raise ConfigError("data.fraction", f"must be in (0, 1], is {fraction}")
        if fraction == 1:
            return self
        size = max(1, round(fraction * len(self)))
        key = str(seed).encode()

        def rank(group: ParallelGroup) -> bytes:
            return hashlib.blake2b(group.group_id.encode(), key=key, digest_size=16).digest()

        kept = {g.group_id for g in sorted(self.groups, key=rank)[:size]}
        return Pool(self.name, (g for g in self.groups if g.group_id in kept))
