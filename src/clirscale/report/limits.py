"""What a study cannot tell, stated from facts."""

from __future__ import annotations

from clirscale.analysis.curves import Arrangement, Comparison, Curve
from clirscale.analysis.records import Study
from clirscale.report.words import listed, percent, plural


def limits(study: Study, arrangement: Arrangement, level: float, n_differences: int) -> list[str]:
    """Return the limits, a sentence or two each.

    Args:
        study: the records.
        arrangement: their curves.
        level: coverage that the intervals aim at.
        n_differences: how many differences between methods the page shows.
    """
    lines = _seeds(arrangement)
    for comparison in arrangement.comparisons:
        prefix = f"{comparison.title}: " if comparison.title else ""
        lines += [prefix + line for line in _sizes(comparison) + _fairness(comparison)]
    if n_differences > 1:
        lines.append(
            f"{n_differences} differences between methods are shown, each with a {percent(level)} interval of its own. "
            f"If no method differed from another, about {max(1, round(n_differences * (1 - level)))} of the intervals "
            "would be expected to exclude 0 all the same."
        )
    missing = len(study.failed) + len(study.running)
    if missing:
        verb = "is" if missing == 1 else "are"
        lines.append(f"{plural(missing, 'job')} did not finish and {verb} missing from every number.")
    return lines


def _seeds(arrangement: Arrangement) -> list[str]:
    sizes = {len(point.jobs) for c in arrangement.comparisons for curve in c.curves for point in curve.points}
    lines = []
    if 1 in sizes:
        which = (
            "Every point is a single training run" if sizes == {1} else "Points with one seed are single training runs"
        )
        lines.append(
            f"{which}: the intervals cover the choice of queries only, not what another seed (another subset, another "
            "order of batches) would change."
        )
    if sizes and 1 < max(sizes) < 5:
        lines.append(
            f"With {max(sizes)} seeds at most, little is known of the variation between seeds, and intervals tend to "
            "be too narrow."
        )
    return lines


def _sizes(comparison: Comparison) -> list[str]:
    lines = []
    n = len(comparison.fractions)
    if 0 < n < 4:
        lines.append(f"{plural(n, 'size')} only: too few to tell the shape of a curve.")
    elif n:
        ratio = comparison.fractions[-1] / comparison.fractions[0]
        lines.append(f"{n} sizes span a factor of {ratio:.3g}. Nothing is known outside it, and no law is fitted.")
    gaps = [curve.phrase for curve in comparison.curves if len(curve.points) < n]
    if gaps:
        lines.append(f"Some of the {n} sizes are missing for {listed(gaps)}.")
    longer = [curve for curve in comparison.curves if _steps(curve)[-1] > _steps(curve)[0]]
    if longer:
        lines.append(
            "Larger training sets were trained on for more steps: the effect of size includes that of more updates."
        )
    return lines


def _fairness(comparison: Comparison) -> list[str]:
    lines = []
    if not all(comparison.references_of(curve) for curve in comparison.curves):
        lines.append("Not every curve has an untrained reference: its gain from training is not known.")
    if len({frozenset(job.seed for job in point.jobs) for curve in comparison.curves for point in curve.points}) > 1:
        lines.append("Points differ in their seeds. Differences use the seeds that both sides have.")
    if len(comparison.curves) > 2:
        lines.append(
            f"The best of {len(comparison.curves)} methods is picked by the scores that its lead is measured on, which "
            "flatters it."
        )
    adapted = [curve.phrase for curve in comparison.curves if any(job.counts.get("adapt_steps") for job in curve.jobs)]
    if 0 < len(adapted) < len(comparison.curves):
        lines.append(
            f"The masked-language-modelling stage of {listed(adapted)} is extra compute: see the table of cost."
        )
    return lines


def _steps(curve: Curve) -> list[float]:
    """Return the mean number of contrastive steps of each point that counted them, or [0]."""
    found = [[job.counts["contrast_steps"] for job in p.jobs if "contrast_steps" in job.counts] for p in curve.points]
    return [sum(steps) / len(steps) for steps in found if steps] or [0.0]
