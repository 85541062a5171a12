"""Names and numbers as a reader sees them. One place, so that page, figures and terminal agree."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import isnan

from clirscale.analysis.bootstrap import Estimate

SETTING_NAMES = {"mono": "Monolingual", "cross": "Cross-lingual", "multi": "Multilingual"}
MAIN_MEASURES = ("P@5", "R@20")
RANK_DISTANCE = "rank_distance"
BIAS = {  # measures of language bias in the multilingual pool
    RANK_DISTANCE: "rank distance",
    "own_share@20": "share of the query's language in the top 20",
    "own_share": "share of the query's language in the pool",
    "AP_other": "AP without the query's language",
}
LOWER_IS_BETTER = (RANK_DISTANCE, "CE")
METHOD_NAMES = {
    "hybrid": "hybrid batch training",
    "mono": "training on monolingual batches",
    "cross": "training on cross-lingual batches",
    "dapt": "domain-adaptive pretraining (DAPT)",
    "dapt_hybrid": "domain-adaptive pretraining followed by hybrid batches",
    "dapt_irrelevant": "pretraining on text of another domain",
}
ABSENT = "–"
MINUS = "−"


def main_measures(available: Iterable[str]) -> list[str]:
    """Return the measures that figures and summary show: P@5 and R@20, or the first two where neither is there."""
    scores = [name for name in available if name not in BIAS]
    return [name for name in MAIN_MEASURES if name in scores] or scores[:2]


def measure_name(measure: str) -> str:
    """Return the name of a measure in running text."""
    return BIAS.get(measure, measure)


def measure_title(measure: str) -> str:
    """Return the name of a measure at the start of a title.

    >>> measure_title("rank_distance"), measure_title("nDCG@10")
    ('Rank distance', 'nDCG@10')
    """
    name = measure_name(measure)
    return name[0].upper() + name[1:] if measure in BIAS else name


def number(value: float, measure: str, *, sign: bool = False, difference: bool = False) -> str:
    """Write a value of a measure, with a true minus sign.

    >>> number(0.18672, "P@5"), number(-0.0052, "P@5", sign=True, difference=True), number(210.47, "rank_distance")
    ('0.187', '−0.0052', '210.5')
    """
    decimals = 1 if measure == RANK_DISTANCE else 4 if difference else 3
    text = f"{value:{'+' if sign else ''}.{decimals}f}"
    if float(text) == 0:
        text = text.lstrip("+-")
    return text.replace("-", MINUS)


def interval(estimate: Estimate, measure: str, *, difference: bool = False) -> str:
    """Write the interval of an estimate as ``[low, high]``."""
    low, high = (number(end, measure, difference=difference) for end in (estimate.low, estimate.high))
    return f"[{low}, {high}]"


def span(estimate: Estimate, measure: str) -> str:
    """Write the interval of a difference in running text."""
    low, high = (number(end, measure, difference=True) for end in (estimate.low, estimate.high))
    return f"{low} to {high}"


def percent(fraction: float) -> str:
    """Write a share.

    >>> percent(0.1), percent(0.0193), percent(1.0)
    ('10%', '1.93%', '100%')
    """
    return f"{100 * fraction:.4g}%"


def count(value: float | None) -> str:
    """Write a count, or a mean of counts, with thousands separators.

    >>> count(2400), count(1188.333), count(None)
    ('2,400', '1,188', '–')
    """
    return ABSENT if value is None or isnan(value) else f"{value:,.0f}"


def duration(seconds: float | None) -> str:
    """Write a wall time in the unit that suits it.

    >>> duration(9.4), duration(216), duration(2160), duration(7500), duration(None)
    ('9 s', '3.6 min', '36 min', '2.1 h', '–')
    """
    if seconds is None or isnan(seconds):
        return ABSENT
    value, unit = (seconds, "s") if seconds < 60 else (seconds / 60, "min") if seconds < 3600 else (seconds / 3600, "h")
    return f"{value:.{1 if value < 10 and unit != 's' else 0}f} {unit}"


def listed(items: Sequence[str]) -> str:
    """Join with commas and "and".

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    return " and ".join([", ".join(items[:-1]), items[-1]]) if len(items) > 1 else "".join(items)


def plural(n: int, noun: str) -> str:
    """Write a number with its noun.

    >>> plural(1, "size"), plural(4, "size")
    ('1 size', '4 sizes')
    """
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"
