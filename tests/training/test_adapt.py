"""Masking, the corpus and the held-out loss of the adaptive stage."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from clirscale.training.adapt import IGNORED, mask_tokens

VOCABULARY = torch.arange(10, 60)
MASK = 4


def masked(n, length, probability, seed):
    generator = torch.Generator().manual_seed(seed)
    ids = VOCABULARY[torch.randint(len(VOCABULARY), (n, length), generator=generator)]
    special = torch.zeros_like(ids, dtype=torch.bool)
    special[:, 0] = special[:, -1] = True
    corrupted, labels = mask_tokens(ids, special, MASK, VOCABULARY, probability, generator)
    return ids, special, corrupted, labels


@settings(deadline=None, max_examples=30)
@given(n=st.integers(1, 8), length=st.integers(2, 20), probability=st.floats(0.05, 0.95), seed=st.integers(0, 2**31))
def test_only_chosen_positions_change_and_special_ones_never(n, length, probability, seed):
    ids, special, corrupted, labels = masked(n, length, probability, seed)
    chosen = labels != IGNORED
    assert not (chosen & special).any()
    assert torch.equal(corrupted[~chosen], ids[~chosen])
    assert torch.equal(labels[chosen], ids[chosen])
    assert torch.isin(corrupted[chosen], torch.cat([VOCABULARY, torch.tensor([MASK])])).all()


def test_shares_are_those_of_bert():
    ids, special, corrupted, labels = masked(400, 102, 0.15, seed=0)
    chosen = labels != IGNORED
    n = int((~special).sum())
    assert stats.binomtest(int(chosen.sum()), n, 0.15).pvalue > 1e-4
    masked_share = int((corrupted[chosen] == MASK).sum())
    assert stats.binomtest(masked_share, int(chosen.sum()), 0.8).pvalue > 1e-4
    # of the 10 % that get a random piece, one in 50 gets its own
    kept = int((corrupted[chosen] == ids[chosen]).sum())
    assert stats.binomtest(kept, int(chosen.sum()), 0.1 + 0.1 / 50).pvalue > 1e-4


def test_masks_differ_from_draw_to_draw_and_repeat_with_the_seed():
    labels = [masked(4, 20, 0.15, seed)[3] for seed in (1, 1, 2)]
    assert torch.equal(labels[0], labels[1])
    assert not torch.equal(labels[0], labels[2])


@pytest.fixture
def pool():
    from clirscale.data.groups import Pair, ParallelGroup, Pool

    return Pool(
        "test",
        (
            ParallelGroup(f"g{i}", {lang: Pair("query", f"passage {i} {lang}") for lang in ("de", "en")})
            for i in range(20)
        ),
    )


class Letters:
    """Tokenizes to character codes."""

    def tokenize(self, texts, role):
        assert role == "passage"
        return [[ord(c) for c in text] for text in texts]


def test_corpus_is_split_by_group(pool):
    from clirscale.training.adapt import build_corpus

    corpus = build_corpus(pool, Letters(), held_out=0.25, seed=0)
    texts = [{"".join(map(chr, ids)) for ids in part} for part in (corpus.train, corpus.held_out)]
    assert [len(part) for part in texts] == [30, 10]
    groups = [{text.split()[1] for text in part} for part in texts]
    assert not groups[0] & groups[1], "translations of a held-out passage are in the training text"
