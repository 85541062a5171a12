"""Intervals by a two-level bootstrap over seeds and parallel groups.

The statistic is the macro-average of the paper: the mean over queries in each (query language, passage language)
cell, then the mean over cells. Translations of one question are not independent, so parallel groups are resampled
rather than rows, as a vector of weights: with S[g, c] the sum and N[g, c] the number of the scores of group g in
cell c, a resample with weights w has the statistic mean_c (w S)_c / (w N)_c. One matrix product does all resamples,
and groups that lack some cells need no special care.

Seeds and groups are crossed factors: every seed is scored on the same resampled groups (the pigeonhole bootstrap of
Owen 2007). Of K seeds K - 1 are drawn with replacement, which makes the variance of their mean unbiased when K is
small (Rao & Wu 1988); drawing K would understate it by 1/3 at K = 3. One seed leaves the queries only.

All jobs of an evaluation are scored on the same resamples, so that differences between them are paired.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow
import pyarrow.parquet

from clirscale.analysis.curves import Point
from clirscale.analysis.records import SETTINGS, Job
from clirscale.errors import DataError

Floats = npt.NDArray[np.float64]
KEYS = ("setting", "query_lang", "passage_lang", "group_id")
CHUNK = 4_000_000  # weights that are expanded to float64 at a time: 32 MB


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its percentile interval.

    Attributes:
        value: the statistic on the queries as they are.
        low: lower end of the interval.
        high: upper end of the interval.
        n_seeds: how many seeds the value is the mean of.
    """

    value: float
    low: float
    high: float
    n_seeds: int

    @property
    def covers(self) -> Literal["queries", "seeds and queries"]:
        """What the interval covers: with one seed, nothing is known of the variation between seeds."""
        return "queries" if self.n_seeds == 1 else "seeds and queries"

    def negated(self) -> Estimate:
        """Return the estimate of the opposite difference, b - a for a - b."""
        return Estimate(-self.value, -self.high, -self.low, self.n_seeds)

    @property
    def includes_zero(self) -> bool:
        """Whether 0 lies in the interval, ends included."""
        return self.low <= 0 <= self.high


@dataclass(frozen=True)
class Totals:
    """The scores of one job in one setting, added up by parallel group and cell.

    Attributes:
        cells: (query language, passage language) of each cell, in alphabetical order.
        sums: (n_groups, n_cells) sum of the scores of a group's queries.
        counts: (n_groups, n_cells) how many scores that is; a score that is NaN does not count.
    """

    setting: str
    measure: str
    cells: tuple[tuple[str, str], ...]
    sums: Floats
    counts: Floats

    @property
    def shares(self) -> Floats:
        """What each group contributes to the macro-average, which is their sum (n_groups,)."""
        per_cell = self.counts.sum(axis=0)
        present = per_cell > 0
        shares: Floats = (self.sums[:, present] / per_cell[present]).sum(axis=1) / present.sum()
        return shares


@dataclass(frozen=True)
class Sampled:
    """A statistic on the queries as they are, and on each resample (n_resamples,)."""

    value: float
    samples: Floats

    def plus(self, sign: int, other: Sampled) -> Sampled:
        """Add another statistic times ``sign``, resample by resample."""
        return Sampled(self.value + sign * other.value, self.samples + sign * other.samples)


