"""Intervals against independent computations, and their coverage in simulation."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_study import SimulatedStudy, summarise

from clirscale.analysis.bootstrap import Bootstrap, Estimate, draw_weights, macro_average, weighted_totals
from clirscale.analysis.curves import Point, arrange
from clirscale.analysis.records import Job, load_study
from clirscale.errors import DataError


def write_job(folder, scores, seed=0, fraction=1.0, setting="mono"):
    """Write a job with scores[group, cell]; NaN has no row."""
    (folder / "xquad_r").mkdir(parents=True)
    groups, cells = np.nonzero(~np.isnan(scores))
    rows = {
        "setting": setting,
        "query_lang": [f"l{c}" for c in cells],
        "passage_lang": [f"l{c}" for c in cells],
        "query_id": [f"{g}-{c}" for g, c in zip(groups, cells, strict=True)],
        "group_id": [f"g{g}" for g in groups],
        "P@5": scores[groups, cells],
    }
    pd.DataFrame(rows).to_parquet(folder / "xquad_r" / "per_query.parquet")
    return Job(folder, {"axes": {"seed": seed, "fraction": fraction}}, "xquad_r")


def curves_of(folder):
    (comparison,) = arrange(load_study(folder)).comparisons
    return comparison, {curve.label: curve for curve in comparison.curves + comparison.references}


def test_point_estimates_are_those_of_the_records(tmp_path):
    study = SimulatedStudy(tmp_path / "s", n_groups=20)
    study.grid(fractions=(0.5, 1.0))
    comparison, _ = curves_of(study.folder)
    bootstrap = Bootstrap(comparison.jobs, n_resamples=20)
    for job in comparison.jobs:
        assert len(job.measures) == 10
        for (setting, measure), value in job.measures.items():
            assert bootstrap.job(job, setting, measure).value == pytest.approx(value, abs=1e-12)


@given(st.integers(1, 6), st.integers(1, 4), st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_weights_are_repeated_groups(n_groups, n_cells, seed):
    rng = np.random.default_rng(seed)
    rows = pd.DataFrame({"group": rng.integers(n_groups, size=15), "cell": rng.integers(n_cells, size=15)})
    rows["score"] = rng.random(15)
    weights = draw_weights(n_groups, 7, rng)
    assert (weights.sum(axis=1) == n_groups).all()
    table = rows.pivot_table("score", "group", "cell", ["sum", "count"], fill_value=0)
    table = table.reindex(range(n_groups), fill_value=0)
    totals = [weighted_totals(weights, table[name].to_numpy(dtype=float)) for name in ("sum", "count")]
    for found, row in zip(macro_average(*totals), weights, strict=True):
        drawn = pd.concat([rows[rows["group"] == group] for group, n in enumerate(row) for _ in range(n)])
        expected = drawn.groupby("cell")["score"].mean().mean() if len(drawn) else np.nan
        assert found == pytest.approx(expected, nan_ok=True)


def test_one_cell_agrees_with_scipy(tmp_path):
    scores = np.random.default_rng(1).gamma(2.0, size=(60, 1))
    job = write_job(tmp_path / "a", scores)
    found = Bootstrap([job], n_resamples=20_000).job(job, "mono", "P@5")
    options = {"n_resamples": 20_000, "method": "percentile", "rng": np.random.default_rng(2)}
    try:
        expected = scipy.stats.bootstrap((scores[:, 0],), np.mean, **options).confidence_interval
    except TypeError:  # scipy < 1.15
        options["random_state"] = options.pop("rng")
        expected = scipy.stats.bootstrap((scores[:, 0],), np.mean, **options).confidence_interval
    tolerance = 0.03 * (expected.high - expected.low)
    assert found.low == pytest.approx(expected.low, abs=tolerance)
    assert found.high == pytest.approx(expected.high, abs=tolerance)


def test_uneven_cells_and_seeds_agree_with_a_slow_loop(tmp_path):
    rng = np.random.default_rng(5)
    n_groups, n_seeds = 12, 3
    scores = rng.random((n_seeds, n_groups, 3)) + rng.normal(0, 0.2, (n_seeds, 1, 1))
    scores[:, 3:, 2] = np.nan  # the last language has three queries
    scores[:, 5, 0] = np.nan
    jobs = [write_job(tmp_path / str(seed), scores[seed], seed) for seed in range(n_seeds)]
    found = Bootstrap(jobs, n_resamples=4000).point(Point(1.0, tuple(jobs)), "mono", "P@5")

    def statistic(groups, seed):
        cells = [scores[seed, groups, cell] for cell in range(3)]
        means = [values[~np.isnan(values)].mean() for values in cells if (~np.isnan(values)).any()]
        return np.mean(means)

    samples = []
    for _ in range(4000):
        groups = rng.integers(n_groups, size=n_groups)
        samples.append(np.mean([statistic(groups, seed) for seed in rng.integers(n_seeds, size=n_seeds - 1)]))
    low, high = np.quantile(samples, [0.025, 0.975])
    tolerance = 0.06 * (high - low)
    assert found.value == pytest.approx(np.mean([statistic(np.arange(n_groups), seed) for seed in range(n_seeds)]))
    assert found.low == pytest.approx(low, abs=tolerance)
    assert found.high == pytest.approx(high, abs=tolerance)


def test_coverage_of_the_mean_over_seeds_and_queries(tmp_path):
    """With seeds the interval covers the truth about as often as it says; with one seed it does not, and says so."""
    rng = np.random.default_rng(11)
    n_studies, n_groups, n_seeds, truth = 80, 30, 5, 0.5
    hits, hits_of_one = 0, 0
    for study in range(n_studies):
        groups = rng.normal(0.0, 0.3, (1, n_groups, 1))  # shared by seeds and languages
        seeds = rng.normal(0.0, 0.06, (n_seeds, 1, 1))
        scores = truth + groups + seeds + rng.normal(0.0, 0.1, (n_seeds, n_groups, 2))
        jobs = [write_job(tmp_path / f"{study}-{seed}", scores[seed], seed) for seed in range(n_seeds)]
        bootstrap = Bootstrap(jobs, n_resamples=200)
        many = bootstrap.point(Point(1.0, tuple(jobs)), "mono", "P@5")
        one = bootstrap.job(jobs[0], "mono", "P@5")
        assert (many.covers, one.covers) == ("seeds and queries", "queries")
        hits += many.low <= truth <= many.high
        hits_of_one += one.low <= truth <= one.high
    assert 0.88 <= hits / n_studies <= 0.99
    assert hits_of_one / n_studies < 0.86


def test_rows_of_one_group_are_not_independent(tmp_path):
    """Translations that agree give no narrower interval than one language alone."""
    scores = np.random.default_rng(3).random((50, 1))
    one = write_job(tmp_path / "one", scores)
    many = write_job(tmp_path / "many", np.repeat(scores, 8, axis=1))
    widths = [e.high - e.low for job in (one, many) if (e := Bootstrap([job]).job(job, "mono", "P@5"))]
    assert widths[0] == pytest.approx(widths[1], rel=1e-9)


def test_differences_are_paired_over_queries(tmp_path):
    rng = np.random.default_rng(4)
    base = rng.random((80, 2))
    a, b = write_job(tmp_path / "a", base + 0.02), write_job(tmp_path / "b", base)
    bootstrap = Bootstrap([a, b])
    found = bootstrap.difference(Point(1.0, (a,)), Point(1.0, (b,)), "mono", "P@5")
    alone = bootstrap.job(a, "mono", "P@5")
    assert found.value == pytest.approx(0.02)
    assert found.high - found.low < 1e-9 < alone.high - alone.low  # what is common cancels
    assert not found.includes_zero


def test_a_method_does_not_differ_from_itself(tmp_path):
    job = write_job(tmp_path / "a", np.random.default_rng(4).random((30, 2)))
    found = Bootstrap([job]).difference(Point(1.0, (job,)), Point(1.0, (job,)), "mono", "P@5")
    assert (found.value, found.low, found.high) == (0, 0, 0)
    assert found.includes_zero


def test_differences_are_paired_over_the_seeds_that_both_have(tmp_path):
    rng = np.random.default_rng(6)
    base = rng.random((40, 2))
    noise = {seed: rng.normal(0, 0.5) for seed in (0, 1, 2)}  # of the subset that both methods were trained on
    a = [write_job(tmp_path / f"a{seed}", base + noise[seed] + 0.1, seed) for seed in (0, 1, 2)]
    b = [write_job(tmp_path / f"b{seed}", base + noise[seed], seed) for seed in (0, 1)]
    found = Bootstrap(a + b).difference(Point(1.0, tuple(a)), Point(1.0, tuple(b)), "mono", "P@5")
    assert found.n_seeds == 2
    assert (found.low, found.value, found.high) == pytest.approx((0.1, 0.1, 0.1))


def test_without_shared_seeds_each_side_draws_its_own(tmp_path):
    rng = np.random.default_rng(6)
    base = rng.random((40, 2))
    a = [write_job(tmp_path / f"a{seed}", base + rng.normal(0, 0.5), seed) for seed in (0, 1, 2)]
    b = [write_job(tmp_path / f"b{seed}", base + rng.normal(0, 0.5), seed) for seed in (3, 4)]
    bootstrap = Bootstrap(a + b)
    points = Point(1.0, tuple(a)), Point(1.0, tuple(b))
    found = bootstrap.difference(*points, "mono", "P@5")
    means = [bootstrap.point(point, "mono", "P@5").value for point in points]
    assert found.value == pytest.approx(means[0] - means[1])
    assert found.high - found.low > 0.2


def test_a_reference_without_seeds_is_set_against_every_seed(tmp_path):
    rng = np.random.default_rng(6)
    base = rng.random((40, 2))
    trained = [write_job(tmp_path / f"a{seed}", base + gain, seed) for seed, gain in enumerate((0.1, 0.2, 0.3))]
    reference = write_job(tmp_path / "r", base, seed=None, fraction=None)
    found = Bootstrap([*trained, reference]).difference(
        Point(1.0, tuple(trained)), Point(None, (reference,)), "mono", "P@5"
    )
    assert found.n_seeds == 3
    assert found.value == pytest.approx(0.2)
    assert 0.1 - 1e-9 <= found.low < 0.2 < found.high <= 0.3 + 1e-9  # of the seeds only: the queries cancel


def test_the_change_of_a_difference_with_size(tmp_path):
    rng = np.random.default_rng(7)
    base = rng.random((40, 2))
    points = [
        Point(f, (write_job(tmp_path / str(i), base + i, fraction=f),)) for i, f in enumerate((1.0, 1.0, 0.1, 0.1))
    ]
    terms = list(zip((1, -1, -1, 1), points, strict=True))
    found = Bootstrap([job for point in points for job in point.jobs]).contrast(terms, "mono", "P@5")
    assert found.value == pytest.approx((0 - 1) - (2 - 3), abs=1e-9)


def test_a_measure_that_is_missing_is_missing(tmp_path):
    full = write_job(tmp_path / "a", np.random.default_rng(1).random((10, 2)))
    empty = write_job(tmp_path / "b", np.random.default_rng(1).random((10, 2)), seed=1)
    frame = pd.read_parquet(empty.scores).assign(**{"P@5": np.nan, "AP": 0.5})
    frame.to_parquet(empty.scores)
    bootstrap = Bootstrap([full, empty], n_resamples=50)
    assert bootstrap.job(empty, "mono", "P@5") is None
    assert bootstrap.job(full, "mono", "AP") is None
    assert bootstrap.job(full, "cross", "P@5") is None
    both = bootstrap.point(Point(1.0, (full, empty)), "mono", "P@5")
    assert both == bootstrap.job(full, "mono", "P@5")
    assert both.n_seeds == 1
    assert bootstrap.difference(Point(1.0, (full,)), Point(1.0, (empty,)), "mono", "P@5") is None
    assert bootstrap.measures == ("P@5", "AP")


def test_all_settings_and_a_measure_of_one_setting_only(tmp_path):
    study = SimulatedStudy(tmp_path / "s", n_groups=10, languages=("de", "en", "th"))
    study.job("hybrid", 1.0)
    comparison, _ = curves_of(study.folder)
    bootstrap = Bootstrap(comparison.jobs, n_resamples=50)
    (job,) = comparison.jobs
    frame = pd.read_parquet(job.scores)
    expected = summarise(frame)["multi"]["rank_distance"]
    assert bootstrap.job(job, "multi", "rank_distance").value == pytest.approx(expected)
    assert bootstrap.job(job, "mono", "rank_distance") is None
    assert bootstrap.job(job, "cross", "P@5").low < bootstrap.job(job, "cross", "P@5").high


def test_the_same_seed_gives_the_same_intervals_in_any_order_of_jobs(tmp_path):
    study = SimulatedStudy(tmp_path / "s", n_groups=30)
    study.grid(fractions=(0.5, 1.0), seeds=(0, 1))
    comparison, curves = curves_of(study.folder)
    points = [curves[name].at(1.0) for name in ("hybrid", "dapt")]
    found = [
        Bootstrap(jobs, n_resamples=200, seed=seed).difference(*points, "cross", "AP")
        for jobs, seed in ((comparison.jobs, 0), (comparison.jobs[::-1], 0), (comparison.jobs, 1))
    ]
    assert found[0] == found[1]
    assert found[0] != found[2]


def test_opposite_difference():
    assert Estimate(-2.0, -3.0, -1.0, 4).negated() == Estimate(2.0, 1.0, 3.0, 4)


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda path: path.unlink(), "cannot be read"),
        (lambda path: path.write_bytes(b"PAR1 not really"), "cannot be read"),
        (lambda path: pd.read_parquet(path).drop(columns="group_id").to_parquet(path), "no column 'group_id'"),
        (lambda path: pd.read_parquet(path).head(0).to_parquet(path), "no row"),
        (lambda path: pd.read_parquet(path).assign(query_lang=None).to_parquet(path), "'query_lang' is empty in row 0"),
    ],
)
def test_scores_that_cannot_be_used_are_named(tmp_path, spoil, problem):
    job = write_job(tmp_path / "a", np.ones((4, 2)))
    spoil(job.scores)
    with pytest.raises(DataError) as caught:
        Bootstrap([job])
    assert str(job.scores) in str(caught.value)
    assert problem in str(caught.value)


def test_text_columns_and_dictionary_encoding_do_not_matter(tmp_path):
    job = write_job(tmp_path / "a", np.random.default_rng(1).random((20, 2)))
    expected = Bootstrap([job], n_resamples=50).job(job, "mono", "P@5")
    path = job.scores
    frame = pd.read_parquet(path).assign(note="x")
    frame.astype(dict.fromkeys(("setting", "group_id", "query_lang"), "category")).to_parquet(path)
    bootstrap = Bootstrap([job], n_resamples=50)
    assert bootstrap.measures == ("P@5",)
    assert bootstrap.job(job, "mono", "P@5") == expected
