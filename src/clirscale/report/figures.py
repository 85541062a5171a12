"""Scores against training-set size: panels for the page, and one figure for print.

Only matplotlib's object interface is used, so that nothing depends on a display or on global state.
"""

from __future__ import annotations

import html
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.markers import MarkerStyle
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator, NullLocator

from clirscale.analysis.bootstrap import Bootstrap, Estimate
from clirscale.analysis.curves import Comparison, Curve
from clirscale.analysis.records import SETTINGS
from clirscale.report.style import Key, Style, key
from clirscale.report.words import SETTING_NAMES, measure_title

INK, GRID = "#222222", "#e4e4e4"
PANEL_INCHES = (3.7, 2.75)
MIN_TICK_GAP = 0.15  # of the axis: the width of "10,000"
SETTINGS_RC: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Arial", "sans-serif"],
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.labelsize": 9.0,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#8a8a8a",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "text.color": INK,
    "text.parse_math": False,  # a label with two dollar signs is no formula
    "xtick.color": "#8a8a8a",
    "xtick.labelcolor": INK,
    "ytick.color": "#8a8a8a",
    "ytick.labelcolor": INK,
    "svg.fonttype": "none",  # text stays text: it can be searched, and takes the font of the page
}


@dataclass(frozen=True)
class Line:
    """A curve of one panel.

    Attributes:
        label: of the curve.
        style: its colour, marker and dash.
        x: mean number of groups, one per size.
        means: mean over seeds with interval, one per size.
        seeds: (groups, score) of each job.
    """

    label: str
    style: Style
    x: tuple[float, ...]
    means: tuple[Estimate, ...]
    seeds: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Panel:
    """One measure in one setting: curves, and references as (label, style, value)."""

    title: str
    lines: tuple[Line, ...]
    references: tuple[tuple[str, Style, float], ...]


def panels(
    comparison: Comparison, bootstrap: Bootstrap, measures: Sequence[str], styles: Mapping[Key, Style]
) -> list[Panel]:
    """Return a panel for each measure (rows) and setting (columns) in which there is something to show."""
    found = []
    for measure in measures:
        for setting in SETTINGS:
            lines = [_line(curve, bootstrap, setting, measure, styles[key(curve)]) for curve in comparison.curves]
            references = [
                (curve.label, styles[key(curve)], estimate.value)
                for curve in comparison.references
                if (estimate := bootstrap.point(curve.points[0], setting, measure)) is not None
            ]
            if references or any(line.x for line in lines):
                title = f"{measure_title(measure)}, {SETTING_NAMES[setting].lower()}"
                found.append(Panel(title, tuple(line for line in lines if line.x), tuple(references)))
    return found


def panel_svg(panel: Panel, salt: str) -> str:
    """Draw a panel as an ``svg`` element for the page; ``salt`` keeps ids apart on one page."""
    with mpl.rc_context(SETTINGS_RC | {"svg.hashsalt": salt}):
        figure = Figure(figsize=PANEL_INCHES)
        figure.subplots_adjust(left=0.14, right=0.975, bottom=0.185, top=0.895)
        _draw(figure.add_subplot(), panel)
        svg = _svg(figure)
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # matplotlib numbers groups alike in every figure
    width, height = (f"{72 * inches:g}" for inches in PANEL_INCHES)
    head = f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{html.escape(_describe(panel))}"'
    return head + re.sub(r"^<svg[^>]*", "", svg)


def combined(shown: Sequence[Panel], columns: int) -> tuple[bytes, bytes]:
    """Draw panels and legend as one figure; return it as SVG and as PNG."""
    rows = math.ceil(len(shown) / columns)
    width, height = 3.4 * columns + 0.2, 2.6 * rows + 0.5
    with mpl.rc_context(SETTINGS_RC | {"svg.hashsalt": "combined"}):
        figure = Figure(figsize=(width, height), dpi=200, layout=ConstrainedLayoutEngine(h_pad=0.09, w_pad=0.09))
        for i, panel in enumerate(shown):
            _draw(figure.add_subplot(rows, columns, i + 1), panel)
        handles = {line.label: _artist(line.style) for panel in shown for line in panel.lines}
        handles |= {label: _artist(style) for panel in shown for label, style, _ in panel.references}
        figure.legend(
            list(handles.values()),
            list(handles),
            loc="outside lower center",
            ncols=max(1, min(len(handles), int(width / 2))),
            frameon=False,
            handlelength=2.6,
        )
        png = io.BytesIO()
        figure.savefig(png, format="png", metadata={"Software": None})
        return _svg(figure).encode(), png.getvalue()


