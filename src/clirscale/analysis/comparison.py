"""The headline comparison of two methods: tests at every size, data equivalents, crossings, decisions.

A method is set against a baseline in one setting and measure at a time (:class:`Outcome`), and the tests of all sizes,
settings and measures are one family under Holm's correction. Both are compared on the seeds that both have at a size,
as the bootstrap does; :mod:`clirscale.analysis.headline` puts an outcome into words.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from clirscale.analysis.bootstrap import Bootstrap, Estimate, Floats
from clirscale.analysis.curves import Curve, Point
from clirscale.analysis.equivalents import (
    Crossing,
    Decision,
    Multiplier,
    SampledCurve,
    crossing,
    data_equivalents,
    decisions,
)
from clirscale.analysis.pairing import Contributions, Key, on_shared_seeds
from clirscale.analysis.records import SETTINGS, Job
from clirscale.analysis.significance import N_DRAWS, holm, randomisation_test, standardised_difference


@dataclass(frozen=True)
class SizeTest:
    """The difference between method and baseline at one size, in one setting and measure.

    Attributes:
        groups: parallel groups in training, the mean of both.
        difference: method - baseline, macro-averaged, with the bootstrap's interval.
        dz: the paired difference in standard deviations over parallel groups of the evaluation.
        n_groups: parallel groups of the evaluation that have the measure.
        p: of the randomisation test over those groups; it knows nothing of the variation between seeds.
        adjusted: p by Holm's method over the family.
        identical: whether both score the same in every group.
    """

    fraction: float
    groups: float
    difference: Estimate
    dz: float
    n_groups: int
    p: float
    adjusted: float
    identical: bool


@dataclass(frozen=True)
class Outcome:
    """A method against a baseline in one setting and measure.

    Attributes:
        tests: by increasing size, for the sizes that both have.
        alone: the sizes (groups) that only the method has, and those that only the baseline has.
        equivalents: by the sizes of the method; none where the baseline does not rise with size.
        crossing: None for fewer than two sizes that both have.
        decisions: by the sizes that both have; none where the largest shows no winner.
        baseline_sizes: smallest and largest size (groups) of the baseline; None if it has none.
    """

    setting: str
    measure: str
    lower_is_better: bool
    tests: tuple[SizeTest, ...]
    alone: tuple[tuple[float, ...], tuple[float, ...]]
    equivalents: tuple[Multiplier, ...]
    crossing: Crossing | None
    decisions: tuple[Decision, ...]
    baseline_sizes: tuple[float, float] | None


@dataclass(frozen=True)
class HeadToHead:
    """A method against a baseline in every setting and measure.

    Attributes:
        outcomes: by (setting, measure), in the order asked for; those that both have at no common size included,
            those that neither has left out.
        alpha: level of the family of tests.
        level: coverage that the intervals aim at.
        n_draws: of the randomisation tests.
    """

    method: Curve
    baseline: Curve
    outcomes: dict[Key, Outcome]
    alpha: float
    level: float
    n_draws: int

    @property
    def n_tests(self) -> int:
        """Size of the family that Holm's correction is over."""
        return sum(len(outcome.tests) for outcome in self.outcomes.values())


def compare(
    method: Curve,
    baseline: Curve,
    bootstrap: Bootstrap,
    *,
    measures: Sequence[str],
    settings: Sequence[str] = SETTINGS,
    lower_is_better: Collection[str] = (),
    alpha: float = 0.05,
    n_draws: int = N_DRAWS,
    seed: int = 0,
) -> HeadToHead:
    """Compare two methods over the sizes of a study.

    Args:
        method: the curve that the multipliers are of.
        baseline: the curve that is inverted.
        bootstrap: over the jobs of both.
        measures: the family of measures; each adds tests for Holm's correction.
        settings: the family of settings.
        lower_is_better: the measures where less is better, such as rank distance.
        alpha: level of the family of tests.
        n_draws: of the randomisation tests.
        seed: of their signs.

    Raises:
        DataError: scores cannot be paired: one job lacks a query's score that the other has, or a score is infinite.
            The message names file, setting, measure, group and languages.
    """
    sides = {
        (setting, measure): found
        for setting in settings
        for measure in measures
        if (found := _sides(method, baseline, bootstrap, (setting, measure)))
    }
    scores = Contributions([job for found in sides.values() for job in found.shared_jobs], sides.keys())
    differences = {key: [scores.paired(p, q, key) for p, q in found.shared] for key, found in sides.items()}
    p_values = iter(_p_values([d for of_sizes in differences.values() for d in of_sizes], n_draws, seed))
    outcomes = {}
    for key, found in sides.items():
        tests = [
            _size_test(p, q, bootstrap, key, difference, *next(p_values))
            for (p, q), difference in zip(found.shared, differences[key], strict=True)
        ]
        outcomes[key] = _outcome(found, bootstrap, key, tests, key[1] in lower_is_better)
    return HeadToHead(method, baseline, outcomes, alpha, bootstrap.level, n_draws)


