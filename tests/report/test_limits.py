"""Limits are stated where they hold, and only there."""

from conftest import analyse
from simulated_study import SimulatedStudy

from clirscale.report.limits import limits


def stated(analysis, n_differences=0):
    return " ".join(limits(analysis.study, analysis.arrangement, 0.95, n_differences))


def test_one_seed_and_four_sizes(main_analysis):
    text = stated(main_analysis)
    assert "Every point is a single training run: the intervals cover the choice of queries only" in text
    assert "4 sizes span a factor of 10" in text
    assert "too few" not in text
    assert "trained on for more steps" in text
    assert "The masked-language-modelling stage of dapt is extra compute" in text
    assert "did not finish" not in text
    assert "differ in their seeds" not in text
    assert "flatters" not in text


def test_three_seeds_two_sizes_and_gaps(seeds_analysis):
    text = stated(seeds_analysis, n_differences=40)
    assert "single training run" not in text
    assert "With 4 seeds at most" in text
    assert "2 sizes only: too few" in text
    assert "Points differ in their seeds" in text
    assert "The best of 3 methods" in text
    assert "40 differences between methods are shown" in text
    assert "about 2 of the intervals" in text
    assert "2 jobs did not finish" in text


def test_equal_steps_and_missing_points(tmp_path):
    study = SimulatedStudy(tmp_path, n_groups=3, languages=("de", "en"))
    for fraction in (0.5, 1.0):
        study.job("hybrid", fraction, counts={"groups": fraction * 100, "contrast_steps": 150})
    study.job("mono", 1.0, counts={"groups": 100, "contrast_steps": 150})
    text = stated(analyse(study.folder))
    assert "more steps" not in text
    assert "Some of the 2 sizes are missing for mono." in text
    assert "Not every curve has an untrained reference" in text
    assert "extra compute" not in text
