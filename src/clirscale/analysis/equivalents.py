"""Two methods over data sizes: data equivalents, where their curves cross, and what a small study would have decided.

Everything is computed on the queries as they are and again on each resample of the bootstrap, which holds the same
groups and seeds for both methods and all sizes; intervals are percentiles over the resamples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Relation = Literal["", "<", ">"]
TOLERANCE = 1e-12  # scores this close are the same


@dataclass(frozen=True)
class SampledCurve:
    """A score, or a difference of scores, at several sizes.

    Attributes:
        groups: (n_sizes,) parallel groups in training, increasing and positive.
        values: (n_sizes,) on the queries as they are.
        samples: (n_resamples, n_sizes) on each resample.

    Raises:
        ValueError: the shapes do not agree, or the sizes are not positive and increasing.
    """

    groups: Floats
    values: Floats
    samples: Floats

    def __post_init__(self) -> None:
        n = len(self.groups)
        if self.values.shape != (n,) or self.samples.ndim != 2 or self.samples.shape[1] != n:
            raise ValueError(f"{n} sizes, but values {self.values.shape} and samples {self.samples.shape}")
        if n and not (self.groups[0] > 0 and (np.diff(self.groups) > 0).all()):
            raise ValueError(f"sizes are not positive and increasing: {self.groups.tolist()}")

    @property
    def all(self) -> Floats:
        """The values, then the samples (1 + n_resamples, n_sizes)."""
        return np.vstack([self.values, self.samples])


@dataclass(frozen=True)
class Bounded:
    """A number, or a bound where the truth lies outside what was observed.

    Attributes:
        value: the number or the bound.
        relation: "" for a number; "<" or ">" where the truth is below or above ``value``.
    """

    value: float
    relation: Relation = ""

    def times(self, factor: float) -> Bounded:
        """Return the number in another unit; ``factor`` is positive."""
        return Bounded(self.value * factor, self.relation)


@dataclass(frozen=True)
class Multiplier:
    """How many times the data the baseline needs to score what the method scores at one size.

    Attributes:
        groups: the size D of the method.
        value: m(D); a bound where the baseline does not score that at any observed size.
        low: lower end of the interval; a bound where more than its tail of the resamples is outside.
        high: upper end of the interval, likewise.
    """

    groups: float
    value: Bounded
    low: Bounded
    high: Bounded

    @property
    def includes_one(self) -> bool:
        """Whether the interval leaves open that both need the same data."""
        return spans(self.low, self.high, 1.0)


def spans(low: Bounded, high: Bounded, value: float) -> bool:
    """Return whether an interval leaves open that the truth is ``value``, its ends included unless they are bounds."""
    starts_above = (low.relation == ">" and low.value >= value) or (low.relation == "" and low.value > value)
    ends_below = (high.relation == "<" and high.value <= value) or (high.relation == "" and high.value < value)
    return not (starts_above or ends_below)


@dataclass(frozen=True)
class Crossing:
    """Where the difference between two methods changes its sign between observed sizes.

    Attributes:
        groups: every size at which it does, on the queries as they are; from the last on, the order is that of the
            largest size.
        low: lower end of the interval of the last, over the resamples that cross; None if none does.
        high: upper end, likewise.
        share: share of the resamples in which the curves cross.
    """

    groups: tuple[float, ...]
    low: float | None
    high: float | None
    share: float


@dataclass(frozen=True)
class Decision:
    """What a study of one size says of the winner at the largest.

    Attributes:
        groups: the size.
        accuracy: share of the resamples in which the difference at this size has the sign of the difference observed
            at the largest; a difference of exactly 0 counts as half. At the largest size, how firm the winner is.
    """

    groups: float
    accuracy: float


def isotonic(values: Floats) -> Floats:
    """Return the non-decreasing sequences nearest to ``values`` by least squares, along the last axis.

    By the min-max formula (Robertson, Wright & Dykstra 1988): at i, the maximum over j <= i of the minimum over l >= i
    of the mean of j..l. Cubic in the length, which is the number of sizes; vectorised over all other axes.
    """
    n = values.shape[-1]
    fitted: Floats = np.full(values.shape, -np.inf)
    for j in range(n):
        means = np.cumsum(values[..., j:], axis=-1) / np.arange(1, n - j + 1)
        lowest = np.minimum.accumulate(means[..., ::-1], axis=-1)[..., ::-1]
        fitted[..., j:] = np.maximum(fitted[..., j:], lowest)
    return fitted


def data_equivalents(baseline: SampledCurve, method: SampledCurve, *, level: float = 0.95) -> tuple[Multiplier, ...]:
    """Return the data-equivalent multiplier m(D) = f_base^-1(f_method(D)) / D at each size of the method.

    (Hernandez et al. 2021 call it the effective data multiplier, and find that it changes with D.) Curves are
    isotonic fits through the points, linear in log D. Where the baseline is flat, many sizes have the same score; the
    one nearest to D is taken, so that m departs from 1 only as far as the scores force it. The baseline's curve is
    never extended: a score above or below all of it gives a bound.

    Args:
        baseline: scores, more is better.
        method: scores of the same measure on the same resamples; its sizes may be others.
        level: coverage that the intervals aim at.

    Returns:
        One multiplier a size of the method; none if the baseline has fewer than two sizes, or does not rise with size.
    """
    base, ours = isotonic(baseline.all), isotonic(method.all)
    if len(baseline.groups) < 2 or base[0, -1] - base[0, 0] <= TOLERANCE:
        return ()
    sizes = np.log(baseline.groups)
    return tuple(
        _multiplier(float(groups), sizes, *_invert(sizes, base, ours[:, i], np.log(groups)), level)
        for i, groups in enumerate(method.groups)
    )


def crossing(difference: SampledCurve, *, level: float = 0.95) -> Crossing | None:
    """Return where a difference changes its sign, linear in log D between sizes; None for fewer than two sizes."""
    if len(difference.groups) < 2:
        return None
    found = _sign_changes(np.log(difference.groups), difference.all)
    last = np.nan_to_num(found[1:], nan=-np.inf).max(axis=1)
    crossed = last[np.isfinite(last)]
    low, high = _interval(np.exp(crossed), level) if len(crossed) else (None, None)
    observed = tuple(float(size) for size in np.exp(found[0][~np.isnan(found[0])]))
    return Crossing(observed, low, high, len(crossed) / len(last))


def decisions(difference: SampledCurve) -> tuple[Decision, ...]:
    """Return how often each size picks the winner of the largest; nothing if the largest has none (difference 0).

    After the decision accuracy of Magnusson et al. 2025 (DataDecide), with resamples in place of further pairs.
    """
    if not len(difference.groups) or abs(difference.values[-1]) <= TOLERANCE:
        return ()
    signs = _signs(difference.samples) * np.sign(difference.values[-1])
    accuracy = (1 + signs).mean(axis=0) / 2
    return tuple(Decision(float(g), float(share)) for g, share in zip(difference.groups, accuracy, strict=True))


def _invert(sizes: Floats, curves: Floats, scores: Floats, home: float) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Return the log size at which each curve (n, n_sizes) has each score (n,), and on which side of it that lies.

    Of several sizes it is the one nearest to ``home``; outside the curve it is its end, and the side is -1 or 1.
    """
    first = _first_reaching(sizes, curves, scores - TOLERANCE)
    # The last size with at most a score is the first with at least it, seen from the other end.
    last = -_first_reaching(-sizes[::-1], -curves[:, ::-1], -(scores + TOLERANCE))
    side = (scores > curves[:, -1] + TOLERANCE).astype(np.int64) - (scores < curves[:, 0] - TOLERANCE)
    return np.clip(home, first, np.maximum(first, last)), side


