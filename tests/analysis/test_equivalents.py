"""Data equivalents, crossings and decisions on curves whose answers are known."""

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st

from clirscale.analysis.equivalents import (
    Bounded,
    Decision,
    SampledCurve,
    crossing,
    data_equivalents,
    decisions,
    isotonic,
    spans,
)

SIZES = np.array([100.0, 200.0, 400.0, 800.0, 1600.0])
SCORES = st.lists(st.integers(0, 6).map(lambda n: n / 5), min_size=1, max_size=7)  # with ties


def curve(values, groups=SIZES, noise=0.0, n=400, seed=0, shared=None):
    """Return a curve whose samples are the values plus normal noise, and ``shared`` (n, 1)."""
    values = np.asarray(values, dtype=float)
    samples = values + np.random.default_rng(seed).normal(0, noise, (n, len(values)))
    return SampledCurve(np.asarray(groups, dtype=float), values, samples + (0 if shared is None else shared))


def log_score(size):
    return 0.1 + 0.05 * np.log(size)


@pytest.mark.skipif(not hasattr(scipy.optimize, "isotonic_regression"), reason="scipy < 1.12")
@given(SCORES)
@settings(max_examples=100, deadline=None)
def test_isotonic_fit_is_that_of_scipy(values):
    expected = scipy.optimize.isotonic_regression(values).x
    assert isotonic(np.array(values)) == pytest.approx(expected, abs=1e-12)
    assert isotonic(np.array([values, values]))[1] == pytest.approx(expected, abs=1e-12)


def test_a_method_that_is_the_baseline_at_twice_the_data_has_multiplier_2():
    found = data_equivalents(curve(log_score(SIZES)), curve(log_score(2 * SIZES)))
    assert [m.value.relation for m in found] == ["", "", "", "", ">"]
    assert [m.value.value for m in found[:4]] == pytest.approx([2.0] * 4)
    assert found[4].value.value == pytest.approx(1.0)  # more than all that the baseline was tried with
    assert [m.groups for m in found] == SIZES.tolist()


def test_the_interval_covers_a_known_shift_about_as_often_as_it_says():
    """Estimates with noise, and resamples with the same noise around them, as from a bootstrap."""
    rng = np.random.default_rng(2)
    hits = 0
    for study in range(100):
        truth = {name: log_score(factor * SIZES) for name, factor in (("base", 1), ("method", 2))}
        seen = {name: values + rng.normal(0, 0.004, 5) for name, values in truth.items()}
        base, method = (curve(seen[name], noise=0.004, seed=[study, i]) for i, name in enumerate(("base", "method")))
        m = data_equivalents(base, method)[1]
        hits += m.low.value <= 2 <= m.high.value
        assert (m.low.relation, m.high.relation, m.value.relation) == ("", "", "")
        assert m.high.value - m.low.value < 1.5
    assert hits >= 88


def test_noise_that_both_share_does_not_widen_the_interval():
    shared = np.random.default_rng(1).normal(0, 0.1, (400, 1))
    m = data_equivalents(curve(log_score(SIZES), shared=shared), curve(log_score(2 * SIZES), shared=shared))[1]
    assert (m.low.value, m.high.value) == pytest.approx((2, 2))


def test_outside_the_observed_range_there_are_bounds():
    above, below = curve(np.full(5, 0.9)), curve(np.full(5, 0.0))
    m = data_equivalents(curve(log_score(SIZES), noise=0.001), above)[1]
    for end in (m.value, m.low, m.high):
        assert (end.value, end.relation) == (pytest.approx(8.0), ">")
    m = data_equivalents(curve(log_score(SIZES), noise=0.001), below)[1]
    for end in (m.value, m.low, m.high):
        assert (end.value, end.relation) == (pytest.approx(0.5), "<")


@pytest.mark.parametrize(("share", "relation"), [(0.02, ""), (0.04, ">")])
def test_an_end_of_the_interval_is_a_bound_if_more_than_its_tail_lies_outside(share, relation):
    method = curve(log_score(2 * SIZES))
    method.samples[: round(400 * share)] = 5.0
    m = data_equivalents(curve(log_score(SIZES)), method)[1]
    assert (m.value.relation, m.low.relation, m.high.relation) == ("", "", relation)
    assert m.high.value == pytest.approx(8.0 if relation else 2.0)
    method.samples[: round(400 * share)] = -5.0
    m = data_equivalents(curve(log_score(SIZES)), method)[1]
    assert (m.low.relation, m.high.relation) == ("<" if relation else "", "")
    assert m.low.value == pytest.approx(0.5 if relation else 2.0)


