"""The tables of the page, as rows of text; the template only lays them out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from clirscale.analysis.bootstrap import Bootstrap, Estimate
from clirscale.analysis.curves import Comparison, Point
from clirscale.analysis.records import SETTINGS, Job
from clirscale.report.style import Key, Style, key
from clirscale.report.words import (
    ABSENT,
    SETTING_NAMES,
    count,
    duration,
    interval,
    measure_title,
    number,
    percent,
)


@dataclass(frozen=True)
class Cell:
    """One entry: its text, and what stands smaller beside it."""

    text: str
    detail: str = ""
    emphasis: Literal["", "strong", "weak"] = ""


@dataclass(frozen=True)
class Group:
    """Rows under one heading, with the style of the curve that they belong to."""

    label: str
    rows: tuple[tuple[Cell, ...], ...]
    style: Style | None = None


@dataclass(frozen=True)
class Table:
    """A table: a caption, the heading of the groups, and the headings of the other columns."""

    caption: str
    heading: str
    columns: tuple[str, ...]
    groups: tuple[Group, ...]


def scores(comparison: Comparison, bootstrap: Bootstrap, measure: str, styles: Mapping[Key, Style]) -> Table | None:
    """Return a measure by method and size in each setting, or None if there is nothing to show."""
    settings = _settings(comparison, bootstrap, measure)
    groups = []
    for curve in comparison.references + comparison.curves:
        rows = []
        for point in curve.points:
            estimates = [bootstrap.point(point, setting, measure) for setting in settings]
            rows.append(_row(point, estimates, [_score(estimate, measure) for estimate in estimates]))
        groups.append(Group(curve.label, tuple(rows), styles[key(curve)]))
    caption = f"{measure_title(measure)}: mean over seeds with {percent(bootstrap.level)} interval"
    return _table(caption, "Method", _columns(settings), groups if settings else ())


def differences(comparison: Comparison, bootstrap: Bootstrap, measure: str) -> Table | None:
    """Return the paired differences between methods at each size, or None if there is no pair."""
    settings = _settings(comparison, bootstrap, measure)
    groups = []
    for a, b in combinations(comparison.curves, 2):
        pairs = [(p, q) for p in a.points if (q := b.at(p.fraction)) is not None]
        rows = [_difference_row(p, q, bootstrap, settings, measure) for p, q in pairs]
        groups.append(Group(f"{a.label} −\u00a0{b.label}", tuple(row for row in rows if row)))
    caption = f"{measure_title(measure)}: paired difference between methods with {percent(bootstrap.level)} interval"
    return _table(caption, "Difference", _columns(settings), groups)


def gains(comparison: Comparison, bootstrap: Bootstrap, measure: str, styles: Mapping[Key, Style]) -> Table | None:
    """Return the paired differences between each method and its references, or None if there is none."""
    settings = _settings(comparison, bootstrap, measure)
    groups = []
    for curve in comparison.curves:
        for reference in comparison.references_of(curve):
            rows = [_difference_row(p, reference.points[0], bootstrap, settings, measure) for p in curve.points]
            label = f"{curve.label} −\u00a0{reference.label}"
            groups.append(Group(label, tuple(row for row in rows if row), styles[key(curve)]))
    caption = f"{measure_title(measure)}: gain over the reference with {percent(bootstrap.level)} interval"
    return _table(caption, "Difference", _columns(settings), groups)


def cost(comparison: Comparison, styles: Mapping[Key, Style]) -> Table | None:
    """Return what each point cost: mean over its jobs of steps, pairs, tokens, losses and wall time.

    The columns of the masked-language-modelling stage are left out where no job has that stage.
    """
    adapts = any(job.counts.get("adapt_steps") for job in comparison.jobs)
    groups = []
    for curve in comparison.references + comparison.curves:
        rows = [(*_size(point), *_work(point.jobs, adapts), *_times(point.jobs, adapts)) for point in curve.points]
        groups.append(Group(curve.label, tuple(rows), styles[key(curve)]))
    mlm = ("MLM steps", "MLM tokens", "Held-out MLM loss") if adapts else ()
    times = (*(("MLM time",) if adapts else ()), "Contrastive time", "Evaluation time", "Total time")
    columns = ("Groups", "Share", "Contrastive steps", "Pairs seen", *mlm, *times)
    return _table("Work and wall time of a job, mean over seeds", "Method", columns, groups)


def _work(jobs: Sequence[Job], adapts: bool) -> list[Cell]:
    counted = ["contrast_steps", "contrast_pairs"] + (["adapt_steps", "adapt_tokens"] if adapts else [])
    cells = [Cell(count(_mean(jobs, "counts", name) or None)) for name in counted]
    if adapts:
        before, after = (_mean(jobs, "training", f"mlm_loss_{when}") for when in ("before", "after"))
        cells.append(Cell(ABSENT if before is None or after is None else f"{before:.3f} → {after:.3f}"))
    return cells


def _times(jobs: Sequence[Job], adapts: bool) -> list[Cell]:
    evaluation = [time for step in ("embed", "search") if (time := _mean(jobs, "timings", step)) is not None]
    stages = [_mean(jobs, "timings", stage) for stage in (["adapt"] if adapts else []) + ["contrast"]]
    total = _mean(jobs, "timings", "total")
    return [Cell(duration(time)) for time in (*stages, sum(evaluation) if evaluation else None, total)]


def _table(caption: str, heading: str, columns: tuple[str, ...], groups: Iterable[Group]) -> Table | None:
    filled = tuple(group for group in groups if group.rows)
    return Table(caption, heading, columns, filled) if filled else None


def _settings(comparison: Comparison, bootstrap: Bootstrap, measure: str) -> list[str]:
    return [s for s in SETTINGS if any(bootstrap.job(job, s, measure) for job in comparison.jobs)]


def _columns(settings: Sequence[str]) -> tuple[str, ...]:
    return ("Groups", *(SETTING_NAMES[setting] for setting in settings), "Share", "Seeds")


def _row(point: Point, estimates: Sequence[Estimate | None], cells: Sequence[Cell]) -> tuple[Cell, ...]:
    groups, share = _size(point)
    seeds = max((estimate.n_seeds for estimate in estimates if estimate is not None), default=None)
    return (groups, *cells, share, Cell(count(seeds)))


def _size(point: Point) -> tuple[Cell, Cell]:
    if point.fraction is None:
        return Cell(ABSENT), Cell(ABSENT)
    return Cell(count(point.groups)), Cell(percent(point.fraction))


def _score(estimate: Estimate | None, measure: str) -> Cell:
    return Cell(ABSENT) if estimate is None else Cell(number(estimate.value, measure), interval(estimate, measure))


def _difference_row(
    a: Point, b: Point, bootstrap: Bootstrap, settings: Sequence[str], measure: str
) -> tuple[Cell, ...] | None:
    estimates = [bootstrap.difference(a, b, setting, measure) for setting in settings]
    if not any(estimates):
        return None
    return _row(a, estimates, [_signed(estimate, measure) for estimate in estimates])


def _signed(estimate: Estimate | None, measure: str) -> Cell:
    if estimate is None:
        return Cell(ABSENT)
    text = number(estimate.value, measure, sign=True, difference=True)
    emphasis: Literal["weak", "strong"] = "weak" if estimate.includes_zero else "strong"
    return Cell(text, interval(estimate, measure, difference=True), emphasis)


def _mean(jobs: Sequence[Job], section: str, name: str) -> float | None:
    values = [value for job in jobs if (value := getattr(job, section).get(name)) is not None]
    return sum(values) / len(values) if values else None