def _first_reaching(sizes: Floats, curves: Floats, scores: Floats) -> Floats:
    """Return the smallest log size at which each non-decreasing curve is at least its score, or the last size."""
    rows = np.arange(len(curves))
    after = np.minimum((curves < scores[:, None]).sum(axis=1), len(sizes) - 1)
    before = np.maximum(after - 1, 0)
    rise = curves[rows, after] - curves[rows, before]
    share = np.divide(scores - curves[rows, before], rise, out=np.zeros(len(rows)), where=rise > 0)
    found: Floats = sizes[before] + np.clip(share, 0, 1) * (sizes[after] - sizes[before])
    return np.where(scores > curves[:, -1], sizes[-1], found)


def _multiplier(groups: float, sizes: Floats, found: Floats, side: npt.NDArray[np.int64], level: float) -> Multiplier:
    """Summarise the inversions on the queries as they are (first) and on the resamples.

    Args:
        groups: size of the method.
        sizes: log sizes of the baseline.
        found: (1 + n_resamples,) log sizes at which the baseline scores what the method does.
        side: (1 + n_resamples,) on which side of them the truth lies: -1, 0 or 1.
        level: coverage that the interval aims at.
    """

    def ratio(log_size: float) -> float:
        return float(np.exp(log_size - np.log(groups)))  # exactly 1 at the method's own size

    def bounded(log_size: float, below: bool, above: bool) -> Bounded:
        if below or above:
            return Bounded(ratio(sizes[0 if below else -1]), "<" if below else ">")
        return Bounded(ratio(log_size))

    tail = (1 - level) / 2
    below, above = (side[1:] == -1).mean(), (side[1:] == 1).mean()
    low, high = _interval(found[1:], level)
    return Multiplier(
        groups,
        bounded(float(found[0]), bool(side[0] == -1), bool(side[0] == 1)),
        bounded(low, below > tail, above >= 1 - tail),
        bounded(high, below >= 1 - tail, above > tail),
    )


def _sign_changes(sizes: Floats, differences: Floats) -> Floats:
    """Return the log size of each change of sign (n, n_sizes - 1), NaN in intervals without one.

    Differences of 0 have no sign; a change across them is where they end.
    """
    signs = _signs(differences)
    for i in range(1, signs.shape[1]):
        signs[:, i] = np.where(signs[:, i] == 0, signs[:, i - 1], signs[:, i])
    before, after = differences[:, :-1], differences[:, 1:]
    changes = signs[:, :-1] * signs[:, 1:] < 0
    share = np.divide(before, before - after, out=np.zeros_like(before), where=changes)
    return np.where(changes, sizes[:-1] + share * np.diff(sizes), np.nan)


def _signs(differences: Floats) -> Floats:
    signs: Floats = np.where(np.abs(differences) <= TOLERANCE, 0.0, np.sign(differences))
    return signs


def _interval(values: Floats, level: float) -> tuple[float, float]:
    tail = (1 - level) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)