@given(st.lists(st.integers(0, 4), min_size=2, max_size=6), st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_a_method_does_the_same_as_itself_with_the_same_data(values, seed):
    """Flat stretches and dips included."""
    values = np.array(values) / 4
    own = curve(values, 100.0 * 2 ** np.arange(len(values)), noise=0.3, n=50, seed=seed)
    found = data_equivalents(own, own)
    assert bool(found) == (isotonic(values)[-1] > isotonic(values)[0])
    for m in found:
        assert (m.value, m.low, m.high) == (Bounded(1.0), Bounded(1.0), Bounded(1.0))
        assert m.includes_one


def test_on_a_flat_stretch_the_size_nearest_to_the_methods_own_counts():
    base = curve([0.1, 0.3, 0.3, 0.3, 0.5])
    found = data_equivalents(base, curve([0.3] * 5, groups=[50, 150, 300, 700, 3200]))
    assert [m.value.value for m in found] == pytest.approx([200 / 50, 200 / 150, 1, 1, 800 / 3200])


@pytest.mark.parametrize(
    "base", [curve([0.2] * 5), curve([0.5, 0.4, 0.3, 0.2, 0.1]), curve([0.2], groups=[100]), curve([], groups=[])]
)
def test_a_baseline_that_does_not_rise_has_no_equivalents(base):
    assert data_equivalents(base, curve(log_score(SIZES))) == ()


def test_the_methods_sizes_can_be_others():
    found = data_equivalents(curve(log_score(SIZES)), curve(log_score(np.array([250.0, 3000.0])), groups=[250, 3000]))
    assert found[0].value == Bounded(pytest.approx(1.0))
    assert (found[1].value.relation, found[1].value.value) == (">", pytest.approx(1600 / 3000))


def test_interval_ends_that_are_bounds_are_open():
    assert spans(Bounded(1.0), Bounded(2.0), 1.0)
    assert not spans(Bounded(1.0, ">"), Bounded(1.0, ">"), 1.0)
    assert not spans(Bounded(1.0, "<"), Bounded(1.0, "<"), 1.0)
    assert spans(Bounded(0.5, "<"), Bounded(8.0, ">"), 100.0)
    assert not spans(Bounded(1.1), Bounded(8.0, ">"), 1.0)


def test_crossing_is_linear_in_log_size():
    found = crossing(curve([0.2, 0.1, -0.1, -0.2, -0.3]))
    assert found.groups == pytest.approx((np.sqrt(200 * 400),))
    assert (found.low, found.high) == pytest.approx((np.sqrt(200 * 400),) * 2)
    assert found.share == 1


def test_interval_of_the_last_crossing_and_share_that_cross():
    difference = curve([0.3, 0.2, -0.1, 0.1, 0.3], n=100)
    difference.samples[:25] = [0.1, 0.1, 0.1, 0.1, 0.1]
    difference.samples[25:50] = [0.1, -0.1, -0.1, -0.1, -0.1]
    found = crossing(difference)
    assert found.groups == pytest.approx((200 * 2 ** (2 / 3), np.sqrt(400 * 800)))
    assert found.share == 0.75
    assert (found.low, found.high) == pytest.approx((np.sqrt(100 * 200), np.sqrt(400 * 800)))


def test_touching_0_is_no_crossing_but_passing_through_it_is():
    assert crossing(curve([0.2, 0.0, 0.1, 0.0, 0.2])).groups == ()
    assert crossing(curve([0.2, 0.0, 0.0, -0.1, -0.2])).groups == pytest.approx((400,))
    assert crossing(curve([0.0] * 5)) == crossing(curve([0.1] * 5))
    assert crossing(curve([0.1], groups=[100])) is None


def test_resamples_cross_where_the_curves_do_not():
    difference = curve([0.1] * 5, n=10)
    difference.samples[:2] = [-0.1, 0.1, 0.1, 0.1, 0.1]
    found = crossing(difference)
    assert (found.groups, found.share) == ((), 0.2)
    assert found.low == pytest.approx(np.sqrt(100 * 200))


def test_decision_accuracy_is_the_share_with_the_observed_winner_of_the_largest():
    difference = curve([0.1, -0.1, -0.1, -0.2, -0.3], n=100)
    difference.samples[:] = -1
    difference.samples[:30, 0] = 1
    difference.samples[:10, 1] = 0  # picks no winner
    difference.samples[:5, 4] = 1
    assert decisions(difference) == tuple(map(Decision, SIZES, (0.7, 0.95, 1.0, 1.0, 0.95)))


def test_without_a_winner_there_is_no_decision():
    assert decisions(curve([0.1, 0.0], groups=[1, 2], noise=1)) == ()
    assert decisions(curve([], groups=[])) == ()


@pytest.mark.parametrize(
    ("groups", "values", "problem"),
    [([200, 100], [1, 2], "increasing"), ([0, 100], [1, 2], "positive"), ([100], [1, 2], "1 sizes, but values")],
)
def test_curves_that_make_no_sense_are_refused(groups, values, problem):
    with pytest.raises(ValueError, match=problem):
        curve(values, groups)
