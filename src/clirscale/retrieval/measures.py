"""Measures of a query's ranking, by trec_eval's definitions under the names of ir-measures.

P, R, Success, RR, AP, Rprec and nDCG need only the ranks of the relevant passages, so they are computed for all
queries at once, on complete rankings. Their values are those of pytrec_eval. Any other measure of ir-measures that
has a cut-off is left to ir-measures, on the top of the rankings.

Three measures that ir-measures lacks are added to its registry, with R the number of relevant passages:

- ``R_cap@k``: recall that can reach 1 where R > k; relevant in the top k / min(R, k). BEIR's ``recall_cap``.
- ``AP_cap@k``: average precision that can reach 1 where R > k; Σ_{relevant d, rank(d) ≤ k} precision at rank(d) /
  min(R, k). LAReQA's AP@k (Roy et al., EMNLP 2020); ``AP_cap@20`` is the mAP@20 of XTREME-R (Ruder et al., EMNLP
  2021). trec_eval's ``AP@k`` divides by R.
- ``CE``: contrastive entropy (Fang et al., SIGIR 2024); lower is better. It needs scores: :func:`contrastive_entropy`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ir_measures
import numpy as np
import numpy.typing as npt

from clirscale.errors import ConfigError, nearest

Measure = Any  # ir_measures.Measure; the package has no types
Values = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.floating[Any]]
#: Called with a depth; gives for each query the ids of the top passages and its judged passages with their grades.
TopWithGrades = Callable[[int], tuple[list[list[str]], list[dict[str, int]]]]

#: Name of the one measure that needs scores, which :func:`compute` does not have.
CE = "CE"

# What the measures are called elsewhere, in lower case, for the message that says what they are called here.
_SYNONYMS = {
    "ndcg_cut": "nDCG", "map": "AP", "map_cut": "AP", "mean_average_precision": "AP", "average_precision": "AP",
    "mrr": "RR", "recip_rank": "RR", "reciprocal_rank": "RR", "recall": "R", "prec": "P", "precision": "P",
    "hit": "Success", "hits": "Success", "hit_rate": "Success", "hitrate": "Success", "top_k_accuracy": "Success",
    "r_precision": "Rprec", "recall_cap": "R_cap", "capped_recall": "R_cap", "lareqa_ap": "AP_cap",
    "lareqa_map": "AP_cap", "contrastive_entropy": CE,
}  # fmt: skip


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


def parse_measures(names: Sequence[str], key: str = "eval.measures") -> dict[str, Measure]:
    """Return the measures by the names that were given for them.

    A measure has one name: that of trec_eval's definition in ir-measures, or of ours. Synonyms are refused, so that
    the columns of all studies compare.

    Args:
        names: such as ``nDCG@10``, ``P(rel=2)@5`` or ``CE``.
        key: of the configuration, for messages.

    Raises:
        ConfigError: a name is unknown, given twice, lacks or has a wrong parameter, or cannot be computed here.
    """
    measures: dict[str, Measure] = {}
    for name in names:
        measure = _parse(name, key)
        if measure in measures.values():
            raise ConfigError(key, f"{name!r} is given twice")
        if _needs_top(measure):
            _check_computable_on_top(name, measure, key)
        measures[name] = measure
    return measures


def _parse(name: str, key: str) -> Measure:
    if _leading_word(name) not in _known():
        raise ConfigError(key, f"{name!r} is not a measure; {_suggestion(name)}")
    try:
        measure = ir_measures.parse_measure(name)
        lacking = {n for n, info in measure.SUPPORTED_PARAMS.items() if info.required} - measure.params.keys()
        if lacking:
            raise ValueError(f"{' and '.join(sorted(lacking))} must be given")
        measure.validate_params()
    except (NameError, ValueError, SyntaxError, TypeError, AssertionError) as error:
        example = "a measure, such as P@5, P(rel=2)@5, AP or nDCG@10"
        raise ConfigError(key, f"{name!r} is not written as {example} ({error})") from error
    for parameter in ("cutoff", "rel"):
        value = measure.params.get(parameter, 1)
        if value < 1:
            raise ConfigError(key, f"{name!r}: {parameter} must be at least 1, is {value}")
    return measure


def _known() -> set[str]:
    """Return the names of all measures, without synonyms."""
    return {measure.NAME for measure in ir_measures.measures.registry.values()}


def _leading_word(name: str) -> str:
    return re.split(r"[@(]", name, maxsplit=1)[0].strip()


def _suggestion(name: str) -> str:
    """Say what a measure that is not known by this name may be called here.

    >>> _suggestion("ndcg_cut_10")
    "did you mean 'nDCG@10'?"
    """
    leading = _leading_word(name)
    without_cutoff = leading.rstrip("0123456789")
    word = without_cutoff.rstrip("_.").lower()
    right = (_SYNONYMS | {known.lower(): known for known in _known()}).get(word)
    if right is None:
        return nearest(leading, _known())
    cutoff = leading[len(without_cutoff) :]
    rest = f"@{cutoff}" if cutoff else name[len(leading) :].strip()
    if right == "AP" and rest:
        return f"did you mean 'AP{rest}' (trec_eval: divided by R) or 'AP_cap{rest}' (LAReQA, XTREME-R: by min(R, k))?"
    return f"did you mean '{right}{rest}'?"


def _check_computable_on_top(name: str, measure: Measure, key: str) -> None:
    if "cutoff" not in measure.params or measure.params.get("judged_only"):
        raise ConfigError(
            key,
            f"{name!r} would need complete run files; give it a cut-off (@k) without judged_only, or take one of "
            f"{', '.join(sorted(_BY_RANKS))}",
        )
    if not ir_measures.DefaultPipeline.supports(measure):
        raise ConfigError(key, f"{name!r}: ir-measures has no provider installed that computes it")


def depth_needed(measures: Mapping[str, Measure]) -> int:
    """Return how many passages of the top of each ranking :func:`compute` needs; 0 if the ranks are enough."""
    return max((m["cutoff"] for m in measures.values() if _needs_top(m)), default=0)


def compute(measures: Mapping[str, Measure], ranks: JudgedRanks, top: TopWithGrades) -> dict[str, Values]:
    """Compute measures for each query.

    Args:
        measures: from :func:`parse_measures`, without :data:`CE`.
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
    others = {name: m for name, m in measures.items() if _needs_top(m)}
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


