"""Texts to vectors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import torch
from rich.progress import track

from clirscale.errors import ConfigError, nearest

if TYPE_CHECKING:
    from clirscale.models.encoder import DualEncoder

_AUTOCAST: dict[str, torch.dtype | None] = {
    "32-true": None,
    "bf16-mixed": torch.bfloat16,
    "16-mixed": torch.float16,
}


def embed(
    encoder: DualEncoder,
    texts: Sequence[str],
    role: Literal["query", "passage"],
    *,
    batch_tokens: int,
    precision: str,
    device: torch.device | str,
    progress: bool,
) -> npt.NDArray[np.float32]:
    """Embed texts, each distinct one once.

    Batches are formed from the distinct texts in order of length, so they hold little padding and do not depend on
    the order of ``texts``: the same texts give the same vectors.

    Args:
        encoder: moved to ``device``; evaluated without dropout.
        texts: any number.
        role: which prefix and maximum length apply.
        batch_tokens: the most tokens of a batch, padding included; a longer text makes a batch of its own.
        precision: ``32-true``, ``bf16-mixed`` or ``16-mixed``.
        device: where to compute.
        progress: show a progress bar.

    Returns:
        Vectors of shape (len(texts), encoder.dim), in the order of ``texts``.

    Raises:
        ConfigError: the precision has another name.
    """
    if precision not in _AUTOCAST:
        raise ConfigError("trainer.precision", f"is {precision!r}; {nearest(precision, _AUTOCAST)}")
    dtype = _AUTOCAST[precision]
    device = torch.device(device)
    distinct = list(dict.fromkeys(texts))
    tokens = encoder.tokenize(distinct, role)
    order = sorted(range(len(distinct)), key=lambda i: (-len(tokens[i]), distinct[i]))
    batches = list(_batches(order, [len(t) for t in tokens], batch_tokens))

    vectors = np.empty((len(distinct), encoder.dim), dtype=np.float32)
    was_training = encoder.training
    encoder.to(device).eval()
    try:
        with torch.inference_mode(), torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            for batch in track(batches, f"embedding {role} texts", disable=not progress, transient=True):
                inputs = encoder.collate([tokens[i] for i in batch])
                output = encoder(**{name: tensor.to(device) for name, tensor in inputs.items()})
                vectors[batch] = output.float().cpu().numpy()
    finally:
        encoder.train(was_training)
    row = {text: i for i, text in enumerate(distinct)}
    return vectors[[row[text] for text in texts]]


def _batches(order: Sequence[int], lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Cut ``order``, longest first, into batches of at most ``batch_tokens`` tokens with padding."""
    begin = 0
    while begin < len(order):
        size = max(1, batch_tokens // max(1, lengths[order[begin]]))
        yield list(order[begin : begin + size])
        begin += size
