"""The comparison of two methods on simulated studies, and the statements made from it."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from simulated_study import SimulatedStudy

from clirscale.analysis.bootstrap import Bootstrap, Estimate
from clirscale.analysis.comparison import HeadToHead, Outcome, SizeTest, compare
from clirscale.analysis.curves import Curve, Point, arrange
from clirscale.analysis.equivalents import Bounded, Crossing, Decision, Multiplier
from clirscale.analysis.headline import sentence, statements
from clirscale.analysis.pairing import paired_differences
from clirscale.analysis.records import Job, load_study
from clirscale.analysis.significance import holm, randomisation_test
from clirscale.errors import DataError

POOL = 1600
FRACTIONS = (0.0625, 0.125, 0.25, 0.5, 1.0)
KEY = ("mono", "P@5")


class Lab:
    """Writes jobs with given scores[group, cell]; NaN has no row."""

    def __init__(self, folder, n_groups=60, n_cells=3, seed=0):
        self.folder, self.shape = folder, (n_groups, n_cells)
        self.base = np.random.default_rng(seed).normal(0.4, 0.2, (n_groups, 1)) + np.zeros(self.shape)

    def job(self, method, fraction, scores, seed=0, measure="P@5", setting="mono"):
        folder = self.folder / f"{method}-{fraction}-{seed}"
        (folder / "xquad_r").mkdir(parents=True)
        groups, cells = np.nonzero(~np.isnan(scores))
        rows = {
            "setting": setting,
            "query_lang": [f"l{c}" for c in cells],
            "passage_lang": [f"l{c}" for c in cells],
            "query_id": [f"{g}-{c}" for g, c in zip(groups, cells, strict=True)],
            "group_id": [f"g{g}" for g in groups],
            measure: scores[groups, cells],
        }
        pd.DataFrame(rows).to_parquet(folder / "xquad_r" / "per_query.parquet")
        record = {"axes": {"seed": seed, "fraction": fraction}, "counts": {"groups": round(fraction * POOL)}}
        return Job(folder, record, "xquad_r")

    def noisy(self, values, key, scale=0.03):
        return self.base + values + np.random.default_rng(key).normal(0, scale, self.shape)

    def curve(self, method, score, fractions=FRACTIONS, seeds=(0,), scale=0.03, **options):
        """Return a curve whose macro-average at each size is about ``score(groups)``."""
        points = []
        for i, fraction in enumerate(fractions):
            jobs = [
                self.job(
                    method, fraction, self.noisy(score(fraction * POOL), [*method.encode(), i, s], scale), s, **options
                )
                for s in seeds
            ]
            points.append(Point(fraction, tuple(jobs)))
        return Curve(method, (), tuple(points), ())


def compare_all(*curves, n_resamples=300, n_draws=2000, **options):
    bootstrap = Bootstrap([job for curve in curves for job in curve.jobs], n_resamples=n_resamples)
    return compare(*curves, bootstrap, measures=["P@5"], settings=["mono"], n_draws=n_draws, **options)


def rising(groups):
    return 0.06 * np.log(groups / 100)


def test_the_tested_difference_is_that_of_the_bootstrap_in_every_setting(tmp_path):
    study = SimulatedStudy(tmp_path / "s", n_groups=20)
    study.grid(fractions=(0.5, 1.0), seeds=(0, 1))
    study.job("hybrid", 1.0, 2)  # a seed that dapt lacks
    (comparison,) = arrange(load_study(study.folder)).comparisons
    bootstrap = Bootstrap(comparison.jobs, n_resamples=20)
    hybrid, dapt = comparison.curves
    measures = ("P@5", "AP", "rank_distance")
    found = compare(hybrid, dapt, bootstrap, measures=measures, lower_is_better={"rank_distance"}, n_draws=200)
    assert found.n_tests == 2 * 7  # rank distance in the multilingual setting only
    for (setting, measure), outcome in found.outcomes.items():
        for test in outcome.tests:
            points = hybrid.at(test.fraction), dapt.at(test.fraction)
            differences = paired_differences(*points, setting, measure)
            assert differences.sum() == pytest.approx(bootstrap.difference(*points, setting, measure).value, abs=1e-12)
            assert test.difference == bootstrap.difference(*points, setting, measure)
            assert test.p == randomisation_test(differences, n_draws=200)
            assert (test.difference.n_seeds, test.n_groups) == (2, 20)
    tests = [test for outcome in found.outcomes.values() for test in outcome.tests]
    assert [test.adjusted for test in tests] == pytest.approx(holm([test.p for test in tests]))


def test_uneven_groups_count_as_in_the_macro_average(tmp_path):
    """A flip changes the sign of a group's queries in every cell; against an enumeration over rows."""
    rng = np.random.default_rng(1)
    lab = Lab(tmp_path, n_groups=7, n_cells=3)
    scores = [rng.random(lab.shape) for _ in range(2)]
    for array in scores:
        array[2:, 2] = np.nan
        array[4, 0] = np.nan
    a, b = (Point(1.0, (lab.job(name, 1.0, s),)) for name, s in zip("ab", scores, strict=True))
    rows = scores[0] - scores[1]
    statistics = []
    for signs in np.ndindex(*(2,) * 7):
        flipped = rows * (2 * np.array(signs)[:, None] - 1)
        statistics.append(np.nanmean(flipped, axis=0).mean())
    expected = np.mean(np.abs(statistics) >= abs(np.nanmean(rows, axis=0).mean()) - 1e-12)
    assert float(randomisation_test(paired_differences(a, b, *KEY))) == pytest.approx(expected)


