"""The randomisation test against scipy and in simulation, Holm's correction against its definition."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from clirscale.analysis.significance import holm, randomisation_test, standardised_difference

FINITE = st.floats(-1, 1, allow_nan=False).map(lambda x: round(x, 2))  # with ties and zeros


def scipy_p(differences, n_resamples):
    paired = (differences, np.zeros_like(differences))
    return scipy.stats.permutation_test(
        paired,
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=n_resamples,
    ).pvalue


@given(st.lists(FINITE, min_size=2, max_size=8))
@settings(max_examples=25, deadline=None)
def test_few_groups_are_enumerated_and_agree_with_scipy_exactly(differences):
    differences = np.array(differences)
    found = float(randomisation_test(differences, n_draws=2 ** len(differences)))
    assert found == pytest.approx(scipy_p(differences, np.inf), abs=1e-9)


@pytest.mark.parametrize("shift", [0.0, 0.1, 0.25])
def test_many_groups_agree_with_scipy_within_monte_carlo_error(shift):
    differences = np.random.default_rng(3).normal(shift, 0.8, 80)
    found, expected = float(randomisation_test(differences)), scipy_p(differences, 9_999)
    assert found == pytest.approx(expected, abs=5 * np.sqrt(2 * max(expected, 1e-4) / 10_000))


def test_draws_follow_the_formula():
    """p = (1 + #{|d*| >= |d|}) / (1 + B) cannot be 0: a huge difference is as rare as its own sign vector."""
    differences = np.full(200, 0.3)
    assert float(randomisation_test(differences, n_draws=99)) == 1 / 100
    assert float(randomisation_test(differences[:3], n_draws=99)) == 2 / 8  # exact: all + and all -


def test_level_under_the_null_is_nominal_with_clustered_queries():
    """Flipping whole groups keeps the level; flipping rows, as if translations were independent, does not."""
    rng = np.random.default_rng(5)
    n_groups, n_cells, n_studies = 40, 6, 400
    scores = rng.normal(0, 1, (n_groups, 1, n_studies)) + rng.normal(0, 0.7, (n_groups, n_cells, n_studies))
    by_group = randomisation_test(scores.mean(axis=1), n_draws=1000)
    by_row = randomisation_test(scores.reshape(-1, n_studies), n_draws=1000)
    assert 0.02 <= (by_group <= 0.05).mean() <= 0.08
    assert (by_row <= 0.05).mean() > 0.2


def test_power_grows_with_the_difference():
    noise = np.random.default_rng(5).normal(0, 1, 60)
    p_values = randomisation_test(np.stack([noise - noise.mean() + shift for shift in (0, 0.2, 0.5)], axis=1))
    assert p_values[0] == 1
    assert p_values[0] > p_values[1] > p_values[2]


def test_tests_of_one_call_are_those_of_single_calls_and_have_their_shape():
    differences = np.random.default_rng(5).normal(0.1, 1, (30, 2, 3))
    together = randomisation_test(differences, n_draws=500, seed=4)
    assert together.shape == (2, 3)
    assert together[1, 2] == randomisation_test(differences[:, 1, 2], n_draws=500, seed=4)
    assert (together != randomisation_test(differences, n_draws=500, seed=5)).any()


def test_scale_order_of_addition_and_sign_do_not_matter():
    differences = np.random.default_rng(5).integers(-3, 4, 12) * 0.2  # many ties
    p = float(randomisation_test(differences, n_draws=5000))
    assert p == randomisation_test(differences / 3, n_draws=5000)
    assert p == randomisation_test(-differences, n_draws=5000)
    assert p == randomisation_test(differences[::-1], n_draws=5000)


def test_identical_scores_give_p_1():
    assert randomisation_test(np.zeros(500)) == 1
    assert randomisation_test(np.zeros((500, 2))).tolist() == [1, 1]


@pytest.mark.parametrize(
    ("differences", "options", "problem"),
    [
        ([[0.1, 0.2], [0.3, np.nan]], {}, r"differences\[1, 1\] is nan"),
        ([0.1, -np.inf], {}, r"differences\[1\] is -inf"),
        ([], {}, "no group"),
        ([0.1], {"n_draws": 0}, "n_draws is 0"),
    ],
)
def test_input_without_an_answer_is_refused(differences, options, problem):
    with pytest.raises(ValueError, match=problem):
        randomisation_test(differences, **options)


@given(st.lists(st.floats(0, 1), max_size=8), st.floats(0.001, 0.5))
@settings(max_examples=100, deadline=None)
def test_adjusted_p_values_reject_what_the_step_down_procedure_rejects(p_values, alpha):
    rejected = set()
    for step, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):  # Holm 1979, literally
        if p_values[i] * (len(p_values) - step) > alpha:
            break
        rejected.add(i)
    assert {i for i, p in enumerate(holm(p_values)) if p <= alpha} == rejected


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@pytest.mark.parametrize("wrong", [np.nan, -0.1, 1.1])
def test_holm_refuses_what_is_no_p_value(wrong):
    with pytest.raises(ValueError, match=rf"p_values\[1\] is {wrong}"):
        holm([0.5, wrong])


def test_dz_is_the_t_statistic_over_the_root_of_n():
    differences = np.random.default_rng(5).normal(0.3, 1, 50)
    expected = scipy.stats.ttest_1samp(differences, 0).statistic / np.sqrt(50)
    assert standardised_difference(differences) == pytest.approx(expected)
    assert standardised_difference(differences * 0.01) == pytest.approx(expected)


def test_dz_without_spread():
    assert standardised_difference(np.zeros(4)) == 0
    assert standardised_difference(np.full(4, -0.1)) == -np.inf
    assert np.isnan(standardised_difference(np.array([0.1])))
