"""The dual encoder: one transformer that embeds queries and passages alike."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from clirscale.config import BackboneConfig

Role = Literal["query", "passage"]

CONVENTIONS_FILE = "clirscale_backbone.json"
CONVENTIONS = ("pooling", "query_prefix", "passage_prefix", "max_query_length", "max_passage_length")


class DualEncoder(nn.Module):
    """A transformer with the conventions that make its output a text embedding: prefix, truncation, pooling, norm.

    Args:
        backbone: an encoder of transformers, without a task head.
        tokenizer: its fast tokenizer.
        config: prefixes, maximum lengths and pooling.
        checkpoint: folder that the weights came from, None for random ones. :class:`~clirscale.models.masked_lm.
            MaskedLM` looks there for a pretrained head.
    """

    def __init__(self, backbone: Any, tokenizer: Any, config: BackboneConfig, checkpoint: Path | None = None) -> None:
        super().__init__()
        self.backbone, self.tokenizer, self.config, self.checkpoint = backbone, tokenizer, config, checkpoint
        self.dim: int = backbone.config.hidden_size

    def tokenize(self, texts: Sequence[str], role: Role) -> list[list[int]]:
        """Return the token ids of each text: prefix, text, special tokens, cut to the role's maximum length.

        Args:
            texts: without prefix.
            role: which prefix and which maximum length.
        """
        prefix: str = getattr(self.config, f"{role}_prefix")
        limit: int = getattr(self.config, f"max_{role}_length")
        if not texts:
            return []
        encoded = self.tokenizer(
            [prefix + text for text in texts],
            truncation=True,
            max_length=limit,
            return_attention_mask=False,
            return_token_type_ids=False,
        )
        ids: list[list[int]] = encoded["input_ids"]
        return ids

    def collate(self, token_ids: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        """Return ``input_ids`` and ``attention_mask``, (n, longest), padded on the right.

        Args:
            token_ids: of n texts, n > 0.
        """
        lengths = torch.tensor([len(ids) for ids in token_ids])
        mask = torch.arange(int(lengths.max())) < lengths[:, None]  # (n, longest)
        input_ids = torch.full(mask.shape, int(self.tokenizer.pad_token_id))
        input_ids[mask] = torch.tensor([i for ids in token_ids for i in ids])
        return {"input_ids": input_ids, "attention_mask": mask.long()}

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Embed a batch.

        Args:
            input_ids: (n, length) token ids.
            attention_mask: (n, length), 1 for tokens and 0 for padding.

        Returns:
            (n, dim) embeddings of L2 norm 1, in float32 also under autocast (float64 if the backbone is).
        """
        output = self.backbone(input_ids=input_ids, attention_mask=attention_mask)
        pooled = pool(output, attention_mask, self.config.pooling)
        return normalize(pooled, dim=-1)

    def save(self, folder: Path) -> None:
        """Write weights and tokenizer in the layout of transformers, and the conventions; ``source=local`` reads it.

        Each file appears complete or not at all, so that a folder can be overwritten while it is in use.
        """
        conventions = {key: getattr(self.config, key) for key in CONVENTIONS}
        # Truncation is a state of the tokenizer that the last call left behind, and no part of it.
        self.tokenizer.backend_tokenizer.no_truncation()
        folder.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".saving-", dir=folder))
        try:
            self.backbone.save_pretrained(staging)
            self.tokenizer.save_pretrained(staging)
            (staging / CONVENTIONS_FILE).write_text(json.dumps(conventions, indent=2), encoding="utf-8")
            for path in staging.iterdir():
                path.replace(folder / path.name)
        finally:
            shutil.rmtree(staging)


def pool(output: Any, attention_mask: Tensor, pooling: Literal["mean", "cls", "pooler"]) -> Tensor:
    """Return one vector a text, in float32 or wider.

    Args:
        output: of the backbone; ``last_hidden_state`` is (n, length, dim), ``pooler_output`` (n, dim).
        attention_mask: (n, length), 1 for tokens and 0 for padding.
        pooling: mean of the tokens, the first token, or the pooler's output (a dense layer and tanh on the first).
    """
    if pooling == "pooler":
        return widen(output.pooler_output)
    hidden = widen(output.last_hidden_state)
    if pooling == "cls":
        return hidden[:, 0]
    weights = attention_mask.to(hidden.dtype)
    # Not as a matrix product: autocast would compute that in 16 bits.
    return (hidden * weights[:, :, None]).sum(dim=1) / weights.sum(dim=1, keepdim=True)


def widen(values: Tensor) -> Tensor:
    """Return float32 for 16-bit floats, and wider floats as they are."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
