"""The contrastive stage: the dual encoder learns to score a query's own passage above those of the batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from clirscale.config import ContrastConfig
from clirscale.data.groups import Pool
from clirscale.models.encoder import DualEncoder
from clirscale.training.batches import BatchSchedule
from clirscale.training.loop import Stage
from clirscale.training.loss import info_nce


@dataclass(frozen=True, slots=True)
class ContrastBatch:
    """One step's tensors: (n, length) token ids and masks, and (n, n) which passages are no true negatives."""

    kind: str
    queries: dict[str, Tensor]
    passages: dict[str, Tensor]
    false_negatives: Tensor


class ContrastBatches:
    """Turns a schedule into tensors; each text that the schedule uses is tokenised once."""

    def __init__(self, schedule: BatchSchedule, pool: Pool, encoder: DualEncoder) -> None:
        self.schedule, self.encoder = schedule, encoder
        queries, passages = set(), set()
        for batch in schedule:
            for example in batch.examples:
                queries.add((example.group, example.query_lang))
                passages.add((example.group, example.passage_lang))
        query_keys, passage_keys = sorted(queries), sorted(passages)
        query_texts = [pool.groups[g].pairs[lang].query for g, lang in query_keys]
        passage_texts = [pool.groups[g].pairs[lang].passage for g, lang in passage_keys]
        self._query_ids = dict(zip(query_keys, encoder.tokenize(query_texts, "query"), strict=True))
        self._passage_ids = dict(zip(passage_keys, encoder.tokenize(passage_texts, "passage"), strict=True))
        # Two groups can share a passage ("no description"): equal texts get equal numbers.
        numbers: dict[str, int] = {}
        self._text_number = {
            key: numbers.setdefault(text, len(numbers)) for key, text in zip(passage_keys, passage_texts, strict=True)
        }

    def __len__(self) -> int:
        return len(self.schedule)

    def __iter__(self) -> Iterator[ContrastBatch]:
        for batch in self.schedule:
            query_keys = [(e.group, e.query_lang) for e in batch.examples]
            passage_keys = [(e.group, e.passage_lang) for e in batch.examples]
            groups = torch.tensor([e.group for e in batch.examples])
            texts = torch.tensor([self._text_number[key] for key in passage_keys])
            yield ContrastBatch(
                batch.kind,
                self.encoder.collate([self._query_ids[key] for key in query_keys]),
                self.encoder.collate([self._passage_ids[key] for key in passage_keys]),
                (groups[:, None] == groups) | (texts[:, None] == texts),
            )


class ContrastStage(Stage):
    """Trains ``encoder`` in place with InfoNCE."""

    def __init__(self, encoder: DualEncoder, config: ContrastConfig, steps: int) -> None:
        super().__init__("contrast", steps=steps, lr=config.lr, weight_decay=config.weight_decay, warmup=config.warmup)
        self.encoder, self.config = encoder, config

    def transfer_batch_to_device(self, batch: ContrastBatch, device: torch.device, dataloader_idx: int) -> Any:
        """Move the tensors of a batch."""
        return ContrastBatch(
            batch.kind,
            {key: value.to(device) for key, value in batch.queries.items()},
            {key: value.to(device) for key, value in batch.passages.items()},
            batch.false_negatives.to(device),
        )

    def training_step(self, batch: ContrastBatch, batch_idx: int) -> Tensor:
        """Return the loss of one batch."""
        loss, accuracy = info_nce(
            self.encoder(**batch.queries),
            self.encoder(**batch.passages),
            self.config.temperature,
            batch.false_negatives,
            self.config.symmetric,
        )
        return self.record(loss, accuracy=accuracy, mono=float(batch.kind == "mono"))
