"""Figures show what the numbers are, legibly."""

import itertools
import re
import xml.etree.ElementTree as ET

import pytest
from conftest import analyse
from simulated_study import SimulatedStudy

from clirscale.report import figures
from clirscale.report.style import assign


def drawn(analysis, measures=("P@5", "R@20")):
    return figures.panels(analysis.comparison, analysis.bootstrap, measures, assign(analysis.arrangement))


def texts(svg):
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def test_panels_hold_means_seeds_and_references(seeds_analysis):
    found = drawn(seeds_analysis)
    assert [panel.title for panel in found] == [
        f"{measure}, {setting}"
        for measure in ("P@5", "R@20")
        for setting in ("monolingual", "cross-lingual", "multilingual")
    ]
    hybrid = found[0].lines[0]
    assert hybrid.x == (240, 2400)
    assert len(hybrid.seeds) == 4 + 3
    for x, mean in zip(hybrid.x, hybrid.means, strict=True):
        scores = [score for groups, score in hybrid.seeds if groups == x]
        assert mean.value == pytest.approx(sum(scores) / len(scores))
    ((label, _, value),) = found[0].references
    record = next(job for job in seeds_analysis.study.results if job.method == "zero_shot")
    assert (label, value) == ("zero_shot", pytest.approx(record.measures["mono", "P@5"]))


def test_rank_distance_has_one_panel(main_analysis):
    assert [panel.title for panel in drawn(main_analysis, ["rank_distance"])] == ["Rank distance, multilingual"]


def test_sizes_are_labelled_in_full(main_analysis):
    svg = figures.panel_svg(drawn(main_analysis)[0], "a")
    assert {"240", "600", "1,200", "2,400", "training groups (log scale)", "P@5, monolingual"} <= set(texts(svg))


def test_labels_of_many_sizes_do_not_touch(tmp_path):
    study = SimulatedStudy(tmp_path, n_groups=3, languages=("de", "en"), pool=40000)
    for fraction in (0.01, 0.0193, 0.0373, 0.072, 0.1389, 0.268, 0.518, 1.0):
        study.job("hybrid", fraction)
    svg = figures.panel_svg(drawn(analyse(tmp_path))[0], "a")
    ticks = re.findall(r'<text style="[^"]*" x="([\d.]+)" y="[\d.]+"[^>]*>([\d,]+)</text>', svg)
    assert ticks[-1][1] == "40,000"
    assert 4 <= len(ticks) <= 7
    places = [float(x) for x, _ in ticks]
    width = 9 * 0.64 * 6  # six characters of DejaVu Sans at 9 points
    assert min(b - a for a, b in itertools.pairwise(places)) > width


def test_panel_is_described_and_has_no_fixed_size(main_analysis):
    root = ET.fromstring(re.sub(r"xlink:href", "href", figures.panel_svg(drawn(main_analysis)[0], "a")))
    assert root.get("role") == "img"
    assert re.match(
        r"P@5, monolingual: hybrid 0\.\d+ at 240 groups, 0\.\d+ at 2,400 groups; dapt", root.get("aria-label")
    )
    assert root.get("width") is None


def test_labels_are_neither_markup_nor_formulas(tmp_path):
    study = SimulatedStudy(tmp_path, n_groups=3, languages=("de", "en"))
    study.job("a<b> & $x_1$", 1.0)
    shown = drawn(analyse(tmp_path))
    for svg in (figures.panel_svg(shown[0], "a"), figures.combined(shown, 3)[0].decode()):
        ET.fromstring(re.sub(r"xlink:href", "href", re.sub(r"<!DOCTYPE[^>]*>", "", svg)))
    assert ">a&lt;b&gt; &amp; $x_1$<" in svg


def test_one_size_alone(tmp_path):
    study = SimulatedStudy(tmp_path, n_groups=3, languages=("de", "en"))
    study.job("hybrid", 1.0)
    assert "2,400" in texts(figures.panel_svg(drawn(analyse(tmp_path))[0], "a"))


def test_panels_of_a_page_share_no_id(main_analysis):
    found = [re.findall(r' id="([^"]*)"', figures.panel_svg(p, f"p{i}")) for i, p in enumerate(drawn(main_analysis))]
    ids = [name for names in found for name in names]
    assert len(ids) == len(set(ids))