def test_seeds_that_both_have_are_averaged(tmp_path):
    lab = Lab(tmp_path)
    a = [lab.job("a", 1.0, lab.base + gain, seed) for seed, gain in ((0, 0.1), (1, 0.3), (2, 5.0))]
    b = [lab.job("b", 1.0, lab.base, seed) for seed in (0, 1)]
    found = paired_differences(Point(1.0, tuple(a)), Point(1.0, tuple(b)), *KEY)
    assert found == pytest.approx(np.full(60, 0.2 / 60))


def test_a_known_shift_is_recovered(tmp_path):
    lab = Lab(tmp_path)
    method = lab.curve("hybrid", lambda groups: rising(2 * groups), seeds=(0, 1, 2))
    outcome = compare_all(method, lab.curve("mono", rising, seeds=(0, 1, 2))).outcomes[KEY]
    inside = outcome.equivalents[1:4]
    for m in inside:
        assert m.low.value <= 2 <= m.high.value
        assert m.low.value > 1.4
        assert m.high.value < 2.7
        assert not m.includes_one
    assert outcome.equivalents[-1].value == Bounded(pytest.approx(1.0), ">")
    assert all(test.adjusted < 0.01 and test.dz > 0.5 for test in outcome.tests)
    assert outcome.crossing.groups == ()
    assert all(decision.accuracy == 1 for decision in outcome.decisions)


def test_lower_is_better_turns_the_curves_but_not_the_difference(tmp_path):
    lab = Lab(tmp_path)
    method = lab.curve("hybrid", lambda groups: -rising(2 * groups))
    found = compare_all(method, lab.curve("mono", lambda groups: -rising(groups)), lower_is_better={"P@5"})
    outcome = found.outcomes[KEY]
    assert outcome.equivalents[1].low.value <= 2 <= outcome.equivalents[1].high.value
    assert all(test.difference.value < 0 for test in outcome.tests)
    assert "hybrid is better than mono at 100, 200" in sentence(found, *KEY)