def swatch(style: Style) -> str:
    """Draw the line and marker of a curve as a small ``svg`` element, for legends and tables."""
    dash = f' stroke-dasharray="{" ".join(f"{1.3 * part:g}" for part in style.dash)}"' if style.dash else ""
    drawn = f'<path d="M1 7H33" stroke="{style.colour}" stroke-width="{2 if style.marker else 1.5}"{dash}/>'
    if style.marker:
        marker = MarkerStyle(style.marker)
        outline: Any = marker.get_path().transformed(marker.get_transform()).to_polygons()[0]
        points = " ".join(f"{17 + 7.2 * x:.2f},{7 - 7.2 * y:.2f}" for x, y in outline)
        fill = style.colour if style.filled else "#fff"
        drawn += f'<polygon points="{points}" fill="{fill}" stroke="{style.colour}" stroke-width="1.2"/>'
    return f'<svg class="swatch" viewBox="0 0 34 14" aria-hidden="true">{drawn}</svg>'


def _line(curve: Curve, bootstrap: Bootstrap, setting: str, measure: str, style: Style) -> Line:
    estimates = [(point, bootstrap.point(point, setting, measure)) for point in curve.points]
    known = [(point, estimate) for point, estimate in estimates if estimate is not None]
    scores = [(job, bootstrap.job(job, setting, measure)) for point, _ in known for job in point.jobs]
    return Line(
        curve.label,
        style,
        tuple(point.groups for point, _ in known),
        tuple(estimate for _, estimate in known),
        tuple((job.groups, score.value) for job, score in scores if score is not None),
    )


def _draw(ax: Axes, panel: Panel) -> None:
    ax.set_title(panel.title, loc="left")
    ax.set_xscale("log")
    ax.grid(axis="y", color=GRID, linewidth=0.8)
    ax.set_axisbelow(True)
    _size_axis(ax, sorted({round(x) for line in panel.lines for x in line.x}))
    for _, style, value in panel.references:
        ax.axhline(value, color=style.colour, linewidth=1.1, dashes=style.dash, zorder=1.5)
    for line in panel.lines:
        low, high = ([getattr(e, end) for e in line.means] for end in ("low", "high"))
        if len(line.x) > 1:
            ax.fill_between(
                line.x,
                low,
                high,
                color=line.style.colour,
                alpha=0.16 if len(panel.lines) < 4 else 0.07,
                linewidth=0,
                zorder=1,
            )
        else:  # a band needs two sizes
            ax.vlines(line.x, low, high, color=line.style.colour, linewidth=1.2, zorder=2)
        means = _artist(line.style, line.x, [e.value for e in line.means])
        means.set_marker("none")
        means.set_zorder(3)
        ax.add_line(means)
        seeds = _artist(line.style, *zip(*line.seeds, strict=True))
        seeds.set_linestyle("none")
        seeds.set_zorder(4)
        ax.add_line(seeds)
    ax.margins(y=0.08)
    ax.autoscale_view(scalex=False)
    ax.yaxis.set_major_locator(MaxNLocator(nbins=6, min_n_ticks=4, steps=[1, 2, 2.5, 5, 10]))
    ax.tick_params(length=3)


def _size_axis(ax: Axes, sizes: Sequence[int]) -> None:
    """Label the sizes that were run, as far as their labels do not touch."""
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel("training groups (log scale)" if sizes else "")
    if not sizes:
        ax.xaxis.set_major_locator(NullLocator())
        return
    low, high = sizes[0], sizes[-1]
    pad = (high / low) ** 0.06 if high > low else 2.0
    ax.set_xlim(low / pad, high * pad)
    labelled: list[int] = []
    axis_length = math.log(high * pad * pad / low)
    for size in reversed(sizes):  # the largest first: it is what the summary speaks of
        if not labelled or math.log(labelled[-1] / size) >= MIN_TICK_GAP * axis_length:
            labelled.append(size)
    labelled.reverse()
    ax.xaxis.set_major_locator(FixedLocator(labelled))
    ax.xaxis.set_major_formatter(FixedFormatter([f"{size:,}" for size in labelled]))
    rest = [size for size in sizes if size not in labelled]
    if rest:
        ax.xaxis.set_minor_locator(FixedLocator(rest))
        ax.xaxis.set_minor_formatter(FixedFormatter([""] * len(rest)))
        ax.tick_params(which="minor", length=3)


def _artist(style: Style, x: Sequence[float] = (), y: Sequence[float] = ()) -> Line2D:
    """Return line and markers in a curve's style; without points it is a legend's handle."""
    line = Line2D(
        x,
        y,
        color=style.colour,
        linewidth=1.6 if style.marker else 1.1,
        marker=style.marker or "none",
        markersize=4.6,
        markerfacecolor=style.colour if style.filled else "white",
        markeredgewidth=1.0,
    )
    if style.dash:
        line.set_dashes(style.dash)
    return line


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def _describe(panel: Panel) -> str:
    ends = []
    for line in panel.lines:
        first, last = (f"{line.means[i].value:.3g} at {line.x[i]:,.0f} groups" for i in (0, -1))
        ends.append(f"{line.label} {first}, {last}")
    ends += [f"{label} {value:.3g}" for label, _, value in panel.references]
    return f"{panel.title}: {'; '.join(ends)}. The table below has all values."