@dataclass(frozen=True)
class _Sides:
    """The points of two methods that have a measure; where both have a size, on the seeds that both have.

    Of sizes with equally many groups, which are the same groups, the first counts.
    """

    method: tuple[Point, ...]
    baseline: tuple[Point, ...]

    def __bool__(self) -> bool:
        return bool(self.method or self.baseline)

    @property
    def shared(self) -> tuple[tuple[Point, Point], ...]:
        theirs = {q.fraction: q for q in self.baseline}
        return tuple((p, theirs[p.fraction]) for p in self.method if p.fraction in theirs)

    @property
    def shared_jobs(self) -> list[Job]:
        return [job for pair in self.shared for point in pair for job in point.jobs]

    @property
    def alone(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        shared = {p.fraction for p, _ in self.shared}
        method, baseline = (
            tuple(p.groups for p in points if p.fraction not in shared) for points in (self.method, self.baseline)
        )
        return method, baseline


def _sides(method: Curve, baseline: Curve, bootstrap: Bootstrap, key: Key) -> _Sides:
    def measured(curve: Curve) -> dict[float | None, Point]:
        points: dict[float | None, Point] = {}
        for point in curve.points:
            jobs = tuple(j for j in point.jobs if bootstrap.sampled([(1, Point(j.fraction, (j,)))], *key) is not None)
            if jobs and point.fraction is not None:
                points[point.fraction] = Point(point.fraction, jobs)
        return points

    ours, theirs = measured(method), measured(baseline)
    for fraction in ours.keys() & theirs.keys():
        ours[fraction], theirs[fraction] = on_shared_seeds(ours[fraction], theirs[fraction])
    return _Sides(_by_groups(ours.values()), _by_groups(theirs.values()))


def _by_groups(points: Iterable[Point]) -> tuple[Point, ...]:
    first: dict[float, Point] = {}
    for point in points:
        first.setdefault(point.groups, point)
    return tuple(first[groups] for groups in sorted(first))


def _p_values(differences: Sequence[Floats], n_draws: int, seed: int) -> list[tuple[float, float]]:
    """Return p and adjusted p of each test of the family, all on the same flips."""
    if not differences:
        return []
    contributions = np.nan_to_num(np.stack(differences, axis=1))  # a group without scores contributes nothing
    p_values = randomisation_test(contributions, n_draws=n_draws, seed=seed)
    return [(float(p), float(adjusted)) for p, adjusted in zip(p_values, holm(p_values), strict=True)]


def _size_test(
    p: Point, q: Point, bootstrap: Bootstrap, key: Key, differences: Floats, p_value: float, adjusted: float
) -> SizeTest:
    estimate = bootstrap.difference(p, q, *key)
    assert estimate is not None  # both have the measure
    assert p.fraction is not None  # points of a curve over sizes have one
    scored = differences[~np.isnan(differences)]
    return SizeTest(
        fraction=p.fraction,
        groups=(p.groups + q.groups) / 2,
        difference=estimate,
        dz=standardised_difference(scored),
        n_groups=len(scored),
        p=p_value,
        adjusted=adjusted,
        identical=not scored.any(),
    )


def _outcome(
    sides: _Sides, bootstrap: Bootstrap, key: Key, tests: Sequence[SizeTest], lower_is_better: bool
) -> Outcome:
    sign = -1 if lower_is_better else 1  # curves rise where a method gets better
    ours = _curve([[(sign, p)] for p in sides.method], bootstrap, key)
    theirs = _curve([[(sign, q)] for q in sides.baseline], bootstrap, key)
    ahead = _curve([[(sign, p), (-sign, q)] for p, q in sides.shared], bootstrap, key)
    known = np.isfinite(np.hstack([ours.samples, theirs.samples, ahead.samples])).all(axis=1)
    ours, theirs, ahead = (replace(curve, samples=curve.samples[known]) for curve in (ours, theirs, ahead))
    return Outcome(
        setting=key[0],
        measure=key[1],
        lower_is_better=lower_is_better,
        tests=tuple(tests),
        alone=sides.alone,
        equivalents=data_equivalents(theirs, ours, level=bootstrap.level),
        crossing=crossing(ahead, level=bootstrap.level),
        decisions=decisions(ahead),
        baseline_sizes=(float(theirs.groups[0]), float(theirs.groups[-1])) if sides.baseline else None,
    )


def _curve(contrasts: Sequence[list[tuple[int, Point]]], bootstrap: Bootstrap, key: Key) -> SampledCurve:
    """Return contrasts of points by size, each the mean of its points' groups."""
    found = [sampled for terms in contrasts if (sampled := bootstrap.sampled(terms, *key)) is not None]
    groups = np.array([np.mean([point.groups for _, point in terms]) for terms in contrasts])
    samples = [sampled.samples for sampled in found]
    return SampledCurve(
        groups=groups,
        values=np.array([sampled.value for sampled in found]),
        samples=np.stack(samples, axis=1) if samples else np.empty((bootstrap.n_resamples, 0)),
    )