def test_identical_arms(tmp_path):
    lab = Lab(tmp_path)
    mono = lab.curve("mono", rising)
    twin = Curve("hybrid", (), tuple(Point(p.fraction, (replace_folder(lab, p),)) for p in mono.points), ())
    found = compare_all(twin, mono)
    outcome = found.outcomes[KEY]
    assert all((test.p, test.adjusted, test.dz, test.identical) == (1, 1, 0, True) for test in outcome.tests)
    assert all(m.value == m.low == m.high == Bounded(1.0) for m in outcome.equivalents)
    assert (outcome.crossing, outcome.decisions) == (Crossing((), None, None, 0.0), ())
    assert statements(found, *KEY) == (
        "In monolingual P@5, hybrid and mono score the same in every parallel group at 100, 200, 400, 800 and 1,600 "
        "groups.",
        "One seed: nothing is known of the variation between seeds.",
    )


def replace_folder(lab, point):
    """Return a job of its own with the scores of the point's, its rows and columns in another order."""
    (job,) = point.jobs
    folder = lab.folder / f"twin-{job.name}"
    (folder / "xquad_r").mkdir(parents=True)
    frame = pd.read_parquet(job.scores)
    frame[frame.columns[::-1]].iloc[::-1].astype({"group_id": "category"}).to_parquet(
        folder / "xquad_r/per_query.parquet"
    )
    return Job(folder, job.record, "xquad_r")


def test_curves_that_cross(tmp_path):
    lab = Lab(tmp_path)
    method = lab.curve("hybrid", lambda groups: 2 * rising(groups) - 0.08)
    found = compare_all(method, lab.curve("mono", rising))
    crossing = found.outcomes[KEY].crossing
    expected = 100 * np.exp(0.08 / 0.06)
    assert crossing.low <= expected <= crossing.high
    assert crossing.groups[0] == pytest.approx(expected, rel=0.2)
    assert crossing.share == 1
    first, last = found.outcomes[KEY].decisions[0], found.outcomes[KEY].decisions[-1]
    assert (first.accuracy, last.accuracy) == (0, 1)
    text = sentence(found, *KEY)
    assert "hybrid is better than mono at 800 and 1,600 groups, worse at 100 and 200 groups" in text
    assert "The curves cross at" in text
    assert "From 800 groups on, hybrid, the winner at 1,600 groups, is picked in 100% of resamples." in text


def test_sizes_that_only_one_method_has(tmp_path):
    lab = Lab(tmp_path)
    method = lab.curve("hybrid", lambda groups: rising(2 * groups), FRACTIONS[1:])
    found = compare_all(method, lab.curve("mono", rising, FRACTIONS[:-1]))
    outcome = found.outcomes[KEY]
    assert [test.groups for test in outcome.tests] == [200, 400, 800]
    assert outcome.alone == ((1600,), (100,))
    assert [m.groups for m in outcome.equivalents] == [200, 400, 800, 1600]  # of the baseline, the curve suffices
    assert outcome.equivalents[-1].value == Bounded(pytest.approx(800 / 1600), ">")
    text = sentence(found, *KEY)
    assert text.endswith("Only hybrid has a score at 1,600 groups. Only mono has a score at 100 groups.")


def test_no_common_size_and_no_score(tmp_path):
    lab = Lab(tmp_path)
    curves = lab.curve("hybrid", rising, (0.25,)), lab.curve("mono", rising, (0.5,))
    found = compare_all(*curves)
    assert found.n_tests == 0
    assert statements(found, *KEY)[:2] == (
        "In monolingual P@5, hybrid and mono have no size in common, so that nothing is tested.",
        "There is no data equivalent: mono has one size only.",
    )
    assert statements(found, "cross", "P@5") == ("In cross-lingual P@5, neither hybrid nor mono has a score.",)


def test_a_measure_that_does_not_change_with_size(tmp_path):
    lab = Lab(tmp_path)
    curves = [lab.curve(name, lambda groups: 0.0, (0.25, 1.0), scale=0) for name in ("hybrid", "mono")]
    found = compare_all(*curves)
    assert found.outcomes[KEY].equivalents == ()
    assert "score the same in every parallel group at 400 and 1,600 groups" in sentence(found, *KEY)
    better = lab.curve("cross", lambda groups: 0.1, (0.25, 1.0), scale=0)
    text = sentence(compare_all(better, curves[1]), *KEY)
    assert "cross is better than mono at 400 and 1,600 groups" in text
    assert "There is no data equivalent: mono does not get better with more data." in text
    assert "standard deviations" not in text  # infinitely many
    assert "Two sizes only" in text


