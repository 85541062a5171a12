"""Sentences generated from the numbers: the question and the findings.

A sentence about a difference is made from that difference and its interval alone, so that it cannot contradict them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from clirscale.analysis.bootstrap import Bootstrap
from clirscale.analysis.curves import Comparison, Curve, Point, format_value
from clirscale.analysis.records import SETTINGS, Study
from clirscale.report.words import (
    LOWER_IS_BETTER,
    METHOD_NAMES,
    RANK_DISTANCE,
    SETTING_NAMES,
    count,
    listed,
    main_measures,
    measure_name,
    number,
    percent,
    span,
)


@dataclass(frozen=True)
class Finding:
    """A line of the summary."""

    topic: str
    text: str


@dataclass(frozen=True)
class Summary:
    """What the numbers of a comparison say: at which size, and the findings."""

    scope: str
    findings: tuple[Finding, ...]


def question(study: Study) -> str:
    """Return what the study asks, in the names of its methods."""
    asked = dict.fromkeys(job.method for job in study.jobs if job.fraction is not None)
    names = [name for method, name in METHOD_NAMES.items() if method in asked]
    names += sorted(method for method in asked if method not in METHOD_NAMES)
    tail = "in monolingual, cross-lingual and multilingual retrieval?"
    if not names:
        return f"How well does an untrained encoder do {tail}"
    compared = f", compared with {listed(names[1:])}," if len(names) > 1 else ""
    return f"How does {names[0]} scale with the size of the training set{compared} {tail}"


def recipe(curve: Curve) -> str:
    """Return what a method does, from its configuration."""
    method = curve.jobs[0].config.get("method", {})
    if method.get("retriever") == "bm25":
        return "BM25 on the words of query and passage, without an encoder"
    stages, alpha = method.get("stages") or (), method.get("alpha")
    steps = ["masked-language modelling on the passages of the training subset"] if "adapt" in stages else []
    if "contrast" in stages:
        mixed = f"batches that are monolingual with probability {format_value(alpha)}, else cross-lingual"
        batches = {1.0: "monolingual batches", 0.0: "cross-lingual batches"}.get(alpha, mixed)
        steps.append(f"contrastive training on {batches}")
    return ", then ".join(steps) or "the encoder as it comes, without training"


def summarise(comparison: Comparison, bootstrap: Bootstrap) -> Summary:
    """Return what the numbers say, at the largest size and from the smallest to the largest."""
    fraction = _largest(comparison)
    if fraction is None:
        return Summary("No trained job has finished, so there is nothing to compare yet.", ())
    points = {curve: point for curve in comparison.curves if (point := curve.at(fraction)) is not None}
    groups = count(sum(point.groups for point in points.values()) / len(points))
    without = [curve.phrase for curve in comparison.curves if curve not in points]
    scope = f"At {percent(fraction)} of the training set, {groups} groups"
    scope += f" (the largest size that more than one curve has; not {listed(without)})" if without else ""
    scope += ", the method with the best mean against the next:" if len(points) > 1 else ":"

    measures = main_measures(bootstrap.measures)
    findings = [Finding(SETTING_NAMES[s], _leader(points, bootstrap, s, measures)) for s in SETTINGS]
    findings.append(Finding("Language bias", _leader(points, bootstrap, "multi", [RANK_DISTANCE])))
    for phrase in dict.fromkeys(r.phrase for curve in points for r in comparison.references_of(curve)):
        findings += [
            Finding(f"Against {phrase}", _gain(comparison, points, bootstrap, phrase, m)) for m in measures[:1]
        ]
    findings += [Finding("With size", _trend(comparison, bootstrap, measure)) for measure in measures[:1]]
    return Summary(scope, tuple(finding for finding in findings if finding.text))


def _largest(comparison: Comparison) -> float | None:
    """Return the largest fraction that two curves have, or the largest of the only curve."""
    present = {f: sum(curve.at(f) is not None for curve in comparison.curves) for f in comparison.fractions}
    return max((f for f, n in present.items() if n >= min(2, max(present.values()))), default=None)


def _leader(points: Mapping[Curve, Point], bootstrap: Bootstrap, setting: str, measures: Sequence[str]) -> str:
    """Set the method with the best mean against the next."""
    clauses: list[str] = []
    subject = ""
    for measure in measures:
        means = {
            curve: estimate.value
            for curve, point in points.items()
            if (estimate := bootstrap.point(point, setting, measure)) is not None
        }
        ranked = sorted(means, key=lambda curve: means[curve], reverse=measure not in LOWER_IS_BETTER)
        if len(ranked) < 2:
            continue
        best, second = ranked[:2]
        difference = bootstrap.difference(points[best], points[second], setting, measure)
        assert difference is not None  # both have the measure
        if difference.includes_zero:
            value = number(difference.value, measure, sign=True, difference=True)
            relation = f"{best.phrase} − {second.phrase} is {value} ({span(difference, measure)}, which includes 0)"
            clauses.append(f"no difference shown in {measure_name(measure)}: {relation}")
            subject = ""
            continue
        # On the seeds that both have, the order can be another than that of the means over all seeds.
        verb, size = ("exceeds", difference) if difference.value > 0 else ("is below", difference.negated())
        relation = f"{best.phrase} {verb} {second.phrase} "
        value = number(size.value, measure, difference=True)
        clauses.append(
            f"{'' if relation == subject else relation}in {measure_name(measure)} by {value} ({span(size, measure)})"
        )
        subject = relation
    return f"{'; '.join(clauses)}." if clauses else ""


def _gain(
    comparison: Comparison, points: Mapping[Curve, Point], bootstrap: Bootstrap, phrase: str, measure: str
) -> str:
    """Count how the differences between trained methods and a reference lie to 0."""
    gains = [
        difference
        for curve, point in points.items()
        for reference in comparison.references_of(curve)
        for setting in SETTINGS
        if reference.phrase == phrase
        and (difference := bootstrap.difference(point, reference.points[0], setting, measure)) is not None
    ]
    if not gains:
        return ""
    values = sorted(difference.value for difference in gains)
    low, high = (number(value, measure, sign=True, difference=True) for value in (values[0], values[-1]))
    lying = {
        "above 0": sum(difference.low > 0 for difference in gains),
        "below 0": sum(difference.high < 0 for difference in gains),
        "including 0": sum(difference.includes_zero for difference in gains),
    }
    counts = [f"{n} {where}" for where, n in lying.items() if n]
    verdict = f"of {len(gains)} intervals, {listed(counts)}" if len(counts) > 1 else f"intervals: all {counts[0]}"
    return f"{measure} differs by {low} to {high} over methods and settings ({verdict})."


def _trend(comparison: Comparison, bootstrap: Bootstrap, measure: str) -> str:
    """Tell how the difference between the two methods of a comparison moves from the smallest to the largest size."""
    if len(comparison.curves) != 2:
        return ""
    a, b = comparison.curves
    shared = [(p, q) for p in a.points if (q := b.at(p.fraction)) is not None]
    if len(shared) < 2:
        return ""
    (a_small, b_small), (a_large, b_large) = shared[0], shared[-1]
    terms = [(1, a_large), (-1, b_large), (-1, a_small), (1, b_small)]
    clauses = []
    for setting in SETTINGS:
        change = bootstrap.contrast(terms, setting, measure)
        if change is not None:
            value = number(change.value, measure, sign=True, difference=True)
            verdict = ", which includes 0" if change.includes_zero else ""
            clauses.append(f"{SETTING_NAMES[setting].lower()} {value} ({span(change, measure)}{verdict})")
    sizes = f"from {count(a_small.groups)} to {count(a_large.groups)} groups"
    return f"{a.phrase} − {b.phrase} in {measure} changes {sizes} by: {', '.join(clauses)}." if clauses else ""
