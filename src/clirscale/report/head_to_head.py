"""Two methods head to head: statements, tests at every size, and how much data one needs to do what the other does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import isfinite

from clirscale.analysis.bootstrap import Bootstrap
from clirscale.analysis.comparison import HeadToHead, Outcome, SizeTest, compare
from clirscale.analysis.curves import Comparison
from clirscale.analysis.equivalents import Bounded, Multiplier
from clirscale.analysis.headline import statements
from clirscale.analysis.records import SETTINGS
from clirscale.report.tables import Cell, Group, Table
from clirscale.report.words import ABSENT, LOWER_IS_BETTER, SETTING_NAMES, count, measure_name, measure_title, number


@dataclass(frozen=True)
class Duel:
    """What the page shows of two methods.

    Attributes:
        title: their names.
        statements: paragraphs, one a setting and measure.
        tables: tests and data equivalents.
        n_tests: size of the family that the p-values are corrected for.
    """

    title: str
    statements: tuple[str, ...]
    tables: tuple[Table, ...]
    n_tests: int


def duels(comparison: Comparison, bootstrap: Bootstrap, measures: Sequence[str]) -> list[Duel]:
    """Set each two methods of a comparison against each other, in all settings.

    Args:
        comparison: the curves.
        bootstrap: over their jobs.
        measures: the family of measures.

    Raises:
        DataError: scores cannot be paired.
    """
    found = []
    for method, baseline in combinations(comparison.curves, 2):
        head = compare(method, baseline, bootstrap, measures=measures, lower_is_better=LOWER_IS_BETTER)
        if not head.n_tests:
            continue
        said = [
            statements(head, setting, measure, measure_name=measure_name(measure))
            for measure in measures
            for setting in SETTINGS
            if (setting, measure) in head.outcomes
        ]
        made = [
            table for measure in measures for table in (_tests(head, measure), _equivalents(head, measure)) if table
        ]
        found.append(Duel(f"{method.phrase} against {baseline.phrase}", _lines(said), tuple(made), head.n_tests))
    return found


def _lines(said: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Join the sentences of each setting and measure; what all of them say comes once, at the end."""
    common = [text for text in said[0] if all(text in others for others in said[1:])] if len(said) > 1 else []
    lines = [" ".join(text for text in sentences if text not in common) for sentences in said]
    return tuple(line for line in (*lines, " ".join(common)) if line)


def _tests(head: HeadToHead, measure: str) -> Table | None:
    """Return differences with adjusted p-values and effect sizes, by size and setting."""
    outcomes = _outcomes(head, measure)
    fractions = sorted({test.fraction for outcome in outcomes.values() for test in outcome.tests})
    rows = []
    for fraction in fractions:
        tests = [next((t for t in o.tests if t.fraction == fraction), None) for o in outcomes.values()]
        groups = next(test.groups for test in tests if test is not None)
        rows.append((Cell(count(groups)), *(_tested(test, measure, head.alpha) for test in tests)))
    columns = ("Groups", *(SETTING_NAMES[setting] for setting in outcomes))
    label = f"{head.method.label} −\u00a0{head.baseline.label}"
    caption = f"{measure_title(measure)}: difference with Holm-adjusted p and effect size (standard deviations)"
    return Table(caption, "Difference", columns, (Group(label, tuple(rows)),)) if rows else None


def _tested(test: SizeTest | None, measure: str, alpha: float) -> Cell:
    if test is None:
        return Cell(ABSENT)
    text = number(test.difference.value, measure, sign=True, difference=True)
    effect = f", {number(test.dz, '', sign=True)}" if isfinite(test.dz) else ""
    return Cell(text, f"p {_p(test.adjusted)}{effect}", "strong" if test.adjusted <= alpha else "weak")


def _p(value: float) -> str:
    """Write a p-value.

    >>> _p(0.00012), _p(0.0314), _p(1.0)
    ('< .001', '= .031', '= 1')
    """
    if value < 0.001:
        return "< .001"
    return f"= {value:.2g}".replace("0.", ".", 1) if value < 1 else "= 1"


def _equivalents(head: HeadToHead, measure: str) -> Table | None:
    """Return how many groups the baseline needs for what the method does, by the method's size and setting."""
    outcomes = _outcomes(head, measure)
    sizes = sorted({found.groups for outcome in outcomes.values() for found in outcome.equivalents})
    rows = []
    for groups in sizes:
        found = [next((m for m in o.equivalents if m.groups == groups), None) for o in outcomes.values()]
        rows.append((Cell(count(groups)), *(_needed(m) for m in found)))
    columns = (f"Groups of {head.method.label}", *(SETTING_NAMES[setting] for setting in outcomes))
    caption = f"{measure_title(measure)}: groups that {head.baseline.label} needs for what {head.method.label} does"
    return Table(caption, "Data", columns, (Group(head.baseline.label, tuple(rows)),)) if rows else None


def _needed(multiplier: Multiplier | None) -> Cell:
    if multiplier is None:
        return Cell(ABSENT)
    value, low, high = (
        _bounded(end.times(multiplier.groups)) for end in (multiplier.value, multiplier.low, multiplier.high)
    )
    return Cell(value, f"[{low}, {high}]", "weak" if multiplier.includes_one else "strong")


def _bounded(value: Bounded) -> str:
    return f"{value.relation} {count(value.value)}".strip()


def _outcomes(head: HeadToHead, measure: str) -> dict[str, Outcome]:
    """Return the outcomes of a measure by setting."""
    return {setting: o for (setting, name), o in head.outcomes.items() if name == measure}