class Bootstrap:
    """Resamples of one evaluation, and what they say about its jobs.

    Args:
        jobs: finished jobs with the same evaluation set.
        n_resamples: how often seeds and groups are drawn.
        level: coverage that the intervals aim at.
        seed: of the draws; the same seed gives the same intervals.

    Raises:
        DataError: per-query scores are missing or malformed; the message names the file.
    """

    def __init__(self, jobs: Iterable[Job], *, n_resamples: int = 2000, level: float = 0.95, seed: int = 0) -> None:
        self.n_resamples, self.level, self.seed = n_resamples, level, seed
        jobs = list(jobs)
        group_ids = group_index(jobs)
        self.n_groups = len(group_ids)
        self._weights = draw_weights(self.n_groups, n_resamples, np.random.default_rng([seed, 0]))
        self._denominators: dict[bytes, Floats] = {}
        self._jobs = {
            job: {(t.setting, t.measure): self._statistic(t.sums, t.counts) for t in read_totals(job, group_ids)}
            for job in jobs
        }
        self._denominators.clear()
        self._draws = cache(self._draw_seeds)

    @property
    def measures(self) -> tuple[str, ...]:
        """Names of the measures that any job has, in the order of their columns."""
        return tuple(dict.fromkeys(name for scores in self._jobs.values() for _, name in scores))

    def job(self, job: Job, setting: str, measure: str) -> Estimate | None:
        """Return a job's score, or None if it has none; its interval covers the queries."""
        return self._estimate([job], setting, measure)

    def point(self, point: Point, setting: str, measure: str) -> Estimate | None:
        """Return the mean over a point's seeds, or None if no job has the measure."""
        return self._estimate(point.jobs, setting, measure)

    def difference(self, a: Point, b: Point, setting: str, measure: str) -> Estimate | None:
        """Return the paired difference a - b between two methods at one fraction, or between a method and a reference.

        See :meth:`contrast` for what is paired.
        """
        return self.contrast([(1, a), (-1, b)], setting, measure)

    def contrast(self, terms: Sequence[tuple[int, Point]], setting: str, measure: str) -> Estimate | None:
        """Return the sum of points times their coefficients, on the same resampled queries.

        Trained points are compared on the seeds that all of them have, each resample drawing the same seeds for all.
        Where they share none, each draws its own. An untrained reference without those seeds counts by its mean.

        Returns:
            The contrast, or None if a point lacks the measure.
        """
        found = self._contrast(terms, setting, measure)
        return None if found is None else self._summarise(*found)

    def sampled(self, terms: Sequence[tuple[int, Point]], setting: str, measure: str) -> Sampled | None:
        """Return a contrast with its value on every resample, or None if a point lacks the measure.

        Resample i has the same groups for all contrasts, and the same seeds for points with equally many: what is
        computed from several contrasts, such as where two curves cross, stays paired. One term gives a point.
        """
        found = self._contrast(terms, setting, measure)
        return None if found is None else found[0]

    def _contrast(self, terms: Sequence[tuple[int, Point]], setting: str, measure: str) -> tuple[Sampled, int] | None:
        scores = [self._by_seed(point, setting, measure) for _, point in terms]
        if not all(scores):
            return None
        trained = [
            set(by_seed) for by_seed, (_, point) in zip(scores, terms, strict=True) if point.fraction is not None
        ]
        seeds = sorted(seed for seed in set.intersection(*trained or [set()]) if seed is not None)
        zero = Sampled(0.0, np.zeros(self.n_resamples))
        paired, alone = [zero] * len(seeds), zero
        for stream, ((sign, _), by_seed) in enumerate(zip(terms, scores, strict=True), start=1):
            if seeds and by_seed.keys() >= set(seeds):
                paired = [total.plus(sign, by_seed[seed]) for total, seed in zip(paired, seeds, strict=True)]
            else:
                alone = alone.plus(sign, self._mean(list(by_seed.values()), stream))
        total = self._mean(paired).plus(1, alone) if paired else alone
        return total, len(seeds) or min(map(len, trained), default=1)

    def _by_seed(self, point: Point, setting: str, measure: str) -> dict[int | None, Sampled]:
        return {
            job.seed: self._jobs[job][setting, measure] for job in point.jobs if (setting, measure) in self._jobs[job]
        }

    def _estimate(self, jobs: Sequence[Job], setting: str, measure: str) -> Estimate | None:
        sampled = [scores[setting, measure] for job in jobs if (setting, measure) in (scores := self._jobs[job])]
        return self._summarise(self._mean(sampled), len(sampled)) if sampled else None

    def _summarise(self, sampled: Sampled, n_seeds: int) -> Estimate:
        tail = (1 - self.level) / 2
        low, high = np.nanquantile(sampled.samples, [tail, 1 - tail])
        return Estimate(sampled.value, float(low), float(high), n_seeds)

    def _mean(self, seeds: Sequence[Sampled], stream: int = 0) -> Sampled:
        """Average over seeds, drawing them anew in each resample."""
        value = float(np.mean([sampled.value for sampled in seeds]))
        if len(seeds) == 1:
            return Sampled(value, seeds[0].samples)
        samples = np.stack([sampled.samples for sampled in seeds], axis=1)  # (n_resamples, n_seeds)
        return Sampled(value, (self._draws(len(seeds), stream) * samples).sum(axis=1))

    def _draw_seeds(self, n_seeds: int, stream: int) -> Floats:
        """Return the share of each seed in each resample (n_resamples, n_seeds), from n_seeds - 1 draws."""
        rng = np.random.default_rng([self.seed, 1, n_seeds, stream])
        return rng.multinomial(n_seeds - 1, np.full(n_seeds, 1 / n_seeds), size=self.n_resamples) / (n_seeds - 1)

    def _statistic(self, sums: Floats, counts: Floats) -> Sampled:
        key = counts.tobytes()
        if key not in self._denominators:  # most measures and jobs have the same queries
            self._denominators[key] = weighted_totals(self._weights, counts)
        everything = macro_average(sums.sum(axis=0)[None], counts.sum(axis=0)[None])
        samples = macro_average(weighted_totals(self._weights, sums), self._denominators[key])
        return Sampled(float(everything[0]), samples)


