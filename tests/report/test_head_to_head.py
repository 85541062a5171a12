import re

import pytest

from clirscale.report.head_to_head import duels
from clirscale.report.write import write_report


@pytest.fixture(scope="module")
def found(seeds_analysis):
    return duels(seeds_analysis.comparison, seeds_analysis.bootstrap, ["P@5", "R@20"])


def test_each_two_methods_meet_once(found):
    assert [duel.title for duel in found] == ["hybrid against mono", "hybrid against dapt", "mono against dapt"]
    assert {len(duel.statements) for duel in found} == {7}
    for duel in found:  # what limits all statements is said once
        assert sum("Two sizes only" in line for line in duel.statements) == 1
        assert duel.statements[-1].startswith("Two sizes only")
    assert {duel.n_tests for duel in found} == {2 * 2 * 3}


def test_tables_hold_the_differences_of_the_bootstrap(found, seeds_analysis):
    hybrid, mono = (next(c for c in seeds_analysis.comparison.curves if c.method == m) for m in ("hybrid", "mono"))
    table = next(t for t in found[0].tables if t.caption.startswith("P@5: difference"))
    (group,) = table.groups
    assert table.columns == ("Groups", "Monolingual", "Cross-lingual", "Multilingual")
    for (size, *cells), p, q in zip(group.rows, hybrid.points, mono.points, strict=True):
        assert int(size.text.replace(",", "")) == round(p.groups)
        for cell, setting in zip(cells, ("mono", "cross", "multi"), strict=True):
            expected = seeds_analysis.bootstrap.difference(p, q, setting, "P@5").value
            assert float(cell.text.replace("−", "-")) == pytest.approx(expected, abs=6e-5)
            assert re.fullmatch(r"p (= 1|= \.\d+|< \.001), [+−]?\d\.\d{3}", cell.detail)


def test_statements_and_tables_agree_on_what_differs(found):
    for duel in found:
        table = next(t for t in duel.tables if t.caption.startswith("P@5: difference"))
        for column, line in enumerate(duel.statements[:3], 1):
            strong = any(row[column].emphasis == "strong" for row in table.groups[0].rows)
            assert strong != ("is not distinguishable from" in line), line


def test_the_page_shows_them(main_study, tmp_path):
    page = write_report(main_study, tmp_path).index.read_text(encoding="utf-8")
    assert "Hybrid against dapt" in page
    assert "adjusted by Holm’s method for the 24 tests of this pair" in page
    assert "groups that dapt needs for what hybrid does" in page
