"""The terminal table reads records only and shows what is there."""

import io

import pytest
from rich.console import Console
from simulated_study import SimulatedStudy

from clirscale.errors import DataError
from clirscale.report import terminal_table


def shown(folder, width=100):
    console = Console(file=io.StringIO(), width=width)
    console.print(terminal_table(folder))
    return console.file.getvalue()


def test_rows_are_means_over_seeds(seeds_study, seeds_analysis):
    lines = shown(seeds_study).splitlines()
    hybrid = next(curve for curve in seeds_analysis.comparison.curves if curve.label == "hybrid")
    expected = [
        f"{sum(job.measures[setting, measure] for job in point.jobs) / len(point.jobs):.3f}"
        for point in hybrid.points
        for measure in ("P@5", "R@20")
        for setting in ("mono", "cross", "multi")
    ]
    start = next(i for i, line in enumerate(lines) if "hybrid" in line)
    assert lines[start].split() == ["hybrid", "240", "10%", "4", *expected[:6]]
    assert lines[start + 1].split() == ["2,400", "100%", "3", *expected[6:]]


def test_untrained_reference_comes_first(main_study):
    text = shown(main_study)
    assert 0 < text.index("zero_shot") < text.index("hybrid") < text.index("dapt")


def test_jobs_that_did_not_finish_are_listed(seeds_study):
    text = shown(seeds_study, 200)
    assert "failed: dapt_cldr_f1_s3" in text
    assert "TrainingError: <script>alert(1)</script>" in text
    assert "not finished: hybrid_cldr_f1_s3" in text


def test_fits_eighty_columns(main_study):
    lines = shown(main_study, 80).splitlines()
    assert sum("hybrid" in line for line in lines) == 1
    assert next(line for line in lines if "hybrid" in line).split()[1:4] == ["240", "10%", "1"]


def test_missing_measure_is_a_dash(tmp_path):
    study = SimulatedStudy(tmp_path / "s", n_groups=3, languages=("de", "en"))
    study.job("hybrid", 1.0, measures={"mono": {"P@5": 0.5, "R@20": None}})
    row = next(line for line in shown(study.folder).splitlines() if "hybrid" in line)
    assert row.split() == ["hybrid", "2,400", "100%", "1", "0.500", "–", "–"]  # no job has R@20: no column


def test_names_are_no_markup(tmp_path):
    study = SimulatedStudy(tmp_path / "s", n_groups=3, languages=("de", "en"))
    study.job("hybrid", 1.0, state="failed", error="[red]no[/red] [/]")
    assert "[red]no[/red] [/]" in shown(study.folder)


def test_no_records(tmp_path):
    with pytest.raises(DataError):
        terminal_table(tmp_path)
