"""The difference between two methods by parallel group, from the per-query scores that both have."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from hashlib import sha256

import numpy as np
import pandas as pd

from clirscale.analysis.bootstrap import Floats, Totals, group_index, read_totals
from clirscale.analysis.curves import Point
from clirscale.analysis.records import Job
from clirscale.errors import DataError

Key = tuple[str, str]  # setting, measure


def paired_differences(a: Point, b: Point, setting: str, measure: str) -> Floats:
    """Return what each parallel group contributes to the difference a - b of the macro-averages.

    Per-query scores are averaged over the seeds that both points have with the measure, or over each one's own where
    they share none. The contributions are the input of :func:`~clirscale.analysis.significance.randomisation_test`,
    and add up to :meth:`~clirscale.analysis.bootstrap.Bootstrap.difference`.

    Returns:
        (n_groups,) for the groups with scores, in the order of their ids.

    Raises:
        DataError: a point lacks the measure, or the scores cannot be paired; see :meth:`Contributions.paired`.
    """
    key = setting, measure
    scores = Contributions([*a.jobs, *b.jobs], {key})
    a, b = (Point(p.fraction, tuple(job for job in p.jobs if scores.has(job, key))) for p in (a, b))
    if not (a.jobs and b.jobs):
        raise DataError(f"{setting} {measure}: no job of one of the points has it; compare a measure that both have")
    differences = scores.paired(*on_shared_seeds(a, b), key)
    return differences[~np.isnan(differences)]


def on_shared_seeds(a: Point, b: Point) -> tuple[Point, Point]:
    """Leave out the jobs whose seed only one point has, if they share any."""
    seeds = {job.seed for job in a.jobs} & {job.seed for job in b.jobs} - {None}
    if not seeds:
        return a, b
    a, b = (Point(point.fraction, tuple(job for job in point.jobs if job.seed in seeds)) for point in (a, b))
    return a, b


class Contributions:
    """What each parallel group contributes to the macro-averages of jobs.

    Every file is read once. Sums by cell are not kept, only what the groups of a job add to each macro-average.

    Args:
        jobs: finished jobs with the same evaluation set.
        keys: the settings and measures of interest.

    Raises:
        DataError: scores are missing, malformed or infinite; the message names the file, and where in it.
    """

    def __init__(self, jobs: Iterable[Job], keys: Collection[Key]) -> None:
        unique = list(dict.fromkeys(jobs))
        self._group_ids = group_index(unique)
        self._shares: dict[Job, dict[Key, Floats]] = {job: {} for job in unique}
        self._present: dict[Job, dict[Key, bytes]] = {job: {} for job in unique}
        for job in unique:
            for totals in read_totals(job, self._group_ids):
                key = totals.setting, totals.measure
                if key not in keys:
                    continue
                _refuse_infinite(job, totals, self._group_ids)
                scored = totals.counts.any(axis=1)
                self._shares[job][key] = np.where(scored, totals.shares, np.nan)
                self._present[job][key] = sha256(repr(totals.cells).encode() + totals.counts.tobytes()).digest()

    def has(self, job: Job, key: Key) -> bool:
        """Return whether a job has any score in a setting and measure."""
        return key in self._shares[job]

    def paired(self, a: Point, b: Point, key: Key) -> Floats:
        """Return what each group contributes to a - b, the jobs of each point averaged.

        Args:
            a: jobs that have the measure.
            b: jobs that have it, too; see :func:`on_shared_seeds`.
            key: setting and measure.

        Returns:
            (n_groups,) in the order of their ids; NaN for groups without scores.

        Raises:
            DataError: a job lacks the score of a query that another has, or the score is NaN there. The message names
                both files, setting, measure, group and languages.
        """
        first, *others = a.jobs + b.jobs
        for job in others:
            if self._present[job][key] != self._present[first][key]:
                raise _unpaired(first, job, key, self._group_ids)
        ours, theirs = (np.mean([self._shares[job][key] for job in point.jobs], axis=0) for point in (a, b))
        return np.asarray(ours - theirs, dtype=np.float64)


def _refuse_infinite(job: Job, totals: Totals, group_ids: pd.Index) -> None:
    infinite = np.argwhere(~np.isfinite(totals.sums))
    if len(infinite):
        where = _place(totals.setting, totals.measure, group_ids[infinite[0][0]], totals.cells[infinite[0][1]])
        raise DataError(f"{job.scores}: {where} is not finite; run the job again")


def _unpaired(a: Job, b: Job, key: Key, group_ids: pd.Index) -> DataError:
    """Return the error for two jobs that were not scored on the same queries; it names the first of them."""
    counts = []
    for job in (a, b):
        totals = next(t for t in read_totals(job, group_ids) if (t.setting, t.measure) == key)
        counts.append(pd.DataFrame(totals.counts, group_ids, pd.Index(totals.cells, tupleize_cols=False)))
    ours, theirs = counts[0].align(counts[1], fill_value=0)
    row, column = np.argwhere(ours.to_numpy() != theirs.to_numpy())[0]
    where = _place(*key, ours.index[row], ours.columns[column])
    numbers = [int(frame.to_numpy()[row, column]) for frame in (ours, theirs)]
    return DataError(
        f"{a.scores} and {b.scores} cannot be paired: {where} has {numbers[0]} and {numbers[1]} scores other than NaN; "
        f"evaluate both on the same queries, or leave {key[1]} out of the comparison"
    )


def _place(setting: str, measure: str, group: str, cell: tuple[str, str]) -> str:
    return f"{setting} {measure} of group {group!r}, queries in {cell[0]!r}, passages in {cell[1]!r},"