def _needs_top(measure: Measure) -> bool:
    return measure.NAME != CE and not _needs_ranks_only(measure)


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


def _capped_recall(ranks: JudgedRanks, cutoff: float, rel: int) -> Values:
    relevant = ranks.grade >= rel
    return _ratio(ranks.total(relevant & (ranks.rank <= cutoff)), np.minimum(ranks.total(relevant), cutoff))


def average_precision(ranks: JudgedRanks, cutoff: float = np.inf, rel: int = 1) -> Values:
    """Return AP@k = 1/R Σ_{relevant d, rank(d) ≤ k} (relevant up to d) / rank(d), with R all relevant passages: (n,).

    Args:
        ranks: of the judged passages.
        cutoff: k; infinite for the complete ranking.
        rel: the least grade that is relevant.
    """
    return _ratio(_sum_of_precisions(ranks, cutoff, rel), ranks.total(ranks.grade >= rel))


def _capped_average_precision(ranks: JudgedRanks, cutoff: float, rel: int) -> Values:
    return _ratio(_sum_of_precisions(ranks, cutoff, rel), np.minimum(ranks.total(ranks.grade >= rel), cutoff))


def _sum_of_precisions(ranks: JudgedRanks, cutoff: float, rel: int) -> Values:
    relevant = ranks.grade >= rel
    precision = _order_within(ranks, relevant, ranks.rank) / ranks.rank
    return ranks.total(relevant & (ranks.rank <= cutoff), precision)


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
    "AP": average_precision,
    "Rprec": _r_precision,
    "nDCG": _ndcg,
    "R_cap": _capped_recall,
    "AP_cap": _capped_average_precision,
}