def test_the_same_seed_gives_the_same_comparison(tmp_path):
    lab = Lab(tmp_path)
    curves = [lab.curve(name, rising, FRACTIONS[:2], scale=0.3) for name in ("hybrid", "mono")]
    results = [compare_all(*curves, seed=seed).outcomes for seed in (0, 0, 1)]
    assert results[0] == results[1]
    assert results[0] != results[2]


def one_nan(frame):
    return frame.assign(**{"P@5": frame["P@5"].where(frame["query_id"] != "3-1")})


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (one_nan, "mono P@5 of group 'g3', queries in 'l1', passages in 'l1', has 1 and 0 scores other than NaN"),
        (lambda frame: frame[frame["query_id"] != "3-1"], "group 'g3', queries in 'l1'"),
        (lambda frame: frame.replace({"query_lang": {"l2": "l9"}}), "queries in 'l2', passages in 'l2', has 1 and 0"),
        (
            lambda frame: frame[frame["query_lang"] != "l2"],
            "group 'g0', queries in 'l2', passages in 'l2', has 1 and 0",
        ),
        (
            lambda frame: frame.replace({"P@5": {frame["P@5"].iloc[4]: np.inf}}),
            "group 'g1', queries in 'l1', passages in",
        ),
    ],
)
def test_scores_that_cannot_be_paired_are_refused_by_name(tmp_path, spoil, problem):
    lab = Lab(tmp_path)
    a, b = (lab.job(name, 1.0, lab.noisy(0, i)) for i, name in enumerate("ab"))
    spoil(pd.read_parquet(b.scores)).to_parquet(b.scores)
    with pytest.raises(DataError) as caught:
        paired_differences(Point(1.0, (a,)), Point(1.0, (b,)), *KEY)
    assert str(b.scores) in str(caught.value)
    assert problem in str(caught.value)


def test_a_score_that_is_nan_in_both_is_left_out_of_both(tmp_path):
    lab = Lab(tmp_path)
    a, b = (lab.job(name, 1.0, lab.noisy(0, i)) for i, name in enumerate("ab"))
    for job in (a, b):
        one_nan(pd.read_parquet(job.scores)).to_parquet(job.scores)
    found = paired_differences(Point(1.0, (a,)), Point(1.0, (b,)), *KEY)
    frames = [pd.read_parquet(job.scores).groupby("query_lang")["P@5"].mean().mean() for job in (a, b)]
    assert found.sum() == pytest.approx(frames[0] - frames[1])


def test_a_measure_that_a_point_lacks_is_refused_by_name(tmp_path):
    lab = Lab(tmp_path)
    a, b = lab.job("a", 1.0, lab.base), lab.job("b", 1.0, lab.base, measure="AP")
    with pytest.raises(DataError, match="mono P@5: no job of one of the points has it"):
        paired_differences(Point(1.0, (a,)), Point(1.0, (b,)), *KEY)


# Statements from numbers that are given.


def size_test(groups, value=0.0, low=-0.01, high=0.01, adjusted=1.0, n_seeds=3):
    difference = Estimate(value, low, high, n_seeds)
    return SizeTest(groups / POOL, groups, difference, value / 0.05, 60, adjusted / 2, adjusted, False)


def multiplier(groups, value, low, high):
    """Return a multiplier from sizes of the baseline; ">1600" is a bound."""
    ends = [text.lstrip("<>") for text in (value, low, high)]
    relations = [text[: len(text) - len(end)] for text, end in zip((value, low, high), ends, strict=True)]
    return Multiplier(groups, *(Bounded(float(e) / groups, r) for e, r in zip(ends, relations, strict=True)))


