"""InfoNCE over in-batch negatives."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def info_nce(
    queries: Tensor,
    passages: Tensor,
    temperature: float,
    false_negatives: Tensor | None = None,
    symmetric: bool = False,
) -> tuple[Tensor, Tensor]:
    """InfoNCE, query to passage (eq. 1 of Elmahdy, Lin & Ahmad 2024, with a temperature).

    Args:
        queries: (n, dim), unit length; row i belongs to passage i.
        passages: (n, dim), unit length.
        temperature: divides the cosines.
        false_negatives: (n, n) bool, True where passage j must not count as a negative of query i; the diagonal is
            ignored.
        symmetric: average with the loss from passage to query.

    Returns:
        The mean loss, and the share of queries that score their own passage highest.
    """
    scores = queries.float() @ passages.float().T / temperature  # n x n
    if false_negatives is not None:
        own = torch.eye(len(scores), dtype=torch.bool, device=scores.device)
        scores = scores.masked_fill(false_negatives & ~own, float("-inf"))
    target = torch.arange(len(scores), device=scores.device)
    loss = F.cross_entropy(scores, target)
    if symmetric:
        loss = (loss + F.cross_entropy(scores.T, target)) / 2
    return loss, (scores.argmax(dim=1) == target).float().mean()
