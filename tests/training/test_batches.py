"""The batch policies keep their promises on any pool."""

from collections import Counter

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from clirscale.data.groups import Pair, ParallelGroup, Pool
from clirscale.errors import ConfigError, TrainingError
from clirscale.training.batches import BatchSchedule

LANGUAGES = ["ar", "de", "en", "th"]


def make_pool(languages_of_groups):
    return Pool(
        "test",
        (
            ParallelGroup(f"g{i}", {lang: Pair(f"q{i} {lang}", f"p{i} {lang}") for lang in languages})
            for i, languages in enumerate(languages_of_groups)
        ),
    )


def full_pool(n, languages=LANGUAGES):
    return make_pool([languages] * n)


pools = st.lists(st.sets(st.sampled_from(LANGUAGES), min_size=1), min_size=4, max_size=40).map(make_pool)
schedules = {
    "alpha": st.sampled_from([0.0, 0.3, 0.5, 1.0]),
    "batch_size": st.integers(2, 8),
    "steps": st.integers(1, 12),
    "seed": st.integers(0, 2**32 - 1),
}


def schedule_or_discard(pool, **arguments):
    try:
        return BatchSchedule(pool, small_languages="skip", **arguments)
    except TrainingError:
        assume(False)


@settings(deadline=None)
@given(pool=pools, **schedules)
def test_every_batch_keeps_the_policy(pool, alpha, batch_size, steps, seed):
    schedule = schedule_or_discard(pool, alpha=alpha, batch_size=batch_size, steps=steps, seed=seed)
    batches = list(schedule)
    assert len(batches) == len(schedule) == steps
    for batch in batches:
        assert len(batch.examples) == batch_size
        assert len({e.group for e in batch.examples}) == batch_size, "two members of one parallel group"
        for e in batch.examples:
            assert {e.query_lang, e.passage_lang} <= pool.groups[e.group].pairs.keys()
        if batch.kind == "mono":
            assert len({e.query_lang for e in batch.examples} | {e.passage_lang for e in batch.examples}) == 1
            assert alpha > 0
        else:
            assert all(e.query_lang != e.passage_lang for e in batch.examples)
            assert alpha < 1


@settings(deadline=None)
@given(pool=pools, **schedules)
def test_same_seed_repeats_exactly(pool, alpha, batch_size, steps, seed):
    arguments = {"alpha": alpha, "batch_size": batch_size, "steps": steps, "seed": seed}
    first = schedule_or_discard(pool, **arguments)
    again = schedule_or_discard(pool, **arguments)
    assert list(first) == list(first) == list(again)


def test_other_seed_gives_other_batches():
    pool = full_pool(64)
    schedules = [list(BatchSchedule(pool, alpha=0.5, batch_size=8, steps=8, seed=seed)) for seed in (0, 1)]
    assert schedules[0] != schedules[1]


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_an_epoch_sees_each_group_once_and_epochs_differ(alpha):
    batches = list(BatchSchedule(full_pool(40), alpha=alpha, batch_size=8, steps=10, seed=3))
    epochs = [[e.group for b in part for e in b.examples] for part in (batches[:5], batches[5:])]
    assert [sorted(epoch) for epoch in epochs] == [list(range(40))] * 2
    assert epochs[0] != epochs[1]


def test_mono_languages_are_uniform_whatever_their_size():
    # de has ten times the pairs of the others
    pool = make_pool([["de"]] * 300 + [["de", "en", "th"]] * 30)
    batches = list(BatchSchedule(pool, alpha=1.0, batch_size=10, steps=3000, seed=0))
    counts = Counter(b.examples[0].query_lang for b in batches)
    assert set(counts) == {"de", "en", "th"}
    assert stats.chisquare(list(counts.values())).pvalue > 1e-4


def test_cross_query_languages_are_uniform():
    batches = list(BatchSchedule(full_pool(200), alpha=0.0, batch_size=16, steps=500, seed=0))
    queries = Counter(e.query_lang for b in batches for e in b.examples)
    assert stats.chisquare(list(queries.values())).pvalue > 1e-4
    ordered_pairs = Counter((e.query_lang, e.passage_lang) for b in batches for e in b.examples)
    assert len(ordered_pairs) == 12
    assert stats.chisquare(list(ordered_pairs.values())).pvalue > 1e-4


@pytest.mark.parametrize("alpha", [0.25, 0.5, 0.75])
def test_alpha_is_the_share_of_mono_batches(alpha):
    batches = list(BatchSchedule(full_pool(40), alpha=alpha, batch_size=4, steps=4000, seed=1))
    mono = sum(b.kind == "mono" for b in batches)
    assert stats.binomtest(mono, 4000, alpha).pvalue > 1e-4


def test_small_language_is_refused_by_name():
    pool = make_pool([["de", "en"]] * 10 + [["th"]] * 3)
    with pytest.raises(ConfigError, match=r"contrast\.batch_size.*th has 3.*small_languages=skip"):
        BatchSchedule(pool, alpha=0.5, batch_size=4, steps=1, seed=0)


def test_small_language_is_reported_when_skipped_and_stays_in_cross_batches():
    pool = make_pool([["de", "en"]] * 10 + [["th", "en"]] * 3)
    schedule = BatchSchedule(pool, alpha=0.5, batch_size=4, steps=400, seed=0, small_languages="skip")
    assert schedule.skipped_languages == {"th": 3}
    langs = {kind: {e.query_lang for b in schedule if b.kind == kind for e in b.examples} for kind in ("mono", "cross")}
    assert langs == {"mono": {"de", "en"}, "cross": {"de", "en", "th"}}


def test_cross_policy_does_not_mind_small_languages():
    pool = make_pool([["de", "en"]] * 10 + [["th", "en"]] * 3)
    assert BatchSchedule(pool, alpha=0.0, batch_size=4, steps=1, seed=0).skipped_languages == {}


def test_no_language_fills_a_batch():
    with pytest.raises(TrainingError, match=r"no language of test can fill a batch of 16 .*the largest has 5"):
        BatchSchedule(full_pool(5), alpha=1.0, batch_size=16, steps=1, seed=0, small_languages="skip")


def test_too_few_translated_groups_for_a_cross_batch():
    pool = make_pool([["de"]] * 20 + [["de", "en"]] * 3)
    with pytest.raises(TrainingError, match=r"3 group\(s\) of test have two languages"):
        BatchSchedule(pool, alpha=0.0, batch_size=4, steps=1, seed=0)