def head_to_head(**parts):
    empty = Outcome(*KEY, False, (), ((), ()), (), None, (), (100, 1600))
    method, baseline = (Curve(name, (), (), ()) for name in ("hybrid", "mono"))
    return HeadToHead(method, baseline, {KEY: replace(empty, **parts)}, 0.05, 0.95, 10_000)


def test_statement_without_a_difference_gives_the_bound_on_p_and_the_interval():
    tests = size_test(400, adjusted=0.1269), size_test(1600, 0.002, -0.0034, 0.0061, adjusted=0.9)
    assert statements(head_to_head(tests=tests), *KEY)[0] == (
        "In monolingual P@5, hybrid is not distinguishable from mono at any of 2 sizes (Holm-adjusted p ≥ .12); at "
        "1,600 groups hybrid − mono is +0.00200 (−0.00340 to +0.00610)."
    )
    tests = (size_test(400, 0.02, 0.001, 0.04, adjusted=0.0503),)
    assert statements(head_to_head(tests=tests), *KEY)[0] == (
        "In monolingual P@5, hybrid is not distinguishable from mono at 400 groups, the only size that both have "
        "(Holm-adjusted p ≥ .050); at 400 groups hybrid − mono is +0.0200 (+0.00100 to +0.0400), an interval "
        "without 0, but not corrected for the family of 1 test."
    )


def test_statement_of_a_difference_names_sizes_sign_effect_and_what_the_intervals_say():
    tests = (
        size_test(400, -0.04, -0.06, -0.02, adjusted=0.00471),
        size_test(800, 0.01, -0.01, 0.03, adjusted=0.3),
        size_test(1600, 0.02, -0.001, 0.04, adjusted=0.02),
    )
    assert statements(head_to_head(tests=tests), "mono", "P@5", measure_name="precision")[0] == (
        "In monolingual precision, hybrid is better than mono at 1,600 groups, worse at 400 groups and not "
        "distinguishable at 800 groups (Holm-adjusted p ≤ .020 where they differ); at 1,600 groups hybrid − mono is "
        "+0.0200 (−0.00100 to +0.0400), +0.400 standard deviations over parallel groups; but the 95% interval over "
        "seeds and queries includes 0 at 1,600 groups."
    )
    text = sentence(head_to_head(tests=tests, lower_is_better=True), *KEY)
    assert "hybrid is better than mono at 400 groups, worse at 1,600 groups" in text


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (
            [multiplier(800, "1411", "1203", "1588")],
            "With 800 groups hybrid does what mono needs 1,410 [1,200–1,590] for.",
        ),
        (
            [multiplier(800, "1100", "803", ">1600")],
            "With 800 groups hybrid does what mono needs 1,100 [803–> 1,600] for.",
        ),
        (
            [multiplier(800, "700", "612", "1003")],
            "With 800 groups hybrid does what mono needs 700 [612–1,010] for, an interval that includes 800.",
        ),
        (
            [multiplier(800, "1411", "1203", "1588"), multiplier(1600, ">1600", ">1600", ">1600")],
            "With 800 groups hybrid does what mono needs 1,410 [1,200–1,590] for; with 1,600, more than 1,600 "
            "[> 1,600].",
        ),
        (
            [multiplier(1600, ">1600", "1433", ">1600")],
            "With 1,600 groups hybrid does what mono needs more than 1,600 [1,430–> 1,600] for, an interval that "
            "includes 1,600.",
        ),
        (
            [multiplier(200, "<100", "<100", "<100")],
            "With 200 groups hybrid does what mono needs fewer than 100 [< 100] for.",
        ),
    ],
)
def test_statement_of_data_equivalents(found, expected):
    tests = tuple(size_test(groups, 0.02, 0.01, 0.03, adjusted=0.01) for groups in (200, 800))
    assert statements(head_to_head(tests=tests, equivalents=tuple(found)), *KEY)[1] == expected


