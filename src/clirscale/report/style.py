"""One colour, marker and dash per curve, the same in every figure, legend and table of a report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from clirscale.analysis.curves import Arrangement, Curve

# At least 15 apart in CIELAB with normal vision and with each kind of dichromacy, and 3:1 or more against white.
METHODS = {
    "hybrid": ("#0072b2", "o"),
    "dapt": ("#d55e00", "s"),
    "mono": ("#00563b", "^"),
    "cross": ("#a0307a", "D"),
    "dapt_hybrid": ("#3d2b8f", "P"),
    "dapt_irrelevant": ("#4a3b00", "X"),
}
OTHERS = (("#5b5b5b", "v"), ("#1b7f9e", "p"), ("#8f3b1b", "h"), ("#4f6b00", "<"), ("#7a4fb5", ">"))
REFERENCES = {"zero_shot": "#222222", "bm25": "#6b6b6b"}
DASHES = ((), (6.0, 1.6), (2.0, 1.4), (6.0, 1.6, 1.5, 1.6))
REFERENCE_DASHES = ((4.0, 2.6), (1.2, 1.8))


@dataclass(frozen=True)
class Style:
    """How a curve looks.

    Attributes:
        colour: ``#rrggbb``.
        marker: matplotlib's name of the marker; "" for references, which are horizontal lines.
        dash: lengths of dashes and gaps in points; () is a solid line.
        filled: whether markers are filled.
    """

    colour: str
    marker: str
    dash: tuple[float, ...]
    filled: bool = True


Key = tuple[str, str]


def key(curve: Curve) -> Key:
    """Return what a curve's style is kept under: curves of several comparisons with one label look the same."""
    return curve.method, curve.label


def assign(arrangement: Arrangement) -> dict[Key, Style]:
    """Give every curve and reference its style.

    A method keeps its colour and marker; its variants run from light to dark with different dashes.
    """
    curves = _by_method(curve for comparison in arrangement.comparisons for curve in comparison.curves)
    references = _by_method(curve for comparison in arrangement.comparisons for curve in comparison.references)
    unknown = [method for method in sorted(curves) if method not in METHODS]
    looks = METHODS | {method: OTHERS[i % len(OTHERS)] for i, method in enumerate(unknown)}
    styles: dict[Key, Style] = {}
    for method, labels in curves.items():
        colour, marker = looks[method]
        for i, label in enumerate(labels):
            shade = _shade(colour, 0.0 if len(labels) == 1 else 0.5 - i / (len(labels) - 1))
            styles[method, label] = Style(shade, marker, DASHES[i % len(DASHES)], filled=i % 2 == 0)
    for rank, (method, labels) in enumerate(sorted(references.items(), reverse=True)):
        for i, label in enumerate(labels):
            shade = _shade(REFERENCES.get(method, "#444444"), 0.0 if i == 0 else 0.6 * i / len(labels))
            styles[method, label] = Style(shade, "", REFERENCE_DASHES[rank % len(REFERENCE_DASHES)])
    return styles


def _by_method(curves: Iterable[Curve]) -> Mapping[str, list[str]]:
    labels: dict[str, dict[str, None]] = {}
    for curve in curves:
        labels.setdefault(curve.method, {})[curve.label] = None
    return {method: list(found) for method, found in labels.items()}


def _shade(colour: str, amount: float) -> str:
    """Mix with white (amount > 0) or black (amount < 0)."""
    target = 255 if amount > 0 else 0
    parts = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(part + abs(amount) * (target - part)):02x}" for part in parts)