def _register(name: str, **parameters: Any) -> None:
    """Add a measure to the registry of ir-measures, which is also its parser's."""
    attributes = {"__name__": name, "NAME": name, "SUPPORTED_PARAMS": parameters}
    ir_measures.measures.registry.setdefault(name, type(f"_{name}", (ir_measures.measures.Measure,), attributes)())


for _name in ("R_cap", "AP_cap"):
    _register(
        _name,
        cutoff=ir_measures.measures.ParamInfo(dtype=int, required=True, desc="ranking cut-off"),
        rel=ir_measures.measures.ParamInfo(dtype=int, default=1, desc="least grade that is relevant"),
    )
_register(CE)


def negatives(n_passages: int, forbidden: Sequence[Ints], seed: int, count: int = 256) -> Ints:
    """Draw the negatives of contrastive entropy: one seeded set, the same for every model.

    The passages are brought into one random order. A query's negatives are the first in it that are not forbidden to
    it, so that all queries share them but for the few that are relevant to one. Fang et al. draw them for each pair;
    drawn once, they add no noise to the difference of two models.

    Args:
        n_passages: size of the corpus.
        forbidden: for each of n queries the passages that are no negatives: relevant or excluded ones.
        seed: of the draw. The order comes from the raw bits of PCG64, which NumPy keeps across versions.
        count: of negatives.

    Returns:
        (n, min(count, n_passages)) passages, in the random order; -1 at the end of a row that has too few.
    """
    longest = max(map(len, forbidden), default=0)
    order = _smallest(np.random.PCG64(seed).random_raw(n_passages), count + longest)
    place = np.full(n_passages, len(order))
    place[order] = np.arange(len(order))
    width = min(count, n_passages)
    drawn = np.tile(order[:width], (len(forbidden), 1))
    for row, passages in zip(drawn, forbidden, strict=True):
        taken = place[passages]
        taken = taken[taken < len(order)]
        if len(taken):
            allowed = np.delete(order, taken)[:width]
            row[: len(allowed)], row[len(allowed) :] = allowed, -1
    return drawn


def _smallest(keys: npt.NDArray[np.uint64], count: int) -> Ints:
    """Return the positions of the smallest keys, ascending by key; of all where there are fewer."""
    few = np.argpartition(keys, count)[:count] if count < len(keys) else np.arange(len(keys))
    ascending: Ints = few[np.argsort(keys[few], kind="stable")]
    return ascending


def contrastive_entropy(positive: Floats, negative: Floats, query: Ints, temperature: float) -> Values:
    """Return CE = -log(exp(s⁺/τ) / (exp(s⁺/τ) + Σ_j exp(s⁻_j/τ))), the mean over each query's positives.

    Contrastive entropy of Fang et al., "Scaling laws for dense retrieval" (SIGIR 2024): smooth where measures of
    ranks are not. With k negatives, a model that cannot tell them from positives has log(1 + k).

    Args:
        positive: (m,) scores of the positives; -inf (not retrieved) gives an infinite entropy.
        negative: (n, k) scores of each query's negatives; -inf where one does not count.
        query: (m,) the query of each positive, in 0 … n-1.
        temperature: τ, which the scores are divided by.

    Returns:
        (n,) in nats; NaN for a query without a positive.
    """
    n = len(negative)
    against = np.logaddexp.reduce(negative.astype(np.float64) / temperature, axis=1, initial=-np.inf)
    own = positive.astype(np.float64) / temperature
    entropy = np.full(len(own), np.inf)
    scored = own > -np.inf
    entropy[scored] = np.logaddexp(0, against[query[scored]] - own[scored])
    count = np.bincount(query, minlength=n)
    mean: Values = np.full(n, np.nan)
    return np.divide(np.bincount(query, entropy, minlength=n), count, out=mean, where=count > 0)


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