def test_an_interval_of_data_equivalents_does_not_overrule_the_tests():
    found = (multiplier(800, "1411", "1203", "1588"),)
    tests = size_test(200), size_test(800, 0.02, 0.01, 0.03, adjusted=0.06)
    assert statements(head_to_head(tests=tests, equivalents=found), *KEY)[1] == (
        "With 800 groups hybrid does what mono needs 1,410 [1,200–1,590] for, an interval not corrected for the family "
        "of 2 tests."
    )


@pytest.mark.parametrize(
    ("accuracies", "expected"),
    [
        (
            (0.4, 0.97, 0.999),
            "From 800 groups on, hybrid, the winner at 1,600 groups, is picked in 97% of resamples or more.",
        ),
        ((0.97, 0.81, 0.999), "At 800 groups hybrid, the winner at 1,600 groups, is picked in only 81% of resamples."),
        ((0.9, 0.9, 0.9), "Hybrid, the winner at 1,600 groups, is picked there in only 90% of resamples."),
    ],
)
def test_statement_of_the_decision(accuracies, expected):
    tests = size_test(400), size_test(800), size_test(1600, 0.02, 0.01, 0.03, adjusted=0.01)
    decisions = tuple(Decision(test.groups, share) for test, share in zip(tests, accuracies, strict=True))
    assert expected in statements(head_to_head(tests=tests, decisions=decisions), *KEY)
    undecided = (tests[2], replace(tests[2], adjusted=0.2))  # the largest size shows no winner
    assert "picked" not in sentence(head_to_head(tests=undecided, decisions=decisions[:2]), *KEY)


def test_statement_of_crossings_is_made_only_where_methods_differ():
    crossing = Crossing((1234.0,), 987.6, 1402.0, 0.8349)
    different = size_test(1600, 0.02, 0.01, 0.03, adjusted=0.01)
    expected = "The curves cross at 1,230 groups, with interval [987–1,410]; 83% of resamples cross."
    assert expected in statements(head_to_head(tests=(different,), crossing=crossing), *KEY)
    assert "cross" not in sentence(head_to_head(tests=(size_test(1600),), crossing=crossing), *KEY)
    twice = replace(crossing, groups=(300.0, 1234.0))
    assert "cross at 300 and 1,230 groups, the last with interval" in sentence(
        head_to_head(tests=(different,), crossing=twice), *KEY
    )


def test_statement_of_seeds():
    tests = size_test(400, n_seeds=1), size_test(800), size_test(1600)
    assert statements(head_to_head(tests=tests), *KEY)[-1] == (
        "One seed at 400 groups: nothing is known of the variation between seeds."
    )
    assert "seed" not in sentence(head_to_head(tests=tests[1:]), *KEY)


@pytest.mark.parametrize("shift", [0.0, 0.01, 0.03, -0.03])
def test_statements_do_not_contradict_the_numbers(tmp_path, shift):
    lab = Lab(tmp_path, n_groups=30)
    curves = lab.curve("hybrid", lambda g: rising(g) + shift, scale=0.05), lab.curve("mono", rising, scale=0.05)
    found = compare_all(*curves)
    outcome, text = found.outcomes[KEY], sentence(found, *KEY)
    differ = [test for test in outcome.tests if test.adjusted <= found.alpha]
    assert ("not distinguishable from" in text) == (not differ)
    for word, sign in (("better than mono at", 1), ("worse than mono at", -1)):
        assert (f"is {word}" in text.partition("(")[0]) == any(
            np.sign(test.difference.value) == sign for test in differ
        )
    relation, written = re.search(r"Holm-adjusted p ([≤≥=]) (\d*\.?\d+)", text).groups()
    p_values = [test.adjusted for test in differ or outcome.tests]
    holds = {"≤": max(p_values) <= float(written), "≥": min(p_values) >= float(written), "=": min(p_values) == 1}
    assert holds[relation]
