"""Sentences follow from the numbers, whatever the numbers are."""

import re

import numpy as np
import pandas as pd
import pytest
from conftest import analyse
from simulated_study import SimulatedStudy

from clirscale.report.summary import question, recipe, summarise


def lines(analysis):
    summary = summarise(analysis.comparison, analysis.bootstrap)
    return {finding.topic: finding.text for finding in summary.findings}


def study_of(folder, scores):
    """Write jobs whose monolingual P@5 is scores[method, fraction], per group."""
    study = SimulatedStudy(folder, n_groups=30, languages=("de", "en"))
    for (method, fraction), values in scores.items():
        path = study.job(method, fraction) / "xquad_r" / "per_query.parquet"
        frame = pd.read_parquet(path)
        group = frame["group_id"].str[1:].astype(int).to_numpy()
        frame.assign(**{"P@5": np.asarray(values)[group]}).drop(columns=["R@20", "AP"]).to_parquet(path)
    return analyse(folder)


def test_leader_is_named_with_its_difference_and_interval(tmp_path):
    rng = np.random.default_rng(0)
    base = rng.random(30)
    gain = 0.1 + rng.normal(0, 0.01, 30)
    analysis = study_of(tmp_path, {("hybrid", 1.0): base, ("dapt", 1.0): base + gain, ("mono", 1.0): base - 0.2})
    found = lines(analysis)
    match = re.fullmatch(r"dapt exceeds hybrid in P@5 by (0\.\d+) \((0\.\d+) to (0\.\d+)\)\.", found["Monolingual"])
    value, low, high = map(float, match.groups())
    assert low < value < high
    assert value == pytest.approx(gain.mean(), abs=1e-4)


def test_an_interval_with_zero_shows_no_difference(tmp_path):
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.1, 30)
    base = rng.random(30)
    analysis = study_of(tmp_path, {("hybrid", 1.0): base, ("dapt", 1.0): base + noise - noise.mean() + 1e-3})
    text = lines(analysis)["Cross-lingual"]
    assert text.startswith("no difference shown in P@5: dapt − hybrid is +0.0010 (−0.")
    assert "which includes 0" in text
    assert "exceeds" not in text


def test_equal_methods_show_no_difference(tmp_path):
    base = np.linspace(0, 1, 30)
    analysis = study_of(tmp_path, {("hybrid", 1.0): base, ("dapt", 1.0): base})
    assert "no difference shown" in lines(analysis)["Monolingual"]


def test_change_with_size(tmp_path):
    base = np.linspace(0, 0.5, 30)
    small, large = base + 0.1, base + 0.3
    analysis = study_of(
        tmp_path, {("hybrid", 0.1): small, ("dapt", 0.1): base, ("hybrid", 1.0): large, ("dapt", 1.0): base}
    )
    text = lines(analysis)["With size"]
    assert text.startswith("hybrid − dapt in P@5 changes from 240 to 2,400 groups by: monolingual +0.2000 (0.2000 to")


def test_every_main_measure_and_setting_is_covered(main_analysis):
    found = lines(main_analysis)
    assert list(found) == [
        "Monolingual",
        "Cross-lingual",
        "Multilingual",
        "Language bias",
        "Against zero_shot",
        "With size",
    ]
    for topic in ("Monolingual", "Cross-lingual", "Multilingual"):
        assert "P@5" in found[topic]
        assert "R@20" in found[topic]
    assert "hybrid is below dapt in rank distance by" in found["Language bias"]


def test_counts_of_intervals_against_the_reference(tmp_path):
    base = np.linspace(0, 0.5, 30)
    noise = np.random.default_rng(1).normal(0, 0.1, 30)
    worse, same = base - 0.1, base + noise - noise.mean()
    analysis = study_of(tmp_path, {("zero_shot", None): base, ("hybrid", 1.0): worse, ("dapt", 1.0): same})
    text = lines(analysis)["Against zero_shot"]
    assert "differs by −0.1000 to" in text
    assert "of 6 intervals, 3 below 0 and 3 including 0" in text


def test_scope_is_the_largest_size_that_two_methods_share(tmp_path):
    base = np.linspace(0, 0.5, 30)
    scores = {("hybrid", 0.5): base, ("dapt", 0.5): base + 0.1, ("hybrid", 1.0): base}
    analysis = study_of(tmp_path / "two", scores)
    assert summarise(analysis.comparison, analysis.bootstrap).scope.startswith(
        "At 50% of the training set, 1,200 groups"
    )
    analysis = study_of(tmp_path / "three", scores | {("mono", 1.0): base, ("mono", 0.5): base})
    scope = summarise(analysis.comparison, analysis.bootstrap).scope
    assert scope.startswith("At 100% of the training set, 2,400 groups")
    assert "not dapt" in scope


def test_one_method_alone(tmp_path):
    analysis = study_of(tmp_path, {("hybrid", 1.0): np.linspace(0, 1, 30)})
    summary = summarise(analysis.comparison, analysis.bootstrap)
    assert summary.findings == ()
    assert "against the next" not in summary.scope


def test_question(main_analysis, seeds_analysis):
    assert question(main_analysis.study) == (
        "How does hybrid batch training scale with the size of the training set, compared with domain-adaptive "
        "pretraining (DAPT), in monolingual, cross-lingual and multilingual retrieval?"
    )
    assert "training on monolingual batches and domain-adaptive pretraining (DAPT)," in question(seeds_analysis.study)


def test_recipe_is_what_the_config_says(main_analysis, tmp_path):
    recipes = {c.label: recipe(c) for c in main_analysis.comparison.curves + main_analysis.comparison.references}
    assert recipes == {
        "hybrid": "contrastive training on batches that are monolingual with probability 0.5, else cross-lingual",
        "dapt": "masked-language modelling on the passages of the training subset, then contrastive training on "
        "monolingual batches",
        "zero_shot": "the encoder as it comes, without training",
    }
