"""Is a difference between two methods more than chance among the queries, and how large is it?

The test is the paired randomisation test of Fisher: if two methods are equal, the sign of every difference between
them is arbitrary (Smucker, Allan & Carterette, CIKM 2007). Translations of one question are not independent, so the
signs of whole parallel groups are flipped. With thousands of queries nearly every difference is significant
(Ihemelandu & Ekstrand, SIGIR 2023): read the effect size first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import copysign, inf, nan

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
N_DRAWS = 10_000
CHUNK = 4_000_000  # signs that are held as float64 at a time: 32 MB
# Statistics that are equal but for the order of additions count as equal, relative to the sum of all magnitudes.
TOLERANCE = 1e-12


def randomisation_test(differences: npt.ArrayLike, *, n_draws: int = N_DRAWS, seed: int = 0) -> Floats:
    """Return two-sided p-values of paired sign-flip tests of "no difference", clustered by group.

    The statistic is the sum over groups; for a macro-average give what each group contributes to it
    (:attr:`clirscale.analysis.bootstrap.Totals.shares`, method minus baseline). Flipping a group changes the sign of
    its contribution and nothing else, so that one matrix product of signs and contributions makes all draws of all
    tests. p = (1 + #{|d*| >= |d|}) / (1 + n_draws); a test with no more than ``n_draws`` sign vectors has all of them
    enumerated, and p is their share with |d*| >= |d|.

    Args:
        differences: (n_groups, ...) one contribution a group; each further index is a test of its own, on the same
            draws.
        n_draws: random sign vectors. With m tests under Holm's correction no p-value is below m / (1 + n_draws).
        seed: of the signs.

    Returns:
        p-values of shape ``differences.shape[1:]``, above 0 and at most 1.

    Raises:
        ValueError: there is no group, a contribution is not finite (the message names it), or n_draws < 1.
    """
    values = np.asarray(differences, dtype=np.float64)
    if values.ndim == 0 or len(values) == 0:
        raise ValueError("differences has no group; give one row a group")
    if n_draws < 1:
        raise ValueError(f"n_draws is {n_draws}; give at least 1")
    if not np.isfinite(values).all():
        where = [int(i) for i in np.argwhere(~np.isfinite(values))[0]]
        raise ValueError(f"differences{where} is {values[tuple(where)]}; a group without a score has no row")
    flat = values.reshape(len(values), -1)
    # Flipping zeros changes nothing, so that groups without a difference do not count among the sign vectors.
    few = (flat != 0).sum(axis=0) < n_draws.bit_length()
    p_values = np.empty(flat.shape[1])
    for test in np.flatnonzero(few):
        contributions = flat[flat[:, test] != 0, test, None]
        p_values[test] = _count_extreme(contributions, [_all_flips(len(contributions))])[0] / 2 ** len(contributions)
    if not few.all():
        extreme = _count_extreme(flat[:, ~few], _random_flips(len(flat), n_draws, seed))
        p_values[~few] = (1 + extreme) / (1 + n_draws)
    return p_values.reshape(values.shape[1:])


def holm(p_values: Sequence[float] | Floats) -> Floats:
    """Adjust the p-values of a family by Holm's step-down method, in their order (n,).

    A test is rejected at level alpha if its adjusted p-value is at most alpha; the chance of one or more false
    rejections in the family is then at most alpha, however the tests depend on each other (Holm 1979).

    Raises:
        ValueError: a p-value is not between 0 and 1; the message names it.
    """
    values = np.asarray(p_values, dtype=np.float64)
    wrong = ~((values >= 0) & (values <= 1))
    if wrong.any():
        i = int(wrong.argmax())
        raise ValueError(f"p_values[{i}] is {values[i]}, not between 0 and 1")
    order = np.argsort(values, kind="stable")
    scaled = np.minimum(1.0, values[order] * np.arange(len(values), 0, -1))
    adjusted = np.empty_like(values)
    adjusted[order] = np.maximum.accumulate(scaled)
    return adjusted


def standardised_difference(differences: Floats) -> float:
    """Return Cohen's dz, the mean over groups of the paired difference divided by its standard deviation.

    Args:
        differences: (n_groups,) contributions, as for :func:`randomisation_test`; their scale does not matter.

    Returns:
        dz; 0 if all differences are 0, infinite if they are equal otherwise, NaN for fewer than two groups.
    """
    if len(differences) < 2:
        return nan
    mean, spread = float(np.mean(differences)), float(np.std(differences, ddof=1))
    if spread <= TOLERANCE * float(np.abs(differences).max()):
        return copysign(inf, mean) if mean else 0.0
    return mean / spread


def _count_extreme(contributions: Floats, flips: Iterable[Floats]) -> Floats:
    """Count the flips (n, n_groups of 0 and 1) whose statistic is at least as large as the observed, by test."""
    total, magnitude = contributions.sum(axis=0), np.abs(contributions).sum(axis=0)
    extreme = np.zeros(contributions.shape[1])
    for heads in flips:
        statistics = 2 * (heads @ contributions) - total  # the signs are 2 * heads - 1
        extreme += (np.abs(statistics) >= np.abs(total) - TOLERANCE * magnitude).sum(axis=0)
    return extreme


def _all_flips(n_groups: int) -> Floats:
    return ((np.arange(2**n_groups)[:, None] >> np.arange(n_groups)) & 1).astype(np.float64)


def _random_flips(n_groups: int, n_draws: int, seed: int) -> Iterator[Floats]:
    rng = np.random.default_rng([seed, 2])  # other draws than the bootstrap's of the same seed
    rows = max(1, CHUNK // n_groups)
    for start in range(0, n_draws, rows):
        size = (min(rows, n_draws - start), n_groups)
        yield rng.integers(2, size=size, dtype=np.uint8).astype(np.float64)
