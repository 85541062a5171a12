import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clirscale.data.groups import Pair, ParallelGroup, Pool
from clirscale.errors import ConfigError, DataError


def group(group_id: str, *languages: str) -> ParallelGroup:
    return ParallelGroup(group_id, {lang: Pair(f"{group_id} {lang}?", f"{group_id} {lang}.") for lang in languages})


def pool(size: int) -> Pool:
    return Pool("numbers", [group(f"g{i}", "de", "en") for i in range(size)])


def ids(pool: Pool) -> list[str]:
    return [g.group_id for g in pool]


fractions = st.floats(0, 1, exclude_min=True)
seeds = st.integers(0, 2**32 - 1)
group_ids = st.lists(st.text(min_size=1), min_size=1, max_size=40, unique=True)


@given(group_ids, fractions, fractions, seeds)
def test_subsets_are_nested(names, a, b, seed):
    whole = Pool("p", [group(name, "en") for name in names])
    smaller, larger = (set(ids(whole.subset(f, seed))) for f in sorted((a, b)))
    assert smaller <= larger <= set(names)


@given(group_ids, fractions, seeds, st.randoms(use_true_random=False))
def test_subset_does_not_depend_on_the_order_of_the_pool(names, fraction, seed, rng):
    groups = [group(name, "en") for name in names]
    shuffled = rng.sample(groups, len(groups))
    assert set(ids(Pool("p", groups).subset(fraction, seed))) == set(ids(Pool("p", shuffled).subset(fraction, seed)))


@given(st.integers(1, 300), fractions, seeds)
def test_subset_size_is_the_rounded_share_and_at_least_one(size, fraction, seed):
    assert len(pool(size).subset(fraction, seed)) == max(1, round(fraction * size))


@given(group_ids, fractions, seeds)
def test_subset_keeps_the_order_of_the_pool(names, fraction, seed):
    kept = ids(Pool("p", [group(name, "en") for name in names]).subset(fraction, seed))
    assert kept == [name for name in names if name in set(kept)]


def test_subset_is_keyed_by_the_seed():
    draws = {seed: frozenset(ids(pool(200).subset(0.5, seed))) for seed in (0, 1, 2, 10, 4294967295)}
    assert len(set(draws.values())) == len(draws)
    assert ids(pool(200).subset(0.5, 0)) == ids(pool(200).subset(0.5, 0))


def test_draws_of_two_seeds_are_independent():
    one, other = (set(ids(pool(4000).subset(0.5, seed))) for seed in (0, 1))
    # overlap of independent halves: 1000 ± 16 (one standard deviation)
    assert abs(len(one & other) - 1000) < 80


def test_a_groups_place_in_the_draw_does_not_depend_on_other_groups():
    # Groups that are added at random displace kept ones only by their number, not by reshuffling.
    small, large = pool(100), pool(110)
    kept_small, kept_large = set(ids(small.subset(0.5, 0))), set(ids(large.subset(0.5, 0)))
    assert len(kept_small - kept_large) <= 10


def test_the_draw_stays_the_same_over_releases():
    # Records of finished studies rely on it: if this fails, old and new jobs of one seed differ.
    assert ids(pool(12).subset(0.25, 0)) == ["g3", "g5", "g9"]


def test_the_whole_is_the_pool():
    assert pool(5).subset(1.0, 3).fingerprint == pool(5).fingerprint


@pytest.mark.parametrize("fraction", [0, -0.1, 1.1, float("nan")])
def test_fraction_out_of_range(fraction):
    with pytest.raises(ConfigError, match=r"^data\.fraction: must be in \(0, 1\]"):
        pool(5).subset(fraction, 0)


def test_counts():
    mixed = Pool("p", [group("a", "en", "de"), group("b", "en"), group("c", "en", "zh", "de")])
    assert mixed.groups_per_language == {"de": 2, "en": 3, "zh": 1}
    assert mixed.languages == ["de", "en", "zh"]
    assert mixed.pair_count == 6
    assert len(mixed) == 3


def test_in_languages_drops_groups_without_a_pair():
    mixed = Pool("p", [group("a", "en", "de"), group("b", "en"), group("c", "zh", "de")])
    assert [(g.group_id, list(g.pairs)) for g in mixed.in_languages(["de"])] == [("a", ["de"]), ("c", ["de"])]


def test_in_languages_names_the_nearest():
    with pytest.raises(ConfigError, match="no pair in 'ze'; did you mean 'zh'"):
        Pool("p", [group("a", "zh", "de")]).in_languages(["de", "ze"])


def test_empty_pool():
    with pytest.raises(DataError, match="p: no parallel group"):
        Pool("p", [])


def test_repeated_group():
    with pytest.raises(DataError, match="group id 'a' occurs more than once"):
        Pool("p", [group("a", "en"), group("b", "en"), group("a", "de")])


def test_fingerprint_is_of_the_content_only():
    groups = [group(f"g{i}", "en", "de") for i in range(20)]
    reference = Pool("p", groups).fingerprint
    reordered = [ParallelGroup(g.group_id, dict(reversed(g.pairs.items()))) for g in groups]
    random.Random(0).shuffle(reordered)
    assert Pool("another name", reordered).fingerprint == reference


@pytest.mark.parametrize(
    "changed",
    [
        ParallelGroup("a", {"en": Pair("q", "P")}),
        ParallelGroup("a", {"en": Pair("p", "q")}),
        ParallelGroup("a", {"de": Pair("q", "p")}),
        ParallelGroup("b", {"en": Pair("q", "p")}),
        ParallelGroup("a", {"en": Pair("q", "p"), "de": Pair("q", "p")}),
    ],
)
def test_fingerprint_sees_every_part(changed):
    original = ParallelGroup("a", {"en": Pair("q", "p")})
    assert Pool("x", [changed]).fingerprint != Pool("x", [original]).fingerprint