def draw_weights(n_groups: int, n_resamples: int, rng: np.random.Generator) -> npt.NDArray[np.uint16]:
    """Draw groups with replacement; return how often each is in each resample (n_resamples, n_groups)."""
    weights = np.empty((n_resamples, n_groups), dtype=np.uint16)
    for row in weights:
        row[:] = np.bincount(rng.integers(n_groups, size=n_groups), minlength=n_groups)
    return weights


def weighted_totals(weights: npt.NDArray[np.uint16], values: Floats) -> Floats:
    """Return ``weights @ values`` (n_resamples, n_cells) in bounded memory."""
    rows = max(1, CHUNK // weights.shape[1])
    chunks = [weights[i : i + rows].astype(np.float64) @ values for i in range(0, len(weights), rows)]
    return np.concatenate(chunks)


def macro_average(sums: Floats, counts: Floats) -> Floats:
    """Return the mean over cells of sums / counts, each (n, n_cells); cells without a query are left out."""
    present = counts > 0
    means: Floats = np.divide(sums, counts, out=np.zeros_like(sums), where=present)
    n_cells = present.sum(axis=1)
    average: Floats = np.divide(means.sum(axis=1), n_cells, out=np.full(len(sums), np.nan), where=n_cells > 0)
    return average


def group_index(jobs: Iterable[Job]) -> pd.Index:
    """Return the ids of the parallel groups on which any of the jobs was evaluated, in alphabetical order.

    Raises:
        DataError: per-query scores are missing or malformed; the message names the file.
    """
    columns = (_read(job, "group_id")["group_id"] for job in jobs)
    ids: pd.Index = pd.Index(sorted({group for column in columns for group in column.dropna().unique()}))
    return ids


def read_totals(job: Job, group_ids: pd.Index) -> Iterator[Totals]:
    """Read the per-query scores of a job and add them up, for every setting and measure that it has.

    Args:
        job: a finished job.
        group_ids: the groups, in the order of the rows of the totals; those of the job are among them.

    Raises:
        DataError: per-query scores are missing or malformed; the message names the file.
    """
    frame = _read_scores(job)
    group = group_ids.get_indexer(frame["group_id"].cat.categories)[_codes(frame, "group_id")]
    setting, query, passage = (_codes(frame, name) for name in ("setting", "query_lang", "passage_lang"))
    query_langs, passage_langs = (list(frame[name].cat.categories) for name in ("query_lang", "passage_lang"))
    pair = query * len(passage_langs) + passage
    for name in SETTINGS:
        rows = np.flatnonzero(setting == frame["setting"].cat.categories.get_indexer(pd.Index([name])))
        pairs, cell = np.unique(pair[rows], return_inverse=True)
        cells = tuple(
            (query_langs[q], passage_langs[p]) for q, p in zip(*divmod(pairs, len(passage_langs)), strict=True)
        )
        flat = group[rows] * len(cells) + cell
        shape = (len(group_ids), len(cells))
        for measure in _measure_columns(frame):
            scores = frame[measure].to_numpy(dtype=np.float64)[rows]
            known = ~np.isnan(scores)
            if known.any():
                size = shape[0] * shape[1]
                sums = np.bincount(flat[known], scores[known], minlength=size).reshape(shape).astype(np.float64)
                counts = np.bincount(flat[known], minlength=size).reshape(shape).astype(np.float64)
                yield Totals(name, measure, cells, sums, counts)


def _read(job: Job, only: str | None = None) -> pd.DataFrame:
    path = job.scores
    try:
        columns = [name for name in pyarrow.parquet.read_schema(path).names if name != "query_id"]
        absent = [name for name in KEYS if name not in columns]
        if absent:
            raise DataError(f"{path}: there is no column {absent[0]!r}; run the job again")
        table = pyarrow.parquet.read_table(path, columns=[only] if only else columns, read_dictionary=list(KEYS))
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(
            f"{path}: the per-query scores of a finished job cannot be read ({error}); run the job again or move its "
            "folder out of the study"
        ) from error
    frame: pd.DataFrame = table.to_pandas()
    if frame.empty:
        raise DataError(f"{path}: there is no row in it; run the job again")
    return frame


def _read_scores(job: Job) -> pd.DataFrame:
    frame = _read(job)
    for name in KEYS:
        column = frame[name].astype("category")
        # A dictionary in the file is in the order of its rows, which need not be the same in every job.
        frame[name] = column.cat.reorder_categories(sorted(column.cat.categories))
        if frame[name].isna().any():
            row = int(frame[name].isna().to_numpy().argmax())
            raise DataError(f"{job.scores}: column {name!r} is empty in row {row}; run the job again")
    return frame


def _codes(frame: pd.DataFrame, column: str) -> npt.NDArray[np.int64]:
    return np.asarray(frame[column].cat.codes, dtype=np.int64)


def _measure_columns(frame: pd.DataFrame) -> list[str]:
    return [str(name) for name in frame.select_dtypes("number").columns]
