"""Measures of a query's ranking, by trec_eval's definitions under the names of ir-measures.

P, R, Success, RR, AP, Rprec and nDCG need only the ranks of the relevant passages, so they are computed for all
queries at once, on complete rankings. Their values are those of pytrec_eval. Any other measure of ir-measures that
has a cut-off is left to ir-measures, on the top of the rankings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ir_measures
import numpy as np
import numpy.typing as npt

from clirscale.errors import ConfigError

Measure = Any  # ir_measures.Measure; the package has no types
Values = npt.NDArray[np.float64]
#: Called with a depth; gives for each query the ids of the top passages and its judged passages with their grades.
TopWithGrades = Callable[[int], tuple[list[list[str]], list[dict[str, int]]]]


@dataclass(frozen=True)
class JudgedRanks:
    """Where the judged passages of n queries stand.

    Attributes:
        n: number of queries.
        query: (m,) the query of each judged passage, in 0 … n-1.
        rank: (m,) its rank, from 1; infinite if it was not retrieved.
        grade: (m,) its relevance; 0 and less is not relevant.
    """

    n: int
    query: npt.NDArray[np.int64]
    rank: Values
    grade: npt.NDArray[np.int64]

    def total(self, chosen: npt.NDArray[np.bool_], weights: Values | None = None) -> Values:
        """Sum ``weights`` (1 if None) of the chosen passages for each query: (n,)."""
        summed = np.bincount(self.query[chosen], None if weights is None else weights[chosen], minlength=self.n)
        return summed.astype(np.float64)


def parse_measures(names: Sequence[str]) -> dict[str, Measure]:
    """Return the measures by the names that were given for them.

    Raises:
        ConfigError: a name is unknown, given twice, lacks or has a wrong parameter, or cannot be computed here.
    """
    key = "eval.measures"
    measures: dict[str, Measure] = {}
    for name in names:
        try:
            measure = ir_measures.parse_measure(name)
            measure.validate_params()
        except (NameError, ValueError, SyntaxError, TypeError, AssertionError) as error:
            raise ConfigError(
                key, f"{name!r} is not a measure of ir-measures, such as P@5, R@20, AP or nDCG@10 ({error})"
            ) from error
        for parameter in ("cutoff", "rel"):
            value = measure.params.get(parameter, 1)
            if value < 1:
                raise ConfigError(key, f"{name!r}: {parameter} must be at least 1, is {value}")
        if name in measures:
            raise ConfigError(key, f"{name!r} is given twice")
        if not _needs_ranks_only(measure):
            _check_computable_on_top(name, measure)
        measures[name] = measure
    return measures


def _check_computable_on_top(name: str, measure: Measure) -> None:
    if "cutoff" not in measure.params or measure.params.get("judged_only"):
        raise ConfigError(
            "eval.measures",
            f"{name!r} would need complete run files; give it a cut-off (@k) without judged_only, or take one of "
            f"{', '.join(sorted(_BY_RANKS))}",
        )
    if not ir_measures.DefaultPipeline.supports(measure):
        raise ConfigError("eval.measures", f"{name!r}: ir-measures has no provider installed that computes it")


def depth_needed(measures: Mapping[str, Measure]) -> int:
    """Return how many passages of the top of each ranking :func:`compute` needs; 0 if the ranks are enough."""
    return max((m["cutoff"] for m in measures.values() if not _needs_ranks_only(m)), default=0)


def compute(measures: Mapping[str, Measure], ranks: JudgedRanks, top: TopWithGrades) -> dict[str, Values]:
    """Compute measures for each query.

    Args:
        measures: from :func:`parse_measures`.
        ranks: of the judged passages in complete rankings.
        top: called only if a measure needs more than the ranks.

    Returns:
        By the measures' names, one value a query.
    """
    values = {
        name: _BY_RANKS[m.NAME](ranks, m.params.get("cutoff", np.inf), m.params.get("rel", 1))
        for name, m in measures.items()
        if _needs_ranks_only(m)
    }
    others = {name: m for name, m in measures.items() if name not in values}
    if others:
        passages, qrels = top(depth_needed(others))
        # Scores that fall with the rank leave no tie for a provider to break in its own way.
        run = {str(i): {p: -float(r) for r, p in enumerate(ids)} for i, ids in enumerate(passages)}
        judged = {str(i): grades for i, grades in enumerate(qrels)}
        for name, measure in others.items():
            values[name] = np.full(ranks.n, measure.DEFAULT, dtype=np.float64)
            for metric in ir_measures.iter_calc([measure], judged, run):
                values[name][int(metric.query_id)] = metric.value
    return {name: values[name] for name in measures}


def _needs_ranks_only(measure: Measure) -> bool:
    special = {name for name, value in measure.params.items() if value != measure.SUPPORTED_PARAMS[name].default}
    return measure.NAME in _BY_RANKS and special <= {"cutoff", "rel"}


def _precision(ranks: JudgedRanks, cutoff: float, rel: int) -> Values:
    return ranks.total((ranks.grade >= rel) & (ranks.rank <= cutoff)) / cutoff


def _recall(ranks: JudgedRanks, cutoff: float, rel: int) -> Values:
    relevant = ranks.grade >= rel
    return _ratio(ranks.total(relevant & (ranks.rank <= cutoff)), ranks.total(relevant))


def _success(ranks: JudgedRanks, cutoff: float, rel: int) -> Values:
    return (ranks.total((ranks.grade >= rel) & (ranks.rank <= cutoff)) > 0).astype(np.float64)


def _reciprocal_rank(ranks: JudgedRanks, cutoff: float, rel: int) -> Values:
    chosen = (ranks.grade >= rel) & (ranks.rank <= cutoff)
    first = np.full(ranks.n, np.inf)
    np.minimum.at(first, ranks.query[chosen], ranks.rank[chosen])
    return 1 / first


def _average_precision(ranks: JudgedRanks, cutoff: float, rel: int) -> Values:
    # AP@k = 1/R Σ_{relevant d, rank(d) ≤ k} (relevant up to d) / rank(d), with R all relevant passages
    relevant = ranks.grade >= rel
    precision = _order_within(ranks, relevant, ranks.rank) / ranks.rank
    return _ratio(ranks.total(relevant & (ranks.rank <= cutoff), precision), ranks.total(relevant))


def _r_precision(ranks: JudgedRanks, cutoff: float, rel: int) -> Values:
    relevant = ranks.grade >= rel
    count = ranks.total(relevant)
    return _ratio(ranks.total(relevant & (ranks.rank <= count[ranks.query])), count)


def _ndcg(ranks: JudgedRanks, cutoff: float, rel: int) -> Values:
    # DCG@k = Σ_{rank(d) ≤ k} grade(d) / log2(1 + rank(d)): trec_eval's linear gain
    relevant = ranks.grade > 0
    gain = ranks.grade.astype(np.float64)
    ideal_rank = _order_within(ranks, relevant, -gain)
    dcg, ideal = (
        ranks.total(relevant & (rank <= cutoff), gain / np.log2(1 + rank)) for rank in (ranks.rank, ideal_rank)
    )
    return _ratio(dcg, ideal)


_BY_RANKS: dict[str, Callable[[JudgedRanks, float, int], Values]] = {
    "P": _precision,
    "R": _recall,
    "Success": _success,
    "RR": _reciprocal_rank,
    "AP": _average_precision,
    "Rprec": _r_precision,
    "nDCG": _ndcg,
}


def _order_within(ranks: JudgedRanks, chosen: npt.NDArray[np.bool_], key: Values) -> Values:
    """Number the chosen passages of each query from 1, in ascending order of ``key``; others get 1 too."""
    number = np.ones(len(key))
    index = np.flatnonzero(chosen)
    index = index[np.lexsort((key[index], ranks.query[index]))]
    query = ranks.query[index]
    number[index] = np.arange(len(index)) - np.searchsorted(query, query) + 1
    return number


def _ratio(part: Values, whole: Values) -> Values:
    """Divide; 0 where there is nothing to find."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
