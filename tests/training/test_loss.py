"""InfoNCE against a computation with scipy, row by row."""

import numpy as np
import pytest
import torch
from scipy.special import logsumexp

from clirscale.training.loss import info_nce


def unit(rng, n, dim):
    vectors = torch.tensor(rng.normal(size=(n, dim)), dtype=torch.float32)
    return torch.nn.functional.normalize(vectors, dim=1)


def expected(scores, excluded):
    """Mean over queries of -log softmax at the own passage, over the passages that count."""
    losses = []
    for i, row in enumerate(scores):
        counted = [j for j in range(len(row)) if j == i or not excluded[i][j]]
        losses.append(logsumexp([row[j] for j in counted]) - row[i])
    return np.mean(losses)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 0.05, 0.01])
def test_equals_row_by_row_computation(temperature, symmetric):
    rng = np.random.default_rng(0)
    queries, passages = unit(rng, 9, 16), unit(rng, 9, 16)
    excluded = rng.random((9, 9)) < 0.3
    excluded |= excluded.T
    np.fill_diagonal(excluded, True)  # a pair is never its own false negative
    scores = (queries.double() @ passages.double().T).numpy() / temperature
    wanted = expected(scores, excluded)
    if symmetric:
        wanted = (wanted + expected(scores.T, excluded.T)) / 2
    loss, _ = info_nce(queries, passages, temperature, torch.tensor(excluded), symmetric)
    assert float(loss) == pytest.approx(wanted, rel=1e-5)


def test_indistinguishable_passages_give_chance():
    same = torch.tensor([[1.0, 0.0]]).expand(100, 2)
    loss, _ = info_nce(same, same, 0.05)
    assert float(loss) == pytest.approx(np.log(100), rel=1e-6)


def test_accuracy_counts_queries_that_rank_their_own_passage_first():
    passages = torch.eye(4)
    queries = passages[[0, 1, 3, 2]]
    _, accuracy = info_nce(queries, passages, 0.05)
    assert float(accuracy) == 0.5


def test_excluded_negatives_get_no_gradient():
    queries = torch.nn.functional.normalize(torch.randn(3, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    passages = torch.nn.functional.normalize(torch.randn(3, 8, generator=torch.Generator().manual_seed(1)), dim=1)
    passages.requires_grad_()
    excluded = torch.zeros(3, 3, dtype=torch.bool)
    excluded[:, 2] = True
    loss, _ = info_nce(queries, passages, 0.05, excluded)
    (gradient,) = torch.autograd.grad(loss, passages)
    # passage 2 counts only as the positive of query 2, where all negatives remain
    alone = -torch.log_softmax(queries[2] @ passages.T / 0.05, dim=0)[2] / 3
    (wanted,) = torch.autograd.grad(alone, passages)
    assert torch.allclose(gradient[2], wanted[2], atol=1e-6)
