"""The study's table for the terminal."""

from __future__ import annotations

from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from clirscale.analysis.curves import Curve, Point, arrange
from clirscale.analysis.records import SETTINGS, load_study
from clirscale.report.style import Style, assign, key
from clirscale.report.words import ABSENT, count, main_measures, number, percent


def terminal_table(study_dir: Path) -> RenderableType:
    """Return P@5 and R@20 by method and size, mean over seeds, with the untrained reference and the jobs that failed.

    Only ``job.json`` files are read, so there are no intervals.

    Raises:
        DataError: there is no record, or one is malformed.
    """
    study = load_study(study_dir)
    arrangement = arrange(study)
    styles = assign(arrangement)
    parts: list[RenderableType] = []
    for comparison in arrangement.comparisons:
        measures = main_measures(dict.fromkeys(m for job in comparison.jobs for _, m in job.measures))
        title = f"{study.name}: {comparison.title}" if comparison.title else study.name
        table = Table(title=Text(title), title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
        table.add_column("method")
        for name in ("groups", "share", "seeds"):
            table.add_column(name, justify="right")
        for measure in measures:
            for setting in SETTINGS:
                table.add_column(Text(f"{measure}\n{setting}", justify="right"), justify="right")
        for curve in comparison.references + comparison.curves:
            for i, point in enumerate(curve.points):
                last = i == len(curve.points) - 1
                table.add_row(*_row(curve, point, i == 0, measures, styles[key(curve)]), end_section=last)
        parts.append(table)
    for state, jobs in (("failed", study.failed), ("not finished", study.running)):
        parts += [Text(f"{state}: {job.name}" + (f": {job.error}" if job.error else "")) for job in jobs]
    return Group(*parts)


def _row(curve: Curve, point: Point, first: bool, measures: list[str], style: Style) -> list[Text]:
    size = [ABSENT, ABSENT] if point.fraction is None else [count(point.groups), percent(point.fraction)]
    cells = [Text(curve.label if first else "", style=style.colour if style.marker else "")]
    cells += [Text(text) for text in (*size, str(len(point.jobs)))]
    for measure in measures:
        for setting in SETTINGS:
            values = [job.measures[setting, measure] for job in point.jobs if (setting, measure) in job.measures]
            cells.append(Text(number(sum(values) / len(values), measure) if values else ABSENT))
    return cells
