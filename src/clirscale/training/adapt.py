"""The adaptive stage: masked language modelling on unlabelled text (DAPT, Gururangan et al. 2020)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from clirscale.config import AdaptConfig
from clirscale.data.groups import Pool
from clirscale.models.encoder import DualEncoder
from clirscale.models.masked_lm import IGNORED, MaskedLM
from clirscale.training.loop import Stage

HELD_OUT_LIMIT = 512  # passages; enough for a stable loss, and the same whatever the size of the subset


@dataclass(frozen=True, slots=True)
class Corpus:
    """Tokenised passages to train on and held out; the translations of a passage are all on one side."""

    train: list[list[int]]
    held_out: list[list[int]]


def build_corpus(pool: Pool, encoder: DualEncoder, held_out: float, seed: int) -> Corpus:
    """Split the passages of a pool by group and tokenise them.

    Args:
        pool: the training subset; its passages are the text, in all languages.
        encoder: gives the tokenizer and the passage prefix.
        held_out: share of the groups, at least one group on each side.
        seed: of the split.
    """
    order = np.random.default_rng([seed, 0xDA97]).permutation(len(pool))
    n_held_out = min(max(1, round(held_out * len(pool))), len(pool) - 1) if len(pool) > 1 else 0

    def tokens(positions: Sequence[int]) -> list[list[int]]:
        texts = [pool.groups[i].pairs[lang].passage for i in positions for lang in sorted(pool.groups[i].pairs)]
        return encoder.tokenize(texts, "passage")

    return Corpus(tokens(order[n_held_out:].tolist()), tokens(order[:n_held_out].tolist())[:HELD_OUT_LIMIT])


def vocabulary(texts: Sequence[Sequence[int]], encoder: DualEncoder) -> Tensor:
    """Return the ids of the pieces that occur, special ones excepted: (m,), ascending."""
    pieces = {token for text in texts for token in text}
    return torch.tensor(sorted(pieces - set(encoder.tokenizer.all_special_ids)))


def mask_tokens(
    input_ids: Tensor, special: Tensor, mask_id: int, vocabulary: Tensor, probability: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """BERT's masking (Devlin et al. 2019): of the chosen positions 80 % become the mask, 10 % a random piece.

    Args:
        input_ids: (n, length) token ids.
        special: (n, length) bool, positions never chosen (padding, separators).
        mask_id: id of the mask piece.
        vocabulary: (m,) ids from which random pieces are drawn.
        probability: share of the other positions that are chosen.
        generator: source of the randomness.

    Returns:
        The corrupted ids and the labels, both (n, length); labels are -100 where nothing is to be predicted.
    """
    draw = torch.rand(input_ids.shape, generator=generator).masked_fill(special, 1.0)
    chosen = draw < probability
    labels = input_ids.masked_fill(~chosen, IGNORED)
    fate = torch.rand(input_ids.shape, generator=generator)
    random_ids = vocabulary[torch.randint(len(vocabulary), input_ids.shape, generator=generator)]
    corrupted = input_ids.masked_fill(chosen & (fate < 0.8), mask_id)
    corrupted = torch.where(chosen & (fate >= 0.8) & (fate < 0.9), random_ids, corrupted)
    return corrupted, labels


class MaskedBatches:
    """Batches of masked passages; a passage is masked anew each time it comes up.

    Args:
        texts: token ids of the passages.
        encoder: gives the tokenizer.
        config: batch size and masking probability.
        steps: number of batches; the passages are gone through in a new order each time round.
        seed: of order and masks.
    """

    def __init__(
        self, texts: list[list[int]], encoder: DualEncoder, config: AdaptConfig, steps: int, seed: int
    ) -> None:
        self.texts, self.encoder, self.config, self.steps, self.seed = texts, encoder, config, steps, seed
        self.tokens = 0  # trained on so far, without padding
        self._special_ids = torch.tensor(sorted(set(encoder.tokenizer.all_special_ids)))
        self.vocabulary = vocabulary(texts, encoder)

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        rng = np.random.default_rng([self.seed, 0x3A5C])
        generator = torch.Generator().manual_seed(self.seed)
        queue: list[int] = []
        for _ in range(self.steps):
            while len(queue) < self.config.batch_size:
                queue.extend(rng.permutation(len(self.texts)).tolist())
            chosen, queue = queue[: self.config.batch_size], queue[self.config.batch_size :]
            batch = self.batch([self.texts[i] for i in chosen], generator)
            self.tokens += int(batch["attention_mask"].sum())
            yield batch

    def batch(self, texts: Sequence[list[int]], generator: torch.Generator) -> dict[str, Tensor]:
        """Return input_ids, attention_mask and labels, each (n, length)."""
        batch = self.encoder.collate(texts)
        special = torch.isin(batch["input_ids"], self._special_ids)
        mask_id = int(self.encoder.tokenizer.mask_token_id)
        ids, labels = mask_tokens(
            batch["input_ids"], special, mask_id, self.vocabulary, self.config.mask_probability, generator
        )
        return {"input_ids": ids, "attention_mask": batch["attention_mask"], "labels": labels}


class AdaptStage(Stage):
    """Trains the backbone of ``model`` in place to predict masked pieces."""

    def __init__(self, model: MaskedLM, config: AdaptConfig, steps: int) -> None:
        super().__init__("adapt", steps=steps, lr=config.lr, weight_decay=config.weight_decay, warmup=config.warmup)
        self.model = model

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Return the loss of one batch."""
        loss, masked = self.model(**batch)
        return self.record(loss, masked=float(masked))


@torch.inference_mode()
def held_out_loss(model: MaskedLM, corpus: Corpus, batches: MaskedBatches, dtype: torch.dtype | None) -> float:
    """Return the mean loss in nats per masked piece on the held-out passages, always masked in the same way.

    Args:
        model: evaluated without dropout, on the device where it is.
        corpus: gives the passages.
        batches: masks them.
        dtype: of autocast; None computes in the model's own.
    """
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(0)
    total, count, size = 0.0, 0, 64
    for start in range(0, len(corpus.held_out), size):
        batch = batches.batch(corpus.held_out[start : start + size], generator)
        with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            loss, masked = model(**{key: value.to(device) for key, value in batch.items()})
        total, count = total + float(loss) * int(masked), count + int(masked)
    model.train(was_training)
    return total / count if count else float("nan")
