"""Batch policies: which pair of which language goes into which batch.

A *mono* batch is wholly in one language, drawn uniformly over the languages that can fill it; in a *cross* batch
every pair has query language ≠ passage language; a *hybrid* schedule makes each batch mono with probability α and
cross otherwise (Elmahdy, Lin & Ahmad 2024, section 2.2), so that α = 1 is mono, α = 0 is cross and one class
serves all three.

Groups are visited evenly: a batch takes the groups visited least so far, ties broken at random. On a pool that has
every group in every language, a pass over the data therefore sees each group exactly once before any group is seen
again, under every policy; and a batch cannot hold two members of one group.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from clirscale.data.groups import Pool
from clirscale.errors import ConfigError, TrainingError

Kind = Literal["mono", "cross"]


@dataclass(frozen=True, slots=True)
class Example:
    """A query in one language and the passage of the same group in the same or another one.

    ``group`` is the group's position in the pool.
    """

    group: int
    query_lang: str
    passage_lang: str


@dataclass(frozen=True, slots=True)
class Batch:
    """The examples of one optimisation step."""

    kind: Kind
    examples: tuple[Example, ...]


class BatchSchedule:
    """The batches of a contrastive stage: a sequence that depends on its arguments only.

    Args:
        pool: the training subset.
        alpha: probability that a batch is mono.
        batch_size: pairs in a batch; every batch is full.
        steps: number of batches.
        seed: two schedules with the same seed are equal; every pass over the groups has its own order.
        small_languages: what to do with a language that has fewer pairs than a batch, when mono batches are to be
            drawn: ``"error"``, or ``"skip"`` it for mono batches and list it in :attr:`skipped_languages`.

    Raises:
        ConfigError: a language is too small and ``small_languages`` is ``"error"``.
        TrainingError: no batch of a wanted kind can be filled.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        alpha: float,
        batch_size: int,
        steps: int,
        seed: int,
        small_languages: Literal["error", "skip"] = "error",
    ) -> None:
        self.alpha, self.batch_size, self.steps, self.seed = alpha, batch_size, steps, seed
        self._languages = pool.languages
        has = np.zeros((len(self._languages), len(pool)), dtype=bool)  # languages x groups
        column = {lang: i for i, lang in enumerate(self._languages)}
        for position, group in enumerate(pool):
            for lang in group.pairs:
                has[column[lang], position] = True
        self._has = has

        sizes = pool.groups_per_language
        small = {lang: n for lang, n in sizes.items() if n < batch_size}
        if alpha > 0:
            if len(small) == len(sizes):
                raise TrainingError(
                    f"no language of {pool.name} can fill a batch of {batch_size} (contrast.batch_size): the largest "
                    f"has {max(sizes.values())} pairs. Lower contrast.batch_size or raise data.fraction."
                )
            if small and small_languages == "error":
                listed = ", ".join(f"{lang} has {n}" for lang, n in small.items())
                raise ConfigError(
                    "contrast.batch_size",
                    f"is {batch_size}, but {listed} pair(s) in this subset of {pool.name}: a mono batch cannot be "
                    f"filled. Lower it, raise data.fraction, choose data.languages, or set "
                    f"contrast.small_languages=skip to train without mono batches in such languages, which the "
                    f"record will say.",
                )
        self._mono = [i for i, lang in enumerate(self._languages) if lang not in small]
        self.skipped_languages: dict[str, int] = small if alpha > 0 else {}

        translated = has.sum(axis=0) >= 2
        self._cross = has & translated
        if alpha < 1 and translated.sum() < batch_size:
            raise TrainingError(
                f"{int(translated.sum())} group(s) of {pool.name} have two languages or more: too few for a "
                f"cross-lingual batch of {batch_size} (contrast.batch_size). Lower it or raise data.fraction."
            )

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Batch]:
        rng = np.random.default_rng([self.seed, 0x5EED])
        visits = np.zeros(self._has.shape[1], dtype=np.int64)
        for _ in range(self.steps):
            # drawn even where alpha decides, so that schedules of different alpha share their random stream
            if rng.random() < self.alpha:
                yield Batch("mono", self._mono_examples(rng, visits))
            else:
                yield Batch("cross", self._cross_examples(rng, visits))

    def _mono_examples(self, rng: np.random.Generator, visits: NDArray[np.int64]) -> tuple[Example, ...]:
        row = int(rng.choice(self._mono))
        groups = _least_visited(np.flatnonzero(self._has[row]), self.batch_size, visits, rng)
        visits[groups] += 1
        lang = self._languages[row]
        return tuple(Example(int(g), lang, lang) for g in groups)

    def _cross_examples(self, rng: np.random.Generator, visits: NDArray[np.int64]) -> tuple[Example, ...]:
        # Query languages are drawn uniformly, as the mono policy draws its language, so that the two policies
        # differ in nothing but the pairing. A language that runs out of groups leaves its share to the others.
        free = self._cross.copy()
        rows = np.flatnonzero(free.any(axis=1))
        examples: list[Example] = []
        while len(examples) < self.batch_size:
            rows = rows[free[rows].any(axis=1)]
            wanted = np.bincount(rng.choice(len(rows), self.batch_size - len(examples)), minlength=len(rows))
            for index in rng.permutation(len(rows)):
                row = rows[index]
                groups = _least_visited(np.flatnonzero(free[row]), int(wanted[index]), visits, rng)
                visits[groups] += 1
                free[:, groups] = False
                for g in groups:
                    others = np.flatnonzero(self._has[:, g] & (np.arange(len(self._languages)) != row))
                    passage_lang = self._languages[int(rng.choice(others))]
                    examples.append(Example(int(g), self._languages[int(row)], passage_lang))
        return tuple(examples)


def _least_visited(
    groups: NDArray[np.int64], n: int, visits: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return up to ``n`` of ``groups``, those with the fewest visits first, ties in random order."""
    order = np.lexsort((rng.random(len(groups)), visits[groups]))
    return groups[order[:n]]
